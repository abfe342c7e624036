"""`goodinit grades`: what nbgrader stores is what each system reads, by its own rules, for the right people."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nbformat import NotebookNode

pytest.importorskip("nbgrader", reason="a gradebook takes nbgrader, which is not installed")

from nbgrader.api import Gradebook
from nbgrader.plugins import CsvExportPlugin

from grading.cli import main
from grading.course import Course, load
from grading.nbgrader import build_course, gradebook
from grading.nbgrader._exports import DECIMALS, FORMATS
from grading.nbgrader._roster import match, read_roster
from grading.nbgrader._scores import Assignment, ExportError, Part, Score, Scores, Student
from grading.sandbox import Sandbox
from grading.verdict import clean

from .conftest import ROOT

# nbgrader's own queries
pytestmark = pytest.mark.filterwarnings("ignore:Object of type <Submitted")

DUE = datetime(2027, 3, 1, 23, 59)
LATE = datetime(2027, 3, 2, 12, 0)
FORMULA = '=HYPERLINK("http://evil.example","click")'
PEOPLE = {
    "ada": ("Ada", "Lovelace", "ada@uni.example"),
    "emmy": ("Emmy", "Noether", "emmy@uni.example"),
    "comma": ('Jo "J" M', "Müller, Jr.", "Jo.Mueller@uni.example"),
    "formula": (FORMULA, "+1-1", "f@uni.example"),
    "idle": ("Idle", "Person", "idle@uni.example"),
}
# exercise, question: what the judge gave, what a person gave, extra credit
GRADES: dict[str, dict[str, tuple[float | None, float | None, float | None]]] = {
    "ada": {"check-mean": (1.0, None, None), "check-variance": (0.333333, None, None), "u1-outlier": (None, 1.5, None)},
    "emmy": {"check-mean": (0.1, None, None), "check-variance": (0.2, None, 0.5), "u1-outlier": (None, None, None)},
    "comma": {"check-mean": (1.0, 0.0, None), "check-variance": (1e-06, None, None), "u1-outlier": (None, 2.0, None)},
    "formula": {"check-mean": (1.0, None, None), "check-variance": (1.0, None, None), "u1-outlier": (None, 0.0, None)},
}


def fill(book: Gradebook) -> None:
    """A gradebook in which everything is once: partial points, changes by hand, lateness, somebody who did nothing."""
    for unit in ("u1_statistics", "u7_normalization"):
        book.add_assignment(unit, duedate=DUE if unit == "u1_statistics" else None)
        book.add_notebook(unit, unit)
    for cell, points in (("check-mean", 1), ("check-variance", 1)):
        book.add_grade_cell(cell, "u1_statistics", "u1_statistics", max_score=points, cell_type="code")
    book.add_grade_cell("u1-outlier", "u1_statistics", "u1_statistics", max_score=2, cell_type="markdown")
    book.add_grade_cell("check-batch_norm", "u7_normalization", "u7_normalization", max_score=6, cell_type="code")
    for student, (first, last, email) in PEOPLE.items():
        book.add_student(student, first_name=first, last_name=last, email=email)
    for student, cells in GRADES.items():
        book.add_submission("u1_statistics", student, timestamp=LATE if student == "ada" else DUE)
        for cell, (auto, manual, extra) in cells.items():
            grade = book.find_grade(cell, "u1_statistics", "u1_statistics", student)
            grade.auto_score, grade.manual_score, grade.extra_credit = auto, manual, extra
            grade.needs_manual_grade = auto is None and manual is None
    book.find_submission_notebook("u1_statistics", "u1_statistics", "ada").late_submission_penalty = 0.25
    book.find_submission_notebook("u1_statistics", "u1_statistics", "formula").late_submission_penalty = 99.0
    book.add_submission("u7_normalization", "ada")
    grade = book.find_grade("check-batch_norm", "u7_normalization", "u7_normalization", "ada")
    grade.auto_score, grade.needs_manual_grade = 0.0, False
    book.db.commit()


@pytest.fixture(scope="module")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("class")
    with gradebook(root) as book:
        fill(book)
    return root


def goodinit(*words: str, here: Path = ROOT) -> int:
    with contextlib.chdir(here):
        return main([str(word) for word in words])


def rows_of(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def export(folder: Path, kind: str, out: Path, *words: object) -> str:
    options = ("--nbgrader", str(folder), "--format", kind, "--out", str(out), *map(str, words))
    assert goodinit("grades", *options, here=folder) in (0, 1)
    return out.read_text(encoding="utf-8")


def stored(folder: Path) -> dict[tuple[str, str], float]:
    """What nbgrader's own properties say, for whoever has handed in."""
    with gradebook(folder) as book:
        return {
            (submission.student.id, assignment.name): round(
                max(0.0, submission.score - submission.late_submission_penalty), DECIMALS
            )
            for assignment in book.assignments
            for submission in assignment.submissions
        }


