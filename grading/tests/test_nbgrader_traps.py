"""Every way known in which a notebook makes nbgrader lose, give away or mix up points: here it does not.

One class hands in one of each, and one run of `nbgrader autograde` grades it.
"""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import nbformat
import pytest

from .handing_in import MEAN, UNIT, VARIANCE, Class, Notebook, appended, cell, scratch, shown

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Object of type <Submitted")]

LIMITS = "check_seconds = 2\nimport_seconds = 5\nnotebook_seconds = 20"
RIGHT = {"mean": 1.0, "variance": 1.0}
NOTHING: dict[str, float] = {}
WRONG = "def mean(t):\n    return t.sum() * 0\n"
VALUES = ("-1", "float('nan')", "False", "torch.tensor(0.)", "99", "float('inf')", "'text'")
WARNING = "import sys, warnings\n" + MEAN.replace(
    "    return", "    warnings.warn('careful')\n    print(1, file=sys.stderr)\n    return"
)
EXIT = "import os\ndef mean(t):\n    os._exit(0)\n"
LOOP = "def mean(t):\n    while True: pass\n"
HELD = "def mean(t):\n    while True:\n        try:\n            while True: pass\n        except BaseException: pass\n"


def valued(notebook: Notebook) -> None:
    """Ends every check with a value that nbgrader takes for points, in its text, its output and a copy of it."""
    checks = [one for one in notebook["cells"] if "check-" in one["metadata"].get("nbgrader", {}).get("grade_id", "")]
    for one, value in zip(checks, VALUES, strict=True):
        one["source"] = value
        result = {"output_type": "execute_result", "data": {"text/plain": "1"}, "metadata": {}, "execution_count": 1}
        one["outputs"] = [result]


def duplicated(notebook: Notebook) -> None:
    for one in list(notebook["cells"]):
        if one["metadata"].get("nbgrader"):
            notebook["cells"].append(copy.deepcopy(one))


def copied_above(notebook: Notebook) -> None:
    """An answer written into a copy, above the stub that the copy was made of."""
    answer = cell(notebook, "mean")
    notebook["cells"].insert(notebook["cells"].index(answer), {**copy.deepcopy(answer), "source": MEAN})


def one_schema(version: Any) -> Any:
    def edit(notebook: Notebook) -> None:
        for one in notebook["cells"]:
            if "nbgrader" in one["metadata"]:
                one["metadata"]["nbgrader"]["schema_version"] = version

    return edit


def old_format(notebook: Notebook) -> bytes:
    node = nbformat.convert(nbformat.reads(json.dumps(notebook), as_version=4), 3)
    return str(nbformat.writes(node, version=3)).encode()


def unknown_format(notebook: Notebook) -> None:
    notebook["nbformat"], notebook["nbformat_minor"] = 5, 12


def deleted(notebook: Notebook) -> None:
    names = ("setup", "check-mean", "check-variance", "u1-outlier")
    notebook["cells"] = [
        one for one in notebook["cells"] if one["metadata"].get("nbgrader", {}).get("grade_id") not in names
    ]


def reordered(notebook: Notebook) -> None:
    checks = [one for one in notebook["cells"] if "check-" in one["metadata"].get("nbgrader", {}).get("grade_id", "")]
    others = [one for one in notebook["cells"] if one not in checks]
    notebook["cells"] = [*reversed(checks), *others]


def repriced(notebook: Notebook) -> None:
    cell(notebook, "check-mean")["metadata"]["nbgrader"]["points"] = 100
    cell(notebook, "check-variance")["metadata"]["nbgrader"]["grade_id"] = "check-of-my-own"
    cell(notebook, "check-covariance")["metadata"]["nbgrader"]["grade"] = False
    cell(notebook, "mean")["metadata"]["nbgrader"] |= {"grade": True, "points": 100}


def skipped(notebook: Notebook) -> None:
    for one in notebook["cells"]:
        one["metadata"]["tags"] = ["skip-execution", "raises-exception", "remove-output"]
    cell(notebook, "mean")["source"] = WRONG


def stripped(notebook: Notebook) -> None:
    """What some tools do: nothing is left of nbgrader's metadata."""
    for one in notebook["cells"]:
        one["metadata"] = {}


def retyped(notebook: Notebook) -> None:
    one = cell(notebook, "check-mean")
    one["cell_type"] = "markdown"
    del one["outputs"], one["execution_count"]


