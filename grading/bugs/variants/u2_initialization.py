"""Right answers to unit 2, written differently."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

# %% output_std: root of the variance


def output_std(n_in: int, weight_std: float, input_std: float = 1.0) -> float:
    variance_of_product = weight_std**2 * input_std**2
    return (n_in * variance_of_product) ** 0.5


# %% output_std: by tensors


def output_std(n_in: int, weight_std: float, input_std: float = 1.0) -> float:
    terms = torch.full((n_in,), weight_std * input_std, dtype=torch.float64)
    return terms.norm().item()


# %% activation_scales: entries written into a new tensor


def activation_scales(x: Tensor, weights: Sequence[Tensor], act: Callable | None = None) -> Tensor:
    act = act or (lambda y: y)
    scales = x.new_zeros(len(weights))
    for i, w in enumerate(weights):
        x = act(torch.einsum("nd,de->ne", x, w))
        scales[i] = (x - x.mean()).square().mean().sqrt()
    return scales


# %% activation_scales: activations kept, then measured


def activation_scales(x: Tensor, weights: Sequence[Tensor], act: Callable | None = None) -> Tensor:
    outputs = [x]
    for w in weights:
        product = torch.matmul(outputs[-1], w)
        outputs.append(product if act is None else act(product))
    return torch.stack([y.std(correction=0) for y in outputs[1:]])


# %% activation_scales: one layer, then the rest


def activation_scales(x: Tensor, weights: Sequence[Tensor], act: Callable | None = None) -> Tensor:
    first, *rest = weights
    x = x.matmul(first)
    if act is not None:
        x = act(x)
    scale = standard_deviation(x).reshape(1)
    return torch.cat([scale, activation_scales(x, rest, act)]) if rest else scale


# %% activation_scales: Python numbers of the right dtype


def activation_scales(x: Tensor, weights: Sequence[Tensor], act: Callable | None = None) -> Tensor:
    scales = []
    for w in weights:
        x = x @ w
        if act:
            x = act(x)
        scales.append(standard_deviation(x).item())
    return torch.tensor(scales, dtype=x.dtype)


# %% glorot_normal: drawn in place


def glorot_normal(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    std = (2 / (n_in + n_out)) ** 0.5
    return torch.empty(n_in, n_out).normal_(0, std, generator=generator)


# %% glorot_normal: torch.normal


def glorot_normal(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    average = (n_in + n_out) / 2
    return torch.normal(0.0, 1 / math.sqrt(average), (n_in, n_out), generator=generator)


# %% glorot_normal: drawn transposed, in float64


def glorot_normal(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    w = torch.randn(n_out, n_in, generator=generator, dtype=torch.float64)
    return (w.T / math.sqrt((n_in + n_out) / 2)).float()


# %% glorot_normal: from uniform numbers, after Box and Muller


def glorot_normal(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    radius, angle = torch.rand(2, n_in, n_out, generator=generator)
    z = (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()
    return z * math.sqrt(2 / (n_in + n_out))


# %% glorot_uniform: drawn in place


def glorot_uniform(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    a = math.sqrt(6) / math.sqrt(n_in + n_out)
    return torch.empty((n_in, n_out)).uniform_(-a, a, generator=generator)


# %% glorot_uniform: from the variance


def glorot_uniform(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    bound = math.sqrt(3 * 2 / (n_in + n_out))
    w = torch.rand((n_in, n_out), generator=generator)
    w -= 0.5
    w *= 2 * bound
    return w


# %% glorot_uniform: lerp between the bounds


def glorot_uniform(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    high = math.sqrt(6 / (n_in + n_out))
    share = torch.rand(n_out, n_in, generator=generator).T
    return share * high - (1 - share) * high


# %% kaiming_normal: drawn in place


def kaiming_normal(n_in: int, n_out: int, leak: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    gain = math.sqrt(2 / (1 + leak * leak))
    w = torch.empty(n_in, n_out)
    w.normal_(generator=generator)
    w *= gain / math.sqrt(n_in)
    return w


# %% kaiming_normal: one row of outputs after another


def kaiming_normal(n_in: int, n_out: int, leak: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    std = math.sqrt(2 / (1 + leak**2) / n_in)
    columns = [std * torch.randn(n_in, generator=generator) for _ in range(n_out)]
    return torch.stack(columns, dim=1)


# %% kaiming_normal: output_std solved for the weights


def kaiming_normal(n_in: int, n_out: int, leak: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    passed = (1 + leak**2) / 2
    return torch.normal(0.0, 1 / output_std(n_in, math.sqrt(passed)), (n_in, n_out), generator=generator)


# %% fan_in: entries of one output


def fan_in(weight: Tensor) -> int:
    if weight.ndim < 2:
        raise ValueError("weight needs two dimensions or more")
    return weight[0].numel()


# %% fan_in: whole-number division


def fan_in(weight: Tensor) -> int:
    if len(weight.shape) in (0, 1):
        raise ValueError(f"no fan-in for shape {tuple(weight.shape)}")
    return weight.numel() // weight.size(0)


# %% fan_in: loop over the kernel


def fan_in(weight: Tensor) -> int:
    try:
        _, count, *kernel = weight.shape
    except ValueError:
        raise ValueError("weight must have at least two dimensions") from None
    for side in kernel:
        count *= side
    return count


# %% init_weights: through data


def init_weights(module: nn.Module, leak: float = 0.0) -> None:
    if not isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return
    std = math.sqrt(2 / (1 + leak**2) / module.weight[0].numel())
    module.weight.data.normal_(0, std)
    if module.bias is not None:
        module.bias.data.fill_(0)


# %% init_weights: by the exact class and as a decorator


@torch.no_grad()
def init_weights(module: nn.Module, leak: float = 0.0) -> None:
    match module:
        case nn.Linear() | nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            gain = math.sqrt(2 / (1 + leak * leak))
            module.weight.copy_(torch.randn_like(module.weight) * gain / math.sqrt(fan_in(module.weight)))
            if module.bias is not None:
                module.bias.copy_(torch.zeros_like(module.bias))


# %% init_weights: drawn in float64 as a matrix


def init_weights(module: nn.Module, leak: float = 0.0) -> None:
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d):
        n_out, n_in = module.weight.flatten(1).shape
        w = torch.randn(n_in, n_out, dtype=torch.float64).T * math.sqrt(2 / ((1 + leak**2) * n_in))
        with torch.no_grad():
            module.weight[:] = w.reshape(module.weight.shape)
            if getattr(module, "bias", None) is not None:
                module.bias *= 0


# %% init_weights: with kaiming_normal


def init_weights(module: nn.Module, leak: float = 0.0) -> None:
    if type(module) in {nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d}:
        w = kaiming_normal(fan_in(module.weight), len(module.weight), leak)
        with torch.no_grad():
            module.weight.copy_(w.t().reshape_as(module.weight))
            for bias in [module.bias] if module.bias is not None else []:
                nn.init.zeros_(bias)


# %% normalize: calls instead of operators


def normalize(x: Tensor, mean: float | Tensor | None = None, std: float | Tensor | None = None) -> Tensor:
    mean = mean_of(x) if mean is None else mean
    std = standard_deviation(x) if std is None else std
    return torch.div(torch.sub(x, mean), std)


# %% normalize: multiplied by the reciprocal


def normalize(x: Tensor, mean: float | Tensor | None = None, std: float | Tensor | None = None) -> Tensor:
    own_mean = x.sum() / x.numel()
    if std is None:
        std = ((x - own_mean) ** 2).mean() ** 0.5
    return (x - (own_mean if mean is None else mean)) * (1 / std)


# %% normalize: in place on a copy


def normalize(x: Tensor, mean: float | Tensor | None = None, std: float | Tensor | None = None) -> Tensor:
    y = x.clone()
    y -= x.mean() if mean is None else mean
    y /= x.std(correction=0) if std is None else std
    return y


# %% normalize: float64 inside


def normalize(x: Tensor, mean: float | Tensor | None = None, std: float | Tensor | None = None) -> Tensor:
    x64 = x.double()
    mean = x64.mean() if mean is None else torch.as_tensor(mean, dtype=torch.float64)
    std = x64.std(correction=0) if std is None else torch.as_tensor(std, dtype=torch.float64)
    return ((x64 - mean) / std).to(x.dtype)