def canvas_reads(text: str, people: dict[str, dict[str, str]]) -> tuple[dict[str, float], dict[tuple[str, str], float]]:
    """Points possible and scores, read by Canvas's documented rules; `people` are Canvas's own, by name."""
    header, *lines = rows_of(text)
    assert len(header) > 3
    assert "Student" in header[0]
    assert "ID" in header[1]
    end = header.index("Section") + 1
    assert set(header[:end]) <= {"Student", "ID", "SIS User ID", "SIS Login ID", "Section"}
    own = ("Current Score", "Final Score", "Current Grade", "Final Grade", "Current Points", "Final Points", "Override")
    titles = {n: title for n, title in enumerate(header) if n >= end and not any(word in title for word in own)}
    possible, scores = {}, {}
    for line in lines:
        assert len(line) == len(header)
        if "Points Possible" in line[0]:
            possible = {titles[n]: float(line[n]) for n in titles}
            continue
        who = None
        for column in ("ID", "SIS User ID", "SIS Login ID"):
            cell = line[header.index(column)] if column in header[:end] else ""
            number = re.match(r"\d*", cell)[0] if column == "ID" else cell  # type: ignore[index]
            found = [name for name, ids in people.items() if number and ids.get(column) == number]
            who = who or (found[0] if found else None)
        who = who or (line[0] if line[0] in people else None)
        assert who, f"{line} would be a new student"
        scores |= {(who, titles[n]): float(line[n]) for n in titles if line[n]}
    return possible, scores


def moodle_reads(text: str, column: str, known: Iterable[str], items: Iterable[str]) -> dict[tuple[str, str], float]:
    """Grades read by Moodle's rules, with people mapped from `column`: an unknown one ends the import."""
    header, *lines = rows_of(text)
    assert len(set(header)) == len(header)
    scores = {}
    who = None
    for line in lines:
        assert len(line) == len(header)
        if line[header.index(column)]:
            who = line[header.index(column)]
            assert who in set(known)
        for item in items:
            value = line[header.index(item)].strip()
            if value not in ("", "-"):
                assert float(value) <= 100
                assert (who, item) not in scores
                scores[str(who), item] = float(value)
    return scores


def gradescope_reads(text: str) -> dict[str, Any]:
    """A results.json, checked against the keys and values that the specification has."""
    results: dict[str, Any] = json.loads(text)
    formats, shown = (
        {"text", "html", "simple_format", "md", "ansi"},
        {"hidden", "after_due_date", "after_published", "visible"},
    )
    top = {"score", "output", "output_format", "test_output_format", "test_name_format", "stdout_visibility", "tests"}
    assert set(results) <= top | {"execution_time", "visibility", "extra_data", "leaderboard"}
    assert isinstance(results["score"], float)
    assert {results[key] for key in top if key.endswith("_format")} == {"text"} < formats
    assert results["stdout_visibility"] in shown
    for test in results["tests"]:
        assert set(test) <= {"score", "max_score", "status", "name", "number", "output", "tags", "visibility"}
        assert test.get("visibility", "visible") in shown
        assert test.get("status", "passed") in ("passed", "failed")
    return results


