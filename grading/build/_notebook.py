"""Derives a unit's nbgrader source notebook: the solution's cells, a check after each exercise, and points."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from grading.course import Course, Unit

from ._solution import BuildError, parsed, read_solution, regions, solved_in

KIT = "goodinit"
FUTURE = re.compile(r"^from __future__ import annotations\n+", re.M)
PICTURE = re.compile(r"!\[[^]]*\]\(\s*<?([^)>\s]+)")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

# a file has its __future__ imports at its very top, and so has a notebook
SETUP = """\
# Run this cell first: it brings in the checks, and installs them where they are missing (on Colab, say).
{future}try:
    from grading.notebook import check, siblings
except ImportError:
    %pip install --quiet {install}
    from grading.notebook import check, siblings

# where `from .u4_learner import ...` looks: your own notebooks beside this one, else the reference
__package__ = siblings("{unit}")"""

HEADER = """\
Run the cells from top to bottom. Where a cell says `raise NotImplementedError(...)`, replace that line by your own
code, run the cell, and run the check below it: it says what is right, and what exactly is not. What you have not
started is no failure. Questions in words are answered in the cell that says *Your answer here.*"""


def notebook_text(course: Course, unit: Unit) -> str:
    """The text of source/<unit>/<unit>.ipynb, the same for the same solution.

    Raises BuildError where an exercise has no solution region, or a question no points.
    """
    cells_of = list(read_solution(course, unit).cells)
    names = _Names(unit, [cell.metadata["question"] for cell in cells_of if "question" in cell.metadata])
    uses = any(cell.cell_type == "code" and FUTURE.search(cell.source) for cell in cells_of)
    future = "from __future__ import annotations\n\n" if uses else ""
    cells = [_locked(SETUP.format(future=future, install=course.nbgrader.install, unit=unit.id), names("setup"))]
    solved: set[str] = set()
    # the check of an exercise comes after the last cell that holds a part of it
    last = {name: number for number, cell in enumerate(cells_of) for name in _exercises_in(course, unit, cell)}
    for number, cell in enumerate(cells_of):
        exercises = _exercises_in(course, unit, cell)
        source = FUTURE.sub("", cell.source)
        if cell.cell_type == "markdown":
            cells.append(_question(cell) if "question" in cell.metadata else _prose(source, names))
        elif exercises:
            solved.update(exercises)
            cells.append(_cell("code", source, names(exercises[0]), solution=True))
        elif _is_demonstration(parsed(unit, source)):
            cells.append(_plain("code", source, names(_hashed("demo", source))))
        else:
            cells.append(_locked(source, names(_given(parsed(unit, source)))))
        for name in exercises:
            if last[name] == number:
                points = course.exercises[name].points
                cells.append(_cell("code", f'check("{name}")', names(f"check-{name}"), grade=True, points=points))
    untouched = [exercise.id for exercise in unit.exercises if exercise.id not in solved]
    if untouched:
        raise BuildError(f"solutions/{unit.file} has no solution region for {', '.join(untouched)}")
    return _text(cells)


def header_text() -> str:
    """The text of source/header.ipynb, which nbgrader puts at the top of every notebook."""
    return _text([_plain("markdown", HEADER, "header")])


def edited_by_hand(text: str) -> bool:
    """Whether the text of a derived notebook has other cells than it was derived with; outputs do not count."""
    try:
        notebook = nbformat.reads(text, as_version=4)  # type: ignore[no-untyped-call]
        return bool(notebook.metadata[KIT]["cells"] != _digest(notebook.cells))
    except (ValueError, KeyError, AttributeError, TypeError, nbformat.ValidationError):
        return True


def was_derived(text: str) -> bool:
    """Whether the text of a notebook is that of a unit, be it edited or not."""
    try:
        return KIT in nbformat.reads(text, as_version=4).metadata  # type: ignore[no-untyped-call]
    except (ValueError, AttributeError, TypeError, nbformat.ValidationError):
        return False


def pictures(course: Course, unit: Unit) -> dict[str, Path]:
    """The files in solutions/ that a unit's prose shows, by the path that it shows them under.

    Raises BuildError where one is missing or lies elsewhere.
    """
    found: dict[str, Path] = {}
    folder = course.solution_file(unit).parent.resolve()
    for cell in read_solution(course, unit).cells:
        for link in PICTURE.findall(cell.source) if cell.cell_type == "markdown" else ():
            if not re.match(r"[a-z]+:", link):
                path = (folder / link).resolve()
                if not path.is_relative_to(folder) or not path.is_file():
                    raise BuildError(f"solutions/{unit.file} shows the picture {link}, which is not in solutions/")
                found[link] = path
    return found


class _Names:
    """Hands out names that are unlike each other: grade ids, and the same as cell ids."""

    def __init__(self, unit: Unit, questions: list[str]) -> None:
        self.unit, self.questions = unit, questions
        self.taken = set(questions)

    def __call__(self, wanted: str) -> str:
        if wanted in self.questions:
            raise BuildError(
                f"solutions/{self.unit.file}: the question {wanted!r} has the name of another cell of the notebook; "
                "give it one of its own"
            )
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}-{number}"
        self.taken.add(name)
        return name


def _exercises_in(course: Course, unit: Unit, cell: Any) -> list[str]:
    """The exercises that a cell has solution regions of, in the order of the cell."""
    if cell.cell_type != "code":
        return []
    found = (solved_in(course, unit, cell.source, start, piece) for start, piece in regions(cell.source))
    return list(dict.fromkeys(name for name in found if name))


def _is_demonstration(cell: ast.Module) -> bool:
    """Whether a cell only shows something, under `if __name__ == "__main__":`; students may play with it."""
    return all(
        isinstance(statement, ast.If) and ast.unparse(statement.test) == "__name__ == '__main__'"
        for statement in cell.body
    )


def _given(cell: ast.Module) -> str:
    """A name for a cell of given code, from what it defines first."""
    for statement in cell.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            return f"given-{statement.name}"
    return "given"


def _question(cell: Any) -> Any:
    name, points = cell.metadata["question"], cell.metadata["points"]
    return _cell("markdown", cell.source, name, grade=True, solution=True, points=points)


def _prose(source: str, names: _Names) -> Any:
    return _plain("markdown", source, names(_hashed("prose", source)))


def _locked(source: str, name: str) -> Any:
    return _cell("code", source, name, locked=True)


def _cell(
    kind: str,
    source: str,
    name: str,
    *,
    grade: bool = False,
    solution: bool = False,
    locked: bool = False,
    points: float = 0,
) -> Any:
    """A cell that nbgrader knows by `name`; a check is locked, an answer is not."""
    metadata: dict[str, Any] = {
        "grade": grade,
        "grade_id": name,
        "locked": locked or (grade and not solution),
        "schema_version": 3,
        "solution": solution,
        "task": False,
    }
    if grade:
        metadata["points"] = points
    cell = _plain(kind, source, name)
    cell.metadata["nbgrader"] = metadata
    return cell


def _plain(kind: str, source: str, name: str) -> Any:
    make = new_code_cell if kind == "code" else new_markdown_cell
    return make(source, id=name)  # type: ignore[no-untyped-call]


def _hashed(kind: str, source: str) -> str:
    return f"{kind}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def _text(cells: list[Any]) -> str:
    metadata = {**METADATA, KIT: {"cells": _digest(cells)}}
    notebook = new_notebook(cells=cells, metadata=metadata)  # type: ignore[no-untyped-call]
    nbformat.validate(notebook)
    text: str = nbformat.writes(notebook)  # type: ignore[no-untyped-call]
    return text + "\n"


def _digest(cells: list[Any]) -> str:
    parts = [[cell.cell_type, cell.source, cell.metadata.get("nbgrader")] for cell in cells]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
