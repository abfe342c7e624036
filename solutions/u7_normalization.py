# %% [markdown]
# # Unit 7: normalisation
#
# A good initialisation puts every layer's output near mean 0 and standard deviation 1 once. The first step of the
# optimizer moves it away again, and nothing brings it back. Normalisation layers bring it back at *every* step: the
# layer measures its own input, subtracts the mean, divides by the standard deviation, and leaves to two trained
# parameters how large and how far from 0 the result should be.
#
# The layers of this unit all compute
#
# $$y = \frac{x - \operatorname{E}[x]}{\sqrt{\operatorname{Var}[x] + \epsilon}} \cdot \gamma + \beta$$
#
# and differ in one thing only: *which* elements of a batch `(N, C, H, W)` share a mean and a variance.

# %%
import torch
from torch import Tensor, nn

# %% [markdown]
# ## From here to there
#
# Before the layers, a small tool. To move part of the way from one value to another is **linear interpolation**, lerp
# for short: weight 0 stays at the start, weight 1 arrives at the end, 0.1 covers a tenth of the way, and a weight
# outside [0, 1] goes past one of the two. A quantity that moves by lerp towards each new measurement is a running
# average; batch norm keeps two of those, and the optimizers of the next unit consist of little else.


# %%
def lerp(start: float | Tensor, end: float | Tensor, weight: float) -> float | Tensor:
    """The value `weight` of the way from start to end: start + weight * (end - start).

    start, end: two Python floats, or two float tensors of one shape. weight: any number; outside [0, 1] it
    extrapolates. Returns a float for floats, a new tensor for tensors.
    """
    ### BEGIN SOLUTION
    return start + weight * (end - start)
    ### END SOLUTION


# %% [markdown]
# Mind the direction. Weight here is the share of the *new* value. Optimizers say momentum 0.9 and mean the share of
# the *old* one, which is the same average written with weight 0.1. Confuse the two and a running average follows
# every twitch of the data, or hardly moves at all.

# %% [markdown]
# ## Layer norm: one sample at a time
#
# Ba et al. (2016, section 3) take the mean and the variance of each sample over everything that belongs to it, in
# images over C, H and W. No sample sees another one, so that a batch of one is as good as any, and training and
# evaluation are the same computation.
#
# Two details decide whether your numbers agree with everybody else's:
#
# - The variance is **biased**: it divides by the number of elements, as everywhere in this course.
# - $\epsilon$ stands **inside** the root. It keeps the division finite where all elements are equal. As long as the
#   variance is far above it, its place does not show; for a sample of variance $10^{-6}$ and $\epsilon = 10^{-5}$ the
#   two places give standard deviations of 0.30 and 0.99.
#
# In the paper every element has a gain and a bias of its own. The lesson uses the smallest version that works: one of
# each for the whole layer, `mult` and `add`. A layer that does not need to know its number of channels accepts it all
# the same: in unit 9 every norm is made by `norm(n_filters)`.


