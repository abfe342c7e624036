import math

import torch
from torch import nn


# %% lerp: two shares
def lerp(start, end, weight):
    return (1 - weight) * start + weight * end


# %% lerp: tensor methods where there are tensors
def lerp(start, end, weight):
    if isinstance(start, torch.Tensor):
        return torch.add(start, torch.sub(end, start), alpha=weight)
    distance = end - start
    return start + distance * weight


# %% layer_norm: sample by sample
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.ones(1))
        self.add = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        rows = []
        for sample in x:
            mean = sample.sum() / sample.numel()
            variance = ((sample - mean) ** 2).sum() / sample.numel()
            rows.append((sample - mean) * torch.rsqrt(variance + self.eps))
        return torch.stack(rows) * self.mult + self.add


# %% layer_norm: flattened
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))
        self.epsilon = eps

    def forward(self, x):
        flat = x.flatten(1)
        centred = flat - flat.mean(1, keepdim=True)
        variance = centred.pow(2).mean(dim=1, keepdim=True)
        return (self.mult * centred / torch.sqrt(variance + self.epsilon) + self.add).reshape(x.shape)


# %% layer_norm: float64 inside
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult, self.add = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        wide = x.double()
        dims = list(range(1, x.dim()))
        var, mean = torch.var_mean(wide, dim=dims, correction=0, keepdim=True)
        result = (wide - mean) * (var + self.eps) ** -0.5
        return torch.addcmul(self.add.double(), result, self.mult.double()).to(x.dtype)


# %% layer_norm: one slope and one shift
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.n_filters, self.eps = n_filters, eps
        self.mult = nn.Parameter(torch.ones(()))
        self.add = nn.Parameter(torch.zeros(()))

    @staticmethod
    def deviations(x):
        n = math.prod(x.shape[1:])
        mean = x.reshape(len(x), n).sum(1) / n
        return x - mean.reshape(-1, *[1] * (x.ndim - 1))

    def forward(self, x):
        d = self.deviations(x)
        squares = torch.einsum("ij,ij->i", d.flatten(1), d.flatten(1)) / d[0].numel()
        slope = self.mult / (squares + self.eps).sqrt()
        return d * slope.reshape(-1, *[1] * (x.ndim - 1)) + self.add


# %% batch_norm: einsum and one value per channel in the buffers
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.n_filters, self.mom, self.eps = n_filters, mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))
        self.register_buffer("vars", torch.ones(n_filters))
        self.register_buffer("means", torch.zeros(n_filters))

    def measured(self, x):
        n = x.shape[0] * x.shape[2] * x.shape[3]
        if n < 2:
            raise ValueError("x has one value per channel")
        mean = torch.einsum("nchw->c", x) / n
        d = x - mean[:, None, None]
        squares = torch.einsum("nchw,nchw->c", d, d)
        self.means = (self.means * (1 - self.mom) + mean * self.mom).detach()
        self.vars = (self.vars * (1 - self.mom) + squares / (n - 1) * self.mom).detach()
        return mean, squares / n

    def forward(self, x):
        if x.dim() != 4:
            raise ValueError("x must have four dimensions")
        if x.size(1) != self.n_filters:
            raise ValueError("x has another number of channels")
        mean, var = self.measured(x) if self.training else (self.means, self.vars)
        d = x - mean[:, None, None]
        return d * (self.mults / torch.sqrt(var + self.eps))[:, None, None] + self.adds[:, None, None]


# %% batch_norm: buffers moved in place
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom = mom
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(1, n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(1, n_filters, 1, 1))

    @torch.no_grad()
    def update_stats(self, x):
        dims = (0, 2, 3)
        self.means.mul_(1 - self.mom).add_(x.mean(dims, keepdim=True), alpha=self.mom)
        self.vars.lerp_(x.var(dims, keepdim=True), self.mom)

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != self.mults.shape[1]:
            raise ValueError(f"a batch of shape {x.shape} does not fit")
        if not self.training:
            return self.mults * (x - self.means) * (self.vars + self.eps).rsqrt() + self.adds
        if x.numel() == x.shape[1]:
            raise ValueError("one value has no variance")
        self.update_stats(x)
        mean = x.mean(dim=(0, 2, 3), keepdim=True)
        var = ((x - mean) ** 2).mean(dim=(0, 2, 3), keepdim=True)
        return self.mults * (x - mean) * (var + self.eps).rsqrt() + self.adds


# %% batch_norm: channel by channel
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))
        for name, start in (("means", torch.zeros), ("vars", torch.ones)):
            self.register_buffer(name, start(n_filters))

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != self.means.numel():
            raise ValueError("x must be (N, n_filters, H, W)")
        n = len(x) * x.shape[2] * x.shape[3]
        if self.training and n == 1:
            raise ValueError("x must have more than one value per channel in training")
        channels = []
        for c, values in enumerate(x.unbind(1)):
            mean, var = self.means[c].clone(), self.vars[c].clone()
            if self.training:
                mean, var = values.mean(), values.var(correction=0)
                self.means[c] += self.mom * (mean.detach() - self.means[c])
                self.vars[c] += self.mom * (values.detach().var() - self.vars[c])
            channels.append((values - mean) / (var + self.eps).sqrt() * self.mults[c] + self.adds[c])
        return torch.stack(channels, 1)


