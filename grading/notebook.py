"""What a student's notebook asks of the kit: `check("batch_norm")`, and where its relative imports lead.

Runs in the student's own kernel. It judges what the cells that have been run define, not what the kernel's memory
happens to hold: the same text gets the same verdict from pytest, and from whoever grades it later.
"""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from grading.course import Course, CourseError, Exercise, Unit, find_root, load
from grading.data import garments
from grading.judge import Judge, fresh_seed
from grading.subject import (
    Broken,
    Composition,
    ImplError,
    Package,
    Source,
    Sources,
    finished,
    read_sources,
    read_unit,
    reviewed,
    source_of_cells,
)
from grading.verdict import BLOCKED, PASSED, Verdict
from grading.verdict.cell import fragment, plain

__all__ = ["Result", "check", "siblings"]

HERE = "this notebook"


def check(*exercises: str, seed: int | None = None, slow: bool = False) -> Result:
    """Judges exercises as this notebook has defined them so far, by the public checks.

    Every call draws fresh numbers; `seed` draws those of an earlier one again. `slow` also runs the checks that train.
    """
    _refuse_what_is_no_name(exercises)
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
        raise CheckError(f"seed takes a whole number, not {seed!r}")
    session = _session()
    try:
        chosen = {exercise.id: exercise for word in exercises for exercise in session.course.resolve(word)}
    except CourseError as error:
        raise CheckError(str(error).partition(";")[0]) from None
    result = session.judge(chosen.values(), fresh_seed() if seed is None else seed, slow=slow)
    if os.environ.get("NBGRADER_EXECUTION") == "validate" and not result.passed:
        # nbgrader shows what a failing cell says on standard error, and nothing else that it says
        print(result.text, file=sys.stderr)
    return result


def siblings(unit: str | None = None) -> str:
    """The package in which `from .u4_learner import Callback` finds the course's other units; this one is `unit`.

    Each exercise is the student's own, from the notebook or script of its unit beside this one or in ../<unit>/, unless
    that has not been started; then it is the reference's.
    """
    return _session().siblings(unit)


