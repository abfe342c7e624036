"""Grades a folder of submissions behind the wall: a queue of judges, and a record, a page and a row for everybody."""

from ._entries import Entry, Taken, file_name, find, take
from ._output import OutputError, as_json, locked, no_formula, recorded
from ._pages import FOLDER as TEMPLATES
from ._progress import Progress
from ._queue import FOLDER, LOST, GradeError, Job, Result
from ._record import ADDRESS, head, kit_errors, kit_version, make, still_holds
from ._run import SEEDS, Finished, Options, grade, judges
from ._shown import readable

__all__ = [
    "ADDRESS",
    "FOLDER",
    "LOST",
    "SEEDS",
    "TEMPLATES",
    "Entry",
    "Finished",
    "GradeError",
    "Job",
    "Options",
    "OutputError",
    "Progress",
    "Result",
    "Taken",
    "as_json",
    "file_name",
    "find",
    "grade",
    "head",
    "judges",
    "kit_errors",
    "kit_version",
    "locked",
    "make",
    "no_formula",
    "readable",
    "recorded",
    "still_holds",
    "take",
]
