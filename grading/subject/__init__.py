"""Finds and loads the implementation under test, so that a suite need not know whose it is or where it runs."""

from ._compose import Composition
from ._delegation import Delegated, review, unavailable
from ._guard import TimeExpired, preserved_state, time_limit
from ._local import KitFailure, Opening, Subject, SubjectDied, SubjectError
from ._package import Gone, ModuleCode, Opened, Package, Parameter
from ._sources import Broken, ImplError, Source, Sources, definitions, read_source, read_sources
from ._tensors import same_tensor, tensors_in

__all__ = [
    "Broken",
    "Composition",
    "Delegated",
    "Gone",
    "ImplError",
    "KitFailure",
    "ModuleCode",
    "Opened",
    "Opening",
    "Package",
    "Parameter",
    "Source",
    "Sources",
    "Subject",
    "SubjectDied",
    "SubjectError",
    "TimeExpired",
    "definitions",
    "preserved_state",
    "read_source",
    "read_sources",
    "review",
    "same_tensor",
    "tensors_in",
    "time_limit",
    "unavailable",
]
