"""An implementation in this process: quick to reach and open to a debugger, but no security boundary."""

from __future__ import annotations

import ast
import importlib
import importlib.abc
import importlib.machinery
import inspect
import itertools
import sys
import traceback
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from grading.course import Course, Exercise

from ._compose import borrowed, module_tree, substitute
from ._guard import TimeExpired, preserved_state, time_limit
from ._sources import Broken, Source, Sources

_numbers = itertools.count(1)


class SubjectError(Exception):
    """The implementation under test cannot be reached: it is not there, or its file does not load.

    `started` is False where there is nothing to judge yet.
    """

    def __init__(self, message: str, *, started: bool = True) -> None:
        super().__init__(message)
        self.started = started


class Subject:
    """Answers for every exercise of a course with one implementation.

    `reference` lends the pieces that an exercise builds on and that the student has not got right yet.
    """

    def __init__(self, course: Course, sources: Sources, reference: Sources | None = None) -> None:
        self.course = course
        self.sources = sources
        self.reference = reference if reference is None or reference.path != sources.path else None
        self.files = {str(source.path): source for source in sources.all()}
        self._packages: dict[tuple[str, ...], _Package] = {}
        self._failures: dict[tuple[str, ...], SubjectError] = {}

    def borrowed(self, exercise: Exercise, passed: Sequence[str]) -> tuple[str, ...]:
        """The exercises whose reference stands in while `exercise` is judged."""
        return () if self.reference is None or exercise.own_pieces else borrowed(self.course, exercise, passed)

    def exercise(self, exercise: Exercise, passed: Sequence[str] = ()) -> Any:
        """The function or class that the student wrote, ready to be called.

        Raises SubjectError when it is not there, cannot be imported, or cannot take the arguments of its signature.
        """
        source = self.defined(exercise)
        module = self._module(exercise, source, passed)
        try:
            value = getattr(module, exercise.symbol)
        except AttributeError:
            raise SubjectError(f"`{exercise.symbol}` is gone after {source.shown_path} has run") from None
        self._check_signature(exercise, value, source)
        return value

    def pieces(self, exercise: Exercise, passed: Sequence[str] = ()) -> Pieces:
        """Everything that `exercise` lives among, by name: given classes, earlier exercises, and itself."""
        source = self.defined(exercise)
        module = self._module(exercise, source, passed)
        return Pieces(module, self._package(exercise, passed), self.course)

    def defined(self, exercise: Exercise) -> Source:
        """The file that defines `exercise`; raises SubjectError where none does."""
        source = self.sources.of(exercise)
        if isinstance(source, Broken):
            raise SubjectError(f"{source.where}: {source.problem}")
        if source is None or not source.defines(exercise):
            raise SubjectError(f"`{exercise.symbol}` is not defined", started=False)
        return source

    def is_stub(self, exercise: Exercise) -> bool:
        """Whether a function still ends as it was given: by raising NotImplementedError."""
        node = self.defined(exercise).definitions.get(exercise.names[0])
        last = node.body[-1] if isinstance(node, ast.FunctionDef) and len(exercise.names) == 1 else None
        return isinstance(last, ast.Raise) and last.exc is not None and "NotImplementedError" in ast.unparse(last.exc)

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
        return [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in self.files]

    def raised_by_student(self, error: BaseException) -> bool:
        """Whether the statement that raised stands in the student's file, not in a library that it called."""
        frames = traceback.extract_tb(error.__traceback__)
        return bool(frames) and frames[-1].filename in self.files

    def explain(self, error: BaseException) -> str:
        """A student's exception as the student needs it: the own lines that led to it, then what was raised."""
        lines = []
        for frame in self.student_frames(error)[-6:]:
            place = self.files[frame.filename].where(frame.lineno or 1)
            lines.append(f"{place}, in {frame.name}: {(frame.line or '').strip()}")
        return "\n".join([*lines, describe(error)])

    def close(self) -> None:
        for package in self._packages.values():
            package.close()
        self._packages.clear()

    def _package(self, exercise: Exercise, passed: Sequence[str]) -> _Package:
        lent = self.borrowed(exercise, passed)
        loose = self.sources.loose
        # a loose file is seeded with what it does not define, except with the exercise itself
        key = (*lent, f"for {exercise.id}") if isinstance(loose, Source) else lent
        if key not in self._packages:
            self._packages[key] = _Package(self.course, self.sources, self.reference, lent, exercise)
        return self._packages[key]

    def _module(self, exercise: Exercise, source: Source, passed: Sequence[str]) -> ModuleType:
        package = self._package(exercise, passed)
        key = (package.name, source.name)
        if key in self._failures:
            raise self._failures[key]
        try:
            with preserved_state(), time_limit(self.course.limits.import_seconds):
                return package.load(source.name)
        except (Exception, SystemExit, TimeExpired) as error:
            package.forget(source.name)
            stub = isinstance(error, NotImplementedError) and self.raised_by_student(error)
            self._failures[key] = SubjectError(self._import_problem(error, source), started=not stub)
            raise self._failures[key] from None

    def _import_problem(self, error: BaseException, source: Source) -> str:
        frames = self.student_frames(error)
        place = self.files[frames[-1].filename].where(frames[-1].lineno or 1) if frames else source.shown_path
        if isinstance(error, TimeExpired):
            seconds = self.course.limits.import_seconds
            return (
                f"{place}: the file was still running after {seconds:g} s of being imported; is there an endless loop?"
            )
        if isinstance(error, SystemExit):
            return f"{place}: the file stops Python when it is imported (SystemExit); take the exit out"
        line = f" in `{frames[-1].line}`" if frames and frames[-1].line else ""
        return f"{place}: importing the file raised {describe(error)}{line}"

    def _check_signature(self, exercise: Exercise, value: Any, source: Source) -> None:
        """Says which parameter of the catalogue's signature is missing, rather than letting a call fail later."""
        if not callable(value):
            place = self.locate(exercise)
            raise SubjectError(
                f"{place}: `{exercise.symbol}` is a {type(value).__name__}, expected a function or a class"
            )
        whole = self.reference or self.sources
        source_of_truth = whole.units.get(exercise.unit)
        if not isinstance(source_of_truth, Source) or exercise.methods or self.reference is None:
            return
        wanted = _parameters(source_of_truth.definitions[exercise.symbol])
        if wanted is None:
            return
        try:
            signature = inspect.signature(value)
        except (TypeError, ValueError):
            return
        required = [name for name, optional in wanted if not optional]
        named = [name for name, optional in wanted if optional]
        try:
            signature.bind(*required, **dict.fromkeys(named))
            signature.bind(*required)
        except TypeError as error:
            missing = _missing(signature, required, named)
            problem = f"the parameter `{missing}` is missing" if missing else str(error)
            raise SubjectError(
                f"{self.locate(exercise)}: {exercise.symbol}{signature}: {problem}; "
                f"its signature is {exercise.symbol}({_written(wanted, source_of_truth, exercise)})"
            ) from None


