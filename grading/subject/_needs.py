"""What an exercise builds on: what the course says, and what else a submission's own code makes use of."""

from __future__ import annotations

import ast

from grading.course import Course, Exercise

from ._sources import Source, Sources

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
