"""Perturbs one argument of the reference on its way in: a check that sees the argument must fail."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from grading.course import Course
from grading.subject import Sources, definitions

NAME = "_perturbed"
WAYS = 3


def argument_names(course: Course, reference: Sources, exercise: str) -> list[str]:
    """Every argument of an exercise: `x`, or `forward.x` for a method of a class."""
    return [name for name, _, _ in _arguments(course, reference, exercise)]


def with_perturbed_argument(course: Course, reference: Sources, exercise: str, argument: str, way: int = 0) -> Sources:
    """The reference, with `argument` replaced by something visibly different at the start of its function.

    There are `WAYS` to be different: another value, or another shape, direction, size or use of the same.
    """
    unit = course.exercises[exercise].unit
    source = reference.whole(unit)
    tree = copy.deepcopy(source.tree)
    changed = replace(source, tree=tree, definitions=definitions(tree))
    sources = replace(reference, units={**reference.units, unit: changed})
    for name, function, parameter in _arguments(course, sources, exercise):
        if name == argument:
            lines = (
                f"from grading.trust._liveness import perturbed as {NAME}\n{parameter} = {NAME}({parameter}, {way})\n"
            )
            first = 1 if ast.get_docstring(function) is not None else 0
            function.body[first:first] = ast.parse(lines).body
            ast.fix_missing_locations(tree)
    return sources


def _arguments(course: Course, reference: Sources, exercise: str) -> Iterator[tuple[str, ast.FunctionDef, str]]:
    entry = course.exercises[exercise]
    source = reference.whole(entry.unit)
    for name in entry.names:
        node = source.definitions[name]
        functions = [node] if isinstance(node, ast.FunctionDef) else getattr(node, "body", [])
        for function in functions:
            if not isinstance(function, ast.FunctionDef):
                continue
            method = isinstance(node, ast.ClassDef) or "." in name
            arguments = function.args
            named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs][1 if method else 0 :]
            for argument in named:
                where = f"{function.name}.{argument.arg}" if method else argument.arg
                yield where, function, argument.arg


def perturbed(value: Any, way: int = 0) -> Any:
    """Something of the same kind as `value`, but plainly different; None stays None, for there is nothing to change."""
    if value is None:
        return None
    if isinstance(value, torch.nn.Module):
        return copy.deepcopy(value)
    if isinstance(value, torch.Tensor):
        return _wider(value) if way else _other_tensor(value)
    if isinstance(value, torch.Generator):
        found = torch.Generator(value.device)
        found.seed()
        return found
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return (value + 1, value - 1, 9 * value + 3)[way]
    if isinstance(value, float):
        return value * 1.5 + 0.1
    if isinstance(value, str):
        return value + "_"
    if isinstance(value, list | tuple) or hasattr(value, "__next__"):
        items = list(value)[:-1]
        return type(value)(items) if isinstance(value, list | tuple) else iter(items)
    if callable(value):
        if way:
            return lambda *args, **kwargs: value(*map(_other_tensor_or_same, args), **kwargs)
        return lambda *args, **kwargs: _other_result(value(*args, **kwargs))
    return None


def _other_tensor(value: torch.Tensor) -> torch.Tensor:
    if not value.is_floating_point():
        return value.roll(1) if value.dim() else value + 1
    slope = torch.linspace(0.5, 2.0, max(value.numel(), 1), dtype=value.dtype, device=value.device)
    return value * slope[: value.numel()].reshape(value.shape) + 0.25


def _wider(value: torch.Tensor) -> torch.Tensor:
    return torch.cat([value, value], dim=-1) if value.dim() else value + 1


def _other_tensor_or_same(value: Any) -> Any:
    return _other_tensor(value) if isinstance(value, torch.Tensor) else value


def _other_result(value: Any) -> Any:
    return torch.nn.Identity() if isinstance(value, torch.nn.Module) else perturbed(value)
