"""Reads and checks course.toml: the units, exercises and points that everything else follows."""

from __future__ import annotations

import difflib
import keyword
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from datetime import date, datetime, time
from functools import cached_property
from pathlib import Path
from typing import Any

from ._notes import NOTES, hints_given
from ._places import Places

__all__ = [
    "NOTES",
    "CellLimits",
    "Course",
    "CourseError",
    "Exercise",
    "Late",
    "Limits",
    "Nbgrader",
    "Unit",
    "did_you_mean",
    "find_above",
    "find_root",
    "hints_given",
    "load",
]

FILE = "course.toml"
# where course.toml, suites and solutions lie in an installed wheel
KIT = "kit"
POINTS_IN_ALL = 100
HINTS_PER_EXERCISE = 3
# a cell is named check-ID, in at most 64 characters
LONGEST_ID = 58
# no limit is as large, in seconds or anything else; larger ones could not be told to the system
BEYOND = 10**9
# TOML has no larger ones
LARGEST = 2**63 - 1
# what no line of text has, and no path
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# nothing is judged in less
SHORTEST = 0.1
# dates beyond could not be told in all time zones, nor by all databases
FIRST_YEAR, LAST_YEAR = 1970, 9998
NOUNS: dict[type, str] = {
    str: "a string", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a table",
    datetime: "a date and time with its zone, such as 2027-03-01T23:59:00Z",
}  # fmt: skip


class CourseError(Exception):
    """One sentence on what is wrong with course.toml, or with a target, and where."""


@dataclass(frozen=True)
class Exercise:
    """One function, class or group of methods that a student writes."""

    id: str
    unit: str
    names: tuple[str, ...]
    points: int
    hints: tuple[str, ...]
    requires: tuple[str, ...] = ()
    delegation: tuple[str, ...] = ()
    papers: tuple[str, ...] = ()
    own_pieces: bool = False

    @property
    def title(self) -> str:
        return f"{self.unit}::{self.id}"

    @property
    def symbol(self) -> str:
        """The function or class that a suite receives: `SGD` for the names `SGD.step`, `SGD.opt_step`."""
        return self.names[0].partition(".")[0]

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of `symbol` that belong to this exercise; empty when all of `symbol` does."""
        return tuple(name.partition(".")[2] for name in self.names if "." in name)


@dataclass(frozen=True)
class Unit:
    """One file of the course: u7_normalization is exercises/, solutions/ and tests/test_ of that name."""

    id: str
    title: str
    summary: str
    exercises: tuple[Exercise, ...]
    due: datetime | None = None

    @property
    def short(self) -> str:
        return self.id.partition("_")[0]

    @property
    def file(self) -> str:
        return f"{self.id}.py"

    @property
    def suite(self) -> str:
        return f"test_{self.id}.py"

    @property
    def points(self) -> int:
        return sum(exercise.points for exercise in self.exercises)


@dataclass(frozen=True)
class CellLimits:
    """What cells may take and show: seconds each, and all together; characters and bytes of pictures each."""

    seconds: float
    all_seconds: float
    characters: int = 100_000
    picture_bytes: int = 4_000_000


@dataclass(frozen=True)
class Limits:
    """What a submission may use: seconds of wall time and, behind the wall, of its processor, memory and handles.

    Memory (address space, and what of it is private and writable) counts from what torch takes before any code of the
    submission runs. The cells of a notebook together have `notebook_seconds`; each may show so many kilobytes of text
    and of pictures.
    """

    check_seconds: float = 30.0
    slow_check_seconds: float = 600.0
    import_seconds: float = 10.0
    submission_seconds: float = 900.0
    cpu_seconds: int = 1200
    memory_mb: int = 3072
    data_mb: int = 2048
    threads: int = 64
    open_files: int = 64
    frame_mb: int = 256
    notebook_seconds: float = 300.0
    cell_kilobytes: int = 100
    cell_picture_kilobytes: int = 4000

    def of_cells(self, seconds: float | None = None) -> CellLimits:
        """The limits of a notebook's cells, of which each may take so many seconds; unless given, as long as all."""
        return CellLimits(
            seconds or self.notebook_seconds,
            self.notebook_seconds,
            self.cell_kilobytes * 1000,
            self.cell_picture_kilobytes * 1000,
        )