def test_csv_says_what_nbgraders_own_export_says(class_folder: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    class_folder = ungraded(class_folder, tmp_path / "class")
    with gradebook(class_folder) as book:
        for student in book.students:  # which nbgrader does not quote
            if "," in student.last_name or "," in (student.first_name or ""):
                student.last_name, student.first_name = "Mueller", "Jo"
        CsvExportPlugin(to=str(own)).export(book)
        book.db.rollback()
    ours = rows_of(export(class_folder, "csv", tmp_path / "ours.csv"))
    theirs = rows_of(own.read_text())
    assert ours[0] == theirs[0]
    names = [theirs[0].index(name) for name in ("last_name", "first_name")]
    numbers = range(len(ours[0]) - 4, len(ours[0]))

    def plain(row: list[str]) -> list[object]:
        return [
            round(float(cell), DECIMALS) if n in numbers else "" if n in names else cell for n, cell in enumerate(row)
        ]

    assert sorted(map(plain, ours[1:]), key=str) == sorted(map(plain, theirs[1:]), key=str)


def test_people_without_names_stand_in_the_order_of_their_ids(class_folder: Path, tmp_path: Path) -> None:
    """Which a database that has no order of its own would not give them."""
    folder = tmp_path / "class"
    shutil.copytree(class_folder, folder)
    with gradebook(folder) as book:
        for student in ("d", "b", "c"):
            book.add_student(student)
    rows = rows_of(export(folder, "csv", tmp_path / "grades.csv"))
    of = rows[0].index("student_id")
    assert [row[of] for row in rows[1:] if row[of] in "bcd"] == [*"bcd"] * 2


def test_canvas_reads_what_nbgrader_stores(class_folder: Path, tmp_path: Path) -> None:
    text = export(class_folder, "canvas", tmp_path / "canvas.csv")
    possible, scores = canvas_reads(text, {name: {"SIS Login ID": name} for name in PEOPLE})
    assert possible == {"u1_statistics": 4, "u7_normalization": 6}
    assert scores == stored(class_folder)


def test_moodle_reads_what_nbgrader_stores(class_folder: Path, tmp_path: Path) -> None:
    text = export(class_folder, "moodle", tmp_path / "moodle.csv")
    items = ("u1_statistics", "u7_normalization")
    assert moodle_reads(text, "Username", PEOPLE, items) == stored(class_folder)
    addresses = {email: student for student, (_, _, email) in PEOPLE.items()}
    by_address = moodle_reads(text, "Email address", addresses, items)
    assert {(addresses[email], item): points for (email, item), points in by_address.items()} == stored(class_folder)


def test_gradescope_reads_what_nbgrader_stores(class_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert goodinit("grades", "--nbgrader", class_folder, "--format", "gradescope-json", "--out", out) == 0
    index = json.loads((out / "students.json").read_text())
    addresses = {email: student for student, (_, _, email) in PEOPLE.items()}
    found = {}
    for unit, files in index.items():
        for email, name in files.items():
            results = gradescope_reads((out / name).read_text())
            found[addresses[email], unit] = results["score"]
    assert found == stored(class_folder)
    assert {str(path.relative_to(out)) for path in out.rglob("*.json")} - {"students.json"} == {
        name for files in index.values() for name in files.values()
    }
    ada = gradescope_reads((out / index["u1_statistics"]["ada@uni.example"]).read_text())
    assert ada["output"] == "2.583333 of 4 points\n2.833333 points less 0.25 for being late"
    assert [(test["name"], test["score"]) for test in ada["tests"]] == [
        ("u1-outlier", 1.5), ("mean", 1.0), ("variance", 0.333333)
    ]  # fmt: skip
    emmy = gradescope_reads((out / index["u1_statistics"]["emmy@uni.example"]).read_text())
    assert emmy["tests"][0] == {"name": "u1-outlier", "max_score": 2.0, "output": "waits to be graded by hand"}


def test_whoever_waits_for_a_person_is_named(class_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert goodinit("grades", "--nbgrader", class_folder, "--format", "csv") == 0
    assert "u1_statistics waits to be graded by hand for emmy" in capsys.readouterr().err


def ungraded(class_folder: Path, folder: Path) -> Path:
    """A copy of the class in which two more submissions of unit 7 have no points from anybody.

    That of emmy could not be read, so that nbgrader has left no notebook; that of comma was read, and waits.
    """
    shutil.copytree(class_folder, folder)
    with gradebook(folder) as book:
        for student in ("emmy", "comma"):
            book.add_submission("u7_normalization", student)
    path = folder / "autograded" / "comma" / "u7_normalization" / "u7_normalization.ipynb"
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    return folder


def test_what_could_not_be_graded_is_no_zero(
    class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ungraded(class_folder, tmp_path / "class")
    wanted, unit = stored(folder), "u7_normalization"
    assert wanted.pop(("emmy", unit)) == wanted.pop(("comma", unit)) == wanted["ada", unit] == 0
    people = {name: {"SIS Login ID": name} for name in PEOPLE}
    assert canvas_reads(export(folder, "canvas", tmp_path / "canvas.csv"), people)[1] == wanted
    said = capsys.readouterr().err
    assert f"{unit} could not be graded for emmy, as autograding has said; it has no score until it is handed" in said
    assert f"{unit} waits to be graded by hand for comma\n" in said
    text = export(folder, "moodle", tmp_path / "moodle.csv")
    assert moodle_reads(text, "Username", PEOPLE, ("u1_statistics", unit)) == wanted
    out = tmp_path / "results"
    assert goodinit("grades", "--nbgrader", folder, "--format", "gradescope-json", "--out", out) == 0
    assert list(json.loads((out / "students.json").read_text())[unit]) == ["ada@uni.example"]


def test_units_can_be_chosen(class_folder: Path, tmp_path: Path) -> None:
    text = export(class_folder, "canvas", tmp_path / "u7.csv", "--unit", "u7")
    assert rows_of(text)[0][5:] == ["u7_normalization"]


def test_exporting_again_leaves_no_file_of_one_who_has_gone(class_folder: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "class", tmp_path / "results"
    shutil.copytree(class_folder, folder)
    words = ("grades", "--nbgrader", folder, "--format", "gradescope-json", "--out", out)
    assert goodinit(*words) == 0
    (out / "note.txt").write_text("mine")
    assert len(list((out / "u1_statistics").iterdir())) == 4
    with gradebook(folder) as book:
        book.remove_student("emmy")
    assert goodinit(*words) == 0
    assert len(list((out / "u1_statistics").iterdir())) == 3
    assert (out / "note.txt").read_text() == "mine"


CANVAS_ROSTER = """\
Student,ID,SIS User ID,SIS Login ID,Section,u1_statistics (4711),Unposted Current Score
,,,,,Manual Posting,
    Points Possible,,,,,10.00,(read only)
"Lovelace, Ada",101,00123,ada,Spring,,12
"Noether, Emmy",102,00124,emmy@uni.example,Spring,,
"Müller, Jr., Jo ""J"" M",103,00125,JO.MUELLER@uni.example,Spring,,
"Person, Idle",104,00126,ip,Spring,,
"Elsewhere, Nobody",105,00127,nobody,Spring,,
"Student, Test",106,,,Spring,,
"""


def test_canvas_gets_its_own_ids_and_titles_back(
    class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text(CANVAS_ROSTER, encoding="utf-8-sig")
    text = export(class_folder, "canvas", tmp_path / "canvas.csv", "--roster", roster)
    people = {name: {"ID": str(101 + n)} for n, name in enumerate(("ada", "emmy", "comma", "idle"))}
    possible, scores = canvas_reads(text, people)
    assert possible == {"u1_statistics (4711)": 4, "u7_normalization": 6}
    assert {(who, unit.removesuffix(" (4711)")): points for (who, unit), points in scores.items()} == {
        key: points for key, points in stored(class_folder).items() if key[0] != "formula"
    }
    assert rows_of(text)[2][:5] == ["Lovelace, Ada", "101", "00123", "ada", "Spring"]
    said = capsys.readouterr().err
    assert f"not found in {roster}, and left out: formula" in said
    assert "recognised by name only; please check: idle as ip" in said
    assert f"in {roster}, but not in this class: nobody" in said
    assert "u1_statistics counts 10.00 in Canvas; importing makes that 4" in said
    assert "Test" not in said


def test_moodle_gets_its_own_addresses_and_nobody_whom_it_does_not_know(class_folder: Path, tmp_path: Path) -> None:
    roster = tmp_path / "participants.csv"
    roster.write_text(
        "First name,Surname,ID number,Email address,Course total (Real)\n"
        "Ada,Lovelace,,Ada@Uni.Example,1\n"
        "Emmy,Noether,124,emmy@elsewhere.example,\n",
        encoding="utf-8",
    )
    out = tmp_path / "moodle.csv"
    assert goodinit("grades", "--nbgrader", class_folder, "--format", "moodle", "--out", out, "--roster", roster) == 1
    text = out.read_text(encoding="utf-8")
    # a column in which somebody has no id would give them the grades of the line before
    assert rows_of(text)[0] == ["First name", "Surname", "Email address", "u1_statistics", "u7_normalization"]
    known = ("Ada@Uni.Example", "emmy@elsewhere.example")
    scores = moodle_reads(text, "Email address", known, ("u1_statistics", "u7_normalization"))
    mine = stored(class_folder)
    assert scores == {
        ("Ada@Uni.Example", "u1_statistics"): mine["ada", "u1_statistics"],
        ("Ada@Uni.Example", "u7_normalization"): mine["ada", "u7_normalization"],
        ("emmy@elsewhere.example", "u1_statistics"): mine["emmy", "u1_statistics"],
    }


def test_gradescope_files_are_named_by_its_addresses(class_folder: Path, tmp_path: Path) -> None:
    roster, out = tmp_path / "roster.csv", tmp_path / "results"
    lines = ("Name,SID,Email", "Ada Lovelace,ada,a.lovelace@uni.example", "Emmy Noether,emmy,", "J,comma,j@x.example")
    roster.write_text("\n".join([*lines, "F,formula,J@x.example"]), encoding="utf-8")
    words = ("--format", "gradescope-json", "--out", out, "--roster", roster, "--unit", "u1")
    assert goodinit("grades", "--nbgrader", class_folder, *words) == 1
    assert json.loads((out / "students.json").read_text()) == {
        "u1_statistics": {
            "a.lovelace@uni.example": "u1_statistics/a.lovelace%40uni.example.json",
            # one has no address, and two share theirs
            "emmy": "u1_statistics/emmy.json",
            "comma": "u1_statistics/comma.json",
            "formula": "u1_statistics/formula.json",
        }
    }


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["X,1,2,ada,S"], {"ada": 0}),
        (["X,1,2, ADA ,S"], {"ada": 0}),
        (["X,1,2,ADA@uni.example,S"], {"ada": 0}),
        (["X,7,2,x,S"], {"ada": 0}),
        (["X,1,2,ada@elsewhere.example,S"], {"ada": 0}),
        (['"Lovelace, Ada",1,2,x,S'], {"ada": 0}),
        (["X,1,2,ada@here.example,S", "X,3,4,ada@there.example,S"], {}),
        (["X,1,2,ada,S", "X,7,4,x,S"], {}),
        (["X,1,2,ada@here.example,S", "X,3,4,ada,S"], {"ada": 1}),
        (["X,1,2,x,S", ",,,,"], {}),
        (["X,1,bob,ada,S"], {}),
        (["X,1,2,ada,S", "X,3,4,bob,S"], {"ada": 0, "bob": 1}),
    ],
)
def test_people_are_found_only_where_there_is_no_doubt(tmp_path: Path, lines: list[str], found: dict[str, int]) -> None:
    path = tmp_path / "roster.csv"
    path.write_text("\n".join(["Student,ID,SIS User ID,SIS Login ID,Section", *lines]), encoding="utf-8")
    roster = read_roster(path, "canvas")
    class_ = [Student("ada", "Ada", "Lovelace", "ada@uni.example", "7"), Student("bob")]
    matched = match(class_, roster)
    assert {student: roster.rows.index(row) for student, row in matched.rows.items()} == found
    assert matched.left_out == len(class_) - len(found)
    assert all("\n" not in note for note in matched.notes)


AS_FORMULA = re.compile("\\s*[-=+@＝＋－＠]|[\t\r]")  # noqa: RUF001
names = st.text(min_size=1, max_size=8).filter(str.strip) | st.sampled_from(
    [FORMULA, "-1", "@x", "\t=1", "a,b", "a\nb"]
)
numbers = st.floats(0, 100) | st.sampled_from([0.1 + 0.2, 1e-06, 1e-17])


@st.composite
def classes(draw: st.DrawFn) -> Scores:
    ids = draw(st.lists(names, unique=True, min_size=1, max_size=5))
    students = [Student(name, draw(names), draw(names), draw(st.just("") | names)) for name in ids]
    assignments = [Assignment("u1_statistics", 100.0), Assignment("own work", draw(numbers))]
    by = {}
    for key in draw(st.sets(st.sampled_from([(s.id, a.name) for s in students for a in assignments]))):
        parts = tuple(Part(f"check-{n}", draw(numbers), 100.0) for n in range(draw(st.integers(0, 3))))
        by[key] = Score(math.fsum(part.points for part in parts), draw(numbers), parts=parts)
    return Scores(students, assignments, by)


@given(classes())
def test_csv_holds_no_formula_and_every_point(course: Course, scores: Scores) -> None:
    _, *lines = rows_of(FORMATS["csv"](course, scores, None).files[""])
    assert not any(AS_FORMULA.match(cell) for line in lines for cell in line)
    pairs = [(a, s) for a in scores.assignments for s in scores.students]
    for (assignment, student), line in zip(pairs, lines, strict=True):
        score = scores.by.get((student.id, assignment.name), Score(0.0))
        name = clean(student.id.replace("\n", " ").replace("\t", " "))
        assert line[3] in (name, f"'{name}")
        points = score.points, score.penalty, score.total, assignment.max_points
        assert [float(cell) for cell in line[-4:]] == [round(value, DECIMALS) for value in points]


@pytest.mark.parametrize(("kind", "column"), [("canvas", "SIS Login ID"), ("moodle", "Username")])
@given(scores=classes())
def test_a_system_gets_every_point_and_no_formula(course: Course, kind: str, column: str, scores: Scores) -> None:
    done = FORMATS[kind](course, scores, None)
    header, *lines = rows_of(done.files[""])
    people = {line[header.index(column)]: line for line in lines if "Points Possible" not in line[0]}
    assert not any(AS_FORMULA.match(cell) for line in lines for cell in line if cell != "-")
    for student in scores.students:
        # an id that were changed would find nobody, or somebody else
        strange = [text for text in (student.id, student.email) if AS_FORMULA.match(text) or not text.isprintable()]
        assert student.id in people or strange
        for assignment in scores.assignments if student.id in people else ():
            cell = people[student.id][header.index(assignment.name)]
            score = scores.by.get((student.id, assignment.name))
            assert cell in ("", "-") if score is None else float(cell) == round(score.total, DECIMALS)
    assert len(people) == len(scores.students) - done.left_out


@given(classes())
@example(
    Scores(
        [Student("ada", email="emmy"), Student("emmy"), Student("x", email="Y@x"), Student("z", email="y@x")],
        [Assignment("u1_statistics", 1.0)],
        {(student, "u1_statistics"): Score(1.0) for student in ("ada", "emmy", "x", "z")},
    )
)
def test_gradescope_gets_a_file_for_every_submission(course: Course, scores: Scores) -> None:
    done = FORMATS["gradescope-json"](course, scores, None)
    index = json.loads(done.files.pop("students.json"))
    assert len(done.files) == len(scores.by) == sum(map(len, index.values()))
    for (name, assignment), score in scores.by.items():
        student = next(student for student in scores.students if student.id == name)
        files = {index[assignment][who] for who in (student.email, student.id) if who in index[assignment]}
        results = [gradescope_reads(done.files[file]) for file in files]
        assert round(score.total, DECIMALS) in [result["score"] for result in results]
        for result in results:
            points = math.fsum(test["score"] for test in result["tests"])
            assert not result["tests"] or result["score"] <= points + 1e-5


def test_sums_are_written_without_what_floats_add_to_them(course: Course) -> None:
    score = Score(math.fsum([0.1] * 3) + 4.3 + 1e-15, 1.1 + 2.2, parts=(Part("check-mean", 0.1 + 0.2, 1.0),))
    scores = Scores(
        [Student("ada")], [Assignment("u1_statistics", 11.399999999999999)], {("ada", "u1_statistics"): score}
    )
    assert rows_of(FORMATS["csv"](course, scores, None).files[""])[1][-4:] == ["4.6", "3.3", "1.3", "11.4"]
    assert rows_of(FORMATS["canvas"](course, scores, None).files[""])[2][-1] == "1.3"
    assert rows_of(FORMATS["moodle"](course, scores, None).files[""])[1][-1] == "1.3"
    [text] = [text for name, text in FORMATS["gradescope-json"](course, scores, None).files.items() if "/" in name]
    results = gradescope_reads(text)
    assert (results["score"], results["tests"][0]["score"]) == (1.3, 0.3)
    # a third of a point is what it is
    scores.by["ada", "u1_statistics"] = Score(2.333333)
    assert rows_of(FORMATS["csv"](course, scores, None).files[""])[1][-2] == "2.333333"


def test_a_gradebook_is_not_made_by_reading_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert goodinit("grades", "--nbgrader", tmp_path, "--format", "csv") == 2
    assert "holds no gradebook: there is no file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


SERVER = "c.CourseDirectory.db_url = '{}'"


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("", "cannot be reached: file is not a database"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        (SERVER.format("nosuch://x"), "nosuch"),
        (SERVER.format("postgresql+psycopg2://127.0.0.1:9/none"), "cannot be reached: "),
        (SERVER.format("sqlite:////nowhere/gradebook.db"), "there is no file /nowhere/gradebook.db"),
    ],
)
def test_a_bad_gradebook_gives_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], config: str, sentence: str
) -> None:
    (tmp_path / "gradebook.db").write_bytes(b"no database" * 99)
    (tmp_path / "nbgrader_config.py").write_text(f"c = get_config()\n{config}\n")
    assert goodinit("grades", "--nbgrader", tmp_path, "--format", "csv") == 2
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.startswith("goodinit: ")
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_no_folder_gives_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert goodinit("grades", "--nbgrader", tmp_path / "nowhere", "--format", "csv") == 2
    assert capsys.readouterr().err.startswith(f"goodinit: there is no folder {tmp_path / 'nowhere'}")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--format", "canvas", "--roster", "{}/none.csv"), "none.csv cannot be read: No such file or directory"),
        (("--format", "canvas", "--roster", "{}/binary.csv"), "binary.csv is no CSV file in UTF-8"),
        (("--format", "canvas", "--roster", "{}/empty.csv"), "empty.csv does not say who is who"),
        (("--format", "canvas", "--roster", "{}/moodle.csv"), "moodle.csv does not say who is who"),
        (("--format", "canvas", "--roster", "{}/sectionless.csv"), "sectionless.csv has no column 'Section'"),
        (("--format", "moodle", "--roster", "{}/nobody.csv"), "nobody.csv"),
        (("--format", "csv", "--roster", "{}/moodle.csv"), "takes no --roster"),
        (("--format", "gradescope-json"), "say where by --out FOLDER"),
        (("--format", "gradescope-json", "--out", "{}"), "holds something else"),
        (("--format", "gradescope-json", "--out", "{}/moodle.csv"), "holds something else"),
        (("--format", "csv", "--out", "{}/moodle.csv"), "holds something else; --out takes a new file, or one that an"),
        (("--format", "moodle", "--out", "{}/moodle.csv"), "holds something else"),
        (("--format", "canvas", "--out", "{}/downloaded.csv"), "holds something else"),
        (("--format", "csv", "--out", "{}/gradebook.db"), "holds something else"),
        (("--format", "csv", "--out", "/dev/null"), "/dev/null holds something else"),
        (("--format", "csv", "--out", "{}"), "cannot be written"),
        (("--format", "csv", "--out", "."), ". cannot be written: it is a folder; give the name of a file in it"),
        (("--format", "csv", "--out", "{}/moodle.csv/x.csv"), "x.csv cannot be written: Not a directory"),
        (("--format", "moodle", "--roster", "{0}/moodle.csv", "--out", "{0}/moodle.csv"), "is the roster itself"),
        (("--format", "csv", "--out", "{}/no/such/folder.csv"), "cannot be written: No such file or directory"),
        (("--format", "csv", "--unit", "u2"), "has no u2_initialization"),
        (("--format", "csv", "--unit", "mean"), "'mean' is an exercise of u1_statistics"),
        (("--format", "csv", "--unit", "u99"), "there is no unit or exercise 'u99'"),
        (("--format", "excel"), "invalid choice: 'excel'"),
        (("--format", "csv", "--records", "x"), "not allowed with argument"),
    ],
)
def test_bad_words_give_one_sentence_and_write_nothing(
    class_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    (tmp_path / "binary.csv").write_bytes(b"Student,ID\xff\xfe\n")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "gradebook.db").write_bytes(b"SQLite format 3\0\x10\0\x01\x01\xff,\n")
    (tmp_path / "downloaded.csv").write_text(
        "Student,ID,SIS User ID,SIS Login ID,Section,u1_statistics (7),Current Score\n"
    )
    (tmp_path / "moodle.csv").write_text("First name,Email address\nAda,a@x.example\n")
    (tmp_path / "sectionless.csv").write_text("Student,ID,SIS Login ID\nAda,1,ada\n")
    (tmp_path / "nobody.csv").write_text("First name,Email address\nAda,\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    try:
        status = goodinit("grades", "--nbgrader", class_folder, *(word.format(tmp_path) for word in words))
    except SystemExit as ended:
        status = ended.code
    said = capsys.readouterr()
    assert status in (1, 2)
    assert sentence in said.err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    if status == 2:
        assert said.out == ""
        assert said.err.startswith("goodinit: ")
        assert said.err.count("\n") == 1


def test_an_export_may_overwrite_an_earlier_one(class_folder: Path, tmp_path: Path) -> None:
    out, roster = tmp_path / "grades.csv", tmp_path / "roster.csv"
    roster.write_text(CANVAS_ROSTER, encoding="utf-8-sig")
    out.touch()
    for kind, *words in (("csv",), ("canvas",), ("canvas", "--roster", roster), ("moodle",), ("csv", "--unit", "u1")):
        text = export(class_folder, str(kind), out, *words)
        assert export(class_folder, str(kind), out, *words) == text


def test_canvas_would_take_some_names_for_its_own(course: Course) -> None:
    for name in ("My Final Score", "Project (2)"):
        with pytest.raises(ExportError, match="Canvas would not take"):
            FORMATS["canvas"](course, Scores([], [Assignment(name, 1.0)], {}), None)


MEAN = "def mean(t):\n    return t.sum() / t.numel()\n"
VARIANCE = "def variance(t):\n    return mean((t - mean(t)) ** 2)\n"
CLASS = {
    "right.py": MEAN + VARIANCE,
    "partly.py": MEAN
    + VARIANCE.replace("return mean((t - mean(t)) ** 2)", "return ((t - mean(t)) ** 2).sum() / (t.numel() - 1)"),
    "=evil.py": MEAN,
    "syntax.py": "def mean(t:\n",
}


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Path:
    """What `goodinit grade` has written about a class of four; the class lies beside it."""
    root = tmp_path_factory.mktemp("graded")
    (root / "class").mkdir()
    for name, text in CLASS.items():
        (root / "class" / name).write_text(text)
    words = ("--jobs", "1", "--seed", "5", "--unit", "mean", "variance")
    assert goodinit("grade", root / "class", "--out", root / "out", *words) == 1
    return root


def test_records_give_the_points_of_goodinit_check(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "grades.csv"
    assert goodinit("grades", "--records", graded / "out", "--format", "csv", "--out", out) == 0
    said = capsys.readouterr().err
    header, *lines = rows_of(out.read_text())
    points = {line[header.index("student_id")]: float(line[header.index("score")]) for line in lines}
    assert set(points) == {"right", "partly", "'=evil", "syntax"}
    for name in ("right", "partly"):
        goodinit("check", "mean", "variance", "--impl", graded / "class" / f"{name}.py", "--json")
        checks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert points[name] == pytest.approx(math.fsum(check["points"] for check in checks), abs=1e-6)
    assert 0 < points["partly"] < points["right"] == 2
    assert "syntax could not be graded in full: " in said


def test_records_give_gradescope_reasons(graded: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    assert goodinit("grades", "--records", graded / "out", "--format", "gradescope-json", "--out", out) == 0
    files = json.loads((out / "students.json").read_text())["u1_statistics"]
    partly = gradescope_reads((out / files["partly"]).read_text())
    assert math.fsum(test["score"] for test in partly["tests"]) == pytest.approx(partly["score"], abs=1e-6)
    assert {test["status"] for test in partly["tests"] if test["name"].startswith("mean: ")} == {"passed"}
    wrong = next(test for test in partly["tests"] if test["status"] == "failed")
    assert wrong["output"].startswith("wrong\n\nvariance: ")
    assert "n - 1" in wrong["output"]
    syntax = gradescope_reads((out / files["syntax"]).read_text())
    assert syntax["score"] == 0
    assert "SyntaxError" in syntax["output"]


def test_a_gradebook_comes_with_the_reasons_of_the_judge(class_folder: Path, graded: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "class", tmp_path / "results"
    shutil.copytree(class_folder, folder)
    (folder / ".goodinit" / "u1_statistics").mkdir(parents=True)
    record = json.loads((graded / "out" / "records" / "partly.json").read_text())
    (folder / ".goodinit" / "u1_statistics" / "ada.json").write_text(json.dumps(record))
    with gradebook(folder) as book:
        for name in ("mean", "variance"):
            grade = book.find_grade(f"check-{name}", "u1_statistics", "u1_statistics", "ada")
            grade.auto_score = record["exercises"][name]["points"]
        book.db.commit()
    words = ("--format", "gradescope-json", "--out", out)
    assert goodinit("grades", "--nbgrader", folder, *words) == 0
    ada = gradescope_reads((out / "u1_statistics" / "ada%40uni.example.json").read_text())
    assert [test["name"].partition(":")[0] for test in ada["tests"]] == [
        "u1-outlier",
        *(verdict["exercise"] for verdict in record["verdicts"]),
    ]
    points = math.fsum(test["score"] for test in ada["tests"])
    assert ada["score"] == pytest.approx(points - 0.25, abs=1e-5)
    with gradebook(folder) as book:  # whoever decides otherwise has the last word, and the reasons stay
        book.find_grade("check-variance", "u1_statistics", "u1_statistics", "ada").manual_score = 0.75
        book.db.commit()
    assert goodinit("grades", "--nbgrader", folder, *words) == 0
    tests = gradescope_reads((out / "u1_statistics" / "ada%40uni.example.json").read_text())["tests"]
    assert tests[-1]["score"] == 0.75
    assert tests[-1]["output"].startswith("graded by hand\n\n")
    assert "n - 1" in tests[-1]["output"]


def altered(graded: Path, out: Path, **changes: Any) -> Path:
    """A copy of the records in which that of `right` is another."""
    shutil.copytree(graded / "out", out)
    path = out / "records" / "right.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, **changes}))
    return out


def test_of_a_hidden_check_nothing_but_title_and_verdict_is_shown(graded: Path, tmp_path: Path) -> None:
    out = altered(graded, tmp_path / "out")
    path = out / "records" / "partly.json"
    record = json.loads(path.read_text())
    secret = next(found for found in record["verdicts"] if found["verdict"] == "wrong")
    secret |= {"hidden": True, "message": "Hidden title.", "check": "SECRET", "details": "SECRET", "bug": "SECRET"}
    path.write_text(json.dumps(record))
    assert goodinit("grades", "--records", out, "--format", "gradescope-json", "--out", tmp_path / "results") == 0
    text = (tmp_path / "results" / "u1_statistics" / "partly.json").read_text()
    assert "SECRET" not in text
    test = next(test for test in gradescope_reads(text)["tests"] if test["visibility"] != "visible")
    assert (test["name"], test["output"]) == ("variance: Hidden title. (a hidden check)", "wrong")
    assert test["visibility"] == "after_published"


def test_one_who_has_handed_in_twice_is_left_out(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = altered(graded, tmp_path / "out", student="partly", submission="partly.ipynb")
    assert goodinit("grades", "--records", out, "--format", "csv") == 1
    said = capsys.readouterr()
    assert "partly has handed in more than once and is left out: partly.py, partly.ipynb" in said.err
    assert "partly" not in said.out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"options": {"exercises": ["mean"]}}, "judged by different checks"),
        ({"units": None}, "is no record"),
        ({"verdicts": [{}]}, "is no record"),
    ],
)
def test_bad_records_give_one_sentence(
    graded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], sentence: str
) -> None:
    out = altered(graded, tmp_path / "out", **changes)
    assert goodinit("grades", "--records", out, "--format", "moodle") == 2
    assert sentence in capsys.readouterr().err
    assert goodinit("grades", "--records", tmp_path, "--format", "moodle") == 2
    assert "holds no records" in capsys.readouterr().err


