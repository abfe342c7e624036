"""`goodinit autograde`: what nbgrader's own command would write, side by side, and whatever a run is stopped by."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nbgrader", reason="nbgrader is not installed: pip install 'goodinit[instructor]'")

from nbgrader.api import Gradebook

from grading.cli import main
from grading.sandbox import Sandbox

from .handing_in import MEAN, UNIT, VARIANCE, Class, cell

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Object of type <Submitted")]

WRONG = "def variance(t):\n    return mean(t * t) - mean(t) ** 2\n"
STUDENTS = ("anna", "berta", "chris", "dora", "emil", "fritz")
DAMAGED = "gustav"
DUE = "2027-03-01T23:59:00Z"


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Class:
    """A class of right, wrong and unfinished answers and a damaged notebook, of which nothing is graded yet."""
    one = Class(tmp_path_factory.mktemp("side_by_side"), "check_seconds = 5\nimport_seconds = 5\nnotebook_seconds = 20")
    for number, student in enumerate(STUDENTS):
        answers = [{"mean": MEAN, "variance": VARIANCE}, {"mean": MEAN, "variance": WRONG}, {"mean": MEAN}][number % 3]
        path = one.hand_in(student, answers=answers)
        (path.parent / "timestamp.txt").write_text("2027-02-27 12:00:00 UTC")
    one.hand_in(DAMAGED, lambda notebook: b'{"cells": [')
    (one.root / ".goodinit" / UNIT).mkdir(parents=True)
    (one.root / ".goodinit" / UNIT / "seed").write_text("5\n")
    return one


class Copy:
    """A copy of the course, its gradebook and what was handed in, with one way or another of grading it."""

    def __init__(self, one: Class | Copy, name: str) -> None:
        self.root = one.root.with_name(name)
        shutil.copytree(one.root, self.root)
        self.submitted = self.root / "submitted"
        self.kept = self.root / ".goodinit" / UNIT

    def autograde(self, *words: str) -> int:
        with contextlib.chdir(self.root):
            return main(["autograde", UNIT, "--nbgrader", ".", *words])

    def process(self, *words: str, before: str = "") -> subprocess.Popen[str]:
        """The command in a process of its own, which runs the statements `before` first."""
        text = f"import sys\nfrom grading.cli import main\n{before}\nsys.exit(main(sys.argv[1:]))"
        return subprocess.Popen(
            [sys.executable, "-c", text, "autograde", UNIT, "--nbgrader", str(self.root), *words],
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def records(self) -> dict[str, int]:
        """When each record was written."""
        return {path.stem: path.stat().st_mtime_ns for path in self.kept.glob("*.json")}

    def written(self) -> set[str]:
        return {path.stem for path in self.kept.glob("*.written")}

    def gradebook(self) -> dict[str, Any]:
        """Everything in the gradebook that is about a submission."""
        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}", "goodinit") as book:
            found = {}
            for submission in book.assignment_submissions(UNIT):
                [notebook] = submission.notebooks
                grades = {
                    grade.name: (grade.auto_score, grade.manual_score, grade.needs_manual_grade, grade.score)
                    for grade in notebook.grades
                }
                comments = {comment.name: comment.auto_comment for comment in notebook.comments}
                late = (submission.timestamp, submission.total_seconds_late, notebook.late_submission_penalty)
                found[submission.student.id] = (submission.score, grades, comments, late)
            return found

    def notebooks(self) -> dict[str, bytes]:
        return {path.parts[-3]: path.read_bytes() for path in self.root.glob("autograded/*/*/*.ipynb")}


@pytest.fixture(scope="module")
def graded(handed_in: Class) -> Copy:
    """The course after a run that nothing disturbed."""
    one = Copy(handed_in, "graded")
    assert one.autograde("--jobs", "2") == 1
    return one


def assert_same(one: Copy, other: Copy) -> None:
    assert one.gradebook() == other.gradebook()
    assert one.notebooks() == other.notebooks()


def test_it_writes_what_nbgrader_would(handed_in: Class, graded: Copy) -> None:
    one = Copy(handed_in, "stock")
    run = subprocess.run(
        [str(Path(sys.executable).parent / "nbgrader"), "autograde", UNIT], cwd=one.root, capture_output=True, text=True
    )
    assert run.returncode == 1 and f"{DAMAGED}'s {UNIT}.ipynb is no notebook" in run.stderr
    assert set(graded.notebooks()) == set(STUDENTS)
    assert graded.gradebook()["anna"][1]["check-variance"][0] == 1
    assert 0 < graded.gradebook()["berta"][1]["check-variance"][0] < 1
    assert_same(one, graded)
    records = {path.name: path.read_bytes() for path in one.kept.glob("*.json")}
    assert records == {path.name: path.read_bytes() for path in graded.kept.glob("*.json")}


def test_it_says_who_could_not_be_graded_and_goes_on(graded: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    assert graded.autograde() == 1
    captured = capsys.readouterr()
    assert f"{len(STUDENTS)} graded, {len(STUDENTS)} of them before" in captured.out
    assert "1 could not be graded" in captured.out
    sentences = [line for line in captured.err.splitlines() if DAMAGED in line]
    assert len(sentences) == 1 and "is no notebook that can be read: it ends in the middle" in sentences[0]
    assert "Traceback" not in captured.err and "Warning" not in captured.err


def test_what_cannot_be_read_takes_no_earlier_grade(graded: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    one = Copy(graded, "again")
    before = one.gradebook(), one.notebooks()
    for student, harm in (("anna", "link"), ("berta", "name")):
        path = one.submitted / student / UNIT / f"{UNIT}.ipynb"
        path.rename(path.with_name("mine.ipynb"))
        if harm == "link":
            path.symlink_to("nowhere")
    assert one.autograde() == 1
    errors = capsys.readouterr().err
    assert f"anna's {UNIT}.ipynb cannot be read: it is a link" in errors
    assert f"berta's {UNIT}.ipynb is not there, but mine.ipynb is" in errors
    assert (one.gradebook(), one.notebooks()) == before
    (one.root / "gradebook.db").unlink()
    assert one.autograde() == 2
    assert "put it back from a copy" in capsys.readouterr().err
    assert not (one.root / "gradebook.db").exists()


# where a run is killed: at the n-th call, of those with an argument that ends so
KILLS = {
    "a record is to be written": ("os", "replace", ".json", 2),
    "a cleaned notebook is to be written": ("nbconvert.writers.FilesWriter", "write", "", 3),
    "half of the grades are written": ("grading.nbgrader._autograde.SaveGrades", "_add_score", "", 4),
    "a graded notebook is to be written": ("nbconvert.writers.FilesWriter", "write", "", 2),
    "all is written but the mark that says so": ("os", "replace", ".written", 1),
}


def stopping(target: str, name: str, ending: str, call: int, by: signal.Signals = signal.SIGKILL) -> str:
    """Statements that make a process send itself a signal in the middle of its work."""
    return f"""
