"""Writes the scores of a class in the form that each system imports."""

from __future__ import annotations

import csv
import io
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy

from grading.classroom import as_json, file_name, no_formula
from grading.course import Course
from grading.verdict import PASSED, Verdict, clean
from grading.verdict.render import render

from ._cells import CHECK, HIDDEN
from ._roster import FIRST, LAST, Roster, match
from ._scores import Assignment, ExportError, Part, Score, Scores, Student, listed

INDEX = "students.json"
# judges give no finer points; what a sum has beyond is noise
DECIMALS = 6
Cell = str | float


@dataclass
class Export:
    """Files by name, one without a name where there is but one; sentences on what is not in them, and for how many."""

    files: dict[str, str]
    notes: list[str] = field(default_factory=list)
    left_out: int = 0


def export_csv(course: Course, scores: Scores, roster: Roster | None) -> Export:
    """A line per student and assignment, with the columns of `nbgrader export`, in its order.

    nbgrader 0.9.6, plugins/export.py: who has handed in nothing has 0 points and no timestamp, and what nobody has
    graded yet has 0 points too; the score is what is left after the penalty, and never below 0. Unlike nbgrader, cells
    with commas are quoted.
    """
    header = ["assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"]
    rows: list[list[Cell]] = [[*header, "raw_score", "late_submission_penalty", "score", "max_score"]]
    for assignment in scores.assignments:
        for s in scores.students:
            score = scores.by.get((s.id, assignment.name), Score(0.0))
            who = [s.id, s.last_name, s.first_name, s.email]
            points = [score.points, score.penalty, score.total, assignment.max_points]
            rows.append([assignment.name, assignment.due, score.handed_in, *who, *points])
    return Export({"": _table(rows)})


# titles that Canvas takes for columns of its own; Canvas looks for them anywhere in a title
CANVAS_OWN = re.compile("(Current|Final) (Score|Points|Grade)|Override (Score|Grade|Status)")
CANVAS_TITLE = re.compile(r"(.*)\s\((\d+)\)")


def export_canvas(course: Course, scores: Scores, roster: Roster | None) -> Export:
    """A line per student, a column per assignment, and the line of the points that there are.

    Canvas, lib/gradebook_importer.rb: columns begin with Student, ID, perhaps SIS User ID, SIS Login ID and others,
    and end with Section; all that follow are assignments. ID is Canvas's own number, and other text in it counts as a
    number too, so that without a roster it stays empty; then SIS User ID, SIS Login ID and the name are tried in turn.
    `title (number)` is the assignment of that number, another title makes a new assignment. The line whose first cell
    has `Points Possible` sets their points. An empty cell is no score, not 0. A decimal point is read anywhere.
    """
    _check_titles(scores.assignments)
    header = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    rows = {s.id: [s.name, "", "", s.id, ""] for s in scores.students}
    export, ids = Export({}), [3]
    titles = {assignment.name: assignment.name for assignment in scores.assignments}
    if roster:
        if "section" not in map(str.casefold, roster.header):
            raise ExportError(f"{roster.path} has no column 'Section', and a gradebook that Canvas exports has")
        end = [title.casefold() for title in roster.header].index("section") + 1
        found = match(scores.students, roster)
        header, ids = roster.header[:end], [index for index in roster.ids if index < end]
        rows = {student: row[:end] for student, row in found.rows.items()}
        export = Export({}, found.notes, found.left_out)
        titles |= _canvas_titles(scores.assignments, roster, export)
    _keep_sound(rows, ids, export)
    possible: list[Cell] = ["    Points Possible", *[""] * (len(header) - 1)]
    lines: list[list[Cell]] = [
        [*header, *(titles[assignment.name] for assignment in scores.assignments)],
        [*possible, *(assignment.max_points for assignment in scores.assignments)],
    ]
    for s in scores.students:
        if s.id in rows:
            lines.append([*rows[s.id], *(_total(scores, s, a, missing="") for a in scores.assignments)])
    export.files[""] = _table(lines)
    return export


def _check_titles(assignments: Iterable[Assignment]) -> None:
    for name in (assignment.name for assignment in assignments):
        if CANVAS_OWN.search(name) or CANVAS_TITLE.fullmatch(name):
            raise ExportError(
                f"Canvas would not take {name!r} for the name of an assignment; leave it out by naming --unit"
            )


