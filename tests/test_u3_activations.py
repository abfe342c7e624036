"""The laws of unit 3. Expected values come from the definitions, piece by piece, in float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import dtypes, generator, normal, numbers, seeds, tensors
from torch import nn

from grading.verdict import expect, unchanged


def slopes():
    """Slopes of a leak, from none to nearly that of the identity; 0.0 often enough, exact also in float32."""
    return st.just(0.0) | st.integers(0, 14).map(lambda sixteenths: sixteenths / 16)


def caps():
    """Caps above 0, below 0 and at 0, which is the last to be tried: there several wrong answers agree."""
    return numbers(0.1, 2) | numbers(-1, -0.1) | st.just(0.0)


def maybe(values):
    """One of `values`, or None."""
    return st.none() | values


def general(x, leak=None, sub=None, maxv=None, max_leak=None):
    """The general ReLU of `x`, and its slope at `x`, in float64."""
    x = x.double()
    negative = 0.0 if leak is None else leak
    y = torch.where(x > 0, x, negative * x) - (0.0 if sub is None else sub)
    slope = torch.where(x > 0, torch.ones_like(x), torch.full_like(x, negative))
    if maxv is not None:
        above = 0.0 if max_leak is None else max_leak
        slope = torch.where(y > maxv, above * slope, slope)
        y = torch.where(y > maxv, maxv + above * (y - maxv), y)
    return y, slope


def _relu_gradient(pieces, *, x, upstream):
    x = x.clone().requires_grad_()
    y = pieces.relu(x)
    (y * upstream).sum().backward()
    return {"relu(x)": y.detach(), "gradient of x": x.grad}


def _relu_afresh(pieces, *, x):
    """Two results of one shape, and the input after the first result was written over."""
    first, other = pieces.relu(x), pieces.relu(-x)
    found = {"relu(x)": first.clone(), "relu(-x)": other.clone()}
    first.fill_(-1)
    return {**found, "x after relu(x) was written over": x}


@pytest.mark.weight(2)
@given(x=tensors())
def test_relu_value(relu, x):
    """The ReLU is max(x, 0), element by element, as a new tensor."""
    with unchanged(x=x):
        got = relu(x)
    expect(got, torch.where(x > 0, x, torch.zeros_like(x)), "relu(x)")
    expect(relu(x.new_empty(0, 3)), x.new_empty(0, 3), "relu(x) of an x without elements")


@settings(max_examples=5)
@given(seed=seeds(), dtype=dtypes())
def test_relu_afresh(relu, beside, seed, dtype):
    """Every result is a new tensor: nothing that is later done to it or to others changes x or another result."""
    x = normal((2, 3), seed, dtype=dtype).abs() + 0.5
    want = {"relu(x)": x, "relu(-x)": torch.zeros_like(x), "x after relu(x) was written over": x}
    expect(beside(_relu_afresh, x=x.clone()), want, "relu of an x with all entries above 0")


@given(dtype=dtypes(), size=numbers(0.001, 1))
def test_relu_small_and_large(relu, dtype, size):
    """Numbers above 0 pass as they are, small and large ones alike; numbers below 0 become 0."""
    x = torch.tensor([-1e6, -1.0, -1e-3, 0.0, 1e-3, 1.0, 1e6], dtype=dtype) * size
    want = torch.where(x > 0, x, torch.zeros_like(x))
    expect(relu(x), want, "relu(x)", scale=want + 1e-12)


@given(seed=seeds(), dtype=dtypes())
def test_relu_gradient(relu, beside, seed, dtype):
    """The gradient passes where x is above 0 and is 0 where x is below."""
    x, upstream = torch.randn(2, 3, 7, generator=generator(seed), dtype=dtype)
    got = beside(_relu_gradient, x=x, upstream=upstream)
    want = {"relu(x)": x * (x > 0), "gradient of x": upstream * (x > 0)}
    expect(got, want, "relu(x) and a backward pass")


@given(leak=numbers(0.001, 1))
def test_zero_mean_shift_value(zero_mean_shift, leak):
    """The shift is (1 - leak) / sqrt(2 pi), a Python float, also for slopes above 1 and below 0."""
    for slope in (leak, 1 + leak, -leak):
        want = (1 - slope) / math.sqrt(2 * math.pi)
        expect(zero_mean_shift(slope), want, f"zero_mean_shift({slope})", scale=1.0)


@given(leak=numbers(0, 1))
def test_zero_mean_shift_centres(zero_mean_shift, leak):
    """A leaky ReLU minus the shift has mean 0 on standard normal input.

    The positive half of a standard normal variable contributes 1 / sqrt(2 pi) to the mean, the negative half minus
    `leak` times as much.
    """
    x, step = torch.linspace(-10, 10, 20_001, dtype=torch.float64), 1e-3
    # the sum over a grid this fine is the integral to about step² / 12 at the bend
    mean = float((torch.where(x > 0, x, leak * x) * (-(x**2) / 2).exp()).sum() * step / math.sqrt(2 * math.pi))
    expect(zero_mean_shift(leak), mean, f"zero_mean_shift({leak}), against the mean of leaky_relu(X)", scale=1.0)


@given(tenths=st.integers(0, 10))
def test_zero_mean_shift_of_the_ends(zero_mean_shift, tenths):
    """The shift falls in a straight line from 0.3989 for a plain ReLU to 0 for a leak of 1, the identity."""
    expect(zero_mean_shift(0.0), 0.3989422804, "zero_mean_shift(0.0)")
    expect(zero_mean_shift(1.0), 0.0, "zero_mean_shift(1.0)", scale=1.0)
    want = 0.03989422804 * (10 - tenths)
    expect(zero_mean_shift(tenths / 10), want, f"zero_mean_shift({tenths / 10})", scale=1.0)


def _general_relu_gradient(pieces, *, x, upstream, settings):
    act = pieces.GeneralReLU(**settings)
    x = x.clone().requires_grad_()
    y = act(x)
    (y * upstream).sum().backward()
    return {"GeneralReLU(...)(x)": y.detach(), "gradient of x": x.grad}


def _general_relu_in_a_model(pieces, *, x, weight, settings):
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False).to(weight.dtype)
    model = nn.Sequential(linear, pieces.GeneralReLU(**settings))
    with torch.no_grad():
        linear.weight.copy_(weight)
    return {
        "training": model.train()(x).detach(),
        "evaluation": model.eval()(x).detach(),
        "state_dict": dict(model.state_dict()),
        "parameters": [p.detach() for p in model.parameters()],
    }


def check(GeneralReLU, x, **settings):
    """Compares the module's output with the definition's."""
    call = f"GeneralReLU({', '.join(f'{name}={value}' for name, value in settings.items())})(x)"
    with unchanged(x=x):
        got = GeneralReLU(**settings)(x)
    want, _ = general(x, **settings)
    expect(got, want.to(x.dtype), call, scale=1 + x.abs().max())


@given(x=tensors(), leak=slopes())
def test_general_relu_leak(general_relu, x, leak):
    """Without arguments it is the plain ReLU; with `leak`, negative inputs keep that slope."""
    check(general_relu, x)
    check(general_relu, x, leak=leak)


@given(x=tensors(), leak=maybe(slopes()), sub=st.just(0.0) | numbers(-1, 1))
def test_general_relu_sub(general_relu, x, leak, sub):
    """`sub` is subtracted from the leaky ReLU's output, not from its input; it works with and without a leak."""
    check(general_relu, x, sub=sub)
    check(general_relu, x, leak=leak, sub=sub)


