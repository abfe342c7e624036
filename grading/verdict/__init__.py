"""The record of one check's outcome, and how it is shown; nobody else decides what a result looks like."""

from ._expect import (
    FALSE_ALARM,
    STANDARD_ERRORS,
    Mismatch,
    Observation,
    expect,
    expect_statistic,
    measuring,
    observing,
    rejects,
    sampling,
    show,
    unchanged,
)
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
from ._text import clean

__all__ = [
    "BLOCKED",
    "DELEGATED",
    "FALSE_ALARM",
    "KIT_ERROR",
    "NOT_STARTED",
    "PASSED",
    "STANDARD_ERRORS",
    "VERDICTS",
    "WRONG",
    "Mismatch",
    "Observation",
    "Verdict",
    "clean",
    "exercise_verdict",
    "expect",
    "expect_statistic",
    "measuring",
    "observing",
    "rejects",
    "sampling",
    "show",
    "unchanged",
]
