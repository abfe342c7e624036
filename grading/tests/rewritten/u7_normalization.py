import torch
from torch import nn


# %% lerp: weight given to start
def lerp(start, end, weight):
    return weight * start + (1 - weight) * end


# %% lerp: whole end added
def lerp(start, end, weight):
    moved = end * weight
    return moved + start


# %% lerp: weight kept within bounds
def lerp(start, end, weight):
    if weight <= 0:
        weight = 0.0
    if weight >= 1:
        weight = 1.0
    return start * (1 - weight) + end * weight


# %% lerp: start changed in place
def lerp(start, end, weight):
    distance = end - start
    if isinstance(start, torch.Tensor):
        return start.add_(distance, alpha=weight)
    return start + distance * weight


# %% layer_norm: unbiased variance
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.ones(1))
        self.add = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        flat = x.reshape(len(x), -1)
        flat = (flat - flat.mean(1, keepdim=True)) / torch.sqrt(flat.var(1, keepdim=True) + self.eps)
        return flat.reshape(x.shape) * self.mult + self.add


# %% layer_norm: eps outside the root
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        axes = tuple(i for i in range(x.ndim) if i > 0)
        centred = x - x.mean(axes, keepdim=True)
        std = centred.square().mean(axes, keepdim=True).sqrt()
        return self.mult * (centred / (std + self.eps)) + self.add


# %% layer_norm: unbiased and eps outside
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))
        self.eps = eps

    def forward(self, x):
        rows = x.flatten(1)
        mean = rows.mean(-1, keepdim=True)
        std = rows.std(-1, keepdim=True)
        return (self.mult * (rows - mean) / (std + self.eps) + self.add).view(x.shape)


# %% layer_norm: statistics of the whole batch
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        centred = x - x.mean()
        variance = (centred * centred).mean()
        return centred * torch.rsqrt(variance + self.eps) * self.mult + self.add


# %% layer_norm: last dimension only
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.ones(()))
        self.add = nn.Parameter(torch.zeros(()))

    def forward(self, x):
        mean = x.mean(dim=-1, keepdim=True)
        var = ((x - mean) ** 2).mean(dim=-1, keepdim=True)
        normed = (x - mean) / torch.sqrt(var + self.eps)
        return self.mult * normed + self.add


# %% layer_norm: images only
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        m = x.mean((1, 2, 3), keepdim=True)
        v = x.var((1, 2, 3), keepdim=True, unbiased=False)
        x = (x - m) / (v + self.eps).sqrt()
        return x * self.mult + self.add


# %% layer_norm: statistics without gradients
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))

    def stats(self, x):
        with torch.no_grad():
            rows = x.flatten(1)
            mean = rows.mean(1)
            std = ((rows - mean[:, None]).pow(2).mean(1) + self.eps).sqrt()
        shape = (-1,) + (1,) * (x.ndim - 1)
        return mean.view(shape), std.view(shape)

    def forward(self, x):
        mean, std = self.stats(x)
        return (x - mean) / std * self.mult + self.add


# %% layer_norm: variance without gradients
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        dims = tuple(range(x.ndim))[1:]
        centred = x - x.mean(dims, keepdim=True)
        variance = centred.data.pow(2).mean(dims, keepdim=True)
        return centred / torch.sqrt(variance + self.eps) * self.mult + self.add


# %% layer_norm: root mean square
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        power = (x * x).flatten(1).mean(1).reshape(-1, *[1] * (x.ndim - 1))
        return self.mult * x * torch.rsqrt(power + self.eps) + self.add


# %% layer_norm: plain tensors as parameters
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = torch.ones(1, requires_grad=True)
        self.add = torch.zeros(1, requires_grad=True)

    def forward(self, x):
        dims = list(range(1, x.ndim))
        var, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
        return (x - mean) * (var + self.eps).rsqrt() * self.mult + self.add


# %% layer_norm: float64 lost
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))

    def forward(self, x):
        rows = x.to(torch.float32).flatten(1)
        rows = rows - rows.mean(1, keepdim=True)
        rows = rows / ((rows**2).mean(1, keepdim=True) + self.eps).sqrt()
        return rows.reshape(x.shape) * self.mult + self.add


