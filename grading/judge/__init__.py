"""Runs the checks of a suite against a Subject and turns what happens into Verdicts."""

from ._checks import FIXTURES, Check, SuiteError, checks_of, load_suite
from ._judge import PROFILE, Judge, NotStarted, fresh_seed

__all__ = ["FIXTURES", "PROFILE", "Check", "Judge", "NotStarted", "SuiteError", "checks_of", "fresh_seed", "load_suite"]
