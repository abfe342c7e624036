# %% [markdown]
# # Unit 8: accelerated SGD
#
# A good initialisation and normalisation keep activations and gradients at a size that a step of gradient descent can
# use. This unit is about the step itself. Plain gradient descent has one learning rate for all parameters and forgets
# each gradient as soon as it has used it. Momentum remembers the direction, RMSProp remembers the size, Adam
# remembers both, and what they remember with is one and the same tool: the exponentially weighted moving average.

# %%
from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# %% [markdown]
# ## The moving average
#
# Gradients of small batches are noisy: each is the true gradient plus an error that is different in every batch. An
# average over the last few is less noisy. To keep a list of the last few gradients of a network would take many times
# its memory; the **exponentially weighted moving average** needs one number per parameter. It starts at 0 and, with
# every new value, keeps a share $\beta$ of itself and takes the rest from the value:
#
# $$a_t = \beta\, a_{t-1} + (1 - \beta)\, v_t, \qquad a_0 = 0$$
#
# Written out, $a_t = (1 - \beta) \sum_{j} \beta^{\,t - j} v_j$: a value that is k steps old still counts with weight
# $(1 - \beta)\beta^k$. Roughly $1 / (1 - \beta)$ values take part: ten for 0.9, a hundred for 0.99. The two factors
# belong together. Without the $1 - \beta$ the result is a sum, ten times as large for 0.9; with the factors exchanged
# nearly nothing is averaged.


# %%
def ema(values: Tensor, beta: float) -> Tensor:
    """The exponentially weighted moving average after each value: avg = beta * avg + (1 - beta) * value, from 0.

    values: float tensor `(steps,)`, oldest first. beta: from 0, which remembers nothing, up to but excluding 1.
    Returns all averages, in the shape and dtype of `values`; the first is (1 - beta) * values[0].
    """
    raise NotImplementedError("ema: replace this line with your own")


# %% [markdown]
# ## The start at 0
#
# Average the constant 10 with $\beta = 0.9$: the averages are 1, 1.9, 2.71, and after ten steps 6.5. The average is
# dragged towards the 0 that it started from, and the larger $\beta$ is, the longer. By how much is known exactly.
# After $n$ values the weights add up to
#
# $$(1 - \beta)\left(1 + \beta + \dots + \beta^{\,n-1}\right) = 1 - \beta^{\,n}$$
#
# so division by $1 - \beta^n$ makes them add up to 1: the average of a constant is that constant, from the first step
# on (Kingma & Ba 2015, section 3). Steps are counted from 0 here, as everywhere in Python: when step `i` is done, `i
# + 1` values have gone in. To use `i` for the exponent divides by 0 at the first step.


# %%
def debias(avg: Tensor, beta: float, i: int) -> Tensor:
    """A moving average freed of its start at 0: avg / (1 - beta^(i + 1)).

    avg: tensor of any shape, the average after the `i + 1` updates of steps 0 to `i`. Returns a new tensor of its
    shape and dtype. Source: Kingma & Ba 2015, section 3.
    """
    raise NotImplementedError("debias: replace this line with your own")


# %% [markdown]
# The picture shows noisy readings of a curve and their averages for two values of $\beta$. A small one follows the
# curve and much of the noise; a large one is smooth and late. Dashed is the plain average, which climbs up from 0;
# drawn through is the debiased one. After some $3 / (1 - \beta)$ steps the two are the same.