# %% batch_norm: biased running variance
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.n_filters, self.mom, self.eps = n_filters, mom, eps
        self.mults = nn.Parameter(torch.ones(1, n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(1, n_filters, 1, 1))

    def update_stats(self, x):
        m = x.mean((0, 2, 3), keepdim=True)
        v = (x - m).pow(2).mean((0, 2, 3), keepdim=True)
        self.means.lerp_(m.detach(), self.mom)
        self.vars.lerp_(v.detach(), self.mom)
        return m, v

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != self.n_filters:
            raise ValueError("x must be (N, n_filters, H, W)")
        if self.training:
            if x.numel() == self.n_filters:
                raise ValueError("one value per channel")
            m, v = self.update_stats(x)
        else:
            m, v = self.means, self.vars
        x = (x - m) / torch.sqrt(v + self.eps)
        return x * self.mults + self.adds


# %% batch_norm: unbiased variance in training
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))
        self.register_buffer("means", torch.zeros(n_filters))
        self.register_buffer("vars", torch.ones(n_filters))

    def forward(self, x):
        if x.dim() != 4 or x.size(1) != self.mults.numel():
            raise ValueError("wrong shape")
        if self.training:
            values = x.transpose(0, 1).flatten(1)
            if values.shape[1] == 1:
                raise ValueError("one value per channel")
            mean, var = values.mean(1), values.var(1)
            self.means = ((1 - self.mom) * self.means + self.mom * mean).detach()
            self.vars = ((1 - self.mom) * self.vars + self.mom * var).detach()
        else:
            mean, var = self.means, self.vars
        normed = (x - mean[:, None, None]) / (var[:, None, None] + self.eps).sqrt()
        return normed * self.mults[:, None, None] + self.adds[:, None, None]


# %% batch_norm: momentum the wrong way round
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(n_filters, 1, 1))

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != len(self.means):
            raise ValueError("wrong shape")
        if not self.training:
            return (x - self.means) / torch.sqrt(self.vars + self.eps) * self.mults + self.adds
        n = x.numel() / x.shape[1]
        if n == 1:
            raise ValueError("one value per channel")
        mean = x.mean((0, 2, 3))[:, None, None]
        var = ((x - mean) ** 2).mean((0, 2, 3))[:, None, None]
        with torch.no_grad():
            self.means.mul_(self.mom).add_((1 - self.mom) * mean)
            self.vars.mul_(self.mom).add_((1 - self.mom) * var * n / (n - 1))
        return (x - mean) / torch.sqrt(var + self.eps) * self.mults + self.adds


# %% batch_norm: eps outside the root
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(n_filters, 1, 1))

    def forward(self, x):
        n, c, h, w = x.shape if x.ndim == 4 else (0, 0, 0, 0)
        if c != len(self.mults):
            raise ValueError("wrong shape")
        mean, std = self.means, self.vars.sqrt()
        if self.training:
            if n * h * w < 2:
                raise ValueError("one value per channel")
            mean = x.sum((0, 2, 3))[:, None, None] / (n * h * w)
            std = x.std((0, 2, 3), correction=0)[:, None, None]
            unbiased = x.detach().var((0, 2, 3))[:, None, None]
            self.means += self.mom * (mean.detach() - self.means)
            self.vars += self.mom * (unbiased - self.vars)
        return self.mults * (x - mean) / (std + self.eps) + self.adds


# %% batch_norm: batch statistics in evaluation
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(1, n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(n_filters))
        self.register_buffer("vars", torch.ones(n_filters))

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != len(self.means):
            raise ValueError("wrong shape")
        n = x.numel() // x.shape[1]
        if self.training and n == 1:
            raise ValueError("one value per channel")
        mean = x.mean((0, 2, 3), keepdim=True)
        var = (x - mean).square().mean((0, 2, 3), keepdim=True)
        if self.training:
            self.means = torch.lerp(self.means, mean.detach().flatten(), self.mom)
            self.vars = torch.lerp(self.vars, var.detach().flatten() * (n / (n - 1)), self.mom)
        return (x - mean) * torch.rsqrt(var + self.eps) * self.mults + self.adds


# %% batch_norm: running statistics in training
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(1, n_filters, 1, 1))

    @torch.no_grad()
    def update_stats(self, x):
        self.means.lerp_(x.mean((0, 2, 3), keepdim=True), self.mom)
        self.vars.lerp_(x.var((0, 2, 3), keepdim=True), self.mom)

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != len(self.mults):
            raise ValueError("wrong shape")
        if self.training:
            if len(x[:, 0].flatten()) == 1:
                raise ValueError("one value per channel")
            self.update_stats(x)
        x = (x - self.means) / (self.vars + self.eps).sqrt()
        return x * self.mults + self.adds