def odd(notebook: Notebook) -> None:
    """Cells as no editor writes them."""
    notebook["cells"] += [
        3,
        {},
        {"cell_type": "heading", "source": "x"},
        {"cell_type": "code"},
        {"cell_type": "code", "source": ["1\n", 2], "metadata": 3},
        {
            "cell_type": "code",
            "source": "1",
            "metadata": {"nbgrader": {"grade_id": ["x"]}},
            "outputs": [3, {}],
            "id": 7,
        },
        {"cell_type": "markdown", "source": "x", "attachments": {"a": 3, "b": {"image/png": "<script>"}}, "outputs": 3},
    ]
    notebook["metadata"] = {"kernelspec": {"name": "bash"}, "language_info": 3}


def written(notebook: Notebook) -> None:
    cell(notebook, "u1-outlier")["source"] = "The *squares* grow faster: $x^2$."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Class, subprocess.CompletedProcess[str]]:
    """The class, and how grading it ended."""
    group = Class(tmp_path_factory.mktemp("traps"), LIMITS)
    book = group.root / "gradebook.db"
    group.hand_in("a-right")
    group.hand_in("warning", answers={"mean": WARNING, "variance": VARIANCE})
    group.hand_in("valued", valued, answers={"mean": WRONG})
    group.hand_in("valued-right", valued)
    group.hand_in("duplicated", duplicated)
    group.hand_in("copied-above", copied_above, answers={"variance": VARIANCE})
    group.hand_in("same-ids", lambda notebook: [one.update(id="same") for one in notebook["cells"]])
    for version in (0, 99, None):
        group.hand_in(f"schema-{version}", one_schema(version))
    group.hand_in("old-format", old_format)
    group.hand_in("unknown-format", unknown_format)
    group.hand_in("deleted", deleted)
    group.hand_in("reordered", reordered)
    group.hand_in("repriced", repriced)
    group.hand_in("skipped", skipped)
    group.hand_in("stripped", stripped)
    group.hand_in("retyped", retyped)
    group.hand_in("odd", odd)
    group.hand_in("exit", appended("import os\nos._exit(0)", "'below'"))
    group.hand_in("exit-in-answer", answers={"mean": EXIT, "variance": VARIANCE})
    group.hand_in("loop", appended("while True: pass", "'below'"), answers={"mean": LOOP, "variance": VARIANCE})
    group.hand_in("held", answers={"mean": HELD, "variance": VARIANCE})
    group.hand_in("tried-out", appended("1 / 0", "x = (", "mean(torch.ones(3))"))
    group.hand_in(
        "thief",
        appended(f"import sqlite3\nsqlite3.connect({str(book)!r}).execute('update grade set manual_score = 100')"),
        answers={"mean": f"def mean(t):\n    return open({str(book)!r}, 'r+')\n", "variance": VARIANCE},
    )
    group.hand_in("written", written)
    # what cannot be mended
    group.hand_in("z-empty", lambda notebook: b"")
    group.hand_in("z-garbage", lambda notebook: b"\x00\xff not a notebook")
    group.hand_in("z-truncated", lambda notebook: json.dumps(notebook).encode()[:5000])
    group.hand_in("z-list", lambda notebook: b"[1, 2]")
    group.hand_in("z-deep", lambda notebook: b"[" * 100_000)
    group.hand_in("zz-last")
    return group, group.nbgrade("autograde", UNIT, "--Execute.timeout=2")


UNMENDABLE = {
    "z-empty": "is empty",
    "z-garbage": "is no notebook that can be read",
    "z-truncated": "it ends in the middle",
    "z-list": "is no notebook",
    "z-deep": "nested too deeply",
}
ALL_RIGHT = [
    "a-right", "zz-last", "warning", "valued-right", "duplicated", "copied-above", "same-ids", "schema-0", "schema-99",
    "schema-None", "old-format", "unknown-format", "deleted", "reordered", "repriced",
    "stripped", "retyped", "odd", "exit", "tried-out", "written",
]  # fmt: skip
Run = tuple[Class, subprocess.CompletedProcess[str]]


def earned(group: Class, student: str) -> dict[str, float]:
    return {name: points for name, points in group.points(student).items() if points}


