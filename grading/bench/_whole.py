"""A class through a whole course by nbgrader's own commands, and its points beside those of `goodinit check`."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from grading.course import Course, load
from grading.judge import fresh_seed

from ._class import JOBS, short_course
from ._notebooks import GOODINIT, NBGRADER, Notebooks

# what one in so many hands in of a unit
MIX = {
    "right": 7,
    "wrong": 9,
    "partial": 5,
    "empty": 2,
    "damaged": 2,
    "crashing": 2,
    "looping": 1,
    "hostile": 1,
    "cut off": 1,
}
KINDS = [kind for kind, many in MIX.items() for _ in range(many)]
# what a check may take: points must not depend on how busy the machine is
SECONDS = 10
# the checks that train take minutes for each student
FAST = "--Judged.slow=False"
STEPS = ("release_assignment", "collect", "autograde", "generate_feedback", "release_feedback")
SUBMITTED = "2027-01-05 12:00:00.000000 UTC"


def whole_lines(root: Path, students: int) -> Iterator[str]:
    """Every unit is generated, released, collected, autograded and answered with feedback; then grades are exported."""
    with TemporaryDirectory() as place:
        short_course(root, Path(place, "kit"), SECONDS)
        group = _Class(load(Path(place, "kit")), Path(place, "class"), students)
        counted = Counter(group.kinds.values())
        kinds = ", ".join(f"{counted[kind]} {kind}" for kind in MIX)
        yield f"{students} students hand in {len(group.kinds)} notebooks in {len(group.units)} units ({kinds})"
        yield f"  seed: {group.seed}"
        yield from group.through_nbgrader()
        yield from group.compared(group.checked())


class _Class:
    """Students of a course, and what they have handed in."""

    def __init__(self, course: Course, folder: Path, students: int) -> None:
        from grading.nbgrader import build_course

        self.course, self.folder = course, folder
        # how many checks of an exercise see a mistake may depend on what is drawn
        self.seed = fresh_seed()
        self.units = [unit.id for unit in course.units]
        self.students = [f"student{number:02}" for number in range(students)]
        self.exchange = folder.parent / "exchange"
        build_course(course, folder)
        self.notebooks = {unit: Notebooks(course, folder, unit) for unit in self.units}
        # other kinds for the same student in each unit, and the same number of each
        self.kinds = {
            (student, unit): KINDS[(number * 7 + place * 11) % len(KINDS)]
            for number, student in enumerate(self.students)
            for place, unit in enumerate(self.units)
        }
        self.texts = {
            (student, unit): self.notebooks[unit].text(kind, self.students.index(student))
            for (student, unit), kind in self.kinds.items()
        }
        for (student, unit), text in self.texts.items():
            for path in (self._inbound(student, unit) / f"{unit}.ipynb", folder.parent / student / f"{unit}.ipynb"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            (self._inbound(student, unit) / "timestamp.txt").write_text(SUBMITTED)
            (self._inbound(student, unit) / "submission_secret.txt").write_text(student)

    def _inbound(self, student: str, unit: str) -> Path:
        return self.exchange / self.course.nbgrader.course_id / "inbound" / f"{student}+{unit}+{SUBMITTED}+random"

    def through_nbgrader(self) -> Iterator[str]:
        """Runs nbgrader's commands one after the other; says how long each kind of them took."""
        seconds = dict.fromkeys(STEPS, 0.0)
        for step in STEPS:
            for unit in self.units:
                start = time.perf_counter()
                command = [NBGRADER, step, unit, f"--Exchange.root={self.exchange}"]
                done = subprocess.run(
                    command + [FAST, f"--Judged.seed={self.seed}"] * (step == "autograde"),
                    cwd=self.folder,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    check=False,
                )
                seconds[step] += time.perf_counter() - start
                # autograding says so when a notebook could not be graded
                if done.returncode and step != "autograde":
                    yield f"  nbgrader {step} {unit} ended with status {done.returncode}: {done.stdout[-300:]}"
        yield "  seconds: " + ", ".join(f"{step} {spent:.0f}" for step, spent in seconds.items())

    def checked(self) -> dict[tuple[str, str], dict[str, float]]:
        """By student and unit the points of each exercise, as `goodinit check` finds them in the same files."""

        def check(student: str) -> list[dict[str, Any]]:
            path = str(self.folder.parent / student)
            words = ["check", "--impl", path, "--seed", str(self.seed), "--sandbox", "--fast", "--json"]
            done = subprocess.run(
                [*GOODINIT, *words], cwd=self.course.root, capture_output=True, text=True, check=False
            )
            return [json.loads(line) for line in done.stdout.splitlines()]

        found: dict[tuple[str, str], dict[str, float]] = {}
        with ThreadPoolExecutor(JOBS) as pool:
            for student, verdicts in zip(self.students, pool.map(check, self.students), strict=True):
                for exercise in self.course.exercises.values():
                    points = [verdict["points"] for verdict in verdicts if verdict["exercise"] == exercise.id]
                    if points:
                        # a record keeps six places
                        found.setdefault((student, exercise.unit), {})[exercise.id] = round(math.fsum(points), 6)
        return found

    def compared(self, checked: dict[tuple[str, str], dict[str, float]]) -> Iterator[str]:
        """What the gradebook and the exported table say beside it."""
        from grading.nbgrader import gradebook

        same = other = 0
        ungraded: Counter[str] = Counter()
        with gradebook(self.folder) as book:
            for (student, unit), kind in self.kinds.items():
                submission = book.find_submission(unit, student)
                grades = {grade.name: grade.auto_score for one in submission.notebooks for grade in one.grades}
                found = {name.removeprefix("check-"): points for name, points in grades.items() if points is not None}
                if not any(name in found for name in checked[student, unit]):
                    ungraded[kind] += 1
                    continue
                for exercise, points in checked[student, unit].items():
                    equal = exercise in found and math.isclose(found[exercise], points, abs_tol=1e-9)
                    same, other = same + equal, other + (not equal)
                    if not equal:
                        yield f"  {student}, {unit}, {kind}: {exercise} has {found.get(exercise)}, and not {points}"
        yield f"  {same} of {same + other} exercises have in the gradebook the points of goodinit check"
        left = ", ".join(f"{many} {kind}" for kind, many in ungraded.items()) or "none"
        yield f"  notebooks that were reported and not graded: {left}"
        yield from self._exported(checked)
        pages = len(list((self.folder / "feedback").glob("*/*/*.html")))
        yield f"  pages of feedback: {pages}"

    def _exported(self, checked: dict[tuple[str, str], dict[str, float]]) -> Iterator[str]:
        table = self.folder / "grades.csv"
        words = ["grades", "--nbgrader", str(self.folder), "--format", "csv", "--out", str(table)]
        subprocess.run([*GOODINIT, *words], cwd=self.course.root, capture_output=True, check=True)
        with table.open(encoding="utf-8", newline="") as lines:
            scores = {(row["student_id"], row["assignment"]): float(row["score"] or 0) for row in csv.DictReader(lines)}
        # a notebook that could not be read has no points, and the check of its file none either
        equal = sum(math.isclose(scores[key], math.fsum(points.values())) for key, points in checked.items())
        yield f"  {equal} of {len(checked)} exported scores are the sums of goodinit check"
