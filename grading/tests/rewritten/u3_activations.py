"""Wrong answers to unit 3, each a bug of the bank as a student would write it."""

import math

import torch
from torch import nn

# %% relu: in place


def relu(x):
    x[x < 0] = 0
    return x


# %% relu: a leak


def relu(x):
    return torch.maximum(x, 0.01 * x)


# %% relu: step


def relu(x):
    return torch.where(x > 0, torch.ones_like(x), torch.zeros_like(x))


# %% relu: gradient cut


def relu(x):
    y = x.data.clone()
    y[y < 0] = 0
    return y


# %% zero_mean_shift: mean of the positive half


def zero_mean_shift(leak):
    half_normal_mean = (2 / math.pi) ** 0.5
    return half_normal_mean - leak * half_normal_mean


# %% zero_mean_shift: leak ignored


def zero_mean_shift(leak):
    density_at_zero = math.exp(0) / math.sqrt(2 * math.pi)
    return density_at_zero


# %% zero_mean_shift: root forgotten


def zero_mean_shift(leak):
    return (0.5 - leak / 2) / math.pi


# %% general_relu: cap of zero ignored


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.leak, self.sub, self.maxv = leak or 0.0, sub or 0.0, maxv
        self.max_leak = max_leak or 0.0

    def forward(self, x):
        y = x.clamp(min=0) + self.leak * x.clamp(max=0) - self.sub
        if self.maxv:
            y = y.clamp(max=self.maxv) + self.max_leak * (y - self.maxv).clamp(min=0)
        return y


# %% general_relu: cap before sub


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.leak = leak
        self.sub = sub
        self.maxv = maxv
        self.max_leak = max_leak

    def forward(self, x):
        leak = 0 if self.leak is None else self.leak
        out = torch.where(x < 0, x * leak, x)
        if self.maxv is not None:
            above = (out - self.maxv).clamp(min=0)
            out = out - above
            if self.max_leak is not None:
                out = out + above * self.max_leak
        if self.sub is not None:
            out = out - self.sub
        return out


# %% general_relu: second slope ignored


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.leak, self.sub, self.maxv = leak, sub, maxv

    def forward(self, x):
        y = x.clamp(min=0)
        if self.leak is not None:
            y = y + self.leak * x.clamp(max=0)
        if self.sub is not None:
            y = y - self.sub
        if self.maxv is not None:
            y = torch.clamp(y, max=self.maxv)
        return y


# %% general_relu: sub before the leak


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.sub = 0.0 if sub is None else sub
        self.leak = 0.0 if leak is None else leak
        self.maxv = float("inf") if maxv is None else maxv
        self.max_leak = 0.0 if max_leak is None else max_leak

    def forward(self, x):
        shifted = x - self.sub
        y = torch.where(shifted > 0, shifted, self.leak * shifted)
        return torch.where(y > self.maxv, self.maxv * (1 - self.max_leak) + self.max_leak * y, y)


# %% general_relu: second slope from zero


class GeneralReLU(nn.Module):
    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.leak, self.sub, self.maxv, self.max_leak = leak, sub, maxv, max_leak

    def forward(self, x):
        y = torch.where(x > 0, x, x * (self.leak or 0.0)) - (self.sub or 0.0)
        if self.maxv is None:
            return y
        above = y > self.maxv
        return torch.where(above, y * (self.max_leak or 0.0) + self.maxv, y)


# %% general_relu: settings on the class


class GeneralReLU(nn.Module):
    settings: dict = {}  # noqa: RUF012

    def __init__(self, leak=None, sub=None, maxv=None, max_leak=None):
        super().__init__()
        self.settings.update(leak=leak, sub=sub, maxv=maxv, max_leak=max_leak)

    def forward(self, x):
        s = self.settings
        y = torch.where(x > 0, x, x * (s["leak"] or 0))
        if s["sub"] is not None:
            y = y - s["sub"]
        if s["maxv"] is not None:
            capped = y.clamp(max=s["maxv"])
            y = capped + (s["max_leak"] or 0) * (y - capped)
        return y
