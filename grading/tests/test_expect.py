"""expect: first the kind of value, then its amount; every difference is one that a student can read."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from grading.verdict import Mismatch, expect, expect_statistic, refused, rejects, show, unchanged

ONE = torch.tensor(1.0)


@pytest.mark.parametrize(
    ("got", "problem"),
    [
        (None, "came back None: is a `return` missing?"),
        (1.0, "came back as a Python float, expected a tensor of shape ()"),
        ([1.0], "came back as a list, expected a tensor"),
        (np.array(1.0), "came back as a numpy ndarray, expected a tensor"),
        (torch.ones(1), "came back with shape (1,), expected ()"),
        (ONE.double(), "came back as torch.float64, expected torch.float32"),
        (torch.tensor(math.nan), "came back with nan in it, expected tensor(1)"),
        (torch.tensor(math.inf), "came back with inf in it, expected tensor(1)"),
    ],
)
def test_the_kind_of_value_comes_first(got: object, problem: str) -> None:
    with pytest.raises(Mismatch) as raised:
        expect(got, ONE, "mean(t)")
    assert raised.value.problem.startswith(problem)


@pytest.mark.parametrize(
    ("got", "want"),
    [
        (True, 1),
        (1.0, 1),
        ("1", 1),
        (1, True),
        (ONE, 1.0),
        (True, 1.0),
        ((1,), {}),
        ([1], [1, 2]),
        ({"a": 1}, {"b": 1}),
    ],
)
def test_kinds_are_told_apart(got: object, want: object) -> None:
    with pytest.raises(Mismatch):
        expect(got, want, "call")


@pytest.mark.parametrize("got", [1, 1.0, np.float64(1.0)])
def test_a_float_may_be_any_real_number(got: object) -> None:
    expect(got, 1.0, "call")


@pytest.mark.parametrize(("dtype", "error", "fits"), [
    (torch.float32, 5e-5, True), (torch.float32, 5e-4, False),
    (torch.float64, 5e-9, True), (torch.float64, 5e-8, False),
])  # fmt: skip
def test_the_tolerance_follows_the_dtype(dtype: torch.dtype, error: float, fits: bool) -> None:
    want = torch.tensor([1.0, 0.1], dtype=dtype)
    if fits:
        expect(want + error, want, "call")
    else:
        with pytest.raises(Mismatch):
            expect(want + error, want, "call")


def test_a_scale_may_differ_from_entry_to_entry() -> None:
    want = torch.tensor([1.0, 1e-6])
    expect(want + torch.tensor([0.0, 1e-7]), want, "call")
    with pytest.raises(Mismatch) as raised:
        expect(want + torch.tensor([0.0, 1e-7]), want, "call", scale=want)
    assert raised.value.excess == pytest.approx(1000, rel=0.1)


def test_expected_nan_and_inf_are_matched_exactly() -> None:
    want = torch.tensor([math.nan, math.inf, 1.0])
    expect(want.clone(), want, "call")
    with pytest.raises(Mismatch):
        expect(torch.tensor([math.nan, -math.inf, 1.0]), want, "call")
    with pytest.raises(Mismatch):
        expect(torch.tensor([0.0, math.inf, 1.0]), want, "call")


def test_a_large_tensor_is_shown_by_its_first_difference() -> None:
    got = torch.zeros(4, 5)
    got[2, 3] = 0.5
    with pytest.raises(Mismatch) as raised:
        expect(got, torch.zeros(4, 5), "call", scale=1.0)
    assert raised.value.problem == "at [2, 3] came back 0.5, expected 0 (1 of 20 entries differ)"


def test_an_integer_tensor_is_matched_exactly() -> None:
    with pytest.raises(Mismatch):
        expect(torch.tensor([1, 2]), torch.tensor([1, 3]), "call")
    expect(torch.tensor([True]), torch.tensor([True]), "call")


def test_a_statistic_is_allowed_its_sampling_error() -> None:
    expect_statistic(1.06, 1.0, 0.01, "std")
    with pytest.raises(Mismatch):
        expect_statistic(1.07, 1.0, 0.01, "std")
    with pytest.raises(Mismatch):
        expect_statistic(math.nan, 1.0, 0.01, "std")


def test_rejects_wants_the_error_it_names() -> None:
    with rejects(ValueError, "f(x)"):
        raise ValueError("x")
    refused("ValueError", ValueError, "f(x)")
    with pytest.raises(Mismatch, match="raised nothing, expected ValueError"):
        refused(None, ValueError, "f(x)")
    with pytest.raises(Mismatch, match="raised TypeError, expected ValueError"):
        refused("TypeError", ValueError, "f(x)")
    with pytest.raises(Mismatch, match="raised nothing, expected ValueError"), rejects(ValueError, "f(x)"):
        pass
    with pytest.raises(Mismatch, match="raised RuntimeError, expected ValueError"), rejects(ValueError, "f(x)"):
        raise RuntimeError("broadcast")


@pytest.mark.parametrize("error", [ValueError, RuntimeError])
def test_a_stub_does_not_pass_for_a_refusal(error: type[Exception]) -> None:
    with pytest.raises(NotImplementedError), rejects(error, "f(x)"):
        raise NotImplementedError("f")


def test_as_many_digits_are_shown_as_it_takes() -> None:
    with pytest.raises(Mismatch, match=r"came back 0\.77000000000000002, expected 0\.77000\d+$"):
        expect(0.77, 0.7700001, "f(x)", tol=1e-9)
    one = torch.full((20,), 1 / 3, dtype=torch.float64)
    with pytest.raises(Mismatch, match=r"came back 0\.3333\d{10,}, expected 0\.3333\d{10,} \(20 of 20.*in float32\?"):
        expect(one.float().double(), one, "f(x)")
    with pytest.raises(Mismatch, match=r"came back tensor\(0\.3333\d{10,}, float64\), expected.*in float32\?"):
        expect(one[0].float().double(), one[0], "f(x)")
    with pytest.raises(
        Mismatch, match=r"came back tensor\(0\.333433, float64\), expected tensor\(0\.333333, float64\)$"
    ):
        expect(one[0] + 1e-4, one[0], "f(x)")


def test_changed_inputs_are_named() -> None:
    x = torch.zeros(2)
    with pytest.raises(Mismatch, match="x after the call"), unchanged(x=x):
        x += 1


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.tensor([1.0, 2.5]), "tensor([1, 2.5])"),
        (torch.tensor(1.0, dtype=torch.float64), "tensor(1, float64)"),
        (torch.zeros(100), "tensor of shape (100,), beginning [0, 0, 0, 0, ...]"),
        ((1, [2.0, None]), "(1, [2, None])"),
        (0.1 + 0.2, "0.3"),
        (list(range(20)), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...]"),
    ],
)
def test_values_are_shown_as_one_would_write_them(value: object, text: str) -> None:
    assert show(value) == text