@dataclass(frozen=True)
class Late:
    """What a late submission loses: after `grace_hours`, `percent_per_day` of its points for each day begun.

    Days count from the due date. They take `percent_at_most`; `zero_after_days` leaves nothing all the same.
    """

    grace_hours: float = 0.0
    percent_per_day: float = 0.0
    percent_at_most: float = 100.0
    zero_after_days: float | None = None


@dataclass(frozen=True)
class Nbgrader:
    """How the course is run with nbgrader: `install` goes to pip in a notebook; `hidden` holds private suites."""

    install: str = "goodinit"
    course_id: str = "goodinit"
    hidden: str = ""
    late: Late = field(default_factory=Late)


@dataclass(frozen=True)
class Course:
    title: str
    root: Path
    units: tuple[Unit, ...]
    limits: Limits = field(default_factory=Limits)
    nbgrader: Nbgrader = field(default_factory=Nbgrader)

    @cached_property
    def exercises(self) -> dict[str, Exercise]:
        """Every exercise by its id, in the order in which a student meets them."""
        return {exercise.id: exercise for unit in self.units for exercise in unit.exercises}

    @cached_property
    def by_unit(self) -> dict[str, Unit]:
        return {unit.id: unit for unit in self.units}

    def unit_of(self, exercise: str) -> Unit:
        return self.by_unit[self.exercises[exercise].unit]

    def exercise_file(self, unit: Unit) -> Path:
        return self.root / "exercises" / unit.file

    def solution_file(self, unit: Unit) -> Path:
        return self.root / "solutions" / unit.file

    def suite_file(self, unit: Unit) -> Path:
        return self.root / "tests" / unit.suite

    def prerequisites(self, exercise: str) -> list[str]:
        """All that `exercise` builds on, directly or not, in course order."""
        found: set[str] = set()
        todo = list(self.exercises[exercise].requires)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.exercises[name].requires
        return [name for name in self.exercises if name in found]

    def resolve(self, target: str) -> list[Exercise]:
        """The exercises that a target names: `u7`, `u7_normalization`, `batch_norm`, `u7_normalization::batch_norm`.

        Raises CourseError, with the nearest right word, for anything else.
        """
        unit_word, separator, exercise_word = target.removesuffix(".py").rpartition("::")
        units = [unit for unit in self.units if exercise_word in (unit.id, unit.short)]
        if units and not separator:
            return list(units[0].exercises)
        exercise = self.exercises.get(exercise_word)
        if exercise and (not separator or unit_word in (exercise.unit, self.by_unit[exercise.unit].short)):
            return [exercise]
        words = [*self.exercises, *self.by_unit, *(unit.short for unit in self.units)]
        words += [exercise.title for exercise in self.exercises.values()]
        raise CourseError(
            f"there is no unit or exercise {target!r}{did_you_mean(target, words)}; `goodinit` lists them all"
        )


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """` (did you mean 'batch_norm'?)`, or nothing when no word is near."""
    near = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f" (did you mean {near[0]!r}?)" if near else ""


def find_root(start: Path) -> Path:
    """The nearest folder at or above `start` that holds course.toml, else the one this machinery came with."""
    here = Path(__file__).resolve().parents[1]
    found = find_above(start) or _holds_course(here.parent, here / KIT)
    if found is None:
        raise CourseError(f"no {FILE} in {start} or above it: run this inside a copy of the course")
    return found


def find_above(start: Path) -> Path | None:
    """The nearest folder at or above `start` that holds course.toml."""
    return _holds_course(start, *start.parents)


def _holds_course(*folders: Path) -> Path | None:
    # also where it is no file, or a link that leads nowhere: another course would be a surprise
    return next((folder for folder in folders if os.path.lexists(folder / FILE)), None)


