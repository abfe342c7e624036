"""What suites assert with: the value that came back beside the one expected, kept as evidence for the message."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

# of a number in a message
DIGITS, ALL_DIGITS = 6, 17
# relative errors that correct float arithmetic on the suites' inputs stays below, whatever the order of operations
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 4e-2}
# how many times as far off as double precision allows a result is that has been through single precision
SINGLE = 100
# two-sided false-alarm rate of one statistical comparison; 6.5 standard errors leave room for tails heavier than normal
FALSE_ALARM = 1e-9
STANDARD_ERRORS = 6.5


@dataclass(frozen=True)
class Observation:
    """One value that a check looked at: what was evaluated, what came back, and what was expected."""

    call: str
    got: Any
    want: Any


_observations: ContextVar[list[Observation] | None] = ContextVar("observations", default=None)


@contextmanager
def observing() -> Iterator[list[Observation]]:
    """Collects everything that `expect` and its like look at in the block, in order, the mismatch included."""
    seen: list[Observation] = []
    token = _observations.set(seen)
    try:
        yield seen
    finally:
        _observations.reset(token)


_measured: ContextVar[list[float] | None] = ContextVar("measured", default=None)


@contextmanager
def measuring() -> Iterator[list[float]]:
    """Collects by how many tolerances values are off in the block; `expect` then raises nothing and goes on."""
    excesses: list[float] = []
    token = _measured.set(excesses)
    try:
        yield excesses
    finally:
        _measured.reset(token)


_sampled: ContextVar[list[float] | None] = ContextVar("sampled", default=None)


@contextmanager
def sampling() -> Iterator[list[float]]:
    """Collects by how many standard errors each statistic that is compared in the block is off, with its sign."""
    errors: list[float] = []
    token = _sampled.set(errors)
    try:
        yield errors
    finally:
        _sampled.reset(token)


def _observe(call: str, got: Any, want: Any) -> None:
    seen = _observations.get()
    if seen is not None:
        seen.append(Observation(call, _kept(got), _kept(want)))


def _kept(value: Any) -> Any:
    """The value as it is now: a tensor that is written to later must not change the record."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, list | tuple):
        return [_kept(item) for item in value]
    if isinstance(value, dict):
        return {key: _kept(item) for key, item in value.items()}
    return value


class Mismatch(AssertionError):
    """A value that a check received is not the one it expected.

    `call` says in the exercise's words what was evaluated; `got` and `want` are the values; `problem` is one
    sentence where the kind of value, and not its amount, is wrong. `excess` is the error in units of the tolerance.
    """

    def __init__(self, call: str, got: Any, want: Any, problem: str = "", excess: float = math.inf) -> None:
        self.call, self.got, self.want, self.problem, self.excess = call, got, want, problem, excess
        super().__init__(f"{call}: {problem or _told(got, want)}")


def expect(
    got: Any,
    want: Any,
    call: str,
    *,
    tol: float | None = None,
    scale: float | torch.Tensor | None = None,
) -> None:
    """Raises Mismatch unless `got` is `want`: first the type, shape and dtype, then finiteness and the values.

    The type of `want` says what is expected: a tensor, a float, an int, a bool, a string, None, or a list, tuple or
    dict of those. Floats may differ by `tol` times `scale`: `tol` follows from the dtype unless given, and `scale`
    is the largest expected magnitude unless given (a number, or a tensor that broadcasts to `want`).
    """
    _observe(call, got, want)
    measured = _measured.get()
    if measured is None:
        _match(got, want, call, tol, scale)
        return
    try:
        _match(got, want, call, tol, scale)
    except Mismatch as mismatch:
        measured.append(mismatch.excess)


def _match(
    got: Any, want: Any, call: str, tol: float | None, scale: float | torch.Tensor | None, *, inside: bool = False
) -> None:
    problem = _kind_problem(got, want, inside=inside)
    if problem:
        raise Mismatch(call, got, want, problem)
    if isinstance(want, torch.Tensor):
        _expect_tensor(got, want, call, tol, scale)
    elif isinstance(want, float):
        size = scale if scale is not None else max(abs(want), 1e-12)
        excess = _excess(abs(float(got) - want), (1e-6 if tol is None else tol) * float(size))
        if float(got) != want and not (math.isnan(want) and math.isnan(got)) and not excess <= 1:
            raise Mismatch(call, got, want, excess=excess)
    elif isinstance(want, list | tuple):
        if len(got) != len(want):
            raise Mismatch(call, got, want, f"has {len(got)} entries, expected {len(want)}")
        for index, (one, other) in enumerate(zip(got, want, strict=True)):
            _match(one, other, f"{call}[{index}]", tol, scale, inside=True)
    elif isinstance(want, dict):
        if set(got) != set(want):
            have, expected = sorted(map(str, got)), sorted(map(str, want))
            raise Mismatch(call, have, expected, f"has the keys {have}, expected {expected}")
        for key in want:
            _match(got[key], want[key], f"{call}[{key!r}]", tol, scale, inside=True)
    elif got != want:
        raise Mismatch(call, got, want)


