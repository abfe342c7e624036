"""Derives what students edit from solutions/: exercises/ and the pristine stubs that `goodinit reset` returns to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import jupytext
from nbformat import NotebookNode

from grading.course import Course, Unit

from ._files import back_up, replace
from ._notebook import edited_by_hand, header_text, notebook_text, pictures, was_derived
from ._solution import BEGIN, END, BuildError, read_solution, regions, solved_in

STUBS = Path(__file__).parent / "stubs"

__all__ = [
    "BEGIN",
    "END",
    "STUBS",
    "BuildError",
    "Derived",
    "back_up",
    "derive",
    "edited",
    "edited_by_hand",
    "header_text",
    "notebook_text",
    "pictures",
    "replace",
    "was_derived",
    "write",
]


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
            present = path.read_text(encoding="utf-8", errors="surrogateescape") if path.is_file() else None
            files.append(Derived(path, text, present))
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
    """Writes the files that are out of step, each as a whole or not at all, and returns their paths.

    Raises BuildError with the first that cannot be written.
    """
    changed = [file for file in files if not file.in_step]
    for file in changed:
        try:
            file.path.parent.mkdir(parents=True, exist_ok=True)
            replace(file.path, file.text)
        except OSError as error:
            where = error.filename or file.path
            raise BuildError(f"{where} cannot be written: {error.strerror}; what was there is as it was") from None
    return [file.path for file in changed]


def stub_text(course: Course, unit: Unit) -> str:
    """The text of exercises/uN_name.py: the solution with its regions cleared."""
    notebook = read_solution(course, unit)
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
    for start, piece in regions(cell.source):
        stub = ""
        name = solved_in(course, unit, cell.source, start, piece) if cell.cell_type == "code" else None
        if name:
            names.add(name)
            stub = f'raise NotImplementedError("{name}: replace this line with your own")'
        part = NotebookNode(cell_type=cell.cell_type, source=piece, metadata={})  # type: ignore[no-untyped-call]
        clear = ClearSolutions(code_stub={"python": stub}, text_stub="Your answer here.", enforce_metadata=False)
        part, _ = clear.preprocess_cell(part, {"language": "python"}, 0)
        part, _ = ClearMarkScheme(enforce_metadata=False).preprocess_cell(part, {}, 0)
        pieces.append(part.source)
    return "\n".join(pieces), names