def load(root: Path) -> Course:
    """Reads `root`/course.toml.

    Raises CourseError with one sentence, and the line, for whatever does not hold.
    """
    path = root / FILE
    try:
        # to read from a pipe would wait for whoever writes to it
        if os.path.lexists(path) and not path.is_file():
            raise CourseError(f"{path} is no file; move it away, or put the course's own {FILE} there")
        text = path.read_text(encoding="utf-8-sig")
        data = tomllib.loads(text)
    except OSError as error:
        raise CourseError(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise CourseError(f"{FILE} is not valid TOML: its brackets are nested too deeply") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CourseError(f"{FILE} is not valid TOML: {error}") from None
    except ValueError:  # what else Python refuses to read
        raise CourseError(
            f"{FILE} is not valid TOML: it has a number with thousands of digits, or no such date"
        ) from None
    return _Reader(root, Places(text)).course(data)


class _Reader:
    """Turns the tables of course.toml into a Course, naming the line of the first thing that is wrong."""

    def __init__(self, root: Path, places: Places) -> None:
        self.root = root
        self.places = places

    def course(self, data: dict[str, Any]) -> Course:
        self.keys(
            "the course", data, (), required={"title": str, "unit": list}, optional={"limits": dict, "nbgrader": dict}
        )
        limits = data.get("limits", {})
        kinds: dict[str, type] = {entry.name: type(entry.default) for entry in fields(Limits)}
        self.keys("[limits]", limits, ("limits",), required={}, optional=kinds)
        for key, value in limits.items():
            wanted = f"{NOUNS[kinds[key]]} above 0 and below {BEYOND}"
            self.bounded("[limits]", ("limits",), key, value, wanted, 0 < value < BEYOND)
            if kinds[key] is float:
                wanted = f"a number of seconds from {SHORTEST}"
                self.bounded("[limits]", ("limits",), key, value, wanted, value >= SHORTEST)
        self.tables("the course", data, (), "unit")
        units = tuple(self.unit(number, table) for number, table in enumerate(data["unit"]))
        course = Course(
            title=data["title"], root=self.root, units=units, limits=Limits(**limits), nbgrader=self.nbgrader(data)
        )
        self.unique_ids(course)
        self.known_prerequisites(course)
        self.no_cycle(course)
        self.points_add_up(course)
        self.files_exist(course)
        self.names_exist(course)
        return course

    def nbgrader(self, data: dict[str, Any]) -> Nbgrader:
        table = dict(data.get("nbgrader", {}))
        kinds: dict[str, type] = {"install": str, "course_id": str, "hidden": str, "late": dict}
        self.keys("[nbgrader]", table, ("nbgrader",), required={}, optional=kinds)
        for key in ("install", "course_id"):
            if key in table and (not table[key].strip() or CONTROL.search(table[key])):
                self.fail(("nbgrader",), key, f"[nbgrader]: {key!r} takes one line of text, not {table[key]!r}")
        if CONTROL.search(table.get("hidden", "")):
            self.fail(("nbgrader",), "hidden", f"[nbgrader]: 'hidden' takes a folder, not {table['hidden']!r}")
        late, place = table.pop("late", {}), ("nbgrader", "late")
        self.keys("[nbgrader.late]", late, place, required={}, optional={entry.name: float for entry in fields(Late)})
        for key, value in late.items():
            most, wanted = (100.0, "from 0 to 100") if key.startswith("percent") else (1e6, "of 0 or more")
            self.bounded("[nbgrader.late]", place, key, value, f"a number {wanted}", 0 <= value <= most)
        policy = Late(**late)
        if policy.zero_after_days is not None and policy.zero_after_days * 24 < policy.grace_hours:
            self.fail(place, "zero_after_days", "[nbgrader.late]: 'zero_after_days' is over before 'grace_hours' is")
        return Nbgrader(**table, late=policy)

    def unit(self, number: int, table: dict[str, Any]) -> Unit:
        place = ("unit", number)
        name = f"unit {_told(table.get('id', number + 1))}"
        required: dict[str, type] = {"id": str, "title": str, "summary": str, "exercise": list}
        self.keys(name, table, place, required=required, optional={"due": datetime})
        self.identifier(name, table, place)
        if "due" in table and table["due"].tzinfo is None:
            self.fail(place, "due", f"{name}: 'due' takes {NOUNS[datetime]}, not {table['due'].isoformat()}")
        if "due" in table and not FIRST_YEAR <= table["due"].year <= LAST_YEAR:
            years = f"a year from {FIRST_YEAR} to {LAST_YEAR}"
            self.fail(place, "due", f"{name}: 'due' takes {years}, not {table['due'].isoformat()}")
        self.tables(name, table, place, "exercise")
        exercises = tuple(
            self.exercise(table["id"], (*place, "exercise", n), entry) for n, entry in enumerate(table["exercise"])
        )
        return Unit(table["id"], table["title"], table["summary"], exercises, table.get("due"))

    def exercise(self, unit: str, place: tuple[str | int, ...], table: dict[str, Any]) -> Exercise:
        name = f"exercise {_told(table.get('id', '(without id)'))} of {unit}"
        self.keys(
            name,
            table,
            place,
            required={"id": str, "names": list, "points": int, "hints": list},
            optional={"requires": list, "delegation": list, "papers": list, "own_pieces": bool},
        )
        self.identifier(name, table, place)
        for key, value in table.items():
            if isinstance(value, list) and not all(isinstance(item, str) for item in value):
                self.fail(place, key, f"{name}: {key!r} takes a list of strings")
        if len(table["hints"]) != HINTS_PER_EXERCISE:
            self.fail(
                place,
                "hints",
                f"{name} has {len(table['hints'])} hints, and takes {HINTS_PER_EXERCISE} of rising directness",
            )
        if table["points"] < 1:
            self.fail(place, "points", f"{name}: points must be 1 or more, not {table['points']}")
        if not table["names"] or len({entry.partition(".")[0] for entry in table["names"]}) != 1:
            self.fail(place, "names", f"{name}: 'names' takes one function or class, or methods of one class")
        for entry in table["names"]:
            if not all(map(_is_identifier, entry.split("."))):
                wanted = f"names that {unit}.py defines, such as 'mean', or 'SGD.step' for a method"
                self.fail(place, "names", f"{name}: 'names' takes {wanted}, not {entry!r}")
        lists = {key: tuple(value) for key, value in table.items() if isinstance(value, list)}
        return Exercise(**{**table, **lists, "unit": unit})

    def identifier(self, name: str, table: dict[str, Any], place: tuple[str | int, ...]) -> None:
        """An id names files, arguments and the cells of notebooks."""
        if not (_is_identifier(table["id"]) and table["id"].isascii() and len(table["id"]) <= LONGEST_ID):
            wanted = f"a Python name of at most {LONGEST_ID} ASCII characters, such as 'batch_norm'"
            self.fail(place, "id", f"{name}: 'id' takes {wanted}, not {table['id']!r}")

    def tables(self, name: str, table: dict[str, Any], place: tuple[str | int, ...], key: str) -> None:
        for entry in table[key]:
            if not isinstance(entry, dict):
                header = ".".join(str(word) for word in (*place, key) if isinstance(word, str))
                self.fail(place, key, f"{name}: {key!r} takes tables, each below [[{header}]], not {_told(entry)}")

    def keys(
        self,
        name: str,
        table: dict[str, Any],
        place: tuple[str | int, ...],
        required: dict[str, type],
        optional: dict[str, type] | None = None,
    ) -> None:
        known = {**required, **(optional or {})}
        for key, value in table.items():
            if key not in known:
                self.fail(place, key, f"{name}: unknown key {key!r}{did_you_mean(key, known)}")
            wanted: Any = (int, float) if known[key] is float else known[key]
            if not isinstance(value, wanted) or (isinstance(value, bool) and known[key] is not bool):
                self.fail(place, key, f"{name}: {key!r} takes {NOUNS[known[key]]}, not {_told(value)}")
            if isinstance(value, int) and not -LARGEST <= value <= LARGEST:
                self.fail(place, key, f"{name}: {key!r} takes a number of at most 64 bits")
        for key in required:
            if key not in table:
                self.fail(place, None, f"{name}: the key {key!r} is missing")

    def bounded(
        self, name: str, place: tuple[str | int, ...], key: str, value: float, wanted: str, within: bool
    ) -> None:
        if not within:
            self.fail(place, key, f"{name}: {key!r} takes {wanted}, not {_told(value)}")

    def unique_ids(self, course: Course) -> None:
        seen: dict[str, str] = {}
        for place, thing in self.ids(course):
            if thing.id in seen:
                self.fail(place, "id", f"the id {thing.id!r} is used twice, first by {seen[thing.id]}")
            seen[thing.id] = f"{type(thing).__name__.lower()} {thing.id!r} in line {self.places.line(place, 'id')}"

    def known_prerequisites(self, course: Course) -> None:
        for place, thing in self.ids(course):
            if isinstance(thing, Exercise):
                for name in thing.requires:
                    if name not in course.exercises:
                        near = did_you_mean(name, course.exercises)
                        self.fail(place, "requires", f"exercise {thing.id!r}: unknown prerequisite {name!r}{near}")

    def no_cycle(self, course: Course) -> None:
        for place, thing in self.ids(course):
            if isinstance(thing, Exercise) and thing.id in course.prerequisites(thing.id):
                self.fail(
                    place, "requires", f"exercise {thing.id!r} is, through its prerequisites, its own prerequisite"
                )
        order = list(course.exercises)
        for place, thing in self.ids(course):
            for name in getattr(thing, "requires", ()):
                if order.index(name) > order.index(thing.id):
                    self.fail(place, "requires", f"exercise {thing.id!r}: its prerequisite {name!r} comes after it")

    def points_add_up(self, course: Course) -> None:
        points = sum(unit.points for unit in course.units)
        if points != POINTS_IN_ALL:
            raise CourseError(f"{FILE}: the exercises' points add up to {points}, and should to {POINTS_IN_ALL}")

    def files_exist(self, course: Course) -> None:
        for number, unit in enumerate(course.units):
            if not course.suite_file(unit).is_file():
                self.fail(("unit", number), "id", f"unit {unit.id!r} has no suite: tests/{unit.suite} is missing")

    def names_exist(self, course: Course) -> None:
        """That a solution has the words; whether it defines them there, only a build can tell."""
        for number, unit in enumerate(course.units):
            try:
                text = course.solution_file(unit).read_text(encoding="utf-8", errors="replace")
            except OSError:  # a course may have none; who needs it says so
                continue
            defined = set(re.findall(r"^ *(?:def|class) +(\w+)", text, re.M))
            for index, exercise in enumerate(unit.exercises):
                for word in ".".join(exercise.names).split("."):
                    if word not in defined and not re.search(rf"\b{word}\b", text):
                        self.fail(
                            ("unit", number, "exercise", index),
                            "names",
                            f"exercise {exercise.id!r} of {unit.id}: solutions/{unit.file} has no {word!r}"
                            f"{did_you_mean(word, sorted(defined))}; 'names' takes what it defines",
                        )

    def ids(self, course: Course) -> Iterator[tuple[tuple[str | int, ...], Unit | Exercise]]:
        for number, unit in enumerate(course.units):
            yield ("unit", number), unit
            for index, exercise in enumerate(unit.exercises):
                yield ("unit", number, "exercise", index), exercise

    def fail(self, place: tuple[str | int, ...], key: str | None, sentence: str) -> None:
        raise CourseError(f"{FILE}, line {self.places.line(place, key)}: {sentence}")


def _is_identifier(word: str) -> bool:
    return word.isidentifier() and not keyword.iskeyword(word)


def _told(value: object) -> str:
    """A value as it may stand in a sentence."""
    if isinstance(value, date | time):
        return value.isoformat()
    try:
        return repr(value)
    except ValueError:
        return "a number with thousands of digits"
