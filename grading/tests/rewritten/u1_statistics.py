"""Wrong answers to unit 1, each a bug of the bank as a student would write it."""

import torch
from torch import Tensor

# %% mean: sum without count


def mean(t: Tensor) -> Tensor:
    total = 0
    for value in t.flatten():
        total = total + value
    return total


# %% mean: divides by the first side


def mean(t: Tensor) -> Tensor:
    n = t.shape[0]
    return torch.sum(t).div(n)


# %% mean: divides by n - 1


def mean(t: Tensor) -> Tensor:
    flat = t.flatten()
    n = len(flat) - 1
    return flat.sum() / n


# %% mean: a Python number


def mean(t: Tensor) -> Tensor:
    total = float(t.sum())
    return total / t.numel()


# %% variance: sample variance


def variance(t: Tensor) -> Tensor:
    deviations = t - mean(t)
    squares = deviations * deviations
    return squares.sum().div(squares.numel() - 1)


# %% variance: not centred


def variance(t: Tensor) -> Tensor:
    n = t.numel()
    return torch.einsum("i,i->", t.flatten(), t.flatten()) / n


# %% variance: one-pass formula


def variance(t: Tensor) -> Tensor:
    n = t.numel()
    mean_of_squares = (t * t).sum() / n
    square_of_mean = (t.sum() / n) * (t.sum() / n)
    return mean_of_squares - square_of_mean


# %% variance: centred in place


def variance(t: Tensor) -> Tensor:
    t -= mean(t)
    return (t * t).sum() / t.numel()


# %% standard_deviation: sample deviation


def standard_deviation(t: Tensor) -> Tensor:
    d = t - mean(t)
    return torch.sqrt((d**2).sum() / (d.numel() - 1))


# %% standard_deviation: root of each square


def standard_deviation(t: Tensor) -> Tensor:
    squares = (t - mean(t)).pow(2)
    roots = torch.sqrt(squares)
    return roots.sum() / t.numel()


# %% standard_deviation: count outside the root


def standard_deviation(t: Tensor) -> Tensor:
    d = (t - mean(t)).flatten()
    return torch.sqrt(d @ d) / len(d)


# %% mean_absolute_deviation: magnitude taken last


def mean_absolute_deviation(t: Tensor) -> Tensor:
    deviations = t - mean(t)
    average = deviations.sum() / deviations.numel()
    return torch.abs(average)


# %% mean_absolute_deviation: distance from the median


def mean_absolute_deviation(t: Tensor) -> Tensor:
    middle = torch.median(t)
    total = torch.zeros_like(middle)
    for value in t.flatten():
        total += abs(value - middle)
    return total / t.numel()


# %% mean_absolute_deviation: standard deviation


def mean_absolute_deviation(t: Tensor) -> Tensor:
    d = t - mean(t)
    return variance(d) ** 0.5


# %% variance_shortcut: terms exchanged


def variance_shortcut(t: Tensor) -> Tensor:
    m = mean(t)
    m2 = mean(t * t)
    return m * m - m2


# %% variance_shortcut: deviations formed


def variance_shortcut(t: Tensor) -> Tensor:
    centred = t - mean(t)
    return (centred * centred).sum() / t.numel()


# %% variance_shortcut: divided only once


def variance_shortcut(t: Tensor) -> Tensor:
    squares, total = torch.zeros((), dtype=t.dtype), torch.zeros((), dtype=t.dtype)
    for value in t.flatten():
        squares = squares + value**2
        total = total + value
    return (squares - total**2) / t.numel()


# %% covariance: sample covariance


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("shapes differ")
    dx = (x - mean(x)).flatten()
    dy = (y - mean(y)).flatten()
    return dx.dot(dy) / (len(dx) - 1)


# %% covariance: not centred


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("shapes differ")
    total = 0
    for a, b in zip(x.flatten(), y.flatten(), strict=True):
        total = total + a * b
    return total / x.numel()


