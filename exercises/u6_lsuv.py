# %% [markdown]
# # Unit 6: layer-sequential unit variance
#
# Glorot's and Kaiming's formulas are calculated for one activation each. Change the activation, shift it, cap it, and
# somebody must sit down and calculate again; get it slightly wrong, and the error is raised to the power of the
# depth.
#
# Mishkin & Matas (2015, algorithm 1) do not calculate. They send a batch through the network, measure what comes out
# of the first layer, correct the layer's weights by what they measured, repeat until it fits, and go on to the next
# layer: **layer-sequential unit variance**, LSUV. It works for every activation, including those that nobody has
# analysed, because it never asks what the activation is.

# %%
from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from .u3_activations import GeneralReLU
from .u4_learner import Callback
from .u5_hooks import Hook

# %% [markdown]
# ## One layer
#
# The paper corrects the variance alone. The lesson corrects the mean as well, which costs nothing extra. With the
# mean $m$ and the standard deviation $s$ of all that the activation has put out for one batch, a step is
#
# $$b \leftarrow b - m \qquad W \leftarrow W / s$$
#
# Neither correction hits exactly. The bias is not divided along with the weights, and between them and the measured
# output there is an activation that bends things; so measure again, and stop when both are within a tolerance. As a
# rule the error shrinks by a constant factor per step, and ten to thirty steps are enough.
#
# Some layers cannot get there. Plain ReLU puts out nothing below 0: its mean is 0 only when *all* of its output is 0,
# and then the standard deviation is 0 too. A layer whose output is 0 throughout, a dead one, has nothing to divide
# by. A loop that waits for such a layer never ends, and if it does end, it has filled the weights with inf and nan on
# its way. So count the steps, give the old weights back, and say what was measured.
#
# This is surgery on parameters that others hold: an optimizer, a hook, a frozen layer. They expect to find the same
# tensors afterwards, with new numbers in them (*in place*, under `torch.no_grad()`), no hook left behind, and batch
# norm and dropout in the mode that they were in.


# %%
def lsuv_layer(
    model: nn.Module,
    act_module: nn.Module,
    weight_module: nn.Module,
    xb: Tensor,
    tol: float = 1e-3,
    max_iter: int = 50,
) -> tuple[float, float]:
    """Corrects a layer until its output for the batch `xb` has mean 0 and standard deviation 1.

    Runs `xb` through `model`, measures the output of `act_module` (over all elements; population standard deviation),
    subtracts its mean from `weight_module.bias` and divides `weight_module.weight` by its standard deviation, at most
    `max_iter` times, until abs(mean) <= tol and abs(std - 1) <= tol. Returns the final (mean, std).
    Works in place and without gradients, leaves no hook behind and every module in the mode that it was in; batch norms
    in training mode move their running statistics, as in every forward pass.
    Raises ValueError, before anything changes, where `weight_module` has no bias, and RuntimeError, naming mean and
    std and with weight and bias restored, where the layer does not get there.
    Mishkin & Matas 2015, algorithm 1.
    """
    raise NotImplementedError("lsuv_layer: replace this line with your own")


# %% [markdown]
# **Question.** A linear layer has no activation behind it. On a batch, its products $Wx$ have mean 2 and standard
# deviation 4, and all its biases are 0. What are mean and standard deviation of its output after the first
# correction, and after the second? Why is one not enough, and why does a layer with an activation take more than two?

# %% [markdown] question="u6-steps" points=2
# Your answer here.

# %% [markdown]
# **Question.** Why can no batch bring a plain ReLU to mean 0 and standard deviation 1, and what does a shifted one,
# such as `GeneralReLU(leak=0.1, sub=0.4)`, do about it?

# %% [markdown] question="u6-relu" points=2
# Your answer here.

# %% [markdown]
# ## Layer by layer
#
# What the second layer puts out depends on what the first one feeds it. Correct the last layer first and each later
# change further up spoils it again. From front to back, every layer is corrected once and stays right, because
# nothing before it will change.


# %%
def lsuv_init(
    model: nn.Module, pairs: Iterable[tuple[nn.Module, nn.Module]], xb: Tensor, tol: float = 1e-3
) -> list[tuple[float, float]]:
    """Corrects all layers by `lsuv_layer`: the `(act_module, weight_module)` of `pairs`, in order, first layer first.

    Returns the final (mean, std) of each.
    """
    raise NotImplementedError("lsuv_init: replace this line with your own")


# %% [markdown]
# The picture shows what there is to gain: twenty layers whose activation nobody has calculated an initialisation for,
# with PyTorch's default weights and after LSUV.


# %%
def block_scales_picture(models: dict[str, nn.Sequential], xb: Tensor):
    """A figure: mean and standard deviation after each block of each model, for the batch `xb`."""
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
    for name, model in models.items():
        x, means, stds = xb, [], []
        with torch.no_grad():
            for block in model:
                x = block(x)
                means.append(x.mean().item())
                stds.append(x.std(correction=0).item())
        left.plot(means, marker=".", label=name)
        right.plot(stds, marker=".", label=name)
    blocks = range(0, len(means), max(1, len(means) // 10))
    left.set(title="mean", xlabel="block", xticks=blocks)
    right.set(title="standard deviation", xlabel="block", xticks=blocks, yscale="log")
    right.legend()
    return figure


# %%
if __name__ == "__main__":
    torch.manual_seed(1)

    def deep_net() -> nn.Sequential:
        return nn.Sequential(
            *(nn.Sequential(nn.Linear(100, 100), GeneralReLU(leak=0.1, sub=0.4, maxv=3.0)) for _ in range(20))
        )

    batch = torch.randn(200, 100)
    before, after = deep_net(), deep_net()
    lsuv_init(after, [(activation, linear) for linear, activation in after], batch)
    block_scales_picture({"PyTorch's default": before, "after LSUV": after}, batch)

# %% [markdown]
# ## In a fit
#
# LSUV needs a batch, and the learner has the batches; so it makes a good callback. It belongs before the *first* fit
# and only there: whoever calls `fit` again wants to train on, and would see the trained weights rescaled. The batch
# that it measures is not used up, since asking `dls.train` for an iterator a second time starts the epoch anew. As
# the optimizer has already been given the parameters by then, it matters that `lsuv_layer` changes them in place.


# %%
class LSUVCallback(Callback):
    """Initialises the model by `lsuv_init` on one training batch before the first fit, and never again.

    pairs_of: function that takes the model and returns its `(act_module, weight_module)` pairs, first layer first.
    The batch is `(xb, ...)`; the epochs of the fit still see all batches.
    """

    order = -1  # a callback that records activations should see the fit, not this

    def __init__(self, pairs_of: Callable[[nn.Module], Iterable[tuple[nn.Module, nn.Module]]]) -> None:
        raise NotImplementedError("lsuv_callback: replace this line with your own")

    def before_fit(self) -> None:
        raise NotImplementedError("lsuv_callback: replace this line with your own")
