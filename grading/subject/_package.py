"""Imports a composition of a submission and the reference, here or behind the wall, as a package of its own."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import inspect
import itertools
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any, Protocol

_numbers = itertools.count(1)


@dataclass(frozen=True)
class ModuleCode:
    """One module, compiled in one piece or in several that run one after the other.

    It may use names of the unit `seeded_from` without importing them, except `own`. `text` is what the submission has
    at `path`, for whoever looks up the source of a function, as `torch.jit.script` does.
    """

    code: tuple[CodeType, ...]
    path: str
    seeded_from: str | None = None
    own: frozenset[str] = frozenset()
    text: str = ""


class Modules(Protocol):
    """What a package is made of: `names` of its modules, the unit that is home to each definition, and the code."""

    @property
    def names(self) -> frozenset[str]: ...

    @property
    def homes(self) -> Mapping[str, str]: ...

    def module(self, name: str) -> ModuleCode: ...


class Package(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The modules of a composition, each imported when it is first asked for."""

    def __init__(self, modules: Modules) -> None:
        self.modules = modules
        self.name = f"submission_{next(_numbers)}"
        package = ModuleType(self.name)
        package.__path__ = []
        sys.modules[self.name] = package
        sys.meta_path.insert(0, self)

    def load(self, module: str) -> ModuleType:
        return importlib.import_module(f"{self.name}.{module}")

    def loaded(self) -> list[ModuleType]:
        """The modules that have been imported so far."""
        names = (f"{self.name}.{module}" for module in self.modules.names)
        return [sys.modules[name] for name in names if name in sys.modules]

    def forget(self, module: str) -> None:
        sys.modules.pop(f"{self.name}.{module}", None)

    def close(self) -> None:
        sys.meta_path.remove(self)
        for name in (self.name, *(f"{self.name}.{module}" for module in self.modules.names)):
            sys.modules.pop(name, None)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        package, _, module = fullname.rpartition(".")
        if package != self.name or module not in self.modules.names:
            return None
        return importlib.machinery.ModuleSpec(fullname, self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        found = self.modules.module(module.__name__.rpartition(".")[2])
        module.__file__ = found.path
        if found.text and found.path not in linecache.cache:
            keep_text(found.path, found.text)
        if found.seeded_from:
            names = vars(self.load(found.seeded_from)).items()
            public = {name: value for name, value in names if not name.startswith("_") and name not in found.own}
            module.__dict__.update(public)
        for code in found.code:
            exec(code, module.__dict__)


def keep_text(path: str, text: str) -> None:
    """Has tracebacks and whoever looks up a function's source find `text` at a path where no such file is."""
    linecache.cache[path] = len(text), None, text.splitlines(keepends=True), path


class Pieces:
    """The names that an exercise lives among, as attributes: `pieces.Learner`, `pieces.batch_norm`'s `BatchNorm`."""

    def __init__(self, module: ModuleType, package: Package) -> None:
        self._module, self._package = module, package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if hasattr(self._module, name):
            return getattr(self._module, name)
        home = self._package.modules.homes.get(name)
        if home is None:
            raise AttributeError(f"no unit of the course defines {name!r}")
        return getattr(self._package.load(home), name)


class Gone(Exception):
    """A module defines a name when it is read, and has it no more after it has run."""


# a parameter of the catalogue's signature, and its default as the catalogue writes it
Parameter = tuple[str, str | None]


class Opened:
    """One module of a package in this process, imported, with what a suite can ask of it."""

    def __init__(self, package: Package, module: str) -> None:
        self.package, self.name = package, module
        self.module = package.load(module)

    def reach(self, symbol: str, wanted: Sequence[Parameter] | None) -> tuple[Any, str]:
        """The object named `symbol`, and what is wrong with its kind or its signature; raises Gone without it."""
        try:
            value = getattr(self.module, symbol)
        except AttributeError:
            raise Gone(symbol) from None
        return value, signature_problem(value, symbol, wanted)

    def beside(self, scenario: Callable[..., Any], values: dict[str, Any]) -> Any:
        """What `scenario(pieces, **values)` returns when it runs next to the code under test."""
        return scenario(self.pieces(), **values)

    def pieces(self) -> Pieces:
        return Pieces(self.module, self.package)


def signature_problem(value: Any, symbol: str, wanted: Sequence[Parameter] | None) -> str:
    """Which parameter of the catalogue's signature is missing, rather than letting a call fail later; empty if none."""
    if not callable(value):
        return f"`{symbol}` is a {type(value).__name__}, expected a function or a class"
    if wanted is None:
        return ""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return ""
    required = [name for name, default in wanted if default is None]
    named = [name for name, default in wanted if default is not None]
    try:
        signature.bind(*required, **dict.fromkeys(named))
        signature.bind(*required)
    except TypeError as error:
        missing = _missing(signature, required, named)
        problem = f"the parameter `{missing}` is missing" if missing else str(error)
        written = ", ".join(name if default is None else f"{name}={default}" for name, default in wanted)
        return f"{symbol}{signature}: {problem}; its signature is {symbol}({written})"
    return ""


def _missing(signature: inspect.Signature, required: list[str], named: list[str]) -> str:
    """The first parameter of the catalogue's signature that a student's has no place for."""
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    positional = sum(
        kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD) for kind in kinds
    )
    if inspect.Parameter.VAR_POSITIONAL not in kinds and positional < len(required):
        unnamed = [name for name in required if name not in signature.parameters]
        return unnamed[-1] if unnamed else required[positional]
    absent = [name for name in named if name not in signature.parameters]
    return absent[0] if absent and inspect.Parameter.VAR_KEYWORD not in kinds else ""
