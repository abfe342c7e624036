"""Frames between the judge and a worker: a JSON header and raw tensor buffers, nothing that could be code.

A frame is `<header bytes: u32><buffer bytes: u64><header><buffers>`. Nothing is unpickled. Whoever receives checks
every length, shape and tag, for the other side may be hostile; what does not fit raises WireError.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

PREFIX = struct.Struct("<IQ")
MEGABYTE = 1 << 20
MAX_HEADER = 4 * MEGABYTE
SMALL = 1 << 16
MAX_DEPTH = 64
MAX_DIMENSIONS = 32
# entries that an empty tensor would have if no side were 0
MAX_EMPTY = 100_000
# how much more room than its buffers the values of a frame may take, where entries lie apart from each other
MAX_GROWTH, SPARE = 4, 64 * MEGABYTE
# beyond this JSON's numbers are no longer exact for every reader
EXACT = 2**53

DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float16,
        torch.bfloat16,
        torch.float32,
        torch.float64,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint8,
        torch.bool,
        torch.complex64,
        torch.complex128,
    )
}
# what NumPy has too, and so few entries that to copy them is quicker than to look at them as bytes
COMMON, FEW = {torch.float32, torch.float64, torch.int64, torch.bool}, 4096
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
# how long one wait of the kernel lasts before the deadline is looked at again
TICK = struct.pack("ll", 0, 200_000)
as_json = json.JSONEncoder(separators=(",", ":")).encode

NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class WireError(Exception):
    """A frame that breaks the rules, or a value that cannot cross."""


class Closed(Exception):
    """The other side has gone."""


class Late(Exception):
    """The deadline has passed."""


def send(
    connection: socket.socket,
    header: dict[str, Any],
    buffers: Iterable[bytes | memoryview] = (),
    deadline: float | None = None,
) -> None:
    """Writes one frame; raises Closed when nobody reads any more, and Late after `deadline` (monotonic seconds)."""
    text = as_json(header).encode()
    blocks = list(buffers)
    size = sum(len(block) for block in blocks)
    try:
        if size < SMALL:
            # one question at a time is under way, and the kernel's buffer has room for it: this does not wait
            connection.sendall(b"".join((PREFIX.pack(len(text), size), text, *blocks)))
        else:
            connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 1e-3))
            connection.sendall(PREFIX.pack(len(text), size) + text)
            for block in blocks:
                connection.sendall(block)
            connection.settimeout(None)
    except TimeoutError:
        raise Late from None
    except OSError as error:
        raise Closed(str(error)) from None


def bounded(connection: socket.socket) -> socket.socket:
    """The same connection, whose waits end often enough to look at a deadline."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, TICK)
    return connection


def receive(
    connection: socket.socket, max_buffers: int, deadline: float | None = None
) -> tuple[dict[str, Any], bytearray]:
    """Reads one frame with at most `max_buffers` bytes of buffers; raises WireError, Closed or Late."""
    header_size, size = PREFIX.unpack(_read(connection, PREFIX.size, deadline))
    if header_size > MAX_HEADER or size > max_buffers:
        raise WireError(f"a frame of {header_size + size} bytes is too large")
    if size < SMALL:
        block = _read(connection, header_size + size, deadline)
        text, buffers = block[:header_size], block[header_size:]
    else:
        text, buffers = _read(connection, header_size, deadline), _read(connection, size, deadline)
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a header is no JSON ({type(error).__name__})") from None
    if not isinstance(header, dict):
        raise WireError("a header is no object")
    return header, buffers


def _read(connection: socket.socket, size: int, deadline: float | None) -> bytearray:
    block = bytearray(size)
    view, left = memoryview(block), size
    while left:
        try:
            count = connection.recv_into(view[size - left :], min(left, MEGABYTE))
        except BlockingIOError:
            count = None
        except OSError as error:
            raise Closed(str(error)) from None
        if count == 0:
            raise Closed("end of stream")
        left -= count or 0
        # a peer that sends byte by byte must not begin a new wait with each of them
        if left and deadline is not None and time.monotonic() > deadline:
            raise Late
    return block


