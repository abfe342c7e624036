"""Stand-ins on the judge's side for the objects that live in a worker, and for how its results were computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch

from grading.subject import SubjectDied

from ._wire import WireError

if TYPE_CHECKING:
    from ._processes import Worker

MAX_OBJECTS = 10_000
# what Hypothesis looks for in every argument
PROBED = {
    "_repr_pretty_", "hypothesis_internal_is_this_a_mock_check", "setup_example", "execute_example", "teardown_example",
}  # fmt: skip
# methods that every module has: they need not be fetched before they are called
MODULE_METHODS = frozenset(
    name for name in dir(torch.nn.Module) if not name.startswith("_") and callable(getattr(torch.nn.Module, name))
)


class Objects:
    """Makes stand-ins for the objects in one answer."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.many = worker, 0

    def __call__(self, value: dict[str, Any]) -> Any:
        number, kind = value["i"], value["k"]
        self.many += 1
        if value["$"] != "object" or type(number) is not int or self.many > MAX_OBJECTS:
            raise WireError("an object is malformed, or there are too many")
        name = kind if isinstance(kind, str) and kind.isidentifier() and len(kind) <= 80 else "object"
        return _stand_in(name, value.get("c") is True)(self.worker, number)


class Remote:
    """Stands for an object in a worker."""

    __slots__ = ("_number", "_worker")

    _worker: Worker
    _number: int

    def __init__(self, worker: Worker, number: int) -> None:
        object.__setattr__(self, "_worker", worker)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in PROBED:
            raise AttributeError(name)
        if name in MODULE_METHODS:
            return _Method(self, name)
        return self._worker.ask("get", object=self._number, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        encode = self._worker.encoder()
        self._worker.ask("set", encode, object=self._number, name=name, value=encode(value))

    def __getitem__(self, key: Any) -> Any:
        encode = self._worker.encoder()
        return self._worker.ask("item", encode, object=self._number, key=encode(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        encode = self._worker.encoder()
        self._worker.ask("put", encode, object=self._number, key=encode(key), value=encode(value))

    def __len__(self) -> int:
        return int(self._worker.ask("length", object=self._number))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._worker.ask("list", object=self._number))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __del__(self) -> None:
        self._worker.forgotten.append(self._number)


class RemoteCallable(Remote):
    """Stands for a function, a class, a method or a module."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._worker.call(self._number, None, args, kwargs)


@lru_cache(1000)
def _stand_in(name: str, is_callable: bool) -> type[Remote]:
    """A type named like what it stands for: messages say what came back by the name of its type."""
    return type(name, (RemoteCallable if is_callable else Remote,), {"__module__": "builtins", "__slots__": ()})


class _Method:
    """A method by its name: calling it is one request, and not two."""

    def __init__(self, owner: Remote, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.owner._worker.call(self.owner._number, self.name, args, kwargs)


def linked(worker: Worker, graph: int, value: Any, live: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> Any:
    """What a call has returned, whose tensors `live` were computed from `inputs`: gradients find the way back."""
    # the empty tensor makes the results require gradients also where no input does, but a parameter
    results = _Through.apply(  # type: ignore[no-untyped-call]
        worker, _Held(worker, graph), len(live), torch.empty(0, requires_grad=True), *live, *inputs
    )
    return _replaced(value, dict(zip(map(id, live), results, strict=True)))


class _Held:
    """Keeps the graph of one call alive in the worker for as long as a gradient may be asked of it."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.worker, self.number = worker, number

    def __del__(self) -> None:
        self.worker.forgotten.append(self.number)


class _Through(torch.autograd.Function):
    """Sends gradients at the results of a call to the worker, and hands back those at its arguments."""

    @staticmethod
    def forward(
        ctx: Any, worker: Worker, graph: _Held, many: int, extra: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.worker, ctx.graph, ctx.many = worker, graph, many
        ctx.shapes = [tensor.shape for tensor in tensors[many:]]
        ctx.set_materialize_grads(False)
        return tuple(tensor.detach().clone() for tensor in tensors[:many])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[Any, ...]:
        encode = ctx.worker.encoder()
        found = ctx.worker.ask("backward", encode, object=ctx.graph.number, grads=encode(list(grads)))
        if not isinstance(found, list) or len(found) != len(ctx.shapes):
            raise SubjectDied("broke the rules of its connection (as many gradients as arguments were expected)")
        return (None, None, None, None, *[None] * ctx.many, *found)


def _replaced(value: Any, by: dict[int, torch.Tensor]) -> Any:
    """`value` with some of its tensors exchanged, by their identity."""
    if isinstance(value, torch.Tensor):
        return by.get(id(value), value)
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, by) for item in value)
    if isinstance(value, dict):
        return {key: _replaced(item, by) for key, item in value.items()}
    return value
