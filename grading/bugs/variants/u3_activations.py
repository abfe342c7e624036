"""Right answers to unit 3, written differently."""

import math
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# %% relu: where


def relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, torch.zeros_like(x))


# %% relu: half of x and its magnitude


def relu(x: Tensor) -> Tensor:
    return (x + x.abs()) / 2


# %% relu: in place on a copy


def relu(x: Tensor) -> Tensor:
    y = x.clone()
    y[x < 0] = 0
    return y


# %% relu: larger of two tensors


def relu(x: Tensor) -> Tensor:
    return torch.maximum(x, x.new_zeros(()))


# %% zero_mean_shift: density of the normal distribution at 0


def zero_mean_shift(leak: float) -> float:
    return NormalDist().pdf(0.0) * (1 - leak)


# %% zero_mean_shift: halves apart


def zero_mean_shift(leak: float) -> float:
    positive_half = 0.5 * math.sqrt(2 / math.pi)
    return positive_half - leak * positive_half


# %% zero_mean_shift: through a tensor


def zero_mean_shift(leak: float) -> float:
    root = torch.tensor(2 * math.pi, dtype=torch.float64).sqrt()
    return float((1.0 - leak) / root)


# %% general_relu: sum of ramps


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.leak = 0.0 if leak is None else leak
        self.sub = 0.0 if sub is None else sub
        self.maxv = maxv
        self.max_leak = 0.0 if max_leak is None else max_leak

    def forward(self, x):
        y = x.clamp(min=0) + self.leak * x.clamp(max=0) - self.sub
        if self.maxv is None:
            return y
        return y.clamp(max=self.maxv) + self.max_leak * (y - self.maxv).clamp(min=0)


# %% general_relu: factor per element


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.settings = {"leak": leak or 0.0, "sub": sub or 0.0, "maxv": maxv, "max_leak": max_leak or 0.0}

    def forward(self, x):
        x = x * torch.where(x < 0, self.settings["leak"], torch.ones_like(x))
        x = torch.sub(x, self.settings["sub"])
        maxv = self.settings["maxv"]
        if maxv is not None:
            excess = torch.relu(x - maxv)
            x = x - excess + self.settings["max_leak"] * excess
        return x


# %% general_relu: in place on its own tensors


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.leak, self.sub, self.maxv, self.max_leak = leak, sub, maxv, max_leak

    def forward(self, x):
        y = relu(x)
        if self.leak is not None:
            y = y - self.leak * relu(-x)
        if self.sub is not None:
            y -= self.sub
        if self.maxv is not None:
            capped = torch.clamp_max(y, self.maxv)
            y = capped if self.max_leak is None else capped + self.max_leak * (y - capped)
        return y


# %% general_relu: a list of steps


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.steps = [lambda x: torch.where(x >= 0, x, x * (0.0 if leak is None else leak))]
        if sub is not None:
            self.steps.append(lambda x: x - sub)
        if maxv is not None and max_leak is None:
            self.steps.append(lambda x: torch.minimum(x, torch.full_like(x, maxv)))
        if maxv is not None and max_leak is not None:
            self.steps.append(lambda x: torch.where(x <= maxv, x, max_leak * x + (1 - max_leak) * maxv))

    def forward(self, x):
        for step in self.steps:
            x = step(x)
        return x


# %% general_relu: properties over one tuple


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self._given = (leak, sub, maxv, max_leak)

    @property
    def leak(self):
        return self._given[0] if self._given[0] is not None else 0

    @property
    def ceiling(self):
        return math.inf if self._given[2] is None else self._given[2]

    def forward(self, x):
        _, sub, _, max_leak = self._given
        y = torch.where(x.gt(0), x, x.mul(self.leak))
        y = y if sub is None else y.sub(sub)
        above = y > self.ceiling
        return y.masked_fill(above, 0) + torch.where(above, self.ceiling + (max_leak or 0) * (y - self.ceiling), 0)


# %% general_relu: PyTorch's leaky ReLU first, as in the lesson
class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.leak, self.sub, self.maxv, self.max_leak = leak, sub, maxv, max_leak

    def forward(self, x):
        x = F.relu(x) if self.leak is None else F.leaky_relu(x, self.leak)
        if self.sub is not None:
            x = x - self.sub
        if self.maxv is not None:
            above = (x - self.maxv).clamp(min=0)
            x = x - above if self.max_leak is None else x - above + self.max_leak * above
        return x
