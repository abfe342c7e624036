"""What an exercise builds on: what the course says, and what else a submission's own code makes use of."""

from __future__ import annotations

import ast
from typing import TypeGuard

from grading.course import Course, Exercise

from ._sources import Source, Sources, bound_by

# a unit, and a name in it; of the unit itself none
_Piece = tuple[str, str]


def builds_on(course: Course, exercise: Exercise, sources: Sources) -> list[str]:
    """All exercises that `exercise` builds on, directly or not, in course order.

    What the student's code uses beyond what the course names counts as well, where it comes before `exercise`; not for
    an exercise that takes the student's own pieces only, which waits for those that the course names.
    """
    needed = set(course.prerequisites(exercise.id))
    source = sources.of(exercise)
    if isinstance(source, Source) and not exercise.own_pieces:
        used = _used(course, exercise, source)
        for name, piece in course.exercises.items():
            if name == exercise.id:
                break
            if (piece.unit, piece.symbol) in used:
                needed |= {name, *course.prerequisites(name)}
    return [name for name in course.exercises if name in needed]


def irreplaceable(
    course: Course, exercise: Exercise, lent: tuple[str, ...], mine: Sources, theirs: Sources
) -> set[str]:
    """Those of `lent` whose place the reference cannot take while `exercise` is judged.

    The student's code uses a method or an attribute that the student's class has and the reference's has not, or the
    reference's methods use what the student's class has not got.
    """
    found = {name for name in lent if _lacks(course.exercises[name], mine, theirs)}
    todo, seen = [exercise.id], set[str]()
    while todo:
        piece = course.exercises[todo.pop()]
        source = mine.of(piece)
        if piece.id in seen or not isinstance(source, Source):
            continue
        seen.add(piece.id)
        used, names = _used(course, piece, source), _attributes(piece, source)
        for name, other in course.exercises.items():
            if (other.unit, other.symbol) in used:
                if name in lent and names & _additions(other, mine, theirs):
                    found.add(name)
                if name not in lent or name in found:
                    # what stays the student's may in turn use what others have
                    todo.append(name)
    return found


def _lacks(piece: Exercise, mine: Sources, theirs: Sources) -> bool:
    """Whether the reference's methods of an exercise use what its class has, and the student's has not."""
    own, lender = mine.of(piece), theirs.of(piece)
    if not piece.methods or not isinstance(own, Source) or not isinstance(lender, Source):
        return False
    members = _members(piece, own)
    taken = {
        node.attr
        for name in piece.names
        for node in ast.walk(lender.definitions[name])
        if isinstance(node, ast.Attribute) and _is_own(node)
    }
    return bool(members and (taken & _members(piece, lender)) - members - set(piece.methods))


def _additions(piece: Exercise, mine: Sources, theirs: Sources) -> set[str]:
    """What the student's class has and the reference's has not, nor gets from elsewhere."""
    own, lender = mine.of(piece), theirs.of(piece)
    if not isinstance(own, Source) or not isinstance(lender, Source):
        return set()
    inside = set(ast.walk(own.definitions[piece.symbol])) if piece.symbol in own.definitions else set()
    elsewhere = {node.attr for node in ast.walk(own.tree) if _is_stored(node) and node not in inside}
    return _members(piece, own) - _members(piece, lender) - elsewhere


def _members(piece: Exercise, source: Source) -> set[str]:
    """The methods, class attributes and attributes of `self` of an exercise's class; none of a function."""
    node = source.definitions.get(piece.symbol)
    if not isinstance(node, ast.ClassDef):
        return set()
    stored = {one.attr for one in ast.walk(node) if _is_stored(one) and _is_own(one)}
    # not those that a base class gives it
    given = (name for name, one in source.definitions.items() if one in source.tree.body)
    later = {name.partition(".")[2] for name in given if name.startswith(f"{piece.symbol}.")}
    return stored | later | {name for statement in node.body for name in bound_by(statement)}


def _attributes(piece: Exercise, source: Source) -> set[str]:
    """The attributes that the code of an exercise reads, but for those that its class has itself."""
    found: set[str] = set()
    own = _members(piece, source)
    for definition in (source.definitions[name] for name in piece.names if name in source.definitions):
        for node in ast.walk(definition):
            if isinstance(node, ast.Attribute) and not (_is_own(node) and node.attr in own):
                found.add(node.attr)
            elif isinstance(node, ast.With):
                found |= {"__enter__", "__exit__"}
    return found


def _is_stored(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)


def _is_own(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == "self"


def _used(course: Course, exercise: Exercise, source: Source) -> set[_Piece]:
    """The exercises' functions and classes that the code of one uses, also through helpers beside it."""
    imported, own = _imported(course, source), _own(course, source)
    found: set[_Piece] = set()
    todo = [source.definitions[name] for name in exercise.names if name in source.definitions]
    seen: set[int] = set()
    while todo:
        definition = todo.pop()
        if id(definition) in seen:
            continue
        seen.add(id(definition))
        nodes = list(ast.walk(definition))
        local = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        local |= {node.arg for node in nodes if isinstance(node, ast.arg)}
        for node in nodes:
            match node:
                case ast.Attribute(value=ast.Name(id=name)) if name in imported and not imported[name][1]:
                    found.add((imported[name][0], node.attr))
                case ast.Name(id=name) if name not in local:
                    if name in own:
                        found.add(own[name])
                    elif name in imported:
                        found.add(imported[name])
                    elif name in source.definitions:
                        todo.append(source.definitions[name])
    return found - {(exercise.unit, exercise.symbol)}


def _imported(course: Course, source: Source) -> dict[str, _Piece]:
    """What a submission's file has from its other units, by the names that it uses."""
    found: dict[str, _Piece] = {}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.ImportFrom) or node.level != 1:
            continue
        for alias in node.names:
            name = alias.asname or alias.name
            if node.module is None:
                found[name] = (alias.name, "")
            elif alias.name == "*" and node.module in course.by_unit:
                found |= {one.symbol: (node.module, one.symbol) for one in course.by_unit[node.module].exercises}
            else:
                found[name] = (node.module, alias.name)
    return found


def _own(course: Course, source: Source) -> dict[str, _Piece]:
    """The exercises' names that a file defines itself: those of its unit, or in a loose file of any."""
    units = [course.by_unit[source.name]] if source.name in course.by_unit else course.units
    symbols = {one.symbol: (unit.id, one.symbol) for unit in units for one in unit.exercises}
    return {name: piece for name, piece in symbols.items() if name in source.definitions}
