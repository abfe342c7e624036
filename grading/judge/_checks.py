"""Finds the checks in a suite: which exercise each one judges, its sentence and its weight."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
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

    @property
    def drawn(self) -> bool:
        """Whether Hypothesis draws its inputs."""
        return hasattr(self.function, "hypothesis")

    @property
    def inner(self) -> Callable[..., None]:
        """The function that takes the drawn values, without Hypothesis around it."""
        function: Any = self.function
        body: Callable[..., None] = inspect.unwrap(function.hypothesis.inner_test if self.drawn else function)
        return body


def load_suite(course: Course, unit: Unit) -> ModuleType:
    """Imports tests/test_<unit>.py under the name that pytest gives it."""
    folder = str(course.suite_file(unit).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(course.suite_file(unit).stem)


def checks_of(course: Course, unit: Unit, suite: ModuleType) -> list[Check]:
    """The checks of a suite in the order of the course, then of the file, each with its share of the points.

    Raises SuiteError where a test function does not say which exercise it judges, or says it of none here.
    """
    found = []
    for name, function in vars(suite).items():
        if name.startswith("test_") and callable(function) and function.__module__ == suite.__name__:
            found.append(_check(course, unit, name, function))
    by_exercise: dict[str, float] = {}
    for entry in found:
        by_exercise[entry["exercise"]] = by_exercise.get(entry["exercise"], 0.0) + entry["weight"]
    missing = [exercise.id for exercise in unit.exercises if exercise.id not in by_exercise]
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


def _check(course: Course, unit: Unit, name: str, function: Any) -> dict[str, Any]:
    where = f"tests/{unit.suite}::{name}"
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
