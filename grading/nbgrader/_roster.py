"""Finds everybody in a list that the learning management system has exported, so that its own ids are written."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ._scores import ExportError, Student, listed

# the headers by which a system exports people: what identifies them, and what they are called
IDS = {
    "canvas": ("id", "sis user id", "sis login id", "integration id"),
    "moodle": ("username", "id number", "email address", "email"),
    "gradescope-json": ("sid", "student id", "email", "email address"),
}
FIRST, LAST, NAME = ("first name", "firstname"), ("last name", "lastname", "surname"), ("name", "student")
# people of Canvas's that are none
TEST_STUDENT = "student, test"
POINTS = "points possible"


@dataclass
class Roster:
    """The lines of an exported list, each a person's."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    ids: list[int]
    points: list[str] = field(default_factory=list)

    def column(self, names: Sequence[str]) -> int | None:
        return next((index for index, title in enumerate(self.header) if title.casefold() in names), None)

    def name(self, row: list[str]) -> str:
        """`Emmy Noether`, whichever way it is written."""
        first, last, whole = (self.column(names) for names in (FIRST, LAST, NAME))
        if first is not None and last is not None:
            return f"{row[first]} {row[last]}"
        text = "" if whole is None else row[whole]
        return " ".join(reversed([word.strip() for word in text.split(",")])) if text.count(",") == 1 else text


@dataclass
class Matched:
    """The line of each student who was found, and sentences on the others."""

    rows: dict[str, list[str]]
    notes: list[str]
    left_out: int


def read_roster(path: Path, kind: str) -> Roster:
    """Reads a list that was exported from the system `kind`.

    Raises ExportError where there is none, or none that says who is who.
    """
    if kind not in IDS:
        raise ExportError(f"--format {kind} takes no --roster: its ids are those of the class itself")
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text)) if any(row)]
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise ExportError(f"{path} is no CSV file in UTF-8: {error}") from None
    header = [title.strip() for title in lines[0]] if lines else []
    ids = [index for index, title in enumerate(header) if title.casefold() in IDS[kind]]
    if not ids:
        wanted = ", ".join(f"{name!r}" for name in IDS[kind])
        raise ExportError(f"{path} does not say who is who: its first line has none of the columns {wanted}")
    roster = Roster(path, header, [], ids)
    for row in lines[1:]:
        row = [cell.strip() for cell in row] + [""] * (len(header) - len(row))
        if POINTS in row[0].casefold():
            roster.points = row
        elif row[0].casefold() != TEST_STUDENT and any(row[index] for index in ids):
            roster.rows.append(row)
    return roster


def match(students: Iterable[Student], roster: Roster) -> Matched:
    """Whose line is whose: by an id or an address, else by what stands before the @ of one, else by name.

    A student for whom several lines would do has none, and so have several for whom one would do.
    """
    ways: list[tuple[bool, Callable[[Student], set[str]], dict[str, list[int]]]] = [
        (True, lambda s: {s.id, s.email, s.lms_id}, _index((index, row[c]) for index, row, c in _cells(roster))),
        (False, lambda s: {s.id}, _index((index, row[c].partition("@")[0]) for index, row, c in _cells(roster))),
        (False, _full_name, _index((index, roster.name(row)) for index, row in enumerate(roster.rows))),
    ]
    found: dict[str, tuple[int, bool]] = {}
    missing, unclear = [], []
    for student in students:
        for sure, keys, index in ways:
            lines = {line for key in keys(student) if key.strip() for line in index.get(_plain(key), ())}
            if len(lines) == 1:
                found[student.id] = lines.pop(), sure
            if lines:
                unclear.append(student.id)
            if lines or student.id in found:
                break
        else:
            missing.append(student.id)
    by_line = [line for line, _ in found.values()]
    shared = [student for student, (line, _) in found.items() if by_line.count(line) > 1]
    rows = {student: roster.rows[line] for student, (line, _) in found.items() if student not in shared}
    guessed = [f"{student} as {_shown(roster, rows[student])}" for student in rows if not found[student][1]]
    strangers = [_shown(roster, row) for line, row in enumerate(roster.rows) if line not in by_line]
    sentences = [
        (missing, f"not found in {roster.path}, and left out"),
        (unclear, f"several lines of {roster.path} would do, and left out"),
        (shared, f"would share a line of {roster.path}, and left out"),
        (guessed, "recognised by name only; please check"),
        (strangers, f"in {roster.path}, but not in this class"),
    ]
    notes = [f"{sentence}: {listed(names)}" for names, sentence in sentences if names]
    return Matched(rows, notes, len(missing) + len(unclear) + len(shared))


def _cells(roster: Roster) -> Iterable[tuple[int, list[str], int]]:
    return ((index, row, column) for (index, row), column in itertools.product(enumerate(roster.rows), roster.ids))


def _index(entries: Iterable[tuple[int, str]]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for line, text in entries:
        if text.strip():
            found.setdefault(_plain(text), []).append(line)
    return found


def _full_name(student: Student) -> set[str]:
    return {f"{student.first_name} {student.last_name}"} if student.first_name and student.last_name else set()


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _shown(roster: Roster, row: list[str]) -> str:
    return next((row[index] for index in reversed(roster.ids) if row[index]), roster.name(row))


def _delimiter(text: str) -> str:
    """What parts the cells of the first line."""
    first = text.partition("\n")[0]
    return max(",;\t", key=first.count)
