"""pytest as a student meets it: run on a copy of the exercises, and read from its output."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from . import warmed
from .conftest import ROOT


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a student clones, without the machinery, which is installed."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("exercises", "solutions", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("course.toml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    return folder


def run_pytest(folder: Path, *args: str, code: int | None = 0, **environment: str) -> str:
    """The output of one pytest run in `folder`."""
    words, environment = ("-p", "no:cacheprovider", *args), {"COLUMNS": "80", **environment}
    return output_of(warmed.run("pytest", folder, *words, **environment), code)


def output_of(done: subprocess.CompletedProcess[str], code: int | None) -> str:
    text = done.stdout + done.stderr
    assert "INTERNALERROR" not in text, text
    assert "Traceback" not in text, text
    assert code is None or done.returncode == code, text
    return text


def fill_in(folder: Path, unit: str, old: str, new: str) -> None:
    """Edits an exercise as a student would."""
    path = folder / "exercises" / f"{unit}.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


VARIANCE = 'raise NotImplementedError("variance: replace this line with your own")'
MEAN = 'raise NotImplementedError("mean: replace this line with your own")'


def test_fresh_stubs_are_no_failure(checkout: Path) -> None:
    """In a process of its own from the start, as a student runs it."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    text = output_of(done, 0)
    assert re.search(r"all 7 not started\s+0/9", text)
    assert re.search(r"0 of [\d.]+ points. Next: mean \(not started\), exercises/u1_statistics.py:\d+", text)
    assert re.search(r"\d+ not started in", text)
    assert "1 slow check(s) left out" in text
    assert "failed" not in text


def test_slow_checks_are_said_to_be_left_out_where_they_were_asked_for(checkout: Path) -> None:
    assert "left out" not in run_pytest(checkout, "-k", "variance_example")
    assert "1 slow check(s) left out; `pytest --slow` runs them" in run_pytest(checkout, "-k", "capstone", code=5)


def test_a_wrong_answer_is_explained(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout, tmp_path / "mine")
    fill_in(tmp_path / "mine", "u1_statistics", MEAN, "return t.sum() / t.numel()")
    fill_in(tmp_path / "mine", "u1_statistics", VARIANCE, "return t.var()")
    text = run_pytest(tmp_path / "mine", "-k", "variance_example or mean_value", "--seed", "4", code=1)
    assert "variance: The variance of 1, 2, 4, 18 is 47.1875." in text
    assert re.search(r"called +variance\(\[1, 2, 4, 18\]\)", text)
    assert re.search(r"came back +tensor\(62.9167\)", text)
    assert re.search(r"expected +tensor\(47.1875\)", text)
    assert "pytest --seed 4 -k variance_example" in text
    assert "grading" not in text.replace("(grading", "")
    assert "exercises/u1_statistics.py" in text


def test_a_broken_file_is_that_units_verdict(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout, tmp_path / "mine")
    fill_in(tmp_path / "mine", "u1_statistics", MEAN, "return (")
    fill_in(tmp_path / "mine", "u3_activations", "class GeneralReLU", "1 / 0\n\n\nclass GeneralReLU")
    text = run_pytest(tmp_path / "mine", "--tb=short", code=1)
    assert re.search(r"exercises/u1_statistics.py:\d+: SyntaxError", text)
    assert re.search(
        r"exercises/u3_activations.py:\d+: importing the file raised ZeroDivisionError", " ".join(text.split())
    )
    assert re.search(r"u1_statistics +all 7 wrong +0/9", text)
    assert re.search(r"u2_initialization +all 8 not started", text)
    assert re.search(r"u7_normalization +all 5 not started", text)


@pytest.mark.parametrize("impl", ["solutions", "{root}/solutions", "{root}/solutions/u1_statistics.py"])
def test_another_implementation(checkout: Path, impl: str) -> None:
    text = run_pytest(checkout, "tests/test_u1_statistics.py", "--impl", impl.format(root=checkout))
    assert re.search(r"u1_statistics +all 7 passed +9/9", text)


def test_an_implementation_elsewhere(checkout: Path, tmp_path: Path) -> None:
    """pytest takes such a path for the place of the tests, before it knows whose option it is."""
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n", encoding="utf-8")
    (tmp_path / "u1_statistics.py").write_text("def mean(t):\n    return t.mean()\n", encoding="utf-8")
    text = run_pytest(checkout, "--impl", str(tmp_path), "-k", "mean_value")
    assert "1 passed" in text and "error" not in text
    sentence = "Where mean is graded, a person will look at this: line 2: `t.mean` would do the work of this exercise,"
    assert sentence in " ".join(text.split())


