"""Takes submissions of one assignment to the judge, and keeps what it has found."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from grading import ipynb
from grading.classroom import (
    ADDRESS,
    FOLDER,
    LOST,
    SEEDS,
    Entry,
    GradeError,
    Job,
    Options,
    Result,
    Taken,
    as_json,
    file_name,
    head,
    judges,
    kit_version,
    make,
    still_holds,
)
from grading.course import Course, Unit

from ._mend import Given, Mended, MendError, cells_of, given_cells, mend

KEPT, SEED = ".goodinit", "seed"


@dataclass(frozen=True)
class Submission:
    """What one student has handed in for one unit, ready to be judged."""

    student: str
    taken: Taken
    head: dict[str, Any]
    entry: Entry


class Desk:
    """Judges the submissions of one unit in an nbgrader course; `coursedir` is nbgrader's own.

    A record is kept in DIR/.goodinit/<unit>/<student>.json, and holds as long as the submission, the kit, the seed and
    the options are the same.
    """

    def __init__(self, course: Course, unit: Unit, coursedir: Any, options: Options) -> None:
        self.course, self.unit, self.coursedir, self.options = course, unit, coursedir, options
        self.folder = Path(coursedir.root).resolve() / KEPT / unit.id
        self.seed = _kept_seed(self.folder) if options.seed is None else options.seed
        self.kit = kit_version(course)
        # what a unit builds on and imports comes before it
        self.others = course.units[: course.units.index(unit)]

    def given(self) -> list[Given]:
        """The cells of the assignment as they were given out."""
        from nbgrader.api import Gradebook

        source = self._path(self.coursedir.source_directory, ".", self.unit)
        with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as book:
            return given_cells(book, self.unit.id, self.unit.id, source)

    def handed_in(self, student: str, given: Sequence[Given]) -> Mended:
        """A student's notebook, mended; raises MendError where it cannot be."""
        path = self._path(self.coursedir.submitted_directory, student, self.unit)
        others = [] if os.path.lexists(path) else sorted(one.name for one in path.parent.glob("*.ipynb"))
        if others:
            raise MendError(f"is not there, but {others[0]} is: a notebook keeps the name that it was given out with")
        return mend(read(path), given)

    def submission(self, student: str, notebook: NotebookNode) -> Submission:
        """What is judged: the mended notebook's code, and that of the student's units before it."""
        slug = file_name(student)
        files = {f"{slug}/{self.unit.id}.ipynb": code_only(notebook.cells)}
        for other in self.others:
            path = self._path(self.coursedir.submitted_directory, student, other)
            if path.is_file():
                try:
                    files[f"{slug}/{other.id}.ipynb"] = code_only(cells_of(read(path), []))
                except MendError:
                    # judged as if it had not been handed in; its own assignment says what is wrong with it
                    continue
        entry = Entry(student, True, slug)
        taken = Taken(files)
        return Submission(student, taken, head(entry, taken, self.seed, self.kit, self.options.public()), entry)

    def kept(self, submission: Submission) -> dict[str, Any] | None:
        """What was found on the very same submission before."""
        try:
            record = json.loads(self._record(submission).read_text(encoding="utf-8"))
            return record if still_holds(record, submission.head) and "cells" in record else None
        except (OSError, ValueError, AttributeError):
            return None

    def job(self, submission: Submission) -> Job:
        return Job(submission.entry, self.seed, lambda: submission.taken)

    def judges(self, work: Path) -> Any:
        """Judges for jobs of this desk; `work` is a folder for what they need meanwhile."""
        return judges(self.course, self.options, work, self.seed)

    def keep(self, submission: Submission, result: Result) -> dict[str, Any]:
        """The record of a submission, written where the next run finds it."""
        record = make(submission.head, self.options.exercises, result)
        place = f"{FOLDER}/{submission.entry.slug}"
        record["cells"] = [[_told(output, place) for output in outputs] for outputs in result.cells]
        if not record["problem"].startswith(LOST):
            path = self._record(submission)
            path.parent.mkdir(parents=True, exist_ok=True)
            new = path.with_name(f"{path.name}.{os.getpid()}")
            new.write_text(as_json(record), encoding="utf-8")
            os.replace(new, path)
        return record

    def _record(self, submission: Submission) -> Path:
        return self.folder / f"{submission.entry.slug}.json"

    def _path(self, step: str, student: str, unit: Unit) -> Path:
        return Path(self.coursedir.format_path(step, student, unit.id)) / f"{unit.id}.ipynb"


def read(path: Path) -> bytes:
    """The bytes of a notebook that was handed in; raises MendError where it cannot be read."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(file, "rb") as opened:
            return opened.read(ipynb.MAX_BYTES + 1)
    except FileNotFoundError:
        raise MendError("is not there") from None
    except OSError as error:
        reason = "it is a link, and what it leads to is not looked at" if path.is_symlink() else error.strerror
        raise MendError(f"cannot be read: {reason}") from None


def code_only(cells: Sequence[Any]) -> bytes:
    """A notebook of the code cells alone, the same for the same code."""
    kept = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
            "source": cell["source"],
        }
        for number, cell in enumerate(cell for cell in cells if cell["cell_type"] == "code")
    ]
    return json.dumps({"cells": kept, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def seed_file(coursedir: Any, unit: str) -> Path:
    """Where the seed of an assignment is kept."""
    return Path(coursedir.root).resolve() / KEPT / unit / SEED


def _kept_seed(folder: Path) -> int:
    """The seed of an assignment: drawn once, the same for everybody and in every run."""
    path = folder / SEED
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # a name of its own, also among threads
        new = folder / f"seed.{secrets.token_hex(8)}"
        new.write_text(f"{secrets.randbelow(SEEDS)}\n", encoding="ascii")
        # of several commands that run for the first time, one is first
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
        new.unlink()
    return read_seed(path)


def read_seed(path: Path) -> int:
    """The seed in a file; raises GradeError where it holds none."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        raise GradeError(
            f"{path} holds no seed, which is a whole number: put it back (the records beside it name it), or delete "
            "the file to draw a new one, by which everybody is judged again"
        ) from None


def _told(output: dict[str, Any], place: str) -> dict[str, Any]:
    """An output without where the judge had the files, and where objects lay in memory."""

    def told(text: str) -> str:
        return ADDRESS.sub("0x…", text.replace(f"{place}/", ""))

    if "data" in output:
        data = {kind: text if kind.startswith("image/") else told(text) for kind, text in output["data"].items()}
        return {**output, "data": data}
    if "traceback" in output:
        return {**output, "evalue": told(output["evalue"]), "traceback": list(map(told, output["traceback"]))}
    return {**output, "text": told(output["text"])}