def _canvas_titles(assignments: Iterable[Assignment], roster: Roster, export: Export) -> dict[str, str]:
    """The title by which Canvas knows an assignment that it already has."""
    titles = {}
    for assignment in assignments:
        for index, title in enumerate(roster.header):
            known = CANVAS_TITLE.fullmatch(title)
            if known and known[1] == assignment.name:
                titles[assignment.name] = title
                old, new = roster.points[index] if roster.points else "", _number(assignment.max_points)
                if old and old.removesuffix(".0").removesuffix(".00") != new:
                    export.notes.append(f"{assignment.name} counts {old} in Canvas; importing makes that {new}")
    return titles


MOODLE_MOST = 100


def export_moodle(course: Course, scores: Scores, roster: Roster | None) -> Export:
    """A line per student and a column per assignment, to be mapped to grade items when it is imported.

    Moodle, grade/import/csv: a person is found by Username, ID number or Email address, spelt exactly; one who is not
    found ends the whole import, and a line without an id counts for the person of the line before, so that neither is
    written. `-` is no grade. No grade may be above 100 unless the site allows it, and an item that is made while
    importing counts 100. All lines have equally many cells.
    """
    header, ids = ["Last name", "First name", "Username"], [2]
    rows = {s.id: [s.last_name, s.first_name, s.id] for s in scores.students}
    if all(s.email for s in scores.students):
        header, ids = [*header, "Email address"], [2, 3]
        rows = {s.id: [*rows[s.id], s.email] for s in scores.students}
    export = Export({})
    if roster:
        found = match(scores.students, roster)
        export = Export({}, found.notes, found.left_out)
        whole = [index for index in roster.ids if all(row[index] for row in found.rows.values())]
        kept = sorted({*whole, *(index for index in map(roster.column, (FIRST, LAST)) if index is not None)})
        header, ids = [roster.header[index] for index in kept], [kept.index(index) for index in whole]
        rows = {student: [row[index] for index in kept] for student, row in found.rows.items()}
        if not ids:
            raise ExportError(f"{roster.path} has no id that everybody has; export it again, with addresses in it")
    _keep_sound(rows, ids, export)
    items = ", ".join(f"{assignment.name} {_number(assignment.max_points)}" for assignment in scores.assignments)
    export.notes.append(f"Moodle needs a grade item for each column first, with these points at most: {items}")
    for assignment in scores.assignments:
        if assignment.max_points > MOODLE_MOST:
            export.notes.append(f"{assignment.name} counts more than {MOODLE_MOST}, which Moodle may refuse")
    lines: list[list[Cell]] = [[*header, *(assignment.name for assignment in scores.assignments)]]
    for s in scores.students:
        if s.id in rows:
            lines.append([*rows[s.id], *(_total(scores, s, a, missing=NO_GRADE) for a in scores.assignments)])
    export.files[""] = _table(lines)
    return export


def _total(scores: Scores, student: Student, assignment: Assignment, *, missing: str) -> Cell:
    score = scores.by.get((student.id, assignment.name))
    return missing if score is None or score.ungraded else score.total


def _keep_sound(rows: dict[str, list[str]], ids: list[int], export: Export) -> None:
    """Takes out everybody whose id would run as a formula or break its line: made harmless, it would find nobody."""
    unsound = [student for student, row in rows.items() if any(_sound(row[index]) != row[index] for index in ids)]
    for student in unsound:
        del rows[student]
    if unsound:
        export.notes.append(
            f"left out, since their ids begin like formulas or have control characters: {listed(map(repr, unsound))}"
        )
        export.left_out += len(unsound)


# when the scores and titles of hidden checks may be seen; they say nothing else
HIDDEN_SHOWN = "after_published"