class Pieces:
    """The names that an exercise lives among, as attributes: `pieces.Learner`, `pieces.batch_norm`'s `BatchNorm`."""

    def __init__(self, module: ModuleType, package: _Package, course: Course) -> None:
        self._module, self._loader, self._units = module, package, tuple(course.by_unit)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if hasattr(self._module, name):
            return getattr(self._module, name)
        for unit in self._units:
            if self._loader.has(unit, name):
                return getattr(self._loader.load(unit), name)
        raise AttributeError(f"no unit of the course defines {name!r}")


class _Package(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """One composition of a submission and the reference, importable under a package name of its own."""

    def __init__(
        self, course: Course, sources: Sources, reference: Sources | None, lent: tuple[str, ...], exercise: Exercise
    ) -> None:
        self.course, self.sources, self.reference = course, sources, reference
        self.lent, self.exercise = lent, exercise
        self.name = f"submission_{next(_numbers)}"
        package = ModuleType(self.name)
        package.__path__ = []
        sys.modules[self.name] = package
        sys.meta_path.insert(0, self)

    def load(self, module: str) -> ModuleType:
        return importlib.import_module(f"{self.name}.{module}")

    def forget(self, module: str) -> None:
        sys.modules.pop(f"{self.name}.{module}", None)

    def close(self) -> None:
        sys.meta_path.remove(self)
        for name in [name for name in sys.modules if name == self.name or name.startswith(self.name + ".")]:
            del sys.modules[name]

    def has(self, unit: str, name: str) -> bool:
        source = self.sources.units.get(unit) or (self.reference and self.reference.units.get(unit))
        return isinstance(source, Source) and name in source.definitions

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        if package != self.name:
            return None
        loose = self.sources.loose
        if module not in self.course.by_unit and not (isinstance(loose, Source) and loose.name == module):
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        tree, source = self._tree(module.__name__.rpartition(".")[2], module)
        module.__file__ = str(source.path)
        exec(compile(tree, str(source.path), "exec", dont_inherit=True), module.__dict__)

    def _tree(self, name: str, module: ModuleType) -> tuple[ast.Module, Source]:
        loose = self.sources.loose
        if not isinstance(loose, Source) or loose.name != name:
            return module_tree(self.course, name, self.sources, self.reference, self.lent)
        exercises = [self.course.exercises[lent] for lent in self.lent]
        tree = loose.tree
        if self.reference is not None:
            self._seed(module, loose)
            for unit, whole in self.reference.units.items():
                here = [piece for piece in exercises if piece.unit == unit and loose.defines(piece)]
                assert isinstance(whole, Source)
                tree = substitute(Source(name, loose.path, loose.shown_path, tree), whole, here)
        return tree, loose

    def _seed(self, module: ModuleType, loose: Source) -> None:
        """Gives a loose file the names of the course that it does not define: it need not repeat what is given."""
        own = {*loose.definitions, self.exercise.symbol}
        unit = self.course.by_unit[self.exercise.unit]
        public = {name: value for name, value in vars(self.load(unit.id)).items() if not name.startswith("_")}
        module.__dict__.update({name: value for name, value in public.items() if name not in own})


def describe(error: BaseException) -> str:
    """`ValueError: x and y differ in shape`, on one line and of readable length."""
    text = " ".join(str(error).split())
    text = text if len(text) <= 300 else text[:296] + " ..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _parameters(node: ast.stmt) -> list[tuple[str, bool]] | None:
    """Name and whether it may be left out, for each parameter of a function or of a class's own `__init__`."""
    arguments = _arguments(node)
    if arguments is None or arguments.vararg is not None:
        return None
    names = [argument.arg for argument in (*arguments.posonlyargs, *arguments.args)]
    plain = len(names) - len(arguments.defaults)
    pairs = [(name, index >= plain) for index, name in enumerate(names)]
    return pairs[1:] if isinstance(node, ast.ClassDef) else pairs


def _arguments(node: ast.stmt) -> ast.arguments | None:
    if isinstance(node, ast.FunctionDef):
        return node.args
    if isinstance(node, ast.ClassDef):
        for inner in node.body:
            if isinstance(inner, ast.FunctionDef) and inner.name == "__init__":
                return inner.args
    return None


def _missing(signature: inspect.Signature, required: list[str], named: list[str]) -> str:
    """The first parameter of the catalogue's signature that a student's has no place for."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    positional = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
    if inspect.Parameter.VAR_POSITIONAL not in kinds and positional < len(required):
        unnamed = [name for name in required if name not in signature.parameters]
        return unnamed[-1] if unnamed else required[positional]
    absent = [name for name in named if name not in signature.parameters]
    return absent[0] if absent and inspect.Parameter.VAR_KEYWORD not in kinds else ""


def _written(wanted: list[tuple[str, bool]], source: Source, exercise: Exercise) -> str:
    arguments = _arguments(source.definitions[exercise.symbol])
    defaults = [ast.unparse(value) for value in arguments.defaults] if arguments else []
    plain = len(wanted) - len(defaults)
    return ", ".join(name if i < plain else f"{name}={defaults[i - plain]}" for i, (name, _) in enumerate(wanted))
