"""Reads a unit of solutions/ by cells, and finds which exercise each of its solution regions belongs to."""

from __future__ import annotations

import ast
import re

import jupytext
from nbformat import NotebookNode

from grading.course import Course, Unit

# what both nbgrader and nbformat take for the name of a cell
GRADE_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
TOO_MANY = 1_000_000
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


class BuildError(Exception):
    """One sentence on what in solutions/ cannot be turned into an exercise, and where."""


def read_solution(course: Course, unit: Unit) -> NotebookNode:
    """The cells of solutions/uN_name.py.

    Raises BuildError where a question has no name of its own, or no points.
    """
    try:
        text = course.solution_file(unit).read_text(encoding="utf-8")
    except OSError as error:
        raise BuildError(f"solutions/{unit.file} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BuildError(f"solutions/{unit.file} is no UTF-8 text: save it in UTF-8") from None
    notebook: NotebookNode = jupytext.reads(text, fmt="py:percent")
    _check_questions(unit, notebook, text)
    return notebook


def _check_questions(unit: Unit, notebook: NotebookNode, text: str) -> None:
    names: set[object] = set()
    for cell in notebook.cells:
        # what jupytext makes of words that it cannot read, as prose
        unread = cell.metadata.get("incorrectly_encoded_metadata", "")
        if "question" in unread:
            raise BuildError(
                f'{_where(unit, text, unread)}: `{unread}` cannot be read; write question="NAME" points=2, with a name '
                "in quotes and a number"
            )
        if "question" not in cell.metadata:
            continue
        name, points = cell.metadata["question"], cell.metadata.get("points")
        mark = f'question="{name}"' if isinstance(name, str) else f"question={name}"
        where = _where(unit, text, mark)
        if not isinstance(name, str) or not GRADE_ID.fullmatch(name):
            raise BuildError(
                f"{where}: a question cannot have the name {name!r}: give it one in quotes, of at most 64 letters from "
                "a to z, digits, - and _"
            )
        if name in names:
            raise BuildError(f"{where}: the name {name!r} is given to two questions; give one of them another")
        names.add(name)
        # compared before anything else is done with it: it may be nan, or have hundreds of digits
        number = isinstance(points, int | float) and not isinstance(points, bool)
        if not number or not 0 < points < TOO_MANY:
            found = "" if points is None else f" above 0 and below {TOO_MANY}, not {points!r:.40}"
            raise BuildError(f'{where}: the question {name!r} needs points{found}: question="{name}" points=2')


def _where(unit: Unit, text: str, words: str) -> str:
    """The file, and the lines in which cells begin with these words."""
    lines = enumerate(text.split("\n"), start=1)
    plain = words.replace("'", '"')
    found = [str(number) for number, line in lines if line.startswith("# %%") and plain in line.replace("'", '"')]
    some = f", line{'' if len(found) == 1 else 's'} {' and '.join(found)}" if found else ""
    return f"solutions/{unit.file}{some}"


def regions(source: str) -> list[tuple[int, str]]:
    """The text cut after each END SOLUTION, every piece with the number of its first line, from 1."""
    pieces: list[tuple[int, str]] = []
    lines = source.split("\n")
    start = 0
    for number, line in enumerate(lines, start=1):
        if END in line or number == len(lines):
            pieces.append((start + 1, "\n".join(lines[start:number])))
            start = number
    return [piece for piece in pieces if piece[1] or len(pieces) == 1]


def solved_in(course: Course, unit: Unit, source: str, start: int, piece: str) -> str | None:
    """The exercise that a piece of a code cell solves, where it has a solution region; `start` is its first line."""
    if BEGIN not in piece:
        return None
    return exercise_at(course, unit, source, start + piece[: piece.index(BEGIN)].count("\n"))


def exercise_at(course: Course, unit: Unit, source: str, line: int) -> str:
    """The exercise whose function, class or method holds a line of a cell."""
    qualified = _qualified_name(parsed(unit, source), line)
    for exercise in unit.exercises:
        for name in exercise.names:
            if qualified == name or qualified.startswith(name + "."):
                return exercise.id
    raise BuildError(
        f"solutions/{unit.file}: the solution region in `{qualified or source.splitlines()[0]}` belongs to no exercise "
        f"of {unit.id} in course.toml"
    )


def parsed(unit: Unit, source: str) -> ast.Module:
    """A code cell as syntax, in which a magic is a comment; raises BuildError where it is no Python."""
    try:
        return ast.parse(re.sub(r"^%", "# %", source, flags=re.M))
    except SyntaxError as error:
        line = (error.text or "").strip()
        raise BuildError(f"solutions/{unit.file} is no Python: {error.msg}, in `{line}`") from None


def _qualified_name(tree: ast.AST, line: int) -> str:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno <= line <= (node.end_lineno or line):
            inner = _qualified_name(node, line)
            return f"{node.name}.{inner}" if inner else node.name
    return ""
