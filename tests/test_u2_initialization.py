"""The laws of unit 2. Formulas are evaluated in float64; draws are judged by statistics with derived errors."""

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import dtypes, generator, normal, numbers, seeds, shapes, tensors
from torch import nn

from grading.verdict import expect, expect_statistic, rejects, unchanged

ENTRIES = 20_000


def fans(entries=ENTRIES):
    """Pairs (n_in, n_out) of some 20,000 weights, one side at least five times the other."""
    return st.builds(
        lambda short, tall: (short, entries // short) if tall else (entries // short, short),
        st.integers(20, 60),
        st.booleans(),
    )


def leaks():
    """Slopes whose square is neither near 0 nor near themselves, so that a draw can tell formulas apart."""
    return numbers(0.4, 0.7) | numbers(1.5, 3)


# -- what a sample of n independent numbers of variance v shows, and how far it may lie off


def expect_spread(sample, variance, excess, call):
    """Mean 0 and the variance given; `excess` is the distribution's kurtosis above the normal's 3.

    The sample mean has variance v / n, and the sample variance has v² (2 + excess) / n.
    """
    sample, n = sample.double(), sample.numel()
    expect_statistic(
        sample.var(correction=0), variance, variance * math.sqrt((2 + excess) / n), f"the variance of {call}"
    )
    expect_statistic(sample.mean(), 0.0, math.sqrt(variance / n), f"the mean of {call}")


def expect_share(sample, bound, share, call):
    """A share p of the entries lies within ±bound; the count is binomial, so the share has variance p (1 - p) / n."""
    found = (sample.double().abs() <= bound).double().mean()
    error = math.sqrt(share * (1 - share) / sample.numel())
    expect_statistic(found, share, error, f"the share within ±{bound:.4g} of {call}")


def expect_unrelated(one, other, variance, call):
    """Products of independent numbers of mean 0 and variance v have mean 0 and variance v²."""
    products = one.double() * other.double()
    expect_statistic(products.mean(), 0.0, variance / math.sqrt(products.numel()), call)


def expect_normal(sample, variance, call):
    """The shares within one and two standard deviations tell a normal distribution from others of equal variance.

    So does the entry furthest from 0, because a normal distribution has no end.
    """
    expect_spread(sample, variance, 0.0, call)
    for deviations in (1, 2):
        expect_share(sample, deviations * math.sqrt(variance), math.erf(deviations / math.sqrt(2)), call)
    # n numbers all lie within a share s of the distribution with probability s^n, 1e-9 for this one
    share = torch.tensor(1e-9, dtype=torch.float64) ** (1 / sample.numel())
    bound = math.sqrt(2 * variance) * float(torch.erfinv(share))
    furthest = float(sample.double().abs().max())
    expect(furthest > bound, True, f"whether one of {call} lies beyond ±{bound:.4g}, as for normal numbers it must:")


def expect_one_by_one(w, variance, call):
    """Neighbours in a row and in a column are unrelated."""
    expect_unrelated(w[:, 1:], w[:, :-1], variance, f"the mean product of neighbours in a row of {call}")
    expect_unrelated(w[1:], w[:-1], variance, f"the mean product of neighbours in a column of {call}")


def expect_matrix(w, n_in, n_out, call):
    """A float32 matrix `(n_in, n_out)` of finite numbers, whatever they are."""
    expect(w, torch.zeros(n_in, n_out), call, tol=math.inf, scale=1.0)


def _draws(pieces, *, draw, n_in, n_out, seed, count=1, how=None):
    generator = torch.Generator().manual_seed(seed)
    return [getattr(pieces, draw)(n_in, n_out, generator=generator, **(how or {})) for _ in range(count)]


def check_generator(beside, draw, n_in, n_out, seed, variance):
    """The same seed draws the same numbers; a second draw from one generator and another seed draw others."""
    call = f"{draw}(n_in, n_out, generator=generator)"
    first, second = beside(_draws, draw=draw, n_in=n_in, n_out=n_out, seed=seed, count=2)
    again, after = beside(_draws, draw=draw, n_in=n_in, n_out=n_out, seed=seed, count=2)
    (other,) = beside(_draws, draw=draw, n_in=n_in, n_out=n_out, seed=seed + 1)
    for w in (first, second, other):
        expect_matrix(w, n_in, n_out, call)
    expect(again, first, f"{call} with a generator of the same seed")
    expect(after, second, f"the second {call} with a generator of the same seed")
    expect_unrelated(first, second, variance, f"the mean product of two draws in a row, {call}")
    expect_unrelated(first, other, variance, f"the mean product of draws from two seeds, {call}")


def _global_draws(pieces, *, draw, n_in, n_out, seed):
    torch.manual_seed(seed)
    draws = [getattr(pieces, draw)(n_in, n_out) for _ in range(2)]
    torch.manual_seed(seed)
    return [*draws, getattr(pieces, draw)(n_in, n_out)]


def check_global(beside, draw, n_in, n_out, seed, variance):
    """Without a generator it works too, every call draws anew, and `torch.manual_seed` has its say."""
    call = f"{draw}(n_in, n_out)"
    first, second, again = beside(_global_draws, draw=draw, n_in=n_in, n_out=n_out, seed=seed)
    for w in (first, second):
        expect_matrix(w, n_in, n_out, call)
        expect_statistic(
            w.double().var(correction=0), variance, variance * math.sqrt(2 / w.numel()), f"the variance of {call}"
        )
    expect_unrelated(first, second, variance, f"the mean product of two calls of {call}")
    expect(again, first, f"{call} after the same torch.manual_seed")


def check_shape(beside, draw, n_in, n_out, seed):
    """Small ones of every shape."""
    (w,) = beside(_draws, draw=draw, n_in=n_in, n_out=n_out, seed=seed)
    expect_matrix(w, n_in, n_out, f"{draw}({n_in}, {n_out}, generator=generator)")


def _many_draws(pieces, *, draw, n_in, n_out, seed, count):
    return torch.stack(_draws(pieces, draw=draw, n_in=n_in, n_out=n_out, seed=seed, count=count))


def check_small(beside, draw, n_in, n_out, seed, variance, excess, count):
    """The variance of a small matrix shows in many of them."""
    w = beside(_many_draws, draw=draw, n_in=n_in, n_out=n_out, seed=seed, count=count)
    call = f"{count} draws of {draw}({n_in}, {n_out}, generator=generator)"
    expect(w, torch.zeros(count, n_in, n_out), call, tol=math.inf, scale=1.0)
    expect_spread(w, variance, excess, call)


# -- output_std


@pytest.mark.weight(2)
@given(n_in=st.integers(1, 5000), weight_std=numbers(0.001, 3), input_std=numbers(0.1, 5))
def test_output_std_value(output_std, n_in, weight_std, input_std):
    """The standard deviation of one output is sqrt(n_in) * weight_std * input_std, a Python float.

    An input_std of 0.0 that is given is not one that is missing.
    """
    want = math.sqrt(n_in) * weight_std * input_std
    expect(output_std(n_in, weight_std, input_std), want, f"output_std({n_in}, {weight_std}, {input_std})")
    expect(output_std(n_in, weight_std, 0.0), 0.0, f"output_std({n_in}, {weight_std}, 0.0)")


@given(n_in=st.integers(1, 5000), weight_std=numbers(0.001, 3))
def test_output_std_default(output_std, n_in, weight_std):
    """Inputs have standard deviation 1 unless said otherwise."""
    expect(output_std(n_in, weight_std), math.sqrt(n_in) * weight_std, f"output_std({n_in}, {weight_std})")


@settings(max_examples=6)
@given(seed=seeds(), n_in=st.integers(20, 60), weight_std=numbers(0.01, 2), input_std=numbers(0.2, 3))
def test_output_std_measured(output_std, seed, n_in, weight_std, input_std):
    """The prediction is what an experiment measures: the spread of many sums of n_in products of random numbers.

    Variances of independent terms add up, so n_in terms have n_in times the variance, and sqrt(n_in) times the
    standard deviation.
    """
    x, w = torch.randn(2, 4000, n_in, generator=generator(seed), dtype=torch.float64)
    outputs = (x * input_std * w * weight_std).sum(1)
    # a product of two normal variables has kurtosis 9, a sum of n_in of them 3 + 6 / n_in; a relative error of the
    # variance is half as large in its root
    relative_error = math.sqrt((2 + 6 / n_in) / 4000) / 2
    measured = float(outputs.std(correction=0))
    call = f"output_std({n_in}, {weight_std}, {input_std}), against 4000 outputs measured"
    expect_statistic(output_std(n_in, weight_std, input_std), measured, measured * relative_error, call)


# -- activation_scales


@st.composite
def stacks(draw):
    """A batch `(n, d)` and the matrices of a few layers of different widths, of one float type."""
    dtype, count = draw(dtypes()), draw(st.integers(1, 4))
    widths = draw(st.lists(st.integers(1, 5), min_size=count + 1, max_size=count + 1))
    x = draw(tensors((draw(st.integers(1, 5)), widths[0]), dtype=dtype, max_offset=2.0))
    return x, [normal(size, draw(seeds()), dtype=dtype) for size in pairwise(widths)]


def scales_of(x, weights, act=None):
    """The standard deviations in float64, and a bound on the numbers that each was computed from."""
    x, found, bound = x.double(), [], x.double().abs()
    sizes = []
    for w in weights:
        x, bound = x @ w.double(), bound @ w.double().abs()
        x = x if act is None else act(x)
        found.append(x.std(correction=0))
        sizes.append(bound.max())
    return torch.stack(found), torch.stack(sizes)


def _scales_after(pieces, *, x, weights, act):
    return pieces.activation_scales(x, weights, getattr(torch, act))


@pytest.mark.weight(2)
@given(x_and_weights=stacks())
def test_activation_scales_linear(activation_scales, x_and_weights):
    """It reports the population standard deviation after each product, and feeds each layer with the one before."""
    x, weights = x_and_weights
    with unchanged(x=x, **{f"weights[{i}]": w for i, w in enumerate(weights)}):
        got = activation_scales(x, weights)
    want, size = scales_of(x, weights)
    # rounding in a layer is relative to the products that were summed, which may cancel
    tol = 1e-5 if x.dtype == torch.float32 else 1e-10
    expect(got, want.to(x.dtype), "activation_scales(x, weights)", tol=tol, scale=size)


@pytest.mark.weight(2)
@given(x_and_weights=stacks(), act=st.sampled_from(["relu", "tanh", "sin", "cos"]))
def test_activation_scales_act(activation_scales, beside, x_and_weights, act):
    """With an activation each layer is act(x @ w): it is applied after every product, and measured after that."""
    x, weights = x_and_weights
    got = beside(_scales_after, x=x, weights=weights, act=act)
    want, size = scales_of(x, weights, getattr(torch, act))
    # slopes of all four are at most 1, so they magnify no error; cos(0) is 1
    magnitudes = size + sum(w.double().abs().sum() for w in weights) + 1
    tol = 1e-5 if x.dtype == torch.float32 else 1e-10
    expect(got, want.to(x.dtype), f"activation_scales(x, weights, torch.{act})", tol=tol, scale=magnitudes)


@settings(max_examples=6)
@given(seed=seeds(), dtype=dtypes(), scale=st.sampled_from([1.0, 0.01, 0.1]))
def test_activation_scales_of_fifty_layers(activation_scales, seed, dtype, scale):
    """Fifty layers of width 100: weights of 1 overflow, weights of 0.01 vanish, weights of 1 / sqrt(100) hold."""
    draws = generator(seed)
    x = torch.randn(8, 100, generator=draws, dtype=dtype)
    weights = [torch.randn(100, 100, generator=draws, dtype=dtype) * scale for _ in range(50)]
    got = activation_scales(x, weights)
    want, _ = scales_of(x, weights)
    # a float32's square is neither 0 nor inf between these; the errors of fifty layers add up to far below 1e-3
    whole = 50 if dtype == torch.float64 else int(((want > 1e-15) & (want < 1e15)).sum())
    call = f"activation_scales(x, fifty weights of {scale})"
    expect(len(got), 50, f"how many standard deviations are in {call}, whatever they have become")
    expect(got[:whole], want[:whole].to(dtype), call, tol=1e-3, scale=want[:whole])
    if dtype == torch.float32 and scale == 1.0:
        finite = bool(torch.isfinite(torch.as_tensor(got[-1])))
        expect(finite, False, f"the last of {call}, about {float(want[-1]):.0e}, is a finite float32")
    if dtype == torch.float32 and scale == 0.01:
        expect(got[-1:], torch.zeros(1), f"the last of {call}", tol=1e-20, scale=1.0)


# -- glorot_normal


@pytest.mark.weight(2)
@given(n_in_and_n_out=fans(), seed=seeds())
def test_glorot_normal_variance(glorot_normal, beside, n_in_and_n_out, seed):
    """The weights have mean 0 and variance 1 / average(n_in, n_out), and are normally distributed.

    `torch.randn` has standard deviation 1. Multiplying it by s makes the variance s².
    """
    n_in, n_out = n_in_and_n_out
    (w,) = beside(_draws, draw="glorot_normal", n_in=n_in, n_out=n_out, seed=seed)
    expect_matrix(w, n_in, n_out, "glorot_normal(n_in, n_out)")
    expect_normal(w, 2 / (n_in + n_out), f"glorot_normal({n_in}, {n_out})")


@given(n_in=st.integers(1, 9), n_out=st.integers(1, 9), seed=seeds())
def test_glorot_normal_shape(glorot_normal, beside, n_in, n_out, seed):
    """The weights have the shape (n_in, n_out), for use as x @ w."""
    check_shape(beside, "glorot_normal", n_in, n_out, seed)


@settings(max_examples=2)
@given(n_in=st.integers(1, 2), seed=seeds())
def test_glorot_normal_small(glorot_normal, beside, n_in, seed):
    """A matrix of two weights has the same law: variance 1 / average(1, 2), which is 2 / 3, over many draws."""
    check_small(beside, "glorot_normal", n_in, 3 - n_in, seed, 2 / 3, 0.0, count=1000)


@settings(max_examples=10)
@given(n_in_and_n_out=fans(), seed=seeds())
def test_glorot_normal_one_by_one(glorot_normal, beside, n_in_and_n_out, seed):
    """Every weight is drawn on its own: neither rows nor columns repeat."""
    n_in, n_out = n_in_and_n_out
    (w,) = beside(_draws, draw="glorot_normal", n_in=n_in, n_out=n_out, seed=seed)
    expect_matrix(w, n_in, n_out, "glorot_normal(n_in, n_out)")
    expect_one_by_one(w, 2 / (n_in + n_out), f"glorot_normal({n_in}, {n_out})")


@settings(max_examples=10)
@given(n_in_and_n_out=fans(4000), seed=seeds())
def test_glorot_normal_generator(glorot_normal, beside, n_in_and_n_out, seed):
    """The numbers come from `generator`: the same seed gives the same ones, and the next draw gives others."""
    n_in, n_out = n_in_and_n_out
    check_generator(beside, "glorot_normal", n_in, n_out, seed, 2 / (n_in + n_out))


@settings(max_examples=10)
@given(n_in_and_n_out=fans(4000), seed=seeds())
def test_glorot_normal_without_generator(glorot_normal, beside, n_in_and_n_out, seed):
    """Without a generator every call draws new weights of the same variance, from PyTorch's global generator."""
    n_in, n_out = n_in_and_n_out
    check_global(beside, "glorot_normal", n_in, n_out, seed, 2 / (n_in + n_out))


# -- glorot_uniform


@pytest.mark.weight(2)
@given(n_in_and_n_out=fans(), seed=seeds())
def test_glorot_uniform_variance(glorot_uniform, beside, n_in_and_n_out, seed):
    """The weights have mean 0 and variance 1 / average(n_in, n_out), evenly spread: half lie in the inner half.

    Numbers drawn evenly from -a to a have variance a² / 3.
    """
    n_in, n_out = n_in_and_n_out
    (w,) = beside(_draws, draw="glorot_uniform", n_in=n_in, n_out=n_out, seed=seed)
    call, bound = f"glorot_uniform({n_in}, {n_out})", math.sqrt(6 / (n_in + n_out))
    expect_matrix(w, n_in, n_out, call)
    # the kurtosis of a uniform distribution is 9 / 5
    expect_spread(w, 2 / (n_in + n_out), 9 / 5 - 3, call)
    for share in (0.25, 0.5, 0.75):
        expect_share(w, share * bound, share, call)


@given(n_in_and_n_out=fans(), seed=seeds())
def test_glorot_uniform_bounds(glorot_uniform, beside, n_in_and_n_out, seed):
    """No weight lies beyond ±sqrt(6 / (n_in + n_out)), and some come close to either bound."""
    n_in, n_out = n_in_and_n_out
    (w,) = beside(_draws, draw="glorot_uniform", n_in=n_in, n_out=n_out, seed=seed)
    call, bound = f"glorot_uniform({n_in}, {n_out})", math.sqrt(6 / (n_in + n_out))
    expect_matrix(w, n_in, n_out, call)
    # n numbers all miss the outermost share g of the bound with probability (1 - g / 2)^n, 1e-9 for this one
    gap = 2 * math.log(1e9) / w.numel()
    for end, furthest in (("largest", float(w.max())), ("smallest", -float(w.min()))):
        sign = 1 if end == "largest" else -1
        expect(
            sign * furthest,
            sign * bound * (1 - gap / 2),
            f"the {end} entry of {call}",
            tol=gap / 2 + 1e-6,
            scale=bound,
        )


@given(n_in=st.integers(1, 9), n_out=st.integers(1, 9), seed=seeds())
def test_glorot_uniform_shape(glorot_uniform, beside, n_in, n_out, seed):
    """The weights have the shape (n_in, n_out), for use as x @ w."""
    check_shape(beside, "glorot_uniform", n_in, n_out, seed)


@settings(max_examples=2)
@given(n_in=st.integers(1, 2), seed=seeds())
def test_glorot_uniform_small(glorot_uniform, beside, n_in, seed):
    """A matrix of two weights has the same law: variance 1 / average(1, 2), which is 2 / 3, over many draws."""
    check_small(beside, "glorot_uniform", n_in, 3 - n_in, seed, 2 / 3, 9 / 5 - 3, count=500)


@settings(max_examples=10)
@given(n_in_and_n_out=fans(), seed=seeds())
def test_glorot_uniform_one_by_one(glorot_uniform, beside, n_in_and_n_out, seed):
    """Every weight is drawn on its own: neither rows nor columns repeat."""
    n_in, n_out = n_in_and_n_out
    (w,) = beside(_draws, draw="glorot_uniform", n_in=n_in, n_out=n_out, seed=seed)
    expect_matrix(w, n_in, n_out, "glorot_uniform(n_in, n_out)")
    expect_one_by_one(w, 2 / (n_in + n_out), f"glorot_uniform({n_in}, {n_out})")


@settings(max_examples=10)
@given(n_in_and_n_out=fans(4000), seed=seeds())
def test_glorot_uniform_generator(glorot_uniform, beside, n_in_and_n_out, seed):
    """The numbers come from `generator`: the same seed gives the same ones, and the next draw gives others."""
    n_in, n_out = n_in_and_n_out
    check_generator(beside, "glorot_uniform", n_in, n_out, seed, 2 / (n_in + n_out))


@settings(max_examples=10)
@given(n_in_and_n_out=fans(4000), seed=seeds())
def test_glorot_uniform_without_generator(glorot_uniform, beside, n_in_and_n_out, seed):
    """Without a generator every call draws new weights of the same variance, from PyTorch's global generator."""
    n_in, n_out = n_in_and_n_out
    check_global(beside, "glorot_uniform", n_in, n_out, seed, 2 / (n_in + n_out))


# -- kaiming_normal


@pytest.mark.weight(2)
@given(n_in_and_n_out=fans(), seed=seeds())
def test_kaiming_normal_variance(kaiming_normal, beside, n_in_and_n_out, seed):
    """Without a leak the weights have mean 0 and variance 2 / n_in, and are normally distributed.

    Only the inputs are summed in an output: n_out has no part in it.
    """
    n_in, n_out = n_in_and_n_out
    (w,) = beside(_draws, draw="kaiming_normal", n_in=n_in, n_out=n_out, seed=seed)
    expect_matrix(w, n_in, n_out, "kaiming_normal(n_in, n_out)")
    expect_normal(w, 2 / n_in, f"kaiming_normal({n_in}, {n_out})")


@pytest.mark.weight(2)
@given(n_in_and_n_out=fans(), leak=leaks(), seed=seeds())
def test_kaiming_normal_leak(kaiming_normal, beside, n_in_and_n_out, leak, seed):
    """With a leak the variance is 2 / ((1 + leak²) n_in); a leak of 1, no activation at all, gives 1 / n_in.

    The square makes no difference between a slope and its negative.
    """
    n_in, n_out = n_in_and_n_out
    for slope in (leak, 1.0):
        (w,) = beside(_draws, draw="kaiming_normal", n_in=n_in, n_out=n_out, seed=seed, how={"leak": slope})
        expect_matrix(w, n_in, n_out, "kaiming_normal(n_in, n_out, leak)")
        expect_normal(w, 2 / ((1 + slope**2) * n_in), f"kaiming_normal({n_in}, {n_out}, leak={slope})")
    n = n_in * n_out
    variance = 2 / ((1 + leak**2) * n_in)
    call = f"the variance of kaiming_normal({n_in}, {n_out}, {-leak})"
    expect_statistic(
        kaiming_normal(n_in, n_out, -leak).double().var(correction=0), variance, variance * math.sqrt(2 / n), call
    )


@given(n_in=st.integers(1, 9), n_out=st.integers(1, 9), seed=seeds())
def test_kaiming_normal_shape(kaiming_normal, beside, n_in, n_out, seed):
    """The weights have the shape (n_in, n_out), for use as x @ w."""
    check_shape(beside, "kaiming_normal", n_in, n_out, seed)


@settings(max_examples=10)
@given(n_in_and_n_out=fans(), seed=seeds())
def test_kaiming_normal_one_by_one(kaiming_normal, beside, n_in_and_n_out, seed):
    """Every weight is drawn on its own: neither rows nor columns repeat."""
    n_in, n_out = n_in_and_n_out
    (w,) = beside(_draws, draw="kaiming_normal", n_in=n_in, n_out=n_out, seed=seed)
    expect_matrix(w, n_in, n_out, "kaiming_normal(n_in, n_out)")
    expect_one_by_one(w, 2 / n_in, f"kaiming_normal({n_in}, {n_out})")


@settings(max_examples=10)
@given(n_in_and_n_out=fans(4000), seed=seeds())
def test_kaiming_normal_generator(kaiming_normal, beside, n_in_and_n_out, seed):
    """The numbers come from `generator`: the same seed gives the same ones, and the next draw gives others."""
    n_in, n_out = n_in_and_n_out
    check_generator(beside, "kaiming_normal", n_in, n_out, seed, 2 / n_in)


@settings(max_examples=10)
@given(n_in_and_n_out=fans(4000), seed=seeds())
def test_kaiming_normal_without_generator(kaiming_normal, beside, n_in_and_n_out, seed):
    """Without a generator every call draws new weights of the same variance, from PyTorch's global generator."""
    n_in, n_out = n_in_and_n_out
    check_global(beside, "kaiming_normal", n_in, n_out, seed, 2 / n_in)


# -- fan_in


@pytest.mark.weight(2)
@given(weight=tensors(st.lists(st.integers(2, 7), min_size=2, max_size=5, unique=True)))
def test_fan_in_value(fan_in, weight):
    """For a weight (out, in, *kernel) the fan-in is in times the product of the kernel's sides, a Python int.

    The numbers in the weight have no part in it.
    """
    with unchanged(weight=weight):
        got = fan_in(weight)
    want, shape = math.prod(weight.shape[1:]), tuple(weight.shape)
    expect(got, want, f"fan_in(weight of shape {shape})")
    expect(fan_in(torch.zeros_like(weight)), want, f"fan_in(zeros of shape {shape})")


@given(
    n_in=st.integers(1, 6),
    n_out=st.integers(1, 6),
    groups=st.integers(1, 3),
    kernel=shapes(min_dims=0, max_dims=3, max_side=3),
)
def test_fan_in_counts(fan_in, n_in, n_out, groups, kernel):
    """The fan-in of a layer counts the inputs that feed one output, also in a convolution with groups.

    The weight of a grouped convolution has in / groups channels: an output sees the inputs of its own group only.
    """
    if kernel:
        layer = [nn.Conv1d, nn.Conv2d, nn.Conv3d][len(kernel) - 1](
            n_in * groups, n_out * groups, kernel, groups=groups, bias=False
        )
        convolve = [F.conv1d, F.conv2d, F.conv3d][len(kernel) - 1]
        counts = convolve(torch.ones(1, n_in * groups, *kernel), torch.ones_like(layer.weight), groups=groups)
    else:
        layer = nn.Linear(n_in, n_out, bias=False)
        counts = F.linear(torch.ones(n_in), torch.ones_like(layer.weight))
    call = f"fan_in(the weight of {layer})"
    expect(fan_in(layer.weight), round(float(counts.detach().flatten()[0])), call)


@given(seed=seeds(), n=st.integers(1, 5), shape=shapes(min_dims=2, max_dims=4))
def test_fan_in_refuses_vectors(fan_in, seed, n, shape):
    """A tensor of fewer than two dimensions, such as a bias, has no fan-in: ValueError."""
    with rejects(ValueError, f"fan_in(a vector of {n})"):
        fan_in(normal((n,), seed))
    with rejects(ValueError, "fan_in(a 0-dim tensor)"):
        fan_in(normal((), seed))
    expect(fan_in(normal(shape, seed)), math.prod(shape[1:]), f"fan_in(weight of shape {shape})")


# -- init_weights: layers are described by (class, arguments, settings), and built where the code under test runs


@st.composite
def linears(draw, entries=6000):
    """A linear layer of some 6,000 weights, wide or tall, with or without bias."""
    n_in, n_out = draw(fans(entries))
    return "Linear", [n_in, n_out], {"bias": draw(st.booleans())}


@st.composite
def convolutions(draw, entries=6000):
    """A convolution of at least 6,000 weights in one, two or three dimensions, with or without groups and bias."""
    kernel, groups = draw(shapes(min_dims=1, max_dims=3, max_side=4)), draw(st.integers(1, 4))
    n_in = draw(st.integers(1, 6))
    n_out = math.ceil(entries / (n_in * math.prod(kernel) * groups))
    how = {"groups": groups, "bias": draw(st.booleans())}
    return f"Conv{len(kernel)}d", [n_in * groups, n_out * groups, list(kernel)], how


def shape_of(layer):
    """The shape of a described layer's weight."""
    kind, (n_in, n_out, *kernel), how = layer
    return (n_out, n_in) if kind == "Linear" else (n_out, n_in // how["groups"], *kernel[0])


def words(layer, leak=0.0):
    """A described layer as a student would write it."""
    kind, arguments, how = layer
    inside = ", ".join([*map(str, arguments), *(f"{name}={value}" for name, value in how.items())])
    return f"init_weights(nn.{kind}({inside})" + (f", leak={leak})" if leak else ")")


def _initialised(pieces, *, layer, dtype, seed, how):
    kind, arguments, settings = layer
    torch.default_generator.manual_seed(seed)
    module = getattr(nn, kind)(*arguments, **settings).to(dtype)
    pieces.init_weights(module, **how)
    return {name: p.detach() for name, p in module.named_parameters()}


def expect_initialised(got, layer, dtype, call, leak=0.0):
    """Kaiming-normal weights and zero biases; `got` is what the scenarios return of a layer."""
    shape = shape_of(layer)
    parameters = "bias, weight" if layer[2].get("bias", True) else "weight"
    expect(", ".join(sorted(got)), parameters, f"the names of the parameters after {call}")
    expect(got["weight"], torch.zeros(shape, dtype=dtype), f"the weight after {call}", tol=math.inf, scale=1.0)
    if "bias" in parameters:
        expect(got["bias"], torch.zeros(shape[0], dtype=dtype), f"the bias after {call}", tol=0)
    expect_normal(got["weight"], 2 / ((1 + leak**2) * math.prod(shape[1:])), f"the weights after {call}")


@pytest.mark.weight(2)
@given(layer=linears(), dtype=dtypes(), seed=seeds())
def test_init_weights_linear(init_weights, beside, layer, dtype, seed):
    """A linear layer gets zero biases and normal weights of mean 0 and variance 2 / fan_in, with or without bias."""
    got = beside(_initialised, layer=layer, dtype=dtype, seed=seed, how={})
    expect_initialised(got, layer, dtype, words(layer))


@pytest.mark.weight(2)
@given(layer=convolutions(), dtype=dtypes(), seed=seeds())
def test_init_weights_convolution(init_weights, beside, layer, dtype, seed):
    """A convolution in one, two or three dimensions gets zero biases and normal weights of variance 2 / fan_in.

    Its fan-in is in / groups * prod(kernel), all that one output sums.
    """
    got = beside(_initialised, layer=layer, dtype=dtype, seed=seed, how={})
    expect_initialised(got, layer, dtype, words(layer))


@given(layer=linears() | convolutions(), dtype=dtypes(), leak=leaks(), seed=seeds())
def test_init_weights_leak(init_weights, beside, layer, dtype, leak, seed):
    """With a leak the variance is 2 / ((1 + leak²) fan_in)."""
    got = beside(_initialised, layer=layer, dtype=dtype, seed=seed, how={"leak": leak})
    expect_initialised(got, layer, dtype, words(layer, leak), leak)


def _others(pieces, *, seed, dtype):
    modules = {
        "BatchNorm1d": nn.BatchNorm1d(3),
        "BatchNorm2d": nn.BatchNorm2d(4),
        "BatchNorm3d": nn.BatchNorm3d(2),
        "LayerNorm": nn.LayerNorm([3, 2]),
        "GroupNorm": nn.GroupNorm(2, 4),
        "Embedding": nn.Embedding(5, 3),
        "PReLU": nn.PReLU(4),
        "Bilinear": nn.Bilinear(2, 3, 4),
        "GRU": nn.GRU(3, 2),
        "ConvTranspose1d": nn.ConvTranspose1d(2, 3, 4),
        "ConvTranspose2d": nn.ConvTranspose2d(4, 6, 3, groups=2),
        "ConvTranspose3d": nn.ConvTranspose3d(3, 2, 2, bias=False),
        "ReLU": nn.ReLU(),
        "Sequential(Linear, Conv2d)": nn.Sequential(nn.Linear(3, 2), nn.Conv2d(2, 3, 2)),
    }
    generator, states = torch.Generator().manual_seed(seed), {}
    for name, module in modules.items():
        module.to(dtype)
        with torch.no_grad():
            for value in (*module.parameters(), *module.buffers()):
                value.copy_(torch.randn(value.shape, generator=generator, dtype=torch.float64) * 10)
        torch.default_generator.manual_seed(seed)
        pieces.init_weights(module)
        states[name] = {key: value.clone() for key, value in module.state_dict().items()}
    return states


@settings(max_examples=10)
@given(seed=seeds(), dtype=dtypes())
def test_init_weights_of_others(init_weights, beside, seed, dtype):
    """Every other module stays as it is: normalisation, embeddings, transposed convolutions, containers.

    `model.apply` visits the modules inside a container itself, so `init_weights` need not go there.
    """
    want = _others(SimpleNamespace(init_weights=lambda module: None), seed=seed, dtype=dtype)
    got = beside(_others, seed=seed, dtype=dtype)
    for name in want:
        expect(got[name], want[name], f"the state_dict of nn.{name} after init_weights", tol=0)


def _trained_after(pieces, *, x, upstream, lr, seed):
    torch.default_generator.manual_seed(seed)
    layer = nn.Linear(x.shape[1], upstream.shape[1]).to(x.dtype)
    twin = nn.Linear(x.shape[1], upstream.shape[1]).to(x.dtype)
    twin.weight = layer.weight
    held = list(layer.parameters())
    pieces.init_weights(layer)
    before = layer.weight.detach().clone()
    (layer(x) * upstream).sum().backward()
    with torch.no_grad():
        for p in held:
            p -= lr * (0.0 if p.grad is None else p.grad)
    trained = {name: p.detach() for name, p in layer.named_parameters()}
    return {"before": before, "layer": trained, "twin.weight": twin.weight.detach()}


@given(
    seed=seeds(),
    dtype=dtypes(),
    n=st.integers(1, 4),
    n_in=st.integers(1, 5),
    n_out=st.integers(1, 5),
    lr=numbers(0.1, 1),
)
def test_init_weights_in_place(init_weights, beside, seed, dtype, n, n_in, n_out, lr):
    """Parameters keep their identity: an optimizer made before, and a layer that shares the weight, use the new values.

    A new nn.Parameter put in the old one's place is trained by nobody.
    """
    x, upstream = normal((n, n_in), seed, dtype=dtype), normal((n, n_out), seed + 1, dtype=dtype)
    got = beside(_trained_after, x=x, upstream=upstream, lr=lr, seed=seed)
    before = got["before"]
    expect(before, torch.zeros(n_out, n_in, dtype=dtype), "layer.weight after init_weights", tol=math.inf, scale=1.0)
    call = "after optimizer = SGD(layer.parameters()), init_weights(layer), backward and optimizer.step()"
    after = {"weight": before - lr * upstream.T @ x, "bias": -lr * upstream.sum(0)}
    size = 10 + before.abs().max()
    expect(got["layer"], after, f"the parameters {call}", scale=size)
    expect(got["twin.weight"], after["weight"], f"twin.weight, which is layer.weight, {call}", scale=size)


def _autograd_after(pieces, *, layer, dtype, seed, trained):
    kind, arguments, settings = layer
    torch.default_generator.manual_seed(seed)
    module = getattr(nn, kind)(*arguments, **settings).to(dtype)
    for p, flag in zip(module.parameters(), trained, strict=False):
        p.requires_grad_(flag)
    pieces.init_weights(module)
    here = torch.is_grad_enabled()
    with torch.no_grad():
        for p in module.parameters():
            p.fill_(7)
        pieces.init_weights(module.eval())
        under_no_grad = torch.is_grad_enabled()
    parameters = dict(module.named_parameters())
    return {
        "values": {name: p.detach() for name, p in parameters.items()},
        "requires_grad": {name: p.requires_grad for name, p in parameters.items()},
        "is_leaf": {name: p.is_leaf for name, p in parameters.items()},
        "has a graph": {name: p.grad_fn is not None for name, p in parameters.items()},
        "grad mode": here,
        "grad mode under no_grad": under_no_grad,
    }


@given(
    layer=linears() | convolutions(),
    dtype=dtypes(),
    seed=seeds(),
    trained=st.tuples(st.sampled_from([True, False]), st.sampled_from([True, False])),
)
def test_init_weights_autograd(init_weights, beside, layer, dtype, seed, trained):
    """Autograd is left as it was: frozen parameters get their numbers and stay frozen, and no graph is remembered.

    A layer may be initialised again, in eval mode and under `torch.no_grad()` too.
    """
    got = beside(_autograd_after, layer=layer, dtype=dtype, seed=seed, trained=trained)
    names = ["weight", "bias"] if layer[2]["bias"] else ["weight"]
    call = f"{words(layer)} with requires_grad {dict(zip(names, trained, strict=False))}"
    expect_initialised(got["values"], layer, dtype, f"a second {call}, in eval mode,")
    expect(got["requires_grad"], dict(zip(names, trained, strict=False)), f"requires_grad after {call}")
    expect(got["is_leaf"], dict.fromkeys(names, True), f"is_leaf after {call}")
    expect(got["has a graph"], dict.fromkeys(names, False), f"whether there is a grad_fn after {call}")
    expect(got["grad mode"], True, f"torch.is_grad_enabled() after {call}")
    expect(got["grad mode under no_grad"], False, f"torch.is_grad_enabled() under torch.no_grad(), after {call}")


def _applied(pieces, *, n_in, n_out, channels, kernel, scales, seed, how):
    from functools import partial

    torch.default_generator.manual_seed(seed)
    first, second = nn.Linear(n_in, n_out), nn.Linear(n_in, n_out)
    conv, norm = nn.Conv2d(channels, 400, kernel), nn.BatchNorm1d(n_out)
    with torch.no_grad():
        norm.weight.copy_(scales)
        norm.bias.copy_(-scales)
    model = nn.Sequential(nn.Sequential(first, nn.ReLU(), norm), nn.ModuleDict({"second": second, "conv": conv}))
    model.apply(partial(pieces.init_weights, **how) if how else pieces.init_weights)
    layers = {"first": first, "second": second, "conv": conv, "norm": norm}
    return {name: {key: p.detach() for key, p in module.named_parameters()} for name, module in layers.items()}


@settings(max_examples=10)
@given(
    n_in_and_n_out=fans(6000),
    channels=st.integers(4, 6),
    kernel=st.integers(2, 3),
    seed=seeds(),
    leak=st.just(0.0) | leaks(),
)
def test_init_weights_apply(init_weights, beside, n_in_and_n_out, channels, kernel, seed, leak):
    """`model.apply(init_weights)` initialises every layer inside the model, each with numbers of its own."""
    n_in, n_out = n_in_and_n_out
    how, scales = {"leak": leak} if leak else {}, normal((n_out,), seed)
    sizes = {"n_in": n_in, "n_out": n_out, "channels": channels, "kernel": kernel}
    got = beside(_applied, **sizes, scales=scales, seed=seed, how=how)
    apply = f"model.apply({f'partial(init_weights, leak={leak})' if leak else 'init_weights'})"
    linear, conv = ("Linear", [n_in, n_out], {}), ("Conv2d", [channels, 400, [kernel, kernel]], {"groups": 1})
    for name, layer in (("first", linear), ("second", linear), ("conv", conv)):
        expect_initialised(got[name], layer, torch.float32, f"{apply}, {layer[0]}", leak)
    products = f"the mean product of the weights of two equal layers after {apply}"
    expect_unrelated(got["first"]["weight"], got["second"]["weight"], 2 / ((1 + leak**2) * n_in), products)
    expect(got["norm"], {"weight": scales, "bias": -scales}, f"the batch norm after {apply}", tol=0)


# -- normalize


def images(**how):
    """Float tensors with enough elements for a standard deviation that is not near 0."""
    return tensors(shapes(min_dims=1, max_dims=4, min_side=4), **how)


def spreads():
    """Standard deviations, away from 0 and from 1."""
    return numbers(0.2, 0.7) | numbers(1.5, 4)


def check_normalized(got, x, mean, std, call):
    """Against the definition in float64; the difference is only as exact as the larger of the two numbers."""
    x64 = x.double()
    mean = x64.mean() if mean is None else torch.as_tensor(mean, dtype=torch.float64)
    std = x64.std(correction=0) if std is None else torch.as_tensor(std, dtype=torch.float64)
    scale = (x64.abs().max() + mean.abs().max()) / std.min() + 1
    expect(got, ((x64 - mean) / std).to(x.dtype), call, scale=scale, tol=1e-5 if x.dtype == torch.float32 else 1e-10)


@pytest.mark.weight(2)
@given(x=images())
def test_normalize_own(normalize, x):
    """Without statistics the result has mean 0 and population standard deviation 1, over all elements of x.

    The population standard deviation divides by n; `x.std()` divides by n - 1.
    """
    with unchanged(x=x):
        got = normalize(x)
    check_normalized(got, x, None, None, "normalize(x)")
    check_normalized(normalize(x / 1024), x / 1024, None, None, "normalize(x / 1024)")


@given(x=images(), mean=numbers(-3, 3), std=spreads())
def test_normalize_given(normalize, x, mean, std):
    """With both statistics given the result is (x - mean) / std, and x's own statistics have no part in it."""
    with unchanged(x=x):
        got = normalize(x, mean, std)
    check_normalized(got, x, mean, std, f"normalize(x, {mean}, {std})")
    check_normalized(normalize(x, 0.0, std), x, 0.0, std, f"normalize(x, 0.0, {std})")
    check_normalized(normalize(x, mean, std / 1000), x, mean, std / 1000, f"normalize(x, {mean}, {std / 1000})")


def _written_to(pieces, *, x):
    x = x.clone()
    result = pieces.normalize(x, 0.0, 1.0)
    got = result.clone()
    result.add_(1)
    return [got, x]


@settings(max_examples=5)
@given(seed=seeds(), dtype=dtypes())
def test_normalize_new(normalize, beside, seed, dtype):
    """A mean of 0 and a standard deviation of 1 that are given leave the numbers of x, in a new tensor."""
    x = normal((6, 5), seed, dtype=dtype, offset=3.0, spread=5.0)
    got, after = beside(_written_to, x=x)
    expect(got, x, "normalize(x, 0.0, 1.0)")
    expect(after, x, "x after normalize(x, 0.0, 1.0).add_(1)", tol=0)


@given(x=images(), mean=numbers(0.1, 3) | numbers(-3, -0.1), std=spreads())
def test_normalize_mean_alone(normalize, x, mean, std):
    """With only the mean given, x's own standard deviation is used, taken about x's own mean; 0.0 is a mean."""
    check_normalized(normalize(x.clone(), mean, std), x, mean, std, f"normalize(x, {mean}, {std})")
    with unchanged(x=x):
        alone, zero = normalize(x, mean=mean), normalize(x, mean=0.0)
    check_normalized(alone, x, mean, None, f"normalize(x, mean={mean})")
    check_normalized(zero, x, 0.0, None, "normalize(x, mean=0.0)")


@given(x=images(), mean=numbers(0.1, 3) | numbers(-3, -0.1), std=spreads())
def test_normalize_std_alone(normalize, x, mean, std):
    """With only the standard deviation given, x's own mean is used."""
    check_normalized(normalize(x.clone(), mean, std), x, mean, std, f"normalize(x, {mean}, {std})")
    with unchanged(x=x):
        alone = normalize(x, std=std)
    check_normalized(alone, x, None, std, f"normalize(x, std={std})")


@given(
    seed=seeds(),
    dtype=dtypes(),
    n=st.integers(1, 4),
    channels=st.integers(1, 4),
    height=st.integers(3, 5),
    width=st.integers(3, 5),
)
def test_normalize_per_channel(normalize, seed, dtype, n, channels, height, width):
    """Statistics may be tensors that broadcast, such as one number per channel or column, both or either of them."""
    x = normal((n, channels, height, width), seed, dtype=dtype, offset=0.5)
    mean = normal((channels, 1, 1), seed + 1, dtype=dtype)
    std = normal((channels, 1, 1), seed + 2, dtype=dtype).abs() + 0.5
    with unchanged(x=x, mean=mean, std=std):
        both, no_std, no_mean = normalize(x, mean, std), normalize(x, mean=mean), normalize(x, std=std)
    check_normalized(both, x, mean, std, "normalize(x, mean, std) with tensors (channels, 1, 1)")
    check_normalized(no_std, x, mean, None, "normalize(x, mean=mean) with a tensor (channels, 1, 1)")
    check_normalized(no_mean, x, None, std, "normalize(x, std=std) with a tensor (channels, 1, 1)")
    mean, std = normal((width,), seed + 3, dtype=dtype), normal((width,), seed + 4, dtype=dtype).abs() + 0.5
    check_normalized(normalize(x, mean, std), x, mean, std, "normalize(x, mean, std) with tensors (width,)")


@given(seed=seeds(), dtype=dtypes(), offset=numbers(-2, 2), spread=numbers(0.5, 3))
def test_normalize_with_statistics_of_others(normalize, seed, dtype, offset, spread):
    """Validation data take the training data's statistics: 0-dim tensors, or one of them a number; 0 is a mean too."""
    train = normal((6, 5), seed, dtype=dtype, offset=offset, spread=spread)
    x = normal((3, 5), seed + 1, dtype=dtype)
    mean, std = train.mean(), train.std(correction=0)
    with unchanged(x=x, mean=mean, std=std):
        got = normalize(x, mean, std)
    check_normalized(got, x, mean, std, "normalize(x, train.mean(), train's std)")
    zero = torch.zeros((), dtype=dtype)
    check_normalized(normalize(x + 1, zero, 2.0), x + 1, zero, 2.0, "normalize(x, tensor(0.), 2.0)")
