"""Finds and loads the implementation under test, so that a suite need not know whose it is or where it runs."""

from ._cells import finished
from ._compose import Composition
from ._guard import TimeExpired, preserved_state, time_limit
from ._local import Answers, KitFailure, Opening, Question, Questions, Subject, SubjectDied, SubjectError, describe
from ._package import Gone, ModuleCode, Opened, Package, Parameter
from ._review import review, reviewed
from ._sources import Broken, ImplError, Source, Sources, definitions, read_source, read_sources, source_of_cells
from ._tensors import copied, same_tensor, tensors_in
from ._unavailable import Delegated, unavailable

__all__ = [
    "Answers",
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
    "Question",
    "Questions",
    "Source",
    "Sources",
    "Subject",
    "SubjectDied",
    "SubjectError",
    "TimeExpired",
    "copied",
    "definitions",
    "describe",
    "finished",
    "preserved_state",
    "read_source",
    "read_sources",
    "review",
    "reviewed",
    "same_tensor",
    "source_of_cells",
    "tensors_in",
    "time_limit",
    "unavailable",
]
