# %% [markdown]
# # Unit 3: activations
#
# Unit 2 put the scale of the activations right. This one is about their mean. A ReLU never puts out anything below 0,
# so the mean of its outputs is above 0, however well the weights were drawn. Three small changes, a leak, a shift and
# a cap, turn it into a function whose outputs lie around 0 and whose gradient does not die.

# %%
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# %% [markdown]
# ## The rectified linear unit
#
# $$\operatorname{relu}(x) = \max(x, 0)$$
#
# Without something bent between them, two linear layers are one linear layer. This is the simplest bend there is, and
# its gradient is 1 wherever the unit is on, so that it can be stacked deep (Nair & Hinton 2010).


# %%
def relu(x: Tensor) -> Tensor:
    """max(x, 0) for every element, as a new tensor.

    x: float tensor of any shape. Returns a tensor of the same shape and dtype. Source: Nair & Hinton 2010.
    """
    raise NotImplementedError("relu: replace this line with your own")


# %% [markdown]
# ## Where the mean goes
#
# A ReLU cuts off the negative half of what comes in. On standard normal input the positive half has, averaged over all
# inputs, the mean
#
# $$\operatorname{E}[\max(X, 0)] = \int_0^\infty x \, \frac{e^{-x^2/2}}{\sqrt{2\pi}} \, dx = \frac{1}{\sqrt{2\pi}}
# \approx 0.3989$$
#
# The next layer then gets inputs that are all positive, and its weights get gradients that, for one output, all have
# one sign: they can only grow together or shrink together (LeCun et al. 1998, section 4.3).
#
# A **leaky** ReLU multiplies negative inputs by a small slope instead of dropping them (Maas et al. 2013). By symmetry
# the negative half has the mean -0.3989, of which the slope `leak` passes its share:
#
# $$\operatorname{E}[\operatorname{leaky}(X)] = \frac{1 - \text{leak}}{\sqrt{2\pi}}$$
#
# Subtract that number and the mean is 0. A leak of 1 is the identity and needs no shift.


# %%
def zero_mean_shift(leak: float) -> float:
    """What to subtract from a leaky ReLU so that its mean is 0 on standard normal input.

    leak: the slope for negative inputs. Returns (1 - leak) / sqrt(2 pi) as a Python float.
    """
    raise NotImplementedError("zero_mean_shift: replace this line with your own")


# %% [markdown]
# ## A ReLU with all the screws
#
# The general ReLU of the course has four of them, and any of them may be missing:
#
# 1. `leak`: the slope for negative inputs. Missing: a plain ReLU.
# 2. `sub`: what is then subtracted. Missing: nothing.
# 3. `maxv`: where the result is then capped. Missing: nowhere. A single very large activation can no longer dominate
#    the statistics of its layer.
# 4. `max_leak`: a flat cap has a gradient of 0, so what lies above it learns nothing. With `max_leak` the part above
#    `maxv` keeps that slope: a value $y$ above it becomes $\text{maxv} + \text{max\_leak} \cdot (y - \text{maxv})$.
#    Without `maxv` there is no part above, and `max_leak` means nothing.
#
# The order matters: the cap applies to what is left after the subtraction. And a value of 0.0 is a value: a cap at 0.0
# is a cap. In Python `if maxv:` takes it for a missing one.
#
# The lesson uses a leak of 0.1 and subtracts 0.4.


# %%
class GeneralReLU(nn.Module):
    """A leaky ReLU, shifted down and capped; it has no parameters.

    leak: slope for negative inputs; a plain ReLU when None. sub: subtracted from that. maxv: cap on the difference.
    max_leak: slope of the part above maxv, in place of a flat cap; without maxv it has no effect.
    Each may be None, alone or together with others. Tensors of any shape go in; new ones of that shape come out.
    """

    def __init__(
        self,
        leak: float | None = None,
        sub: float | None = None,
        maxv: float | None = None,
        max_leak: float | None = None,
    ) -> None:
        super().__init__()
        raise NotImplementedError("general_relu: replace this line with your own")

    def forward(self, x: Tensor) -> Tensor:
        """Leaky ReLU, then minus sub, then capped at maxv."""
        raise NotImplementedError("general_relu: replace this line with your own")


# %% [markdown]
# ## The picture
#
# On the left the functions themselves. On the right what they make of 100,000 standard normal numbers: the ReLU piles
# half of them up at 0 and has a mean of 0.4; the general ReLU spreads them over both signs, with a mean close to 0.


# %%
def plot_activations() -> Figure:
    """The curves of four activations, and the histograms of two of them on standard normal input."""
    import matplotlib.pyplot as plt

    curves = {
        "ReLU": GeneralReLU(),
        "leak 0.1, sub 0.4": GeneralReLU(leak=0.1, sub=0.4),
        "leak 0.1, sub 0.4, maxv 1": GeneralReLU(leak=0.1, sub=0.4, maxv=1.0),
        "leak 0.1, sub 0.4, maxv 1, max_leak 0.2": GeneralReLU(leak=0.1, sub=0.4, maxv=1.0, max_leak=0.2),
    }
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    x = torch.linspace(-3, 3, 301)
    for name, act in curves.items():
        left.plot(x.tolist(), act(x).tolist(), label=name)
    left.axhline(0, color="grey", linewidth=0.5)
    left.set(xlabel="input", ylabel="output", title="curves")
    left.legend()
    inputs = torch.randn(100_000, generator=torch.Generator().manual_seed(17))
    for name in ("ReLU", "leak 0.1, sub 0.4"):
        outputs = curves[name](inputs)
        label = f"{name}: mean {outputs.mean():.2f}"
        right.hist(outputs.tolist(), bins=60, range=(-1, 3), histtype="step", log=True, label=label)
    right.set(xlabel="output", ylabel="count", title="outputs on standard normal input")
    right.legend()
    return figure


# %%
if __name__ == "__main__":
    plot_activations()

# %% [markdown]
# **Question.** The lesson takes a leak of 0.1 and subtracts 0.4. What mean remains on standard normal input, and which
# leak would 0.4 fit best? Does the remainder do harm?

# %% [markdown] question="u3-remaining-mean" points=2
# Your answer here.

# %% [markdown]
# **Question.** A unit with `GeneralReLU(leak=0.1, sub=0.4, maxv=1.0)` receives 5.0 for every image of a batch. What is
# the gradient of its output with respect to its input, and what follows for the weights before it? What changes with
# `max_leak=0.2`?

# %% [markdown] question="u3-flat-cap" points=2
# Your answer here.
