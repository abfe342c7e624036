"""Wrong answers to unit 2, each a bug of the bank as a student would write it."""

import math

import torch
from torch import nn

# %% output_std: root forgotten


def output_std(n_in, weight_std, input_std=1.0):
    product = weight_std * input_std
    return sum([product] * n_in)


# %% output_std: variance instead


def output_std(n_in, weight_std, input_std=1.0):
    var = (weight_std * input_std) ** 2
    return n_in * var


# %% output_std: a tensor


def output_std(n_in, weight_std, input_std=1.0):
    variance = torch.tensor(n_in * (weight_std * input_std) ** 2)
    return torch.sqrt(variance)


# %% activation_scales: sample deviation


def activation_scales(x, weights, act=None):
    out = []
    for w in weights:
        x = torch.matmul(x, w)
        if act is not None:
            x = act(x)
        out.append(torch.std(x))
    return torch.stack(out)


# %% activation_scales: measured before the activation


def activation_scales(x, weights, act=None):
    scales = []
    for w in weights:
        x = x @ w
        scales.append(x.std(correction=0))
        if act is not None:
            x = act(x)
    return torch.stack(scales)


# %% activation_scales: activation not passed on


def activation_scales(x, weights, act=None):
    scales = torch.zeros(len(weights), dtype=x.dtype)
    for i, w in enumerate(weights):
        x = x @ w
        activated = act(x) if act else x
        scales[i] = standard_deviation(activated)
    return scales


# %% activation_scales: float64 lost


def activation_scales(x, weights, act=None):
    stds = torch.zeros(len(weights))
    for i, w in enumerate(weights):
        x = x @ w
        x = act(x) if act else x
        stds[i] = standard_deviation(x)
    return stds


# %% activation_scales: every layer gets the input


def activation_scales(x, weights, act=None):
    if act is None:
        act = lambda t: t  # noqa: E731
    return torch.stack([standard_deviation(act(x @ w)) for w in weights])


# %% glorot_normal: variance as the factor


def glorot_normal(n_in, n_out, generator=None):
    std = 1 / ((n_in + n_out) / 2)
    return torch.empty(n_in, n_out).normal_(0, std, generator=generator)


# %% glorot_normal: rows and columns exchanged


def glorot_normal(n_in, n_out, generator=None):
    w = torch.empty(n_out, n_in)
    w.normal_(generator=generator)
    return w * (2 / (n_in + n_out)) ** 0.5


# %% glorot_normal: generator ignored


def glorot_normal(n_in, n_out, generator=None):
    std = math.sqrt(2) / math.sqrt(n_in + n_out)
    return torch.normal(0.0, std, size=(n_in, n_out))


# %% glorot_normal: uniform instead of normal


def glorot_normal(n_in, n_out, generator=None):
    a = math.sqrt(6 / (n_in + n_out))
    return torch.empty(n_in, n_out).uniform_(-a, a, generator=generator)


# %% glorot_uniform: between 0 and the bound


def glorot_uniform(n_in, n_out, generator=None):
    limit = (6 / (n_in + n_out)) ** 0.5
    w = torch.rand((n_in, n_out), generator=generator)
    return limit * w


# %% glorot_uniform: half the bounds


def glorot_uniform(n_in, n_out, generator=None):
    limit = math.sqrt(6 / (n_in + n_out))
    w = torch.rand(n_in, n_out, generator=generator)
    w = w * limit
    return w - limit / 2


# %% glorot_uniform: deviation as the bound


def glorot_uniform(n_in, n_out, generator=None):
    std = math.sqrt(2 / (n_in + n_out))
    return torch.empty(n_in, n_out).uniform_(-std, std, generator=generator)


# %% kaiming_normal: outputs counted


def kaiming_normal(n_in, n_out, leak=0.0, generator=None):
    gain = math.sqrt(2.0 / (1 + leak**2))
    std = gain / math.sqrt(n_out)
    return std * torch.randn(n_in, n_out, generator=generator)


# %% kaiming_normal: leak not squared


def kaiming_normal(n_in, n_out, leak=0.0, generator=None):
    var = 2 / (n_in + leak * n_in)
    return torch.randn((n_in, n_out), generator=generator).mul(var**0.5)


# %% kaiming_normal: leak ignored


def kaiming_normal(n_in, n_out, leak=0.0, generator=None):
    return torch.empty(n_in, n_out).normal_(std=math.sqrt(2 / n_in), generator=generator)


# %% kaiming_normal: variance as the factor


def kaiming_normal(n_in, n_out, leak=0.0, generator=None):
    w = torch.randn(n_in, n_out, generator=generator)
    w *= 2
    w /= n_in * (1 + leak * leak)
    return w


# %% fan_in: channels only


