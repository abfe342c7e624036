"""nbgrader's autograde against ours on the same notebooks, and ours on classes of growing size."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grading.bugs import load_bugs
from grading.course import load

from ._class import CRASHING, HOSTILE, LOOPING, UNIT, memory, short_course
from ._cost import Cost, cost_of

COMMANDS = Path(sys.executable).parent
JOBS = 2
# the ten notebooks that both autograde
TEN = ("right", "wrong", "partial", "wrong", "right", "wrong", "partial", "wrong", "right", "wrong")
# a large class has all sorts of people
MIX = {"right": 20, "wrong": 16, "partial": 7, "empty": 3, "crashing": 2, "looping": 1, "hostile": 1}
KINDS = [kind for kind, many in MIX.items() for _ in range(many)]
STOCK = """\
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "goodinit"
"""


def nbgrader_lines(root: Path) -> Iterator[str]:
    """What it costs to autograde ten notebooks of one unit: by nbgrader alone, by our configuration, by our command."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        course = Course(root, folder / "ours")
        course.hand_in(TEN)
        shutil.copytree(folder / "ours", folder / "stock")
        (folder / "stock" / "nbgrader_config.py").write_text(STOCK, encoding="utf-8")
        shutil.copytree(folder / "ours", folder / "side_by_side")
        nbgrader = [str(COMMANDS / "nbgrader"), "autograde", UNIT]
        yield f"autograding {len(TEN)} notebooks of {UNIT}, start included, CPU seconds of all processes together:"
        stock = cost_of(nbgrader, folder / "stock")
        yield _told("nbgrader autograde as it comes, a kernel for each", stock, stock)
        yield _told("nbgrader autograde with our configuration", cost_of(nbgrader, folder / "ours"), stock)
        command = [sys.executable, "-m", "grading.cli", "autograde", UNIT, "--nbgrader", ".", "--jobs", str(JOBS)]
        yield _told(f"goodinit autograde --jobs {JOBS}", cost_of(command, folder / "side_by_side"), stock)


def _told(what: str, cost: Cost, stock: Cost) -> str:
    ratio = f" ({stock.cpu / cost.cpu:.1f} times less CPU, {stock.wall / cost.wall:.1f} times less wall)"
    problem = f"; it ended with status {cost.status}: {cost.said[-300:]}" if cost.status else ""
    many = len(TEN)
    return (
        f"  {what}: {cost.cpu / many:.2f} s CPU and {cost.wall / many:.2f} s wall per submission"
        f"{'' if cost is stock else ratio}{problem}"
    )


