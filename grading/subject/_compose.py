"""Puts one exercise among pieces that work: each is the student's own where that passed, else the reference."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable

from grading.course import Course, Exercise

from ._sources import Broken, Source, Sources, definitions


def borrowed(course: Course, exercise: Exercise, passed: Iterable[str]) -> tuple[str, ...]:
    """The exercises whose reference stands in while `exercise` is judged.

    Those are its prerequisites that have not passed, and the exercises that share a class with it or with one of
    its prerequisites: a method of `SGD` cannot be judged while another one of `SGD` raises.
    """
    passed = set(passed)
    closure = [course.exercises[name] for name in course.prerequisites(exercise.id)]
    classes = {(piece.unit, piece.symbol) for piece in (exercise, *closure)}
    family = {piece.id for piece in course.exercises.values() if (piece.unit, piece.symbol) in classes}
    family.update(piece.id for piece in closure)
    return tuple(name for name in course.exercises if name in family and name not in passed and name != exercise.id)


def module_tree(
    course: Course, unit: str, sources: Sources, reference: Sources | None, lent: Iterable[str]
) -> tuple[ast.Module, Source]:
    """The syntax tree of one unit with the definitions of the exercises `lent` taken from the reference.

    A unit that the student has not got, or that cannot be read, is the reference's whole.
    """
    source = sources.units.get(unit)
    if reference is None:
        if not isinstance(source, Source):
            raise ModuleNotFoundError(f"there is no {unit}")
        return source.tree, source
    whole = reference.units[unit]
    assert isinstance(whole, Source), "the reference is read and checked before it is lent"
    if source is None or isinstance(source, Broken):
        return whole.tree, whole
    exercises = [course.exercises[name] for name in lent if course.exercises[name].unit == unit]
    return substitute(source, whole, exercises), source


def substitute(source: Source, reference: Source, exercises: list[Exercise]) -> ast.Module:
    """A copy of `source` in which the names of `exercises` are defined as in `reference`.

    What the reference imports or is given, and `source` has no name for, comes along: a student may have deleted it.
    """
    if not exercises:
        return source.tree
    tree = copy.deepcopy(source.tree)
    _bring_along(tree, reference)
    for exercise in exercises:
        for name in exercise.names:
            here = definitions(tree)
            owner = here.get(exercise.symbol)
            if "." in name and isinstance(owner, ast.ClassDef):
                _put(owner.body, here.get(name), reference.definitions[name], end=True)
            elif exercise.symbol in here:
                _put(tree.body, here[exercise.symbol], reference.definitions[exercise.symbol], end=False)
            else:
                _put(tree.body, None, reference.definitions[exercise.symbol], end=False)
    return tree


def _bring_along(tree: ast.Module, reference: Source) -> None:
    """Inserts the reference's imports of names that a module does not bind, above its first definition."""
    bound = set(definitions(tree)) | {name for statement in tree.body for name in _imported(statement)}
    for statement in reference.tree.body:
        names = _imported(statement)
        if names and not set(names) <= bound and getattr(statement, "module", "") != "__future__":
            missing = copy.deepcopy(statement)
            assert isinstance(missing, ast.Import | ast.ImportFrom)
            missing.names = [alias for alias in missing.names if _local_name(alias) not in bound]
            _put(tree.body, None, missing, end=False)


def _imported(statement: ast.stmt) -> list[str]:
    return (
        [_local_name(alias) for alias in statement.names] if isinstance(statement, ast.Import | ast.ImportFrom) else []
    )


def _local_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _put(body: list[ast.stmt], old: ast.stmt | None, new: ast.stmt, *, end: bool) -> None:
    """Places `new` where `old` stands, else at the end of a class or before a module's first definition.

    The new lines are numbered like the old definition, so that a traceback names a line of the student's file.
    """
    new = copy.deepcopy(new)
    if old in body:
        index = body.index(old)
        line = old.lineno
        body[index] = new
    else:
        firsts = [i for i, s in enumerate(body) if isinstance(s, ast.FunctionDef | ast.ClassDef)]
        index = len(body) if end else firsts[0] if firsts else len(body)
        line = body[min(index, len(body) - 1)].lineno if body else 1
        body.insert(index, new)
    for node in ast.walk(new):
        if hasattr(node, "lineno"):
            node.lineno = node.end_lineno = line  # type: ignore[attr-defined]
            node.col_offset = node.end_col_offset = 0  # type: ignore[attr-defined]
