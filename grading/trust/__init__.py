"""Proves what the suites are trusted for: bugs caught, variants accepted, arguments live, mutants killed."""

from ._jobs import run_jobs
from ._table import trust

__all__ = ["run_jobs", "trust"]
