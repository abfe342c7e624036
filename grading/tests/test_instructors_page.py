"""INSTRUCTORS.md, from an empty folder to exported grades: every command on the page is run, in the page's order."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="the page is about nbgrader, which is not installed")
pytest.importorskip("copydetect", reason="comparing submissions takes copydetect, which is not installed")

from grading.nbgrader import gradebook
from grading.sandbox import Sandbox

from .conftest import ROOT
from .handing_in import MEAN, UNIT, VARIANCE

PAGE = ROOT / "grading" / "INSTRUCTORS.md"
# nbgrader's own queries
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Object of type <Submitted")]

FENCED = re.compile(r"^```(\w*) *(.*)\n((?:.*\n)*?)```$", re.MULTILINE)
# where commands are run that take a server, a cluster or a network, and what is run there
ELSEWHERE = {
    "Makefile": ["install --no-compile --constraint .ci/constraints.txt\n", "$(INSTALL) --editable '.[dev]'\n"],
    "grading/tests/test_cli.py": ['"doctor"'],
    "grading/tests/test_formgrader.py": ['"jupyterlab"', '"Nbgrader"', '"Formgrader"', '"Manual Grading"'],
    "grading/tests/test_postgresql.py": ['"build", "--nbgrader"', '"--db"', "postgresql://"],
    "grading/tests/test_cluster.py": ["distributed.cli.dask_", '"scheduler"', '"worker"'],
    "grading/tests/test_parallel_autograde.py": ['autograde("--scheduler"'],
}

SUM = "def mean(t):\n    return t.sum()\n"
SAMPLE = "def variance(t):\n    return ((t - mean(t)) ** 2).sum() / (t.numel() - 1)\n"
UNCHECKED = "def covariance(x, y):\n    return mean((x - mean(x)) * (y - mean(y)))\n"
WRITTEN = {"u1-outlier": "The standard deviation.", "u1-parabola": "It is 0, and no."}


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, the file that it is part of or where it is run instead, and its text."""

    language: str
    word: str
    text: str

    @property
    def elsewhere(self) -> str | None:
        return self.word.partition("covered-by=")[2] or None


def blocks() -> list[Block]:
    return [Block(*match) for match in FENCED.findall(PAGE.read_text(encoding="utf-8"))]


