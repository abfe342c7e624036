"""The laws of unit 1. Expected values come from PyTorch's own statistics, in float64."""

import pytest
import torch
from hypothesis import given, settings
from strategies import dtypes, generator, normal, numbers, pairs, seeds, tensors

from grading.verdict import expect, rejects, unchanged


def several():
    """Tensors of three elements or more: with fewer, wrong answers of different kinds agree."""
    return tensors(min_dims=1, min_side=3)


def several_pairs():
    """Two tensors of one shape and float type, of three elements or more each."""
    return pairs(min_dims=1, min_side=3)


def varying_pairs():
    """Pairs that have a correlation: a variable that hardly varies has none that a float could hold."""
    return several_pairs().filter(lambda xy: all(float(t.std(correction=0)) > 0.05 for t in xy))


def expect_none(statistic, name, t):
    """A single element does not vary."""
    one = t.flatten()[:1].reshape(())
    want, scale = torch.zeros_like(one), 1 + one.abs()
    expect(statistic(one), want, f"{name}(a single element)", scale=scale)


@given(t=tensors(min_dims=1))
def test_mean_value(mean, t):
    """The mean is the sum of all elements divided by how many there are, whatever their shape."""
    with unchanged(t=t):
        got = mean(t)
    expect(got, t.double().mean().to(t.dtype), "mean(t)", scale=1 + t.abs().max())


@given(t=tensors(max_side=1))
def test_mean_of_one_element(mean, t):
    """The mean of a single element is that element, as a 0-dim tensor; a 0-dim tensor has one element too."""
    expect(mean(t), t.reshape(()), "mean(t)", scale=1 + t.abs().max())


@settings(max_examples=5)
@given(seed=seeds(), dtype=dtypes())
def test_mean_of_many(mean, seed, dtype):
    """Every element counts the same, zeros too, however many there are, and as it is at the time of the call."""
    # a prime count, which no size of chunk divides, and sorted, so that every chunk has a mean of its own
    t = normal((1511,), seed, dtype=dtype).relu().sort().values
    want = t.double().mean()
    expect(mean(t), want.to(dtype), "mean(t) of 1511 numbers, half of them 0", scale=1.0)
    expect(mean(t.add_(1)), (want + 1).to(dtype), "mean(t) after mean(t) and t.add_(1)", scale=2.0)


@pytest.mark.weight(2)
@given(t=several())
def test_variance_value(variance, t):
    """The variance is the mean of the squared deviations from the mean; a single element has none.

    Population statistics divide by n. `torch.var` divides by n - 1 unless it is told not to.
    """
    with unchanged(t=t):
        got = variance(t)
    expect(got, t.double().var(correction=0).to(t.dtype), "variance(t)", scale=t.var(correction=0) + 1e-4)
    expect_none(variance, "variance", t)


@given(dtype=dtypes())
def test_variance_example(variance, dtype):
    """The variance of 1, 2, 4, 18 is 47.1875."""
    expect(
        variance(torch.tensor([1.0, 2, 4, 18], dtype=dtype)),
        torch.tensor(47.1875, dtype=dtype),
        "variance([1, 2, 4, 18])",
    )


@given(seed=seeds(), centre=numbers(500, 2000))
def test_variance_keeps_digits(variance, seed, centre):
    """A large mean does not spoil the variance: deviations are formed before squaring.

    E[X²] - E[X]² subtracts two large, nearly equal numbers; that is the exercise `variance_shortcut`.
    """
    t = centre + torch.randn(50, generator=generator(seed))
    want = t.double().var(correction=0).float()
    # the mean of 50 float32 near 2000 is off by some 1e-4, which enters the variance squared
    expect(variance(t), want, "variance(t)", tol=2e-3)


@given(t=several())
def test_standard_deviation_value(standard_deviation, t):
    """The standard deviation is the square root of the variance, which divides by n."""
    with unchanged(t=t):
        got = standard_deviation(t)
    want = t.double().std(correction=0).to(t.dtype)
    # the root magnifies rounding near 0: a variance off by 1e-12 is a deviation off by 1e-6
    expect(got, want, "standard_deviation(t)", scale=want + (1e-2 if t.dtype == torch.float32 else 1e-4))
    expect_none(standard_deviation, "standard_deviation", t)


@given(t=several())
def test_mean_absolute_deviation_value(mean_absolute_deviation, t):
    """The mean absolute deviation is the mean distance of the elements from their mean."""
    with unchanged(t=t):
        got = mean_absolute_deviation(t)
    want = (t.double() - t.double().mean()).abs().mean().to(t.dtype)
    expect(got, want, "mean_absolute_deviation(t)", scale=want + 1e-2)
    expect_none(mean_absolute_deviation, "mean_absolute_deviation", t)


@given(t=several())
def test_variance_shortcut_value(variance_shortcut, t):
    """E[X²] - E[X]² equals the variance with divisor n, up to rounding."""
    with unchanged(t=t):
        got = variance_shortcut(t)
    expect(got, t.double().var(correction=0).to(t.dtype), "variance_shortcut(t)", scale=1e-3 + t.square().mean())
    one = t.flatten()[:1].reshape(())
    want, scale = torch.zeros_like(one), 1 + one.square()
    expect(variance_shortcut(one), want, "variance_shortcut(a single element)", scale=scale)