# %% batch_norm: statistics without gradients
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(n_filters, 1, 1))

    @torch.no_grad()
    def stats(self, x):
        if not self.training:
            return self.means, self.vars
        values = x.permute(1, 0, 2, 3).flatten(1)
        if values.size(1) < 2:
            raise ValueError("one value per channel")
        mean = values.mean(1)[:, None, None]
        self.means.add_(mean - self.means, alpha=self.mom)
        self.vars.add_(values.var(1)[:, None, None] - self.vars, alpha=self.mom)
        return mean, values.var(1, unbiased=False)[:, None, None]

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != len(self.mults):
            raise ValueError("wrong shape")
        mean, var = self.stats(x)
        return (x - mean) / (var + self.eps).sqrt() * self.mults + self.adds


# %% batch_norm: attributes instead of buffers
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.means, self.vars = torch.zeros(n_filters, 1, 1), torch.ones(n_filters, 1, 1)

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != len(self.mults):
            raise ValueError("wrong shape")
        mean, var = self.means, self.vars
        if self.training:
            if x.numel() == x.shape[1]:
                raise ValueError("one value per channel")
            mean = x.mean((0, 2, 3))[:, None, None]
            var = x.var((0, 2, 3), correction=0)[:, None, None]
            unbiased = x.detach().var((0, 2, 3))[:, None, None]
            self.means = self.means * (1 - self.mom) + mean.detach() * self.mom
            self.vars = self.vars * (1 - self.mom) + unbiased * self.mom
        return (x - mean) / (var + self.eps).sqrt() * self.mults + self.adds


# %% batch_norm: buffers keep the graph
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))
        self.register_buffer("means", torch.zeros(n_filters))
        self.register_buffer("vars", torch.ones(n_filters))

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != len(self.mults):
            raise ValueError("wrong shape")
        if self.training:
            n = x.numel() // x.shape[1]
            if n == 1:
                raise ValueError("one value per channel")
            mean = x.mean((0, 2, 3))
            var = ((x - mean[:, None, None]) ** 2).mean((0, 2, 3))
            self.means = (1 - self.mom) * self.means + self.mom * mean
            self.vars = (1 - self.mom) * self.vars + self.mom * var * n / (n - 1)
        else:
            mean, var = self.means, self.vars
        scale = self.mults / (var + self.eps).sqrt()
        return (x - mean[:, None, None]) * scale[:, None, None] + self.adds[:, None, None]


# %% batch_norm: channels share their statistics
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(n_filters, 1, 1))

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != len(self.mults):
            raise ValueError("wrong shape")
        if not self.training:
            return (x - self.means) / (self.vars + self.eps).sqrt() * self.mults + self.adds
        n = len(x) * x[0, 0].numel()
        if n == 1:
            raise ValueError("one value per channel")
        mean, var = x.mean(), x.var(unbiased=False)
        with torch.no_grad():
            self.means += (mean - self.means) * self.mom
            self.vars += (var * n / (n - 1) - self.vars) * self.mom
        return (x - mean) / (var + self.eps).sqrt() * self.mults + self.adds


# %% batch_norm: running standard deviation
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(n_filters, 1, 1))

    def forward(self, x):
        if x.ndim != 4 or x.shape[1] != len(self.mults):
            raise ValueError("wrong shape")
        mean, var = self.means, self.vars
        if self.training:
            if x.numel() == x.shape[1]:
                raise ValueError("one value per channel")
            mean = x.mean((0, 2, 3))[:, None, None]
            var = (x - mean).pow(2).mean((0, 2, 3))[:, None, None]
            self.means.lerp_(mean.detach(), self.mom)
            self.vars.lerp_(x.detach().std((0, 2, 3))[:, None, None], self.mom)
        return (x - mean) / (var + self.eps).sqrt() * self.mults + self.adds


# %% batch_norm: channels not checked
class BatchNorm(nn.Module):
    def __init__(self, n_filters, mom=0.1, eps=1e-5):
        super().__init__()
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(1, n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(1, n_filters, 1, 1))

    def forward(self, x):
        if len(x.shape) != 4:
            raise ValueError("x must have four dimensions")
        if self.training:
            n = x.numel() // x.size(1)
            if n < 2:
                raise ValueError("one value per channel")
            mean = x.mean((0, 2, 3), keepdim=True)
            var = ((x - mean) ** 2).sum((0, 2, 3), keepdim=True) / n
            self.means += self.mom * (mean.detach() - self.means)
            self.vars += self.mom * (var.detach() * n / (n - 1) - self.vars)
            x = (x - mean) / (var + self.eps).sqrt()
        else:
            x = (x - self.means) / (self.vars + self.eps).sqrt()
        return x * self.mults + self.adds


