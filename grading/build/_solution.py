"""Reads a unit of solutions/ by cells, and finds which exercise each of its solution regions belongs to."""

from __future__ import annotations

import ast
import re

import jupytext
from nbformat import NotebookNode

from grading.course import Course, Unit

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


class BuildError(Exception):
    """One sentence on what in solutions/ cannot be turned into an exercise, and where."""


def read_solution(course: Course, unit: Unit) -> NotebookNode:
    """The cells of solutions/uN_name.py."""
    try:
        notebook: NotebookNode = jupytext.read(course.solution_file(unit), fmt="py:percent")
    except OSError as error:
        raise BuildError(f"solutions/{unit.file} cannot be read: {error.strerror}") from None
    return notebook


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
