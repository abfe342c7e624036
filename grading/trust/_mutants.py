"""Mutants of the solutions by the operators of cosmic-ray: mistakes that nobody thought of."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count

from grading.course import Course
from grading.subject import Source, Sources

# shifts and bitwise operators only crash, decorators are given, and variable operators want arguments
LEFT_OUT = ("Shift", "Bit", "FloorDiv", "Mod", "Decorator", "ExceptionReplacer", "ZeroIteration", "Invert", "Variable")


@dataclass(frozen=True)
class Mutant:
    """One application of an operator in the text of an exercise: the line it changes, and what that becomes."""

    operator: str
    occurrence: int
    line: str
    change: str


def mutants(course: Course, reference: Sources, exercise: str) -> Iterator[Mutant]:
    """All mutants of the solution regions of one exercise; each gives another syntax tree."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator, operator_names

    text = _text(course, reference, exercise)
    written = _written_lines(course, reference, exercise)
    seen = {_dump(text)}
    for name in sorted(operator_names()):
        if any(word in name for word in LEFT_OUT):
            continue
        for occurrence in count():
            changed = mutate_code(text, get_operator(name)(), occurrence)
            if changed is None:
                break
            tree = _dump(changed)
            line = _first_difference(text, changed)
            if tree is not None and tree not in seen and line in written:
                seen.add(tree)
                before, after = (version.splitlines()[line].strip() for version in (text, changed))
                yield Mutant(name, occurrence, before, after)


def _written_lines(course: Course, reference: Sources, exercise: str) -> set[int]:
    """The lines, from 0 in the text of the exercise's symbol, that a student writes for this exercise."""
    source = reference.whole(course.exercises[exercise].unit)
    start, _ = _span(course, source, exercise)
    lines = source.path.read_text(encoding="utf-8").splitlines()
    written: set[int] = set()
    for name in course.exercises[exercise].names:
        node = source.definitions[name]
        inside = False
        for number in range(node.lineno, (node.end_lineno or node.lineno) + 1):
            inside = (inside or "### BEGIN SOLUTION" in lines[number - 1]) and "### END SOLUTION" not in lines[
                number - 1
            ]
            if inside:
                written.add(number - start)
    return written


def mutated(course: Course, reference: Sources, exercise: str, mutant: Mutant) -> Sources:
    """The reference with one mutant in it."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    text = _text(course, reference, exercise)
    changed = mutate_code(text, get_operator(mutant.operator)(), mutant.occurrence)
    unit = course.exercises[exercise].unit
    source = reference.whole(unit)
    whole = source.path.read_text(encoding="utf-8")
    assert changed is not None, "a mutant names an occurrence that exists"
    first, last = _span(course, source, exercise)
    lines = whole.splitlines(keepends=True)
    lines[first - 1 : last] = [changed]
    return replace(reference, units={**reference.units, unit: source.parsed("".join(lines))})


def _text(course: Course, reference: Sources, exercise: str) -> str:
    source = reference.whole(course.exercises[exercise].unit)
    first, last = _span(course, source, exercise)
    return "".join(source.path.read_text(encoding="utf-8").splitlines(keepends=True)[first - 1 : last])


def _span(course: Course, source: Source, exercise: str) -> tuple[int, int]:
    node = source.definitions[course.exercises[exercise].symbol]
    return node.lineno, node.end_lineno or node.lineno


def _dump(text: str) -> str | None:
    """The syntax of a text without its docstrings, or None where it is no Python."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
    return ast.dump(tree)


def _first_difference(text: str, changed: str) -> int:
    lines = zip(text.splitlines(), changed.splitlines(), strict=False)
    return next((number for number, (before, after) in enumerate(lines) if before != after), -1)