class Encoder:
    """Turns Python values into JSON, and tensors into buffers, for one frame.

    `other` is asked for anything that is not plain data: it returns a tagged object, or raises.
    """

    def __init__(self, other: Callable[[Any], dict[str, Any]]) -> None:
        self.other = other
        self.buffers: list[bytes | memoryview] = []
        self.size = 0

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise WireError("a value is nested too deeply")
        if value is None or type(value) in (bool, str):
            return value
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, str):
            return str.__str__(value)
        if isinstance(value, int) and not isinstance(value, bool):
            return self._int(int(value))
        if isinstance(value, float):
            number = float(value)
            return {"$": "float", "v": repr(number) if math.isfinite(number) else _not_finite(number)}
        if isinstance(value, list | tuple):
            # by the base's own means: a subclass may have others
            name, inside = (
                ("list", list.__iter__(value)) if isinstance(value, list) else ("tuple", tuple.__iter__(value))
            )
            return {"$": name, "v": [self(item, depth + 1) for item in inside]}
        if isinstance(value, dict):
            pairs = [[self(key, depth + 1), self(item, depth + 1)] for key, item in dict.items(value)]
            return {"$": "dict", "v": pairs}
        if isinstance(value, torch.dtype):
            return {"$": "dtype", "v": DTYPE_NAMES.get(value, "")}
        if isinstance(value, torch.device):
            return {"$": "device", "v": str(value)}
        if isinstance(value, slice):
            return {"$": "slice", "v": [self(part, depth + 1) for part in (value.start, value.stop, value.step)]}
        if isinstance(value, bytes):
            return {"$": "bytes", **self._block(value)}
        return self.other(value)

    @staticmethod
    def _int(value: int) -> Any:
        return value if -EXACT < value < EXACT else {"$": "int", "v": hex(value)}

    def _tensor(self, value: torch.Tensor) -> dict[str, Any]:
        plain = value.detach()
        if type(plain) is not torch.Tensor:
            plain = plain.as_subclass(torch.Tensor)
        if plain.layout != torch.strided or plain.is_quantized or plain.dtype not in DTYPE_NAMES:
            return self.other(value)
        plain = plain.cpu().resolve_conj().resolve_neg()
        block: bytes | memoryview
        if plain.dtype in COMMON and plain.numel() < FEW:
            block = plain.numpy().tobytes()
        else:
            # the stride of a single entry can be anything, until it is said again
            flat = plain.contiguous().as_strided((plain.numel(),), (1,))
            block = flat.view(torch.uint8).numpy().data.cast("B") if plain.numel() else b""
        found = {"$": "tensor", "d": DTYPE_NAMES[plain.dtype], "s": list(plain.shape), "g": bool(value.requires_grad)}
        # strides cross too: code that mishandles an unusual layout must be met by it
        if plain.numel() and not plain.is_contiguous() and _fills(plain.shape, plain.stride()):
            found["t"] = list(plain.stride())
        if value.grad_fn is not None:
            found["l"] = True
        grad = value.grad if value.is_leaf else None
        if grad is not None:
            found["r"] = self._tensor(grad)
        return {**found, **self._block(block)}

    def _block(self, block: bytes | memoryview) -> dict[str, Any]:
        place = {"o": self.size, "n": len(block)}
        self.buffers.append(block)
        self.size += len(block)
        return place


def _not_finite(number: float) -> str:
    return "nan" if math.isnan(number) else "inf" if number > 0 else "-inf"


def _fills(shape: Sequence[int], strides: Sequence[int]) -> bool:
    """Whether no two entries share memory, and not much of it lies idle between them."""
    span = 1
    for stride, size in sorted(zip(strides, shape, strict=True)):
        if size > 1:
            if stride < span:
                return False
            span += (size - 1) * stride
    return span <= 2 * math.prod(shape) + 4096


