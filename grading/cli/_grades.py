"""`goodinit grades` and `goodinit similar`: what is made of a class that has been graded, or has handed in."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import textwrap
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from grading.build import replace
from grading.course import Course, CourseError
from grading.nbgrader._exports import CANVAS_OWN, FORMATS, INDEX, Export
from grading.nbgrader._roster import read_roster
from grading.nbgrader._scores import ExportError, from_gradebook, from_records
from grading.verdict import clean

SHOWN = 20
# how exports begin: of lines as nbgrader has them, and of columns by assignment
LINES, COLUMNS = ["assignment", "duedate", "timestamp", "student_id"], (["Student", "ID"], ["Last name", "First name"])
# the title of a page of shared passages stands in its first lines
TITLE, HEAD = "<title>Shared passages: ", 1000
# a header is no longer; what has no line breaks is not read to its end
LONGEST_LINE = 100_000


def grades(course: Course, args: argparse.Namespace) -> int:
    """Exports, and returns 1 when somebody had to be left out."""
    units = [_unit(course, target) for target in args.unit or ()]
    folder = args.format == "gradescope-json"
    if folder and args.out is None:
        raise ExportError("--format gradescope-json writes a file per submission; say where by --out FOLDER")
    if args.nbgrader is not None:
        scores = from_gradebook(course, Path(args.nbgrader), units, reasons=folder)
    else:
        scores = from_records(course, Path(args.records), units)
    roster = read_roster(Path(args.roster), args.format) if args.roster else None
    if roster and args.out is not None and Path(args.out).exists() and roster.path.samefile(args.out):
        raise ExportError(f"--out {args.out} is the roster itself; write the grades to another file")
    export = FORMATS[args.format](course, scores, roster)
    if folder:
        _write_folder(Path(args.out), export)
    elif args.out is not None:
        names = [*course.by_unit, *(assignment.name for assignment in scores.assignments)]
        if not _is_export(Path(args.out), export.files[""], names):
            raise _not_overwritten(args.out, "one that an export has written")
        _write_file(Path(args.out), export.files[""])
    else:
        sys.stdout.write(export.files[""])
    _say([*scores.notes, *export.notes])
    if args.out is not None:
        students = _many(len(scores.students) - export.left_out, "student")
        print(f"{students}, {_many(len(scores.assignments), 'assignment')}: {args.out}")
    return 1 if export.left_out or scores.left_out else 0


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def similar(course: Course, args: argparse.Namespace) -> int:
    """Compares, and returns 0 whatever it finds: that two submissions are alike is no mistake."""
    from grading.nbgrader._similarity import LIMITS, compare, page

    if args.out is not None and TITLE not in _beginning(Path(args.out), HEAD, TITLE):
        raise _not_overwritten(args.out, "a page that `goodinit similar` has written")
    chosen = {exercise.id for target in args.unit or () for exercise in course.resolve(target)}
    exercises = [exercise for name, exercise in course.exercises.items() if not chosen or name in chosen]
    report = compare(course, Path(args.folder), exercises, by_exercise=args.by == "exercise")
    if args.out is not None:
        _write_file(Path(args.out), page(course, report))
    for pair in report.pairs[:SHOWN]:
        shares = "  ".join(f"{m.target} {m.shares[0]:.0%}/{m.shares[1]:.0%}" for m in pair.matches)
        print(f"{pair.students[0]}, {pair.students[1]}: {shares}")
    pairs = f"{_many(len(report.pairs), 'pair')} of {report.students} submissions with text in common."
    print(textwrap.fill(f"{pairs} {LIMITS}", 100))
    _say(report.notes)
    if args.out is not None:
        print(f"Side by side: {args.out}")
    return 0


def _say(notes: list[str]) -> None:
    """Each on a line of its own, whatever is in the names that others have chosen."""
    for note in notes:
        print("goodinit:", *clean(note).split(), file=sys.stderr)


def _unit(course: Course, target: str) -> str:
    exercises = course.resolve(target)
    unit = course.by_unit[exercises[0].unit]
    if list(unit.exercises) != exercises:
        raise CourseError(f"grades are exported by unit, and {target!r} is an exercise of {unit.id}")
    return unit.id


def _is_export(path: Path, new: str, names: Iterable[str]) -> bool:
    """Whether `path` is there for an export: it is new, or empty, or begins as one of those assignments does."""
    text = _beginning(path, LONGEST_LINE, new).partition("\n")[0]
    try:
        before, now = next(csv.reader([text]), []), next(csv.reader([new.partition("\n")[0]]), [])
    except csv.Error:
        return False
    if before == now or before[: len(LINES)] == LINES:
        return True
    known = set(names)
    titles = [title in known or title.rpartition(" (")[0] in known for title in before]
    # what Canvas itself exports has the same columns, and more of its own
    if True not in titles or any(CANVAS_OWN.search(title) for title in before):
        return False
    first = titles.index(True)
    return before[:2] in COLUMNS or (first > 0 and before[:first] == now[:first])


def _beginning(path: Path, characters: int, nothing: str) -> str:
    """How a file begins, and `nothing` for one that is empty or not there; no text at all for what is no file."""
    if path.is_dir() or not path.exists():  # which writing it then tells
        return nothing
    if not path.is_file():  # to read from a pipe would wait for whoever writes to it
        return ""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.read(characters) or nothing


def _not_overwritten(out: str, what: str) -> ExportError:
    return ExportError(f"{out} holds something else; --out takes a new file, or {what}")


def _write_file(path: Path, text: str) -> None:
    """Writes a whole file or none."""
    try:
        if path.is_dir():
            raise ExportError(f"{path} cannot be written: it is a folder; give the name of a file in it")
        replace(path, text)
    except OSError as error:
        raise ExportError(f"{path} cannot be written: {error.strerror}") from None


def _write_folder(folder: Path, export: Export) -> None:
    """Writes a folder, over one that was written like this before; of that, nothing is left that is no longer so."""
    before = _index(folder)
    if before is None and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} holds something else; --out takes a new folder, or one that an export has written")
    for name in (before or set()) - set(export.files):
        (folder / name).unlink(missing_ok=True)
    for name, text in export.files.items():
        with suppress(OSError):  # which writing into it then tells
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        _write_file(folder / name, text)


def _index(folder: Path) -> set[str] | None:
    """The files that an earlier export has written there; None where none has."""
    try:
        found = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        names = {name for files in found.values() for name in files.values()}
    except (OSError, ValueError, AttributeError):
        return None
    return {name for name in names if len(Path(name).parts) == 2 and ".." not in Path(name).parts}
