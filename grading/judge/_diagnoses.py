"""Which known misunderstanding explains a failed check, in the light of the other checks of its exercise."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout, suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from grading.bugs import MISMATCH, Allowance, BankError, Bug, Diagnosis, OutOfTime, Run, bugs_of, diagnose, explains
from grading.subject import Sources, Subject, SubjectDied, TimeExpired, copied, preserved_state

from ._body import Sink, StubReached, recording, seed_everything
from ._checks import Check
from ._inputs import Input, draw, identity, is_costly

if TYPE_CHECKING:
    from ._judge import Judge

# enough inputs to tell two bugs apart, few enough to replay within half a second: fewer where a check draws few itself
EVIDENCE_RUNS, COSTLY_EVIDENCE_RUNS = 6, 3
# of each other check that is said to catch the bug: on inputs of one check alone, two mistakes can look the same
CONFIRMING_RUNS = 2
# what PyTorch says of shapes and gradients, whatever the mistake: explained only by what explains a wrong value too
VAGUE = ("RuntimeError", "StopIteration")

# by check, seed, the sources with the bug in them, and input
Replays = dict[tuple[str, int, Sources, str], Run]


class Diagnoses:
    """What one judge has found out about the mistakes in the code that it judges.

    A diagnosis may take `seconds`; `replays` keeps what the known bugs did with inputs that come again.
    """

    def __init__(self, judge: Judge, reference: Sources, replays: Replays, seconds: float) -> None:
        self.judge, self.reference, self.replays, self.seconds = judge, reference, replays, seconds
        # the bug that explains another failed check of an exercise, and those that explain one and no others
        self._suspects: dict[str, Bug] = {}
        self._refuted: set[Bug] = set()
        # what the code under test did in the checks that failed, as far as it was compared with known bugs
        self._evidence: dict[str, list[Run]] = {}

    def of(self, check: Check, failed: Run) -> Diagnosis | None:
        """The known misunderstanding that explains why a check failed in a run."""
        course, reference, allowance = self.judge.course, self.reference, Allowance(self.seconds)
        found, suspect = None, self._suspects.get(check.exercise)
        # a damaged bank must not cost a student the verdict; the proofs of the bank find it
        with suppress(BankError), preserved_state():
            again = partial(self._replayed, check)
            try:
                evidence = [*(self._more_runs(check, allowance) if check.drawn else ()), failed]
                found = diagnose(course, reference, bugs_of(course, check.exercise), evidence, again, allowance)
                if found and not self._confirmed(check, found.bug, evidence, allowance):
                    found = None
                self._evidence[check.name] = evidence
            except OutOfTime:
                self._evidence[check.name] = [failed]
                if suspect:
                    found = diagnose(course, reference, [suspect], [failed], again)
        if found:
            self._suspects.setdefault(check.exercise, found.bug)
        return found

    def _replayed(self, check: Check, subject: Subject, drawn: dict[str, object]) -> Run:
        """What a known bug does in a check on inputs that are known."""
        key = check.name, self.judge.seed, subject.sources, identity(drawn)
        if key not in self.replays:
            run = self.replays[key] = Run(drawn)
            with suppress(Exception, SystemExit, TimeExpired, StubReached), recording(run):
                self.judge.replay_ours(check, subject, drawn)
        return self.replays[key]

    def _confirmed(self, check: Check, bug: Bug, evidence: list[Run], allowance: Allowance) -> bool:
        """Whether most of the other checks that catch a bug agree that it is this one, as far as there is time to ask.

        `evidence` is what it explains of `check`, the failure last.

        Most, for there may be a second mistake that only some of them see. Those that failed before are asked first,
        with time of their own: what the bug does there is known in most cases.
        """
        if bug in self._refuted:
            return False
        votes: list[bool] = []
        explained = list(evidence)
        course, more = self.judge.course, Allowance(self.seconds / 10)
        siblings = self.judge.checks(check.exercise)
        others = [other for other in siblings if other.name in bug.caught_by and other != check]
        with suppress(OutOfTime):
            for other in sorted(others, key=lambda other: other.name not in self._evidence):
                again, known = partial(self._replayed, other), self._evidence.get(other.name)
                runs, time_left = known or [], more
                if not known and other.drawn and not is_costly(other):
                    runs, time_left = self._more_runs(other, allowance, CONFIRMING_RUNS), allowance
                if runs:
                    votes.append(explains(course, self.reference, bug, runs, again, time_left, roughly=True))
                    explained += runs if votes[-1] else ()
        if votes and 2 * sum(votes) <= len(votes):
            self._refuted.add(bug)
            return False
        vague = (evidence[-1].error or "").startswith(VAGUE)
        return not vague or any(run.error == MISMATCH for run in explained)

    def _more_runs(self, check: Check, allowance: Allowance, most: int = EVIDENCE_RUNS) -> list[Run]:
        """What the code under test does on some fresh inputs, right or wrong: one failure can have many reasons."""
        runs: list[Run] = []
        seed, sink = self.judge.seed_of(check), Sink()
        with suppress(Exception, SystemExit, TimeExpired, SubjectDied), redirect_stdout(sink), redirect_stderr(sink):
            fixtures = self.judge.fixtures(check)
            with self.judge.running(check):
                for fresh in _evidence_inputs(check, seed + 1)[:most]:
                    if allowance.used_up:
                        break
                    runs.append(Run(fresh.given))
                    seed_everything(seed)
                    self.judge.subject.seed(seed)
                    with suppress(Exception), recording(runs[-1]):
                        check.inner(**fixtures, **copied(fresh.given))
        # the last one may have been cut short
        return [run for run in runs if run.finished or run.error]


# one check is diagnosed again and again where many subjects are judged with one seed
@lru_cache(64)
def _evidence_inputs(check: Check, seed: int) -> list[Input]:
    # the first is the simplest that there is, and many mistakes look the same on small inputs
    if is_costly(check):
        simplest, *others = draw(check, seed, COSTLY_EVIDENCE_RUNS + 1)
    else:
        simplest, *others = draw(check, seed, 2 * EVIDENCE_RUNS + 1)
        others = sorted(others, key=lambda one: one.numbers, reverse=True)[:EVIDENCE_RUNS]
    return others or [simplest]
