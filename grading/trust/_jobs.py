"""The proofs as small jobs that worker processes take one by one; each names its subject and returns plain findings."""

from __future__ import annotations

import atexit
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
import torch
from hypothesis import Phase

from grading.bugs import UNHURRIED_SECONDS, Bug, Variant, load_bugs, with_bug
from grading.course import Course, load
from grading.judge import PROFILE, Check, Drawn, Judge, Replays, is_costly, load_suite
from grading.sandbox import RemoteSubject, Sandbox
from grading.startup import importing
from grading.subject import Sources, TimeExpired, read_sources
from grading.verdict import PASSED, STANDARD_ERRORS, WRONG, Verdict, measuring, sampling

from ._liveness import WAYS, with_perturbed_argument
from ._mutants import mutated
from ._statistics import Sampled, catches, sample

# with so many seeds a right answer is judged by the checks that draw few inputs, for they are costly
COSTLY_SEEDS = 2
# by how many tolerances a changed argument must throw some check off
LIVE, LIVE_STATISTIC = 100.0, 4.0
# in how many runs a check may miss a bug for want of an input that shows it
MISSED = 1e-3


@dataclass(frozen=True)
class Job:
    """`kind` says what is proved of which exercise; `what` names the bug, variant, argument or mutant."""

    kind: str
    exercise: str
    what: Any
    seed: int = 0
    seeds: int = 1
    # whether one check that catches a bug is enough, or all that are said to catch it must
    one_check: bool = False


@dataclass
class Finding:
    job: Job
    good: bool
    note: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(eq=False)
class _Worker:
    course: Course
    reference: Sources

    @cached_property
    def sandbox(self) -> Sandbox:
        found = Sandbox(self.course)
        atexit.register(found.close)
        return found

    @lru_cache(400)  # noqa: B019
    def inputs(self, check: Check, seed: int) -> Drawn:
        """What is drawn for a check with a seed: the same for all answers that are judged with it."""
        judge = Judge(self.course, self.reference, self.reference, seed)
        try:
            return judge.drawn(check) if check.drawn else Drawn([])
        finally:
            judge.close()

    @lru_cache(2)  # noqa: B019
    def replays(self, exercise: str) -> Replays:
        """What the bugs of an exercise do with the inputs of its checks; its wrong answers come one after the other."""
        return {}


_worker: _Worker | None = None


class Pool:
    """Processes that carry out jobs side by side, one per core unless said."""

    def __init__(self, root: Path, processes: int | None = None) -> None:
        self._pool = ProcessPoolExecutor(
            processes or os.cpu_count(), get_context("spawn"), initializer=_start, initargs=(root,)
        )

    def run(self, jobs: Iterable[Job]) -> Iterator[Finding]:
        """Yields the findings of `jobs` in their order."""
        return self._pool.map(_carry_out, jobs)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _start(root: Path) -> None:
    global _worker
    torch.set_num_threads(1)
    # whether a bug is caught and named does not wait for the simplest input that shows it
    hypothesis.settings.register_profile(
        "trust",
        hypothesis.settings.get_profile(PROFILE),
        phases=(Phase.explicit, Phase.generate),
    )
    hypothesis.settings.load_profile("trust")
    with importing():
        course = _lending(load(root))
        for unit in course.units:
            load_suite(course, unit)
        _worker = _Worker(course, read_sources(course, root / "solutions"))


def _lending(course: Course) -> Course:
    """The course with every exercise judged among the reference's pieces, the capstone too."""
    units = [
        replace(unit, exercises=tuple(replace(exercise, own_pieces=False) for exercise in unit.exercises))
        for unit in course.units
    ]
    return replace(course, units=tuple(units))


def _carry_out(job: Job) -> Finding:
    assert _worker is not None, "the pool starts its workers first"
    return PROOFS[job.kind](_worker, job)


def _run_checks(
    worker: _Worker,
    sources: Sources,
    exercise: str,
    seed: int,
    checks: Iterable[str] = (),
    *,
    wall: bool = False,
    diagnosis: bool = True,
    costly: bool = True,
) -> Iterator[Verdict]:
    """The verdicts of an exercise's checks, or of those named, one by one as they come.

    Without `costly` only of those that draw as many inputs as is usual.
    """
    inputs: dict[str, Drawn] = {}
    subject = RemoteSubject(worker.course, sources, worker.reference, worker.sandbox) if wall else None
    judge = Judge(
        worker.course,
        sources,
        worker.reference,
        seed,
        subject=subject,
        inputs=inputs,
        replays=worker.replays(exercise),
        diagnosis_seconds=UNHURRIED_SECONDS if diagnosis else 0.0,
    )
    try:
        for check in judge.checks(exercise):
            if check.slow or (checks and check.name not in checks) or not (costly or _usual(check)):
                continue
            inputs[check.name] = worker.inputs(check, seed)
            yield judge.run(check)
    finally:
        judge.close()


