"""Reads the bug bank and the variants, and puts a bug into the reference."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from grading.course import Course, Exercise
from grading.subject import Source, Sources, definitions, lines_of

FOLDER = Path(__file__).parent
REQUIRED = {"exercise", "name", "sentence", "find", "put", "caught_by"}
OPTIONAL = {"dialect"}


class BankError(Exception):
    """One sentence on which entry of the bank is wrong, and how."""


@dataclass(frozen=True)
class Bug:
    """A wrong implementation, as one replacement in the reference's text.

    `sentence` tells a student what was done and what it should be. `caught_by` are the checks that must catch it.
    `dialect` names whose convention it is, where the answer is right by another one than the catalogue's.
    """

    exercise: str
    name: str
    sentence: str
    find: str
    put: str
    caught_by: tuple[str, ...]
    dialect: str | None = None


@dataclass(frozen=True)
class Variant:
    """A right answer, or a wrong one, written as a student would write the whole of it."""

    exercise: str
    name: str
    text: str


def load_bugs(course: Course) -> dict[str, tuple[Bug, ...]]:
    """The bugs of every exercise, as they come in the bank; raises BankError for an entry that cannot be read."""
    return {exercise: bugs for unit in course.by_unit for exercise, bugs in _unit_bugs(course, unit).items()}


def bugs_of(course: Course, exercise: str) -> tuple[Bug, ...]:
    """The bugs of one exercise, without reading those of other units."""
    return _unit_bugs(course, course.exercises[exercise].unit)[exercise]


@cache
def _unit_bugs(course: Course, unit: str) -> dict[str, tuple[Bug, ...]]:
    found: dict[str, list[Bug]] = {exercise.id: [] for exercise in course.by_unit[unit].exercises}
    path = FOLDER / "bank" / f"{unit}.toml"
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8")).get("bug", []) if path.is_file() else []
    except tomllib.TOMLDecodeError as error:
        raise BankError(f"{path.name} is not valid TOML: {error}") from None
    for table in tables:
        bug = _bug(path.name, table)
        if bug.exercise not in found:
            raise BankError(f"{path.name}: bug {bug.name!r} is of {bug.exercise!r}, which is no exercise of {unit}")
        if any(bug.name == other.name for other in found[bug.exercise]):
            raise BankError(f"{path.name}: {bug.exercise} has two bugs named {bug.name!r}")
        found[bug.exercise].append(bug)
    return {name: tuple(bugs) for name, bugs in found.items()}


def _bug(file: str, table: dict[str, Any]) -> Bug:
    name = table.get("name", "(without name)")
    unknown, missing = set(table) - REQUIRED - OPTIONAL, REQUIRED - set(table)
    if unknown or missing:
        problem = f"unknown key {min(unknown)!r}" if unknown else f"the key {min(missing)!r} is missing"
        raise BankError(f"{file}: bug {name!r}: {problem}")
    if not table["caught_by"]:
        raise BankError(f"{file}: bug {name!r}: caught_by names no check")
    return Bug(**{**table, "caught_by": tuple(table["caught_by"])})


def with_bug(course: Course, reference: Sources, bug: Bug) -> Sources:
    """The reference with `bug` in it.

    Raises BankError unless its `find` stands exactly once in the exercise, and where it changes nothing but the text.
    """
    changed = put_in(course, reference, bug)
    unit = course.exercises[bug.exercise].unit
    before, after = (sources.whole(unit).tree.body for sources in (reference, changed))
    old = [ast.dump(node) for node in before if node not in after]
    if old == [ast.dump(node) for node in after if node not in before]:
        raise BankError(f"bug {bug.name!r} of {bug.exercise} changes nothing")
    return changed


def put_in(course: Course, reference: Sources, bug: Bug) -> Sources:
    """The same for a bug of which it is known that it changes something: to find that out takes half the time."""
    exercise = course.exercises[bug.exercise]
    source = reference.whole(exercise.unit)
    lines = source.path.read_text(encoding="utf-8").splitlines(keepends=True)
    spans = sorted(_spans(source, exercise))
    inside = ["".join(lines[first - 1 : last]) for first, last in spans]
    places = sum(text.count(bug.find) for text in inside)
    if places != 1:
        raise BankError(
            f"bug {bug.name!r} of {bug.exercise}: its text to find stands {places} times in the reference, not once"
        )
    for (first, last), text in reversed(list(zip(spans, inside, strict=True))):
        lines[first - 1 : last] = [text.replace(bug.find, bug.put)]
    text = "".join(lines)
    try:
        new = _reparsed(source, exercise, text, bug.put.count("\n") - bug.find.count("\n"))
    except SyntaxError as error:
        raise BankError(f"bug {bug.name!r} of {bug.exercise} is no Python: {error.msg}") from None
    node, body = source.definitions[exercise.symbol], source.tree.body
    index = body.index(node)
    tree = ast.Module([*body[:index], *new, *body[index + 1 :]], source.tree.type_ignores)
    changed = replace(source, tree=tree, definitions=definitions(tree))
    return replace(reference, units={**reference.units, exercise.unit: changed})


def _reparsed(source: Source, exercise: Exercise, text: str, grown: int) -> list[ast.stmt]:
    """The statements of an exercise that has grown by `grown` lines: to parse the whole is ten times the work."""
    node = source.definitions[exercise.symbol]
    first, _ = lines_of(node)
    own = text.splitlines(keepends=True)[first - 1 : (node.end_lineno or first) + grown]
    return source.parsed("\n" * (first - 1) + "".join(own)).tree.body


def _spans(source: Source, exercise: Exercise) -> set[tuple[int, int]]:
    """First and last lines of the definitions of an exercise; a bug of a method may not reach into its class."""
    nodes = [source.definitions[name] for name in exercise.names if name in source.definitions]
    return {lines_of(node) for node in nodes}


CELL = re.compile(r"^# %% (?P<exercise>\w+): (?P<name>.+)$", re.M)


def load_variants(course: Course, folder: Path = FOLDER / "variants") -> list[Variant]:
    """The cells `# %% exercise: name` of the files in `folder`, each the whole text of one answer.

    What stands above the first cell of a file, such as imports, is put above each of its answers.
    """
    found = []
    for unit in course.units:
        path = folder / unit.file
        if not path.is_file():
            continue
        preamble, *pieces = CELL.split(path.read_text(encoding="utf-8"))
        for exercise, name, text in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
            if exercise not in course.exercises:
                raise BankError(f"{path.name}: {exercise!r} is no exercise of the course")
            found.append(Variant(exercise, name, f"{preamble}\n{text}"))
    return found
