"""Makes of what a student has handed in the notebook that nbgrader expects, whatever has happened to it on the way.

The gradebook knows every cell that was given out: its text, its points, what may be edited. A cell that says otherwise
is put right, one that is gone is put back, a copy becomes a plain cell. Answers are never changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from grading.classroom import readable
from grading.ipynb import AGAIN, MAX_BYTES

# of what a cell had shown where it was handed in
MAX_TEXT = 100_000
SCHEMA = 3
KINDS = ("code", "markdown", "raw")
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
# nbgrader's metadata are kept here and nowhere else; tags such as skip-execution mean nothing
KEY = "nbgrader"
ATTACHED = ("image/png", "image/jpeg", "image/gif")
BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


class MendError(Exception):
    """Why a file cannot be made a notebook again; the sentence goes on from its name."""


@dataclass(frozen=True)
class Given:
    """A cell as it was given out, by what the gradebook holds of it."""

    name: str
    kind: str
    source: str
    checksum: str
    locked: bool
    grade: bool
    solution: bool
    task: bool
    points: float

    @property
    def is_answer_in_code(self) -> bool:
        return self.solution and not self.grade

    def metadata(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "cell_type": self.kind,
            "checksum": self.checksum,
            "grade": self.grade,
            "grade_id": self.name,
            "locked": self.locked,
            "schema_version": SCHEMA,
            "solution": self.solution,
            "task": self.task,
        }
        if self.grade or self.task:
            found["points"] = self.points
        return found


@dataclass
class Mended:
    """A notebook that is whole, and what was done to it, in sentences."""

    notebook: NotebookNode
    notes: list[str]


def given_cells(book: Any, notebook: str, assignment: str, source: Path) -> list[Given]:
    """The cells of an assignment's notebook that nbgrader knows, in the order of the file that it was made from."""
    entry = book.find_notebook(notebook, assignment)
    graded = {cell.name: cell for cell in entry.grade_cells}
    tasks = {cell.name: cell for cell in entry.task_cells}
    solutions = {cell.name for cell in entry.solution_cells}
    found = [
        Given(
            name=cell.name,
            kind=cell.cell_type,
            source=cell.source or "",
            checksum=cell.checksum or "",
            locked=bool(cell.locked),
            grade=cell.name in graded,
            solution=cell.name in solutions,
            task=cell.name in tasks,
            points=float(scored.max_score) if (scored := graded.get(cell.name) or tasks.get(cell.name)) else 0.0,
        )
        for cell in entry.source_cells
    ]
    order = {name: number for number, name in enumerate(_names(source))}
    return sorted(found, key=lambda cell: order.get(cell.name, len(order)))