def _usual(check: Check) -> bool:
    return check.drawn and not is_costly(check)


def _verdicts(
    worker: _Worker, sources: Sources, exercise: str, seed: int, checks: Iterable[str] = (), *, wall: bool = False
) -> dict[str, Verdict]:
    return {verdict.check: verdict for verdict in _run_checks(worker, sources, exercise, seed, checks, wall=wall)}


def _named(worker: _Worker, job: Job) -> Bug:
    """The bug of the bank that a job is about."""
    return next(bug for bug in load_bugs(worker.course)[job.exercise] if bug.name == job.what)


def _bug(worker: _Worker, job: Job) -> Finding:
    """A bug of the bank, in the reference, is caught by every check that is said to catch it, and named."""
    bug = _named(worker, job)
    sources = with_bug(worker.course, worker.reference, bug)
    found: dict[str, Verdict] = {}
    for name in bug.caught_by:
        for verdict in _run_checks(worker, sources, job.exercise, job.seed, [name], diagnosis=not job.one_check):
            found[name] = verdict
        if job.one_check and found[name].verdict == WRONG:
            break
    missed = [name for name, verdict in found.items() if verdict.verdict != WRONG]
    if job.one_check and len(missed) < len(found):
        missed = []
    named = {verdict.bug for verdict in found.values()}
    note = f"not caught by {', '.join(missed)}" if missed else ""
    numbers = {} if job.one_check else {"diagnosis": _right_wrong_silent(named, job.what)}
    return Finding(job, not missed, note, numbers)


def _caught(worker: _Worker, job: Job) -> Finding:
    """Which checks catch a bug: what `caught_by` should say."""
    bug = _named(worker, job)
    found = _verdicts(worker, with_bug(worker.course, worker.reference, bug), job.exercise, job.seed)
    wrong = [name for name, verdict in found.items() if verdict.verdict == WRONG]
    return Finding(job, bool(wrong), "" if wrong else "not caught", {"checks": wrong})


@contextmanager
def _handed_in(worker: _Worker, job: Job) -> Iterator[Sources]:
    variant: Variant = job.what
    with TemporaryDirectory() as folder:
        path = Path(folder) / "handed_in.py"
        path.write_text(variant.text, encoding="utf-8")
        yield read_sources(worker.course, path)


def _variant(worker: _Worker, job: Job) -> Finding:
    """A right answer written differently passes every check, with every seed."""
    with _handed_in(worker, job) as sources:
        for number in range(job.seeds):
            seed = job.seed + number
            for verdict in _run_checks(worker, sources, job.exercise, seed, costly=number < COSTLY_SEEDS):
                if verdict.verdict != PASSED:
                    note = f"{verdict.check}, seed {seed}: {verdict.message} {verdict.details}"
                    return Finding(job, False, note)
    return Finding(job, True)


def _rewritten(worker: _Worker, job: Job) -> Finding:
    """A bug written anew as a whole function is caught, and is diagnosed by its own name or not at all."""
    with _handed_in(worker, job) as sources:
        found = _verdicts(worker, sources, job.exercise, job.seed)
    caught = any(verdict.verdict == WRONG for verdict in found.values())
    diagnosis = _right_wrong_silent({verdict.bug for verdict in found.values()}, job.what.name)
    names = ", ".join(sorted({str(verdict.bug) for verdict in found.values() if verdict.bug}))
    note = "not caught" if not caught else f"diagnosed as {names}" if diagnosis == "wrong" else ""
    return Finding(job, caught and diagnosis != "wrong", note, {"diagnosis": diagnosis})


def _right_wrong_silent(named: set[str | None], name: str) -> str:
    others = named - {None, name}
    return "wrong" if others else "right" if name in named else "silent"


def _argument(worker: _Worker, job: Job) -> Finding:
    """With one argument changed on its way in, some check is off by at least 100 of its tolerances, or fails.

    The tolerance of a statistic is its sampling error, which no change can be 100 times of: there, 4 are beyond chance.
    """
    most, crashed = 0.0, 0
    for way in range(WAYS):
        sources = with_perturbed_argument(worker.course, worker.reference, job.exercise, job.what, way)
        with measuring() as excesses, sampling() as errors:
            for verdict in _run_checks(worker, sources, job.exercise, job.seed):
                crashed += verdict.verdict == WRONG
                most = max([most, *excesses])
                live = most >= LIVE or max(map(abs, errors), default=0.0) >= LIVE_STATISTIC * STANDARD_ERRORS
                if live:
                    return Finding(job, True, "", {"excess": most, "crashed": crashed})
    return Finding(job, crashed > 0, "" if crashed else "no check sees it", {"excess": most, "crashed": crashed})