@pytest.mark.parametrize("ci", ["", "true"])
def test_the_same_again_is_of_the_same_implementation(checkout: Path, tmp_path: Path, ci: str) -> None:
    (tmp_path / "my answers").mkdir()
    (tmp_path / "my answers" / "u1_statistics.py").write_text("def mean(t):\n    return t.sum()\n", encoding="utf-8")
    mine = ("--impl", str(tmp_path / "my answers"), "-k", "mean_value")
    text = run_pytest(checkout, *mine, code=1, CI=ci, BUILD_NUMBER="")
    commands = re.findall(r"(?:replay +|Same numbers again: )pytest (.*)", text)
    assert len(commands) == 2
    for command in commands:
        assert "wrong" in run_pytest(checkout, *shlex.split(command), "-k", "mean_value", code=1)


def test_a_missing_implementation_is_one_sentence(checkout: Path) -> None:
    text = run_pytest(checkout, "--impl", "nowhere", code=4)
    assert "there is no file or folder" in text
    assert len(text.splitlines()) < 6


def test_a_wrong_course_file_is_one_sentence(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout, tmp_path / "mine")
    path = tmp_path / "mine" / "course.toml"
    path.write_text(path.read_text(encoding="utf-8").replace("points =", "pionts =", 1), encoding="utf-8")
    text = run_pytest(tmp_path / "mine", code=4)
    assert re.search(r"course.toml, line \d+: .*did you mean 'points'", text)


def test_side_by_side_finds_the_same(checkout: Path) -> None:
    arguments = ("tests/test_u1_statistics.py", "tests/test_u3_activations.py", "--impl", "solutions", "--seed", "3")
    alone = run_pytest(checkout, *arguments)
    beside = run_pytest(checkout, *arguments, "-n", "2")
    points = re.compile(r"u\d_\w+ +all \d passed +\d+/\d+")
    assert points.findall(alone) == points.findall(beside) != []
    assert "seed 3" in alone
    assert "seed 3" in beside


def test_keyword_first_failure_and_last_failed(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout, tmp_path / "mine")
    fill_in(tmp_path / "mine", "u1_statistics", VARIANCE, "return t.var()")
    arguments = ("-o", "cache_dir=.cache", "-p", "cacheprovider")
    text = run_pytest(tmp_path / "mine", *arguments, "-k", "variance and not shortcut", "-x", code=1)
    assert "stopping after 1 failures" in text
    text = run_pytest(tmp_path / "mine", *arguments, "--lf", code=1)
    assert re.search(r"1 failed", text)
    text = run_pytest(tmp_path / "mine", "-k", "covariance")
    assert "covariance" in text


def test_collection_is_stable_for_editors(checkout: Path) -> None:
    once = run_pytest(checkout, "--collect-only", "-q").splitlines()
    again = run_pytest(checkout, "--collect-only", "-q").splitlines()
    tests = [line for line in once if "::" in line]
    assert tests == [line for line in again if "::" in line]
    name = next(line for line in tests if "test_mean_value" in line)
    assert "1 not started" in run_pytest(checkout, name)


def test_what_a_student_prints_is_cut(checkout: Path, tmp_path: Path) -> None:
    shutil.copytree(checkout, tmp_path / "mine")
    noisy = "for n in range(10_000): print('line', n)\n    return t.var()"
    fill_in(tmp_path / "mine", "u1_statistics", VARIANCE, noisy)
    text = run_pytest(tmp_path / "mine", "-k", "variance_example", code=1)
    assert "lines left out)" in text
    assert "line 9999" in text
    assert len(text.splitlines()) < 80


@pytest.mark.parametrize("environment", [{"COLUMNS": "60"}, {"NO_COLOR": "1", "FORCE_COLOR": ""}])
def test_narrow_and_colourless_terminals(checkout: Path, environment: dict[str, str]) -> None:
    text = run_pytest(checkout, "tests/test_u1_statistics.py", **environment)
    assert "\x1b[" not in text
    assert "u1_statistics" in text
    summary = text[text.index(" goodinit ===") :].splitlines()
    assert max(len(line.rstrip()) for line in summary if "Next:" not in line) <= 80


def test_other_projects_notice_nothing(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text("""
import sys
from hypothesis import given, settings, strategies as st
ran = []
@given(st.integers())
def test_all(n):
    ran.append(n)
def test_as_ever():
    assert len(ran) == settings().max_examples == 100
    assert "torch" not in sys.modules
""")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_side_by_side_slow_checks_are_said_to_be_left_out(checkout: Path) -> None:
    text = run_pytest(checkout, "tests/test_u9_fashion.py", "-k", "train_capstone or normalized_images", "-n", "1")
    assert "1 slow check(s) left out" in text
