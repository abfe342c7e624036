"""Finds and loads the implementation under test, so that a suite need not know whose it is or where it runs."""

from ._guard import TimeExpired, preserved_state, time_limit
from ._local import Subject, SubjectError
from ._sources import Broken, ImplError, Source, Sources, definitions, read_source, read_sources

__all__ = [
    "Broken",
    "ImplError",
    "Source",
    "Sources",
    "Subject",
    "SubjectError",
    "TimeExpired",
    "definitions",
    "preserved_state",
    "read_source",
    "read_sources",
    "time_limit",
]
