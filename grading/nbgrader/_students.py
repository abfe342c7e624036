"""Enters the students of a CSV file into a gradebook."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grading.course import did_you_mean

from ._config import NbgraderError

COLUMNS = ("id", "first_name", "last_name", "email", "lms_user_id")
DELIMITERS = ",;\t"
# nbgrader makes folders of ids, and separates them by + in the names of what is handed in
ID = re.compile(r"[^\s/\\+.\x00-\x1f][^/\\+\x00-\x1f]*")
# nbgrader finds submissions by glob
PATTERN = re.compile(r"[*?\[\]]")
# besides what is not printable: fillers, joiners, blanks and variation selectors
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# characters in nbgrader's gradebook; bytes leave room in names of files, too
LONGEST = 128


@dataclass(frozen=True)
class Entered:
    """How many students a file names, and how many of them were new or have changed."""

    students: int
    added: int
    changed: int


def read_students(path: Path) -> list[dict[str, str | None]]:
    """The students of a CSV file with a header: `id` and any of first_name, last_name, email and lms_user_id.

    Raises NbgraderError, with the line, for the first thing that is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise NbgraderError(f"{path} is no UTF-8 text: save the table as CSV in UTF-8") from None
    except IsADirectoryError:
        raise NbgraderError(f"{path} is a folder: give a CSV file with the columns {', '.join(COLUMNS)}") from None
    delimiter = max(DELIMITERS, key=text.partition("\n")[0].count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if any(value.strip() for value in row):
                rows.append((reader.line_num, [value.strip() for value in row]))
    except csv.Error as error:
        raise NbgraderError(f"{path}, line {reader.line_num}: {error}") from None
    if not rows:
        raise NbgraderError(f"{path} is empty: its first line has the columns {', '.join(COLUMNS)}")
    columns = _columns(path, *rows[0])
    students: dict[str, tuple[int, dict[str, str | None]]] = {}
    for line, row in rows[1:]:
        if len(row) != len(columns):
            raise NbgraderError(f"{path}, line {line}: {len(row)} values for {len(columns)} columns")
        student: dict[str, str | None] = {name: value or None for name, value in zip(columns, row, strict=True)}
        name = student["id"] or ""
        problem = _problem(name)
        if problem:
            raise NbgraderError(f"{path}, line {line}: {problem}")
        if name in students:
            raise NbgraderError(
                f"{path}, line {line}: the id {name!r} is used twice, first in line {students[name][0]}"
            )
        students[name] = line, student
    return [student for _, student in students.values()]


def _problem(name: str) -> str:
    """Why nobody could be graded under an id; empty where somebody can."""
    if not ID.fullmatch(name):
        problem = f"the id {name!r} cannot name a folder" if name else "the id is missing"
        return f"{problem}; ids hold no / \\ or +, and begin with no dot"
    if pattern := PATTERN.search(name):
        return (
            f"the id {name!r} has {pattern[0]} in it, and nbgrader would look for whatever matches that; leave it out"
        )
    unseen = next((one for one in name if not one.isprintable() or UNSEEN.match(one)), None)
    if unseen:
        return f"the id {name!r} has a character that cannot be seen (U+{ord(unseen):04X}); leave it out"
    if len(name.encode()) > LONGEST:
        return f"the id {name[:20]!r}... is longer than {LONGEST} bytes, which a gradebook has no room for; shorten it"
    return ""


def enter_students(book: Any, students: Iterable[dict[str, str | None]]) -> Entered:
    """Adds the students that the gradebook lacks and renews the others; nobody is taken out."""
    known = {student.id: student for student in book.students}
    many = added = changed = 0
    for student in students:
        values = {key: value for key, value in student.items() if key != "id"}
        before = known.get(student["id"])
        many += 1
        if before is None:
            added += 1
        elif any(getattr(before, key) != value for key, value in values.items()):
            changed += 1
        else:
            continue
        book.update_or_create_student(student["id"], **values)
    return Entered(many, added, changed)


def _columns(path: Path, line: int, row: list[str]) -> list[str]:
    names = [name.casefold().replace(" ", "_") for name in row]
    for name, shown in zip(names, row, strict=True):
        if name not in COLUMNS:
            near = did_you_mean(name, COLUMNS)
            known = ", ".join(COLUMNS)
            raise NbgraderError(f"{path}, line {line}: unknown column {shown!r}{near}; the columns are {known}")
        if names.count(name) > 1:
            raise NbgraderError(f"{path}, line {line}: the column {name!r} is there twice")
    if "id" not in names:
        raise NbgraderError(f"{path}, line {line}: the column 'id' is missing")
    return names
