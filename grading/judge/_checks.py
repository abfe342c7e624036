"""Finds the checks in a suite: which exercise each one judges, its sentence and its weight."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from grading.course import Course, Unit

FIXTURES = ("beside", "garments")


class SuiteError(Exception):
    """A suite breaks a rule of suites; the sentence says which."""


@dataclass(frozen=True)
class Check:
    """One test function of a suite."""

    name: str
    exercise: str
    unit: str
    sentence: str
    lesson: str
    weight: float
    slow: bool
    share: float
    function: Callable[..., None]
    fixtures: tuple[str, ...]
    hidden: bool = False

    @property
    def title(self) -> str:
        """The first sentence of the docstring."""
        return re.split(r"(?<=[.!?])\s", self.sentence, maxsplit=1)[0]

    @property
    def drawn(self) -> bool:
        """Whether Hypothesis draws its inputs."""
        return hasattr(self.function, "hypothesis")

    @property
    def strategies(self) -> dict[str, Any]:
        """What Hypothesis draws each input of a drawn check from, by name."""
        function: Any = self.function
        strategies: dict[str, Any] = function.hypothesis._given_kwargs
        return strategies

    @property
    def count(self) -> int:
        """How many inputs a drawn check asks for, beside those that it names."""
        function: Any = self.function
        count: int = function._hypothesis_internal_use_settings.max_examples
        return count

    @property
    def examples(self) -> list[dict[str, Any]]:
        """The inputs that a drawn check is given by `hypothesis.example`, by name."""
        names = [name for name in inspect.signature(self.inner).parameters if name in self.strategies]
        written = reversed(getattr(self.function, "hypothesis_explicit_examples", []))
        return [
            dict(zip(names[-len(one.args) :], one.args, strict=True)) if one.args else dict(one.kwargs)
            for one in written
        ]

    @property
    def inner(self) -> Callable[..., None]:
        """The function that takes the drawn values, without Hypothesis around it."""
        function: Any = self.function
        body: Callable[..., None] = inspect.unwrap(function.hypothesis.inner_test if self.drawn else function)
        return body


def load_suite(course: Course, unit: Unit) -> ModuleType:
    """Imports tests/test_<unit>.py under the name that pytest gives it; raises SuiteError where that cannot be."""
    path = course.suite_file(unit)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    try:
        return importlib.import_module(path.stem)
    except Exception as error:
        raise SuiteError(_not_imported(path, error)) from None


def load_hidden_suite(folder: Path, unit: Unit) -> ModuleType | None:
    """Imports the suite of a unit from an instructor's private folder; None where it has none.

    Raises SuiteError where there is no such folder, or the suite cannot be imported.
    """
    path = folder / unit.suite
    if not folder.is_dir():
        raise SuiteError(f"there is no folder {folder} with hidden checks")
    if not path.is_file():
        return None
    name = f"hidden_{path.stem}"
    if getattr(sys.modules.get(name), "__file__", None) == str(path):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None, "a .py file has a loader"
    suite = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(suite)
    except Exception as error:
        del sys.modules[name]
        raise SuiteError(_not_imported(path, error)) from None
    return suite


def refuse_strangers(folder: Path, course: Course) -> None:
    """Raises SuiteError where a folder of hidden suites has one of no unit, whose checks would be left out."""
    units = {unit.suite: unit for unit in course.units}
    for path in sorted(folder.glob("*.py")):
        if path.name.casefold().startswith("test_") and path.name not in units:
            word = path.stem.casefold().removeprefix("test_")
            short = [unit.suite for unit in course.units if word.partition("_")[0] == unit.short]
            near = (short or difflib.get_close_matches(path.name, units, n=1, cutoff=0.0))[0]
            raise SuiteError(
                f"{path} belongs to no unit, so that none of its checks would run: {near} is the name for hidden "
                f"checks of {units[near].id}; rename it, or take test_ from the name of what holds no checks"
            )


def _not_imported(path: Path, error: Exception) -> str:
    return f"{path} cannot be imported: {type(error).__name__}: {error}"


def checks_of(course: Course, unit: Unit, suite: ModuleType, hidden: ModuleType | None = None) -> list[Check]:
    """The checks of a suite in the order of the course, then of the file, each with its share of the points.

    Those of a `hidden` suite come after the others of their exercise, and share its points with them.
    Raises SuiteError where a test function does not say which exercise it judges, or says it of none here.
    """
    found = _checks_in(unit, suite, f"tests/{unit.suite}")
    if hidden is not None:
        secret = _checks_in(unit, hidden, str(hidden.__file__))
        twice = {entry["name"] for entry in found} & {entry["name"] for entry in secret}
        if twice:
            raise SuiteError(
                f"{hidden.__file__} has checks that tests/{unit.suite} has too: {', '.join(sorted(twice))}"
            )
        found += [{**entry, "hidden": True} for entry in secret]
    by_exercise: dict[str, float] = {}
    for entry in found:
        by_exercise[entry["exercise"]] = by_exercise.get(entry["exercise"], 0.0) + entry["weight"]
    public = {entry["exercise"] for entry in found if "hidden" not in entry}
    missing = [exercise.id for exercise in unit.exercises if exercise.id not in public]
    if missing:
        raise SuiteError(f"tests/{unit.suite} has no check for {', '.join(missing)}")
    order = [exercise.id for exercise in unit.exercises]
    found.sort(key=lambda entry: order.index(entry["exercise"]))
    return [
        Check(
            **entry, share=course.exercises[entry["exercise"]].points * entry["weight"] / by_exercise[entry["exercise"]]
        )
        for entry in found
    ]


def _checks_in(unit: Unit, suite: ModuleType, where: str) -> list[dict[str, Any]]:
    return [
        _check(unit, name, function, f"{where}::{name}")
        for name, function in vars(suite).items()
        if name.startswith("test_") and callable(function) and function.__module__ == suite.__name__
    ]


def _check(unit: Unit, name: str, function: Any, where: str) -> dict[str, Any]:
    parameters = inspect.signature(function).parameters
    here = [exercise.id for exercise in unit.exercises if exercise.id in parameters]
    if len(here) != 1:
        raise SuiteError(f"{where} takes {len(here)} exercises of {unit.id} as arguments, and must take exactly one")
    marks = {mark.name: mark for mark in getattr(function, "pytestmark", [])}
    if "parametrize" in marks:
        raise SuiteError(f"{where} is parametrized; one test function is one check: let Hypothesis draw the parameter")
    sentence, _, lesson = inspect.cleandoc(function.__doc__ or "").partition("\n\n")
    if not sentence:
        raise SuiteError(f"{where} has no docstring: it is the sentence that a student reads")
    return {
        "name": name.removeprefix("test_"),
        "exercise": here[0],
        "unit": unit.id,
        "sentence": " ".join(sentence.split()),
        "lesson": " ".join(lesson.split()),
        "weight": float(marks["weight"].args[0]) if "weight" in marks else 1.0,
        "slow": "slow" in marks or "capstone" in marks,
        "function": function,
        "fixtures": tuple(p for p in parameters if p in (*here, *FIXTURES)),
    }
