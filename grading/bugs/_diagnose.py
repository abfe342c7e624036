"""Which known bug behaves like the student's code, on the inputs on which that code failed?

A bug is named only when it gives the student's values on several inputs, and when those differ visibly from what
the reference gives, or raises what the student's code raises. No match, no guess.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from grading.course import Course
from grading.subject import Composition, Opening, Sources, Subject
from grading.verdict import Mismatch, Observation

from ._bank import Bug, put_in

SECONDS = 0.45
# so long that none runs out of it, where a name must not depend on speed
UNHURRIED_SECONDS = 60.0
# equal to what rounding in another order of operations allows, and far from what a bug changes
SAME = {torch.float64: 1e-9, torch.float32: 2e-5}
# where a check loses digits: how far from a bug's value, in shares of how far that is from the expected one
NEAR = 0.01
# values that are compared as they are, besides numbers with a fraction and tensors
PLAIN = (str, bytes, int, complex, type(None), torch.dtype, torch.device)
# how a run has ended whose values were not the expected ones
MISMATCH = Mismatch.__name__
# slips of the pen, which no bug of the bank makes: there is nothing to look for
SLIPS = ("NameError", "UnboundLocalError", "ImportError", "ModuleNotFoundError")


@dataclass
class Run:
    """One run of a check's body: what it was given, what it looked at, and what ended it.

    `error` is the exception as `describe` has it, or MISMATCH where a comparison has failed.
    """

    drawn: dict[str, Any]
    observations: Sequence[Observation] = ()
    error: str | None = None
    finished: bool = False


@dataclass(frozen=True)
class Diagnosis:
    bug: Bug
    sentence: str


Replay = Callable[[Subject, dict[str, Any]], Run]


class OutOfTime(Exception):
    """A diagnosis was not finished: what it has not tried yet might match as well."""


class Allowance:
    """The processor time that a diagnosis may take, of its own thread.

    What is named must not depend on what else the machine does, nor on what threads of torch's are spinning.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.thread_time() + seconds

    @property
    def used_up(self) -> bool:
        return time.thread_time() > self.end


def diagnose(
    course: Course,
    reference: Sources,
    bugs: Iterable[Bug],
    runs: Sequence[Run],
    replay: Replay,
    allowance: Allowance | None = None,
) -> Diagnosis | None:
    """The one bug that explains all `runs` of a student's code, the failed one last; None when none or several do.

    `replay` runs the check's body against a Subject on the inputs given. Raises OutOfTime where the `allowance` does
    not suffice for all of `bugs`.
    """
    failed = runs[-1]
    if failed.error is None or failed.error.startswith(SLIPS) or (failed.error == MISMATCH and not failed.observations):
        return None
    found: list[Bug] = []
    for bug in bugs:
        if explains(course, reference, bug, (failed, *runs[:-1]), replay, allowance):
            found.append(bug)
        if len(found) > 1:
            return None
    return Diagnosis(found[0], _sentence(found[0])) if found else None


def explains(
    course: Course,
    reference: Sources,
    bug: Bug,
    runs: Iterable[Run],
    replay: Replay,
    allowance: Allowance | None = None,
    *,
    roughly: bool = False,
) -> bool:
    """Whether the reference with `bug` in it does what a student's code did in all of `runs`.

    `roughly`: values may differ by rounding, as long as they are far nearer to the bug's than to those expected.
    """

    def alike(run: Run) -> bool:
        if allowance and allowance.used_up:
            raise OutOfTime
        return _alike(run, replay(subject, run.drawn), roughly)

    subject = _Trusted(course, _bugged(course, reference, bug))
    try:
        return all(map(alike, runs))
    finally:
        subject.close()


class _Trusted(Subject):
    """Code of ours: it neither hangs while it is imported nor leaves anything behind, and a diagnosis tries many."""

    def _imported(self, key: tuple[str, ...], composition: Composition, module: str) -> Opening:
        return self._open(key, composition, module)


# the bugs of an exercise are tried for every check of it that fails
@lru_cache(256)
def _bugged(course: Course, reference: Sources, bug: Bug) -> Sources:
    return put_in(course, reference, bug)


def _sentence(bug: Bug) -> str:
    return f"{bug.sentence} (That is the convention of {bug.dialect}.)" if bug.dialect else bug.sentence


def _alike(student: Run, bug: Run, roughly: bool) -> bool:
    """Whether two runs looked at the same things, saw the same values, and ended the same way."""
    if student.error != bug.error or len(student.observations) != len(bug.observations):
        return False
    return all(
        one.call == other.call and _same(one.got, other.got, other.want if roughly else None)
        for one, other in zip(student.observations, bug.observations, strict=True)
    )


def _same(one: Any, other: Any, want: Any) -> bool:
    """Whether `one` is `other` up to rounding, or nearer to it by far than that is to `want`, if there is one."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not one.is_floating_point():
            return torch.equal(one, other)
        a, b = one.double(), other.double()
        finite = torch.isfinite(b)
        size = float(b[finite].abs().max()) if finite.any() else 1.0
        slack = max(SAME.get(one.dtype, 1e-2) * size, NEAR * _distance(b, want))
        return torch.allclose(a, b, rtol=0.0, atol=slack, equal_nan=True)
    if isinstance(one, float) and isinstance(other, float):
        off = abs(other - want) if isinstance(want, float) else 0.0
        slack = max(1e-12, NEAR * off) if math.isfinite(off) else 1e-12
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=slack) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list) and isinstance(other, list):
        wants = want if isinstance(want, list) and len(want) == len(other) else [None] * len(other)
        return len(one) == len(other) and all(map(_same, one, other, wants))
    if isinstance(one, dict) and isinstance(other, dict):
        wanted = want if isinstance(want, dict) else {}
        return one.keys() == other.keys() and all(_same(one[key], other[key], wanted.get(key)) for key in one)
    if isinstance(one, PLAIN) and isinstance(other, PLAIN):
        return type(one) is type(other) and one == other
    # of anything else a verdict says the kind alone, and behind the wall there is only that
    return type(one).__name__ == type(other).__name__


def _distance(value: torch.Tensor, want: Any) -> float:
    """The largest finite difference between two tensors of one shape; 0 where `want` is no such tensor."""
    if not isinstance(want, torch.Tensor) or want.shape != value.shape:
        return 0.0
    off = (value - want).abs()
    off = off[torch.isfinite(off)]
    return float(off.max()) if off.numel() else 0.0
