# %% [markdown]
# # Unit 2: initialisation
#
# A layer multiplies its input by a matrix. A deep network does so fifty times in a row, and whatever one layer does to
# the size of the numbers, the next one does again. If each doubles them, fifty layers multiply them by 10¹⁵; if each
# halves them, little of the input arrives at the end, and as little of the gradient arrives at the beginning. Training
# cannot repair that: a network that puts out `nan` has no gradient, and one that puts out the same zero for every
# image has none worth following.
#
# So the weights must be drawn at the right size from the start. This unit derives that size, first for a bare chain of
# products (Glorot), then with ReLUs in between (Kaiming), and puts it into a model.

# %%
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

# `normalize` has a parameter called `mean`, so the function goes by another name here
from .u1_statistics import mean as mean_of
from .u1_statistics import standard_deviation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# %% [markdown]
# ## What one layer does
#
# One output of `x @ w` is a sum of `n_in` products:
#
# $$y = \sum_{i=1}^{n_\text{in}} x_i w_i$$
#
# Let all entries be independent with mean 0. A product then has mean 0 and variance
# $\operatorname{Var}[x]\operatorname{Var}[w]$, and the variances of independent terms add up:
#
# $$\operatorname{Var}[y] = n_\text{in} \operatorname{Var}[x] \operatorname{Var}[w]$$
#
# That is equation 5 of Glorot & Bengio 2010 for a single layer. It speaks of variances; in standard deviations the
# count enters as its root.


# %%
def output_std(n_in: int, weight_std: float, input_std: float = 1.0) -> float:
    """The standard deviation to expect of one output of `x @ w`, for independent entries of mean 0.

    n_in: how many inputs are summed. weight_std, input_std: standard deviations of the weights and of the inputs.
    Returns a Python float. Source: Glorot & Bengio 2010, section 4.2.1.
    """
    raise NotImplementedError("output_std: replace this line with your own")


# %% [markdown]
# With 256 inputs and weights of standard deviation 1 a layer multiplies the scale by 16; with weights of 0.01, by
# 0.16. Neither number looks alarming, until it is raised to the power of fifty.

# %%
if __name__ == "__main__":
    for scale in (1.0, 0.01):
        factor = output_std(256, scale)
        print(f"weights of {scale}: one layer {factor:.2f}, ten layers {factor**10:.1e}, fifty layers {factor**50:.1e}")

# %% [markdown]
# ## What fifty layers do
#
# A prediction wants an experiment: push a batch through the layers one after another, and write down the standard
# deviation after each. The next layer sees what came out of the activation, so that is where to measure.