import itertools, os, pkgutil
target = pkgutil.resolve_name({target!r})
original, calls = target.{name}, itertools.count(1)
def stopping(*args, **named):
    if str(args[-1]).endswith({ending!r}) and next(calls) == {call}:
        os.kill(os.getpid(), {by.value})
    return original(*args, **named)
target.{name} = stopping
"""


def test_killed_anywhere_and_started_again_it_ends_as_if_nothing_had_been(handed_in: Class, graded: Copy) -> None:
    """Every run judges on from where the one before was killed, until one is let finish."""
    one = Copy(handed_in, "killed")
    judged: dict[str, int] = {}
    for when, place in KILLS.items():
        run = one.process("--jobs", "1", before=stopping(*place))
        _, errors = run.communicate(timeout=250)
        assert run.returncode == -signal.SIGKILL, f"{when}: {errors}"
        assert judged.items() <= one.records().items(), when
        judged = one.records()
        for path in one.kept.glob("*.json"):
            assert json.loads(path.read_text(encoding="utf-8"))["verdicts"], when
    assert one.autograde("--jobs", "2") == 1
    assert judged.items() <= one.records().items()
    assert set(one.records()) == one.written() == set(STUDENTS)
    assert_same(one, graded)
    assert not (one.kept / ".work").exists() and not (one.kept / ".lock").exists()


def test_interrupted_it_says_how_to_go_on(handed_in: Class, graded: Copy) -> None:
    one = Copy(handed_in, "interrupted")
    run = one.process("--jobs", "1", before=stopping("os", "replace", ".json", 2, signal.SIGINT))
    _, said = run.communicate(timeout=250)
    assert run.returncode == 130
    assert said.splitlines()[-1].endswith("are graded, and the same command goes on from there")
    assert "Traceback" not in said
    assert not (one.kept / ".work").exists() and not (one.kept / ".lock").exists()
    before = one.records()
    assert one.autograde("--jobs", "2") == 1
    assert before.items() <= one.records().items()
    assert_same(one, graded)


def test_only_what_has_changed_is_done_again(graded: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    one = Copy(graded, "changing")
    shutil.rmtree(one.submitted / DAMAGED)
    records, notebooks = one.records(), one.notebooks()

    def again() -> str:
        capsys.readouterr()
        assert one.autograde("--jobs", "1") == 0
        return capsys.readouterr().out

    assert "6 graded, 6 of them before" in again()
    # written again, judged by none
    shutil.rmtree(one.root / "autograded" / "anna")
    (one.submitted / "berta" / UNIT / "timestamp.txt").write_text("2027-03-03 12:00:00 UTC")
    with Gradebook(f"sqlite:///{one.root / 'gradebook.db'}", "goodinit") as book:
        book.find_grade("check-mean", UNIT, UNIT, "chris").auto_score = 0.5
        book.remove_submission(UNIT, "dora")
    assert "6 graded, 2 of them before" in again()
    assert one.records() == records and one.notebooks() == notebooks
    now, before = one.gradebook(), graded.gradebook()
    assert {who for who in now if now[who] != before[who]} == {"berta"}
    assert now["berta"][3][0].isoformat() == "2027-03-03T12:00:00"
    # judged and written again
    shutil.copytree(one.submitted / "anna", one.submitted / "chris", dirs_exist_ok=True)
    shutil.copytree(one.submitted / "anna", one.submitted / "zoe")
    assert "7 graded, 5 of them before" in again()
    assert one.gradebook()["chris"][1] == one.gradebook()["zoe"][1] == one.gradebook()["anna"][1]
    assert {who for who, time in one.records().items() if records.get(who) != time} == {"chris", "zoe"}
    # all of them, since it is asked for
    records, notebooks, now = one.records(), one.notebooks(), one.gradebook()
    assert one.autograde("--force") == 0
    assert not records.items() & one.records().items()
    assert (one.notebooks(), one.gradebook()) == (notebooks, now)


def few(graded: Copy, name: str) -> Copy:
    """A copy with two students, who are graded."""
    one = Copy(graded, name)
    for student in (*STUDENTS[2:], DAMAGED):
        shutil.rmtree(one.submitted / student)
    return one


def test_a_penalty_follows_the_due_date_an_extension_and_the_policy(
    graded: Copy, capsys: pytest.CaptureFixture[str]
) -> None:
    one = few(graded, "late")
    records, database = one.records(), f"sqlite:///{one.root / 'gradebook.db'}"

    def again() -> tuple[str, dict[str, float | None]]:
        capsys.readouterr()
        assert one.autograde() == 0
        found = one.gradebook()
        return capsys.readouterr().out, {student: found[student][3][2] for student in STUDENTS[:2]}

    with Gradebook(database, "goodinit") as book:
        book.update_or_create_assignment(UNIT, duedate="2027-02-27 13:00:00 UTC")
    said, _ = again()
    # all are in time, and need not be confirmed again where a person has given points
    assert "2 graded, 2 of them before" in said
    with Gradebook(database, "goodinit") as book:
        book.update_or_create_assignment(UNIT, duedate="2027-02-26 13:00:00 UTC")
    assert again() == ("u1_statistics: 2 graded\n", dict.fromkeys(STUDENTS[:2]) | {"anna": 0.0, "berta": 0.0})
    with open(one.root / "nbgrader_config.py", "a", encoding="utf-8") as config:
        config.write("get_config().LatePolicy.percent_per_day = 10\n")
    said, penalties = again()
    assert said == "u1_statistics: 2 graded\n"
    assert penalties == {student: pytest.approx(one.gradebook()[student][0] / 10) for student in STUDENTS[:2]}
    assert penalties["anna"] == pytest.approx(0.2)
    with Gradebook(database, "goodinit") as book:
        book.grant_extension(UNIT, "anna", days=1)
    said, after = again()
    assert "2 graded, 1 of them before" in said
    assert not after["anna"] and after["berta"] == penalties["berta"]
    assert "2 graded, 2 of them before" in again()[0]
    assert records == one.records()


def test_points_follow_what_a_cell_counts(graded: Copy, capsys: pytest.CaptureFixture[str]) -> None:
    one = few(graded, "counting")
    records = one.records()
    source = one.root / "source" / UNIT / f"{UNIT}.ipynb"
    notebook = json.loads(source.read_text(encoding="utf-8"))
    cell(notebook, "check-variance")["metadata"]["nbgrader"]["points"] = 0.5
    source.write_text(json.dumps(notebook), encoding="utf-8")
    nbgrader = str(Path(sys.executable).parent / "nbgrader")
    subprocess.run([nbgrader, "generate_assignment", UNIT, "--force"], cwd=one.root, capture_output=True, check=True)
    capsys.readouterr()
    assert one.autograde() == 0
    assert capsys.readouterr().out == "u1_statistics: 2 graded\n"
    assert one.gradebook()["anna"][1]["check-variance"][0] == 0.5
    assert records == one.records()


BROKEN = """
import torch
from grading.verdict import expect


