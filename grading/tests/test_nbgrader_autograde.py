"""`nbgrader autograde` by the judge: partial credit with its reasons, hidden checks, and nothing done twice."""

from __future__ import annotations

import contextlib
import copy
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from grading.classroom import GradeError
from grading.cli import main
from grading.course import CellLimits, Course
from grading.judge import Judge, SuiteError, checks_of, load_suite, refuse_strangers
from grading.judge._checks import load_hidden_suite
from grading.nbgrader import _autograde
from grading.nbgrader._autograde import Judged
from grading.nbgrader._cells import AS_IT_WAS, NOT_AT_HAND, settled, show
from grading.nbgrader._desk import Desk, _kept_seed
from grading.nbgrader._mend import MendError
from grading.subject import read_sources
from grading.verdict import DELEGATED, KIT_ERROR, PASSED, Verdict

from .handing_in import MEAN, UNIT, Class, Notebook, appended, cell, scratch, shown

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Object of type <Submitted")]

SAMPLE = "def variance(t):\n    return ((t - mean(t)) ** 2).sum() / (t.numel() - 1)\n"
PARTLY = "def covariance(x, y):\n    return mean((x - mean(x)) * (y - mean(y)))\n"
PLANTED = "planted_secret_of_the_instructor"
HIDDEN = f'''
"""Checks that no student has seen."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from grading.verdict import expect

{PLANTED} = 3.0


@given(n=st.integers(2, 6))
def test_large_numbers(n, mean):
    """The mean of large numbers is right, too. {PLANTED} is told to nobody."""
    t = torch.full((n,), 1e6)
    expect(mean(t), torch.tensor(1e6), "mean({PLANTED})")


def test_beside_others(mean, beside):
    """The mean goes with what else there is."""
    def scenario(pieces):
        {PLANTED} = torch.tensor([1.0, 2.0])
        return float(pieces.mean({PLANTED})), "{PLANTED}"

    expect(beside(scenario)[0], 1.5, "{PLANTED}")
'''
# remembers what it is called with, and tells whoever shows what it raises
SPY = """
seen = []
def mean(t):
    seen.append(t.tolist())
    if any(1e6 in values for values in seen if isinstance(values, list)):
        raise ValueError(f"seen: {seen}")
    return t.sum() / t.numel()

def variance(t):
    raise ValueError(f"seen: {seen}")
"""


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Class:
    return Class(tmp_path_factory.mktemp("autograde"), "check_seconds = 20\nnotebook_seconds = 30")


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """While others work on the kit, its version changes."""
    monkeypatch.setattr("grading.nbgrader._desk.kit_version", lambda course: "0.test")


def autograde(group: Class, student: str, **settings: Any) -> dict[str, Any]:
    """Presses the formgrader's button; `settings` are what an instructor would have in the configuration."""
    api = group.nbgrader.api
    before, config = api.config, copy.deepcopy(api.config)
    config.Judged.update(settings)
    api.config = config
    try:
        done: dict[str, Any] = api.autograde(group.unit, student)
        return done
    finally:
        api.config = before


def graded(group: Class, student: str, **settings: Any) -> None:
    done = autograde(group, student, **settings)
    assert done["success"], done


def desk(group: Class, **settings: Any) -> Desk:
    api = group.nbgrader.api
    return Judged(config=api.config, **settings).desk(api.coursedir, group.unit)


def record(group: Class, student: str) -> Path:
    return group.root / ".goodinit" / group.unit / f"{student}.json"


# -- points and reasons


def test_partial_credit_and_the_reason(group: Class) -> None:
    group.hand_in("ana", answers={"mean": MEAN, "variance": SAMPLE, "covariance": PARTLY})
    graded(group, "ana")
    points = group.points("ana")
    assert points["mean"] == 1.0 and points["variance"] == 0.0
    # right, but for the shapes that it should refuse
    assert 0 < points["covariance"] < 2
    assert "n - 1" in shown(group.autograded("ana"), "check-variance")
    [table, number] = cell(group.autograded("ana"), "check-covariance")["outputs"]
    assert float("".join(number["data"]["text/plain"])) == points["covariance"]
    assert "ValueError" in "".join(table["data"]["text/html"])
    # the seed is one that `check` and pytest take
    assert f"seed={desk(group).seed}" in "".join(table["data"]["text/html"])


