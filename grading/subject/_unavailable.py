"""Takes away, while an exercise is judged, the finished thing that it asks to write.

What submissions keep from it `review` looks for in their source; either can be got round alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType, ModuleType
from typing import Any

import torch

TORCH = os.path.dirname(torch.__file__) + os.sep
# where PyTorch keeps the same function again; compiled ones cannot all be replaced
ADDRESSES: tuple[Any, ...] = (torch, torch.functional, torch.nn.functional, torch._VF, torch._C._nn, torch.ops.aten)


class Delegated(RuntimeError):
    """The exercise called what it asks to write."""


class _Switch:
    """Whether a stand-in still stands in: a reference to it may be kept for longer than it should."""

    on = True


@dataclass(frozen=True)
class _Finished:
    """A finished thing, and the place where its name is looked up."""

    name: str
    owner: Any
    attribute: str
    original: Any


@contextmanager
def unavailable(names: Iterable[str], modules: Iterable[ModuleType] = ()) -> Iterator[None]:
    """While it is open, each of `names` raises Delegated where it is called, made an object of, or subclassed.

    PyTorch's own calls go through, so that everything built on a name goes on working: `nn.Linear` initialises itself,
    tensors print. Open it around calls, not around the import of a submission, which may hold other exercises and
    experiments at its top; names that `modules` have imported from PyTorch by then are replaced in them too.
    A name whose package is not loaded makes the import of that package raise Delegated.
    Raises ValueError for a name that does not exist.
    """
    found: list[_Finished] = []
    packages: dict[str, str] = {}
    for name in names:
        top = name.partition(".")[0]
        if top in sys.modules or top in sys.stdlib_module_names:
            importlib.import_module(top)
            found.append(_find(name))
        elif importlib.util.find_spec(top) is None:
            raise ValueError(f"there is no package {top!r}, of which {name!r} is to be made unavailable")
        else:
            packages[top] = name
    switch = _Switch()
    with ExitStack() as stack:
        stack.callback(setattr, switch, "on", False)
        if packages:
            finder = _Refusing(packages)
            sys.meta_path.insert(0, finder)
            stack.callback(sys.meta_path.remove, finder)
        # all originals are known by now: a class may inherit what is about to be replaced in another one
        for thing in found:
            if isinstance(thing.original, type):
                _close_class(stack, thing, switch)
        _close_functions(stack, [thing for thing in found if not isinstance(thing.original, type)], modules, switch)
        yield


def _find(name: str) -> _Finished:
    words = name.split(".")
    owner: Any = None
    here: Any = sys.modules[words[0]]
    for count, word in enumerate(words[1:], start=2):
        owner = here
        try:
            # a loaded module goes first: `torch.optim` has no attribute `adam`
            here = sys.modules.get(".".join(words[:count])) or getattr(owner, word)
        except AttributeError:
            raise ValueError(f"there is no {name!r}: {'.'.join(words[: count - 1])} has no {word!r}") from None
    if not callable(here):
        raise ValueError(f"{name!r} is nothing that could be called")
    return _Finished(name, owner, words[-1], here)


def _close_class(stack: ExitStack, thing: _Finished, switch: _Switch) -> None:
    """Leaves the class in place, since PyTorch asks `isinstance` of it, and closes the ways to use it."""
    cls = thing.original
    _put(stack, cls, "__init__", _StandIn.of(thing.name, cls.__init__, switch))
    subclassed = cls.__init_subclass__.__func__ if hasattr(cls.__init_subclass__, "__func__") else None

    def init_subclass(new: type, /, **keywords: Any) -> None:
        _StandIn.check(thing.name, switch, sys._getframe(1))
        if subclassed is not None:
            subclassed(new, **keywords)
        else:
            super(cls, new).__init_subclass__(**keywords)

    _put(stack, cls, "__init_subclass__", classmethod(init_subclass))


def _close_functions(stack: ExitStack, things: list[_Finished], modules: Iterable[ModuleType], switch: _Switch) -> None:
    stand_ins = {id(thing.original): _StandIn.of(thing.name, thing.original, switch) for thing in things}
    for thing in things:
        _put(stack, thing.owner, thing.attribute, stand_ins[id(thing.original)])
    for owner in (*ADDRESSES, *modules):
        own = vars(owner)
        # thousands of names at the start of every check, few of them what is looked for
        if stand_ins.keys().isdisjoint(map(id, own.values())):
            continue
        for name, value in list(own.items()):
            if id(value) in stand_ins:
                _put(stack, owner, name, stand_ins[id(value)])
    for thing in things:
        if not thing.name.startswith("torch."):
            continue
        for owner in (torch._VF, torch._C._nn, torch.ops.aten):
            kernel = getattr(owner, thing.attribute, None)
            if kernel is None or isinstance(kernel, _Kernel) or kernel in stand_ins.values():
                continue
            with suppress(AttributeError, TypeError):
                _put(stack, owner, thing.attribute, _Kernel(thing.name, kernel, switch))


def _put(stack: ExitStack, owner: Any, attribute: str, value: Any) -> None:
    """Sets an attribute until the stack is left; what the owner only inherited is deleted again."""
    own = vars(owner)
    had, before = attribute in own, own.get(attribute)
    setattr(owner, attribute, value)
    if had:
        stack.callback(setattr, owner, attribute, before)
    else:
        stack.callback(delattr, owner, attribute)


class _StandIn:
    """Makes the functions that take the place of a finished thing."""

    @staticmethod
    def of(name: str, original: Callable[..., Any], switch: _Switch) -> Callable[..., Any]:
        def stand_in(*args: Any, **kwargs: Any) -> Any:
            _StandIn.check(name, switch, sys._getframe(1))
            return original(*args, **kwargs)

        stand_in.__name__ = stand_in.__qualname__ = name.rpartition(".")[2]
        stand_in.__doc__ = getattr(original, "__doc__", None)
        return stand_in

    @staticmethod
    def check(name: str, switch: _Switch, caller: FrameType) -> None:
        if switch.on and not caller.f_code.co_filename.startswith(TORCH):
            raise Delegated(f"`{name}` is the finished thing; this exercise asks you to write it yourself")


class _Kernel:
    """Takes the place of a function with attributes: only PyTorch reaches them."""

    def __init__(self, name: str, original: Any, switch: _Switch) -> None:
        self._name, self._original, self._switch = name, original, switch

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _StandIn.check(self._name, self._switch, sys._getframe(1))
        return self._original(*args, **kwargs)

    def __getattr__(self, attribute: str) -> Any:
        _StandIn.check(self._name, self._switch, sys._getframe(1))
        return getattr(self._original, attribute)


class _Refusing:
    """Refuses to import the packages of finished things."""

    def __init__(self, packages: dict[str, str]) -> None:
        self.packages = packages

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        caller: FrameType | None = sys._getframe(1)
        while caller is not None and "importlib" in caller.f_code.co_filename:
            caller = caller.f_back
        if name in self.packages and caller is not None:
            _StandIn.check(self.packages[name], _Switch(), caller)
