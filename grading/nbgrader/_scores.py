"""What a class has scored, read from nbgrader's gradebook or from the records of `goodinit grade`."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from grading.classroom import file_name, recorded
from grading.course import Course, did_you_mean
from grading.verdict import KIT_ERROR, Verdict

from ._config import read_config
from ._course import cause, gradebook, gradebook_missing
from ._desk import KEPT

RECORD = ("student", "submission", "options", "problem")
NAMED = 8


class ExportError(Exception):
    """One sentence on why grades cannot be exported."""


@dataclass(frozen=True)
class Student:
    """A student as the gradebook knows them; records know the id only."""

    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""
    lms_id: str = ""

    @property
    def name(self) -> str:
        """The name that lists are sorted by: `Noether, Emmy`."""
        return ", ".join(filter(None, (self.last_name, self.first_name))) or self.id


@dataclass(frozen=True)
class Assignment:
    """What is graded at once: a unit, or another assignment that the gradebook holds."""

    name: str
    max_points: float
    due: str = ""


@dataclass(frozen=True)
class Part:
    """The points of one exercise or written question; `waits` for a person, or was changed `by_hand`."""

    name: str
    points: float
    max_points: float
    waits: bool = False
    by_hand: bool = False


@dataclass(frozen=True)
class Score:
    """What one submission has scored; `record` is what its judge found, where that is known.

    It is `ungraded` as long as neither a judge nor a person has given any points: that is no score, and not 0.
    """

    points: float
    penalty: float = 0.0
    handed_in: str = ""
    parts: tuple[Part, ...] = ()
    record: dict[str, Any] | None = None
    ungraded: bool = False

    @property
    def total(self) -> float:
        """The points that count, as nbgrader reckons them."""
        return max(0.0, self.points - self.penalty)


@dataclass
class Scores:
    """A class: everybody, everything that was set, and the score of each submission by student and assignment."""

    students: list[Student]
    assignments: list[Assignment]
    by: dict[tuple[str, str], Score]
    notes: list[str] = field(default_factory=list)
    left_out: int = 0


def from_gradebook(course: Course, root: Path, units: Collection[str] = (), *, reasons: bool = False) -> Scores:
    """The scores in the gradebook of the nbgrader course in `root`, of all assignments unless `units` are named.

    With `reasons`, what the judge has found when it autograded comes with each score.

    Raises ExportError where there is none, or none that can be read.
    """
    with _opened(root) as book:
        assignments = [
            Assignment(found.name, found.max_score, str(found.duedate or ""))
            for found in book.assignments
            if not units or found.name in units
        ]
        order = [*course.by_unit]
        assignments.sort(key=lambda found: order.index(found.name) if found.name in order else len(order))
        _all_there(units, [assignment.name for assignment in assignments], f"the gradebook of {root}")
        students = [
            Student(s.id, s.first_name or "", s.last_name or "", s.email or "", s.lms_user_id or "")
            for s in book.students
        ]
        # nbgrader's order, and the same one where names are alike or missing: each database has another one then
        students.sort(key=lambda student: (student.last_name, student.first_name, student.id))
        scores = Scores(students, assignments, _scores(book, {assignment.name for assignment in assignments}))
    if reasons:
        scores.by = {key: replace(score, record=_kept(root, *key)) for key, score in scores.by.items()}
    coursedir = _coursedir(root)
    for assignment in assignments:
        waiting, unread = [], []
        for student in students:
            score = scores.by.get((student.id, assignment.name))
            if score and score.ungraded and not _autograded(coursedir, student.id, assignment.name):
                unread.append(student.id)
            elif score and any(part.waits for part in score.parts):
                waiting.append(student.id)
        if waiting:
            scores.notes.append(f"{assignment.name} waits to be graded by hand for {listed(waiting)}")
        if unread:
            scores.notes.append(
                f"{assignment.name} could not be graded for {listed(unread)}, as autograding has said; it has no score "
                "until it is handed in again, or autograded again"
            )
    return scores


def _coursedir(root: Path) -> Any:
    """Where nbgrader has the files of the course in `root`."""
    from nbgrader.coursedir import CourseDirectory

    config = read_config(root)
    config.CourseDirectory.root = str(root.resolve())
    return CourseDirectory(config=config)


def _autograded(coursedir: Any, student: str, assignment: str) -> bool:
    """Whether autograding came to its end: of a submission that it cannot read, nbgrader leaves no notebook there."""
    return any(Path(coursedir.format_path(coursedir.autograded_directory, student, assignment)).glob("*.ipynb"))


def _kept(root: Path, student: str, assignment: str) -> dict[str, Any] | None:
    """What autograding has found; None where something else has graded."""
    path = root / KEPT / assignment / f"{file_name(student)}.json"
    return _record(path) if path.is_file() else None


def _scores(book: Any, names: Collection[str]) -> dict[tuple[str, str], Score]:
    """Every submission's score in three queries; nbgrader's own properties take several for each submission."""
    from nbgrader import api
    from sqlalchemy import func

    submitted = api.SubmittedAssignment
    of_assignment = submitted.id == api.SubmittedNotebook.assignment_id
    points = dict(
        book.db.query(submitted.id, func.sum(api.Grade.score))
        .join(api.SubmittedNotebook, of_assignment)
        .join(api.Grade, api.Grade.notebook_id == api.SubmittedNotebook.id)
        .group_by(submitted.id)
        .all()
    )
    cells = {cell.id: cell for kind in (api.GradeCell, api.TaskCell) for cell in book.db.query(kind)}
    parts: dict[str, list[Part]] = {}
    begun: set[str] = set()
    graded = book.db.query(api.SubmittedNotebook.assignment_id, api.Grade).join(
        api.Grade, api.Grade.notebook_id == api.SubmittedNotebook.id
    )
    for submission, grade in graded:
        cell = cells[grade.cell_id]
        by_hand = grade.manual_score is not None or bool(grade.extra_credit)
        if by_hand or grade.auto_score is not None:
            begun.add(submission)
        part = Part(cell.name, grade.score, cell.max_score, grade.needs_manual_grade, by_hand)
        parts.setdefault(submission, []).append(part)
    found = {}
    submissions = (
        book.db.query(
            submitted.id,
            submitted.student_id,
            api.Assignment.name,
            submitted.timestamp,
            func.coalesce(func.sum(api.SubmittedNotebook.late_submission_penalty), 0.0),
        )
        .join(api.Assignment, api.Assignment.id == submitted.assignment_id)
        .outerjoin(api.SubmittedNotebook, of_assignment)
        .group_by(submitted.id, submitted.student_id, api.Assignment.name, submitted.timestamp)
    )
    for submission, student, assignment, timestamp, penalty in submissions:
        if assignment in names:
            mine = tuple(sorted(parts.get(submission, ()), key=lambda part: part.name))
            found[student, assignment] = Score(
                points.get(submission) or 0.0,
                penalty,
                str(timestamp or ""),
                mine,
                ungraded=bool(mine) and submission not in begun,
            )
    return found


@contextmanager
def _opened(root: Path) -> Iterator[Any]:
    """The gradebook of `root`, which must be there: nbgrader makes a new one where there is none."""
    if importlib.util.find_spec("nbgrader") is None:
        raise ExportError("reading a gradebook needs nbgrader: pip install 'goodinit[instructor]'")
    from sqlalchemy.exc import SQLAlchemyError

    if not root.is_dir():
        raise ExportError(f"there is no folder {root}; one that `goodinit build --nbgrader` has made is expected")
    missing = gradebook_missing(root)
    if missing:
        raise ExportError(f"{root} holds no gradebook: there is no file {missing}")
    try:
        with gradebook(root) as book:
            yield book
    except SQLAlchemyError as error:
        raise ExportError(f"the gradebook of {root} cannot be read: {cause(error)}") from None


def from_records(course: Course, out: Path, units: Collection[str] = ()) -> Scores:
    """The scores in the folder that `goodinit grade` has written, of all units that were judged unless some are named.

    Raises ExportError where it holds no records, or those of runs that judged by different checks.
    """
    records = {path: _record(path) for path in recorded(out)}
    if not records:
        raise ExportError(f"{out} holds no records; a folder that `goodinit grade --out` has written is expected")
    first, *rest = records
    for path in rest:
        if records[path]["options"] != records[first]["options"]:
            raise ExportError(
                f"{first} and {path} were judged by different checks; grade everybody again with one --unit and --fast"
            )
    shared = records[first]["units"]
    judged = [unit for unit in course.units if unit.id in shared and (not units or unit.id in units)]
    _all_there(units, [unit.id for unit in judged], str(out))
    assignments = [
        Assignment(unit.id, shared[unit.id]["max_points"], str(unit.due or "").removesuffix("+00:00"))
        for unit in judged
    ]
    scores = Scores([], assignments, {})
    by_student: dict[str, list[dict[str, Any]]] = {}
    for record in records.values():
        by_student.setdefault(record["student"], []).append(record)
    for student, mine in by_student.items():
        if len(mine) > 1:
            names = listed(record["submission"] for record in mine)
            scores.notes.append(f"{student} has handed in more than once and is left out: {names}")
            scores.left_out += 1
            continue
        scores.students.append(Student(student))
        for unit in judged:
            scores.by[student, unit.id] = _judged(mine[0], unit.id)
        if mine[0]["problem"]:
            scores.notes.append(f"{student} could not be graded in full: {mine[0]['problem']}")
        if any(verdict["verdict"] == KIT_ERROR for verdict in mine[0]["verdicts"]):
            scores.notes.append(f"{student} met an error of the kit, which cost points; see their page")
    return scores


def _judged(record: dict[str, Any], unit: str) -> Score:
    names = dict.fromkeys(verdict["exercise"] for verdict in record["verdicts"] if verdict["unit"] == unit)
    parts = [Part(name, record["exercises"][name]["points"], record["exercises"][name]["max_points"]) for name in names]
    return Score(record["units"][unit]["points"], parts=tuple(parts), record=record)


def _record(path: Path) -> dict[str, Any]:
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        for entry in (*record["units"].values(), *record["exercises"].values()):
            math.fsum((entry["points"], entry["max_points"]))
        for verdict in record["verdicts"]:
            record["exercises"][Verdict.from_dict(verdict).exercise]
        return {key: record[key] for key in (*RECORD, "units", "exercises", "verdicts")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise ExportError(f"{path} is no record of `goodinit grade`; take it away, or grade again") from None


def _all_there(wanted: Iterable[str], present: list[str], where: str) -> None:
    for name in wanted:
        if name not in present:
            raise ExportError(f"{where} has no {name}{did_you_mean(name, present)}")
    if not present:
        raise ExportError(f"{where} has no assignments yet")


def listed(names: Iterable[str]) -> str:
    """`a, b and 3 more`: as many names as a line can bear."""
    names = list(names)
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
