"""Grades a folder of submissions behind the wall: a queue of judges, and a record, a page and a row for everybody."""

from ._output import OutputError
from ._queue import GradeError
from ._run import Finished, Options, grade

__all__ = ["Finished", "GradeError", "Options", "OutputError", "grade"]