# %% instance_norm: unbiased variance
class InstanceNorm(nn.Module):
    def __init__(self, n_filters, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1))

    def forward(self, x):
        flat = x.flatten(2)
        var, mean = torch.var_mean(flat, -1, keepdim=True)
        flat = (flat - mean) * torch.rsqrt(var + self.eps)
        return (flat * self.mults + self.adds).reshape(x.shape)


# %% instance_norm: statistics across the samples
class InstanceNorm(nn.Module):
    def __init__(self, n_filters, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))

    def forward(self, x):
        values = x.transpose(0, 1).flatten(1)
        mean = values.mean(1)[:, None, None]
        std = (values.var(1, correction=0) + self.eps).sqrt()[:, None, None]
        return (x - mean) / std * self.mults[:, None, None] + self.adds[:, None, None]


# %% instance_norm: one mult for all channels
class InstanceNorm(nn.Module):
    def __init__(self, n_filters, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mults = nn.Parameter(torch.tensor([1.0]))
        self.adds = nn.Parameter(torch.tensor([0.0]))

    def forward(self, x):
        d = x - x.mean((-2, -1), keepdim=True)
        return self.mults * d / (d.square().mean((-2, -1), keepdim=True) + self.eps).sqrt() + self.adds


# %% instance_norm: statistics without gradients
class InstanceNorm(nn.Module):
    def __init__(self, n_filters, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(1, n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(1, n_filters, 1, 1))

    def forward(self, x):
        fixed = x.detach()
        mean = fixed.mean((2, 3), keepdim=True)
        std = torch.sqrt(fixed.var((2, 3), keepdim=True, unbiased=False) + self.eps)
        return (x - mean) / std * self.mults + self.adds


# %% group_norm: interleaved channels
class GroupNorm(nn.Module):
    def __init__(self, n_groups, n_filters, eps=1e-5):
        super().__init__()
        if n_filters % n_groups:
            raise ValueError("n_groups must divide n_filters")
        self.n_groups, self.eps = n_groups, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))

    def forward(self, x):
        y = torch.empty_like(x)
        for g in range(self.n_groups):
            part = x[:, g :: self.n_groups]
            mean = part.mean((1, 2, 3), keepdim=True)
            var = part.var((1, 2, 3), keepdim=True, correction=0)
            y[:, g :: self.n_groups] = (part - mean) / (var + self.eps).sqrt()
        return y * self.mults + self.adds


# %% group_norm: size taken for number
class GroupNorm(nn.Module):
    def __init__(self, n_groups, n_filters, eps=1e-5):
        super().__init__()
        if n_filters % n_groups:
            raise ValueError("n_groups must divide n_filters")
        self.n_groups, self.eps = n_groups, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))

    def forward(self, x):
        parts = []
        for part in torch.split(x, self.n_groups, dim=1):
            d = part - part.mean((1, 2, 3), keepdim=True)
            parts.append(d / ((d * d).mean((1, 2, 3), keepdim=True) + self.eps).sqrt())
        return torch.cat(parts, dim=1) * self.mults + self.adds


# %% group_norm: eps outside the root
class GroupNorm(nn.Module):
    def __init__(self, n_groups, n_filters, eps=1e-5):
        super().__init__()
        if n_filters % n_groups:
            raise ValueError("n_groups must divide n_filters")
        self.n_groups, self.eps = n_groups, eps
        self.mults = nn.Parameter(torch.ones(n_filters))
        self.adds = nn.Parameter(torch.zeros(n_filters))

    def forward(self, x):
        n, c, h, w = x.shape
        y = x.reshape(n * self.n_groups, -1)
        y = y - y.mean(1, keepdim=True)
        y = y / (y.pow(2).mean(1, keepdim=True).sqrt() + self.eps)
        return self.mults[:, None, None] * y.reshape(n, c, h, w) + self.adds[:, None, None]


# %% group_norm: divisibility not checked
class GroupNorm(nn.Module):
    def __init__(self, n_groups, n_filters, eps=1e-5):
        super().__init__()
        self.n_groups, self.eps = n_groups, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))

    def forward(self, x):
        y = x.reshape(x.shape[0], self.n_groups, -1)
        var, mean = torch.var_mean(y, -1, keepdim=True, correction=0)
        return ((y - mean) * (var + self.eps).rsqrt()).reshape(x.shape) * self.mults + self.adds
