"""Measures the checks that judge random draws: how often they accuse the reference, and what they see of bugs."""

from __future__ import annotations

import math
from dataclasses import dataclass

from grading.judge import Check, Judge
from grading.verdict import FALSE_ALARM, PASSED, WRONG, measuring, sampling

# a normal distribution's share beyond 3 standard errors, and how much heavier a statistic's tails may be
BEYOND, HEAVIER = math.erfc(3 / math.sqrt(2)), 4.0


@dataclass(frozen=True)
class Sampled:
    """What some runs of one check on the reference showed.

    `draws` counts runs of the check's body, `comparisons` the statistics compared in them, `squares` is the sum of
    their squared errors in units of the standard error, and `beyond` counts those off by more than three.
    """

    runs: int
    draws: int
    comparisons: int
    alarms: int
    squares: float
    beyond: int
    largest: float

    @classmethod
    def of(cls, draws: int, alarms: int, errors: list[float]) -> Sampled:
        far = [abs(error) for error in errors]
        return cls(1, draws, len(far), alarms, sum(e * e for e in far), sum(e > 3 for e in far), max(far, default=0.0))

    def __add__(self, other: Sampled) -> Sampled:
        return Sampled(
            self.runs + other.runs,
            self.draws + other.draws,
            self.comparisons + other.comparisons,
            self.alarms + other.alarms,
            self.squares + other.squares,
            self.beyond + other.beyond,
            max(self.largest, other.largest),
        )

    @property
    def stated(self) -> float:
        """The false-alarm rate of one draw that the check states: that of a comparison, times how many it makes."""
        return FALSE_ALARM * self.comparisons / max(self.draws, 1)

    @property
    def spread(self) -> float:
        """The standard deviation of the errors in units of the standard error derived: 1 where that is right."""
        return math.sqrt(self.squares / max(self.comparisons, 1))

    @property
    def problem(self) -> str:
        """Why the stated rate cannot be right, in a few words; empty where the draws bear it out."""
        if self.alarms:
            return f"{self.alarms} false alarms in {self.draws} draws"
        # the inputs of a run share what torch's own generator gives, so that only runs count as independent
        independent = max(self.runs * self.comparisons / max(self.draws, 1), 1)
        if self.spread > 1.1 + 5 / math.sqrt(2 * independent):
            return f"errors spread {self.spread:.2f} times as far as the standard error says"
        # the expected count, and five of its own standard deviations for chance
        expected = HEAVIER * BEYOND * self.comparisons
        if self.beyond > expected + 5 * math.sqrt(expected) + 5:
            return f"{self.beyond} of {self.comparisons} errors beyond 3 standard errors"
        return ""


def sample(judge: Judge, check: Check) -> Sampled:
    """Runs one check on the judge's subject, the reference, and looks at the statistics it compares."""
    with sampling() as errors:
        verdict = judge.run(check)
    return Sampled.of(judge.draws[check.name], int(verdict.verdict != PASSED), errors)


def catches(judge: Judge, check: Check) -> tuple[bool, float]:
    """Whether one run of a check catches the judge's subject, and the largest error in standard errors it sees."""
    with measuring() as excesses, sampling() as errors:
        verdict = judge.run(check)
    return bool(excesses) or verdict.verdict == WRONG, max(map(abs, errors), default=0.0)