@pytest.mark.parametrize("student", ALL_RIGHT)
def test_what_is_right_keeps_its_points(run: Run, student: str) -> None:
    group, _ = run
    assert earned(group, student) == RIGHT
    # what is not started is none, and everything is graded
    assert set(group.points(student).values()) == {0.0, 1.0}


def test_values_below_a_check_are_no_points(run: Run) -> None:
    group, _ = run
    assert earned(group, "valued") == NOTHING
    assert shown(group.autograded("valued"), "check-mean") != shown(group.autograded("valued-right"), "check-mean")


def test_tags_mean_nothing(run: Run) -> None:
    group, _ = run
    assert earned(group, "skipped") == {"variance": 1.0}
    assert "came back" in shown(group.autograded("skipped"), "check-mean")


@pytest.mark.parametrize(
    ("student", "sentence"),
    [("exit-in-answer", "ended its process"), ("loop", "did not finish"), ("held", "did not finish")],
)
def test_an_answer_that_ends_or_hangs_costs_its_own_points(run: Run, student: str, sentence: str) -> None:
    group, _ = run
    assert earned(group, student) == {"variance": 1.0}
    assert sentence in shown(group.autograded(student), "check-mean")


def outputs(group: Class, student: str, source: str) -> str:
    cells = group.autograded(student)["cells"]
    return json.dumps(next(one for one in cells if "".join(one["source"]) == source)["outputs"])


def test_a_cell_that_hangs_costs_its_own_time(run: Run) -> None:
    group, _ = run
    assert "CellTimeoutError" in outputs(group, "loop", "while True: pass")
    assert "below" in outputs(group, "loop", "'below'")


def test_a_kernel_that_dies_keeps_what_was_shown(run: Run) -> None:
    group, _ = run
    assert "the cells below were not run" in outputs(group, "exit", "import os\nos._exit(0)")
    assert outputs(group, "exit", "'below'") == "[]"
    assert "shortcut" in outputs(group, "exit", demonstration(group))


def demonstration(group: Class) -> str:
    return next("".join(one["source"]) for one in group.given["cells"] if "__main__" in "".join(one["source"]))


def test_nothing_reaches_the_gradebook(run: Run) -> None:
    group, _ = run
    refused = next(one for one in group.autograded("thief")["cells"] if "sqlite3" in "".join(one["source"]))
    assert "unable to open database file" in json.dumps(refused["outputs"])
    assert "PermissionError" in shown(group.autograded("thief"), "check-mean")
    assert earned(group, "thief") == {"variance": 1.0}
    assert all(score is None or score <= 3 for student in ALL_RIGHT for score in group.points(student).values())


@pytest.mark.parametrize("student", UNMENDABLE)
def test_what_cannot_be_mended_is_said_in_words_for_that_student_alone(run: Run, student: str) -> None:
    group, done = run
    [line] = [line for line in done.stderr.splitlines() if f"{student}'s {UNIT}.ipynb" in line]
    assert UNMENDABLE[student] in line
    # handed in, and not graded
    assert all(grade == (None, True) for grade in group.grades(student).values())
    assert not (group.root / "autograded" / student).exists() or not list(
        (group.root / "autograded" / student).rglob("*.ipynb")
    )


def test_the_command_ends_as_nbgrader_ends_where_somebody_could_not_be_graded(run: Run) -> None:
    _, done = run
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    failed = [line for line in done.stderr.splitlines() if "There was an error processing assignment '" in line]
    assert len(failed) == len(UNMENDABLE)


@pytest.mark.parametrize(
    ("student", "sentence"),
    [
        ("duplicated", "the cell check-mean was there 2 times"),
        ("deleted", "the cell check-mean was gone, and is back where it was"),
        ("valued", "the cell check-mean had been changed, and is as it was given"),
        ("retyped", "the cell check-mean was of another kind"),
        ("old-format", "the notebook had an old format"),
        ("unknown-format", "its format is 5, and not 4"),
        ("odd", "could not be read, and are left out"),
    ],
)
def test_what_was_mended_is_said(run: Run, student: str, sentence: str) -> None:
    group, done = run
    assert any(f"{student}'s {UNIT}.ipynb: " in line and sentence in line for line in done.stderr.splitlines())
    assert any(sentence in note for note in group.autograded(student)["metadata"]["goodinit"]["notes"])