# %%
def activation_scales(x: Tensor, weights: Sequence[Tensor], act: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """The population standard deviation of the activations after each layer `x = act(x @ w)`.

    x: inputs `(n, d)`. weights: one matrix per layer, the first `(d, d1)`, the next `(d1, d2)`, and so on.
    act: applied to every product; without it the layers are linear.
    Returns a tensor `(len(weights),)` of x's dtype, which may hold inf or nan where float arithmetic ends.
    """
    raise NotImplementedError("activation_scales: replace this line with your own")


# %% [markdown]
# ## Glorot: hold the scale in both directions
#
# For the outputs to be as large as the inputs, `output_std` must be 1 for inputs of 1: weights of variance $1 /
# n_\text{in}$. The gradient travels the other way, through the transposed matrix, and sums `n_out` products: to hold
# *its* size takes a variance of $1 / n_\text{out}$. A matrix that is not square cannot do both, so Glorot & Bengio
# divide by the average of the two counts:
#
# $$\operatorname{Var}[w] = \frac{1}{(n_\text{in} + n_\text{out}) / 2} = \frac{2}{n_\text{in} + n_\text{out}}$$
#
# `torch.randn` draws with standard deviation 1. To get another one, multiply by it, and mind that the formula gives
# the variance. A `generator` carries the state of the random numbers: whoever starts it with the same seed draws the
# same weights. `None` stands for PyTorch's global one.


# %%
def glorot_normal(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    """Weights `(n_in, n_out)` for `x @ w`, normal with mean 0 and variance 1 / average(n_in, n_out).

    generator: where the random numbers come from; the global generator when None.
    Source: Glorot & Bengio 2010, equation 12.
    """
    raise NotImplementedError("glorot_normal: replace this line with your own")


# %% [markdown]
# The paper itself draws from a uniform distribution, and some people like that no weight lies far out. What the
# derivation fixes is the variance, so the bounds follow from it: numbers drawn evenly from -a to a have variance $a^2
# / 3$, hence
#
# $$a = \sqrt{3 \operatorname{Var}[w]} = \sqrt{\frac{6}{n_\text{in} + n_\text{out}}}$$


# %%
def glorot_uniform(n_in: int, n_out: int, generator: torch.Generator | None = None) -> Tensor:
    """Weights `(n_in, n_out)` for `x @ w`, uniform between ±sqrt(6 / (n_in + n_out)).

    generator: where the random numbers come from; the global generator when None.
    Source: Glorot & Bengio 2010, equation 16.
    """
    raise NotImplementedError("glorot_uniform: replace this line with your own")


# %% [markdown]
# ## Kaiming: what ReLU takes away, put back
#
# Put a ReLU after every product and Glorot's weights vanish after all. The inputs of the second layer no longer have
# mean 0, and where they have not, it is the mean square that matters: $\operatorname{Var}[y] = n_\text{in}
# \operatorname{E}[x^2] \operatorname{Var}[w]$. A ReLU sets the negative half of its inputs to 0. By symmetry that
# removes half of the mean square, in every layer. The remedy of He et al. 2015 is to make the variance twice as large:
#
# $$\operatorname{Var}[w] = \frac{2}{n_\text{in}}$$
#
# A leaky ReLU, which multiplies the negative half by a slope instead of dropping it, keeps $\text{leak}^2$ of that
# half's squares. Half of the mean square times $1 + \text{leak}^2$ is what passes, so
#
# $$\operatorname{Var}[w] = \frac{2}{(1 + \text{leak}^2)\, n_\text{in}}$$
#
# A leak of 0 is the ReLU; a leak of 1 is no activation at all, and the formula turns into $1 / n_\text{in}$.


# %%
def kaiming_normal(n_in: int, n_out: int, leak: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """Weights `(n_in, n_out)` for `x @ w` before a leaky ReLU: normal, mean 0, variance 2 / ((1 + leak²) n_in).

    leak: the slope of the activation for negative inputs; 0 for a plain ReLU.
    generator: where the random numbers come from; the global generator when None.
    Source: He et al. 2015, equations 10 and 15.
    """
    raise NotImplementedError("kaiming_normal: replace this line with your own")


# %% [markdown]
# ## The picture
#
# Five ways to draw the weights, the standard deviation after each layer, and a logarithmic scale, on which a constant
# factor per layer is a straight line. The left side shows the first ten layers, the right side all fifty.
#
# Look for three things. The line for weights of 1 stops long before the last layer: there the numbers are too large
# for float32 (the sum of their squares is, in fact, which a standard deviation needs). The line for 0.01 ends where
# the squares are too small. And with ReLUs Glorot's line falls straight, while Kaiming's wanders about a level: one
# layer of random weights hits its factor only on average, the more closely the wider it is.


# %%
def plot_activation_scales(width: int = 256, batch: int = 200) -> Figure:
    """Standard deviation per layer on a log scale, after ten and after fifty layers, for five ways to draw weights."""
    import matplotlib.pyplot as plt

    def scaled(scale: float) -> Callable[..., Tensor]:
        return lambda n_in, n_out, generator: torch.randn(n_in, n_out, generator=generator) * scale

    cases: list[tuple[str, Callable[..., Tensor], Callable[[Tensor], Tensor] | None]] = [
        ("weights of 1", scaled(1.0), None),
        ("weights of 0.01", scaled(0.01), None),
        ("Glorot", glorot_normal, None),
        ("Glorot + ReLU", glorot_normal, torch.relu),
        ("Kaiming + ReLU", kaiming_normal, torch.relu),
    ]
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for name, draw, act in cases:
        generator = torch.Generator().manual_seed(17)
        x = torch.randn(batch, width, generator=generator)
        weights = [draw(width, width, generator=generator) for _ in range(50)]
        scales = activation_scales(x, weights, act).tolist()
        # float32 is at its end where a scale is no finite number above 0
        ends = next((layer for layer, scale in enumerate(scales) if not 0 < scale < math.inf), len(scales))
        for axis, depth in zip(axes, (10, 50), strict=True):
            shown = min(ends, depth)
            axis.plot(range(1, shown + 1), scales[:shown], label=name)
    for axis, depth in zip(axes, (10, 50), strict=True):
        axis.set(yscale="log", xlabel="layer", ylabel="standard deviation", title=f"{depth} layers", xlim=(1, depth))
    axes[1].legend()
    return figure


# %%
if __name__ == "__main__":
    plot_activation_scales()

# %% [markdown]
# **Question.** Inputs of standard deviation 1 go through fifty layers of Glorot's weights, square matrices, each
# followed by a ReLU. Predict the root mean square of what comes out, from the share of the mean square that one layer
# lets through. What is different about a leaky ReLU with slope 0.5, and how small is its output after the same fifty
# layers?

# %% [markdown] question="u2-glorot-relu" points=2
# Your answer here.

# %% [markdown]
# ## From matrices to layers
#
# A real network is built of `nn.Linear` and `nn.Conv2d`, and those keep their weights the other way round: `(out, in)`
# for a linear layer, `(out, in, height, width)` for a convolution. One output of a convolution is a sum over all input
# channels and all positions of the kernel. The number of inputs that feed one output is called the **fan-in**, and it
# is what the formulas call $n_\text{in}$. With groups, a channel sees only its group's inputs, and PyTorch's weight
# has only those: its shape is `(out, in / groups, height, width)`, and so the shape says everything.


# %%
def fan_in(weight: Tensor) -> int:
    """How many inputs feed one output: in * prod(kernel) for a weight in PyTorch's layout `(out, in, *kernel)`.

    weight: of an `nn.Linear` or an `nn.Conv1d`, `nn.Conv2d`, `nn.Conv3d`. Returns a Python int.
    Raises ValueError for a weight of fewer than two dimensions, such as a bias.
    """
    raise NotImplementedError("fan_in: replace this line with your own")


# %% [markdown]
# `model.apply(f)` calls `f` on every module inside a model, containers and activations and normalisation layers
# included. So a function that initialises must look at what it was given, and leave alone what it does not know.
#
# It must also leave the *parameters* where they are. An optimizer, or another layer that shares a weight, holds on to
# the very object; a new `nn.Parameter` put in its place would be trained by nobody. Change the numbers in place, and
# under `torch.no_grad()`, because drawing them is not a step that anyone wants to differentiate. A parameter that is
# frozen (`requires_grad` is False) gets its numbers too, and stays frozen.
#
# PyTorch's own default for these layers is uniform with variance $1 / (3 n_\text{in})$: a sixth of what a ReLU needs.
# Five layers shrink the scale by $6^{5/2}$, about 90 times, and that is one reason why a plain network learns so
# badly.


# %%
def init_weights(module: nn.Module, leak: float = 0.0) -> None:
    """Kaiming-normal weights and zero biases, in place, for `model.apply(init_weights)`.

    module: `nn.Linear` and `nn.Conv1d`, `nn.Conv2d`, `nn.Conv3d` are initialised; any other module is left as it is.
    leak: the slope of the activation that follows, for negative inputs. Variance 2 / ((1 + leak²) fan_in).
    The parameters stay the same objects, require gradients or not as before, and remember no graph.
    Source: He et al. 2015, section 2.2.
    """
    raise NotImplementedError("init_weights: replace this line with your own")


# %% [markdown]
# ## The other half: the inputs
#
# All of this holds a scale; it does not make one. Weights of the right size keep inputs of standard deviation 1 at 1,
# and inputs of 0.3 at 0.3, and the derivation assumed inputs of mean 0. Pixels between 0 and 1 have neither. So the
# data are shifted and scaled first:
#
# $$\frac{x - \text{mean}}{\text{std}}$$
#
# Whose mean? For the training data, their own. For the validation data, *the training data's*: the statistics are
# given then, as two numbers, or as tensors with one entry per channel, shaped to broadcast. A mean of 0.0 that is
# given is not a mean that is missing.


# %%
def normalize(x: Tensor, mean: float | Tensor | None = None, std: float | Tensor | None = None) -> Tensor:
    """`(x - mean) / std`, as a new tensor; a statistic that is missing is x's own, over all its elements.

    x: float tensor of any shape. mean, std: numbers, or tensors that broadcast to x's shape; each may be missing
    alone. Population statistics: the standard deviation divides by n, and is taken about x's own mean.
    """
    raise NotImplementedError("normalize: replace this line with your own")


# %% [markdown]
# **Question.** A model was trained on images normalised with the training set's mean and standard deviation. Somebody
# normalises each *batch* of the validation set with its own statistics instead, and one batch happens to hold only
# dark pictures. What does the model see, and what does it lose?

# %% [markdown] question="u2-whose-statistics" points=2
# Your answer here.
