"""The late policy of course.toml: what it takes, that nbgrader's own preprocessor takes the same, and wrong values."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbformat.v4 import new_notebook
from traitlets.config import Config

from grading.course import CourseError, Late, load
from grading.nbgrader import configure, gradebook

from .conftest import ROOT

pytest.importorskip("nbgrader", reason="the late policy is a plugin of nbgrader, which is not installed")

from nbgrader.preprocessors import AssignLatePenalties

from grading.nbgrader._late import DAY, HOUR, LatePolicy

GOOD = re.sub(r"(?ms)^\[nbgrader\b.*?(?=^\[|\Z)", "", (ROOT / "course.toml").read_text(encoding="utf-8"))
# nbgrader's own queries
pytestmark = pytest.mark.filterwarnings("ignore:Object of type <Submitted")
DUE = datetime(2027, 3, 1, 23, 59, tzinfo=UTC)

policies = st.builds(
    LatePolicy,
    grace_hours=st.floats(0, 48),
    percent_per_day=st.floats(0, 100),
    percent_at_most=st.floats(0, 100),
    zero_after_days=st.none() | st.floats(2, 30),
)
lateness = st.floats(0, 60 * DAY)
points = st.floats(0, 100)


def course_with(root: Path, table: str) -> Path:
    """A folder with the course, and a table more in its course.toml."""
    root.mkdir(exist_ok=True)
    (root / "course.toml").write_text(f"{GOOD}\n{table}\n", encoding="utf-8")
    for name in ("tests", "solutions"):
        (root / name).symlink_to(ROOT / name)
    return root


@given(policies, points, lateness, lateness)
def test_a_later_submission_never_loses_less_and_never_more_than_it_has(
    policy: LatePolicy, score: float, some: float, more: float
) -> None:
    first, second = (policy.late_submission_penalty("ada", score, seconds) for seconds in sorted((some, more)))
    assert 0 <= first <= second <= score


@given(policies, points, st.floats(0, 1))
def test_nothing_is_lost_within_the_grace(policy: LatePolicy, score: float, part: float) -> None:
    assert policy.late_submission_penalty("ada", score, part * policy.grace_hours * HOUR) == 0


@pytest.mark.parametrize(
    ("seconds", "percent"),
    [
        (0, 0),
        (2 * HOUR, 0),
        (2 * HOUR + 1, 10),
        (DAY, 10),
        (DAY + 1, 20),
        (5 * DAY, 50),
        (6 * DAY, 50),
        (7 * DAY, 50),
        (7 * DAY + 1, 100),
    ],
)
def test_days_count_from_the_due_date(seconds: float, percent: float) -> None:
    policy = LatePolicy(grace_hours=2, percent_per_day=10, percent_at_most=50, zero_after_days=7)
    assert policy.late_submission_penalty("ada", 8.0, seconds) == pytest.approx(8.0 * percent / 100)


def test_without_a_policy_nothing_is_lost() -> None:
    assert LatePolicy().late_submission_penalty("ada", 8.0, 30 * DAY) == 0


def test_nbgrader_stores_what_the_policy_in_course_toml_takes(tmp_path: Path) -> None:
    table = "[nbgrader.late]\ngrace_hours = 1\npercent_per_day = 25\npercent_at_most = 60\nzero_after_days = 9"
    root = course_with(tmp_path / "course", table)
    late = {"on_time": -60, "in_grace": HOUR, "a_day": DAY, "a_week": 7 * DAY, "too_late": 10 * DAY, "extended": DAY}
    config = Config()
    configure(config, str(root / "nbgrader_config.py"))
    with gradebook(root) as book:
        book.add_assignment("u1_statistics", duedate=DUE.replace(tzinfo=None))
        book.add_notebook("u1_statistics", "u1_statistics")
        book.add_grade_cell("check-mean", "u1_statistics", "u1_statistics", max_score=8, cell_type="code")
        for student, seconds in late.items():
            book.add_student(student)
            when = (DUE + timedelta(seconds=seconds)).replace(tzinfo=None)
            book.add_submission("u1_statistics", student, timestamp=when)
            grade = book.find_grade("check-mean", "u1_statistics", "u1_statistics", student)
            grade.auto_score, grade.needs_manual_grade = 6.0, False
        book.grant_extension("u1_statistics", "extended", days=1)
        book.db.commit()
    for _ in range(2):  # autograding again takes nothing more
        for student in late:
            who = {"notebook": "u1_statistics", "assignment": "u1_statistics", "student": student}
            resources = {"nbgrader": {**who, "db_url": config.CourseDirectory.db_url}}
            AssignLatePenalties(config=config).preprocess(new_notebook(), resources)
    with gradebook(root) as book:
        taken = {student: book.find_submission("u1_statistics", student) for student in late}
        penalties = {student: submission.late_submission_penalty for student, submission in taken.items()}
    wanted = {"on_time": 0, "in_grace": 0, "a_day": 1.5, "a_week": 3.6, "too_late": 6, "extended": 0}
    assert penalties == pytest.approx(wanted)


@pytest.mark.parametrize(
    "table",
    [
        "[nbgrader.late]\npercent_per_day = 10\nzero_after_days = 5",
        "[nbgrader]\nlate = { percent_per_day = 10, zero_after_days = 5 }",
    ],
)
def test_the_policy_is_a_table_in_either_form(tmp_path: Path, table: str) -> None:
    late = load(course_with(tmp_path, table)).nbgrader.late
    assert late == Late(percent_per_day=10, zero_after_days=5)


@pytest.mark.parametrize("form", ["[nbgrader.late]\n{}", "[nbgrader]\nlate = {{ {} }}"])
@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ("percent_per_day = 101", "'percent_per_day' takes a number from 0 to 100, not 101"),
        ("percent_per_day = -1", "'percent_per_day' takes a number from 0 to 100, not -1"),
        ("percent_at_most = nan", "'percent_at_most' takes a number from 0 to 100, not nan"),
        ("grace_hours = inf", "'grace_hours' takes a number of 0 or more, not inf"),
        ("grace_hours = true", "'grace_hours' takes a number, not True"),
        ('percent_per_day = "ten"', "'percent_per_day' takes a number, not 'ten'"),
        ("percent_per_hour = 1", "unknown key 'percent_per_hour' (did you mean 'percent_per_day'?)"),
    ],
)
def test_a_wrong_value_gives_one_sentence_with_its_line(tmp_path: Path, form: str, entry: str, sentence: str) -> None:
    course_with(tmp_path, form.format(entry))
    with pytest.raises(CourseError) as error:
        load(tmp_path)
    line = 1 + next(n for n, text in enumerate((tmp_path / "course.toml").read_text().splitlines()) if entry in text)
    assert f"line {line}: " in str(error.value)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_may_be_lost_before_the_grace_is_over(tmp_path: Path) -> None:
    course_with(tmp_path, "[nbgrader.late]\ngrace_hours = 48\nzero_after_days = 1")
    with pytest.raises(CourseError, match="'zero_after_days' is over before 'grace_hours' is"):
        load(tmp_path)