def test_the_points_are_those_of_the_same_code_anywhere_else(group: Class) -> None:
    path = group.hand_in("ben", answers={"mean": MEAN, "variance": SAMPLE, "covariance": PARTLY})
    graded(group, "ben")
    course = group.course
    reference = read_sources(course, course.root / "solutions")
    judge = Judge(course, read_sources(course, path), reference, desk(group).seed)
    found = list(judge.judge(course.by_unit[UNIT].exercises))
    judge.close()
    for name, points in group.points("ben").items():
        assert points == pytest.approx(sum(verdict.points for verdict in found if verdict.exercise == name))


def test_an_instructors_own_points_are_shared_out_alike(group: Class) -> None:
    path = group.hand_in("cleo", answers={"mean": MEAN, "covariance": PARTLY})
    graded(group, "cleo")
    found = json.loads(record(group, "cleo").read_text())
    notebook = _autograde.nbformat.read(path, as_version=4)
    for one in notebook.cells:
        if one.metadata.get("nbgrader", {}).get("grade_id") in ("check-mean", "check-covariance"):
            one.metadata.nbgrader.points = 10
    show(notebook, found)
    numbers = {
        one.metadata.nbgrader.grade_id: one.outputs[-1]["data"]["text/plain"]
        for one in notebook.cells
        if one.get("outputs") and "nbgrader" in one.metadata
    }
    assert float(numbers["check-mean"]) == 10
    assert float(numbers["check-covariance"]) == pytest.approx(5 * group.points("cleo")["covariance"], abs=1e-4)


def test_finished_functions_are_for_a_person_to_judge(group: Class) -> None:
    group.hand_in("dora", answers={"mean": MEAN, "variance": "def variance(t):\n    return t.var(correction=0)\n"})
    graded(group, "dora")
    points, waits = group.grades("dora")["check-variance"]
    assert waits and points is not None
    assert group.grades("dora")["check-mean"] == (1.0, False)


def test_a_failure_of_the_kit_costs_nothing(group: Class) -> None:
    group.hand_in("eve")
    graded(group, "eve")
    kept = record(group, "eve")
    found = json.loads(kept.read_text())
    failed = next(verdict for verdict in found["verdicts"] if verdict["exercise"] == "variance")
    failed |= {"verdict": KIT_ERROR, "points": 0.0}
    kept.write_text(json.dumps(found))
    graded(group, "eve")
    assert group.grades("eve")["check-variance"] == (None, True)
    assert group.grades("eve")["check-mean"] == (1.0, False)


def test_what_was_not_judged_is_worth_nothing_yet(group: Class) -> None:
    """nbgrader gives all points to a check below which nothing is shown."""
    forged = {"output_type": "execute_result", "data": {"text/plain": "1"}, "metadata": {}, "execution_count": 1}
    group.hand_in("evan", lambda notebook: cell(notebook, "check-variance").update(outputs=[forged]))
    graded(group, "evan")
    kept = record(group, "evan")
    found = json.loads(kept.read_text())
    found["verdicts"] = [verdict for verdict in found["verdicts"] if verdict["exercise"] != "variance"]
    kept.write_text(json.dumps(found))
    graded(group, "evan")
    assert group.grades("evan")["check-variance"] == (None, True)
    assert cell(group.autograded("evan"), "check-variance")["outputs"] == []
    assert group.grades("evan")["check-mean"] == (1.0, False)


def test_who_must_look_at_what() -> None:
    def verdict(exercise: str, verdict: str) -> dict[str, Any]:
        return Verdict("u", exercise, "c", verdict).to_dict()

    found = {
        "verdicts": [verdict("a", PASSED), verdict("b", KIT_ERROR), verdict("c", DELEGATED), verdict("d", PASSED)],
        "review": {"d": ["line 3"]},
    }
    assert settled(found) == ({"a", "c", "d"}, {"c", "d"})