# %% batch_norm: channels last and float64 inside
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))
        self.register_buffer("means", torch.zeros(n_filters))
        self.register_buffer("vars", torch.ones(n_filters))

    def forward(self, x):
        if x.ndim != 4:
            raise ValueError("x must have four dimensions")
        if x.shape[1] != len(self.means):
            raise ValueError(f"x has {x.shape[1]} channels, not {len(self.means)}")
        rows = x.movedim(1, 3).reshape(-1, x.shape[1]).double()
        if self.training:
            if len(rows) == 1:
                raise ValueError("x has one value per channel")
            var, mean = torch.var_mean(rows, 0, correction=0)
            self.means.copy_(lerp(self.means, mean.detach(), self.mom))
            self.vars.copy_(lerp(self.vars, rows.detach().var(0), self.mom))
        else:
            mean, var = self.means.double(), self.vars.double()
        rows = (rows - mean) / (var + self.eps).sqrt() * self.mults.double() + self.adds.double()
        n, c, h, w = x.shape
        return rows.reshape(n, h, w, c).movedim(3, 1).to(x.dtype)


# %% instance_norm: flattened images
class InstanceNorm(nn.Module):
    def __init__(self, n_filters, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(1, n_filters, 1))
        self.adds = nn.Parameter(torch.zeros(1, n_filters, 1))

    def forward(self, x):
        flat = x.flatten(2)
        d = flat - flat.mean(-1, keepdim=True)
        y = d * torch.rsqrt((d * d).mean(-1, keepdim=True) + self.eps) * self.mults + self.adds
        return y.reshape(x.shape)


# %% instance_norm: image by image
class InstanceNorm(nn.Module):
    def __init__(self, n_filters, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))

    def forward(self, x):
        def whitened(image):
            d = image - image.sum() / image.numel()
            return d / ((d**2).sum() / image.numel() + self.eps) ** 0.5

        samples = [torch.stack([whitened(image) for image in sample]) for sample in x]
        return torch.stack(samples) * self.mults[:, None, None] + self.adds[:, None, None]


# %% group_norm: chunks of channels
class GroupNorm(nn.Module):
    def __init__(self, n_groups, n_filters, eps=1e-5):
        super().__init__()
        if n_filters % n_groups != 0:
            raise ValueError(f"{n_groups} groups do not divide {n_filters} channels")
        self.n_groups = n_groups
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(1, n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(1, n_filters, 1, 1))

    def forward(self, x):
        parts = []
        for part in x.chunk(self.n_groups, dim=1):
            d = part - part.mean((1, 2, 3), keepdim=True)
            parts.append(d / torch.sqrt((d**2).mean((1, 2, 3), keepdim=True) + self.eps))
        return torch.cat(parts, 1) * self.mults + self.adds


# %% group_norm: five dimensions
class GroupNorm(nn.Module):
    def __init__(self, n_groups, n_filters, eps=1e-5):
        super().__init__()
        self.size, rest = divmod(n_filters, n_groups)
        if rest:
            raise ValueError("n_groups must divide n_filters")
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))

    def forward(self, x):
        n, c, h, w = x.shape
        y = x.reshape(n, c // self.size, self.size, h, w)
        var, mean = torch.var_mean(y, dim=(2, 3, 4), correction=0, keepdim=True)
        y = ((y - mean) * (var + self.eps).pow(-0.5)).reshape(n, c, h * w)
        return torch.baddbmm(self.adds[None, :, None], torch.diag(self.mults).expand(n, c, c), y).reshape(x.shape)


# %% group_norm: statistics repeated per channel
class GroupNorm(nn.Module):
    def __init__(self, n_groups, n_filters, eps=1e-5):
        super().__init__()
        if n_filters // n_groups * n_groups != n_filters:
            raise ValueError("n_groups must divide n_filters")
        self.n_groups, self.n_filters, self.eps = n_groups, n_filters, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))

    def forward(self, x):
        size = self.n_filters // self.n_groups
        means = x.flatten(2).mean(2).unflatten(1, (self.n_groups, size)).mean(2)
        mean = means.repeat_interleave(size, 1)[:, :, None, None]
        squares = ((x - mean) ** 2).flatten(2).mean(2).unflatten(1, (self.n_groups, size)).mean(2)
        var = squares.repeat_interleave(size, 1)[:, :, None, None]
        return self.mults * ((x - mean) / (var + self.eps).sqrt()) + self.adds


# %% instance_norm: as many groups as channels
class GroupNorm(nn.Module):
    def __init__(self, n_groups, n_filters, eps=1e-5):
        super().__init__()
        if n_filters // n_groups * n_groups != n_filters:
            raise ValueError("n_groups must divide n_filters")
        self.n_groups, self.n_filters, self.eps = n_groups, n_filters, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))

    def forward(self, x):
        size = self.n_filters // self.n_groups
        means = x.flatten(2).mean(2).unflatten(1, (self.n_groups, size)).mean(2)
        mean = means.repeat_interleave(size, 1)[:, :, None, None]
        squares = ((x - mean) ** 2).flatten(2).mean(2).unflatten(1, (self.n_groups, size)).mean(2)
        var = squares.repeat_interleave(size, 1)[:, :, None, None]
        return self.mults * ((x - mean) / (var + self.eps).sqrt()) + self.adds


class InstanceNorm(GroupNorm):
    def __init__(self, n_filters, eps=1e-5):
        super().__init__(n_filters, n_filters, eps)
