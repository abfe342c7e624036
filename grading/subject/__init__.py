"""Finds and loads the implementation under test, so that a suite need not know whose it is or where it runs."""

from ._cells import finished, lines_of
from ._compose import Composition
from ._earlier import MOST as MOST_EARLIER
from ._earlier import earlier
from ._guard import TimeExpired, preserved_state, time_limit
from ._local import Answers, KitFailure, Opening, Question, Questions, Subject, SubjectDied, SubjectError, describe
from ._package import Gone, ModuleCode, Opened, Package, Parameter
from ._review import review, reviewed
from ._sources import (
    Broken,
    ImplError,
    Source,
    Sources,
    definitions,
    impl_path,
    read_source,
    read_sources,
    read_unit,
    source_of_cells,
    text_of,
)
from ._tensors import copied, same_tensor, tensors_in
from ._unavailable import Delegated, unavailable

__all__ = [
    "MOST_EARLIER",
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
    "earlier",
    "finished",
    "impl_path",
    "lines_of",
    "preserved_state",
    "read_source",
    "read_sources",
    "read_unit",
    "review",
    "reviewed",
    "same_tensor",
    "source_of_cells",
    "tensors_in",
    "text_of",
    "time_limit",
    "unavailable",
]
