"""How processes of this goodinit begin: torch without what makes its import take twice as long, and the same code."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def importing() -> Iterator[None]:
    """Imports in this block are not interrupted to look for garbage, and what they make is never looked through again.

    A fifth of what it takes to import torch is such looking, and so is a good part of what it takes to end. Where torch
    is imported, it leaves its compiler alone from then on.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
    if "torch.optim" in sys.modules:
        _spare_the_compiler()


def installation() -> str:
    """The folder that this goodinit's code lies in."""
    return str(Path(__file__).parent)


def another_installation(theirs: str, who: str) -> str:
    """Why `who` cannot work for this process: it runs the code of another goodinit. Empty where it runs the same."""
    if theirs == installation():
        return ""
    return (
        f"{who} would run the goodinit in {Path(theirs).parent}, and this one is in {Path(installation()).parent}: "
        "run `goodinit` as it was installed, or install this one"
    )


def spare_what_exists() -> None:
    """Objects that exist now are never looked through again: children that do so would copy the pages they lie in."""
    gc.collect()
    gc.freeze()


def _spare_the_compiler() -> None:
    """Has torch do without its compiler, which takes about as long to import as torch does.

    Each optimizer imports it when it is made and at its first step, to say which of its methods are not to be compiled.
    Nobody compiles them here; whoever does gets a slower program, and the same numbers.
    """
    import torch
    from torch.optim import Optimizer

    # it tells the compiler, and imports it for that
    torch.use_deterministic_algorithms = _use_deterministic_algorithms
    for kind in (Optimizer, *_below(Optimizer)):
        for name, method in list(vars(kind).items()):
            made_by = getattr(getattr(method, "__code__", None), "co_qualname", "")
            if made_by.startswith("_disable_dynamo."):
                setattr(kind, name, method.__wrapped__)
            elif made_by.startswith("_use_grad_for_differentiable."):
                setattr(kind, name, _stepping(method.__wrapped__))


def _use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    from torch._C import _set_deterministic_algorithms

    _set_deterministic_algorithms(mode, warn_only=warn_only)


def _below(kind: type[Any]) -> Iterator[type[Any]]:
    direct: type[Any]
    for direct in kind.__subclasses__():
        yield direct
        yield from _below(direct)


def _stepping(step: Callable[..., Any]) -> Callable[..., Any]:
    """A method that records gradients only where its optimizer was asked to be differentiable."""
    from torch import set_grad_enabled

    @functools.wraps(step)
    def stepping(self: Any, *args: Any, **kwargs: Any) -> Any:
        with set_grad_enabled(self.defaults["differentiable"]):
            return step(self, *args, **kwargs)

    return stepping