@given(x=tensors(), leak=maybe(slopes()), sub=maybe(numbers(-1, 1)), maxv=caps())
def test_general_relu_maxv(general_relu, x, leak, sub, maxv):
    """`maxv` caps what is left after the subtraction, and a cap of 0.0 is a cap.

    In Python 0.0 counts as false: `if maxv:` takes it for None.
    """
    check(general_relu, x, leak=leak, sub=sub)
    # nothing that a ReLU puts out is below this cap
    check(general_relu, x, maxv=-0.5)
    check(general_relu, x, maxv=maxv)
    check(general_relu, x, leak=leak, sub=sub, maxv=maxv)
    check(general_relu, x, leak=leak, sub=sub, maxv=0.0)
    # the cap has as many digits as x
    exact = x.double().abs() + 4
    got = general_relu(maxv=1.1)(exact)
    expect(got, torch.full_like(exact, 1.1), "GeneralReLU(maxv=1.1)(x), all of x above it and in float64,", tol=1e-12)


@given(x=tensors(), sub=maybe(numbers(-1, 1)), maxv=caps(), max_leak=slopes())
def test_general_relu_max_leak(general_relu, x, sub, maxv, max_leak):
    """With `max_leak` a value y above `maxv` becomes maxv + max_leak * (y - maxv); without `maxv` nothing happens."""
    check(general_relu, x, leak=0.25, sub=sub)
    check(general_relu, x, leak=0.25, sub=sub, maxv=maxv, max_leak=max_leak)
    # every value above maxv, and max_leak not 0: there wrong answers differ from right ones
    check(general_relu, x.abs() + 4, sub=sub, maxv=maxv, max_leak=max_leak + 0.0625)
    check(general_relu, x, sub=sub, max_leak=max_leak)


