"""nbgrader's autograde against ours on the same notebooks, and ours on classes of growing size."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grading.course import load

from ._class import JOBS, UNIT, memory, short_course
from ._cost import Cost, cost_of
from ._notebooks import GOODINIT, NBGRADER, Notebooks

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
    """What it costs to autograde ten notebooks of one unit: by nbgrader alone, by our configuration, by our command.

    What ours spends once is told by a class of twenty, in which each notebook has been handed in twice.
    """
    nbgrader = [NBGRADER, "autograde", UNIT]
    goodinit = [*GOODINIT, "autograde", UNIT, "--nbgrader", ".", "--jobs"]
    with TemporaryDirectory() as place:
        folder = Path(place)
        course = Course(root, folder / "given")

        def cost(name: str, command: list[str], kinds: tuple[str, ...]) -> Cost:
            """The cost of a command in a copy of the course in which notebooks of these kinds are handed in."""
            shutil.copytree(course.folder, folder / name)
            if name == "stock":
                (folder / name / "nbgrader_config.py").write_text(STOCK, encoding="utf-8")
            course.hand_in(kinds, folder / name)
            return cost_of(command, folder / name)

        many = len(TEN)
        yield f"autograding {many} notebooks of {UNIT}: seconds for each, of all processes together, the start included"
        stock = cost("stock", nbgrader, TEN)
        yield f"  nbgrader autograde as it comes, a kernel for each: {_each(stock)}"
        for number, (what, command) in enumerate(
            [
                ("nbgrader autograde with our configuration", nbgrader),
                ("goodinit autograde --jobs 1", [*goodinit, "1"]),
                (f"goodinit autograde --jobs {JOBS}", [*goodinit, str(JOBS)]),
            ]
        ):
            ours, twice = cost(f"ten-{number}", command, TEN), cost(f"twenty-{number}", command, TEN * 2)
            more = (twice.cpu - ours.cpu) / many
            yield (
                f"  {what}: {_each(ours)}, {stock.cpu / ours.cpu:.1f} times less CPU; {ours.cpu - more * many:.1f} s "
                f"of it once, then {more:.2f} s for each, {stock.cpu / many / more:.1f} times less"
            )


def _each(cost: Cost) -> str:
    problem = f" (it ended with status {cost.status}: {cost.said[-300:]})" if cost.status else ""
    return f"{cost.cpu / len(TEN):.2f} s CPU, {cost.wall / len(TEN):.2f} s wall{problem}"


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

        course = load(root)
        self.folder = folder
        build_course(course, folder)
        self.notebooks = Notebooks(course, folder, UNIT)

    def hand_in(self, kinds: Sequence[str], folder: Path | None = None) -> None:
        """Writes a notebook for each kind, where nbgrader has what it collects, here or in a copy of the course."""
        for number, kind in enumerate(kinds):
            path = (folder or self.folder) / "submitted" / f"student{number:04}" / UNIT / f"{UNIT}.ipynb"
            path.parent.mkdir(parents=True)
            # the second ten make the mistakes of the first once more
            path.write_text(self.notebooks.text(kind, number % len(TEN)), encoding="utf-8")

    def autograde(self, until: int | None = None) -> tuple[float, int]:
        """Seconds and the most memory that `goodinit autograde` takes; it is killed when it has `until` records."""
        command = [*GOODINIT, "autograde", UNIT, "--nbgrader", ".", "--jobs", str(JOBS)]
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
        """The students of whom the gradebook has the points of every record, or asks a person."""
        from grading.nbgrader import gradebook

        def right(student: str, grades: list[Any]) -> bool:
            path = self.folder / ".goodinit" / UNIT / f"{student}.json"
            exercises = json.loads(path.read_text(encoding="utf-8"))["exercises"]
            found = {grade.name.removeprefix("check-"): grade for grade in grades}
            return all(
                found[name].needs_manual_grade or found[name].auto_score == exercise["points"]
                for name, exercise in exercises.items()
            )

        with gradebook(self.folder) as book:
            submissions = [(one.student.id, list(one.notebooks)) for one in book.assignment_submissions(UNIT)]
            return {student for student, notebooks in submissions if notebooks and right(student, notebooks[0].grades)}