def fan_in(weight):
    if weight.ndim < 2:
        raise ValueError("weight has too few dimensions")
    n_out, n_in, *_ = weight.shape
    return n_in


# %% fan_in: vectors accepted


def fan_in(weight):
    n = 1
    for side in weight.shape[1:]:
        n *= side
    return n


# %% fan_in: fan-out


def fan_in(weight):
    if len(weight.shape) < 2:
        raise ValueError("fan-in needs at least two dimensions")
    return weight.numel() // weight.size(1)


# %% init_weights: variance as the deviation


def init_weights(module, leak=0.0):
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        var = 2 / (fan_in(module.weight) * (1 + leak * leak))
        module.weight.data.normal_(0, var)
        if module.bias is not None:
            module.bias.data.zero_()


# %% init_weights: biases left as they were


@torch.no_grad()
def init_weights(module, leak=0.0):
    for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d):
        if isinstance(module, kind):
            std = math.sqrt(2 / (1 + leak**2)) / math.sqrt(fan_in(module.weight))
            nn.init.normal_(module.weight, 0, std)


# %% init_weights: outputs counted


def init_weights(module, leak=0.0):
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        w = module.weight
        fan = w.shape[0]
        for side in w.shape[2:]:
            fan *= side
        with torch.no_grad():
            w.normal_(std=math.sqrt(2 / fan / (1 + leak**2)))
            if module.bias is not None:
                module.bias.fill_(0.0)


# %% init_weights: kernel not counted


def init_weights(module, leak=0.0):
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        n_in = module.weight.size(1)
        std = (2 / ((1 + leak**2) * n_in)) ** 0.5
        module.weight.data.copy_(torch.randn_like(module.weight) * std)
        if module.bias is not None:
            module.bias.data.zero_()


# %% init_weights: transposed convolutions too


def init_weights(module, leak=0.0):
    name = type(module).__name__
    if "Conv" in name or name == "Linear":
        with torch.no_grad():
            module.weight.normal_(0, math.sqrt(2 / fan_in(module.weight) / (1 + leak**2)))
            if module.bias is not None:
                module.bias.zero_()


# %% init_weights: a new parameter


def init_weights(module, leak=0.0):
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        std = math.sqrt(2 / ((1 + leak**2) * fan_in(module.weight)))
        w = torch.randn(module.weight.shape, dtype=module.weight.dtype) * std
        module.weight = nn.Parameter(w)
        if module.bias is not None:
            module.bias.data.zero_()


# %% init_weights: normalisation reset


def init_weights(module, leak=0.0):
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        std = math.sqrt(2 / ((1 + leak**2) * fan_in(module.weight)))
        module.weight.data.normal_(0, std)
        if module.bias is not None:
            module.bias.data.zero_()
    if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
        module.weight.data.fill_(1)
        module.bias.data.fill_(0)


# %% init_weights: walks into containers


def init_weights(module, leak=0.0):
    for m in module.modules():
        if isinstance(m, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            std = math.sqrt(2 / ((1 + leak**2) * fan_in(m.weight)))
            m.weight.data.normal_(0, std)
            if m.bias is not None:
                m.bias.data.zero_()


# %% init_weights: leak ignored


def init_weights(module, leak=0.0):
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        with torch.no_grad():
            module.weight.copy_(torch.randn_like(module.weight) * (2 / fan_in(module.weight)) ** 0.5)
            if module.bias is not None:
                module.bias.copy_(torch.zeros_like(module.bias))


# %% init_weights: parameters frozen


def init_weights(module, leak=0.0):
    if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        for p in module.parameters():
            p.requires_grad = False
        module.weight.normal_(0, math.sqrt(2 / ((1 + leak**2) * fan_in(module.weight))))
        if module.bias is not None:
            module.bias.zero_()


# %% normalize: sample deviation


def normalize(x, mean=None, std=None):
    m = x.mean() if mean is None else mean
    s = x.std() if std is None else std
    return x.sub(m).div(s)


# %% normalize: both or none


def normalize(x, mean=None, std=None):
    if mean is not None and std is not None:
        return (x - mean) / std
    m = x.sum() / x.numel()
    return (x - m) / ((x - m) ** 2).mean().sqrt()


# %% normalize: spread about the given mean


def normalize(x, mean=None, std=None):
    if mean is None:
        mean = x.mean()
    centred = x - mean
    if std is None:
        std = centred.pow(2).mean().sqrt()
    return centred / std


# %% normalize: zero taken for missing


def normalize(x, mean=None, std=None):
    m = mean or mean_of(x)
    s = standard_deviation(x) if std is None else std
    return (x - m) / s


# %% normalize: in place


def normalize(x, mean=None, std=None):
    mean = mean_of(x) if mean is None else mean
    std = standard_deviation(x) if std is None else std
    x -= mean
    x /= std
    return x
