"""What the wall costs: a worker, one complete submission of a unit, and the same in this process."""

from __future__ import annotations

import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch

from grading.course import Course, load
from grading.judge import Drawn, Judge
from grading.sandbox import RemoteSubject, Sandbox
from grading.startup import spare_what_exists
from grading.subject import Sources, read_sources

from ._suites import Row

CLASS_SEED = 1
UNITS = ("u7_normalization", "u8_optimizers")


def wall_rows(root: Path, runs: int) -> list[Row]:
    """Milliseconds of a worker as wall time, and a submission's cost in CPU seconds of judge and worker together."""
    torch.set_num_threads(1)
    course = load(root)
    reference = read_sources(course, root / "solutions")
    rows: list[Row] = []
    with Sandbox(course) as sandbox:
        sandbox.fork().kill()
        first = [_first_answer(course, reference, sandbox) for _ in range(4 * runs)]
        rows.append(("a worker forked, confined, and its first answer", first, ""))
        for unit in UNITS:
            known = _known(course, reference, unit, sandbox)
            unlike = {name: replace(drawn, right=None) for name, drawn in known.items()}
            # as the process does that the judges of a class come from
            spare_what_exists()
            ways: list[tuple[str, Sandbox | None, dict[str, Drawn] | None]] = [
                ("in this process", None, None),
                ("behind the wall, one submission", sandbox, None),
                ("behind the wall, one of a class", sandbox, unlike),
                ("behind the wall, one of a class with the reference's answers bit for bit", sandbox, known),
            ]
            # in turn, for a machine's speed changes within minutes; the first of each is not counted
            turns = [
                [
                    _submission(course, reference, unit, seed if inputs is None else CLASS_SEED, where, inputs)
                    for _, where, inputs in ways
                ]
                for seed in range(runs + 1)
            ][1:]
            for (what, _, _), seconds in zip(ways, zip(*turns, strict=True), strict=True):
                ratio = statistics.median(one / turn[0] for one, turn in zip(seconds, turns, strict=True))
                compared = f"{ratio:.2f} times in this process" if what != ways[0][0] else ""
                rows.append((f"{unit}, all checks, {what}, CPU", list(seconds), compared))
    return rows


def _known(course: Course, reference: Sources, unit: str, sandbox: Sandbox) -> dict[str, Drawn]:
    """What a class shares: inputs, and what identifies right answers."""
    judge = Judge(
        course, reference, reference, CLASS_SEED, subject=RemoteSubject(course, reference, reference, sandbox)
    )
    exercises = course.by_unit[unit].exercises
    checks = [check for exercise in exercises for check in judge.checks(exercise.id) if not check.slow]
    found = judge.drawn_for_many(checks)
    judge.close()
    return found


def _first_answer(course: Course, reference: Sources, sandbox: Sandbox) -> float:
    start = time.perf_counter()
    subject = RemoteSubject(course, reference, reference, sandbox)
    subject.exercise(course.exercises["mean"])(torch.ones(3))
    seconds = time.perf_counter() - start
    subject.close()
    return seconds


def _submission(
    course: Course,
    reference: Sources,
    unit: str,
    seed: int,
    sandbox: Sandbox | None,
    inputs: dict[str, Drawn] | None = None,
) -> float:
    """CPU seconds of the judge and of its workers for all checks of one unit, on the reference."""
    start = time.process_time()
    subject = RemoteSubject(course, reference, reference, sandbox) if sandbox else None
    judge = Judge(course, reference, reference, seed, subject=subject, inputs=inputs)
    for _ in judge.judge(course.by_unit[unit].exercises, slow=False):
        pass
    judge.close()
    return time.process_time() - start + (subject.seconds_used if subject else 0.0)
