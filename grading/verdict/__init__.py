"""The record of one check's outcome, and how it is shown; nobody else decides what a result looks like."""

import importlib
from typing import TYPE_CHECKING, Any

from ._record import (
    BLOCKED,
    DELEGATED,
    KIT_ERROR,
    NOT_FINISHED,
    NOT_STARTED,
    PASSED,
    VERDICTS,
    WRONG,
    Verdict,
    exercise_state,
    exercise_verdict,
)
from ._text import clean, number

if TYPE_CHECKING:
    from ._expect import (
        FALSE_ALARM,
        STANDARD_ERRORS,
        Mismatch,
        Observation,
        apart,
        expect,
        expect_statistic,
        measuring,
        observing,
        refused,
        rejects,
        sampling,
        show,
        unchanged,
    )

__all__ = [
    "BLOCKED",
    "DELEGATED",
    "FALSE_ALARM",
    "KIT_ERROR",
    "NOT_FINISHED",
    "NOT_STARTED",
    "PASSED",
    "STANDARD_ERRORS",
    "VERDICTS",
    "WRONG",
    "Mismatch",
    "Observation",
    "Verdict",
    "apart",
    "clean",
    "exercise_state",
    "exercise_verdict",
    "expect",
    "expect_statistic",
    "measuring",
    "number",
    "observing",
    "refused",
    "rejects",
    "sampling",
    "show",
    "unchanged",
]


def __getattr__(name: str) -> Any:
    """What suites assert with, which takes torch; who only reads records does not wait for it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}._expect"), name)