# %% covariance: means exchanged


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.size() != y.size():
        raise ValueError("x and y must have the same size")
    mx, my = mean(y), mean(x)
    return mean((x - mx).mul(y - my))


# %% covariance: product of mean deviations


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("shapes differ")
    dx = mean(x - mean(x))
    dy = mean(y - mean(y))
    return dx * dy


# %% covariance: other shapes accepted


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.ndim != y.ndim:
        raise ValueError("x and y must have as many dimensions")
    return ((x - x.mean()) * (y - y.mean())).mean()


# %% covariance: other shapes accepted


def covariance(x: Tensor, y: Tensor) -> Tensor:
    try:
        torch.broadcast_shapes(x.shape, y.shape)
    except RuntimeError:
        raise ValueError("x and y must have one shape") from None
    return ((x - x.mean()) * (y - y.mean())).mean()


# %% covariance: sides of 1 overlooked


def covariance(x: Tensor, y: Tensor) -> Tensor:
    one, other = x.squeeze(), y.squeeze()
    if one.shape != other.shape:
        raise ValueError("x and y must have one shape")
    return ((one - one.mean()) * (other - other.mean())).mean()


# %% covariance: other shapes accepted


def covariance(x: Tensor, y: Tensor) -> Tensor:
    dx = x - x.sum() / x.numel()
    dy = y - y.sum() / y.numel()
    products = dx * dy
    return products.sum() / products.numel()


# %% covariance: sizes compared, not shapes


def covariance(x: Tensor, y: Tensor) -> Tensor:
    xs, ys = x.flatten(), y.flatten()
    if len(xs) != len(ys):
        raise ValueError("x and y must have as many elements")
    return mean((xs - mean(xs)) * (ys - mean(ys)))


# %% covariance: correlation instead


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("shapes differ")
    zx = (x - mean(x)) / standard_deviation(x)
    zy = (y - mean(y)) / standard_deviation(y)
    return mean(zx * zy)


# %% covariance: centred in place


def covariance(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("shapes differ")
    x -= mean(x)
    y -= mean(y)
    return (x * y).sum() / x.numel()


# %% correlation: sample deviations only


def correlation(x: Tensor, y: Tensor) -> Tensor:
    cov = covariance(x, y)
    return cov / torch.std(x) / torch.std(y)


# %% correlation: sample covariance only


def correlation(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("shapes differ")
    n = x.numel()
    cov = ((x - mean(x)) * (y - mean(y))).sum() / (n - 1)
    return cov / (variance(x) * variance(y)).sqrt()


# %% correlation: divided by variances


def correlation(x: Tensor, y: Tensor) -> Tensor:
    cov = covariance(x, y)
    vx, vy = variance(x), variance(y)
    return cov / vx / vy


# %% correlation: cosine without centring


def correlation(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("shapes differ")
    a, b = x.flatten(), y.flatten()
    return (a @ b) / torch.sqrt((a @ a) * (b @ b))


# %% correlation: multiplied by y's deviation


def correlation(x: Tensor, y: Tensor) -> Tensor:
    sx, sy = standard_deviation(x), standard_deviation(y)
    return covariance(x, y) / sx * sy


# %% correlation: other shapes accepted


def correlation(x: Tensor, y: Tensor) -> Tensor:
    dx = x - mean(x)
    dy = y - mean(y)
    return mean(dx * dy) / (mean(dx**2).sqrt() * mean(dy**2).sqrt())


# %% correlation: coefficient of determination


def correlation(x: Tensor, y: Tensor) -> Tensor:
    return covariance(x, y).pow(2) / (variance(x) * variance(y))


# %% correlation: slope of the regression


def correlation(x: Tensor, y: Tensor) -> Tensor:
    if x.shape != y.shape:
        raise ValueError("shapes differ")
    dx = x - mean(x)
    return (dx * (y - mean(y))).sum() / (dx * dx).sum()
