# %% [markdown]
# # Unit 5: hooks and activation statistics
#
# A network that does not train looks from outside like one that does: the loss is a number, and the number is bad.
# The reason sits in its layers. Activations grow from layer to layer, or die out, or jump up for fifty batches and
# collapse. Seeing that takes a look inside *while the model trains*, without rewriting the model.
#
# PyTorch has a place for it. `module.register_forward_hook(f)` makes every forward pass of `module` call
# `f(module, inputs, output)` afterwards, and returns a handle whose `remove()` ends that.

# %%
from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from .u4_learner import Callback, DataLoaders, MetricsCallback, TrainLearner

# %% [markdown]
# ## A hook that remembers
#
# A bare function has nowhere to keep what it sees. A `Hook` is an object that passes *itself* to its function, so
# that `fn(hook, module, inputs, output)` can store on it: one function, many modules, separate notes. `inputs` is
# always a tuple, because a forward method may take several tensors.
#
# What a forward hook returns matters: anything but `None` *replaces* the module's output. A hook function that only
# watches must not end in `return output.mean()`.


# %%
class Hook:
    """Calls `fn(hook, module, inputs, output)` after every forward pass of `module`, until it is removed.

    module: the `nn.Module` to watch.
    fn: takes this hook, the module, the tuple of its inputs and its output; returns None.
    """

    def __init__(self, module: nn.Module, fn: Callable[[Hook, nn.Module, tuple[Any, ...], Any], None]) -> None:
        ### BEGIN SOLUTION
        self.handle = module.register_forward_hook(partial(fn, self))
        ### END SOLUTION

    def remove(self) -> None:
        """Ends the calls; a second time does nothing."""
        ### BEGIN SOLUTION
        self.handle.remove()
        ### END SOLUTION


# %% [markdown]
# ## Several hooks, surely removed
#
# A forgotten hook is not noticed at once. It goes on taking time and memory in every forward pass, and the experiment
# after next counts each batch twice. Python's answer to "whatever happens, clean up" is the context manager:
#
# ```python
# with Hooks(model.children(), append_stats) as hooks:
#     model(xb)
# ```
#
# On leaving the block, `__exit__` is called in any case, also when the block raised. What it returns decides about the
# exception: a true value would swallow it.
#
# `Hooks` is a list, so its length, its loop and its indices are there already. One inherited behaviour is wrong: `del
# hooks[0]` would drop the `Hook` from the list and leave it registered, out of everybody's reach. An index may be
# negative, and it may be a slice, in which case it names several hooks.


# %%
class Hooks(list):
    """A list of the `Hook`s of `modules`, each with the function `fn`; as a context manager it removes all on exit.

    modules: any iterable of modules.
    """

    def __init__(self, modules: Iterable[nn.Module], fn: Callable[..., None]) -> None:
        ### BEGIN SOLUTION
        # all are known before the first is hooked: an iterable that fails leaves no hook behind
        super().__init__([Hook(module, fn) for module in list(modules)])
        ### END SOLUTION

    def __enter__(self) -> Hooks:
        ### BEGIN SOLUTION
        return self
        ### END SOLUTION

    def __exit__(self, *error: Any) -> None:
        """Removes all hooks; an exception goes on its way."""
        ### BEGIN SOLUTION
        for hook in self:
            hook.remove()
        ### END SOLUTION

    def __delitem__(self, index: int | slice) -> None:
        """Removes the hook, or the slice of hooks, that is taken from the list."""
        ### BEGIN SOLUTION
        for hook in self[index] if isinstance(index, slice) else [self[index]]:
            hook.remove()
        super().__delitem__(index)
        ### END SOLUTION


# %% [markdown]
# ## What to note down
#
# Whole activations would fill the memory in seconds. Three things per batch are enough to recognise most troubles:
# the mean, the standard deviation, and a histogram of the absolute values, 40 bins of width 0.25 from 0 to 10. The
# histogram is needed because mean and deviation can look healthy in a layer where nine activations of ten are zero.
#
# The numbers are **detached**: an entry that still belongs to the autograd graph carries the graph of its batch
# along, and matplotlib refuses it. They are on the **CPU**: a plot of a thousand batches is no reason to occupy a
# GPU.


