"""nbgrader does nothing with a course of ours where its configuration has failed: cells would run outside the wall."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory

from grading.course import load
from grading.nbgrader import NbgraderError, build_course
from grading.nbgrader._config import FILE, read_config

from .conftest import ROOT

NBGRADER = str(Path(sys.executable).parent / "nbgrader")
UNIT = "u1_statistics"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the course, and an nbgrader course made of it to which somebody has handed in what writes a file."""
    folder = tmp_path_factory.mktemp("made")
    kit, root = folder / "kit", folder / "class"
    kit.mkdir()
    shutil.copy(ROOT / "course.toml", kit)
    for name in ("solutions", "tests"):
        (kit / name).symlink_to(ROOT / name)
    build_course(load(kit), root)
    submitted = root / "submitted" / "mallory" / UNIT
    submitted.mkdir(parents=True)
    cell = nbformat.v4.new_code_cell("open('../../../../outside', 'w')")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), submitted / f"{UNIT}.ipynb")
    return folder


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "own", symlinks=True)
    return tmp_path / "own" / "class"


def refused(root: Path, *words: str) -> str:
    """What nbgrader says, which must have ended with an error and changed nothing."""
    before = sorted(root.rglob("*"))
    run = subprocess.run([NBGRADER, *words], cwd=root, capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    assert sorted(root.rglob("*")) == before
    assert not list(root.parent.rglob("outside"))
    return run.stderr


def test_a_damaged_course(root: Path) -> None:
    path = root.parent / "kit" / "course.toml"
    path.write_text(path.read_text(encoding="utf-8") + "\n[nbgrader.late]\npercent_per_day = -1\n", encoding="utf-8")
    said = refused(root, "autograde", UNIT)
    assert "'percent_per_day' takes a number from 0 to 100, not -1); nothing was done" in said
    assert "Traceback" not in said
    with pytest.raises(NbgraderError, match=r"is for cannot be used: course\.toml, line"):
        read_config(root)


def test_a_course_that_has_moved(root: Path) -> None:
    (root.parent / "kit").rename(root.parent / "elsewhere")
    assert "course.toml cannot be read: No such file or directory); nothing was done" in refused(
        root, "autograde", UNIT
    )
    (root.parent / "elsewhere").rename(root.parent / "kit")
    assert read_config(root).Autograde.autograde_preprocessors, "and works again when it is back"


def test_a_mistake_in_an_instructors_own_lines(root: Path) -> None:
    with (root / FILE).open("a", encoding="utf-8") as file:
        file.write("get_confg().Exchange.root = '/srv/exchange'\n")
    said = refused(root, "autograde", UNIT)
    assert "name 'get_confg' is not defined" in said and "an error ended it, which is shown above" in said
    assert "nothing was done" in refused(root, "export")


def test_a_configuration_that_python_cannot_read(root: Path) -> None:
    with (root / FILE).open("a", encoding="utf-8") as file:
        file.write("get_config(.Exchange.root = '/srv/exchange'\n")
    for command in (["autograde", UNIT], ["generate_feedback", UNIT], ["generate_assignment", UNIT]):
        said = refused(root, *command)
        assert "SyntaxError" in said and "nothing was done" in said


def test_goodinit_is_not_at_hand(root: Path) -> None:
    path = root / FILE
    path.write_text(path.read_text(encoding="utf-8").replace("grading.nbgrader", "grading.elsewhere"), encoding="utf-8")
    assert "nbgrader needs goodinit for this course (No module named 'grading.elsewhere')" in refused(root, "export")


def test_the_steps_that_formgrader_takes(root: Path) -> None:
    """It has no command in between, and read the configuration when it was started."""
    config = read_config(root)
    del config.Autograde["autograde_preprocessors"]
    step = Autograde(coursedir=CourseDirectory(config=config), config=config)
    step.coursedir.assignment_id = UNIT
    with pytest.raises(NbGraderException, match="has not taken effect"):
        step.start()
    assert not (root / "autograded").exists()