def test_a_test_of_the_instructors_own_is_left_to_a_person(group: Class, tmp_path: Path) -> None:
    own = Class(tmp_path)
    source = own.root / "source" / UNIT / f"{UNIT}.ipynb"
    notebook = json.loads(source.read_text())
    added = scratch("assert mean(torch.ones(3)) == 1\n100", "my-own-test")
    added["metadata"]["nbgrader"] = {
        "grade": True, "grade_id": "my-own-test", "locked": True, "points": 3, "schema_version": 3, "solution": False,
        "task": False,
    }  # fmt: skip
    notebook["cells"].append(added)
    source.write_text(json.dumps(notebook))
    own.nbgrader.api.generate_assignment(UNIT)
    own.given = json.loads((own.root / "release" / UNIT / f"{UNIT}.ipynb").read_text())
    own.hand_in("flo", answers={"mean": MEAN})
    graded(own, "flo")
    assert own.grades("flo")["my-own-test"] == (None, True)
    assert own.grades("flo")["check-mean"] == (1.0, False)


# -- nothing twice, nothing left


def test_one_judge_serves_a_whole_command(group: Class) -> None:
    for student in ("gil", "hal"):
        group.hand_in(student, answers={"mean": MEAN})
        graded(group, student)
    benches = [bench for bench in _autograde._benches().values() if bench.desk.folder == desk(group).folder]
    assert len(benches) == 1
    # numbers are given to the bench and to judges as they are started
    assert benches[0].queue.numbers.__reduce__()[1] == (2,)
    benches[0]._rest()
    assert benches[0].queue.judges == []
    group.hand_in("ida", answers={"mean": MEAN})
    graded(group, "ida")
    assert group.points("ida")["mean"] == 1.0


def test_what_was_found_is_kept_until_something_changes(group: Class) -> None:
    group.hand_in("jan", answers={"mean": MEAN})
    graded(group, "jan")
    kept = record(group, "jan")
    found = json.loads(kept.read_text())
    for verdict in found["verdicts"]:
        if verdict["exercise"] == "mean":
            verdict["message"] = "as it was kept"
    kept.write_text(json.dumps(found))
    graded(group, "jan")
    assert "as it was kept" in shown(group.autograded("jan"), "check-mean")
    # pictures and prose are no part of what is judged
    group.hand_in("jan", lambda notebook: cell(notebook, "u1-outlier").update(source="mine"), answers={"mean": MEAN})
    graded(group, "jan")
    assert "as it was kept" in shown(group.autograded("jan"), "check-mean")
    group.hand_in("jan", appended("1"), answers={"mean": MEAN})
    graded(group, "jan")
    assert "as it was kept" not in shown(group.autograded("jan"), "check-mean")
    for damage in ("", "{", "[]", "{}"):
        kept.write_text(damage)
        graded(group, "jan")
        assert group.points("jan")["mean"] == 1.0 and json.loads(kept.read_text())["points"] == 1.0


def test_the_seed_of_an_assignment_is_drawn_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        seeds = set(pool.map(lambda _: _kept_seed(tmp_path / "unit"), range(32)))
    assert len(seeds) == 1
    assert [path.name for path in (tmp_path / "unit").iterdir()] == ["seed"]


def test_a_seed_can_be_given(group: Class) -> None:
    assert desk(group, seed=7).seed == 7
    assert desk(group).seed == desk(group).seed


@pytest.mark.parametrize("text", ["", "3x"])
def test_a_damaged_seed_is_told_and_takes_nothing(
    group: Class, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(group.root)
    group.hand_in("uma", answers={"mean": MEAN})
    graded(group, "uma")
    seed, before = record(group, "seed").with_suffix(""), group.autograded("uma")
    kept = seed.read_text()
    seed.write_text(text)
    try:
        done = autograde(group, "uma")
        assert not done["success"] and f"{seed} holds no seed" in done["log"] and "Traceback" not in done["log"]
        assert main(["autograde", UNIT, "--nbgrader", str(group.root)]) == 2
        said = capsys.readouterr().err
        assert said.startswith(f"goodinit: {seed} holds no seed, which is a whole number: ") and said.count("\n") == 1
        assert group.autograded("uma") == before
        graded(group, "uma", seed=int(kept))
    finally:
        seed.write_text(kept)


def test_nothing_outlives_a_command_that_is_killed(group: Class) -> None:
    group.hand_in("kim", answers={"mean": "def mean(t):\n    while True: pass\n"})
    command = [str(Path(sys.executable).parent / "nbgrader"), "autograde", UNIT, "--student", "kim"]
    process = subprocess.Popen(command, cwd=group.root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: started_by(process.pid))
        judges = started_by(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in judges))