# %%
def append_stats(hook: Any, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
    """Appends mean, standard deviation and histogram of `output` to the three lists in `hook.stats`.

    hook: any object that takes attributes; `hook.stats = (means, stds, hists)` is created by the first call.
    output: float tensor of any shape. The mean and the standard deviation (population) go over all its elements; the
    histogram counts absolute values in 40 equal bins on [0, 10] and leaves out those above.
    Entries are detached and on the CPU: numbers or 0-dim tensors, and tensors of shape (40,).
    """
    ### BEGIN SOLUTION
    if not hasattr(hook, "stats"):
        hook.stats = ([], [], [])
    means, stds, hists = hook.stats
    output = output.detach()
    means.append(output.mean().cpu())
    stds.append(output.std(correction=0).cpu())
    hists.append(output.abs().histc(40, 0, 10).cpu())
    ### END SOLUTION


# %% [markdown]
# ## Dead activations
#
# The first bin counts what is nearly zero, below 0.25 in absolute value. The share of activations in it is the share
# of the layer that does nothing, for this batch: after a ReLU some of that is intended, nine tenths of it is a layer
# that has died. A batch without any counted activation has no share; as 0/0 it would be `nan`, and `nan` in a plot is
# a gap that nobody notices. It counts as 0.


# %%
def dead_fraction(hists: Tensor) -> Tensor:
    """The share of the first (smallest) bin at each step; 0 where a step is empty.

    hists: counts, float `(steps, bins)`. Returns `(steps,)` of the same dtype, from 0 to 1.
    """
    ### BEGIN SOLUTION
    total = hists.sum(dim=1)
    return torch.where(total > 0, hists[:, 0] / total, 0)
    ### END SOLUTION


# %% [markdown]
# ## The colourful dimension
#
# All histograms of a layer make one picture (Giomo 2019, *The colorful dimension*): a column per batch, a row per
# bin, colour for the count. Raw counts would show one bright line at the bottom and black above it, because the first
# bin holds thousands where the others hold ten. The logarithm brings both into view, and adding 1 first keeps empty
# bins at 0:
#
# $$\text{image}_{b,t} = \ln(1 + \text{count}_{t,b})$$


# %%
def histogram_image(hists: Tensor) -> Tensor:
    """The picture of a layer's histograms over time: log(1 + count), a row per bin and a column per step.

    hists: counts, float `(steps, bins)`. Returns `(bins, steps)` of the same dtype; row 0 is the first bin.
    """
    ### BEGIN SOLUTION
    return hists.T.log1p()
    ### END SOLUTION


# %% [markdown]
# **Question.** Two layers both have mean 0.33 and standard deviation 1. In the first, activations are normally
# distributed; in the second, nine of ten are exactly 0 and the others 3.33. What does the dead fraction say of each,
# and which of the three statistics would you have to look at to tell them apart?

# %% [markdown] question="u5-same-moments" points=2
# ### BEGIN MARK SCHEME
# One point: about 0.19 for the first (0.15 to 0.25 will do), 0.9 for the second. One point: mean and standard
# deviation agree in both, so only the histogram tells (or what is made of it: dead fraction, picture).
# ### END MARK SCHEME
# ### BEGIN SOLUTION
# The second has a dead fraction of 0.9. In the first, a normal variable with mean 0.33 and deviation 1 lies between
# -0.25 and 0.25 with probability 0.19. Mean and standard deviation are the same, 0.1 * 3.33 = 0.33 and 3.33 *
# sqrt(0.1 * 0.9) = 1, so they cannot tell them apart; the histogram can.
# ### END SOLUTION

# %% [markdown]
# ## Hooks for the length of a fit
#
# As a callback, hooks come with the fit and go with it. Three decisions are in it:
#
# - **Which modules** is settled in `before_fit`, not in `__init__`: only then is there a model to search.
#   `model.modules()` yields every module at every depth, the model itself included.
# - **Which phases**: a hook is called in training and in validation alike. Statistics of both in one list show a
#   saw-tooth that is not there.
# - **When to remove**: `after_fit` does not come when a fit is cancelled or fails, and those are the fits that one
#   looks into. `cleanup_fit` comes always.
#
# The `Hook` objects themselves stay in the callback after the fit: what they have noted is wanted then.


# %%
class HooksCallback(Callback):
    """Hooks modules of the model for the length of each fit; iterable over its `Hook`s, with their number as length.

    hookfunc: called as `hookfunc(hook, module, inputs, output)`.
    mod_filter: takes a module and says whether it is hooked; all are where there is neither filter nor list.
    on_train, on_valid: the phases in which `hookfunc` is called.
    mods: the modules to hook, instead of a filter.
    """

    def __init__(
        self,
        hookfunc: Callable[..., None],
        mod_filter: Callable[[nn.Module], bool] | None = None,
        on_train: bool = True,
        on_valid: bool = False,
        mods: Iterable[nn.Module] | None = None,
    ) -> None:
        ### BEGIN SOLUTION
        self.hookfunc, self.on_train, self.on_valid = hookfunc, on_train, on_valid
        self.mod_filter = mod_filter or (lambda module: True)
        self.mods = None if mods is None else list(mods)
        self.hooks = []
        ### END SOLUTION

    def before_fit(self) -> None:
        """Hooks the modules."""
        ### BEGIN SOLUTION
        mods = filter(self.mod_filter, self.model.modules()) if self.mods is None else self.mods
        self.hooks = Hooks(mods, self.in_phase)
        ### END SOLUTION

    def in_phase(self, hook: Hook, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Calls `hookfunc` if the present phase is asked for."""
        ### BEGIN SOLUTION
        if self.on_train if self.training else self.on_valid:
            self.hookfunc(hook, module, inputs, output)
        ### END SOLUTION

    def cleanup_fit(self) -> None:
        """Removes the hooks, and keeps the `Hook` objects with what they have noted."""
        ### BEGIN SOLUTION
        for hook in self.hooks:
            hook.remove()
        ### END SOLUTION

    def __iter__(self) -> Iterator[Hook]:
        ### BEGIN SOLUTION
        return iter(self.hooks)
        ### END SOLUTION

    def __len__(self) -> int:
        ### BEGIN SOLUTION
        return len(self.hooks)
        ### END SOLUTION


# %% [markdown]
# **Question.** Somebody removes the hooks in `after_fit` instead of `cleanup_fit`, and stops the first fit with the
# stop button of the notebook. What do the means that `append_stats` collects in the second fit look like, if the
# callback is the same? And what, if it makes new hooks that share the same lists?

# %% [markdown] question="u5-forgotten-hooks" points=2
# ### BEGIN MARK SCHEME
# One point: with the first fit's hooks still registered, every forward pass is noted twice, once by the old hooks and
# once by the new ones; the new hooks' own lists are right, so nothing is seen in the plots, only time and memory are
# lost. One point: with shared lists every batch appears twice in a row, and the steps on the x axis are off by a
# factor of 2.
# ### END MARK SCHEME
# ### BEGIN SOLUTION
# `after_fit` never came, so the old hooks are still registered, and each forward pass calls the old and the new ones.
# The new ones write to lists of their own, which are right: nothing is seen, except that training takes longer and
# the old lists grow on. With shared lists each batch is noted twice, the plot is twice as long as the fit, and every
# value comes in pairs.
# ### END SOLUTION

# %% [markdown]
# ## Pictures of a fit
#
# The figures below are made with matplotlib's `Figure` itself rather than with `pyplot`. `pyplot` keeps every figure it
# made in a global list until somebody closes it; a `Figure` of one's own is an object like any other.


# %%
def panels(count: int, columns: int = 2, size: tuple[float, float] = (5, 2.4)):
    """An empty figure and the list of its `count` axes, `columns` side by side; `size`, in inches, is one panel's."""
    from matplotlib.figure import Figure

    columns = min(columns, max(count, 1))
    rows = max(-(-count // columns), 1)
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def show(figure: Any) -> None:
    """Puts a figure below the cell of a notebook; does nothing elsewhere."""
    if "IPython" in sys.modules:
        from IPython.display import Image, display

        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=80)
        display(Image(picture.getvalue()))


# %% [markdown]
# `ActivationStats` puts the unit together. Its three pictures answer three questions:
#
# - `plot_stats`: do mean and standard deviation of each layer stay near those of the others, or drift, or jump?
# - `dead_chart`: which share of each layer is silent?
# - `color_dim`: is the whole distribution moving? A healthy layer is a band that widens smoothly. The warning sign is
#   a mountain range: values climb for some batches, collapse to zero, and climb again, each collapse taking some
#   activations with it for good.


# %%
class ActivationStats(HooksCallback):
    """`append_stats` for the modules that `mod_filter` chooses, in training; after a fit, figures of it.

    Every method returns a new matplotlib Figure.
    """

    def __init__(self, mod_filter: Callable[[nn.Module], bool]) -> None:
        ### BEGIN SOLUTION
        super().__init__(append_stats, mod_filter)
        ### END SOLUTION

    def color_dim(self) -> Any:
        """A panel per hooked module with its histogram image, the smallest activations at the bottom."""
        ### BEGIN SOLUTION
        figure, axes = panels(len(self))
        for number, (ax, hook) in enumerate(zip(axes, self, strict=True)):
            ax.imshow(histogram_image(torch.stack(hook.stats[2])).numpy(), origin="lower", aspect="auto")
            ax.set(title=f"layer {number}", xlabel="batch", ylabel="bin")
        return figure
        ### END SOLUTION

    def dead_chart(self) -> Any:
        """A panel per hooked module with its dead fraction over the batches."""
        ### BEGIN SOLUTION
        figure, axes = panels(len(self))
        for number, (ax, hook) in enumerate(zip(axes, self, strict=True)):
            ax.plot(dead_fraction(torch.stack(hook.stats[2])).numpy())
            ax.set(title=f"layer {number}", xlabel="batch", ylabel="dead fraction", ylim=(0, 1))
        return figure
        ### END SOLUTION

    def plot_stats(self) -> Any:
        """A panel of means and one of standard deviations over the batches, with a line per hooked module."""
        ### BEGIN SOLUTION
        figure, axes = panels(2)
        for ax, title, which in zip(axes, ("mean", "standard deviation"), (0, 1), strict=True):
            for number, hook in enumerate(self):
                ax.plot(torch.tensor(hook.stats[which]).numpy(), label=f"layer {number}")
            ax.set(title=title, xlabel="batch")
            ax.legend()
        return figure
        ### END SOLUTION


# %% [markdown]
# Five layers, with PyTorch's default initialisation, on a task that one linear layer could solve. The learning rate is
# the only difference between the two runs. At 0.3 the bands of all layers widen steadily and the loss falls. At 3 there
# are peaks, and after each of them fewer activations are left; the deepest layers are silent in the end, and the
# average loss, 1.60, is that of guessing among five classes, ln 5 = 1.61.


# %%
def watched_fit(lr: float, n_batches: int = 150) -> ActivationStats:
    """The statistics of a fit of a five-layer network on made-up data."""
    torch.manual_seed(3)
    x = torch.randn(n_batches, 64, 20)
    y = (x @ torch.randn(20, 5)).argmax(dim=-1)
    sizes = (20, 50, 50, 50, 50)
    layers = [nn.Sequential(nn.Linear(n_in, n_out), nn.ReLU()) for n_in, n_out in pairwise(sizes)]
    model = nn.Sequential(*layers, nn.Linear(50, 5))
    metrics, stats = MetricsCallback(), ActivationStats(lambda module: isinstance(module, nn.ReLU))
    dls = DataLoaders(list(zip(x, y, strict=True)), [])
    TrainLearner(model, dls, nn.functional.cross_entropy, lr, [metrics, stats]).fit(1)
    print(f"learning rate {lr}: average loss {metrics.history[0]['loss']:.2f}")
    return stats


# %%
if __name__ == "__main__":
    for rate in (0.3, 3.0):
        stats = watched_fit(rate)
        for figure in (stats.plot_stats(), stats.dead_chart(), stats.color_dim()):
            show(figure)