# %%
def plot_ema(betas: tuple[float, ...] = (0.7, 0.97), steps: int = 120, seed: int = 0) -> Figure:
    """Noisy values, their moving averages (dashed) and the debiased ones (drawn through), a panel per beta."""
    import matplotlib.pyplot as plt

    time = torch.linspace(0, 1, steps)
    curve = 2 + torch.sin(5 * time)
    values = curve + 0.4 * torch.randn(steps, generator=torch.Generator().manual_seed(seed))
    figure, panels = plt.subplots(1, len(betas), figsize=(5 * len(betas), 3.2), sharey=True, squeeze=False)
    for panel, beta in zip(panels[0], betas, strict=True):
        avg = ema(values, beta)
        freed = torch.stack([debias(one, beta, i) for i, one in enumerate(avg)])
        panel.plot(values, ".", color="0.75", label="values")
        panel.plot(curve, color="0.5", linewidth=1, label="without noise")
        panel.plot(avg, "--", color="tab:red", label="average")
        panel.plot(freed, color="tab:red", label="debiased")
        panel.set(title=f"beta = {beta}", xlabel="step")
    panels[0][0].legend()
    figure.tight_layout()
    return figure


# %%
if __name__ == "__main__":
    plot_ema()

# %% [markdown]
# ## A step, in parts
#
# An optimizer holds the parameters, the learning rate and the weight decay. `step()` goes through the parameters and
# does two things with each, in this order: `reg_step` regularises it, `opt_step` moves it along its gradient. The
# optimizers further down replace `opt_step` and inherit the rest. Plain stochastic gradient descent (SGD) is
#
# $$p \leftarrow p - \eta\, g$$
#
# What goes wrong here goes wrong quietly:
#
# - `p = p - lr * p.grad` makes a new tensor and leaves the model's parameter as it was: the loss stays where it is.
#   The update must be *in place*, in the memory that the model reads.
# - An update in place of a leaf that requires a gradient is an error while autograd is recording, and if it were not,
#   the graph would grow with every step. The step happens under `torch.no_grad()`.
# - A parameter that took no part in the loss has the gradient `None`. It is left alone altogether: no step, no decay.
# - Gradients add up over calls of `backward`. When nobody clears them, step 2 follows the sum of two gradients, step
#   3 that of three: like momentum without a brake, and the loss explodes.
# - A schedule changes `lr` during training. Who reads it once and keeps it never notices.
#
# Some readers look for the learning rate where PyTorch's optimizers keep it, in `opt.param_groups[0]["lr"]`; the
# property of that name is given. There is one group here, and it is the optimizer's own attributes.