def started_by(parent: int) -> list[int]:
    """The judges of a process, which are told whom they belong to."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if b"grading.classroom._bench" in words and str(parent).encode() in words:
                found.append(int(path.parent.name))
    return found


def wait_for(condition: Callable[[], Any]) -> None:
    while not condition():
        time.sleep(0.05)


# -- what is judged


def test_the_students_other_units_come_along(group: Class) -> None:
    course = group.course
    unit = course.by_unit["u2_initialization"]
    one = Desk(course, unit, group.nbgrader.api.coursedir, replace(desk(group).options, exercises=unit.exercises))
    group.hand_in("leo")
    notebook = _autograde.nbformat.from_dict(group.given)
    files = one.submission("leo", notebook).taken.files
    assert set(files) == {"leo/u2_initialization.ipynb", f"leo/{UNIT}.ipynb"}
    group.hand_in("mia", lambda notebook: b"{")
    assert set(one.submission("mia", notebook).taken.files) == {"mia/u2_initialization.ipynb"}


def test_what_is_judged_is_the_same_before_and_after_nbgrader_has_read_it(group: Class) -> None:
    group.hand_in("ned", appended("'my own'"))
    graded(group, "ned")
    before = desk(group).submission("ned", desk(group).handed_in("ned", desk(group).given()).notebook)
    assert json.loads(record(group, "ned").read_text())["digest"] == before.taken.digest


def test_what_needs_the_data_is_shown_as_it_was_handed_in() -> None:
    def failed(name: str) -> dict[str, Any]:
        return {"output_type": "error", "ename": name, "evalue": "", "traceback": []}

    def shown_by(text: str) -> dict[str, Any]:
        return {"output_type": "stream", "name": "stdout", "text": text}

    code = [scratch(str(number), f"cell-{number}") for number in range(5)]
    notebook = _autograde.nbformat.from_dict({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    ran = [
        [failed("ValueError")],
        [failed(NOT_AT_HAND)],
        [shown_by("ran")],
        [failed("NameError")],
        [failed("NameError")],
    ]
    saved = [[shown_by(f"saved {number}")] for number in range(4)] + [[]]
    show(notebook, {"cells": ran, "verdicts": []}, saved=saved)
    found = ["".join(output.get("text", output.get("ename", "")) for output in one.outputs) for one in notebook.cells]
    assert found[0] == "ValueError"
    assert found[1] == AS_IT_WAS + "saved 1" and found[3] == AS_IT_WAS + "saved 3"
    assert found[2] == "ran" and found[4] == "NameError"


def test_a_link_is_not_followed(group: Class, tmp_path: Path) -> None:
    path = group.hand_in("olga")
    elsewhere = tmp_path / "elsewhere.ipynb"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    with pytest.raises(MendError, match="cannot be read"):
        desk(group).handed_in("olga", desk(group).given())
    done = autograde(group, "olga")
    assert not done["success"] and f"olga's {UNIT}.ipynb cannot be read" in done["log"]


def test_what_a_link_leads_to_is_not_given_out(group: Class) -> None:
    folder = group.hand_in("liv").parent
    secret = group.root / "source" / group.unit / f"{group.unit}.ipynb"
    (folder / "solutions.txt").symlink_to(secret)
    (folder / "notes.txt").write_text("mine", encoding="utf-8")
    graded(group, "liv")
    copied = {path.name for path in (group.root / "autograded" / "liv" / group.unit).iterdir()}
    assert copied == {"notes.txt", f"{group.unit}.ipynb"}
    text = (group.root / "autograded" / "liv" / group.unit / f"{group.unit}.ipynb").read_text(encoding="utf-8")
    assert "solutions.txt is a link or no file, and was left out" in text


def test_a_linked_folder_is_nobodys_work(group: Class) -> None:
    folder = group.hand_in("mia").parent
    (group.root / "submitted" / "mio").symlink_to(folder.parent)
    done = autograde(group, "mio")
    assert not done["success"] and "is a link, perhaps to what another student has handed in" in done["log"]


def test_a_timestamp_that_is_no_date_is_told(group: Class) -> None:
    (group.hand_in("nia").parent / "timestamp.txt").write_text("yesterday at noon", encoding="utf-8")
    done = autograde(group, "nia")
    assert not done["success"] and "nia's timestamp.txt holds no date" in done["log"]


# -- hidden checks


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("private")
    (folder / f"test_{UNIT}.py").write_text(HIDDEN)
    return folder


def test_hidden_checks_share_the_points_and_show_their_titles(group: Class, private: Path) -> None:
    group.hand_in("pia", answers={"mean": MEAN})
    group.hand_in(
        "quin", answers={"mean": "def mean(t):\n    assert t.max() < 1e5, t\n    return t.sum() / t.numel()\n"}
    )
    for student in ("pia", "quin"):
        graded(group, student, hidden=str(private))
    assert group.points("pia")["mean"] == 1.0
    public = len(checks(group.course))
    assert group.points("quin")["mean"] == pytest.approx((public + 1) / (public + 2), abs=1e-6)
    table = shown(group.autograded("quin"), "check-mean")
    assert "The mean of large numbers is right, too. (a hidden check)" in table
    assert "told to nobody" not in table and "AssertionError" not in table


def checks(course: Course) -> list[Any]:
    unit = course.by_unit[UNIT]
    return [check for check in checks_of(course, unit, load_suite(course, unit)) if check.exercise == "mean"]


def test_a_hidden_check_reaches_nobody(group: Class, private: Path) -> None:
    spying = {"mean": SPY.partition("def variance")[0], "variance": "def variance" + SPY.partition("def variance")[2]}
    group.hand_in("rex", answers=spying)
    group.hand_in("sam", appended("import gc\nprint([o for o in gc.get_objects() if 'planted' in str(type(o))])"))
    for student in ("rex", "sam"):
        graded(group, student, hidden=str(private))
        assert group.nbgrader.api.generate_feedback(UNIT, student)["success"]
    table = shown(group.autograded("rex"), "check-variance")
    # it tells what it has seen of public checks, and of no other
    assert "seen: [" in table and "1000000.0" not in table
    assert "1000000.0" not in shown(group.autograded("rex"), "check-mean")
    files = [path for path in group.root.rglob("*") if path.is_file()]
    assert any(path.suffix == ".html" for path in files)
    for path in files:
        assert PLANTED.encode() not in path.read_bytes(), path


def test_a_hidden_suite_is_part_of_what_a_record_follows_from(group: Class, private: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(private, other)
    first = desk(group, hidden=str(private)).options.public()
    assert first == desk(group, hidden=str(other)).options.public()
    (other / f"test_{UNIT}.py").write_text(HIDDEN.replace("1e6", "1e7"))
    assert first != desk(group, hidden=str(other)).options.public() != desk(group).options.public()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import no_such_module", "cannot be imported: ModuleNotFoundError"),
        ("def test_x(): pass", "takes 0 exercises"),
        ("def test_x(mean): pass", "has no docstring"),
        (f'def test_{"{public}"}(mean):\n    """A sentence."""', "has checks that tests/"),
        (None, "there is no folder"),
    ],
)
def test_a_hidden_suite_that_cannot_be_used_is_one_sentence(
    course: Course, tmp_path: Path, text: str | None, sentence: str
) -> None:
    unit = course.by_unit[UNIT]
    suite = load_suite(course, unit)
    if text is not None:
        text = text.replace("{public}", checks(course)[0].name)
        (tmp_path / f"test_{UNIT}.py").write_text(text)
    folder = tmp_path if text is not None else tmp_path / "nowhere"
    with pytest.raises(SuiteError, match=sentence):
        checks_of(course, unit, suite, load_hidden_suite(folder, unit))


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("test_u1.py", UNIT), ("test_u1_statistic.py", UNIT), ("Test_u1_statistics.py", UNIT), ("test_fashion.py", None)],
)
def test_a_hidden_suite_of_no_unit_is_refused(course: Course, tmp_path: Path, name: str, wanted: str | None) -> None:
    unit = course.by_unit[wanted] if wanted else course.units[-1]
    for other in (unit.suite, "helpers.py", "conftest.py"):
        (tmp_path / other).write_text("")
    refuse_strangers(tmp_path, course)
    (tmp_path / name).write_text("")
    sentence = f"{re.escape(name)} belongs to no unit, .*: {re.escape(unit.suite)} is the name for hidden checks"
    with pytest.raises(SuiteError, match=sentence):
        refuse_strangers(tmp_path, course)


def test_a_unit_without_hidden_checks_has_the_public_ones(course: Course, tmp_path: Path) -> None:
    unit = course.by_unit[UNIT]
    assert load_hidden_suite(tmp_path, unit) is None


def test_a_judge_that_cannot_start_is_said_in_a_sentence(group: Class, tmp_path: Path) -> None:
    group.hand_in("tom", answers={"mean": MEAN})
    done = autograde(group, "tom", hidden=str(tmp_path / "nowhere"))
    assert not done["success"]
    assert f"tom's {UNIT}.ipynb could not be judged: there is no folder" in done["log"]
    assert "Traceback" not in done["log"]
    (tmp_path / "test_u1.py").write_text("")
    done = autograde(group, "tom", hidden=str(tmp_path))
    assert not done["success"]
    assert f"could not be judged: {tmp_path / 'test_u1.py'} belongs to no unit" in done["log"]


# -- settings


def test_the_time_of_a_cell_is_nbgraders_own_setting(group: Class) -> None:
    assert desk(group).options.cells == CellLimits(30.0, 30.0)
    for given, seconds in ((3, 3), (None, 30), (-1, 30)):
        cells = desk(group, timeout=given).options.cells
        assert cells is not None and (cells.seconds, cells.all_seconds) == (seconds, 30)
    assert desk(group, enabled=False).options.cells is None


def test_an_interruption_leaves_no_half_done_work(group: Class, monkeypatch: pytest.MonkeyPatch) -> None:
    group.hand_in("uma", answers={"mean": MEAN})
    one = desk(group)
    submission = one.submission("uma", one.handed_in("uma", one.given()).notebook)
    bench = _autograde._bench(one)

    def interrupted(jobs: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as context:
        context.setattr(bench.queue, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bench.judge(submission)
    assert bench.queue.judges == []
    result = bench.judge(submission)
    assert result.job.entry.raw == "uma" and not result.problem
    with monkeypatch.context() as context:
        context.setattr(bench.queue, "run", lambda jobs: (_ for _ in ()).throw(GradeError("no wall")))
        group.hand_in("uma", appended("2"), answers={"mean": MEAN})
        done = autograde(group, "uma")
    assert f"uma's {UNIT}.ipynb could not be judged: no wall" in done["log"]


def test_a_notebook_can_be_anything(group: Class) -> None:
    """Whatever stands in a file, one sentence or a whole notebook comes of it."""
    given = desk(group).given()
    values: list[Any] = [None, 3, "x", [], {}, [[]], {"x": 1}, True]
    for key in ("cells", "metadata", "nbformat", "nbformat_minor", "worksheets"):
        for value in values:
            check_mended({**group.given, key: value}, given)
    for key in ("cell_type", "source", "metadata", "outputs", "id", "execution_count", "attachments"):
        for value in values:
            check_mended({**group.given, "cells": [{**one, key: value} for one in group.given["cells"]]}, given)
    for key in ("grade_id", "grade", "points", "schema_version", "locked", "solution", "checksum"):
        for value in values:
            check_mended(with_metadata(group.given, key, value), given)


def with_metadata(notebook: Notebook, key: str, value: Any) -> Notebook:
    changed: Notebook = json.loads(json.dumps(notebook))
    for one in changed["cells"]:
        if "nbgrader" in one["metadata"]:
            one["metadata"]["nbgrader"][key] = value
    return changed


def check_mended(notebook: Notebook, given: Any) -> None:
    from grading.nbgrader._mend import mend

    try:
        found = mend(json.dumps(notebook).encode(), given).notebook
    except MendError as error:
        assert str(error)
        return
    names = [one.metadata.nbgrader.grade_id for one in found.cells if "nbgrader" in one.metadata]
    wanted = [entry.name for entry in given if not entry.is_answer_in_code]
    assert [name for name in names if name in wanted] == wanted and len(set(names)) == len(names)
    again = mend(_autograde.nbformat.writes(found).encode(), given)
    assert again.notebook == found and again.notes == []
