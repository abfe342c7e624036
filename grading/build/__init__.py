"""Derives what students edit from solutions/: exercises/ and the pristine stubs that `goodinit reset` returns to."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from grading.course import Course, Unit

STUBS = Path(__file__).parent / "stubs"
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


class BuildError(Exception):
    """One sentence on what in solutions/ cannot be turned into an exercise, and where."""


@dataclass(frozen=True)
class Derived:
    """One derived file: what it should hold, and what it holds now (None when it is not there)."""

    path: Path
    text: str
    present: str | None

    @property
    def in_step(self) -> bool:
        return self.text == self.present


def derive(course: Course) -> list[Derived]:
    """Every derived file of the course, with its present text beside it; writes nothing.

    Raises BuildError where a solution region belongs to no exercise, or an exercise has no region.
    """
    files = []
    for unit in course.units:
        text = stub_text(course, unit)
        for path in (course.exercise_file(unit), STUBS / unit.file):
            files.append(Derived(path, text, path.read_text(encoding="utf-8") if path.is_file() else None))
    return files


def edited(course: Course) -> list[Path]:
    """The files in exercises/ that somebody has worked in: they differ from the stubs that they were derived as."""
    work = []
    for unit in course.units:
        path, pristine = course.exercise_file(unit), STUBS / unit.file
        if path.is_file() and (not pristine.is_file() or path.read_bytes() != pristine.read_bytes()):
            work.append(path)
    return work


def write(files: list[Derived]) -> list[Path]:
    """Writes the files that are out of step and returns their paths."""
    changed = [file for file in files if not file.in_step]
    for file in changed:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        file.path.write_text(file.text, encoding="utf-8")
    return [file.path for file in changed]


def stub_text(course: Course, unit: Unit) -> str:
    """The text of exercises/uN_name.py: the solution with its regions cleared."""
    path = course.solution_file(unit)
    try:
        notebook = jupytext.read(path, fmt="py:percent")
    except OSError as error:
        raise BuildError(f"solutions/{unit.file} cannot be read: {error.strerror}") from None
    cleared: set[str] = set()
    for cell in notebook.cells:
        cell.source, names = _clear(course, unit, cell)
        cleared |= names
    untouched = [exercise.id for exercise in unit.exercises if exercise.id not in cleared]
    if untouched:
        raise BuildError(f"solutions/{unit.file} has no solution region for {', '.join(untouched)}")
    notebook.metadata.setdefault("jupytext", {})["notebook_metadata_filter"] = "-all"
    text: str = jupytext.writes(notebook, fmt="py:percent")
    return text


def _clear(course: Course, unit: Unit, cell: NotebookNode) -> tuple[str, set[str]]:
    """A cell's text with each region replaced by a stub that names its exercise, and the exercises so named.

    nbgrader's ClearSolutions puts the same stub in all regions of a cell, so it is given one region at a time.
    """
    from nbgrader.preprocessors import ClearMarkScheme, ClearSolutions

    pieces, names = [], set()
    for start, piece in _regions(cell.source):
        stub, code = "", cell.cell_type == "code"
        if code and BEGIN in piece:
            line = start + piece[: piece.index(BEGIN)].count("\n")
            name = _exercise_at(course, unit, cell.source, line)
            names.add(name)
            stub = f'raise NotImplementedError("{name}: replace this line with your own")'
        part = NotebookNode(cell_type=cell.cell_type, source=piece, metadata={})  # type: ignore[no-untyped-call]
        clear = ClearSolutions(code_stub={"python": stub}, text_stub="Your answer here.", enforce_metadata=False)
        part, _ = clear.preprocess_cell(part, {"language": "python"}, 0)
        part, _ = ClearMarkScheme(enforce_metadata=False).preprocess_cell(part, {}, 0)
        pieces.append(part.source)
    return "\n".join(pieces), names


def _regions(source: str) -> list[tuple[int, str]]:
    """The text cut after each END SOLUTION, every piece with the number of its first line, from 1."""
    pieces: list[tuple[int, str]] = []
    lines = source.split("\n")
    start = 0
    for number, line in enumerate(lines, start=1):
        if END in line or number == len(lines):
            pieces.append((start + 1, "\n".join(lines[start:number])))
            start = number
    return [piece for piece in pieces if piece[1] or len(pieces) == 1]


def _exercise_at(course: Course, unit: Unit, source: str, line: int) -> str:
    """The exercise whose function, class or method holds a line of a cell."""
    qualified = _qualified_name(ast.parse(re.sub(r"^%", "# %", source, flags=re.M)), line)
    for exercise in unit.exercises:
        for name in exercise.names:
            if qualified == name or qualified.startswith(name + "."):
                return exercise.id
    raise BuildError(
        f"solutions/{unit.file}: the solution region in `{qualified or source.splitlines()[0]}` belongs to no exercise "
        f"of {unit.id} in course.toml"
    )


def _qualified_name(tree: ast.AST, line: int) -> str:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.lineno <= line <= (node.end_lineno or line):
            inner = _qualified_name(node, line)
            return f"{node.name}.{inner}" if inner else node.name
    return ""