def expect_statistic(got: Any, want: float, standard_error: float, call: str) -> None:
    """Raises Mismatch unless a statistic of a random draw lies within its sampling error of `want`.

    `standard_error` is the statistic's own standard deviation, derived where the check is written. A right answer
    fails at most once in 1e9 comparisons.
    """
    sampled = _sampled.get()
    if sampled is not None:
        sampled.append((float(got) - float(want)) / standard_error)
    expect(float(got), float(want), call, tol=STANDARD_ERRORS, scale=standard_error)


@contextmanager
def rejects(error: type[BaseException], call: str) -> Iterator[None]:
    """Raises Mismatch unless the block raises `error`: use it beside a valid call that must work."""
    try:
        yield
    except error as raised:
        # a stub's NotImplementedError is a RuntimeError, and says nothing of the argument
        if isinstance(raised, NotImplementedError):
            raise
    except (
        ArithmeticError,
        AssertionError,
        AttributeError,
        LookupError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as raised:
        if isinstance(raised, NotImplementedError | Mismatch):
            raise
        _refuse(type(raised).__name__, error, call)
    else:
        _refuse(None, error, call)


def refused(outcome: str | None, error: type[BaseException], call: str) -> None:
    """Raises Mismatch unless `outcome`, what a scenario saw a call raise, is the name of `error`; None is no error."""
    if outcome != error.__name__:
        _refuse(outcome, error, call)


def _refuse(outcome: str | None, error: type[BaseException], call: str) -> NoReturn:
    got = outcome or "no error"
    _observe(call, got, error.__name__)
    problem = f"raised {outcome or 'nothing'}, expected {error.__name__}"
    raise Mismatch(call, got, error.__name__, problem) from None


@contextmanager
def unchanged(**inputs: torch.Tensor) -> Iterator[None]:
    """Raises Mismatch when the block changes one of `inputs`, given by the names that a student knows them by."""
    before = {name: value.detach().clone() for name, value in inputs.items()}
    yield
    for name, value in inputs.items():
        expect(
            value.detach(), before[name], f"{name} after the call: an exercise leaves its inputs as they are;", tol=0
        )


def show(value: Any, width: int = 300, digits: int = DIGITS) -> str:
    """A value as a student would write it down: small tensors whole, large ones by shape and first entries."""
    if isinstance(value, torch.Tensor):
        text = _show_tensor(value, digits)
    elif isinstance(value, float):
        text = f"{value:.{digits}g}"
    elif isinstance(value, list | tuple) and type(value) in (list, tuple):
        inside = ", ".join(show(item, width, digits) for item in value[:12]) + (", ..." if len(value) > 12 else "")
        text = f"[{inside}]" if isinstance(value, list) else f"({inside})"
    elif isinstance(value, type):
        text = value.__name__
    else:
        text = repr(value)
    return text if len(text) <= width else text[: width - 4] + " ..."


def apart(got: Any, want: Any) -> tuple[str, str]:
    """What came back and what was expected, with as many digits as it takes to tell them apart."""
    return _apart(lambda digits: (show(got, digits=digits), show(want, digits=digits)))


def _told(got: Any, want: Any) -> str:
    came, expected = apart(got, want)
    return f"came back {came}, expected {expected}"


def _apart(texts: Callable[[int], tuple[str, str]]) -> tuple[str, str]:
    """Two texts with six digits, or with all of them where they look the same."""
    one, other = texts(DIGITS)
    return texts(ALL_DIGITS) if one == other else (one, other)


def _show_tensor(t: torch.Tensor, digits: int) -> str:
    t = t.detach().cpu()
    dtype = "" if t.dtype in (torch.float32, torch.int64, torch.bool) else f", {str(t.dtype).removeprefix('torch.')}"
    if t.numel() <= 12:
        return f"tensor({_round(t.tolist(), digits)}{dtype})"
    first = ", ".join(f"{x:.4g}" for x in t.flatten()[:4].tolist())
    return f"tensor of shape {tuple(t.shape)}{dtype}, beginning [{first}, ...]"


def _round(value: Any, digits: int) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(_round(item, digits) for item in value) + "]"
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _kind_problem(got: Any, want: Any, *, inside: bool) -> str:
    """What is wrong with the kind of value that came back, in one sentence; empty when nothing is.

    `inside` a list or dict, which did come back, a None is no sign of a missing `return`.
    """
    if want is not None and got is None:
        return f"came back None, expected {show(want)}" if inside else "came back None: is a `return` missing?"
    if isinstance(want, torch.Tensor):
        if not isinstance(got, torch.Tensor):
            return f"came back as a {_kind(got)}, expected a tensor of shape {tuple(want.shape)}"
        if got.shape != want.shape:
            return f"came back with shape {tuple(got.shape)}, expected {tuple(want.shape)}"
        if got.dtype != want.dtype:
            return f"came back as {got.dtype}, expected {want.dtype}"
        return ""
    for kind in (bool, int, float, str):
        if isinstance(want, kind):
            fits = (
                isinstance(got, int | float) and not isinstance(got, bool) if kind is float else isinstance(got, kind)
            )
            if kind is int and isinstance(got, bool):
                fits = False
            return "" if fits else f"came back as a {_kind(got)}, expected a Python {kind.__name__}: {show(want)}"
    if isinstance(want, list | tuple | dict) and not isinstance(
        got, list | tuple if not isinstance(want, dict) else dict
    ):
        return f"came back as a {_kind(got)}, expected a {type(want).__name__}"
    return ""


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"tensor of shape {tuple(value.shape)}"
    names: dict[type, str] = {float: "Python float", int: "Python int", bool: "Python bool", str: "string"}
    module = type(value).__module__
    name = names.get(type(value), type(value).__name__)
    return name if module == "builtins" else f"{module.partition('.')[0]} {name}"


def _expect_tensor(
    got: torch.Tensor, want: torch.Tensor, call: str, tol: float | None, scale: float | torch.Tensor | None
) -> None:
    if want.numel() == 0:
        return
    if not want.is_floating_point():
        if not torch.equal(got.cpu(), want.cpu()):
            raise Mismatch(call, got, want, _where(got, want, (got != want)))
        return
    one, other = got.detach().cpu().double(), want.detach().cpu().double()
    size = scale if scale is not None else _magnitude(other)
    if isinstance(size, torch.Tensor):
        size = size.detach().cpu().double()
    allowed = (TOLERANCE[want.dtype] if tol is None else tol) * size
    # NaN is within no bound, and infinity within none but infinity
    if bool(((one - other).abs() <= allowed).all()) and not (tol == math.inf and not torch.isfinite(one).all()):
        return
    # only now, for it takes time: infinities and NaNs, those that are expected and those that are not
    if not torch.isfinite(one).all() and torch.isfinite(other).all():
        bad = "nan" if torch.isnan(one).any() else "inf"
        raise Mismatch(call, got, want, f"came back with {bad} in it, expected {show(want)}")
    allowed = torch.as_tensor(allowed, dtype=torch.float64)
    same = (one == other) | (torch.isnan(one) & torch.isnan(other))
    error = torch.where(same, 0.0, (one - other).abs())
    ratio = torch.where(same, 0.0, error / allowed.clamp_min(1e-300)).nan_to_num(nan=math.inf, posinf=math.inf)
    if bool((ratio > 1).any()):
        problem, excess = _where(got, want, ratio > 1), float(ratio.max())
        if want.dtype == torch.float64 and tol is None and excess <= SINGLE:
            told = problem or _told(got, want)
            problem = f"{told}: right to six digits only; was something calculated in float32?"
        raise Mismatch(call, got, want, problem, excess)


def _magnitude(t: torch.Tensor) -> float:
    """The largest finite magnitude in `t`, or 1."""
    largest = float(t.abs().max())
    if math.isfinite(largest):
        return largest
    finite = t[torch.isfinite(t)]
    return float(finite.abs().max()) if finite.numel() else 1.0


def _where(got: torch.Tensor, want: torch.Tensor, differs: torch.Tensor) -> str:
    """For tensors too large to read whole: the first entry that differs, and how many do."""
    if want.numel() <= 12:
        return ""
    index = tuple(differs.nonzero()[0].tolist())
    one, other = got.detach()[index].item(), want.detach()[index].item()
    many = int(differs.sum())
    place = f"[{', '.join(map(str, index))}]"
    came, expected = _apart(lambda digits: (f"{one:.{digits}g}", f"{other:.{digits}g}"))
    return f"at {place} came back {came}, expected {expected} ({many} of {want.numel()} entries differ)"


def _excess(error: float, allowed: float) -> float:
    return error / max(allowed, 1e-300) if math.isfinite(error) else math.inf