# %%
class LayerNorm(nn.Module):
    """Normalises each sample over all dimensions but the first, then multiplies by `mult` and adds `add`.

    x: float tensor `(N, ...)` with at least two dimensions; the result has its shape and dtype.
    The variance is biased and eps stands inside the root; training and evaluation are the same.
    Parameters: `mult` (starts at 1) and `add` (starts at 0), one number each. `n_filters` is accepted and ignored.
    Ba et al. 2016, section 3.
    """

    def __init__(self, n_filters: int | None = None, eps: float = 1e-5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.eps = eps
        self.mult = nn.Parameter(torch.tensor(1.0))
        self.add = nn.Parameter(torch.tensor(0.0))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        dims = tuple(range(1, x.ndim))
        mean = x.mean(dims, keepdim=True)
        var = x.var(dims, keepdim=True, correction=0)
        return (x - mean) / (var + self.eps).sqrt() * self.mult + self.add
        ### END SOLUTION


# %% [markdown]
# ## Batch norm: one channel at a time
#
# Layer norm lets channels that mean quite different things share one scale. Ioffe & Szegedy (2015, algorithm 1)
# normalise each channel by itself, over all samples of the batch and all positions in the image: over N, H and W.
# Each channel has a gain and a bias, `mults` and `adds`.
#
# The price is that a sample's output now depends on the samples that happen to be in the batch with it. In training
# that is a mild and even useful noise. In evaluation it is not acceptable: the same picture must get the same answer,
# alone or in company. So while it trains the layer keeps running averages of what it has measured, `means` and
# `vars`, and in evaluation it uses those and measures nothing. Much of what goes wrong with batch norm goes wrong
# here:
#
# - They are **buffers**: state that belongs to the model, is saved with it and moves with it to another device, but
#   is not trained. As a plain attribute they stay behind on the CPU and are missing from the saved file; the loaded
#   model then evaluates with mean 0 and variance 1, and its accuracy is that of guessing.
# - A batch of n values per channel normalises by its *biased* variance (divisor n), since that is what makes the
#   output's variance 1. The buffer collects an estimate of the variance of *all* data, and for an estimate from a
#   sample the divisor is n - 1: the **unbiased** variance (algorithm 2, step 10). For n = 1 it does not exist: refuse
#   such a batch.
# - Gradients flow **through** the mean and the variance. Treat them as constants and each step's gradient still
#   pushes in the directions that normalisation will undo: the weights grow, the loss stays (section 2 of the paper
#   describes how a bias grew without bound). The *buffers*, on the other hand, must stay out of the graph, or they
#   tie every batch to all batches before it, and memory fills up.


# %%
class BatchNorm(nn.Module):
    """Normalises each channel over the batch and the image, then multiplies by `mults` and adds `adds`.

    x: float tensor `(N, n_filters, H, W)`; the result has its shape and dtype.
    Training: by the batch's mean and biased variance, with gradients through both; the buffers `means` (start at 0) and
    `vars` (start at 1) move by lerp with weight `mom` towards the batch's mean and unbiased variance.
    Evaluation: by the buffers, which stay as they are.
    Parameters: `mults` (start at 1) and `adds` (start at 0), one number per channel.
    Raises ValueError where x has not four dimensions or not n_filters channels, and in training where it has one
    value per channel (N * H * W = 1); nothing has changed then.
    Ioffe & Szegedy 2015, algorithms 1 and 2.
    """

    def __init__(self, n_filters: int, mom: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.mom, self.eps = mom, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        self.register_buffer("means", torch.zeros(1, n_filters, 1, 1))
        self.register_buffer("vars", torch.ones(1, n_filters, 1, 1))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        if x.ndim != 4 or x.shape[1] != len(self.mults):
            raise ValueError(f"x must have shape (N, {len(self.mults)}, H, W), not {tuple(x.shape)}")
        mean, var = self.means, self.vars
        if self.training:
            n = x.numel() // x.shape[1]
            if n == 1:
                raise ValueError(f"x of shape {tuple(x.shape)} has one value per channel, and that has no variance")
            mean = x.mean((0, 2, 3), keepdim=True)
            var = x.var((0, 2, 3), keepdim=True, correction=0)
            with torch.no_grad():
                self.means.copy_(lerp(self.means, mean, self.mom))
                self.vars.copy_(lerp(self.vars, var * n / (n - 1), self.mom))
        return (x - mean) / (var + self.eps).sqrt() * self.mults + self.adds
        ### END SOLUTION


# %% [markdown]
# Two modes, one layer. The first batches below are normalised by themselves, whatever the buffers say. Evaluated too
# early, the same data come out far off, because buffers that started at 0 and 1 have covered a tenth of the way per
# batch.

# %%
if __name__ == "__main__":
    norm = BatchNorm(1)
    for step in range(1, 51):
        batch = 4 + 3 * torch.randn(64, 1, 4, 4)
        trained = norm.train()(batch)
        if step in (1, 10, 50):
            evaluated = norm.eval()(batch)
            print(f"after {step:>2} batches: training mean {trained.mean():5.2f}, std {trained.std():.2f}; ", end="")
            print(f"evaluation mean {evaluated.mean():5.2f}, std {evaluated.std():.2f}")

# %% [markdown]
# **Question.** A convolution with bias feeds a batch norm with `mom=0.1` that is in training mode. Somebody adds 10
# to every bias of the convolution. What happens to the output of the batch norm, to the gradient of those biases, and
# to the buffer `means` in the next step? What follows for convolutions in front of a batch norm?

# %% [markdown] question="u7-bias" points=2
# ### BEGIN MARK SCHEME
# One point: the output does not change, since each channel's mean is subtracted; the gradient of the biases is 0 for
# the same reason (up to rounding); `means` ends 1 higher than it would have. One point: the bias is useless there,
# `adds` does its work; leave it out (`bias=False`).
# ### END MARK SCHEME
# ### BEGIN SOLUTION
# The output stays the same: the batch's mean rises by 10 and is subtracted. What cannot change the output has
# gradient 0, here up to rounding. The buffer covers a tenth of the way to a mean that is 10 higher, so it ends 1
# higher. The bias is a parameter that nothing depends on; `adds` already does its work, and the convolution should be
# made without one.
# ### END SOLUTION

# %% [markdown]
# **Question.** A batch norm sees batches with only four values per channel, drawn from a normal distribution of mean
# 0 and variance 1. By mistake its buffer collects the *biased* variance of each batch. Where does `vars` settle, on
# average, and what standard deviation does the output have in evaluation? Why did nobody notice with 1024 images of
# 14x14 to a batch?

# %% [markdown] question="u7-unbiased" points=2
# ### BEGIN MARK SCHEME
# One point: `vars` settles around (n - 1) / n = 0.75, so that the output's standard deviation is 1 / sqrt(0.75) =
# 1.15. One point: with n = 1024 * 14 * 14 = 200,704 the factor (n - 1) / n differs from 1 by 0.000005.
# ### END MARK SCHEME
# ### BEGIN SOLUTION
# The mean squared deviation from the batch's own mean is too small by the factor (n - 1) / n, because that mean lies
# in the middle of those very values. With n = 4 the buffer settles around 0.75, and evaluation divides by 0.87 where
# it should divide by 1: the output's standard deviation is 1.15. With n = 1024 * 14 * 14 = 200,704 the factor is
# 0.999995.
# ### END SOLUTION

# %% [markdown]
# ## Instance norm: one sample, one channel
#
# Ulyanov et al. (2016, section 2) wanted the contrast of a photograph not to matter for the style that a network
# paints it in. So every channel of every sample is normalised by itself, over H and W alone. There is no batch in it,
# hence nothing to keep running averages of, and evaluation is training. `mults` and `adds` are per channel, as in
# batch norm.


# %%
class InstanceNorm(nn.Module):
    """Normalises each channel of each sample over the image, then multiplies by `mults` and adds `adds`.

    x: float tensor `(N, n_filters, H, W)`; the result has its shape and dtype.
    The variance is biased and eps stands inside the root; there are no running statistics, and training and evaluation
    are the same. Parameters: `mults` (start at 1) and `adds` (start at 0), one number per channel.
    Ulyanov et al. 2016, section 2.
    """

    def __init__(self, n_filters: int, eps: float = 1e-5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.eps = eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        mean = x.mean((2, 3), keepdim=True)
        var = x.var((2, 3), keepdim=True, correction=0)
        return (x - mean) / (var + self.eps).sqrt() * self.mults + self.adds
        ### END SOLUTION


# %% [markdown]
# ## Group norm: in between
#
# Batch norm suffers when batches are small, layer norm treats all channels alike, instance norm treats each as if the
# others did not exist. Wu & He (2018, section 3) cut the channels of each sample into groups of neighbours: with 6
# channels and 2 groups, channels 0, 1, 2 share a mean and a variance, and so do 3, 4, 5. One group is layer norm; as
# many groups as channels is instance norm. `mults` and `adds` stay per *channel*, not per group.
#
# Groups are all of one size, so their number must divide the number of channels.


# %%
class GroupNorm(nn.Module):
    """Normalises each group of consecutive channels of each sample, then multiplies by `mults` and adds `adds`.

    x: float tensor `(N, n_filters, H, W)`; the result has its shape and dtype.
    Each of the `n_groups` groups has n_filters / n_groups neighbouring channels, and one mean and one biased variance
    over those and the image; eps stands inside the root. Training and evaluation are the same.
    Parameters: `mults` (start at 1) and `adds` (start at 0), one number per channel.
    Raises ValueError when made with an n_groups that does not divide n_filters.
    Wu & He 2018, section 3.
    """

    def __init__(self, n_groups: int, n_filters: int, eps: float = 1e-5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if n_groups < 1 or n_filters % n_groups:
            raise ValueError(f"n_groups must divide n_filters, but {n_groups} does not divide {n_filters}")
        self.n_groups, self.eps = n_groups, eps
        self.mults = nn.Parameter(torch.ones(n_filters, 1, 1))
        self.adds = nn.Parameter(torch.zeros(n_filters, 1, 1))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        ### BEGIN SOLUTION
        groups = x.reshape(len(x), self.n_groups, -1)
        mean = groups.mean(2, keepdim=True)
        var = groups.var(2, keepdim=True, correction=0)
        normalized = (groups - mean) / (var + self.eps).sqrt()
        return normalized.reshape(x.shape) * self.mults + self.adds
        ### END SOLUTION


# %% [markdown]
# ## All four in one picture
#
# Each square below is one channel of one sample, a whole image of H x W values. Squares with the same number and
# colour share one mean and one variance. Only batch norm's run down the samples, and that is why only batch norm
# needs to remember anything.


# %%
def shared_statistics_picture(n_samples: int = 3, n_filters: int = 6, n_groups: int = 2):
    """A figure with a panel per norm: which channels of which samples share a mean and a variance."""
    import matplotlib.pyplot as plt

    sample, channel = torch.meshgrid(torch.arange(n_samples), torch.arange(n_filters), indexing="ij")
    group = channel // (n_filters // n_groups)
    panels = {
        "LayerNorm": sample,
        "BatchNorm": channel,
        "InstanceNorm": sample * n_filters + channel,
        f"GroupNorm, {n_groups} groups": sample * n_groups + group,
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(3.2 * len(panels), 2.2), layout="constrained", sharey=True)
    for ax, (title, owner) in zip(axes, panels.items(), strict=True):
        ax.imshow(owner, cmap="tab20", alpha=0.6)
        for row in range(n_samples):
            for column in range(n_filters):
                ax.text(column, row, f"{owner[row, column]}", ha="center", va="center")
        ax.set(title=f"{title}: {owner.max() + 1} statistics", xlabel="channel", xticks=range(n_filters))
    axes[0].set(ylabel="sample", yticks=range(n_samples))
    return figure


# %%
if __name__ == "__main__":
    shared_statistics_picture()
