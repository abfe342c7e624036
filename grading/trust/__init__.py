"""Proves what the suites are trusted for: bugs caught, variants accepted, arguments live, mutants killed."""

from grading.startup import importing

with importing():
    from ._table import trust

__all__ = ["trust"]
