"""Puts one exercise among pieces that work: each is the student's own where that passed, else the reference."""

from __future__ import annotations

import ast
import copy
import linecache
from collections.abc import Collection, Iterable
from dataclasses import replace
from functools import cached_property, lru_cache
from types import CodeType
from typing import TypeVar

from grading.course import Course, Exercise

from ._package import ModuleCode
from ._sources import Source, Sources, bound_by, definitions

Statement = TypeVar("Statement", bound=ast.stmt)


def borrowed(course: Course, exercise: Exercise, needed: Iterable[str], passed: Iterable[str]) -> tuple[str, ...]:
    """The exercises whose reference stands in while `exercise`, which builds on those `needed`, is judged.

    Those are what it builds on and has not passed, and the exercises that share a class with it or with one of
    those: a method of `SGD` cannot be judged while another one of `SGD` raises.
    """
    passed = set(passed)
    closure = [course.exercises[name] for name in needed]
    classes = {(piece.unit, piece.symbol) for piece in (exercise, *closure)}
    family = {piece.id for piece in course.exercises.values() if (piece.unit, piece.symbol) in classes}
    family.update(piece.id for piece in closure)
    return tuple(name for name in course.exercises if name in family and name not in passed and name != exercise.id)


class Composition:
    """A submission with the definitions of the exercises `lent` taken from the reference, to judge `exercise` by.

    A unit that the student has not got, that cannot be read, or that is among those `given_up`, is the reference's
    whole; what a unit lacks of what it was given comes from there as well. With `sparing`, what the reference solves of
    other exercises is left out: code that nobody trusts gets no more than it builds on.
    """

    def __init__(
        self,
        course: Course,
        sources: Sources,
        reference: Sources | None,
        lent: tuple[str, ...],
        exercise: Exercise,
        *,
        sparing: bool = False,
        given_up: Collection[str] = (),
    ) -> None:
        self.course, self.sources, self.reference = course, sources, reference
        self.lent, self.exercise, self.sparing, self.given_up = lent, exercise, sparing, given_up

    @cached_property
    def names(self) -> frozenset[str]:
        loose = self.sources.loose
        return frozenset([*self.course.by_unit, *([loose.name] if isinstance(loose, Source) else [])])

    @cached_property
    def homes(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for unit in self.course.by_unit:
            # the student's file, and the reference, which completes it
            for definer in (self.own(unit), self.reference and self.reference.units.get(unit)):
                if isinstance(definer, Source):
                    for name in definer.definitions:
                        found.setdefault(name, unit)
        return found

    def own(self, unit: str) -> Source | None:
        """The student's file of a unit, where there is one to be used."""
        source = self.sources.units.get(unit)
        return source if isinstance(source, Source) and unit not in self.given_up else None

    def module(self, name: str) -> ModuleCode:
        """One of the modules, compiled; raises ModuleNotFoundError where there is none."""
        loose = self.sources.loose
        if isinstance(loose, Source) and loose.name == name:
            return self._loose_module(loose)
        tree, source = self._unit_tree(name)
        compiled = _compiled if self.reference is not None else _compiled_by_statement
        # the text of the reference stays here
        text = _text(source) if source is self.own(name) else ""
        return ModuleCode(compiled(tree, str(source.path)), str(source.path), text=text)

    def _unit_tree(self, unit: str) -> tuple[ast.Module, Source]:
        source = self.own(unit)
        if self.reference is None:
            if source is None:
                raise ModuleNotFoundError(f"there is no {unit}")
            return source.tree, source
        whole = self.whole(unit)
        if source is None:
            return self._spared(whole) if self.sparing else whole.tree, whole
        whole = _lendable(whole, source.tree)
        exercises = [self.course.exercises[name] for name in self.lent if self.course.exercises[name].unit == unit]
        return self._completed(substitute(source, whole, exercises), whole), source

    def _loose_module(self, loose: Source) -> ModuleCode:
        if self.reference is None:
            return ModuleCode(_compiled(loose.tree, str(loose.path)), str(loose.path), text=_text(loose))
        tree = loose.tree
        exercises = [self.course.exercises[name] for name in self.lent]
        for unit in self.reference.units:
            here = [piece for piece in exercises if piece.unit == unit and loose.defines(piece)]
            whole = _lendable(self.whole(unit), loose.tree)
            tree = substitute(Source(loose.name, loose.path, loose.shown_path, tree), whole, here)
            _bring_siblings(tree, whole, here)
        own = frozenset([*loose.definitions, self.exercise.symbol])
        return ModuleCode(_compiled(tree, str(loose.path)), str(loose.path), self.exercise.unit, own, _text(loose))

    def whole(self, unit: str) -> Source:
        """The reference's file of a unit."""
        assert self.reference is not None, "only the reference lends"
        return self.reference.whole(unit)

    def _completed(self, tree: ast.Module, whole: Source) -> ast.Module:
        """A copy with what `tree` lacks of the reference's definitions, each after the one that precedes it there.

        Exercises among them are as good as stubs: others import them and may have no use for them.
        """
        bound = _names(tree)
        if not any(bound.isdisjoint(names) for names in map(bound_by, whole.tree.body) if names):
            return tree
        tree = copy.deepcopy(tree)
        _bring_along(tree, whole)
        place = _first_definition(tree.body)
        for statement in self._spared(whole).body:
            names = set(bound_by(statement))
            if names and bound.isdisjoint(names):
                tree.body.insert(place, _as_at(statement, _line(tree.body, place)))
            here = [index for index, one in enumerate(tree.body) if not names.isdisjoint(bound_by(one))]
            place = here[-1] + 1 if here else place
        return tree

    def _spared(self, whole: Source) -> ast.Module:
        """A unit of the reference in which the exercises that are not lent are as good as stubs."""
        tree = copy.deepcopy(whole.tree)
        found = definitions(tree)
        # a loose file may build on what comes before it without defining that, and not on what comes after
        order = list(self.course.exercises)
        before = order[: order.index(self.exercise.id)] if self.sources.loose is not None else []
        for exercise in self.course.by_unit[whole.name].exercises:
            if exercise.id not in self.lent and exercise.id not in before:
                for name in exercise.names:
                    _empty(found[name], exercise.id)
        return tree


def _text(source: Source) -> str:
    return "".join(linecache.getlines(str(source.path)))


# each bug that a diagnosis tries is loaded anew for every check that fails
@lru_cache(256)
def _compiled(tree: ast.Module, path: str) -> tuple[CodeType, ...]:
    return (compile(tree, path, "exec", dont_inherit=True),)


def _compiled_by_statement(tree: ast.Module, path: str) -> tuple[CodeType, ...]:
    """For the reference, whose trees with and without a bug have most statements in common."""
    # each piece is compiled by itself, but the import from __future__ is for all of them
    flags = annotations.compiler_flag if _postpones(tree) else 0
    return tuple(_compiled_statement(statement, path, flags) for statement in tree.body)


@lru_cache(2048)
def _compiled_statement(statement: ast.stmt, path: str, flags: int) -> CodeType:
    code: CodeType = compile(ast.Module([statement], []), path, "exec", flags, dont_inherit=True)
    return code


def _empty(node: ast.stmt, exercise: str) -> None:
    """Puts `raise NotImplementedError` in the place of a function's body, or of those of a class's methods."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        node.body = ast.parse(f"raise NotImplementedError({exercise!r})").body
        ast.fix_missing_locations(node)
    elif isinstance(node, ast.ClassDef):
        for inner in node.body:
            _empty(inner, exercise)


def _postpones(tree: ast.Module) -> bool:
    """Whether a module never evaluates its annotations, by its import from __future__."""
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )


def _lendable(whole: Source, borrower: ast.Module) -> Source:
    """The reference's file of a unit as one can take from it that, unlike that file, may evaluate its annotations."""
    if _postpones(borrower) or not _postpones(whole.tree):
        return whole
    tree = _quoted(whole.tree)
    return replace(whole, tree=tree, definitions=definitions(tree))


@lru_cache(64)
def _quoted(tree: ast.Module) -> ast.Module:
    """A copy whose annotations are texts, which is what the import from __future__ makes of them."""
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            annotation = getattr(node, name, None)
            if annotation is not None:
                setattr(node, name, ast.copy_location(ast.Constant(ast.unparse(annotation)), annotation))
    return tree


def substitute(source: Source, reference: Source, exercises: list[Exercise]) -> ast.Module:
    """A copy of `source` in which the names of `exercises` that it defines are defined as in `reference`.

    What the reference imports, and `source` has no name for, comes along: a student may have deleted it.
    """
    if not exercises:
        return source.tree
    tree = copy.deepcopy(source.tree)
    _bring_along(tree, reference)
    for exercise in exercises:
        for name in exercise.names:
            here = definitions(tree)
            owner = _class_of(here.get(exercise.symbol), here)
            if "." in name and isinstance(owner, ast.ClassDef):
                if here.get(name) in tree.body:
                    _give_later(tree.body, here[name], name, reference.definitions[name])
                else:
                    _put(owner.body, here.get(name), reference.definitions[name], end=True)
            elif owner is not None and "." not in name:
                _put(tree.body, owner, reference.definitions[exercise.symbol], end=False)
    return tree


def _give_later(body: list[ast.stmt], old: ast.stmt, name: str, new: ast.stmt) -> None:
    """Gives a class the method `name` after `old`, which does so itself."""
    assert isinstance(new, ast.FunctionDef), "the reference's classes define their methods"
    method = _as_at(new, old.lineno)
    method.name = f"_lent_{new.name}"
    assignment = _as_at(ast.parse(f"{name} = {method.name}").body[0], old.lineno)
    place = body.index(old) + 1
    body[place:place] = [method, assignment]


def _bring_siblings(tree: ast.Module, reference: Source, exercises: list[Exercise]) -> None:
    """Imports what the definitions of `exercises` need of their own unit, into a module that is not that unit."""
    nodes = [
        node for exercise in exercises for name in exercise.names for node in ast.walk(reference.definitions[name])
    ]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    missing = sorted(used & reference.definitions.keys() - _names(tree))
    if missing:
        _put(tree.body, None, ast.ImportFrom(reference.name, [ast.alias(name) for name in missing], 1), end=False)


def _class_of(owner: ast.stmt | None, here: dict[str, ast.stmt]) -> ast.stmt | None:
    """The class itself, where a name is another name for one of the module."""
    tried: list[ast.stmt] = []
    while isinstance(owner, ast.Assign) and isinstance(owner.value, ast.Name) and owner not in tried:
        tried.append(owner)
        owner = here.get(owner.value.id)
    return owner


def _bring_along(tree: ast.Module, reference: Source) -> None:
    """Inserts the reference's imports of names that a module does not bind, above its first definition."""
    bound = _names(tree)
    for statement in reference.tree.body:
        names = _imported(statement)
        if names and not set(names) <= bound and getattr(statement, "module", "") != "__future__":
            missing = copy.deepcopy(statement)
            assert isinstance(missing, ast.Import | ast.ImportFrom)
            missing.names = [alias for alias in missing.names if _local_name(alias) not in bound]
            _put(tree.body, None, missing, end=False)


def _names(tree: ast.Module) -> set[str]:
    """What a module defines or imports."""
    return set(definitions(tree)) | {name for statement in tree.body for name in _imported(statement)}


def _imported(statement: ast.stmt) -> list[str]:
    return (
        [_local_name(alias) for alias in statement.names] if isinstance(statement, ast.Import | ast.ImportFrom) else []
    )


def _local_name(alias: ast.alias) -> str:
    return alias.asname or alias.name.partition(".")[0]


def _put(body: list[ast.stmt], old: ast.stmt | None, new: ast.stmt, *, end: bool) -> None:
    """Places `new` where `old` stands, else at the end of a class or before a module's first definition."""
    if old in body and len(bound_by(old)) == 1:
        body[body.index(old)] = _as_at(new, old.lineno)
        return
    # what binds other names too, or is part of another statement, stays: the later definition counts
    around = (place for place, statement in enumerate(body, 1) if old is not None and old in ast.walk(statement))
    index = next(around, len(body) if end else _first_definition(body))
    body.insert(index, _as_at(new, _line(body, index)))


def _first_definition(body: list[ast.stmt]) -> int:
    firsts = [i for i, s in enumerate(body) if isinstance(s, ast.FunctionDef | ast.ClassDef)]
    return firsts[0] if firsts else len(body)


def _line(body: list[ast.stmt], index: int) -> int:
    return body[min(index, len(body) - 1)].lineno if body else 1


def _as_at(new: Statement, line: int) -> Statement:
    """A copy that is numbered like what stands there, so that a traceback names a line of the student's file."""
    new = ast.fix_missing_locations(copy.deepcopy(new))
    for node in ast.walk(new):
        if hasattr(node, "lineno"):
            node.lineno = node.end_lineno = line  # type: ignore[attr-defined]
            node.col_offset = node.end_col_offset = 0  # type: ignore[attr-defined]
    return new
