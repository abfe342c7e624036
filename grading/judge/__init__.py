"""Runs the checks of a suite against a Subject and turns what happens into Verdicts."""

from ._checks import FIXTURES, Check, SuiteError, checks_of, load_suite, refuse_strangers
from ._diagnoses import Replays
from ._inputs import PROFILE, Drawn, is_costly
from ._judge import Judge, NotStarted, fresh_seed

__all__ = [
    "FIXTURES",
    "PROFILE",
    "Check",
    "Drawn",
    "Judge",
    "NotStarted",
    "Replays",
    "SuiteError",
    "checks_of",
    "fresh_seed",
    "is_costly",
    "load_suite",
    "refuse_strangers",
]