# %%
class SGD:
    """Stochastic gradient descent with decoupled weight decay; the base class of all optimizers of this unit.

    params: iterable of tensors, a generator too, read once. lr: learning rate, read anew at every step.
    wd: weight decay. `i` counts the steps that are done: it is 0 during the first.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, wd: float = 0.0) -> None:
        self.params, self.lr, self.wd = list(params), lr, wd
        self.i = 0

    def step(self) -> None:
        """Without recording: `reg_step`, then `opt_step`, of every parameter that has a gradient; then counts `i` up.

        Parameters without gradient stay as they are, and so do all gradients.
        """
        raise NotImplementedError("sgd: replace this line with your own")

    def opt_step(self, p: Tensor) -> None:
        """Moves one parameter against its gradient, in place: p -= lr * grad."""
        raise NotImplementedError("sgd: replace this line with your own")

    def reg_step(self, p: Tensor) -> None:
        """Shrinks one parameter towards 0, in place: p *= 1 - lr * wd. Loshchilov & Hutter 2019, algorithm 1."""
        raise NotImplementedError("weight_decay: replace this line with your own")

    def zero_grad(self) -> None:
        """Clears the gradients of all parameters: afterwards each is None or zero."""
        raise NotImplementedError("sgd: replace this line with your own")

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """All parameters as one group, as in PyTorch: `opt.param_groups[0]["lr"]` reads and sets `opt.lr`."""
        return [vars(self)]


# %% [markdown]
# ## Weight decay
#
# Large weights make a function that bends sharply between the training samples. There are two ways to ask for smaller
# ones. An **L2 penalty** adds $\frac{wd}{2} \lVert p \rVert^2$ to the loss, which adds $wd \cdot p$ to the gradient.
# **Weight decay** shrinks the parameter directly before each step:
#
# $$p \leftarrow (1 - \eta \cdot wd)\, p$$
#
# For plain SGD the two are the same: $p - \eta (g + wd \cdot p) = (1 - \eta\, wd)\, p - \eta\, g$. For no other
# optimizer of this unit are they. Momentum would carry the penalty's gradient on for ten more steps, and RMSProp and
# Adam would divide it by the size of the parameter's gradients, so that the weights with the largest gradients would
# be decayed the least. Keeping the decay out of the gradient, *decoupled*, is all that distinguishes AdamW from Adam
# (Loshchilov & Hutter 2019, section 2).
#
# Note that the learning rate is a factor of the decay too: with `lr = 0.1` and `wd = 0.01`, a parameter whose
# gradient is 0 halves in about 700 steps.
#
# ## Momentum
#
# In a long valley with steep sides the gradient points mostly across, not along. Plain SGD jumps from side to side.
# The average of the last gradients is better: across the valley they have opposite signs and cancel, along it they
# agree and stay. So follow the average instead of the gradient (Polyak 1964; this form of it comes from the lesson):
#
# $$a_t = \mu\, a_{t-1} + (1 - \mu)\, g_t, \qquad p \leftarrow p - \eta\, a_t$$
#
# The average is not debiased: the first steps are short, which does no harm. And it is an average, where many texts
# have a sum; the learning rate that suits it is larger. In the lesson's runs on Fashion-MNIST, SGD took 0.4, momentum
# 1.5.
#
# The averages belong to the *optimizer*, one per parameter. To hang them on the parameter as an attribute is tempting
# and works until a second optimizer is made for the same model: it starts with the memory of the first. To keep one
# average for all parameters, or one per shape, lets them push one another around. And what is kept must be a tensor
# of its own: the gradient's memory is filled anew in the next backward pass.


# %%
class Momentum(SGD):
    """SGD that follows the moving average of the gradients, which starts at 0: avg = mom * avg + (1 - mom) * grad.

    Then p -= lr * avg. mom: the share of the average that is kept. Weight decay stays out of the average.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, wd: float = 0.0, mom: float = 0.9) -> None:
        super().__init__(params, lr, wd)
        raise NotImplementedError("momentum: replace this line with your own")

    def opt_step(self, p: Tensor) -> None:
        """Updates the average of one parameter's gradients and moves the parameter against it, in place."""
        raise NotImplementedError("momentum: replace this line with your own")


# %% [markdown]
# **Question.** PyTorch's `SGD(params, lr, momentum=0.9)` keeps a sum instead, `buf = 0.9 * buf + grad`, and takes the
# step `p -= lr * buf`. Your `Momentum` with `mom=0.9` trains well at a learning rate of 1.5. Which learning rate
# makes PyTorch's take the same steps, from the first one on? What would happen at 1.5, and why can the same not be
# repaired by another `momentum`?

# %% [markdown] question="u8-momentum-dialect" points=2
# Your answer here.

# %% [markdown]
# ## RMSProp
#
# One learning rate for all parameters suits few of them: where gradients are always small it crawls, where they are
# large it jumps. RMSProp (Hinton's Coursera lecture 6e) divides each gradient by the size that this parameter's
# gradients have had lately, the root of the moving average of their squares:
#
# $$s_t = \alpha\, s_{t-1} + (1 - \alpha)\, g_t^2, \qquad p \leftarrow p - \eta\, \frac{g_t}{\sqrt{s_t} + \varepsilon}$$
#
# The steps are now about $\eta$ long whatever the gradients' scale, which is why learning rates for it are so small:
# 0.003 in the lesson. Two things deserve care.
#
# **The start.** From 0, the first average would be $(1 - \alpha)\, g^2$, its root a tenth of $|g|$ for $\alpha =
# 0.99$, and the first step ten times too long. (PyTorch's RMSprop does that.) Here the average starts *at the first
# gradient squared*, and the first step is $\eta$ long. Each parameter has its own first gradient: one that gets a
# gradient only at step 50 starts then.
#
# **Epsilon.** A gradient of 0 would divide 0 by 0. The small number stands *outside* the root. Inside, its own root
# would be what counts: $\sqrt{10^{-5}}$ is 0.003, three hundred times as much, and more than many a gradient.