def _names(source: Path) -> Iterator[str]:
    try:
        for cell in json.loads(source.read_text(encoding="utf-8"))["cells"]:
            yield cell.get("metadata", {}).get(KEY, {}).get("grade_id", "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return


def mend(data: bytes, given: Sequence[Given]) -> Mended:
    """The notebook in `data` with every given cell as it was given, answers as they are handed in.

    Raises MendError where there is nothing that could be mended.
    """
    notes: list[str] = []
    cells = cells_of(data, notes)
    claims = _claims(cells, given)
    claimed: dict[int, Given] = {}
    for entry in given:
        chosen, needless = _chosen(entry, claims[entry.name], notes)
        cells = [cell for cell in cells if id(cell) not in needless]
        if chosen is not None:
            claimed[id(chosen)] = entry
    for cell in cells:
        found = claimed.get(id(cell))
        cell["metadata"] = {} if found is None else {KEY: found.metadata()}
        if found is not None:
            _restore(cell, found, notes)
    cells = _put_back(cells, claimed, given, notes)
    _name(cells)
    notebook = {"cells": cells, "metadata": METADATA, "nbformat": 4, "nbformat_minor": 5}
    whole = nbformat.from_dict(notebook)  # type: ignore[no-untyped-call]
    try:
        nbformat.validate(whole)
    except nbformat.ValidationError as error:
        raise MendError(f"is damaged: {str(error).splitlines()[0]}") from None
    return Mended(whole, notes)


def cells_of(data: bytes, notes: list[str]) -> list[dict[str, Any]]:
    """The cells of a file that is a notebook of any version, each of a form that can be relied on."""
    try:
        return _cells_of(data, notes)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        # whatever somebody has put into a notebook, it must not keep the others from being graded
        raise MendError(f"is damaged ({type(error).__name__}: {str(error)[:100]})") from None


def _cells_of(data: bytes, notes: list[str]) -> list[dict[str, Any]]:
    notebook = _parsed(data)
    if isinstance(notebook.get("worksheets"), list) and "cells" not in notebook:
        notebook = _upgraded(notebook)
        notes.append("the notebook had an old format")
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        raise MendError("is no notebook: it has no cells")
    if notebook.get("nbformat") != 4:
        notes.append(f"the notebook said that its format is {str(notebook.get('nbformat'))[:20]}, and not 4")
    found = [_whole(cell) for cell in cells if isinstance(cell, dict)]
    kept = [cell for cell in found if cell is not None]
    if len(kept) < len(cells):
        notes.append(f"of its {len(cells)} cells {len(cells) - len(kept)} could not be read, and are left out")
    return kept


def _parsed(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_BYTES:
        raise MendError(f"is larger than {MAX_BYTES // 1_000_000} MB; {AGAIN}")
    if not data.strip():
        raise MendError("is empty")
    try:
        notebook = json.loads(data)
    except RecursionError:
        raise MendError("is no notebook: it is nested too deeply") from None
    except json.JSONDecodeError as error:
        cut_off = error.msg.startswith("Unterminated") or error.pos >= len(error.doc.rstrip()) - 1
        reason = "it ends in the middle" if cut_off else f"it is no JSON ({error})"
        raise MendError(f"is no notebook that can be read: {reason}") from None
    except ValueError as error:
        raise MendError(f"is no notebook that can be read: {error}") from None
    if not isinstance(notebook, dict):
        raise MendError("is no notebook")
    return notebook


def _upgraded(notebook: dict[str, Any]) -> dict[str, Any]:
    try:
        found: dict[str, Any] = nbformat.reads(json.dumps(notebook), as_version=4)  # type: ignore[no-untyped-call]
        return found
    except Exception as error:
        raise MendError(f"has an old format and cannot be converted ({type(error).__name__})") from None


def _whole(cell: dict[str, Any]) -> dict[str, Any] | None:
    """A cell with its text, and of a code cell the outputs that could be shown; None where it is none."""
    kind, source = cell.get("cell_type"), cell.get("source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if kind not in KINDS or not isinstance(source, str):
        return None
    metadata = cell.get("metadata")
    found: dict[str, Any] = {
        "cell_type": kind,
        "id": cell.get("id"),
        "metadata": metadata if isinstance(metadata, dict) else {},
        "source": source.encode(errors="replace").decode(),
    }
    if kind == "markdown" and (attached := _attachments(cell.get("attachments"))):
        found["attachments"] = attached
    if kind == "code":
        outputs = cell.get("outputs")
        found["outputs"] = [*filter(None, map(_output, outputs if isinstance(outputs, list) else ()))]
        found["execution_count"] = None
    return found


def _attachments(attachments: Any) -> dict[str, dict[str, str]]:
    """The pictures that were dropped into a written answer."""
    found = {}
    for name, data in attachments.items() if isinstance(attachments, dict) else ():
        kept = {
            kind: text
            for kind, text in (data.items() if isinstance(data, dict) else ())
            if kind in ATTACHED and isinstance(text, str) and BASE64.fullmatch(text)
        }
        if kept:
            found[name] = kept
    return found


def _output(output: Any) -> dict[str, Any] | None:
    """An output as text and picture: nothing that a page could run."""

    def text(value: Any) -> str:
        joined = "".join(value) if isinstance(value, list) and all(isinstance(line, str) for line in value) else value
        return joined if isinstance(joined, str) else ""

    def short(value: Any) -> str:
        whole = text(value)
        return whole if len(whole) <= MAX_TEXT else f"{whole[:MAX_TEXT]}\n(the rest is left out)\n"

    match output:
        case {"output_type": "stream", "text": value, **more}:
            name = "stderr" if more.get("name") == "stderr" else "stdout"
            return readable({"output_type": "stream", "name": name, "text": short(value)})
        case {"output_type": "display_data" | "execute_result" as kind, "data": dict(data)}:
            kept = {
                shown: how(data[shown]) for shown, how in (("text/plain", short), ("image/png", text)) if shown in data
            }
            number = {"execution_count": None} if kind == "execute_result" else {}
            found = readable({"output_type": kind, "data": kept, "metadata": {}, **number})
            return found if found["data"] else None
        case {"output_type": "error", **more}:
            lines = more.get("traceback")
            traceback = [f"{line}\n" for line in lines] if isinstance(lines, list) else []
            return readable(
                {
                    "output_type": "error",
                    "ename": short(more.get("ename")),
                    "evalue": short(more.get("evalue")),
                    "traceback": short(traceback).splitlines(),
                }
            )
    return None


def _claims(cells: list[dict[str, Any]], given: Sequence[Given]) -> dict[str, list[dict[str, Any]]]:
    """The cells that may be each of the given ones: by nbgrader's name, by the cell's id, by an unchanged text."""
    by_name = {entry.name: entry for entry in given}
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in by_name}
    for cell in cells:
        metadata = cell["metadata"].get(KEY)
        name = metadata.get("grade_id") if isinstance(metadata, dict) else None
        if isinstance(name, str) and name in found:
            found[name].append(cell)
    taken = {id(cell) for claims in found.values() for cell in claims}
    rest = [cell for cell in cells if id(cell) not in taken]
    for cell in rest:
        if isinstance(cell["id"], str) and not found.get(cell["id"], [None]):
            found[cell["id"]].append(cell)
            taken.add(id(cell))
    by_text = {(entry.kind, entry.source): entry.name for entry in given if entry.source.strip()}
    for cell in rest:
        name = by_text.get((cell["cell_type"], cell["source"]))
        if name and not found[name] and id(cell) not in taken:
            found[name].append(cell)
    return found


def _chosen(
    entry: Given, claims: list[dict[str, Any]], notes: list[str]
) -> tuple[dict[str, Any] | None, frozenset[int]]:
    """Of a cell and its copies the last one with an answer in it, and those that hold nothing of the student's."""
    if len(claims) > 1:
        notes.append(f"the cell {entry.name} was there {len(claims)} times: the last one with an answer counts")
    unchanged = {id(cell) for cell in claims if cell["source"].strip() == entry.source.strip()}
    answers = [cell for cell in claims if id(cell) not in unchanged and not entry.locked]
    chosen = next(reversed(answers or claims), None)
    return chosen, frozenset(unchanged - {id(chosen)})


def _restore(cell: dict[str, Any], entry: Given, notes: list[str]) -> None:
    if cell["cell_type"] != entry.kind:
        notes.append(f"the cell {entry.name} was of another kind, and is as it was given")
        cell["cell_type"] = entry.kind
        for key in ("outputs", "execution_count", "attachments"):
            cell.pop(key, None)
        if entry.kind == "code":
            cell |= {"outputs": [], "execution_count": None}
    if entry.locked and cell["source"] != entry.source:
        notes.append(f"the cell {entry.name} had been changed, and is as it was given")
        cell["source"] = entry.source


def _put_back(
    cells: list[dict[str, Any]], claimed: dict[int, Given], given: Sequence[Given], notes: list[str]
) -> list[dict[str, Any]]:
    """The cells with those that are gone where they were given; code that a student has taken away stays away."""
    present = {entry.name for entry in claimed.values()}
    before: Given | None = None
    for entry in given:
        if entry.name not in present and not entry.is_answer_in_code:
            notes.append(f"the cell {entry.name} was gone, and is back where it was")
            metadata = {KEY: entry.metadata()}
            cell: dict[str, Any] = {"cell_type": entry.kind, "id": None, "metadata": metadata, "source": entry.source}
            if entry.kind == "code":
                cell |= {"outputs": [], "execution_count": None}
            places = [number for number, other in enumerate(cells) if claimed.get(id(other)) is before]
            cells.insert(places[0] + 1 if before and places else 0, cell)
            claimed[id(cell)] = entry
            present.add(entry.name)
        if entry.name in present:
            before = entry
    return cells


def _name(cells: list[dict[str, Any]]) -> None:
    """Gives every cell an id of its own."""
    taken: set[str] = set()
    for number, cell in enumerate(cells):
        name = cell["id"]
        if not (isinstance(name, str) and 0 < len(name) <= 64 and set(name) <= ID_CHARACTERS) or name in taken:
            name = f"cell-{number}"
            while name in taken:
                name += "-"
            cell["id"] = name
        taken.add(name)
