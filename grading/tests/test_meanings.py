"""What Python and PyTorch say is explained by the very words that they use today."""

from __future__ import annotations

import errno
import operator
import os
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from grading.judge._meanings import MEANINGS, meaning_of
from grading.subject import describe


class Endless:
    def __getattr__(self, name: str) -> Any:
        return getattr(self, name)


class NoInit(nn.Module):
    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.ones(1))


class LateInit(nn.Module):
    def __init__(self) -> None:
        self.size = 3


class NoForward(nn.Module):
    def compute(self, x: Tensor) -> Tensor:
        return x

    def no_self() -> None:  # type: ignore[misc]
        """Python gives it the module all the same."""


def late(many: int = 0) -> float:
    if many:
        total = 1.0
    return total


def late_outside() -> float:
    def inner() -> float:
        return total

    found = inner()
    total = 1.0
    return found


def leaf() -> Tensor:
    return torch.ones(2, requires_grad=True)


def overwritten() -> None:
    found = leaf().exp()
    found.mul_(2)
    found.sum().backward()


def refused(number: int) -> None:
    """What the system says of a file is not to be had by each user: the superuser may open them all."""
    raise OSError(number, os.strerror(number), "/tmp/x.pth")


def backward_twice() -> None:
    loss = (leaf() ** 2).sum()
    loss.backward()
    loss.backward()


MISTAKES: dict[str, Callable[[], Any]] = {
    "a leaf Variable that requires grad is being used in an in-place operation": lambda: leaf().mul_(2),
    "does not require grad and does not have a grad_fn": lambda: torch.ones(1).backward(),
    "has been modified by an inplace operation": overwritten,
    "backward through the graph a second time": backward_twice,
    "grad can be implicitly created only for scalar outputs": lambda: leaf().exp().backward(),
    "must match the size of tensor": lambda: torch.ones(2, 3) - torch.ones(2),
    "doesn't match the broadcast shape": lambda: torch.ones(2).mul_(torch.ones(3, 2)),
    "mat1 and mat2 shapes cannot be multiplied": lambda: torch.ones(2, 3) @ torch.ones(2, 3),
    "Boolean value of Tensor with": lambda: max(torch.ones(2), torch.zeros(2)),
    "Dimension out of range": lambda: torch.ones(2, 3).mean((1, 2)),
    "Dimension specified as 0 but tensor has no dimensions": lambda: torch.tensor(1.0).size(0),
    "iteration over a 0-d tensor": lambda: list(torch.tensor(1.0)),
    "len() of a 0-d tensor": lambda: len(torch.tensor(1.0)),
    "only one element tensors can be converted": lambda: float(torch.ones(2)),
    "cannot be converted to Scalar": lambda: torch.ones(2).item(),
    "must be Tensor, not float": lambda: torch.sqrt(2.0),  # type: ignore[arg-type]
    "must be Tensor, not int": lambda: torch.sqrt(2),  # type: ignore[arg-type]
    "bitwise_xor": lambda: torch.ones(2) ^ 2,
    "for ^:": lambda: operator.xor(2.0, 2),
    "'builtin_function_or_method'": lambda: 1 / torch.ones(2).numel,  # type: ignore[operator]
    "'method'": lambda: list(nn.Linear(1, 1).parameters),  # type: ignore[call-overload]
    "'generator'": lambda: len(nn.Linear(1, 1).parameters()),  # type: ignore[arg-type]
    "object is not an iterator": lambda: next([1, 2]),  # type: ignore[call-overload]
    "before Module.__init__() call": NoInit,
    "has no attribute '_modules'": lambda: LateInit().eval(),
    "has no attribute '_backward_hooks'": lambda: LateInit()(torch.ones(1)),
    'is missing the required "forward" function': lambda: NoForward()(torch.ones(1)),
    "(torch.nn.Parameter or None expected)": lambda: setattr(nn.Linear(1, 1), "weight", torch.ones(1, 1)),
    "'NoneType'": lambda: nn.Linear(1, 1, bias=False).bias.zero_(),
    "'tuple' object has no attribute": lambda: (torch.ones(2),).mean(),  # type: ignore[attr-defined]
    "'list' object has no attribute": lambda: [1.0, 2.0].mean(),  # type: ignore[attr-defined]
    "'float' object has no attribute": lambda: torch.ones(1).item().mean(),  # type: ignore[union-attr]
    "object is not callable": lambda: torch.ones(1)(2),  # type: ignore[operator]
    "positional argument": lambda: NoForward().no_self(),  # type: ignore[misc]
    "cannot access local variable": late,
    "free variable": late_outside,
    "' is not defined": lambda: mult,  # type: ignore[name-defined]  # noqa: F821
    "Permission denied": lambda: refused(errno.EACCES),
    "Operation not permitted": lambda: refused(errno.EPERM),
    "No such file or directory": lambda: torch.load("absent.pth"),
    "maximum recursion depth exceeded": lambda: Endless().weight,
}


def test_all_are_tried() -> None:
    assert list(MISTAKES) == list(MEANINGS)


@pytest.mark.parametrize("said", MISTAKES)
def test_what_is_said_is_explained(said: str) -> None:
    with pytest.raises(Exception) as raised:
        MISTAKES[said]()
    assert meaning_of(f"mine.py, line 3, in f: x\n{describe(raised.value)}") == MEANINGS[said]


def test_other_exceptions_speak_for_themselves() -> None:
    assert meaning_of("mine.py, line 3, in f: return None\nValueError: x and y differ in shape") is None