def export_gradescope(course: Course, scores: Scores, roster: Roster | None) -> Export:
    """A results.json per submission, in a folder per assignment, and an index of whose is which.

    Gradescope, autograder specifications: `score` at the top overrides the sum of the tests, which need none then.
    `text` is a format in which no markup counts. `visibility` is visible, hidden, after_due_date or after_published.
    """
    export, shown = Export({}), {s.id: s.email for s in scores.students}
    if roster:
        found = match(scores.students, roster)
        export = Export({}, found.notes, found.left_out)
        column = roster.column(("email", "email address"))
        shown = {student: row[roster.ids[0] if column is None else column] for student, row in found.rows.items()}
    # an address that is missing, or not one person's alone, gives way to the id
    names = Counter(name.casefold() for student, shown_as in shown.items() for name in {student, shown_as})
    shown = {student: name if name and names[name.casefold()] == 1 else student for student, name in shown.items()}
    index: dict[str, dict[str, str]] = {}
    for assignment in scores.assignments:
        for student in scores.students:
            score = scores.by.get((student.id, assignment.name))
            if score is not None and not score.ungraded and student.id in shown:
                name = f"{file_name(assignment.name)}/{file_name(shown[student.id])}.json"
                export.files[name] = as_json(_results(course, assignment, score))
                index.setdefault(assignment.name, {})[shown[student.id]] = name
    export.files[INDEX] = as_json(index)
    return export


def _results(course: Course, assignment: Assignment, score: Score) -> dict[str, Any]:
    order = list(course.exercises)
    parts = sorted(score.parts, key=lambda part: order.index(_exercise(part)) if _exercise(part) in order else -1)
    lines = [f"{_number(score.total)} of {_number(assignment.max_points)} points"]
    if score.penalty:
        lines.append(f"{_number(score.points)} points less {_number(score.penalty)} for being late")
    if score.record and score.record["problem"]:
        lines.append(score.record["problem"])
    return {
        "score": round(score.total, DECIMALS),
        "output": "\n".join(lines),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "stdout_visibility": "hidden",
        "tests": [test for part in parts for test in _tests(part, score.record)],
    }


def _tests(part: Part, record: dict[str, Any] | None) -> list[dict[str, Any]]:
    """A test per check; a single one where there are none, or where a person has decided otherwise."""
    name = _exercise(part)
    if part.waits:
        return [{"name": name, "max_score": part.max_points, "output": "waits to be graded by hand"}]
    tests = [_test(found) for found in (record["verdicts"] if record else ()) if found["exercise"] == name]
    points = math.fsum(test["score"] for test in tests)
    if tests and not part.by_hand and math.isclose(points, part.points, abs_tol=1e-5):
        return tests
    reasons = [test["output"] for test in tests if test["visibility"] == "visible"]
    said = "\n\n".join(["graded by hand", *reasons] if part.by_hand else reasons)
    score = {"score": round(part.points, DECIMALS), "max_score": part.max_points}
    return [{"name": name, **score} | ({"output": said} if said else {})]


def _test(found: dict[str, Any]) -> dict[str, Any]:
    """One check; of a hidden one no more than its title and verdict."""
    verdict = Verdict.from_dict(found)
    title = f"{verdict.message} {HIDDEN}" if verdict.hidden else verdict.check.replace("_", " ")
    return {
        "name": f"{verdict.exercise}: {title}",
        # shares of an exercise's points, which they add up to
        "score": verdict.points,
        "max_score": verdict.max_points,
        "status": "passed" if verdict.verdict == PASSED else "failed",
        "output": verdict.verdict if verdict.hidden else f"{verdict.verdict}\n\n{render(verdict)}",
        "visibility": HIDDEN_SHOWN if verdict.hidden else "visible",
    }


def _exercise(part: Part) -> str:
    return part.name.removeprefix(CHECK)


NO_GRADE = "-"


def _table(rows: Iterable[Iterable[Cell]]) -> str:
    """CSV in which no text is a formula, and every number is what is stored, in all decimals that points have."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow([cell if cell == NO_GRADE else _cell(cell) for cell in row])
    return text.getvalue()


def _cell(cell: Cell) -> str:
    return _sound(cell) if isinstance(cell, str) else _number(cell)


def _sound(text: str) -> str:
    """`text` on one line, without controls, and not taken for a formula."""
    return no_formula(clean(text.replace("\n", " ").replace("\t", " ")))


def _number(value: float) -> str:
    """Points in as few digits as they have, never with an exponent; two decimals would not add up."""
    return str(numpy.format_float_positional(round(value, DECIMALS), trim="-"))


FORMATS: dict[str, Callable[[Course, Scores, Roster | None], Export]] = {
    "csv": export_csv,
    "canvas": export_canvas,
    "moodle": export_moodle,
    "gradescope-json": export_gradescope,
}
