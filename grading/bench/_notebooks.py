"""Notebooks as students of every kind hand them in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

from grading.bugs import load_bugs
from grading.course import Course

NBGRADER = str(Path(sys.executable).parent / "nbgrader")
GOODINIT = (sys.executable, "-m", "grading.cli")
# what stands where an answer should, in those of one exercise
BROKEN = {
    "crashing": "raise MemoryError('as asked')\n",
    "looping": "while True:\n    pass\n",
    "hostile": """\
import os
for attempt in (os.fork, lambda: os.write(3, bytes(64)), lambda: os.kill(os.getppid(), 9)):
    try:
        attempt()
    except OSError:
        pass
os._exit(0)
""",
}
STUB = re.compile(r"^( *)raise NotImplementedError\(.*\n?", re.MULTILINE)


class Notebooks:
    """The notebooks of one unit in an nbgrader course of ours."""

    def __init__(self, course: Course, folder: Path, unit: str) -> None:
        """Generates the assignment, which must not have been released."""
        self.bugs = [bug for exercise in course.by_unit[unit].exercises for bug in load_bugs(course)[exercise.id]]
        subprocess.run([NBGRADER, "generate_assignment", unit], cwd=folder, capture_output=True, check=True)
        source, given = (
            json.loads((folder / step / unit / f"{unit}.ipynb").read_text(encoding="utf-8"))
            for step in ("source", "release")
        )
        self.answers = {_name(cell): _text(cell) for cell in source["cells"] if _is_answer(cell)}
        self.given: dict[str, Any] = given

    def text(self, kind: str, number: int) -> str:
        """The notebook of one student; `number` is whose, for two of one kind make different mistakes."""
        notebook = json.loads(json.dumps(self.given))
        bug = self.bugs[number * 5 % len(self.bugs)]
        answers = [cell for cell in notebook["cells"] if _is_answer(cell)]
        for place, cell in enumerate(answers):
            answer = self.answers[_name(cell)]
            if kind == "empty" or (kind == "partial" and place % 2 == 0):
                continue
            if kind in BROKEN and place == number % len(answers):
                cell["source"] = STUB.sub(lambda found: textwrap.indent(BROKEN[kind], found[1]), _text(cell))
            else:
                cell["source"] = answer.replace(bug.find, bug.put, 1) if kind == "wrong" else answer
        if kind == "damaged":
            _damage(notebook)
        text = json.dumps(notebook)
        return text[: len(text) // 2] if kind == "cut off" else text


def _damage(notebook: dict[str, Any]) -> None:
    """What editors and students do to cells: copies, deletions, tags, and points of one's own."""
    cells = notebook["cells"]
    graded = [cell for cell in cells if cell["metadata"].get("nbgrader", {}).get("grade")]
    graded[0]["metadata"]["nbgrader"]["points"] = 1000
    graded[0]["source"] = "print('changed')"
    cells.remove(graded[-1])
    first = next(cell for cell in cells if _is_answer(cell))
    first["metadata"]["tags"] = ["skip-execution"]
    cells.insert(cells.index(first), json.loads(json.dumps(first)))


def _is_answer(cell: dict[str, Any]) -> bool:
    marks = cell["metadata"].get("nbgrader", {})
    return bool(cell["cell_type"] == "code" and marks.get("solution") and not marks.get("grade"))


def _name(cell: dict[str, Any]) -> str:
    return str(cell["metadata"]["nbgrader"]["grade_id"])


def _text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])
