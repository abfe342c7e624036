"""Runs the checks of a suite against a Subject and turns what happens into Verdicts."""

from ._checks import FIXTURES, Check, SuiteError, checks_of, load_suite
from ._inputs import EXAMPLES, PROFILE, Input
from ._judge import Judge, NotStarted, Replays, fresh_seed

__all__ = [
    "EXAMPLES",
    "FIXTURES",
    "PROFILE",
    "Check",
    "Input",
    "Judge",
    "NotStarted",
    "Replays",
    "SuiteError",
    "checks_of",
    "fresh_seed",
    "load_suite",
]
