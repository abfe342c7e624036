"""An implementation in this process: quick to reach and open to a debugger, but no security boundary."""

from __future__ import annotations

import ast
import itertools
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from grading.course import Course, Exercise

from ._compose import Composition, borrowed
from ._guard import TimeExpired, preserved_state, time_limit
from ._needs import builds_on, irreplaceable
from ._package import Gone, Opened, Package, Parameter, Pieces
from ._sources import Broken, Source, Sources
from ._tensors import copied

# a scenario, and the values that it is run with
Question = tuple[Callable[..., Any], dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Questions:
    """Many questions that are asked at once, again and again; equal only to itself, so that all that is made of them
    can be kept."""

    asked: tuple[Question, ...]


@dataclass(frozen=True)
class Answers:
    """What came of many questions: for `each` a function that returns or raises it.

    `identity` gives the same bytes for answers that are the same bit for bit, wherever an exception came by.
    """

    each: list[Callable[[], Any]]
    identity: Callable[[], bytes]


class SubjectError(Exception):
    """The implementation under test cannot be reached: it is not there, or its file does not load.

    `started` is False where there is nothing to judge yet.
    """

    def __init__(self, message: str, *, started: bool = True) -> None:
        super().__init__(message)
        self.started = started


class KitFailure(Exception):
    """Something of ours, or of this machine, stands in the way: never the fault of the code under test."""


class SubjectDied(BaseException):
    """The process of the code under test has ended or broken the rules; `str(error)` goes on from "the code".

    Not an Exception: no check may take it for the exception that it waits for.
    """


# how code can end that is being imported
FAILURES = (Exception, SystemExit, TimeExpired, SubjectDied)


class Opening(Protocol):
    """One imported module of a composition, wherever it runs."""

    def reach(self, symbol: str, wanted: Sequence[Parameter] | None) -> tuple[Any, str]: ...

    def beside(self, scenario: Callable[..., Any], values: dict[str, Any]) -> Any: ...


class Subject:
    """Answers for every exercise of a course with one implementation.

    `reference` lends the pieces that an exercise builds on and that the student has not got right yet.
    """

    # code of another process gets no more of the reference than what it builds on
    sparing = False
    # whether it saves time to ask the questions of many runs at once
    answers_ahead = False

    def __init__(self, course: Course, sources: Sources, reference: Sources | None = None) -> None:
        self.course = course
        self.sources = sources
        self.reference = reference if reference is None or reference.path != sources.path else None
        self.files = {str(source.path): source for source in sources.all()}
        self._openings: dict[tuple[str, ...], Opening] = {}
        # what exercises were found to be: all checks of one judge the same object
        self._reached: dict[tuple[Opening, str], Any] = {}
        self._failures: dict[tuple[str, ...], SubjectError] = {}
        self._packages: dict[tuple[str, ...], Package] = {}
        self._needed: dict[str, list[str]] = {}
        self._kept: dict[tuple[str, tuple[str, ...]], set[str]] = {}
        # units that cannot be imported: the others are judged with the reference's
        self._given_up: set[str] = set()

    def borrowed(self, exercise: Exercise, passed: Sequence[str]) -> tuple[str, ...]:
        """The exercises whose reference stands in while `exercise` is judged."""
        if self.reference is None or exercise.own_pieces:
            return ()
        # what has passed in a unit that is of no use to others is not there
        away = self._away(exercise)
        lent = borrowed(
            self.course,
            exercise,
            self.builds_on(exercise),
            [name for name in passed if self.course.exercises[name].unit not in away],
        )
        if (exercise.id, lent) not in self._kept:
            self._kept[exercise.id, lent] = irreplaceable(self.course, exercise, lent, self.sources, self.reference)
        return tuple(name for name in lent if name not in self._kept[exercise.id, lent])

    def builds_on(self, exercise: Exercise) -> list[str]:
        """All exercises that `exercise` builds on, as the course says and the submission has it, in course order."""
        if exercise.id not in self._needed:
            self._needed[exercise.id] = builds_on(self.course, exercise, self.sources)
        return self._needed[exercise.id]

    def exercise(self, exercise: Exercise, passed: Sequence[str] = ()) -> Any:
        """The function or class that the student wrote, ready to be called.

        Raises SubjectError when it is not there, cannot be imported, or cannot take the arguments of its signature.
        """
        source = self.defined(exercise)
        opening = self._opening(exercise, source, passed)
        if (opening, exercise.id) not in self._reached:
            try:
                value, problem = opening.reach(exercise.symbol, self._wanted(exercise))
            except Gone:
                raise SubjectError(f"`{exercise.symbol}` is gone after {source.shown_path} has run") from None
            if problem:
                raise SubjectError(f"{self.locate(exercise)}: {problem}")
            self._reached[opening, exercise.id] = value
        return self._reached[opening, exercise.id]

    def beside(self, exercise: Exercise, passed: Sequence[str] = ()) -> Callable[..., Any]:
        """Runs scenarios among everything that `exercise` lives among: given classes, earlier exercises, and itself."""
        opening = self._opening(exercise, self.defined(exercise), passed)

        def beside(scenario: Callable[..., Any], /, **values: Any) -> Any:
            """Runs `scenario(pieces, **values)` next to the code under test and returns the plain values it returns."""
            # copies, also in this process: what the code does to them must not reach what a check expects
            return opening.beside(scenario, copied(values))

        return beside

    def ahead(self, exercise: Exercise, passed: Sequence[str], questions: Questions, seed: int) -> Answers:
        """Runs the scenarios of `questions`, each after seeding."""
        raise NotImplementedError("asked only of subjects with answers_ahead")

    def pieces(self, exercise: Exercise, passed: Sequence[str] = ()) -> Pieces:
        """The names of the course as attributes; only for code that is trusted to run in this process."""
        opening = self._opening(exercise, self.defined(exercise), passed)
        assert isinstance(opening, Opened), "pieces do not leave the process that they live in"
        return opening.pieces()

    @contextmanager
    def judging(self, exercise: Exercise, *, slow: bool) -> Iterator[None]:
        """The block runs a check of `exercise`, which may train if it is `slow`; what it changes here is undone."""
        with preserved_state():
            yield

    @property
    def requests(self) -> int:
        """How often code of another process has been asked for something."""
        return 0

    def seed(self, seed: int) -> None:
        """Called before each run of a check's body, after this process's own generators were seeded."""

    def defined(self, exercise: Exercise) -> Source:
        """The file that defines `exercise`; raises SubjectError where none does."""
        source = self.sources.of(exercise)
        if isinstance(source, Broken):
            raise SubjectError(f"{source.where}: {source.problem}")
        if source is None or not source.defines(exercise):
            if source is not None and exercise.symbol in source.broken:
                raise SubjectError(source.broken[exercise.symbol])
            raise SubjectError(f"`{exercise.symbol}` is not defined", started=False)
        return source

    def untouched(self, exercise: Exercise) -> str:
        """Where the stub stands, and what it says, of an exercise that is as it was given; empty for all others."""
        source, stub = self.sources.of(exercise), self.sources.untouched(exercise)
        return f"{source.where(stub.lineno)}: {ast.unparse(stub)}" if stub and isinstance(source, Source) else ""

    def locate(self, exercise: Exercise) -> str:
        """Where the student's definition stands: `exercises/u7_normalization.py:40`."""
        source = self.sources.of(exercise)
        if isinstance(source, Broken):
            return source.where
        if source is None:
            return f"{self.sources.path}"
        nodes = [source.definitions[name] for name in exercise.names if name in source.definitions]
        return source.where(nodes[0].lineno) if nodes else source.shown_path

    def student_frames(self, error: BaseException) -> list[traceback.FrameSummary]:
        """The part of a traceback that lies in the student's own files, outermost first."""
        return [frame for frame in self.frames(error) if frame.filename in self.files]

    def frames(self, error: BaseException) -> list[traceback.FrameSummary]:
        """Where an exception came by, outermost first."""
        return list(traceback.extract_tb(error.__traceback__))

    def raised_by_student(self, error: BaseException) -> bool:
        """Whether a `raise` in the student's file raised it, not a library or what is built into one."""
        frames = self.frames(error)
        source = self.files.get(frames[-1].filename) if frames else None
        if source is None:
            return False
        line = frames[-1].lineno or 0
        raises = (node for node in ast.walk(source.tree) if isinstance(node, ast.Raise))
        return any(node.lineno <= line <= (node.end_lineno or line) for node in raises)

    def explain(self, error: BaseException) -> str:
        """A student's exception as the student needs it: the own lines that led to it, then what was raised."""
        lines = []
        for frame in [frame for frame in self.student_frames(error) if not _is_lent(frame)][-6:]:
            place = self.files[frame.filename].where(frame.lineno or 1)
            lines.append(f"{place}, in {frame.name}: {(frame.line or '').strip()}")
        return "\n".join([*lines, describe(error)])

    def close(self) -> None:
        for package in self._packages.values():
            package.close()
        self._packages.clear()
        self._openings.clear()

    def _away(self, exercise: Exercise) -> tuple[str, ...]:
        """The units that are the reference's for others, and so for `exercise`."""
        return tuple(sorted(self._given_up - {exercise.unit}))

    def _composition(self, exercise: Exercise, passed: Sequence[str]) -> tuple[tuple[str, ...], Composition]:
        """What `exercise` is judged among, under a key that equal compositions share."""
        lent = self.borrowed(exercise, passed)
        given_up = self._away(exercise)
        # a loose file is seeded with what it does not define, except with the exercise itself
        seeded = (f"for {exercise.id}",) if isinstance(self.sources.loose, Source) else ()
        return (*lent, *seeded, *(f"without {unit}" for unit in given_up)), Composition(
            self.course, self.sources, self.reference, lent, exercise, sparing=self.sparing, given_up=given_up
        )

    def _opening(self, exercise: Exercise, source: Source, passed: Sequence[str]) -> Opening:
        composed, composition = self._composition(exercise, passed)
        key = (*composed, source.name)
        if key in self._failures:
            raise self._failures[key]
        if key not in self._openings:
            try:
                self._openings[key] = self._imported(composed, composition, source.name)
            except KitFailure:
                raise
            except FAILURES as error:
                if self.reference is not None:
                    if self._gives_up_another(composed, composition, exercise.unit):
                        return self._opening(exercise, source, passed)
                    if composition.own(exercise.unit) is not None:
                        # it need not fail once more, which may take its time, for each unit that builds on it
                        self._given_up.add(exercise.unit)
                stub = isinstance(error, NotImplementedError) and self.raised_by_student(error)
                self._failures[key] = SubjectError(self._import_problem(error, source), started=not stub)
                raise self._failures[key] from None
        return self._openings[key]

    def _imported(self, key: tuple[str, ...], composition: Composition, module: str) -> Opening:
        with preserved_state(), time_limit(self.course.limits.import_seconds):
            return self._open(key, composition, module)

    def _gives_up_another(self, key: tuple[str, ...], composition: Composition, unit: str) -> bool:
        """Whether a unit before `unit`, which may build on it, is found to be one that cannot be used."""
        for name in itertools.takewhile(lambda name: name != unit, self.course.by_unit):
            if composition.own(name) is not None and not self._usable(key, composition, name):
                self._given_up.add(name)
                return True
        return False

    def _usable(self, key: tuple[str, ...], composition: Composition, unit: str) -> bool:
        """Whether a unit can be imported, and then has all that others may build on."""
        try:
            opening = self._imported(key, composition, unit)
            for symbol in composition.whole(unit).definitions:
                if "." not in symbol:
                    opening.reach(symbol, None)
        except KitFailure:
            raise
        except FAILURES:
            return False
        return True

    def _open(self, key: tuple[str, ...], composition: Composition, module: str) -> Opening:
        if key not in self._packages:
            self._packages[key] = Package(composition)
        try:
            return Opened(self._packages[key], module)
        except BaseException:
            self._packages[key].forget(module)
            raise

    def _wanted(self, exercise: Exercise) -> list[Parameter] | None:
        """The catalogue's signature; None for methods of a given class, and for the reference itself."""
        if exercise.methods or self.reference is None:
            return None
        whole = self.reference.units.get(exercise.unit)
        return wanted_parameters(whole.definitions[exercise.symbol]) if isinstance(whole, Source) else None

    def _import_problem(self, error: BaseException, source: Source) -> str:
        frames = self.student_frames(error)
        place = self.files[frames[-1].filename].where(frames[-1].lineno or 1) if frames else source.shown_path
        if isinstance(error, TimeExpired):
            seconds = self.course.limits.import_seconds
            return (
                f"{place}: the file was still running after {seconds:g} s of being imported; is there an endless loop?"
            )
        if isinstance(error, SubjectDied):
            return f"{place}: while it was imported, the code {error}"
        if isinstance(error, SystemExit):
            return f"{place}: the file stops Python when it is imported (SystemExit); take the exit out"
        line = f" in `{frames[-1].line}`" if frames and frames[-1].line else ""
        return f"{place}: importing the file raised {describe(error)}{line}"


def _is_lent(frame: traceback.FrameSummary) -> bool:
    """Whether the reference's code ran there in place of a definition: all of it is numbered like the first line."""
    line = (frame.line or "").partition("#")[0].rstrip()
    return f"def {frame.name}(" in line and line.endswith((":", "(", ","))


def describe(error: BaseException) -> str:
    """`ValueError: x and y differ in shape`, on one line and of readable length."""
    try:
        said = str(error)
    except Exception:
        said = "(its message cannot be read)"
    text = " ".join(said.split())
    text = text if len(text) <= 300 else text[:296] + " ..."
    kind = getattr(error, "kind", type(error).__name__)
    return f"{kind}: {text}" if text else str(kind)


def wanted_parameters(node: ast.stmt) -> list[Parameter] | None:
    """Name and default, as written, of each parameter of a function or of a class's own `__init__`."""
    arguments = _arguments(node)
    if arguments is None or arguments.vararg is not None:
        return None
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    plain = len(names) - len(arguments.defaults)
    defaults = [None] * plain + [ast.unparse(value) for value in arguments.defaults]
    pairs = list(zip(names, defaults, strict=True))
    return pairs[1:] if isinstance(node, ast.ClassDef) else pairs


def _arguments(node: ast.stmt) -> ast.arguments | None:
    if isinstance(node, ast.FunctionDef):
        return node.args
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                return inner.args
    return None
