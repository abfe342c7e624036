"""The wire: what crosses arrives as it was, and whatever a hostile peer sends is an error and nothing worse."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from grading.sandbox._wire import (
    MAX_HEADER,
    PREFIX,
    Closed,
    Decoder,
    Encoder,
    Late,
    WireError,
    bounded,
    receive,
    send,
)

LIMIT = 1 << 16


def refused(value: Any) -> Any:
    raise WireError(f"a {type(value).__name__} cannot cross")


def crossed(value: Any) -> Any:
    encode = Encoder(refused)
    text = json.dumps(encode(value))
    return Decoder(bytearray(b"".join(encode.buffers)), refused)(json.loads(text))


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(value=plain)
def test_plain_values_arrive_as_they_were(value: Any) -> None:
    got = crossed(value)
    assert got == value
    assert type(got) is type(value)


@given(
    shape=st.lists(st.integers(0, 4), max_size=4),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool, torch.complex64]),
    order=st.randoms(use_true_random=False),
    step=st.integers(1, 3),
)
def test_tensors_arrive_with_their_strides(shape: list[int], dtype: torch.dtype, order: Any, step: int) -> None:
    sides = list(range(len(shape)))
    order.shuffle(sides)
    tensor = (torch.randn([*shape, step]) * 3).to(dtype)[..., 0].permute(sides)
    got = crossed(tensor)
    assert torch.equal(got, tensor)
    assert got.dtype == dtype
    assert got.is_contiguous() == tensor.is_contiguous()


def test_parameters_arrive_with_their_gradients() -> None:
    weight = torch.nn.Parameter(torch.randn(3))
    weight.grad = torch.randn(3)
    got = crossed(weight)
    assert got.requires_grad
    assert torch.equal(got.grad, weight.grad)


def test_special_floats_arrive() -> None:
    assert crossed(math.inf) == math.inf
    assert crossed(-math.inf) == -math.inf
    assert math.isnan(crossed(math.nan))


def test_objects_do_not_cross() -> None:
    for value in (object(), int, lambda: None, {1, 2}, torch.nn.Linear(1, 1)):
        with pytest.raises(WireError, match="cannot cross"):
            crossed(value)


def test_nesting_has_an_end() -> None:
    deep: Any = []
    for _ in range(100):
        deep = [deep]
    with pytest.raises(WireError, match="nested"):
        crossed(deep)
    wire: Any = {"$": "list", "v": []}
    for _ in range(100):
        wire = {"$": "list", "v": [wire]}
    with pytest.raises(WireError, match="nested"):
        Decoder(bytearray(), refused)(wire)


def recorded() -> bytes:
    """A frame as a worker sends it: a tensor, a number and text."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        encode = Encoder(refused)
        value = encode({"out": torch.randn(2, 3, requires_grad=True), "loss": 0.25, "name": "x", "n": [1, None]})
        send(theirs, {"value": value, "changed": [], "graph": 7}, encode.buffers)
        return ours.recv(LIMIT)


def taken(frame: bytes) -> Any:
    """What a judge makes of raw bytes: a value, or one of the errors that it knows."""
    ours, theirs = socket.socketpair()
    with ours:
        theirs.sendall(frame)
        theirs.close()
        try:
            header, buffers = receive(ours, LIMIT, time.monotonic() + 5)
            return Decoder(buffers, refused)(header.get("value"))
        except (WireError, Closed) as error:
            return error


@settings(max_examples=300)
@given(data=st.data())
def test_damaged_frames_are_errors(data: st.DataObject) -> None:
    frame = bytearray(recorded())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(frame) - 1))
        frame[place] = data.draw(st.integers(0, 255))
    taken(bytes(frame[: data.draw(st.integers(0, len(frame)))] if data.draw(st.booleans()) else frame))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["$", "v", "d", "s", "o", "n", "g", "r", "t", "l", "i", "k"]), inner, max_size=6
        )
    ),
    max_leaves=20,
)
tags = st.sampled_from(
    ["tensor", "float", "int", "list", "tuple", "dict", "dtype", "device", "slice", "bytes", "object"]
)


@settings(max_examples=500)
@given(tag=tags, fields=st.dictionaries(st.sampled_from("vdsongrtlik"), json_values), size=st.integers(0, 40))
def test_forged_values_are_errors(tag: str, fields: dict[str, Any], size: int) -> None:
    value = {**fields, "$": tag}
    try:
        got = Decoder(bytearray(size), refused)(value)
    except WireError:
        return
    if isinstance(got, torch.Tensor):
        assert got.numel() * got.element_size() <= size


@given(shape=st.lists(st.integers(-3, 2**60), min_size=1, max_size=40), strides=st.lists(st.integers(-2, 2**60)))
def test_forged_shapes_do_not_take_memory(shape: list[int], strides: list[int]) -> None:
    value = {"$": "tensor", "d": "float32", "s": shape, "t": strides, "o": 0, "n": 8}
    try:
        got = Decoder(bytearray(8), refused)(value)
    except WireError:
        return
    assert got.numel() == 2
    assert got.untyped_storage().nbytes() < 10_000


def test_an_empty_tensor_is_not_taken_apart_into_millions() -> None:
    value = {"$": "tensor", "d": "float32", "s": [8_000_000, 0], "o": 0, "n": 0}
    with pytest.raises(WireError, match="too long sides"):
        Decoder(bytearray(), dict.get)(value)
    assert crossed(torch.zeros(0, 1000)).shape == (0, 1000)


def test_frames_beyond_the_limit_are_not_read() -> None:
    assert isinstance(taken(PREFIX.pack(2, LIMIT + 1) + b"{}"), WireError)
    assert isinstance(taken(PREFIX.pack(MAX_HEADER + 1, 0)), WireError)
    assert isinstance(taken(PREFIX.pack(2, 0) + b"[]"), WireError)
    assert isinstance(taken(PREFIX.pack(50, 0) + b"[" * 50), WireError)
    assert isinstance(taken(b"\x01"), Closed)


def test_silence_meets_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(Late):
        receive(bounded(ours), LIMIT, time.monotonic() + 0.3)


def test_a_slow_drip_meets_the_deadline() -> None:
    ours, theirs = socket.socketpair()
    done = threading.Event()

    def drip() -> None:
        for byte in PREFIX.pack(1000, 0) + b"{" * 1000:
            if done.wait(0.02):
                return
            theirs.send(bytes([byte]))

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    start = time.monotonic()
    with pytest.raises(Late):
        receive(bounded(ours), LIMIT, start + 0.3)
    done.set()
    thread.join()
    ours.close()
    theirs.close()
    assert time.monotonic() - start < 5