@pytest.mark.weight(2)
@given(
    x=tensors(),
    leak=maybe(slopes()),
    sub=maybe(st.just(0.0) | numbers(-1, 1)),
    maxv=maybe(caps()),
    max_leak=maybe(slopes()),
)
def test_general_relu_combined(general_relu, x, leak, sub, maxv, max_leak):
    """Any of the four may be None, alone or together; they are taken in the order leak, sub, maxv, max_leak."""
    check(general_relu, x, leak=leak, sub=sub)
    check(general_relu, x, leak=leak, sub=sub, maxv=maxv, max_leak=max_leak)
    got = general_relu(leak, sub, maxv, max_leak)(x)
    want, _ = general(x, leak, sub, maxv, max_leak)
    expect(got, want.to(x.dtype), f"GeneralReLU({leak}, {sub}, {maxv}, {max_leak})(x)", scale=1 + x.abs().max())


@given(
    seed=seeds(),
    dtype=dtypes(),
    leak=maybe(slopes()),
    sub=maybe(numbers(-1, 1)),
    maxv=maybe(caps()),
    max_leak=maybe(slopes()),
)
def test_general_relu_gradient(general_relu, beside, seed, dtype, leak, sub, maxv, max_leak):
    """The gradient is the slope of the piece: leak below 0, 1 above, times max_leak (0 for a flat cap) above maxv."""
    x, upstream = torch.randn(2, 40, generator=generator(seed), dtype=dtype)
    settings = {"leak": leak, "sub": sub, "maxv": maxv, "max_leak": max_leak}
    uncapped, _ = general(x, leak, sub)
    # at a bend the slope is anybody's choice
    smooth = (x.abs() > 1e-3) & ((uncapped - (maxv or 0.0)).abs() > 1e-3)
    x, upstream = x[smooth], upstream[smooth]
    got = beside(_general_relu_gradient, x=x, upstream=upstream, settings=settings)
    y, slope = general(x, **settings)
    want = {"GeneralReLU(...)(x)": y.to(dtype), "gradient of x": (upstream * slope).to(dtype)}
    expect(got, want, "GeneralReLU(leak, sub, maxv, max_leak)(x) and a backward pass", scale=5.0)


@given(seed=seeds(), dtype=dtypes(), leak=maybe(slopes()), sub=maybe(numbers(-1, 1)), maxv=maybe(caps()))
def test_general_relu_in_a_model(general_relu, beside, seed, dtype, leak, sub, maxv):
    """In a model it adds no parameters, and it does the same in training and in evaluation."""
    x, weight = normal((4, 3), seed, dtype=dtype), normal((5, 3), seed + 1, dtype=dtype)
    settings = {"leak": leak, "sub": sub, "maxv": maxv}
    y, _ = general(x.double() @ weight.double().T, **settings)
    want = {
        "training": y.to(dtype),
        "evaluation": y.to(dtype),
        "state_dict": {"0.weight": weight},
        "parameters": [weight],
    }
    got = beside(_general_relu_in_a_model, x=x, weight=weight, settings=settings)
    expect(got, want, "nn.Sequential(nn.Linear(...), GeneralReLU(...))", scale=10.0)


@given(seed=seeds(), dtype=dtypes(), first=slopes(), second=slopes(), shift=numbers(0.1, 1))
def test_general_relu_each_its_own(general_relu, seed, dtype, first, second, shift):
    """Two of them keep their own settings, also when the first is used after the second was made."""
    x = normal((6,), seed, dtype=dtype)
    one, two = general_relu(leak=first), general_relu(leak=second, sub=shift, maxv=shift)
    for act, options in ((one, {"leak": first}), (two, {"leak": second, "sub": shift, "maxv": shift})):
        want, _ = general(x, **options)
        expect(act(x), want.to(dtype), f"the GeneralReLU made with {options}", scale=5.0)


def _general_relu_afresh(pieces, *, x, settings):
    """Results of one module for two inputs of one shape, and the first input after its result was written over."""
    act = pieces.GeneralReLU(**settings)
    first, other = act(x), act(-x)
    found = {"act(x)": first.clone(), "act(-x)": other.clone(), "x after both": x.clone()}
    first.fill_(-1)
    return {**found, "x after act(x) was written over": x}


@settings(max_examples=5)
@given(seed=seeds(), dtype=dtypes(), leak=slopes(), shift=numbers(0.1, 1))
def test_general_relu_afresh(general_relu, beside, seed, dtype, leak, shift):
    """Every call goes by its own input alone, leaves it as it is and returns a new tensor.

    With a leak of 1 it is the identity, but for `sub` and `maxv`; that is a new tensor too.
    """
    x = normal((6,), seed, dtype=dtype)
    for options in ({"leak": leak}, {"leak": 1.0}, {"leak": 1.0, "sub": shift}):
        got = beside(_general_relu_afresh, x=x.clone(), settings=options)
        want = {"act(x)": general(x, **options)[0].to(dtype), "act(-x)": general(-x, **options)[0].to(dtype)}
        want |= {"x after both": x, "x after act(x) was written over": x}
        call = f"with act = GeneralReLU({', '.join(f'{name}={value}' for name, value in options.items())}):"
        expect(got, want, call, scale=5.0)