def test_every_notebook_is_whole_again(run: Run) -> None:
    group, _ = run
    given = [one["metadata"]["nbgrader"] for one in group.given["cells"] if "nbgrader" in one["metadata"]]
    # an answer that a student has taken away stays away
    names = [one["grade_id"] for one in given if one["grade"] or one["locked"]]
    for student in ALL_RIGHT:
        notebook = group.autograded(student)
        nbformat.validate(nbformat.from_dict(notebook))
        found = [one["metadata"]["nbgrader"] for one in notebook["cells"] if "nbgrader" in one["metadata"]]
        kept = [one["grade_id"] for one in found if one["grade"] or one["locked"]]
        assert sorted(kept) == sorted(names)
        if student != "reordered":
            assert kept == names
        points = {one["grade_id"]: one["points"] for one in given if one["grade"]}
        assert {one["grade_id"]: one["points"] for one in found if one["grade"]} == points


def test_a_written_answer_waits_for_a_person(run: Run) -> None:
    group, _ = run
    assert group.grades("written")["u1-outlier"] == (None, True)
    answer = cell(group.autograded("written"), "u1-outlier")
    assert "".join(answer["source"]) == "The *squares* grow faster: $x^2$."
    assert group.grades("a-right")["u1-outlier"] == group.grades("deleted")["u1-outlier"] == (0.0, False)


# -- the other commands and orders


def test_without_execution_the_judge_judges_all_the_same(run: Run) -> None:
    group, _ = run
    group.hand_in("saved", valued, saved_outputs, answers={"mean": WRONG, "variance": VARIANCE})
    done = group.nbgrade("autograde", UNIT, "--no-execute", "--student", "saved")
    assert done.returncode == 0, done.stderr
    assert earned(group, "saved") == {"variance": 1.0}
    kept = outputs(group, "saved", "'mine'")
    assert "as it was saved" in kept and "script" not in kept


def saved_outputs(notebook: Notebook) -> None:
    one = scratch("'mine'")
    data = {"text/plain": "as it was saved", "text/html": "<script>alert(1)</script>"}
    one["outputs"] = [{"output_type": "display_data", "data": data, "metadata": {}}]
    notebook["cells"].append(one)


def test_the_formgraders_button_does_the_same(run: Run) -> None:
    group, _ = run
    group.hand_in("button")
    done = group.nbgrader.api.autograde(UNIT, "button")
    assert done["success"], done
    assert earned(group, "button") == RIGHT
    failed = group.nbgrader.api.autograde(UNIT, "z-empty")
    assert not failed["success"] and f"z-empty's {UNIT}.ipynb is empty" in failed["log"]
    assert "Traceback" not in failed["log"]


def test_exercises_that_come_and_go_leave_earlier_grades_alone(run: Run) -> None:
    group, _ = run
    source = group.root / "source" / UNIT / f"{UNIT}.ipynb"
    before = source.read_bytes()
    notebook = json.loads(before)
    notebook["cells"] = [
        one
        for one in notebook["cells"]
        if one["metadata"].get("nbgrader", {}).get("grade_id") not in ("check-covariance", "correlation")
    ]
    added = copy.deepcopy(cell(notebook, "check-mean"))
    added["id"] = added["metadata"]["nbgrader"]["grade_id"] = "check-of-something-new"
    notebook["cells"].append(added)
    source.write_text(json.dumps(notebook))
    try:
        group.nbgrade("generate_assignment", UNIT, "--force")
        done = group.nbgrade("autograde", UNIT, "--force", "--student", "a-right")
        assert done.returncode == 0, done.stderr
    finally:
        source.write_bytes(before)
    assert earned(group, "a-right") == earned(group, "zz-last") == RIGHT
    assert "check-covariance" in group.grades("a-right")


def test_first_runs_at_the_same_time(run: Run, tmp_path: Path) -> None:
    group = Class(tmp_path, LIMITS)
    students = ["one", "two", "three"]
    for student in students:
        group.hand_in(student, answers={"mean": MEAN})
    commands = [["autograde", UNIT, "--student", student] for student in students]
    ends = side_by_side(group, commands)
    assert [end.returncode for end in ends] == [0, 0, 0], [end.stderr for end in ends]
    assert all(earned(group, student) == {"mean": 1.0} for student in students)


def side_by_side(group: Class, commands: list[list[str]]) -> list[subprocess.CompletedProcess[str]]:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(len(commands)) as pool:
        return list(pool.map(lambda words: group.nbgrade(*words), commands))