def scale_lines(root: Path, sizes: list[int]) -> Iterator[str]:
    """Classes of growing size through `goodinit autograde`; the largest is killed in the middle and started again."""
    with TemporaryDirectory() as place:
        first: float | None = None
        for many in sorted(sizes):
            folder = Path(place, str(many))
            short_course(root, folder / "kit")
            course = Course(folder / "kit", folder / "class")
            course.hand_in([KINDS[number * 7 % len(KINDS)] for number in range(many)])
            killed = many == max(sizes)
            seconds, peak, kept = 0.0, 0, {}
            if killed:
                seconds, peak = course.autograde(until=many // 2)
                kept = course.records()
            more, later = course.autograde()
            seconds, peak = seconds + more, max(peak, later)
            megabytes = (folder / "class" / "gradebook.db").stat().st_size / 2**20
            each = seconds / many
            first = first or each
            yield (
                f"{many} submissions of {UNIT} autograded by {JOBS} judges: {60 / each:.1f} a minute, for each "
                f"{each / first:.2f} times as long as in the smallest class"
            )
            graded, records = course.graded(), course.records()
            yield (
                f"  {peak / 2**20:.0f} MB of memory at most; {len(records)} records, "
                f"{len(graded)} students in a gradebook of {megabytes:.1f} MB"
            )
            if killed:
                twice = sum(records.get(student) != when for student, when in kept.items())
                yield (
                    f"  ended with kill -9 when {len(kept)} were judged, and started again: "
                    f"{twice} judged twice, {many - len(graded)} lost"
                )
            shutil.rmtree(folder)


class Course:
    """An nbgrader course of ours, and students who hand in one unit."""

    def __init__(self, root: Path, folder: Path) -> None:
        from grading.nbgrader import build_course

        self.course, self.folder = load(root), folder
        build_course(self.course, folder)
        subprocess.run(
            [str(COMMANDS / "nbgrader"), "generate_assignment", UNIT], cwd=folder, capture_output=True, check=True
        )
        source = self._read("source")
        self.answers = {_name(cell): _text(cell) for cell in source["cells"] if _is_answer(cell)}
        self.given = self._read("release")

    def _read(self, step: str) -> dict[str, Any]:
        path = self.folder / step / UNIT / f"{UNIT}.ipynb"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def hand_in(self, kinds: list[str] | tuple[str, ...]) -> None:
        """Writes a notebook for each kind, where nbgrader has what it collects."""
        bugs = [bug for exercise in self.course.by_unit[UNIT].exercises for bug in load_bugs(self.course)[exercise.id]]
        for number, kind in enumerate(kinds):
            notebook = json.loads(json.dumps(self.given))
            bug = bugs[number * 5 % len(bugs)]
            answers = [cell for cell in notebook["cells"] if _is_answer(cell)]
            for place, cell in enumerate(answers):
                answer = self.answers[_name(cell)]
                match kind:
                    case "right":
                        cell["source"] = answer
                    case "wrong":
                        cell["source"] = answer.replace(bug.find, bug.put, 1)
                    case "partial" if place % 2:
                        cell["source"] = answer
            broken = {"crashing": CRASHING, "looping": LOOPING, "hostile": HOSTILE}.get(kind)
            if broken:
                answers[0]["source"] = broken
            path = self.folder / "submitted" / f"student{number:04}" / UNIT / f"{UNIT}.ipynb"
            path.parent.mkdir(parents=True)
            path.write_text(json.dumps(notebook), encoding="utf-8")

    def autograde(self, until: int | None = None) -> tuple[float, int]:
        """Seconds and the most memory that `goodinit autograde` takes; it is killed when it has `until` records."""
        command = [sys.executable, "-m", "grading.cli", "autograde", UNIT, "--nbgrader", ".", "--jobs", str(JOBS)]
        start, peak = time.perf_counter(), 0
        with open(os.devnull, "wb") as nowhere:
            process = subprocess.Popen(command, cwd=self.folder, stdout=nowhere, stderr=nowhere)
            while process.poll() is None:
                peak = max(peak, memory(process.pid))
                if until is not None and len(self.records()) >= until:
                    process.send_signal(signal.SIGKILL)
                    until = None
                time.sleep(0.5)
        return time.perf_counter() - start, peak

    def records(self) -> dict[str, int]:
        """When each record was written."""
        return {path.stem: path.stat().st_mtime_ns for path in (self.folder / ".goodinit" / UNIT).glob("*.json")}

    def graded(self) -> set[str]:
        """The students whose exercises all have points in the gradebook."""
        from grading.nbgrader import gradebook

        with gradebook(self.folder) as book:
            found = {}
            for submission in book.assignment_submissions(UNIT):
                scores = [grade.auto_score for notebook in submission.notebooks for grade in notebook.grades]
                found[submission.student.id] = scores
            return {student for student, scores in found.items() if scores and None not in scores}


def _is_answer(cell: dict[str, Any]) -> bool:
    marks = cell["metadata"].get("nbgrader", {})
    return bool(cell["cell_type"] == "code" and marks.get("solution") and not marks.get("grade"))


def _name(cell: dict[str, Any]) -> str:
    return str(cell["metadata"]["nbgrader"]["grade_id"])


def _text(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])
