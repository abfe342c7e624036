"""`goodinit autograde`: a class of an nbgrader course, judged side by side."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from grading.classroom import GradeError
from grading.course import Course, CourseError, Unit
from grading.nbgrader import NbgraderError

from ._grade import address


def autograde(course: Course, args: argparse.Namespace) -> int:
    """Autogrades, and returns 0 when all could be, 1 when a submission or a check could not, 130 when interrupted."""
    try:
        from grading.nbgrader._parallel import autograde
    except ModuleNotFoundError as error:
        raise NbgraderError(
            f"autograding needs nbgrader ({error.name} is missing): pip install 'goodinit[instructor]'"
        ) from None
    if args.jobs is not None and args.jobs < 1:
        raise GradeError(f"--jobs takes a whole number of 1 or more, not {args.jobs}")
    unit, root = _unit(course, args.target), Path(args.nbgrader)
    scheduler = address(args.scheduler)
    done = autograde(root, unit, jobs=args.jobs, scheduler=scheduler, force=args.force, hidden=args.hidden)
    graded = done.done + done.kept - len(done.problems)
    for student, problem in done.problems.items():
        print(f"goodinit: {student if student.isprintable() else repr(student)}: {problem}", file=sys.stderr)
    if done.left:
        sentence = f"stopped; {graded} of {graded + done.left} are graded, and the same command goes on from there"
        print(f"\ngoodinit: {sentence}", file=sys.stderr)
        return 130
    for sentence in done.kit_errors:
        print(f"goodinit: {sentence}", file=sys.stderr)
    print(f"{unit.id}: {graded} graded{f', {done.kept} of them before' if done.kept else ''}")
    if done.problems:
        print(f"{len(done.problems)} could not be graded; nothing of theirs was written")
    return 1 if done.problems or done.kit_errors else 0


def _unit(course: Course, target: str) -> Unit:
    exercises = course.resolve(target)
    unit = course.by_unit[exercises[0].unit]
    if list(unit.exercises) != exercises:
        raise CourseError(f"an assignment is a whole unit, and {target!r} is an exercise of {unit.id}")
    return unit