def _mutant(worker: _Worker, job: Job) -> Finding:
    """A mutant that nobody wrote is killed by some check."""
    sources = mutated(worker.course, worker.reference, job.exercise, job.what)
    verdicts = _run_checks(worker, sources, job.exercise, job.seed, diagnosis=False)
    killed = any(verdict.verdict != PASSED for verdict in verdicts)
    return Finding(job, killed, "" if killed else "survived")


def _sample(worker: _Worker, job: Job) -> Finding:
    """A check that judges random draws never accuses the reference, and its errors are as large as it says."""
    total = Sampled.of(0, 0, [])
    for seed in range(job.seed, job.seed + job.seeds):
        judge = Judge(worker.course, worker.reference, worker.reference, seed)
        try:
            total += sample(judge, judge.check_named(worker.course.unit_of(job.exercise).id, job.what))
        finally:
            judge.close()
    return Finding(job, not total.problem, total.problem, {"sampled": total})


def _power(worker: _Worker, job: Job) -> Finding:
    """A check that judges random draws catches a bug that it is said to catch, in every run."""
    check_name, bug = job.what
    sources = with_bug(worker.course, worker.reference, bug)
    seen = []
    for seed in range(job.seed, job.seed + job.seeds):
        inputs: dict[str, Drawn] = {}
        judge = Judge(worker.course, sources, worker.reference, seed, inputs=inputs, diagnosis_seconds=0.0)
        try:
            check = judge.check_named(worker.course.unit_of(job.exercise).id, check_name)
            inputs[check_name] = worker.inputs(check, seed)
            seen.append(catches(judge, check))
        finally:
            judge.close()
    power = sum(caught for caught, _ in seen) / len(seen)
    note = "" if power == 1 else f"sees {bug.name!r} in {power:.0%} of its runs"
    return Finding(job, power == 1, note, {"power": power, "error": median(error for _, error in seen)})


def _chance(worker: _Worker, job: Job) -> Finding:
    """A check that is said to catch a bug misses it by bad luck in less than one of a thousand runs."""
    bug = _named(worker, job)
    sources = with_bug(worker.course, worker.reference, bug)
    shown, drawn = Counter[str](), Counter[str]()
    for seed in range(job.seed, job.seed + job.seeds):
        judge = Judge(worker.course, sources, worker.reference, seed)
        try:
            for check in judge.checks(job.exercise):
                if check.name in bug.caught_by:
                    inputs = worker.inputs(check, seed).inputs
                    drawn[check.name] += len(inputs)
                    shown[check.name] += sum(_fails(judge, check, one.given) for one in inputs)
        finally:
            judge.close()
    odds = {name: (1 - shown[name] / many) ** (many / job.seeds) for name, many in drawn.items()}
    note = "; ".join(
        f"{name} misses it in {missed:.2%} of its runs ({shown[name]} of {drawn[name]} inputs show it)"
        for name, missed in odds.items()
        if missed > MISSED
    )
    return Finding(job, not note, note, {"missed": odds})


def _fails(judge: Judge, check: Check, given: dict[str, Any]) -> bool:
    try:
        judge.replay(check, judge.subject, given)
    except (Exception, SystemExit, TimeExpired):
        return True
    return False


def _parity(worker: _Worker, job: Job) -> Finding:
    """A right or wrong answer gets the same verdicts, points and names in this process and behind the wall."""
    with ExitStack() as stack:
        if isinstance(job.what, Bug):
            sources = with_bug(worker.course, worker.reference, job.what)
        elif isinstance(job.what, Variant):
            sources = stack.enter_context(_handed_in(worker, job))
        else:
            sources = worker.reference
        here = _verdicts(worker, sources, job.exercise, job.seed)
        there = _verdicts(worker, sources, job.exercise, job.seed, wall=True)
    differing = [
        f"{name}: {one.verdict} ({one.bug}) here, {other.verdict} ({other.bug}) behind the wall: {other.message}"
        for name, one in here.items()
        if (one.verdict, one.points, one.bug) != ((other := there[name]).verdict, other.points, other.bug)
    ]
    return Finding(job, not differing, "; ".join(differing))


PROOFS: dict[str, Callable[[_Worker, Job], Finding]] = {
    "bug": _bug,
    "caught": _caught,
    "variant": _variant,
    "rewritten": _rewritten,
    "argument": _argument,
    "mutant": _mutant,
    "parity": _parity,
    "sample": _sample,
    "power": _power,
    "chance": _chance,
}

__all__ = ["Finding", "Job", "Pool"]