# %%
class RMSProp(SGD):
    """SGD with each gradient divided by the root of the moving average of its squares.

    The average starts at the first gradient squared, then sqr_avg = sqr_mom * sqr_avg + (1 - sqr_mom) * grad², and
    p -= lr * grad / (sqrt(sqr_avg) + eps). sqr_mom: the share of the average that is kept. eps: outside the root.
    Source: Hinton, Neural Networks for Machine Learning, lecture 6e; the start is the lesson's.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, wd: float = 0.0, sqr_mom: float = 0.99, eps: float = 1e-5
    ) -> None:
        super().__init__(params, lr, wd)
        raise NotImplementedError("rmsprop: replace this line with your own")

    def opt_step(self, p: Tensor) -> None:
        """Updates the average of one parameter's squared gradients and moves the parameter, in place."""
        raise NotImplementedError("rmsprop: replace this line with your own")


# %% [markdown]
# ## Adam
#
# Adam is momentum over RMSProp: the average of the gradients, divided by the root of the average of their squares.
# Both averages start at 0 here, and both are debiased (Kingma & Ba 2015, algorithm 1):
#
# $$p \leftarrow p - \eta\, \frac{\hat a_t}{\sqrt{\hat s_t} + \varepsilon}, \qquad
# \hat a_t = \frac{a_t}{1 - \beta_1^{\,t}}, \quad \hat s_t = \frac{s_t}{1 - \beta_2^{\,t}}$$
#
# where $t$ is 1 at the first step: the optimizer's `i`, plus 1. At the first step the two hats undo both factors
# exactly, and what is left is $g / (|g| + \varepsilon)$. While the gradients keep their sign and size it stays $\pm
# 1$: with constant gradients Adam is nothing but a sign, and a mistake in its averages does not show. When they
# change sign, the upper average becomes small and the lower does not: Adam slows down where the gradients disagree.
#
# The hats are computed for the step and thrown away. To store them in place of the averages debiases them again at
# every further step.


