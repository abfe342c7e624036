"""The command `goodinit`, called as from a shell, on copies of the exercises."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from grading.build import STUBS
from grading.cli import COMMANDS, Command, main
from grading.cli._grade import address
from grading.course import Course

from . import warmed
from .conftest import ROOT

FIELDS = ["unit", "exercise", "check", "verdict", "message", "bug", "points", "max_points"]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the course in which commands may write, and the folder they are started in."""
    for name in ("exercises", "solutions", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "course.toml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    return tmp_path


def say(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    """What a command prints on standard output; on standard error where it fails to be carried out."""
    assert main(list(args)) == code
    out, err = capsys.readouterr()
    return err if code == 2 else out


def rows(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


Say = Callable[..., str]


def test_a_fresh_copy_has_nothing_started(checkout: Path, course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(say(capsys, "check", "--json", code=1))
    assert {row["verdict"] for row in found} == {"not started"}
    assert {row["exercise"] for row in found} == set(course.exercises)
    assert all(list(row) == FIELDS for row in found)
    assert sum(float(str(row["max_points"])) for row in found) == pytest.approx(100)


def test_the_reference_passes(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(say(capsys, "check", "u1", "u3::relu", "--impl", "solutions", "--json"))
    assert {row["verdict"] for row in found} == {"passed"}
    assert {row["unit"] for row in found} == {"u1_statistics", "u3_activations"}
    assert all(row["points"] == row["max_points"] for row in found)


def test_what_was_not_run_for_its_time_is_told(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = say(capsys, "check", "train", "--impl", "solutions", "--fast")
    left, _, command = text.splitlines()[-2].partition("`")
    assert left == "Without the slow check of train, 1.9 points: "
    assert command == "goodinit check train --impl solutions` runs it."
    assert "Without" not in say(capsys, "check", "mean", "--impl", "solutions", "--fast")


def test_a_wrong_answer_in_a_file(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.py").write_text("def variance(t):\n    return t.var()\n")
    found = rows(say(capsys, "check", "variance", "mean", "--impl", "mine.py", "--json", "--seed", "1", code=1))
    verdicts = {row["exercise"]: row["verdict"] for row in found}
    assert verdicts == {"variance": "wrong", "mean": "not started"}
    text = say(capsys, "check", "variance", "--impl", "mine.py", "--seed", "1", code=1)
    assert "✗ variance: wrong" in text
    assert "goodinit check variance --impl mine.py --seed 1" in text
    assert "0 of 1 points" in text


def test_a_file_that_cannot_be_read_is_called_that_last(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.ipynb").write_text('{"cells": [')
    text = say(capsys, "check", "mean", "--impl", "mine.ipynb", code=1)
    assert "Next: mean (wrong), mine.ipynb: the file cannot be read: it is no notebook, or a part of one" in text


def test_every_check_is_shown_when_asked(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = say(capsys, "check", "variance", "--impl", "solutions", "-v")
    assert "✓ variance_value" in text


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["check", "batchnorm"], "there is no unit or exercise 'batchnorm' (did you mean 'batch_norm'?)"),
        (["check", "--impl", "nowhere"], "there is no file or folder nowhere"),
        (["check", "--impl", "course.toml"], "neither a folder nor a .py file nor a notebook"),
        (["hint", "u1"], "`goodinit hint` takes one exercise; u1 has mean, variance"),
        (["hint", "men"], "did you mean 'mean'?"),
        (["reset", "u11"], "there is no unit or exercise 'u11'"),
    ],
)
def test_wrong_words(checkout: Path, capsys: pytest.CaptureFixture[str], args: list[str], sentence: str) -> None:
    text = say(capsys, *args, code=2)
    assert sentence in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(("word", "near"), [("chek", "check"), ("trian", "train")])
def test_a_wrong_command(capsys: pytest.CaptureFixture[str], word: str, near: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([word])
    assert stopped.value.code == 2
    assert f"did you mean {near!r}?" in capsys.readouterr().err


def test_where_am_i(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = say(capsys)
    assert "Next: mean (not started), exercises/u1_statistics.py:" in text
    assert "Statistics: How large is a tensor?" in text
    assert "Stuck? goodinit hint mean" in text


def test_hints_come_one_by_one(checkout: Path, course: Course, capsys: pytest.CaptureFixture[str]) -> None:
    for number, hint in enumerate(course.exercises["lerp"].hints, start=1):
        assert say(capsys, "hint", "lerp") == f"Hint {number} of 3 for lerp: {hint}\n"
    text = say(capsys, "hint", "lerp")
    assert "All 3 hints for lerp have been given" in text
    assert "goodinit solution lerp" in text
    assert say(capsys, "hint", "lerp", "--again").count("Hint ") == 3
    assert say(capsys, "hint", "layer_norm").endswith("\nTo read: Ba et al. 2016, section 3\n")


def test_reset_of_one_exercise_keeps_the_others(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("exercises/u1_statistics.py")
    stub = path.read_text()
    mean = stub.replace(
        'raise NotImplementedError("mean: replace this line with your own")', "return t.sum() / t.numel()"
    )
    both = mean.replace('raise NotImplementedError("variance: replace this line with your own")', "return t.var()")
    path.write_text(both)
    text = say(capsys, "reset", "variance")
    assert path.read_text() == mean
    backup = next(line for line in text.splitlines() if "kept in" in line).rpartition(" ")[2]
    assert Path(backup).read_text() == both
    say(capsys, "reset", "u1")
    assert path.read_text() == stub
    assert "already as it was given" in say(capsys, "reset", "u1")


def test_reset_of_one_exercise_counts_lines_as_python_does(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("exercises/u1_statistics.py")
    stub = path.read_text()
    path.write_text(stub.replace("def mean(", "# from a page\u2028on the web\x0c\ndef mean(", 1))
    before = path.read_text()
    say(capsys, "reset", "variance")
    assert path.read_text() == before


def test_a_file_in_another_encoding_is_shown_and_not_mixed(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("exercises/u1_statistics.py")
    text = "# -*- coding: latin-1 -*-\n# gr\u00fc\u00dfe\n" + path.read_text().replace("\u2248", "~")
    path.write_text(text, encoding="latin-1", errors="replace")
    before = path.read_bytes()
    assert "NotImplementedError" in say(capsys, "solution", "mean")
    assert "is in iso-8859-1, and stubs are in UTF-8" in say(capsys, "reset", "mean", code=2)
    assert path.read_bytes() == before


def test_a_solution_leaves_out_no_line_of_the_students(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("exercises/u1_statistics.py")
    mine = "n = t.numel()  ### how many\n    return t.sum() / n"
    path.write_text(
        path.read_text().replace('raise NotImplementedError("mean: replace this line with your own")', mine)
    )
    text = say(capsys, "solution", "mean")
    assert "### how many" in text
    assert "BEGIN SOLUTION" not in text


def test_a_target_that_is_named_twice_counts_once(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    once = say(capsys, "check", "mean", "--impl", "solutions")
    twice = say(capsys, "check", "mean", "u1::mean", "--impl", "solutions")
    assert once.partition("Same numbers")[0] == twice.partition("Same numbers")[0]


def test_missing_data_is_no_mistake_of_the_code(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = say(capsys, "check", "train", "--impl", "solutions", "--data", "nowhere", code=1)
    assert "train: kit error" in text
    assert "this check could not be run: " in text
    assert "nowhere does not exist" in text
    assert "--data nowhere" in text


def test_reset_of_a_method(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("exercises/u8_optimizers.py")
    stub = path.read_text()
    done = stub.replace('raise NotImplementedError("weight_decay: replace this line with your own")', "p.data *= 0.5")
    assert done != stub
    path.write_text(done)
    say(capsys, "reset", "weight_decay")
    assert path.read_text() == stub


def test_reset_of_a_broken_file(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("exercises/u1_statistics.py")
    stub = path.read_text()
    path.write_text("def mean(:\n")
    text = say(capsys, "reset", "mean", code=2)
    assert "SyntaxError" in text
    assert "goodinit reset u1" in text
    assert path.read_text() == "def mean(:\n"
    say(capsys, "reset", "u1")
    assert path.read_text() == stub


@pytest.mark.parametrize("nowhere", ["exercises", ".goodinit"])
def test_reset_where_nothing_can_be_written(checkout: Path, capsys: pytest.CaptureFixture[str], nowhere: str) -> None:
    """A file where a folder should be keeps out root too."""
    shutil.rmtree(checkout / nowhere, ignore_errors=True)
    (checkout / nowhere).write_text("mine")
    path = checkout / "exercises" / "u1_statistics.py"
    if path.is_file():
        path.write_text("def mean(t): return 3\n")
    text = say(capsys, "reset", "u1", code=2)
    assert text.startswith("goodinit: exercises/u1_statistics.py stays as it is, since ")
    assert "work in a copy of the course that you may write to" in text
    assert len(text.splitlines()) == 1
    assert (checkout / nowhere).read_text() == "mine"
    assert not path.is_file() or path.read_text() == "def mean(t): return 3\n"


def test_reset_on_a_disk_that_is_read_only(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "here")

    Path("exercises/u1_statistics.py").write_text("def mean(t): return 3\n")
    monkeypatch.setattr("pathlib.Path.unlink", refuse)
    monkeypatch.setattr("os.replace", refuse)
    text = say(capsys, "reset", "mean", code=2)
    assert "since here cannot be used: Read-only file system" in text
    assert len(text.splitlines()) == 1
    assert Path("exercises/u1_statistics.py").read_text() == "def mean(t): return 3\n"


def test_reset_where_there_is_no_place_for_the_stub(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkout / "exercises" / "u1_statistics.py"
    path.unlink()
    path.mkdir()
    assert say(capsys, "reset", "u1", code=2) == (
        "goodinit: exercises/u1_statistics.py is no file; move it away, and reset u1 again\n"
    )
    shutil.rmtree(path.parent)
    text = say(capsys, "reset", "mean", code=2)
    assert text.startswith(f"goodinit: there is no folder {path.parent} to put the stub in; make it, ")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("words", [("build",), ("build", "--check"), ("build", "--force")])
def test_the_kits_stubs_are_not_changed_for_another_course(
    checkout: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    solution, exercise = Path("solutions/u1_statistics.py"), Path("exercises/u1_statistics.py")
    solution.write_text(solution.read_text().replace("def mean(t", "def mean(tensor"))
    before = [path.read_bytes() for path in (exercise, STUBS / exercise.name)]
    text = say(capsys, *words, code=2)
    assert text.startswith(f"goodinit: u1_statistics.py in {STUBS} would change with {checkout / 'solutions'}, and ")
    assert len(text.splitlines()) == 1
    assert [path.read_bytes() for path in (exercise, STUBS / exercise.name)] == before


def test_a_build_on_a_full_disk_cuts_no_file(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, text: str, **more: object) -> int:
        self.write_bytes(text[:100].encode())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = checkout / "exercises" / "u1_statistics.py"
    path.write_text("work = 1\n")
    monkeypatch.setattr("pathlib.Path.write_text", full)
    text = say(capsys, "build", "--force", code=2)
    assert text == f"goodinit: {path} cannot be written: No space left on device; what was there is as it was\n"
    assert path.read_text() == "work = 1\n"
    assert len(list(path.parent.iterdir())) == 9


def test_a_build_where_nothing_can_be_written(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree("exercises")
    Path("exercises").write_text("mine")
    text = say(capsys, "build", code=2)
    assert len(text.splitlines()) == 1
    assert "exercises" in text
    assert Path("exercises").read_text() == "mine"


@pytest.mark.parametrize("address", ["foo", "foo://x:1", "tcp://x", "gateway:", ""])
@pytest.mark.parametrize("words", [("grade", ".", "--out", "out"), ("autograde", "u1", "--nbgrader", ".")])
def test_what_is_no_address_of_a_cluster_never_reaches_dask(
    checkout: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], address: str
) -> None:
    """Dask's client would fail, and once more when it is thrown away."""
    text = say(capsys, *words, "--scheduler", address, code=2)
    assert text.startswith(f"goodinit: no Dask scheduler answers at {address}: --scheduler takes an address such as ")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    "scheduler",
    ["tcp://[::1]:8786", "10.0.0.1:8786", "wss://host:8786/ws", "inproc://10.0.0.1/7/1", "gateway:spring", None],
)
def test_addresses_of_a_cluster_are_passed_on(scheduler: str | None) -> None:
    assert address(scheduler) == scheduler


def test_autograding_is_said_to_take_a_unit(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["autograde", "--help"])
    text = capsys.readouterr().out
    assert "exercise" not in text
    assert "UNIT" in text


@pytest.mark.parametrize("columns", ["60", "140"])
def test_the_solution_stands_beside_the_students_code(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = say(capsys, "solution", "variance")
    assert "yours: exercises/u1_statistics.py" in text
    assert "mean((t - mean(t)) ** 2)" in text
    assert "NotImplementedError" in text
    assert "BEGIN SOLUTION" not in text
    assert max(len(line) for line in text.splitlines()) <= int(columns)


def test_derived_files_are_in_step(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["build", "--check"]) == 0, capsys.readouterr().err


def test_a_build_does_not_overwrite_work(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("exercises/u1_statistics.py")
    work = path.read_text() + "\nmine = 1\n"
    path.write_text(work)
    assert "holds work that a build would overwrite" in say(capsys, "build", code=2)
    assert path.read_text() == work
    assert main(["build", "--check"]) == 1
    say(capsys, "build", "--force")
    assert path.read_text() != work


def test_doctor(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = say(capsys, "doctor")
    assert "torch" in text
    assert "dataset" in text
    assert "51 exercises" in text


def test_outside_a_course_the_installed_one_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "passed" in say(capsys, "check", "mean", "--impl", "solutions", "--json")


def test_without_a_home_and_without_write_permission(checkout: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
    with tempfile.TemporaryDirectory() as open_to_all:
        folder = Path(open_to_all) / "course"
        shutil.copytree(checkout, folder)
        for path in (folder, *folder.rglob("*"), folder.parent):
            path.chmod(0o555 if path.is_dir() else 0o444)
        command = [sys.executable, "-m", "grading.cli", "check", "mean", "--impl", "solutions", "--json"]
        if os.getuid() == 0:  # root may write everywhere
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        for path in (folder.parent, folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert '"verdict": "passed"' in done.stdout


def test_a_reader_that_goes_away_is_no_error(checkout: Path) -> None:
    command = f"{sys.executable} -m grading.cli check --json | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=checkout, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["verdict"] == "not started"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full takes Linux")
@pytest.mark.parametrize("words", [("hint", "mean"), ("check", "mean", "--json"), ("hint", "--help")])
def test_a_full_standard_output_is_one_sentence(checkout: Path, words: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "grading.cli", *words]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command,
            cwd=checkout,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "goodinit: standard output cannot be written to: No space left on device\n"


def test_a_full_disk_is_one_sentence(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("grading.cli.COMMANDS", {**COMMANDS, "grade": Command("", COMMANDS["grade"].configure, refuse)})
    assert say(capsys, "grade", "class", "--out", "out", code=2) == (
        "goodinit: `goodinit grade` could not be finished: No space left on device; make room on the disk, and run it "
        "again\n"
    )


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("grade", "", "--out", "out"), "DIR"),
        (("grade", ".", "--out", ""), "--out"),
        (("similar", "class", "--out", ""), "--out"),
        (("grades", "--nbgrader", "", "--format", "csv"), "--nbgrader"),
    ],
)
def test_the_path_of_nothing_is_refused(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], name: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        f"goodinit: argument {name}: takes a name, not ''; is a variable of the shell not set?\n"
    )


def test_a_terminal_without_a_width_shows_all_the_same(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    assert "torch" in say(capsys, "doctor")


def test_streams_that_are_closed_go_nowhere(checkout: Path) -> None:
    command = f"{sys.executable} -m grading.cli hint men 2>&-; echo $?; {sys.executable} -m grading.cli hint mean >&-"
    done = subprocess.run(["bash", "-c", command], cwd=checkout, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_colours_can_be_refused(checkout: Path) -> None:
    done = warmed.run("grading.cli", checkout, "check", "u1", NO_COLOR="1", COLUMNS="60")
    assert "\x1b[" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines() if "Next:" not in line) <= 60
