"""What the wall costs: a worker, one complete submission of a unit, and the same in this process."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch

from grading.course import Course, load
from grading.judge import Input, Judge
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
            here = [_submission(course, reference, unit, seed, None) for seed in range(runs + 1)][1:]
            there = [_submission(course, reference, unit, seed, sandbox) for seed in range(runs + 1)][1:]
            judge = Judge(course, reference, reference, CLASS_SEED)
            checks = [check for exercise in course.by_unit[unit].exercises for check in judge.checks(exercise.id)]
            inputs = {
                check.name: judge.drawn(check, questions=True) for check in checks if check.drawn and not check.slow
            }
            # as the process does that the judges of a class come from
            spare_what_exists()
            many = [_submission(course, reference, unit, CLASS_SEED, sandbox, inputs) for _ in range(runs + 1)][1:]
            rows.append((f"{unit}, all checks, in this process, CPU", here, ""))
            for what, seconds in (("one submission", there), ("one of a class", many)):
                ratio = statistics.median(seconds) / statistics.median(here)
                text = f"{unit}, all checks, behind the wall, {what}, CPU"
                rows.append((text, seconds, f"{ratio:.2f} times in this process"))
    return rows


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
    inputs: dict[str, list[Input]] | None = None,
) -> float:
    """CPU seconds of the judge and of its workers for all checks of one unit, on the reference."""
    start = time.process_time()
    subject = RemoteSubject(course, reference, reference, sandbox) if sandbox else None
    judge = Judge(course, reference, reference, seed, subject=subject, inputs=inputs)
    for _ in judge.judge(course.by_unit[unit].exercises, slow=False):
        pass
    judge.close()
    return time.process_time() - start + (subject.seconds_used if subject else 0.0)
