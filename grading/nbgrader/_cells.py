"""Puts what the judge has found into a notebook: a table and the points as a number below every check."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from nbformat import NotebookNode, from_dict

from grading.verdict import DELEGATED, KIT_ERROR, Verdict, exercise_verdict
from grading.verdict.cell import fragment, plain

CHECK = "check-"
HIDDEN = "(a hidden check)"
# what asking for the course's data raises where cells are run to be graded
NOT_AT_HAND = "DataNotAtHand"
AS_IT_WAS = "as it was handed in: the data are not at hand where work is graded\n"
AS_HANDED_IN = {"output_type": "stream", "name": "stderr", "text": AS_IT_WAS}


def show(
    notebook: NotebookNode,
    record: dict[str, Any],
    title: str = "",
    notes: Sequence[str] = (),
    saved: Sequence[Sequence[Any]] = (),
) -> None:
    """Replaces the outputs of all code cells by those of a record, and of every check by its verdicts and points.

    A record without outputs leaves those of the other cells as they are. `title` and `notes` are for the page that the
    student gets. `saved` are the outputs that were handed in: they stand where a cell needs data that was not at hand.
    """
    notebook.metadata["goodinit"] = {"title": title, "notes": list(notes)}
    by_exercise = verdicts_of(record)
    outputs = iter(_or_saved(record["cells"], saved))
    for number, cell in enumerate((cell for cell in notebook.cells if cell.cell_type == "code"), start=1):
        shown = next(outputs, None)
        exercise = exercise_of(cell)
        if exercise in by_exercise:
            cell.metadata["goodinit"] = {"verdict": exercise_verdict(by_exercise[exercise])}
            shown = list(_judged(by_exercise[exercise], record, float(cell.metadata.nbgrader.points)))
        elif exercise is not None:
            # nothing that anybody else has put there
            shown = []
        if shown is not None:
            cell.outputs = [_numbered(from_dict(output), number) for output in shown]  # type: ignore[no-untyped-call]
            cell.execution_count = number


def _or_saved(cells: Sequence[Any], saved: Sequence[Sequence[Any]]) -> Iterator[Sequence[Any]]:
    """The outputs of cells; of those that failed for want of data, and of what failed after them, what was saved."""
    without_data = False
    for number, shown in enumerate(cells):
        errors = {output["ename"] for output in shown if output["output_type"] == "error"}
        without_data = without_data or NOT_AT_HAND in errors
        kept = saved[number] if number < len(saved) else ()
        yield [AS_HANDED_IN, *kept] if without_data and errors and kept else shown


def exercise_of(cell: NotebookNode) -> str | None:
    """The exercise that a cell checks; None for other cells."""
    metadata = cell.metadata.get("nbgrader", {})
    name = metadata.get("grade_id", "") if metadata.get("grade") and not metadata.get("solution") else ""
    return name.removeprefix(CHECK) if name.startswith(CHECK) else None


def verdicts_of(record: dict[str, Any]) -> dict[str, list[Verdict]]:
    """The verdicts of a record by exercise."""
    found: dict[str, list[Verdict]] = {}
    for entry in record["verdicts"]:
        found.setdefault(entry["exercise"], []).append(Verdict.from_dict(entry))
    return found


def settled(record: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The exercises whose points the judge has settled, and those of them that a person is to look at all the same.

    Where the kit has failed nothing is settled, and not for good where finished functions seem to do the work.
    """
    by_exercise = verdicts_of(record).items()
    failed = {name for name, found in by_exercise if any(verdict.verdict == KIT_ERROR for verdict in found)}
    delegated = {name for name, found in by_exercise if any(verdict.verdict == DELEGATED for verdict in found)}
    return {name for name, _ in by_exercise} - failed, delegated | set(record["review"])


def _judged(verdicts: list[Verdict], record: dict[str, Any], points: float) -> Iterator[dict[str, Any]]:
    """The outputs of a check: what was found, and the points that nbgrader reads."""
    shown = [replace(one, message=f"{one.message} {HIDDEN}") if one.hidden else one for one in verdicts]
    exercise = record["exercises"][verdicts[0].exercise]
    review = [f"to be reviewed: {line}" for line in record["review"].get(verdicts[0].exercise, ())]
    note = " · ".join(review)
    data = {"text/html": fragment(shown, note=note, public=False), "text/plain": plain(shown, note, public=False)}
    yield {"output_type": "display_data", "data": data, "metadata": {}}
    share = exercise["points"] / exercise["max_points"] if exercise["max_points"] else 0.0
    earned = points if math.isclose(share, 1.0) else min(points, round(points * share, 6))
    number = {"text/plain": f"{earned!r}"}
    yield {"output_type": "execute_result", "data": number, "metadata": {}, "execution_count": None}


def _numbered(output: Any, number: int) -> Any:
    if output.output_type == "execute_result":
        output.execution_count = number
    return output
