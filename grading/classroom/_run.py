"""Grades everything in a folder that is not graded yet, and writes what follows from all records."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from grading.course import CellLimits, Course, Exercise
from grading.data import SYNTHETIC
from grading.verdict import number

from . import _record
from ._entries import Entry, find, take
from ._output import INDEX, PAGES, RECORDS, RUN, TABLE, WORK, Output, OutputError, as_csv, as_json
from ._pages import index, page
from ._progress import Progress
from ._queue import MARGIN_SECONDS, GradeError, Job, Queue

if TYPE_CHECKING:
    from ._cluster import Cluster

SEEDS = 2**31


@dataclass(frozen=True)
class Options:
    """What is judged, and how: `data` is where the garments of the checks that train come from.

    Without a `seed`, that of the run that is continued is used, else a fresh one. With a `scheduler`, the address of a
    Dask scheduler or a cluster object, judges work beside its workers. Without `jobs`, there are as many as cores.
    `hidden` is a folder of private suites. With `cells`, the cells of each notebook are run too, within those limits.
    """

    exercises: tuple[Exercise, ...]
    seed: int | None
    jobs: int | None = None
    slow: bool = True
    hints: bool = True
    data: str | None = None
    scheduler: Any = None
    hidden: str | None = None
    cells: CellLimits | None = None

    def public(self) -> dict[str, Any]:
        """What a record depends on, as it stands in the record: no path of this machine."""
        data = (self.data if self.data == SYNTHETIC else Path(self.data).name) if self.data and self.slow else ""
        found = {"exercises": [e.id for e in self.exercises], "slow": self.slow, "hints": self.hints, "data": data}
        if self.hidden:
            found["hidden"] = _digest(Path(self.hidden))
        if self.cells:
            found["cells"] = asdict(self.cells)
        return found


@dataclass(frozen=True)
class Finished:
    """How a run ended; `left` are those that an interruption has kept it from.

    `kit_errors` has a sentence for each check that failed by itself.
    """

    graded: int
    kept: int
    problems: int
    left: int
    seed: int
    index: Path
    table: Path
    kit_errors: tuple[str, ...] = ()


def grade(course: Course, folder: Path, out: Path, options: Options) -> Finished:
    """Grades the submissions in `folder` into `out`, goes on where an earlier run was stopped, and ends cleanly
    when it is interrupted.

    Raises GradeError or OutputError, each with one sentence, where that cannot be done.
    """
    _check_places(folder, out)
    entries = find(folder)
    if not entries:
        raise GradeError(f"{folder} holds no submissions: one folder, .py file or notebook per student is expected")
    with Output(out) as output:
        kit = _record.kit_version(course)
        seed = next(number for number in (options.seed, output.seed, secrets.randbelow(SEEDS)) if number is not None)
        output.put(RUN, as_json({"seed": seed, "kit": kit, "records": [entry.slug for entry in entries]}))
        run = _Run(course, folder, output, options, kit, seed)
        todo = [entry for entry in entries if not run.holds(entry)]
        kept = len(entries) - len(todo)
        try:
            run.grade(todo)
        except KeyboardInterrupt:
            done = len(run.records) - kept
            if done < len(todo):
                return Finished(done, kept, 0, len(todo) - done, seed, out / INDEX, out / TABLE)
        records = [(entry, run.records[entry]) for entry in entries]
        output.put(TABLE, _table(course, [record for _, record in records]))
        output.put(INDEX, index(course, records))
    problems = sum(bool(record["problem"]) for _, record in records)
    failed = tuple(_record.kit_errors(record for _, record in records))
    return Finished(len(todo), kept, problems, 0, seed, out / INDEX, out / TABLE, failed)


class _Run:
    """The records so far, and how another one is made."""

    def __init__(self, course: Course, folder: Path, output: Output, options: Options, kit: str, seed: int) -> None:
        self.course, self.folder, self.output, self.options = course, folder, output, options
        self.kit, self.seed = kit, seed
        self.records: dict[Entry, dict[str, Any]] = {}

    def holds(self, entry: Entry) -> bool:
        """Whether the record of an earlier run is still right; then its page is made again, if it is not there."""
        record = self.output.record(entry)
        if record is None or not _record.still_holds(record, self._head(entry, take(self.course, self.folder, entry))):
            return False
        self._keep(entry, record)
        return True

    def grade(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        jobs = [Job(entry, self.seed, partial(take, self.course, self.folder, entry)) for entry in entries]
        # drawing the inputs of all checks pays where more than one submission is judged on them
        drawn = self.seed if len(jobs) > (self.options.jobs or cores()) else None
        with (
            judges(self.course, self.options, self.output.work, drawn) as queue,
            Progress(len(jobs)) as progress,
        ):
            for result in queue.run(jobs):
                entry = result.job.entry
                head = self._head(entry, result.taken)
                record = _record.make(head, self.options.exercises, result)
                self.output.put_record(entry, record)
                self._keep(entry, record)
                progress.step()

    def _keep(self, entry: Entry, record: dict[str, Any]) -> None:
        self.records[entry] = record
        self.output.put(f"{PAGES}/{entry.slug}.html", page(self.course, record))

    def _head(self, entry: Entry, taken: Any) -> dict[str, Any]:
        return _record.head(entry, taken, self.seed, self.kit, self.options.public())


def judges(course: Course, options: Options, work: Path, drawn: int | None) -> Queue | Cluster:
    """Judges that `work` is a folder for, or that are beside the workers of a cluster.

    They draw the inputs of all checks first for submissions with the seed `drawn`.
    """
    limits = course.limits
    longest = limits.slow_check_seconds if options.slow else limits.check_seconds
    setup = {
        "root": str(course.root.resolve()),
        "exercises": [exercise.id for exercise in options.exercises],
        "slow": options.slow,
        "hints": options.hints,
        "data": _absolute(options.data),
        "hidden": _absolute(options.hidden),
        "cells": asdict(options.cells) if options.cells else None,
        "inputs_seed": drawn,
    }
    seconds = limits.submission_seconds + longest + MARGIN_SECONDS + (options.cells.all_seconds if options.cells else 0)
    if options.scheduler is None:
        return Queue(setup, work.resolve(), options.jobs or cores(), seconds)
    try:
        from ._cluster import Cluster
    except ModuleNotFoundError as error:
        raise GradeError(
            f"grading on a cluster takes Dask ({error.name} is missing): pip install 'goodinit[cluster]'"
        ) from None
    return Cluster(options.scheduler, course, setup, seconds, options.jobs)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_places(folder: Path, out: Path) -> None:
    if not folder.exists():
        raise GradeError(f"there is no folder {folder}")
    if not folder.is_dir():
        raise GradeError(f"{folder} is no folder; one that holds the submissions is expected")
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out} is a file; --out takes a folder")
    inside, outside = folder.resolve(), out.resolve()
    if outside.is_relative_to(inside):
        raise OutputError(f"{out} lies in {folder}, among the submissions; choose an --out elsewhere")
    if any(inside.is_relative_to(outside / name) for name in (RECORDS, PAGES, WORK)):
        raise OutputError(f"{folder} lies where {out} keeps its own files; choose an --out elsewhere")


def _digest(folder: Path) -> str:
    """Equal for equal suites."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _absolute(data: str | None) -> str | None:
    """A judge is started in another folder."""
    return data if data in (None, SYNTHETIC) else str(Path(str(data)).expanduser().resolve())


def _table(course: Course, records: Sequence[dict[str, Any]]) -> str:
    units = [unit.id for unit in course.units if unit.id in records[0]["units"]]
    rows = [["student", "points", "max", *units, "problem"]]
    for record in records:
        points = [number(record["units"][unit]["points"]) for unit in units]
        row = [record["student"], number(record["points"]), number(record["max_points"]), *points, record["problem"]]
        rows.append(row)
    return as_csv(rows)