class Decoder:
    """Turns one received frame back into values; `other` decides on tags that are not plain data, or raises."""

    def __init__(self, buffers: bytearray, other: Callable[[dict[str, Any]], Any]) -> None:
        self.buffers, self.other = buffers, other
        self.taken = 0
        # the tensors that were computed by operations that can be differentiated
        self.live: list[torch.Tensor] = []

    def __call__(self, value: Any, depth: int = 0) -> Any:
        if depth > MAX_DEPTH:
            raise WireError("a value is nested too deeply")
        if value is None or isinstance(value, bool | str | int):
            return value
        if not isinstance(value, dict):
            raise WireError("a bare list or number stands where a value should")
        try:
            return self._tagged(value, depth)
        except (WireError, Closed):
            raise
        except Exception as error:
            raise WireError(f"a value is malformed ({type(error).__name__})") from None

    def _tagged(self, value: dict[str, Any], depth: int) -> Any:
        match value.get("$"):
            case "tensor":
                return self._tensor(value, depth)
            case "float":
                text = value["v"]
                return NOT_FINITE[text] if text in NOT_FINITE else float(text)
            case "int":
                return int(_short(value["v"]), 16)
            case "list":
                return [self(item, depth + 1) for item in value["v"]]
            case "tuple":
                return tuple(self(item, depth + 1) for item in value["v"])
            case "dict":
                return {self(key, depth + 1): self(item, depth + 1) for key, item in value["v"]}
            case "dtype":
                return DTYPES[value["v"]]
            case "device":
                return torch.device(_short(value["v"]))
            case "slice":
                return slice(*(self(part, depth + 1) for part in value["v"]))
            case "bytes":
                return bytes(self._block(value))
            case _:
                return self.other(value)

    def _tensor(self, value: dict[str, Any], depth: int) -> torch.Tensor:
        if depth > MAX_DEPTH:
            raise WireError("a value is nested too deeply")
        dtype, shape = DTYPES[value["d"]], value["s"]
        if len(shape) > MAX_DIMENSIONS or not all(type(side) is int and 0 <= side < EXACT for side in shape):
            raise WireError("a tensor's shape is malformed")
        block = self._block(value)
        if math.prod(shape) * dtype.itemsize != len(block):
            raise WireError("a tensor's size and shape disagree")
        if not block and math.prod(side or 1 for side in shape) > MAX_EMPTY:
            # taken apart, it would become as many tensors
            raise WireError("an empty tensor has too long sides")
        # a copy: the numbers outlive the frame, and stand where their type wants them to
        tensor = torch.frombuffer(bytearray(block), dtype=dtype) if block else torch.empty(0, dtype=dtype)
        if dtype == torch.bool:
            tensor = tensor.view(torch.uint8).ne(0)
        tensor = self._laid_out(tensor, shape, value.get("t"))
        if value.get("g") is True and dtype.is_floating_point:
            tensor.requires_grad_()
            if "r" in value:
                tensor.grad = self._tensor(value["r"], depth + 1)
        if value.get("l") is True:
            self.live.append(tensor)
        return tensor

    def _laid_out(self, tensor: torch.Tensor, shape: list[int], strides: list[int] | None) -> torch.Tensor:
        if strides is None:
            return tensor.reshape(shape)
        if len(strides) != len(shape) or not all(type(stride) is int and 0 <= stride < EXACT for stride in strides):
            raise WireError("a tensor's strides are malformed")
        if not _fills(shape, strides):
            raise WireError("a tensor's entries overlap or lie far apart")
        span = 1 + sum(max(size - 1, 0) * stride for size, stride in zip(shape, strides, strict=True))
        self._take(span * tensor.itemsize)
        return torch.empty_strided(shape, strides, dtype=tensor.dtype).copy_(tensor.reshape(shape))

    def _block(self, value: dict[str, Any]) -> memoryview:
        start, count = value["o"], value["n"]
        if type(start) is not int or type(count) is not int or not 0 <= start <= start + count <= len(self.buffers):
            raise WireError("a buffer lies outside its frame")
        self._take(count)
        return memoryview(self.buffers)[start : start + count]

    def _take(self, size: int) -> None:
        """A hundred thousand values could all be copies of one buffer: what the frame becomes here is bounded too."""
        self.taken += size
        if self.taken > MAX_GROWTH * len(self.buffers) + SPARE:
            raise WireError("the values of a frame take more memory than it has")


def _short(text: str) -> str:
    if not isinstance(text, str) or len(text) > 4000:
        raise WireError("a text stands for a number and is too long")
    return text
