"""The record of one check's outcome, and how it is shown; nobody else decides what a result looks like."""

from ._expect import Mismatch, Observation, expect, expect_statistic, measuring, observing, rejects, show, unchanged
from ._record import (
    BLOCKED,
    DELEGATED,
    KIT_ERROR,
    NOT_STARTED,
    PASSED,
    VERDICTS,
    WRONG,
    Verdict,
    exercise_verdict,
)

__all__ = [
    "BLOCKED",
    "DELEGATED",
    "KIT_ERROR",
    "NOT_STARTED",
    "PASSED",
    "VERDICTS",
    "WRONG",
    "Mismatch",
    "Observation",
    "Verdict",
    "exercise_verdict",
    "expect",
    "expect_statistic",
    "measuring",
    "observing",
    "rejects",
    "show",
    "unchanged",
]
