"""`goodinit grade`: a folder of submissions, graded behind the wall."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from grading.classroom import GradeError, Options, grade
from grading.course import Course

from ._again import again

ADDRESS = re.compile(r"(?:(?:tcp|tls|ucx|wss?)://)?[^/]+:\d+(?:/.*)?|inproc://.+|gateway:.+")


def run(course: Course, args: argparse.Namespace) -> int:
    """Grades, and returns 0 when all could be, 1 when a submission or a check has a problem, 130 when interrupted."""
    if args.scheduler is None and sys.platform != "linux":
        # says that there is no wall; on Linux a judge finds out, and this process need not import torch
        from grading.sandbox import Sandbox

        Sandbox(course).close()
    if args.jobs is not None and args.jobs < 1:
        raise GradeError(f"--jobs takes a whole number of 1 or more, not {args.jobs}")
    chosen = {exercise.id for target in args.unit or () for exercise in course.resolve(target)}
    options = Options(
        exercises=tuple(exercise for name, exercise in course.exercises.items() if not chosen or name in chosen),
        seed=args.seed,
        jobs=args.jobs,
        slow=not args.fast,
        hints=args.hints == "yes",
        data=args.data,
        scheduler=address(args.scheduler),
    )
    done = grade(course, Path(args.folder), Path(args.out), options)
    graded = done.graded + done.kept
    if done.left:
        sentence = f"stopped; {graded} of {graded + done.left} are graded, and the same command goes on from there"
        print(f"\ngoodinit: {sentence}", file=sys.stderr)
        return 130
    for sentence in done.kit_errors:
        print(f"goodinit: {sentence}", file=sys.stderr)
    print(f"{graded} graded{f', {done.kept} of them before' if done.kept else ''}: {done.index}, {done.table}")
    if done.problems:
        print(f"{done.problems} could not be graded in full; the last column of {done.table} says why")
    print(again(args, done.seed))
    return 1 if done.problems or done.kit_errors else 0


def address(scheduler: str | None) -> str | None:
    """The cluster to grade on; what is no address is refused before Dask's client fails, and fails again at exit."""
    if scheduler is not None and not ADDRESS.fullmatch(scheduler):
        raise GradeError(
            f"no Dask scheduler answers at {scheduler}: --scheduler takes an address such as tcp://HOST:8786, "
            "or gateway:NAME"
        )
    return scheduler