def installed(clone: Path, place: Path) -> Path:
    """The commands of a virtual environment that has what this one has, and the clone in place of this checkout."""
    venv.create(place, symlinks=True)
    [packages] = place.glob("lib/python3*/site-packages")
    # what stands in a folder that is merely named there is not followed: so this checkout is not installed in it
    (packages / "clone.pth").write_text(f"{clone}\n{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    for name in ("etc", "share"):
        (place / name).symlink_to(Path(sys.prefix) / name)
    python = f"#!{sys.executable}\n".encode()
    for script in Path(sys.executable).parent.iterdir():
        if script.is_file() and (text := script.read_bytes()).startswith(python):
            (place / "bin" / script.name).write_bytes(text.replace(python, f"#!{place / 'bin' / 'python'}\n".encode()))
            (place / "bin" / script.name).chmod(0o755)
    return place / "bin"


class Instructor:
    """Follows the page in an empty folder; students hand in meanwhile, and answers are graded by hand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone, self.root, self.exchange = folder / "goodinit", folder / "class", folder / "exchange"
        self.here = self.clone
        self.said: dict[str, str] = {}
        self.judged: dict[str, int] = {}
        left_out = shutil.ignore_patterns("__pycache__", "tests", "trust", "bench")
        shutil.copytree(ROOT / "grading", self.clone / "grading", ignore=left_out)
        for name in ("solutions", "tests", "exercises"):
            shutil.copytree(ROOT / name, self.clone / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "course.toml", self.clone)
        self.exchange.mkdir(mode=0o777)
        self.exchange.chmod(0o777)
        commands = os.pathsep.join([str(installed(self.clone, folder / "venv")), os.environ["PATH"]])
        self.environment = os.environ | {"PATH": commands, "HOME": str(folder)}

    def follow(self, block: Block) -> None:
        text = block.text.replace("/srv/nbgrader/exchange", str(self.exchange))
        if block.language == "toml":
            self.configure(text)
        elif block.word:
            path = self.here / block.word
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(text)
        else:
            self.run(text)

    def configure(self, text: str) -> None:
        """Puts tables into course.toml: what a unit has more goes where the unit is."""
        path = self.clone / "course.toml"
        course = path.read_text(encoding="utf-8")
        known = re.match(r'\[\[unit\]\]\nid = "\w+"\n', text)
        assert not known or course.count(known[0]) == 1
        path.write_text(course.replace(known[0], text) if known else f"{course}\n{text}", encoding="utf-8")

    def run(self, text: str) -> None:
        """Runs a block as a person would type it, each where the one before has ended."""
        place = self.folder / "here"
        done = subprocess.run(
            ["bash", "-e"],
            input=f"{text}\npwd > {place}\n",
            cwd=self.here,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}"
        self.said[text] = done.stdout
        self.here = Path(place.read_text().strip())

    def notebook(self, answers: dict[str, str]) -> str:
        """What a student hands in: the released notebook with answers."""
        notebook = nbformat.read(self.exchange / "goodinit" / "outbound" / UNIT / f"{UNIT}.ipynb", 4)
        for cell in notebook.cells:
            cell.source = answers.get(cell.id, cell.source)
        text: str = nbformat.writes(notebook)
        return text

    def submit(self, student: str, when: str, answers: dict[str, str]) -> None:
        """Does what `nbgrader submit` does for another user."""
        place = self.exchange / "goodinit" / "inbound" / f"{student}+{UNIT}+{when}.000000 UTC+random"
        place.mkdir(parents=True)
        (place / f"{UNIT}.ipynb").write_text(self.notebook(answers), encoding="utf-8")
        (place / "timestamp.txt").write_text(f"{when}.000000 UTC")
        (place / "submission_secret.txt").write_text(f"the key of {student}")

    def right(self) -> dict[str, str]:
        """The reference's answers."""
        source = nbformat.read(self.root / "source" / UNIT / f"{UNIT}.ipynb", 4)
        solutions = {
            cell.id: re.sub(r" *### (BEGIN|END) SOLUTION\n?", "", cell.source)
            for cell in source.cells
            if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")
        }
        return solutions | WRITTEN

    def scores(self) -> dict[str, tuple[float, float]]:
        """The points of each student, and what being late has cost."""
        with gradebook(self.root) as book:
            found = [book.find_submission(UNIT, student.id) for student in book.students]
            return {one.student.id: (one.score, one.late_submission_penalty) for one in found}


# -- what others do meanwhile


def students_submit(instructor: Instructor) -> None:
    right = instructor.right()
    instructor.submit("ada", "2027-02-20 12:00:00", right)
    instructor.submit("emmy", "2027-03-02 12:00:00", right | {"variance": SAMPLE, "covariance": UNCHECKED})


def one_uploads(instructor: Instructor) -> None:
    (instructor.folder / "Downloads").mkdir()
    with zipfile.ZipFile(instructor.folder / "Downloads" / "submissions.zip", "w") as archive:
        archive.writestr(f"bob_{UNIT}.ipynb", instructor.notebook({"mean": SUM}))


def one_hands_in_again(instructor: Instructor) -> None:
    instructor.submit("bob", "2027-02-28 12:00:00", {"mean": MEAN, "variance": VARIANCE})


def questions_are_graded(instructor: Instructor) -> None:
    with gradebook(instructor.root) as book:
        for student, points in {"ada": (2, 1.5), "emmy": (1, 0.5)}.items():
            for question, given in zip(WRITTEN, points, strict=True):
                grade = book.find_grade(question, UNIT, UNIT, student)
                assert grade.needs_manual_grade
                grade.manual_score, grade.needs_manual_grade = given, False
        book.db.commit()


def points_change(instructor: Instructor) -> None:
    path = instructor.clone / "course.toml"
    text = path.read_text(encoding="utf-8")
    for exercise, before, after in (("mean", 1, 2), ("covariance", 2, 1)):
        entry = f'id = "{exercise}"\nnames = ["{exercise}"]\npoints = '
        assert text.count(f"{entry}{before}\n") == 1
        text = text.replace(f"{entry}{before}\n", f"{entry}{after}\n")
    path.write_text(text, encoding="utf-8")


# -- what holds afterwards

BOB = 0.333333


def there_is_a_course(instructor: Instructor) -> None:
    assert len(list((instructor.root / "source").glob("*/*.ipynb"))) == 9


def it_has_been_collected(instructor: Instructor) -> None:
    found = (instructor.root / "submitted").glob(f"*/{UNIT}/{UNIT}.ipynb")
    assert {path.parts[-3] for path in found} == {"ada", "emmy", "bob"}


def records(instructor: Instructor) -> dict[str, int]:
    """When each of the judge's records was written."""
    return {path.stem: path.stat().st_mtime_ns for path in (instructor.root / ".goodinit" / UNIT).glob("*.json")}


def it_has_been_judged(instructor: Instructor) -> None:
    instructor.judged = records(instructor)
    assert set(instructor.judged) == {"ada", "emmy", "bob"}
    # 9 points for code; of emmy's, a tenth for the day; of bob's, one of the checks of mean holds for a sum
    assert instructor.scores() == {"ada": (9, 0), "emmy": (7.5, 0.75), "bob": (BOB, 0)}


def nothing_is_judged_twice(instructor: Instructor) -> None:
    before = instructor.judged
    it_has_been_judged(instructor)
    assert records(instructor) == before
    hidden_checks_count(instructor)
    assert "3 graded" in said(instructor, "--jobs")


def there_is_feedback(instructor: Instructor) -> None:
    page = (instructor.root / "feedback" / "emmy" / UNIT / f"{UNIT}.html").read_text(encoding="utf-8")
    assert "Your variance divides by n - 1, as for a sample" in page
    assert len(list((instructor.exchange / "goodinit" / "feedback").iterdir())) == 2
    assert "bob has not handed in through the exchange" in said(instructor, "release_feedback")


EXPORTED = pytest.approx({"ada": 12.5, "emmy": 9 - 0.9, "bob": BOB}, abs=0.01)


def grades_are_exported(instructor: Instructor) -> None:
    own = rows(instructor.root / "grades.csv")
    assert {row["student_id"]: float(row["score"]) for row in own if row["assignment"] == UNIT} == EXPORTED
    canvas = [row for row in rows(instructor.root / "canvas.csv") if row["SIS Login ID"]]
    assert {row["SIS Login ID"]: float(row[UNIT]) for row in canvas} == EXPORTED
    moodle = rows(instructor.root / "moodle.csv")
    assert {row["Username"]: float(row[UNIT]) for row in moodle} == EXPORTED
    index = json.loads((instructor.root / "gradescope" / "students.json").read_text())
    scores = {
        address.partition("@")[0]: json.loads((instructor.root / "gradescope" / name).read_text())["score"]
        for address, name in index[UNIT].items()
    }
    assert scores == EXPORTED


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def submissions_are_compared(instructor: Instructor) -> None:
    assert "of 3 submissions with text in common" in said(instructor, "goodinit similar")
    assert (instructor.root / "similar.html").stat().st_size > 0


def hidden_checks_count(instructor: Instructor) -> None:
    for student, shown in {"ada": "checks passed (4)", "emmy": "wrong: 0 of 4 checks passed"}.items():
        path = instructor.root / "autograded" / student / UNIT / f"{UNIT}.ipynb"
        notebook = path.read_text(encoding="utf-8")
        cell = next(cell for cell in nbformat.reads(notebook, 4).cells if cell.id == "check-variance")
        page = cell.outputs[0].data["text/html"]
        assert shown in page
        assert "The variance of two numbers is a quarter of their squared distance." in page
        assert "This sentence stays here" not in notebook
        assert "variance([3, 7])" not in notebook


def one_is_graded_again(instructor: Instructor) -> None:
    assert "3 graded, 2 of them before" in said(instructor, "collect u1_statistics --update")
    assert instructor.scores()["bob"] == (2, 0)


def there_was_more_time(instructor: Instructor) -> None:
    # and points by hand have stayed
    assert instructor.scores()["emmy"] == (9, 0)


def points_have_changed(instructor: Instructor) -> None:
    assert instructor.scores() == {"ada": (12.5, 0), "emmy": (7.75 + 1.5, 0), "bob": (3, 0)}


def nobody_comes_back(instructor: Instructor) -> None:
    instructor.run(f"goodinit autograde {UNIT} --nbgrader . --force")
    assert set(instructor.scores()) == {"ada", "emmy"}


def said(instructor: Instructor, command: str) -> str:
    return next(reversed([text for block, text in instructor.said.items() if command in block]))


# by a command of the block
MEANWHILE: dict[str, Callable[[Instructor], None]] = {
    "nbgrader collect u1_statistics\n": students_submit,
    "nbgrader zip_collect": one_uploads,
    "nbgrader generate_feedback": questions_are_graded,
    "nbgrader collect u1_statistics --update": one_hands_in_again,
    "goodinit build --nbgrader .\n": points_change,
}
AFTERWARDS: dict[str, Callable[[Instructor], None]] = {
    "goodinit build --nbgrader ../class\n": there_is_a_course,
    "nbgrader zip_collect u1_statistics\n": it_has_been_collected,
    "nbgrader zip_collect u1_statistics --force": it_has_been_collected,
    "nbgrader autograde u1_statistics\n": it_has_been_judged,
    "goodinit autograde u1_statistics --nbgrader . --jobs 2": nothing_is_judged_twice,
    "nbgrader generate_feedback": there_is_feedback,
    "nbgrader export": grades_are_exported,
    "goodinit similar": submissions_are_compared,
    "nbgrader collect u1_statistics --update": one_is_graded_again,
    "grant_extension": there_was_more_time,
    "goodinit build --nbgrader .\n": points_have_changed,
    "nbgrader db student remove": nobody_comes_back,
}


@pytest.fixture
def instructor(tmp_path: Path) -> Iterator[Instructor]:
    yield Instructor(tmp_path)


def test_every_command_of_the_page_works(instructor: Instructor, sandbox: Sandbox) -> None:
    todo = [*MEANWHILE.items(), *AFTERWARDS.items()]
    for block in blocks():
        if block.elsewhere:
            continue
        for command, happens in MEANWHILE.items():
            if block.language == "sh" and command in block.text and (command, happens) in todo:
                happens(instructor)
                todo.remove((command, happens))
        instructor.follow(block)
        for command, holds in AFTERWARDS.items():
            if block.language == "sh" and command in block.text and (command, holds) in todo:
                holds(instructor)
                todo.remove((command, holds))
    assert not todo, "the page no longer has these commands"


def test_what_takes_a_server_or_a_network_is_run_elsewhere() -> None:
    named = {block.elsewhere for block in blocks()} - {None}
    assert named == set(ELSEWHERE)
    for name, words in ELSEWHERE.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for word in words:
            assert word in text, f"{name} has no {word}"


def test_every_link_of_the_page_leads_somewhere() -> None:
    text = PAGE.read_text(encoding="utf-8")
    titles = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)}
    links = re.findall(r"\]\(([^)]+)\)", FENCED.sub("", text))
    assert links
    for link in links:
        assert link[1:] in titles if link.startswith("#") else (PAGE.parent / link).exists(), link