def test_variance_of_two(variance):
    \"\"\"The variance of two numbers is a quarter of their squared distance.\"\"\"
    expect(variance(torch.tensor([3.0, 7.0])), torch.tensr(4.0), "variance([3, 7])")
"""


def test_a_hidden_check_that_fails_by_itself_is_told_to_the_instructor_alone(
    graded: Copy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = few(graded, "faulty")
    suite = tmp_path / f"test_{UNIT}.py"
    suite.write_text(BROKEN, encoding="utf-8")
    for before in ("", ", 2 of them before"):
        capsys.readouterr()
        assert one.autograde("--hidden", str(tmp_path)) == 1
        said = capsys.readouterr()
        assert said.out == f"u1_statistics: 2 graded{before}\n"
        [sentence] = [line for line in said.err.splitlines() if "kit error" in line]
        assert "2 submissions ended in a kit error in the hidden check test_variance_of_two of variance" in sentence
        assert "(AttributeError: module 'torch' has no attribute 'tensr'); mend the suite" in sentence
    assert one.gradebook()["anna"][1]["check-variance"][0] is None
    assert not any(b"tensr" in notebook for notebook in one.notebooks().values())
    suite.write_text(BROKEN.replace("tensr", "tensor"), encoding="utf-8")
    assert one.autograde("--hidden", str(tmp_path)) == 0
    assert "kit error" not in capsys.readouterr().err
    assert one.gradebook()["anna"][1]["check-variance"][0] == 1.0


def test_a_judge_that_hangs_costs_its_submission_alone(
    handed_in: Class, graded: Copy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from grading.classroom import _queue

    one = Copy(handed_in, "hanging")
    for student in (*STUDENTS[1:], DAMAGED):
        shutil.rmtree(one.submitted / student)
    with monkeypatch.context() as patched:
        patched.setattr(_queue, "READ_SECONDS", 0.0)
        assert one.autograde("--jobs", "1") == 1
    assert "anna: could not be graded: it took too long to read or to judge" in capsys.readouterr().err
    assert not one.records() and not one.gradebook()
    assert one.autograde("--jobs", "1") == 0
    assert one.gradebook() == {"anna": graded.gradebook()["anna"]}


def test_on_a_cluster_it_finds_the_same(handed_in: Class, graded: Copy, tmp_path: Path) -> None:
    distributed: Any = pytest.importorskip(
        "distributed", reason="Dask is not installed: pip install 'goodinit[cluster]'"
    )
    one = Copy(handed_in, "cluster")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None, local_directory=str(tmp_path)
    ) as workers:
        assert one.autograde("--scheduler", workers.scheduler_address) == 1
    assert_same(one, graded)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["u77", "--nbgrader", "graded"], "there is no unit or exercise 'u77'"),
        (["mean", "--nbgrader", "graded"], "an assignment is a whole unit, and 'mean' is an exercise of u1_statistics"),
        (["u1", "--nbgrader", "nowhere"], "nowhere holds no nbgrader course: goodinit build --nbgrader nowhere"),
        (["u2", "--nbgrader", "graded"], "run nbgrader generate_assignment u2_initialization in graded"),
        (["u1", "--nbgrader", "empty"], "nobody has handed in u1_statistics: "),
        (["u1", "--nbgrader", "graded", "--jobs", "0"], "--jobs takes a whole number of 1 or more, not 0"),
        (["u1", "--nbgrader", "busy"], "another run (process {own}) is writing to"),
        (["u1", "--nbgrader", "broken"], "the gradebook"),
    ],
)
def test_wrong_arguments_get_one_sentence(
    graded: Copy, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from grading.classroom import locked

    for name in ("empty", "busy", "broken"):
        if not (graded.root.parent / name).exists():
            shutil.copytree(graded.root, graded.root.parent / name)
    shutil.rmtree(graded.root.parent / "empty" / "submitted", ignore_errors=True)
    (graded.root.parent / "broken" / "gradebook.db").write_text("no database")
    with contextlib.chdir(graded.root.parent), locked(Path("busy/.goodinit") / UNIT / ".lock"):
        assert main(["autograde", *words]) == 2
    errors = capsys.readouterr().err
    assert sentence.format(own=os.getpid()) in errors and errors.startswith("goodinit: ") and errors.count("\n") == 1
