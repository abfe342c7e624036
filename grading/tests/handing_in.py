"""A class that hands in notebooks of unit 1, for the tests of what nbgrader makes of them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from grading.course import load

from .conftest import ROOT, NbgraderCourse

UNIT = "u1_statistics"
MEAN = "def mean(t):\n    return t.sum() / t.numel()\n"
VARIANCE = "def variance(t):\n    return mean((t - mean(t)) ** 2)\n"
Notebook = dict[str, Any]
Edit = Callable[[Notebook], Any]


class Class:
    """An nbgrader course with short limits, and students who hand in what a test says."""

    def __init__(self, folder: Path, limits: str = "", unit: str = UNIT) -> None:
        self.unit, self.folder = unit, folder
        for name in ("tests", "solutions"):
            shutil.copytree(ROOT / name, folder / "kit" / name, ignore=shutil.ignore_patterns("__pycache__"))
        text = (ROOT / "course.toml").read_text(encoding="utf-8")
        text = re.sub(r"\[limits\]\n(?:\w+ = .*\n)*", "", text)
        (folder / "kit" / "course.toml").write_text(
            text.replace("\n[[unit]]", f"\n[limits]\n{limits}\n[[unit]]", 1), encoding="utf-8"
        )
        self.course = load(folder / "kit")
        self.root = folder / "class"
        self.nbgrader = NbgraderCourse(self.course, self.root)
        self.given: Notebook = json.loads(self.nbgrader.released(unit).read_text(encoding="utf-8"))

    def hand_in(
        self, student: str, *edits: Edit, answers: dict[str, str] | None = None, unit: str | None = None
    ) -> Path:
        """Puts a student's notebook where nbgrader collects it; an edit changes it, or returns other bytes to write."""
        notebook = json.loads(json.dumps(self.given))
        for name, source in ({"mean": MEAN, "variance": VARIANCE} if answers is None else answers).items():
            cell(notebook, name)["source"] = source
        data: bytes | None = None
        for edit in edits:
            found = edit(notebook)
            if isinstance(found, bytes):
                data = found
        unit = unit or self.unit
        path = self.root / "submitted" / student / unit / f"{unit}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(notebook).encode() if data is None else data)
        return path

    def nbgrade(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Runs an nbgrader command as a person would, in the course's folder."""
        commands = Path(sys.executable).parent
        return subprocess.run(
            [str(commands / "nbgrader"), *words],
            cwd=self.root,
            capture_output=True,
            text=True,
            env={**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', '')}"},
            check=False,
        )

    def autograded(self, student: str) -> Notebook:
        path = self.root / "autograded" / student / self.unit / f"{self.unit}.ipynb"
        found: Notebook = json.loads(path.read_text(encoding="utf-8"))
        return found

    def grades(self, student: str) -> dict[str, tuple[float | None, bool]]:
        """Of each graded cell, the points that it was given automatically, and whether a person must look at it."""
        with self.nbgrader.api.gradebook as book:
            found = book.find_submission_notebook(self.unit, self.unit, student).grades
            return {grade.name: (grade.auto_score, bool(grade.needs_manual_grade)) for grade in found}

    def points(self, student: str) -> dict[str, float | None]:
        """The points of the exercises that are judged."""
        grades = self.grades(student).items()
        return {name.removeprefix("check-"): points for name, (points, _) in grades if name.startswith("check-")}


def cell(notebook: Notebook, grade_id: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        one for one in notebook["cells"] if one["metadata"].get("nbgrader", {}).get("grade_id") == grade_id
    )
    return found


def scratch(source: str, name: str = "mine", **metadata: Any) -> dict[str, Any]:
    """A cell of the student's own."""
    return {
        "cell_type": "code", "id": name, "metadata": metadata, "outputs": [], "execution_count": None, "source": source,
    }  # fmt: skip


def appended(*sources: str) -> Edit:
    """Adds cells at the end."""
    return lambda notebook: notebook["cells"].extend(
        scratch(source, f"mine-{number}") for number, source in enumerate(sources)
    )


def shown(notebook: Notebook, grade_id: str) -> str:
    """All that a cell shows, as JSON."""
    return json.dumps(cell(notebook, grade_id)["outputs"])