def answered(root: Path, unit: str, old: str, new: str) -> NotebookNode:
    """The assignment with the reference's answers in it, one of them changed."""
    source = nbformat.read(root / "source" / unit / f"{unit}.ipynb", as_version=4)
    notebook = nbformat.read(root / "release" / unit / f"{unit}.ipynb", as_version=4)
    answers = {cell.metadata.nbgrader.grade_id: cell.source for cell in source.cells if "nbgrader" in cell.metadata}
    for cell in notebook.cells:
        if "nbgrader" in cell.metadata and "NotImplementedError" in cell.source:
            cell.source = answers[cell.metadata.nbgrader.grade_id].replace(old, new)
    return notebook


@pytest.mark.slow
def test_autograded_points_are_those_of_goodinit_check_less_what_lateness_takes(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    unit, root = "u1_statistics", tmp_path / "class"
    text = (ROOT / "course.toml").read_text(encoding="utf-8")
    text = text.replace(f'id = "{unit}"\n', f'id = "{unit}"\ndue = 2027-03-01T23:59:00Z\n', 1)
    (tmp_path / "course.toml").write_text(f"{text}\n[nbgrader.late]\ngrace_hours = 1\npercent_per_day = 20\n")
    for name in ("solutions", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    build_course(load(tmp_path), root)
    nbgrader = [sys.executable, "-m", "nbgrader"]
    subprocess.run([*nbgrader, "generate_assignment", unit, "--create"], cwd=root, check=True, capture_output=True)
    notebook = answered(
        root, unit, "return mean((t - mean(t)) ** 2)", "return ((t - mean(t)) ** 2).sum() / (t.numel() - 1)"
    )
    for student, when in (("ada", "2027-03-01 12:00:00 UTC"), ("eve", "2027-03-03 12:00:00 UTC")):
        folder = root / "submitted" / student / unit
        folder.mkdir(parents=True)
        nbformat.write(notebook, folder / f"{unit}.ipynb")
        (folder / "timestamp.txt").write_text(when)
    subprocess.run([*nbgrader, "autograde", unit, "--create"], cwd=root, check=True, capture_output=True)
    handed_in = root / "submitted" / "ada" / unit / f"{unit}.ipynb"
    capsys.readouterr()
    goodinit("check", unit, "--impl", handed_in, "--json")
    checks = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    points = math.fsum(check["points"] for check in checks)
    assert 0 < points < math.fsum(check["max_points"] for check in checks)
    _, scores = canvas_reads(
        export(root, "canvas", tmp_path / "c.csv"), {n: {"SIS Login ID": n} for n in ("ada", "eve")}
    )
    assert scores == pytest.approx({("ada", unit): points, ("eve", unit): points * 0.6})
    assert moodle_reads(export(root, "moodle", tmp_path / "m.csv"), "Username", ("ada", "eve"), [unit]) == scores
    words = ("--nbgrader", str(root), "--format", "gradescope-json", "--out", str(tmp_path / "results"))
    assert goodinit("grades", *words, here=root) == 0
    eve = gradescope_reads((tmp_path / "results" / unit / "eve.json").read_text())
    assert eve["score"] == scores["eve", unit]
    found = {(test["name"], test["score"]) for test in eve["tests"] if test.get("status")}
    assert found == {(f"{c['exercise']}: {c['check'].replace('_', ' ')}", c["points"]) for c in checks}