# %%
class Adam(SGD):
    """SGD with debiased moving averages of gradients and of squared gradients, both from 0; with `wd`, AdamW.

    p -= lr * avg^ / (sqrt(sqr_avg^) + eps), where ^ is `debias` at step `i`. beta1, beta2: the shares that the
    averages of gradients and of squares keep. eps: outside the root.
    Source: Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        wd: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.99,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(params, lr, wd)
        raise NotImplementedError("adam: replace this line with your own")

    def opt_step(self, p: Tensor) -> None:
        """Updates both averages of one parameter and moves it by their debiased ratio, in place."""
        raise NotImplementedError("adam: replace this line with your own")


# %% [markdown]
# **Question.** Somebody forgets to debias. For a parameter whose gradient is always 1, how long are the first and the
# tenth step, in units of the learning rate, with the defaults of this course ($\beta_1 = 0.9$, $\beta_2 = 0.99$)? And
# how long is the first with the paper's $\beta_2 = 0.999$? Leave $\varepsilon$ out.

# %% [markdown] question="u8-without-debias" points=3
# Your answer here.

# %% [markdown]
# ## Four ways through one valley
#
# The picture lets each optimizer loose on $f(x, y) = \frac12 (x^2 + 40 y^2)$, a valley forty times as steep across
# (up and down in the picture) as along. SGD can afford no more than the steep direction allows: at a rate of 0.05 it
# would jump from side to side for ever. So it crawls along the floor, and sixty steps do not take it to the minimum.
# Momentum jumps across too, but it builds up speed along the floor, arrives in twenty steps, and runs past. RMSProp
# and Adam rescale both directions and set off diagonally, as if the valley were round; Adam, with momentum of its
# own, runs past too. Change the learning rates and see which of them forgives most.


# %%
def path(optimizer: Callable[[list[Tensor]], Any], start: tuple[float, float], steps: int, steepness: float) -> Tensor:
    """The positions, `(steps + 1, 2)`, of an optimizer that descends (x² + steepness * y²) / 2 from `start`."""
    position = torch.tensor(start, requires_grad=True)
    opt, positions = optimizer([position]), [position.detach().clone()]
    for _ in range(steps):
        loss = (position[0] ** 2 + steepness * position[1] ** 2) / 2
        loss.backward()
        opt.step()
        opt.zero_grad()
        positions.append(position.detach().clone())
    return torch.stack(positions)


def plot_paths(steps: int = 60, steepness: float = 40.0) -> Figure:
    """The paths of the four optimizers down one valley, a panel each, every dot a step."""
    import matplotlib.pyplot as plt

    optimizers = {
        "SGD, lr 0.045": lambda params: SGD(params, 0.045),
        "Momentum, lr 0.25": lambda params: Momentum(params, 0.25, mom=0.8),
        "RMSProp, lr 0.3": lambda params: RMSProp(params, 0.3, sqr_mom=0.9),
        "Adam, lr 0.3": lambda params: Adam(params, 0.3),
    }
    x, y = torch.meshgrid(torch.linspace(-5, 2, 80), torch.linspace(-2, 2, 80), indexing="xy")
    figure, panels = plt.subplots(2, 2, figsize=(10, 6), sharex=True, sharey=True)
    for panel, (name, optimizer) in zip(panels.flatten(), optimizers.items(), strict=True):
        xs, ys = path(optimizer, (-4.5, 1.5), steps, steepness).T
        panel.contour(x, y, (x**2 + steepness * y**2).sqrt(), levels=14, colors="0.8", linewidths=0.8)
        panel.plot(xs, ys, ".-", color="tab:red", linewidth=1, markersize=4)
        panel.plot(0, 0, "k+")
        panel.set_title(name)
    figure.tight_layout()
    return figure


# %%
if __name__ == "__main__":
    plot_paths()

# %% [markdown]
# ## Clipping
#
# Deep and recurrent networks have cliffs in their loss: regions where the gradient is suddenly a thousand times as
# large as a step before. One step from there throws the parameters far away. **Clipping** bounds the gradients
# between `backward` and `step`. There are two ways, and they are not the same:
#
# - by **value**: each entry is capped at ±threshold on its own. The direction changes: (30, 1) with a threshold of 1
#   becomes (1, 1);
# - by **norm**: all gradients, of all parameters together, are multiplied by one factor. Their direction stays
#   (Pascanu et al. 2013, algorithm 1):
#
# $$\lVert g \rVert = \sqrt{\sum_p \lVert g_p \rVert^2}, \qquad
# g_p \leftarrow g_p \cdot \frac{\text{max\_norm}}{\lVert g \rVert}
# \quad \text{if } \lVert g \rVert > \text{max\_norm}$$
#
# Gradients that are small enough stay as they are: clipping never lengthens. The norm before clipping is worth a
# plot: it shows when the cliffs come. Both change the gradients in place, and both skip parameters that have none.


# %%
def clip_grad_value(params: Iterable[Tensor], threshold: float) -> None:
    """Caps every entry of every gradient at ±threshold, in place.

    params: iterable of tensors, a generator too; those without gradient are skipped. threshold: positive.
    """
    raise NotImplementedError("clip_grad_value: replace this line with your own")


# %%
def clip_grad_norm(params: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scales all gradients by one factor, in place, so that their joint L2 norm is at most `max_norm`.

    params: iterable of tensors, a generator too; those without gradient are skipped. max_norm: positive.
    Returns the joint norm before clipping, a 0-dim tensor. Gradients whose norm is no larger stay as they are.
    Source: Pascanu, Mikolov & Bengio 2013, algorithm 1.
    """
    raise NotImplementedError("clip_grad_norm: replace this line with your own")
