"""Serves one submission inside a confined process: holds its objects, and does with them what the judge asks.

Nothing in here is trusted by the judge: a student's code shares this process, and may change any of it.
"""

from __future__ import annotations

import builtins
import importlib
import marshal
import os
import random
import socket
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import count, islice
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch

from grading.subject import (
    MOST_EARLIER,
    Gone,
    ModuleCode,
    Opened,
    Package,
    earlier,
    preserved_state,
    same_tensor,
    tensors_in,
    unavailable,
)

from ._wire import MAX_HEADER, Closed, Decoder, Encoder, WireError, receive, send

MAX_ITEMS = 10_000
MAX_FRAMES = 20
MAX_TEXT = 4_000
# the judge may send as much as the process can hold
MAX_BUFFERS = 1 << 32
EXIT_ON_CLOSED = 0

_clone = torch.clone


class _RemoteModules:
    """The modules of a composition, whose code the judge sends when it is needed."""

    def __init__(self, worker: Worker, key: int, names: frozenset[str], homes: Mapping[str, str]) -> None:
        self.worker, self.key, self.names, self.homes = worker, key, names, homes

    def module(self, name: str) -> ModuleCode:
        return self.worker.ask_for_module(self.key, name)


class Worker:
    """One connection to the judge, and the objects that it has been told of."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.objects: dict[int, Any] = {}
        self.numbers = count(1)
        self.packages: dict[int, Package] = {}
        self.judged = ExitStack()
        self.operations: dict[str, Callable[[dict[str, Any], Decoder], Any]] = {
            "open": self._open,
            "reach": self._reach,
            "beside": self._beside,
            "ahead": self._ahead,
            "call": self._call,
            "backward": self._backward,
            "get": lambda m, read: getattr(self.objects[m["object"]], m["name"]),
            "set": lambda m, read: setattr(self.objects[m["object"]], m["name"], read(m["value"])),
            "item": lambda m, read: self.objects[m["object"]][read(m["key"])],
            "put": self._put_item,
            "length": lambda m, read: len(self.objects[m["object"]]),
            "list": lambda m, read: list(islice(iter(self.objects[m["object"]]), MAX_ITEMS)),
            "begin": self._begin,
        }

    def serve(self) -> None:
        """Answers one request after the other until the judge hangs up."""
        while True:
            try:
                message, buffers = receive(self.connection, MAX_BUFFERS)
            except (Closed, WireError):
                os._exit(EXIT_ON_CLOSED)
            encode = Encoder(self._handle)
            try:
                for number in message.get("forget", ()):
                    self.objects.pop(number, None)
                if "end" in message:
                    self._end()
                if "seed" in message:
                    self._seed(message["seed"])
                read = Decoder(buffers, self._known)
                result = self.operations[message["do"]](message, read)
                answer = result(encode) if isinstance(result, _Answer | _Answers) else {"value": encode(result)}
            except BaseException as error:
                encode = Encoder(self._handle)
                answer = {"error": _described(error)}
            try:
                send(self.connection, {"to": message.get("to"), **answer}, encode.buffers)
            except Closed:
                os._exit(EXIT_ON_CLOSED)

    # -- what crosses by number instead of by value

    def _handle(self, value: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.objects[number] = value
        return {"$": "object", "i": number, "k": type(value).__name__[:80], "c": callable(value)}

    def _known(self, value: dict[str, Any]) -> Any:
        if value["$"] == "object":
            return self.objects[value["i"]]
        raise WireError(f"unknown tag {value['$']!r}")

    # -- operations

    def ask_for_module(self, key: int, name: str) -> ModuleCode:
        send(self.connection, {"need": name, "package": key})
        message, buffers = receive(self.connection, MAX_BUFFERS)
        if "missing" in message:
            raise ModuleNotFoundError(message["missing"])
        read = Decoder(buffers, self._known)
        code: tuple[CodeType, ...] = marshal.loads(read(message["code"]))
        text = read(message["text"]).decode(errors="surrogatepass")
        return ModuleCode(code, message["path"], message["seeded_from"], frozenset(message["own"]), text)

    def _open(self, message: dict[str, Any], read: Decoder) -> Any:
        key = message["package"]
        if key not in self.packages:
            names, homes = frozenset(message["names"]), message["homes"]
            self.packages[key] = Package(_RemoteModules(self, key, names, homes))
        package = self.packages[key]
        try:
            with preserved_state():
                return Opened(package, message["module"])
        except BaseException:
            package.forget(message["module"])
            raise

    def _reach(self, message: dict[str, Any], read: Decoder) -> Any:
        try:
            return list(self.objects[message["object"]].reach(message["symbol"], read(message["wanted"])))
        except Gone:
            return None

    def _beside(self, message: dict[str, Any], read: Decoder) -> Any:
        scenario = _function(read(message["scenario"]))
        return self.objects[message["object"]].beside(scenario, read(message["values"]))

    def _ahead(self, message: dict[str, Any], read: Decoder) -> Any:
        scenarios = [_function(read(shipped)) for shipped in message["scenarios"]]
        return _Answers(self, self.objects[message["object"]], scenarios, message, read)

    def _call(self, message: dict[str, Any], read: Decoder) -> Any:
        function = self.objects[message["object"]]
        if message["name"]:
            function = getattr(function, message["name"])
        args, kwargs = read(message["args"]), read(message["kwargs"])
        given = list(tensors_in([args, kwargs]))
        before = [_clone(tensor.detach()) for tensor in given]
        with torch.set_grad_enabled(message["grad"]):
            result = function(*args, **kwargs)
        outputs = [t for t in tensors_in(result) if isinstance(t, torch.Tensor) and t.grad_fn is not None]
        answer = _Answer(result, given, before)
        if outputs:
            answer.graph = next(self.numbers)
            self.objects[answer.graph] = outputs, [tensor for tensor in given if tensor.requires_grad]
        return answer

    def _backward(self, message: dict[str, Any], read: Decoder) -> Any:
        outputs, inputs = self.objects[message["object"]]
        grads = read(message["grads"])
        for tensor in inputs:
            tensor.grad = None
        pairs = [(output, grad) for output, grad in zip(outputs, grads, strict=True) if grad is not None]
        # a scalar with these gradients: with gradients given, torch would first import sympy, which takes a second
        scalars = [(output * grad.conj()).real.sum() for output, grad in pairs]
        torch.autograd.backward(scalars, retain_graph=True)
        return [None if tensor.grad is None else tensor.grad.detach() for tensor in inputs]

    def _put_item(self, message: dict[str, Any], read: Decoder) -> None:
        self.objects[message["object"]][read(message["key"])] = read(message["value"])

    def _begin(self, message: dict[str, Any], read: Decoder) -> None:
        self._end()
        # others are graded beside this one
        torch.set_num_threads(1)
        # whatever runs in a check is seeded first
        self.judged.enter_context(preserved_state(chance=False))
        modules = [module for package in self.packages.values() for module in package.loaded()]
        self.judged.enter_context(unavailable(message["unavailable"], modules=modules))

    def _end(self) -> None:
        self.judged.close()
        self.judged = ExitStack()

    def _seed(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)


class _Answer:
    """What a call returned, which of its arguments it changed, and the graph that leads back through it."""

    def __init__(self, value: Any, given: list[torch.Tensor], before: list[torch.Tensor]) -> None:
        self.value, self.given, self.before = value, given, before
        self.graph: int | None = None

    def __call__(self, encode: Encoder) -> dict[str, Any]:
        changed = [
            [number, encode(tensor.detach())]
            for number, (tensor, before) in enumerate(zip(self.given, self.before, strict=True))
            if not same_tensor(tensor.detach(), before)
        ]
        return {"value": encode(self.value), "changed": changed, "graph": self.graph}


class _Answers:
    """What comes of many scenarios, each run after seeding: a value, or what it raised."""

    def __init__(
        self, worker: Worker, opened: Opened, scenarios: list[FunctionType], message: dict[str, Any], read: Decoder
    ) -> None:
        self.worker, self.opened, self.scenarios, self.message, self.read = worker, opened, scenarios, message, read

    def __call__(self, encode: Encoder) -> dict[str, Any]:
        return {"answers": [self._answer(which, values, encode) for which, values in self.message["questions"]]}

    def _answer(self, which: int, values: Any, encode: Encoder) -> dict[str, Any]:
        self.worker._seed(self.message["seed"])
        try:
            return {"value": encode(self.opened.beside(self.scenarios[which], self.read(values)))}
        except BaseException as error:
            return {"error": _described(error)}


def _function(shipped: dict[str, Any]) -> FunctionType:
    """A scenario from its code, among the functions, imports and plain values of its suite that it names."""
    names: dict[str, Any] = {"__builtins__": builtins, "__name__": "scenario", **shipped["values"]}
    for name, (module, attribute) in shipped["imports"].items():
        found = importlib.import_module(module)
        names[name] = getattr(found, attribute) if attribute else found
    for name, (code, defaults, keywords) in shipped["functions"].items():
        function = FunctionType(marshal.loads(code), names, name, defaults)
        function.__kwdefaults__ = keywords
        names[name] = function
    scenario: FunctionType = names[shipped["name"]]
    return scenario


def _described(error: BaseException) -> dict[str, Any]:
    """An exception as plain data, and those in whose handling it was raised."""
    return {**_alone(error), "earlier": [_alone(one) for one in earlier(error)[:MOST_EARLIER]]}


def _alone(error: BaseException) -> dict[str, Any]:
    """The nearest builtin kind, what it says, and where it came by."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if getattr(builtins, kind.__name__, None) is kind]
    try:
        text = str(error)[:MAX_TEXT]
    except BaseException:
        text = "(its message cannot be read)"
    frames = [
        [frame.f_code.co_filename[:MAX_TEXT], line, frame.f_code.co_name[:MAX_TEXT]]
        for frame, line in islice(traceback.walk_tb(error.__traceback__), 1000)
    ]
    return {
        "kind": type(error).__name__[:80],
        "builtin": kinds[0] if kinds else "Exception",
        "text": text,
        "frames": frames[:1] + frames[1:][-MAX_FRAMES:],
    }


assert (1 + MOST_EARLIER) * MAX_FRAMES * MAX_TEXT * 2 < MAX_HEADER, "an exception must fit into a header"
