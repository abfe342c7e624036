"""Right answers to unit 1, written differently."""

import math

import torch
from torch import Tensor

# %% mean: loop over the elements


def mean(t: Tensor) -> Tensor:
    total = torch.zeros((), dtype=t.dtype)
    for value in t.flatten():
        total = total + value
    return total / len(t.flatten())


# %% mean: float64 inside


def mean(t: Tensor) -> Tensor:
    return (t.double().sum() / t.numel()).to(t.dtype)


# %% mean: product with equal weights


def mean(t: Tensor) -> Tensor:
    flat = t.reshape(-1)
    return flat @ torch.full_like(flat, 1 / math.prod(t.shape))


# %% variance: einsum of the deviations


def variance(t: Tensor) -> Tensor:
    deviations = (t - t.mean()).flatten()
    return torch.einsum("i,i->", deviations, deviations) / deviations.numel()


# %% variance: running update of Welford


def variance(t: Tensor) -> Tensor:
    centre = squares = torch.zeros((), dtype=t.dtype)
    for count, value in enumerate(t.flatten(), start=1):
        before = value - centre
        centre = centre + before / count
        squares = squares + before * (value - centre)
    return squares / t.numel()


# %% variance: half the mean squared difference of all pairs


def variance(t: Tensor) -> Tensor:
    flat = t.flatten()
    return (flat[:, None] - flat[None, :]).pow(2).mean() / 2


# %% variance: in place on a copy


def variance(t: Tensor) -> Tensor:
    copy = t.clone()
    copy -= mean(copy)
    copy *= copy
    return copy.sum().div(t.numel())


# %% standard_deviation: power of one half


def standard_deviation(t: Tensor) -> Tensor:
    return torch.pow(variance(t), 0.5)


# %% standard_deviation: length of the deviations


def standard_deviation(t: Tensor) -> Tensor:
    return (t - mean(t)).norm() / math.sqrt(t.numel())


# %% standard_deviation: float64 inside


def standard_deviation(t: Tensor) -> Tensor:
    return variance(t.double()).sqrt().type_as(t)


# %% mean_absolute_deviation: Python numbers


def mean_absolute_deviation(t: Tensor) -> Tensor:
    values = t.flatten().tolist()
    centre = math.fsum(values) / len(values)
    return torch.tensor(math.fsum(abs(v - centre) for v in values) / len(values), dtype=t.dtype, device=t.device)


# %% mean_absolute_deviation: twice what lies above the mean


def mean_absolute_deviation(t: Tensor) -> Tensor:
    return 2 * (t - mean(t)).clamp(min=0).sum() / t.numel()


# %% mean_absolute_deviation: sign times deviation


def mean_absolute_deviation(t: Tensor) -> Tensor:
    deviations = t - t.mean()
    return torch.where(deviations < 0, -deviations, deviations).mean()


# %% variance_shortcut: two running sums


def variance_shortcut(t: Tensor) -> Tensor:
    total = squares = torch.zeros((), dtype=t.dtype)
    for value in t.flatten():
        total = total + value
        squares = squares + value * value
    return squares / t.numel() - (total / t.numel()) ** 2


# %% variance_shortcut: one common divisor


def variance_shortcut(t: Tensor) -> Tensor:
    n, flat = t.numel(), t.flatten()
    return (n * (flat @ flat) - flat.sum() ** 2) / n**2


# %% variance_shortcut: float64 inside


def variance_shortcut(t: Tensor) -> Tensor:
    t64 = t.to(torch.float64)
    return (t64.square().mean() - t64.mean().square()).to(t.dtype)


# %% covariance: only x is centred


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if tuple(x.shape) != tuple(y.shape):
        raise ValueError("x and y need equal shapes")
    return mean((x - mean(x)) * y)


# %% covariance: shortcut in float64


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.size() != y.size():
        raise ValueError(f"shapes differ: {x.size()} and {y.size()}")
    one, other = x.double(), y.double()
    return (mean(one * other) - mean(one) * mean(other)).to(x.dtype)


# %% covariance: einsum


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.ndim != y.ndim or any(a != b for a, b in zip(x.shape, y.shape, strict=True)):
        raise ValueError("the shapes of x and y differ")
    dx, dy = (x - x.mean()).flatten(), (y - y.mean()).flatten()
    return torch.einsum("i,i", dx, dy) / x.numel()


# %% covariance: loop over pairs of numbers


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if not x.shape == y.shape:
        raise ValueError("x and y must have the same shape")
    xs, ys = x.flatten().tolist(), y.flatten().tolist()
    mx, my = sum(xs) / len(xs), sum(ys) / len(ys)
    total = 0.0
    for a, b in zip(xs, ys, strict=True):
        total += (a - mx) * (b - my)
    return torch.tensor(total / len(xs), dtype=x.dtype)


# %% covariance: from the variance of the sum


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("x and y must have the same shape")
    one, other = x.double(), y.double()
    return ((variance(one + other) - variance(one) - variance(other)) / 2).to(x.dtype)


# %% correlation: cosine of the deviations


def correlation(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("x and y must have the same shape")
    dx, dy = x - x.mean(), y - y.mean()
    return (dx * dy).sum() / (dx.norm() * dy.norm())


# %% correlation: mean product of standard scores


def correlation(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("x and y must have the same shape")
    zx, zy = ((t - mean(t)) / standard_deviation(t) for t in (x, y))
    return mean(zx * zy)


# %% correlation: sample divisor in all three


def correlation(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("x and y must have the same shape")
    n = x.numel()
    cov = ((x - mean(x)) * (y - mean(y))).sum() / (n - 1)
    return cov / x.std() / y.std()


# %% correlation: root of the product of variances, held within its bounds


def correlation(x: Tensor, y: Tensor) -> Tensor:
    rho = covariance(x, y) / torch.sqrt(variance(x) * variance(y))
    return rho.clamp(-1, 1)


# %% correlation: float64 inside


def correlation(x: Tensor, y: Tensor) -> Tensor:
    a, b = x.double(), y.double()
    return (covariance(a, b) / standard_deviation(a) / standard_deviation(b)).to(x.dtype)
