"""`goodinit hint`, `solution` and `reset`: what works on the student's own file."""

from __future__ import annotations

import argparse
import json
import sys
import tokenize
from pathlib import Path

from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.syntax import Syntax

from grading.build import BEGIN, END, STUBS, back_up, replace
from grading.course import NOTES, Course, Exercise, Unit, hints_given
from grading.subject import Broken, Source, lines_of, read_source, text_of

SIDE_BY_SIDE = 110


class EditError(Exception):
    """One sentence on why a student's file was left as it is."""


def hint(course: Course, args: argparse.Namespace) -> int:
    """Prints the next hint of an exercise, and remembers how many have been given."""
    exercise = _one(course, args.target, "hint")
    given = hints_given(course)
    many = given.get(exercise.id, 0)
    if args.again and many:
        for number, text in enumerate(exercise.hints[:many], start=1):
            print(f"Hint {number} of {len(exercise.hints)} for {exercise.id}: {text}")
        _print_papers(exercise)
        return 0
    if many >= len(exercise.hints):
        print(
            f"All {len(exercise.hints)} hints for {exercise.id} have been given (goodinit hint {exercise.id} --again)."
        )
        print(f"The reference beside your code: goodinit solution {exercise.id}")
        return 0
    print(f"Hint {many + 1} of {len(exercise.hints)} for {exercise.id}: {exercise.hints[many]}")
    _print_papers(exercise)
    _remember_hints(course, {**given, exercise.id: many + 1})
    return 0


def _print_papers(exercise: Exercise) -> None:
    if exercise.papers:
        print(f"To read: {'; '.join(exercise.papers)}")


def solution(course: Course, args: argparse.Namespace) -> int:
    """Prints a student's code and the reference's, side by side where the terminal is wide enough."""
    console = Console(file=sys.stdout)
    for exercise in course.resolve(args.target):
        unit = course.unit_of(exercise.id)
        mine = read_source(course, course.exercise_file(unit))
        theirs = read_source(course, course.solution_file(unit))
        panels = [
            Panel(_code(mine, exercise), title=f"yours: {_shown(mine, unit)}"),
            Panel(_code(theirs, exercise), title=f"reference: solutions/{unit.file}"),
        ]
        if console.width >= SIDE_BY_SIDE:
            for panel in panels:
                panel.width = console.width // 2 - 1
            console.print(Columns(panels, padding=(0, 0)))
        else:
            for panel in panels:
                console.print(panel)
    return 0


def reset(course: Course, args: argparse.Namespace) -> int:
    """Puts the stub of a unit or an exercise back, after keeping the file as it is in a backup."""
    exercises = course.resolve(args.target)
    unit = course.unit_of(exercises[0].id)
    path, pristine = course.exercise_file(unit), STUBS / unit.file
    stub = pristine.read_text(encoding="utf-8")
    if path.exists() and not path.is_file():
        raise EditError(f"exercises/{unit.file} is no file; move it away, and reset {args.target} again")
    if not path.parent.exists():
        raise EditError(f"there is no folder {path.parent} to put the stub in; make it, and reset {args.target} again")
    whole = len(exercises) == len(unit.exercises) and args.target not in course.exercises
    text = stub if whole or not path.is_file() else _with_stub(course, unit, exercises[0], path, stub)
    try:
        if path.is_file():
            if path.read_text(encoding="utf-8", errors="surrogateescape") == text:
                print(f"{args.target} is already as it was given; nothing was changed.")
                return 0
            backup = back_up(course.root, path, path.name).relative_to(course.root)
            print(f"Your work is kept in {backup}")
        replace(path, text)
    except OSError as error:
        where = error.filename or path
        raise EditError(
            f"exercises/{unit.file} stays as it is, since {where} cannot be used: {error.strerror}; "
            "work in a copy of the course that you may write to"
        ) from None
    print(f"{args.target} is back to its stub in exercises/{unit.file}")
    return 0


def _with_stub(course: Course, unit: Unit, exercise: Exercise, path: Path, stub: str) -> str:
    """The student's text with the definitions of one exercise replaced by those of the stub file."""
    mine = read_source(course, path)
    assert mine is not None, "the caller has seen the file"
    if isinstance(mine, Broken):
        raise EditError(
            f"{mine.where}: {mine.problem}; one exercise cannot be told from another in such a file. "
            f"`goodinit reset {unit.short}` resets the whole unit and keeps a backup"
        )
    given = read_source(course, STUBS / unit.file)
    assert isinstance(given, Source), "the stubs are derived, and checked when they are"
    missing = [name for name in exercise.names if name not in mine.definitions]
    if missing:
        raise EditError(
            f"{mine.shown_path} does not define {missing[0]}; `goodinit reset {unit.short}` resets the whole unit "
            "and keeps a backup"
        )
    with path.open("rb") as file:
        encoding, _ = tokenize.detect_encoding(file.readline)
    if encoding not in ("utf-8", "utf-8-sig"):
        raise EditError(
            f"{mine.shown_path} is in {encoding}, and stubs are in UTF-8; save it in UTF-8, without the line that "
            f"names another encoding, and reset {exercise.id} again"
        )
    # not by splitlines, which also cuts where Python's parser counts no line
    lines, stub_lines = text_of(path).rstrip("\n").split("\n"), stub.split("\n")
    for name in sorted(exercise.names, key=lambda name: -mine.definitions[name].lineno):
        first, last = lines_of(mine.definitions[name])
        start, end = lines_of(given.definitions[name])
        lines[first - 1 : last] = stub_lines[start - 1 : end]
    return "\n".join(lines) + "\n"


def _code(source: Source | Broken | None, exercise: Exercise) -> Syntax | str:
    if not isinstance(source, Source):
        return "(there is no such file)" if source is None else f"{source.where}: {source.problem}"
    lines = text_of(source.path).split("\n")
    pieces = []
    for name in exercise.names:
        if name in source.definitions:
            first, last = lines_of(source.definitions[name])
            pieces.append("\n".join(line for line in lines[first - 1 : last] if line.strip() not in (BEGIN, END)))
    if not pieces:
        return f"({exercise.symbol} is not defined)"
    return Syntax("\n\n".join(pieces), "python", word_wrap=True, background_color="default")


def _shown(source: Source | Broken | None, unit: Unit) -> str:
    return source.shown_path if isinstance(source, Source) else f"exercises/{unit.file}"


def _one(course: Course, target: str, command: str) -> Exercise:
    exercises = course.resolve(target)
    if len(exercises) > 1:
        names = ", ".join(exercise.id for exercise in exercises)
        raise EditError(f"`goodinit {command}` takes one exercise; {target} has {names}")
    return exercises[0]


def _remember_hints(course: Course, given: dict[str, int]) -> None:
    try:
        (course.root / NOTES).mkdir(exist_ok=True)
        replace(course.root / NOTES / "hints.json", json.dumps(given, indent=1) + "\n")
    except OSError as error:
        print(
            f"(this hint will come again: {course.root / NOTES} cannot be written, {error.strerror})", file=sys.stderr
        )