class CheckError(Exception):
    """One sentence on why there is nothing to judge; a notebook shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class Result:
    """What `check` has found: a table in a notebook, and the points as a number, which is what nbgrader reads."""

    def __init__(self, course: Course, verdicts: Sequence[Verdict], notes: dict[str, str], *, number: bool) -> None:
        self.course, self.verdicts, self.notes = course, tuple(verdicts), notes
        self._number = number

    @property
    def passed(self) -> bool:
        return all(verdict.verdict == PASSED for verdict in self.verdicts)

    @property
    def points(self) -> float:
        """The share of the points that the checks which were run are worth."""
        points = 0.0
        for name, found in self._by_exercise():
            most = sum(verdict.max_points for verdict in found)
            points += self.course.exercises[name].points * sum(verdict.points for verdict in found) / most
        return round(points, 6)

    @property
    def text(self) -> str:
        return "\n\n".join(plain(found, self.notes[name]) for name, found in self._by_exercise())

    def __repr__(self) -> str:
        return f"{self.points:.10g}" if self._number else self.text

    def _repr_html_(self) -> str:
        return "".join(
            fragment(found, self.course.exercises[name].hints, self.notes[name]) for name, found in self._by_exercise()
        )

    def _by_exercise(self) -> Iterator[tuple[str, list[Verdict]]]:
        for name in dict.fromkeys(verdict.exercise for verdict in self.verdicts):
            yield name, [verdict for verdict in self.verdicts if verdict.exercise == name]


class Session:
    """A session of IPython: the cells that it has run, and the course that they belong to."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        # a terminal shows no tables
        self.tables = hasattr(shell, "kernel")
        self.folder = Path.cwd()
        self.course = load(find_root(self.folder))
        self.reference = read_sources(self.course, self.course.root / "solutions")
        # each cell's text and label, where it was first run and where last: others may have needed it in between
        self.cells: list[tuple[str, str]] = []
        self.unit: str | None = None
        self._package: Package | None = None
        self._settled: dict[str, Verdict] = {}
        self._settled_for = ""
        for number, text in enumerate(shell.history_manager.input_hist_raw[1:-1], start=1):
            self._add(text, number)
        shell.events.register("post_run_cell", self._ran)

    def judge(self, exercises: Iterable[Exercise], seed: int, *, slow: bool) -> Result:
        """The verdicts of all public checks of `exercises`, but of those that train only with `slow`."""
        verdicts: list[Verdict] = []
        notes: dict[str, str] = {}
        for exercise in exercises:
            sources = self._sources(self.course.unit_of(exercise.id))
            with self._judging(sources, exercise, seed) as judge:
                verdicts += judge.judge([exercise], slow=slow)
                many = 0 if slow else sum(check.slow for check in judge.checks(exercise.id))
            sentences = reviewed(self.course, [exercise.id], sources).get(exercise.id, ())
            lines = [f"a person will look at this: {sentence}" for sentence in sentences]
            if many:
                lines.append(f'{many} check that trains left out: check("{exercise.id}", slow=True) runs it')
            if any(one.verdict == BLOCKED for one in verdicts if one.exercise == exercise.id):
                lines.append("your other units are looked for beside this notebook and in ../UNIT/")
            notes[exercise.id] = " · ".join(lines)
        return Result(self.course, verdicts, notes, number=self.tables)

    def siblings(self, unit: str | None) -> str:
        self.unit = unit if unit in self.course.by_unit else None
        if self._package is not None:
            self._package.close()
        sources = self._sources(None)
        lent = tuple(name for name, exercise in self.course.exercises.items() if not sources.started(exercise))
        some = next(iter(self.course.exercises.values()))
        self._package = Package(Composition(self.course, sources, self.reference, lent, some))
        return self._package.name

    @contextmanager
    def _judging(self, sources: Sources, exercise: Exercise, seed: int) -> Iterator[Judge]:
        """A judge that knows what it found of the other units before, as long as they are the same."""
        unit = exercise.unit
        digest = _digest(source for source in sources.all() if source.name != unit)
        if digest != self._settled_for:
            self._settled, self._settled_for = {}, digest
        # hints have buttons of their own
        every = {name: len(entry.hints) for name, entry in self.course.exercises.items()}
        judge = Judge(self.course, sources, self.reference, seed, garments=lambda: garments(None), hints=every)
        judge.verdicts.update(self._settled)
        try:
            with _quiet():
                yield judge
            self._settled = {name: found for name, found in judge.verdicts.items() if found.unit != unit}
        finally:
            judge.close()

    def _sources(self, asked: Unit | None) -> Sources:
        """The student's work: this notebook's unit as its cells define it, the others from files.

        A notebook that has not said which unit it is may define exercises of any that it is asked for.
        """
        units: dict[str, Any] = {}
        for unit in self.course.units:
            found = self._from_cells(unit) if unit.id == self.unit or (not self.unit and unit == asked) else None
            if found is None or (not self.unit and not _defines_any(found, unit)):
                found = self._from_files(unit) or found
            if found is not None:
                units[unit.id] = found
        return Sources(self.folder, units)

    def _from_cells(self, unit: Unit) -> Source | Broken | None:
        path = self.folder / f"({HERE})" / unit.file
        texts, labels = [text for text, _ in self.cells], [label for _, label in self.cells]
        return source_of_cells(self.course, unit.id, path, texts, shown=HERE, labels=labels)

    def _from_files(self, unit: Unit) -> Source | Broken | None:
        for folder in (self.folder, self.folder.parent / unit.id):
            source = read_unit(self.course, folder, unit)
            if source is not None:
                return source
        return None

    def _ran(self, result: Any) -> None:
        """Notes a cell that has been run; of one that failed, the statements before the one that did."""
        text, error = result.info.raw_cell, result.error_in_exec
        if result.error_before_exec is not None:
            return
        if error is not None:
            line = _line(error, self.shell.user_ns)
            text = finished(text, line) if line else ""
        self._add(text, result.execution_count)

    def _add(self, text: str, number: int) -> None:
        if text.strip():
            for again in [place for place, (other, _) in enumerate(self.cells) if other == text][1:]:
                del self.cells[again]
            self.cells.append((text, f"In [{number}]"))


def _refuse_what_is_no_name(exercises: tuple[object, ...]) -> None:
    """What students write first: no name at all, or that of their own function without its quotes."""
    if not exercises:
        raise CheckError('check takes the name of an exercise or a unit, in quotes, such as check("mean")')
    for thing in exercises:
        if not isinstance(thing, str):
            name = getattr(thing, "__name__", "mean")
            raise CheckError(f'check takes a name, which goes in quotes: check("{name}")')


@cache
def _session() -> Session:
    from IPython import get_ipython

    shell = get_ipython()
    if shell is None:
        raise CheckError("check judges the cells of a notebook; for a script: goodinit check --impl FILE")
    try:
        return Session(shell)
    except (CourseError, ImplError) as error:
        raise CheckError(str(error)) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the code under test displays and draws out of the notebook."""
    from IPython.utils.capture import capture_output

    before = _figures()
    try:
        with capture_output():
            yield
    finally:
        for number in set(_figures()) - set(before):
            sys.modules["matplotlib.pyplot"].close(number)


def _figures() -> list[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return list(pyplot.get_fignums()) if pyplot else []


def _line(error: BaseException, namespace: dict[str, Any]) -> int | None:
    """The line of a cell that an exception came from."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals is namespace and trace.tb_frame.f_code.co_name == "<module>":
            return trace.tb_lineno
        trace = trace.tb_next
    return None


def _defines_any(source: Source | Broken, unit: Unit) -> bool:
    return isinstance(source, Source) and any(
        source.defines(exercise) or exercise.symbol in source.broken for exercise in unit.exercises
    )


def _digest(sources: Iterator[Source]) -> str:
    digest = hashlib.sha256()
    for source in sources:
        digest.update(f"{source.name}\0{ast.dump(source.tree)}\0".encode(errors="replace"))
    return digest.hexdigest()
