"""An nbgrader course from course.toml: what students get, what nbgrader's commands make of it, what a rebuild keeps."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbgrader.api import Gradebook

from grading.build import BuildError, derive, edited_by_hand, notebook_text, pictures
from grading.cli import main
from grading.course import Course, CourseError, load
from grading.nbgrader import NbgraderError, build_course, enter_students, gradebook, read_students
from grading.nbgrader._config import read_config

from .conftest import ROOT

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from .conftest import NbgraderCourse

UNITS = [path.stem for path in sorted((ROOT / "solutions").glob("u*.py"))]
STUB = re.compile(r'raise NotImplementedError\(".*"\)')
REGION = re.compile(r"### BEGIN (SOLUTION|MARK SCHEME)\n(.*?)### END", re.S)


def cells_of(path: Path) -> list[Any]:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells: list[Any] = notebook.cells
    return cells


def grade_id(cell: Any) -> str:
    return str(cell.metadata.get("nbgrader", {}).get("grade_id", ""))


# -- the notebooks


@pytest.mark.parametrize("unit", UNITS)
def test_deriving_twice_gives_the_same(course: Course, unit: str) -> None:
    text = notebook_text(course, course.by_unit[unit])
    assert text == notebook_text(load(ROOT), course.by_unit[unit])
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    names = [cell.id for cell in notebook.cells]
    assert len(set(names)) == len(names)
    assert all(grade_id(cell) in ("", cell.id) for cell in notebook.cells)


@pytest.mark.parametrize("unit", UNITS)
def test_every_exercise_has_an_answer_and_a_check_with_its_points(course: Course, unit: str) -> None:
    cells = nbformat.reads(notebook_text(course, course.by_unit[unit]), as_version=4).cells
    checks = {grade_id(cell): cell for cell in cells if grade_id(cell).startswith("check-")}
    exercises = course.by_unit[unit].exercises
    assert {name: cell.metadata.nbgrader.points for name, cell in checks.items()} == {
        f"check-{exercise.id}": exercise.points for exercise in exercises
    }
    for exercise in exercises:
        cell = checks[f"check-{exercise.id}"]
        assert cell.source == f'check("{exercise.id}")'
        assert cell.metadata.nbgrader.locked and not cell.metadata.nbgrader.solution
        before = cells[: cells.index(cell)]
        symbol = re.compile(rf"^(def|class) {exercise.symbol}\b", re.M)
        answer = next(one for one in reversed(before) if symbol.search(one.source))
        assert answer.metadata.nbgrader.solution and not answer.metadata.nbgrader.locked


@pytest.mark.parametrize("unit", UNITS)
def test_written_questions_are_graded_by_a_person(course: Course, unit: str) -> None:
    cells = nbformat.reads(notebook_text(course, course.by_unit[unit]), as_version=4).cells
    wanted = re.findall(r'question="(\S+)" points=(\d+)', (ROOT / "solutions" / f"{unit}.py").read_text())
    asked = [cell.metadata.nbgrader for cell in cells if cell.cell_type == "markdown" and grade_id(cell)]
    assert [(one.grade_id, str(one.points)) for one in asked] == wanted
    assert all(one.grade and one.solution and not one.locked for one in asked)


def test_given_code_is_locked_and_demonstrations_are_open(course: Course) -> None:
    cells = nbformat.reads(notebook_text(course, course.by_unit["u8_optimizers"]), as_version=4).cells
    by_start = {cell.source.splitlines()[0]: cell for cell in cells if cell.cell_type == "code"}
    assert by_start["from collections.abc import Callable, Iterable"].metadata.nbgrader.locked
    assert "nbgrader" not in by_start['if __name__ == "__main__":'].metadata


def test_the_first_cell_installs_what_course_toml_says(own: OwnCourse) -> None:
    own.edit("course.toml", "[limits]", '[nbgrader]\ninstall = "goodinit==7"\n\n[limits]')
    cells = nbformat.reads(notebook_text(own.course, own.course.units[3]), as_version=4).cells
    first = next(cell for cell in cells if cell.cell_type == "code")
    assert "%pip install --quiet goodinit==7" in first.source
    assert first.source.index("from __future__") < first.source.index("grading.notebook")
    assert first.metadata.nbgrader.locked


# -- what students get


@pytest.mark.parametrize("unit", UNITS)
def test_no_solution_reaches_a_student(nbgrader_course: NbgraderCourse, unit: str) -> None:
    released = nbgrader_course.released(unit).read_text(encoding="utf-8")
    source = (nbgrader_course.root / "source" / unit / f"{unit}.ipynb").read_text(encoding="utf-8")
    shown = "\n".join(cell.source for cell in nbformat.reads(released, as_version=4).cells)
    regions = [
        region[1] for cell in nbformat.reads(source, as_version=4).cells for region in REGION.findall(cell.source)
    ]
    given = (ROOT / "exercises" / f"{unit}.py").read_text(encoding="utf-8")
    lines = {line.strip() for region in regions for line in region.splitlines()}
    secret = [line for line in lines if len(line) > 12 and line not in given]
    assert len(secret) > 5
    assert [line for line in secret if line in shown] == []
    assert not re.search("BEGIN|MARK SCHEME", released)


@pytest.mark.parametrize("unit", UNITS)
def test_notebooks_and_exercises_say_the_same(nbgrader_course: NbgraderCourse, unit: str) -> None:
    given = STUB.sub("", (ROOT / "exercises" / f"{unit}.py").read_text(encoding="utf-8"))
    ours = ("setup", "check-")
    for cell in cells_of(nbgrader_course.released(unit)):
        if cell.cell_type == "code" and not grade_id(cell).startswith(ours):
            assert STUB.sub("", cell.source) in given


@pytest.mark.parametrize("unit", UNITS)
def test_the_gradebook_holds_no_mark_scheme(nbgrader_course: NbgraderCourse, unit: str) -> None:
    """nbgrader puts its copy of a cell where a student has deleted one."""
    nbgrader_course.released(unit)
    with gradebook(nbgrader_course.root) as book:
        notebook = book.find_notebook(unit, unit)
        assert [cell.name for cell in notebook.source_cells if "MARK SCHEME" in cell.source] == []
        points = sum(cell.max_score for cell in notebook.grade_cells)
    released = cells_of(nbgrader_course.released(unit))
    assert points == sum(cell.metadata.nbgrader.get("points", 0) for cell in released if grade_id(cell)) > 0


def command(root: Path, *words: str, home: Path) -> str:
    """What one of nbgrader's own commands says, run in the course's folder."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    environment |= {"HOME": str(home), "JUPYTER_CONFIG_DIR": str(home), "JUPYTER_DATA_DIR": str(home / "data")}
    done = subprocess.run(["nbgrader", *words], cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout + done.stderr


def test_nbgraders_commands_work(nbgrader_course: NbgraderCourse, tmp_path: Path) -> None:
    root, unit = nbgrader_course.root, "u7_normalization"
    exchange = f"--Exchange.root={tmp_path / 'exchange'}"
    command(root, "generate_assignment", unit, "--force", home=tmp_path)
    command(root, "release_assignment", unit, exchange, home=tmp_path)
    assert f"goodinit {unit}" in command(root, "list", exchange, home=tmp_path)
    student = tmp_path / "student"
    student.mkdir()
    command(student, "fetch_assignment", unit, "--course=goodinit", exchange, home=tmp_path)
    assert (student / unit / f"{unit}.ipynb").read_bytes() == nbgrader_course.released(unit).read_bytes()
    said = command(student, "validate", f"{unit}/{unit}.ipynb", home=tmp_path)
    assert "VALIDATION FAILED ON 7 CELL(S)" in said and "batch_norm: not started" in said


# -- a course of one's own, to change


class OwnCourse:
    """A copy of the course that a test may edit, and the nbgrader course made of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.root = folder / "course", folder / "nbgrader"
        self.folder.mkdir()
        shutil.copy(ROOT / "course.toml", self.folder)
        shutil.copytree(ROOT / "solutions", self.folder / "solutions")
        (self.folder / "tests").symlink_to(ROOT / "tests")

    @property
    def course(self) -> Course:
        return load(self.folder)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / name).read_text(encoding="utf-8")
        assert old in text
        (self.folder / name).write_text(text.replace(old, new, 1), encoding="utf-8")

    def build(self, **more: Any) -> Any:
        return build_course(self.course, self.root, **more)

    def generate(self, unit: str) -> Any:
        from nbgrader.apps.api import NbGraderAPI
        from nbgrader.coursedir import CourseDirectory

        config = read_config(self.root)
        return NbGraderAPI(CourseDirectory(config=config), config=config).generate_assignment(unit, force=True)


@pytest.fixture
def own(tmp_path: Path) -> OwnCourse:
    return OwnCourse(tmp_path)


def hand_in(root: Path, unit: str) -> None:
    """Two students' submissions in the gradebook, graded by machine and by hand."""
    with gradebook(root) as book:
        for student, score in (("anna", 1.0), ("bert", 0.5)):
            book.update_or_create_student(student)
            submission = book.add_submission(unit, student)
            for grade in submission.notebooks[0].grades:
                grade.auto_score = score
                grade.manual_score = 2.0 if grade.cell.cell_type == "markdown" else None
            for comment in submission.notebooks[0].comments:
                comment.manual_comment = f"well done, {student}"
        book.db.commit()


def grades(root: Path, unit: str) -> dict[str, Any]:
    with gradebook(root) as book:
        found = {}
        for submission in book.assignment_submissions(unit):
            notebook = submission.notebooks[0]
            for grade in notebook.grades:
                found[submission.student.id, grade.name] = (grade.auto_score, grade.manual_score, grade.score)
            for comment in notebook.comments:
                found[submission.student.id, comment.name, "comment"] = comment.comment
        return found


def test_a_rebuild_keeps_grades(own: OwnCourse) -> None:
    unit = "u1_statistics"
    own.build()
    assert own.generate(unit)["success"]
    hand_in(own.root, unit)
    before = grades(own.root, unit)
    assert len(before) == 2 * (7 + 2) + 2 * (7 + 2)
    own.edit("solutions/u1_statistics.py", "return t.sum() / t.numel()", "return t.sum() / len(t.flatten())")
    own.edit("solutions/u1_statistics.py", "The arithmetic mean of all", "The average of all")
    own.edit("course.toml", 'names = ["mean"]\npoints = 1', 'names = ["mean"]\npoints = 2')
    own.edit("course.toml", 'names = ["covariance"]\npoints = 2', 'names = ["covariance"]\npoints = 1')
    built = own.build()
    assert built.changed == [unit] and not built.notes
    assert grades(own.root, unit) == before
    assert own.generate(unit)["success"]
    assert grades(own.root, unit) == before
    with gradebook(own.root) as book:
        cells = {cell.name: cell.max_score for cell in book.find_notebook(unit, unit).grade_cells}
        assert (cells["check-mean"], cells["check-covariance"]) == (2, 1)
    assert "The average of all" in (own.root / "release" / unit / f"{unit}.ipynb").read_text(encoding="utf-8")


def test_cells_that_come_too_late_are_named(
    own: OwnCourse, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unit = "u1_statistics"
    own.build()
    assert own.generate(unit)["success"]
    hand_in(own.root, unit)
    before = grades(own.root, unit)
    own.edit("solutions/u1_statistics.py", "# %%\ndef mean(", "# %%\ndef helper():\n    return 1\n\n\n# %%\ndef mean(")
    own.edit("solutions/u2_initialization.py", "# %% [markdown]\n", "# %% [markdown]\n# Read on.\n#\n")
    monkeypatch.chdir(own.root)
    status, out, _ = said("build", "--nbgrader", ".")
    note, last = out.splitlines()[-2:]
    assert status == 0 and last.endswith(", for each of u2_initialization")
    assert note.startswith(f"{unit} has graded submissions") and "given-helper (new)" in note
    status, out, _ = said("build", "--nbgrader", ".")
    assert (status, out) == (0, f"{note}\n"), "it is not in step, and there is nothing to generate"
    done = own.generate(unit)
    assert not done["success"] and "Cannot add or remove cells" in done["log"]
    assert grades(own.root, unit) == before
    remove = re.search(r": nbgrader (db .*?), then build", note)
    assert remove is not None
    command(own.root, *remove[1].split(), home=tmp_path)
    assert unit not in said("build", "--nbgrader", ".")[1]
    assert own.generate(unit)["success"]


def test_building_again_changes_nothing(own: OwnCourse) -> None:
    assert own.build().changed == UNITS
    before = {path: path.stat().st_mtime_ns for path in own.root.rglob("*") if path.suffix != ".db"}
    again = own.build()
    assert (again.written, again.changed, again.notes) == ([], [], [])
    assert {path: path.stat().st_mtime_ns for path in own.root.rglob("*") if path.suffix != ".db"} == before


def test_a_notebook_edited_by_hand_is_not_overwritten_and_holds_up_nothing_else(own: OwnCourse) -> None:
    own.build()
    path = own.root / "source" / "u1_statistics" / "u1_statistics.ipynb"
    notebook = nbformat.read(path, as_version=4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    first.outputs = [nbformat.v4.new_output("stream", text="hello")]
    nbformat.write(notebook, path)
    assert not edited_by_hand(path.read_text(encoding="utf-8")), "running a notebook is no edit"
    notebook.cells[2].source += "\n\nRead chapter 3 first."
    nbformat.write(notebook, path)
    before = path.read_bytes()
    own.edit("course.toml", 'id = "u2_initialization"\n', 'id = "u2_initialization"\ndue = 2027-03-01T23:59:00Z\n')
    own.edit("solutions/u3_activations.py", "# %% [markdown]\n", "# %% [markdown]\n# Read on.\n#\n")
    built = own.build()
    assert path.read_bytes() == before
    assert (built.kept, built.changed) == ([path], ["u3_activations"])
    due, said = built.notes
    assert said == f"{path} was edited by hand and stays as it is; --force would overwrite it, and keep a copy"
    assert due == "u2_initialization is due 2027-03-01 23:59 UTC"
    forced = own.build(force=True)
    assert forced.changed == ["u1_statistics"]
    assert "chapter 3" not in path.read_text(encoding="utf-8")
    (said,) = forced.notes
    copy = Path(said.rpartition(" ")[2])
    assert said == f"{path} was edited by hand; what it was is kept in {copy}"
    assert copy.read_bytes() == before
    assert own.generate("u1_statistics")["success"]
    released = own.root / "release" / "u1_statistics"
    assert "chapter 3" not in "".join(file.read_text(encoding="utf-8") for file in released.iterdir())


@pytest.mark.parametrize("how", ["full disk", "kill"])
def test_a_build_that_is_cut_off_cuts_no_file(own: OwnCourse, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    prose = "# ![Scales](pictures/activations.png)\n#\n# A layer multiplies"
    own.edit("solutions/u2_initialization.py", "# A layer multiplies", prose)
    own.build()
    before = all_files(own.root)
    for unit in UNITS:
        own.edit(f"solutions/{unit}.py", "# %% [markdown]\n", "# %% [markdown]\n# Read on.\n#\n")
    picture = own.folder / "solutions" / "pictures" / "activations.png"
    picture.write_bytes(picture.read_bytes() + b"more")

    def full(self: Path, content: str | bytes, **more: object) -> int:
        with self.open("wb") as file:
            file.write((content if isinstance(content, bytes) else content.encode())[:500])
        if how == "kill":
            monkeypatch.setattr("pathlib.Path.unlink", lambda *args, **more: None)  # nobody is left to tidy up
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as limited:
        limited.setattr("pathlib.Path.write_text", full)
        limited.setattr("pathlib.Path.write_bytes", full)
        with pytest.raises(OSError) as error:
            own.build()
    assert str(error.value.filename).startswith(str(own.root))
    after = all_files(own.root)
    assert {path: after[path] for path in before} == before
    if how == "kill":
        (left,) = set(after) - set(before)
        assert own.root / "source" not in left.parents, "nbgrader would hand it out"
    else:
        assert set(after) == set(before)
    monkeypatch.undo()
    shared = own.root / "source" / UNITS[0] / f"{UNITS[0]}.ipynb"
    shared.chmod(0o664)
    built = own.build()
    assert shared.stat().st_mode & 0o777 == 0o664
    assert (built.kept, built.changed, built.notes) == ([], UNITS, [])
    assert (own.root / "source" / "u2_initialization" / "pictures" / picture.name).read_bytes() == picture.read_bytes()


@pytest.mark.parametrize(
    "text", ["", "{}", "no json", '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}']
)
def test_what_was_not_derived_counts_as_edited(text: str) -> None:
    assert edited_by_hand(text)


def test_an_instructors_configuration_stays(own: OwnCourse) -> None:
    own.build()
    path = own.root / "nbgrader_config.py"
    mine = path.read_text(encoding="utf-8") + '\nget_config().CourseDirectory.course_id = "mine"\n'
    path.write_text(mine, encoding="utf-8")
    assert own.build().notes == []
    (note,) = own.build(db_url="sqlite:////tmp/other.db").notes
    assert "is yours and stays as it is, with the gradebook sqlite:///" in note
    path.write_text("c = get_config()\n", encoding="utf-8")
    (note,) = own.build().notes
    assert "it must begin with" in note and "configure(get_config(), __file__" in note
    assert path.read_text(encoding="utf-8") == "c = get_config()\n"
    path.write_text("import nothing_of_this_name\n", encoding="utf-8")
    with pytest.raises(NbgraderError, match=r"nbgrader_config\.py cannot be read: ModuleNotFoundError"):
        own.build()


def test_a_configuration_in_another_encoding(
    own: OwnCourse, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own.build()
    monkeypatch.chdir(own.root)
    config, table = own.root / "nbgrader_config.py", write(own.root / "class.csv", "id\nanna\n")
    before = config.read_bytes()
    latin = before + b"# gr\xfc\xdfe\n"
    for text in (latin, b"# -*- coding: latin-1 -*-\n" + latin, before.decode().encode("utf-16")):
        config.write_bytes(text)
        for words in (["build"], ["students", table]):
            status, _, err = said(*words, "--nbgrader", ".")
            # some Pythons read over such a comment
            if status == 0:
                assert err == "" and text.startswith((before, b"# -*- coding"))
                continue
            assert err.startswith("goodinit: nbgrader_config.py cannot be read: ") and err.count("\n") == 1
            assert text is not latin or err.endswith("; save it in UTF-8\n")
        assert config.read_bytes() == text


@pytest.mark.parametrize("how", ["locked", "readonly"])
def test_a_gradebook_that_cannot_be_written_to(
    own: OwnCourse, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    own.build()
    monkeypatch.chdir(own.root)
    before = all_files(own.root)
    book, table = own.root / "gradebook.db", write(own.root.parent / "class.csv", "id\nanna\n")
    own.edit("course.toml", 'id = "u2_initialization"\n', 'id = "u2_initialization"\ndue = 2027-03-01T23:59:00Z\n')
    own.edit("solutions/u3_activations.py", "# %% [markdown]\n", "# %% [markdown]\n# Read on.\n#\n")
    if how == "locked":
        other = sqlite3.connect(book, isolation_level=None)
        other.execute("begin immediate")
        sentence = "database is locked; somebody else is writing to it; run it again when they have done"
    else:
        # whoever runs this may be root, who may write to any file
        url = f"sqlite:///file:{book}?mode=ro&uri=true"
        config = (own.root / "nbgrader_config.py").read_text(encoding="utf-8")
        write(own.root / "nbgrader_config.py", config.replace(")  # noqa", f", db_url={url!r})  # noqa"))
        sentence = "attempt to write a readonly database; take the right to write to the file and its folder, and"
    for words in (["build"], ["students", table]):
        status, out, err = said(*words, "--nbgrader", ".")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("goodinit: the gradebook sqlite:///") and sentence in err
    if how == "locked":
        other.close()
    else:
        write(own.root / "nbgrader_config.py", config)
    assert all_files(own.root) == before
    built = own.build()
    assert (built.changed, built.notes) == (["u3_activations"], ["u2_initialization is due 2027-03-01 23:59 UTC"])
    assert said("students", table, "--nbgrader", ".") == (0, "1 student: 1 added, 0 changed\n", "")


def test_another_gradebook_is_remembered(own: OwnCourse, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    own.build(db_url=url)
    assert own.build().written == []
    assert not (own.root / "gradebook.db").exists()
    with Gradebook(url, "goodinit") as book:
        assert [assignment.name for assignment in book.assignments] == UNITS


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("nonsense", "the gradebook 'nonsense' cannot be reached"),
        ("sqlite:////nowhere/at/all.db", "cannot be reached: unable to open database file"),
        ("postgresql://anna:secret@127.0.0.1:1/x", "the gradebook postgresql+psycopg2://anna:***@127.0.0.1:1/x cannot"),
        ("nosuchsystem://x", "cannot be reached"),
    ],
)
def test_a_gradebook_that_is_not_there(own: OwnCourse, url: str, sentence: str) -> None:
    with pytest.raises(NbgraderError) as error:
        own.build(db_url=url)
    assert sentence in str(error.value) and "\n" not in str(error.value) and "secret" not in str(error.value)
    assert not (own.root / "nbgrader_config.py").exists(), "the next build must not inherit it"


def test_a_unit_that_is_gone_is_named_and_stays(own: OwnCourse, tmp_path: Path) -> None:
    unit = "u1_statistics"
    own.build()
    assert own.generate(unit)["success"]
    hand_in(own.root, unit)
    # what an instructor has beside ours
    exam = own.root / "source" / "exam" / "exam.ipynb"
    exam.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(), exam)
    with gradebook(own.root) as book:
        book.add_assignment("exam")
    own.edit("course.toml", 'id = "u1_statistics"', 'id = "u1_moments"')
    own.edit("course.toml", 'id = "u2_initialization"', 'id = "u2_variance"')
    (own.folder / "tests").unlink()
    shutil.copytree(ROOT / "tests", own.folder / "tests")
    for old, new in ((unit, "u1_moments"), ("u2_initialization", "u2_variance")):
        (own.folder / "solutions" / f"{old}.py").rename(own.folder / "solutions" / f"{new}.py")
        (own.folder / "tests" / f"test_{old}.py").rename(own.folder / "tests" / f"test_{new}.py")
    before = all_files(own.root / "source")
    built = own.build()
    gone = "is no unit of course.toml any more, and stays as it is; to be rid of it: remove "
    assert built.notes == [
        f"u1_statistics {gone}source/{unit} and release/{unit}, and nbgrader db assignment remove --force {unit}, "
        "with all its grades",
        f"u2_initialization {gone}source/u2_initialization, and nbgrader db assignment remove u2_initialization",
    ]
    assert before.items() <= all_files(own.root / "source").items()
    command(own.root, "db", "assignment", "remove", "u2_initialization", home=tmp_path)
    shutil.rmtree(own.root / "source" / unit)
    first, second = own.build().notes
    assert first.startswith(unit) and f"to be rid of it: remove release/{unit}, and nbgrader db" in first
    assert second == f"u2_initialization {gone}source/u2_initialization"


def test_due_dates_reach_the_gradebook(own: OwnCourse) -> None:
    own.edit("course.toml", 'id = "u2_initialization"\n', 'id = "u2_initialization"\ndue = 2027-03-01T23:59:00+01:00\n')
    assert own.build().notes == ["u2_initialization is due 2027-03-01 22:59 UTC"]
    assert own.build().notes == []
    with gradebook(own.root) as book:
        assert book.find_assignment("u2_initialization").duedate.isoformat() == "2027-03-01T22:59:00"
        book.update_or_create_assignment("u1_statistics", duedate="2027-01-01T10:00:00Z")
    own.edit("course.toml", "due = 2027-03-01T23:59:00+01:00", "due = 2027-03-02T23:59:00Z")
    assert own.build().notes == ["u2_initialization is due 2027-03-02 23:59 UTC"]
    with gradebook(own.root) as book:
        assert book.find_assignment("u1_statistics").duedate.isoformat() == "2027-01-01T10:00:00"


def test_pictures_that_the_prose_shows_come_along(own: OwnCourse) -> None:
    prose = "# ![Scales](pictures/activations.png) and ![far](https://example.org/x.png)\n#\n# A layer multiplies"
    own.edit("solutions/u2_initialization.py", "# A layer multiplies", prose)
    own.build()
    assert own.generate("u2_initialization")["success"]
    copied = own.root / "release" / "u2_initialization" / "pictures" / "activations.png"
    assert copied.read_bytes() == (ROOT / "solutions" / "pictures" / "activations.png").read_bytes()
    own.edit("solutions/u2_initialization.py", "pictures/activations.png", "../secret.png")
    with pytest.raises(BuildError, match=r"u2_initialization.py shows the picture \.\./secret\.png, which is not in"):
        pictures(own.course, own.course.by_unit["u2_initialization"])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('question="u1-outlier" points=2', 'question="u1-outlier"', "line 91: the question 'u1-outlier' needs points:"),
        ('question="u1-outlier"', 'question="u1-parabola"', "lines 91 and 179: the name 'u1-parabola' is given to two"),
        ('question="u1-outlier"', 'question="a b!"', "line 91: a question cannot have the name 'a b!': give it one in"),
        ('question="u1-outlier"', 'question=""', "line 91: a question cannot have the name ''"),
        ('question="u1-outlier"', "question=3", "line 91: a question cannot have the name 3"),
        (
            'question="u1-outlier"',
            'question="mean"',
            "the question 'mean' has the name of another cell of the notebook",
        ),
        ('question="u1-outlier"', 'question="check-mean"', "the question 'check-mean' has the name of another cell"),
        ('question="u1-outlier"', "question=u1", "line 91: `question=u1` cannot be read; write question="),
        (
            '"u1-outlier" points=2',
            '"u1-outlier" points=1e400',
            "needs points above 0 and below 1000000, not inf: quest",
        ),
        ('"u1-outlier" points=2', '"u1-outlier" points=NaN', "needs points above 0 and below 1000000, not nan: quest"),
        ('"u1-outlier" points=2', '"u1-outlier" points=nan', "points=nan` cannot be read; write question="),
        ('"u1-outlier" points=2', '"u1-outlier" points=-1', "needs points above 0 and below 1000000, not -1: quest"),
        ('"u1-outlier" points=2', '"u1-outlier" points=True', "needs points above 0 and below 1000000, not True"),
        ('"u1-outlier" points=2', '"u1-outlier" points=' + 400 * "9", "needs points above 0 and below 1000000, not 99"),
        ("    ### BEGIN SOLUTION\n    return t.sum()", "    return t.sum()", "has no solution region for mean"),
        (
            "def mean(",
            "def a():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n\n\ndef mean(",
            "belongs to no exercise",
        ),
    ],
)
def test_a_solution_that_makes_no_notebook(own: OwnCourse, old: str, new: str, sentence: str) -> None:
    own.edit("solutions/u1_statistics.py", old, new)
    with pytest.raises(BuildError, match=sentence) as error:
        own.build()
    assert "\n" not in str(error.value) and len(str(error.value)) < 250
    assert not own.root.exists()


def test_the_exercises_take_no_question_either_that_makes_no_notebook(own: OwnCourse) -> None:
    own.edit("solutions/u1_statistics.py", 'question="u1-outlier"', 'question="u1-parabola"')
    with pytest.raises(BuildError, match="lines 91 and 179"):
        derive(own.course)


def test_a_folder_is_needed(course: Course, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NbgraderError, match="is no folder"):
        build_course(course, tmp_path / "file")
    with pytest.raises(NbgraderError, match=r"file/class cannot be made: Not a directory; give a folder that may be"):
        build_course(course, tmp_path / "file" / "class")


def test_hidden_checks_that_are_not_there_are_said(own: OwnCourse) -> None:
    own.edit("course.toml", "[limits]", '[nbgrader]\nhidden = "../nohidden"\n\n[limits]')
    (note,) = own.build().notes
    assert note.startswith(f"there is no folder {own.folder.parent / 'nohidden'} with hidden checks")
    (own.folder.parent / "nohidden").mkdir()
    assert own.build().notes == []


def test_the_course_is_found_from_the_class_folder_wherever_it_was_built(
    own: OwnCourse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `goodinit build --nbgrader ../nbgrader` in a clone that is not the one installed."""
    monkeypatch.chdir(own.folder)
    build_course(own.course, Path("../nbgrader"))
    assert ", course='../course')" in (own.root / "nbgrader_config.py").read_text(encoding="utf-8")
    own.edit("course.toml", "[limits]", '[nbgrader]\ncourse_id = "mine"\n\n[limits]')
    monkeypatch.chdir(own.root)
    assert read_config(own.root).CourseDirectory.course_id == "mine"


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[limits]", "[nbgrader]\ninstal = 'x'\n[limits]", "unknown key 'instal' (did you mean 'install'?)"),
        ("[limits]", "[nbgrader]\ninstall = ''\n[limits]", "'install' takes one line of text, not ''"),
        ("[limits]", "[nbgrader]\nhidden = 3\n[limits]", "'hidden' takes a string, not 3"),
        ("[limits]", "[nbgrader.late]\npercent_per_day = 101\n[limits]", "takes a number from 0 to 100, not 101"),
        ("[limits]", "[nbgrader.late]\ngrace_hours = nan\n[limits]", "takes a number of 0 or more, not nan"),
        (
            'id = "u1_statistics"',
            'id = "u1_statistics"\ndue = 2027-03-01T23:59:00',
            "23:59:00Z, not 2027-03",
        ),
        (
            'id = "u1_statistics"',
            'id = "u1_statistics"\ndue = 2027-03-01',
            "with its zone, such as 2027-03-01T23:59:00Z",
        ),
        ('id = "u1_statistics"', 'id = "u1_statistics"\ndue = 2026-11-20', "not 2026-11-20"),
        ('id = "u1_statistics"', 'id = "u1_statistics"\ndue = 23:59:00', "not 23:59:00"),
        ("[limits]", '[nbgrader]\nhidden = "a\\u0000b"\n[limits]', r"'hidden' takes a folder, not 'a\x00b'"),
        (
            "[limits]",
            '[nbgrader]\ncourse_id = "a\\u0000b"\n[limits]',
            r"'course_id' takes one line of text, not 'a\x00b'",
        ),
        ('id = "u1_statistics"', 'id = "u1_statistics"\ndue = "tomorrow"', "not 'tomorrow'"),
        ('id = "u1_statistics"', 'id = "u1_statistics"\ndeu = 3', "unknown key 'deu' (did you mean 'due'?)"),
    ],
)
def test_a_wrong_setting_is_named_with_its_line(own: OwnCourse, old: str, new: str, sentence: str) -> None:
    own.edit("course.toml", old, new)
    wrong = new.splitlines()[1]
    line = (own.folder / "course.toml").read_text(encoding="utf-8").splitlines().index(wrong) + 1
    with pytest.raises(CourseError) as error:
        load(own.folder)
    assert str(error.value).startswith(f"course.toml, line {line}: ") and sentence in str(error.value)


# -- students


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_students_are_added_and_renewed(own: OwnCourse, tmp_path: Path) -> None:
    own.build()
    first = write(tmp_path / "a.csv", "id,first_name,last_name,email\nanna,Anna,Noether,a@x.org\nbert,Bert,Bär,\n\n")
    excel = 'ID;Last Name\r\nanna;Weyl\r\nbert;Bär\r\ncarl;"Gauß; C."\r\n'
    second = write(tmp_path / "b.csv", excel.encode("utf-8-sig"))
    with gradebook(own.root) as book:
        done = enter_students(book, read_students(first))
        assert (done.students, done.added, done.changed) == (2, 2, 0)
        done = enter_students(book, read_students(first))
        assert (done.students, done.added, done.changed) == (2, 0, 0)
        done = enter_students(book, read_students(second))
        assert (done.students, done.added, done.changed) == (3, 1, 1)
        found = {one.id: (one.first_name, one.last_name, one.email) for one in book.students}
    assert found == {
        "anna": ("Anna", "Weyl", "a@x.org"),
        "bert": ("Bert", "Bär", None),
        "carl": (None, "Gauß; C.", None),
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty"),
        ("name,email\n", "line 1: unknown column 'name'"),
        ("id,frist_name\n", "line 1: unknown column 'frist_name' (did you mean 'first_name'?)"),
        ("first_name\nAnna\n", "line 1: the column 'id' is missing"),
        ("id,id\n", "line 1: the column 'id' is there twice"),
        ("id,email\nanna\n", "line 2: 1 values for 2 columns"),
        ("id,email\nanna,x\n,y\n", "line 3: the id is missing"),
        ("id,email\nanna,x\n\nanna,y\n", "line 4: the id 'anna' is used twice, first in line 2"),
        ("id\n../x\n", "line 2: the id '../x' cannot name a folder"),
        ("id\nan+na\n", "line 2: the id 'an+na' cannot name a folder"),
        ("id\nanna\na*b\n", "line 3: the id 'a*b' has * in it"),
        ("id\na[b]\n", "line 2: the id 'a[b]' has [ in it"),
        ("id\na?\n", "line 2: the id 'a?' has ? in it"),
        (f"id\n{'a' * 129}\n", f"line 2: the id '{'a' * 20}'... is longer than 128 bytes"),
        ("id\nan\u200bna\n", "line 2: the id 'an\\u200bna' has a character that cannot be seen (U+200B)"),
        ("id\nan\u3164na\n", "has a character that cannot be seen (U+3164)"),
        ('id,email\nanna,"x\n', "line 2: unexpected end of data"),
        (b"id\n\xff\n", "is no UTF-8 text"),
    ],
)
def test_a_bad_table_is_one_sentence_and_enters_nobody(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    with pytest.raises(NbgraderError) as error:
        read_students(write(tmp_path / "class.csv", text))
    assert sentence in str(error.value) and "\n" not in str(error.value)


# -- the commands


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.chdir(ROOT)

    def run(*words: Any) -> tuple[int, str, str]:
        status = main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_the_commands_say_what_they_did(said: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    root, table = tmp_path / "course", write(tmp_path / "class.csv", "id\nanna\n")
    status, out, err = said("students", table, "--nbgrader", root)
    assert status == 2
    assert err == f"goodinit: {root} holds no nbgrader course: goodinit build --nbgrader {root} makes one\n"
    status, out, _ = said("build", "--nbgrader", root)
    assert status == 0 and f"Next, in {root}: nbgrader generate_assignment --force NAME" in out
    status, out, _ = said("build", "--nbgrader", root)
    assert status == 0 and out == f"{root} is in step with the course\n"
    assert said("students", table, "--nbgrader", root) == (0, "1 student: 1 added, 0 changed\n", "")
    status, out, err = said("students", tmp_path / "none.csv", "--nbgrader", root)
    assert status == 2 and err == f"goodinit: {tmp_path / 'none.csv'}: No such file or directory\n"
    status, out, err = said("build", "--db", "sqlite://")
    assert status == 2 and "say --nbgrader DIR with it" in err
    status, out, err = said("build", "--check", "--nbgrader", root)
    assert status == 2 and "--check is for exercises/" in err


def all_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("mine", ["", "\nget_config().Exchange.root = '/srv'\n"])
def test_a_class_folder_knows_its_course(
    own: OwnCourse, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, mine: str
) -> None:
    own.edit("course.toml", 'id = "u1_statistics"\n', 'id = "u1_statistics"\ndue = 2027-03-01T23:59:00Z\n')
    own.build()
    config = own.root / "nbgrader_config.py"
    config.write_text(config.read_text(encoding="utf-8") + mine, encoding="utf-8")
    monkeypatch.chdir(own.root)
    before = all_files(own.root)
    assert said("build", "--nbgrader", ".") == (0, ". is in step with the course\n", "")
    assert all_files(own.root) == before
    own.edit("course.toml", "due = 2027-03-01", "due = 2027-03-02")
    status, out, _ = said("build", "--nbgrader", ".")
    assert status == 0 and "u1_statistics is due 2027-03-02 23:59 UTC" in out
    table = write(own.root / "class.csv", "id\nanna\n")
    own.edit("course.toml", "title = ", "titel = ")
    for words in (["students", table, "--nbgrader", "."], ["similar", "submitted"]):
        status, _, err = said(*words)
        assert status == 2 and "course.toml, line 1: the course: unknown key 'titel'" in err


def test_two_courses_are_not_mixed(
    own: OwnCourse, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own.build()
    before = all_files(own.root)
    for words in (["build"], ["build", "--force"], ["autograde", "u1"], ["students", "x"], ["grades", "--format=csv"]):
        status, out, err = said(*words, "--nbgrader", own.root)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert f"{own.root} is configured for the course in {own.folder}, and this folder belongs to the one" in err
        assert all_files(own.root) == before
    config = own.root / "nbgrader_config.py"
    moved = re.search("write (course='.*') into the call in", err)
    assert moved is not None
    config.write_text(config.read_text(encoding="utf-8").replace("course='../course'", moved[1]), encoding="utf-8")
    assert said("build", "--nbgrader", own.root)[0] == 0


def test_a_course_that_has_moved_is_found_again_by_building_there(
    own: OwnCourse, said: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    own.build()
    old, own.folder = own.folder, own.folder.rename(own.folder.with_name("moved"))
    monkeypatch.chdir(own.root)
    status, _, err = said("build", "--nbgrader", ".")
    assert status == 2 and err.count("\n") == 1
    assert f"names the course in {old}, which has no course.toml; where the course has moved, run goodinit build" in err
    monkeypatch.chdir(own.folder)
    assert said("build", "--nbgrader", own.root)[0] == 0
    assert "course='../moved'" in (own.root / "nbgrader_config.py").read_text(encoding="utf-8")