@given(seed=seeds(), centre=numbers(1e8, 2e8))
def test_variance_shortcut_in_one_pass(variance_shortcut, seed, centre):
    """The shortcut squares the elements themselves: with a large mean and a small spread it loses its digits.

    This is the price of needing no deviations. A result as good as the two-pass variance was not computed this way.
    """
    # float64, so that whoever computes in float64 anyway is no better off
    t = centre + torch.randn(20, 250, generator=generator(seed), dtype=torch.float64) * 0.01
    exact = [float(row.var(correction=0)) for row in t]
    errors = [float(variance_shortcut(row)) - want for row, want in zip(t, exact, strict=True)]
    expect(
        max(abs(error) for error in errors) > 1e-3, True, "variance_shortcut(t) is off by more than 0.001 for such t"
    )


@given(xy=several_pairs())
@pytest.mark.weight(2)
def test_covariance_value(covariance, xy):
    """The covariance is the mean of the products of both variables' deviations from their means; it divides by n."""
    x, y = xy
    with unchanged(x=x, y=y):
        got = covariance(x, y)
    want = ((x.double() - x.double().mean()) * (y.double() - y.double().mean())).mean().to(x.dtype)
    expect(got, want, "covariance(x, y)", scale=0.1 + x.std(correction=0) * y.std(correction=0))
    one, other = (t.flatten()[:1].reshape(()) for t in xy)
    want, scale = torch.zeros_like(one), 1 + (one * other).abs()
    expect(covariance(one, other), want, "covariance(a single pair)", scale=scale)


@given(t=several())
def test_covariance_with_itself(covariance, t):
    """The covariance of a variable with itself is its variance."""
    want = t.double().var(correction=0).to(t.dtype)
    expect(covariance(t, t), want, "covariance(t, t)", scale=want + 1e-2)


@given(n=dtypes().flatmap(lambda dtype: pairs(min_dims=1, min_side=3, dtype=dtype)))
def test_covariance_refuses_shapes(covariance, n):
    """Tensors of different shape have no pairs, so they raise ValueError, also where PyTorch would broadcast them."""
    x, y = n
    with rejects(ValueError, "covariance(x, y[:1])"):
        covariance(x, y[:1])
    with rejects(ValueError, "covariance(x, y[0])"):
        covariance(x, y[0])
    if y.ndim > 1:
        with rejects(ValueError, "covariance(x, y[..., :1])"):
            covariance(x, y[..., :1])
    # before a further 1, which those overlook who count elements, and those who squeeze
    with rejects(ValueError, "covariance(torch.stack([x, x]), torch.stack([y, y]).flatten())"):
        covariance(torch.stack([x, x]), torch.stack([y, y]).flatten())
    with rejects(ValueError, "covariance(x, y with a further dimension of 1)"):
        covariance(x, y.unsqueeze(0))
    want = ((x.double() - x.double().mean()) * (y.double() - y.double().mean())).mean().to(x.dtype)
    expect(covariance(x, y), want, "covariance(x, y)", scale=0.1 + x.std(correction=0) * y.std(correction=0))


@given(xy=varying_pairs())
@pytest.mark.weight(2)
def test_correlation_value(correlation, xy):
    """The correlation is the covariance divided by the product of both standard deviations."""
    x, y = xy
    with unchanged(x=x, y=y):
        got = correlation(x, y)
    want = torch.corrcoef(torch.stack([x.double().flatten(), y.double().flatten()]))[0, 1].to(x.dtype)
    expect(got, want, "correlation(x, y)", scale=1.0, tol=2e-3 if x.dtype == torch.float32 else None)


@given(xy=varying_pairs(), slope=numbers(0.2, 3), shift=numbers(-3, 3), sign=numbers(-1, 1))
def test_correlation_of_a_line(correlation, xy, slope, shift, sign):
    """Data on a line have correlation 1, or -1 where the line falls, and other data lie between.

    All three statistics must share one divisor. The correlation has no unit: it stays when both are measured in
    larger units.
    """
    t, other = xy
    between = torch.corrcoef(torch.stack([t.double().flatten(), other.double().flatten()]))[0, 1].to(t.dtype)
    tol = 2e-3 if t.dtype == torch.float32 else 1e-8
    expect(correlation(t, other), between, "correlation(t, other)", scale=1.0, tol=tol)
    small = correlation(t / 2**14, other / 2**14)
    expect(small, between, "correlation(t / 2**14, other / 2**14)", scale=1.0, tol=tol)
    slope = slope if sign >= 0 else -slope
    want = torch.tensor(1.0 if slope > 0 else -1.0, dtype=t.dtype)
    got = correlation(t, slope * t + shift)
    expect(got, want, "correlation(t, slope * t + shift)", tol=tol)


@given(xy=varying_pairs())
def test_correlation_refuses_shapes(correlation, xy):
    """Tensors of different shape have no pairs, so they raise ValueError, also where PyTorch would broadcast them."""
    x, y = xy
    with rejects(ValueError, "correlation(x, y[:1])"):
        correlation(x, y[:1])
    with rejects(ValueError, "correlation(x, y with a further dimension of 1)"):
        correlation(x, y.unsqueeze(0))
    want = torch.corrcoef(torch.stack([x.double().flatten(), y.double().flatten()]))[0, 1].to(x.dtype)
    expect(correlation(x, y), want, "correlation(x, y)", scale=1.0, tol=2e-3 if x.dtype == torch.float32 else None)
