# %% [markdown]
# # Unit 5: hooks and activation statistics

# %%
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from .u4_learner import Callback


# %%
class Hook:
    """Calls `fn(hook, module, inputs, output)` after every forward pass of a module, until it is removed."""

    def __init__(self, module: nn.Module, fn: Callable[..., Any]) -> None:
        ### BEGIN SOLUTION
        self.handle = module.register_forward_hook(partial(fn, self))
        ### END SOLUTION

    def remove(self) -> None:
        """Takes the hook off its module; a second time does nothing."""
        ### BEGIN SOLUTION
        self.handle.remove()
        ### END SOLUTION


# %%
class Hooks(list):
    """A list of `Hook`, one per module; as a context manager it removes them all on exit, also after an exception."""

    def __init__(self, modules: Iterable[nn.Module], fn: Callable[..., Any]) -> None:
        ### BEGIN SOLUTION
        super().__init__(Hook(module, fn) for module in modules)
        ### END SOLUTION

    def __enter__(self) -> Hooks:
        ### BEGIN SOLUTION
        return self
        ### END SOLUTION

    def __exit__(self, *error: object) -> None:
        ### BEGIN SOLUTION
        self.remove()
        ### END SOLUTION

    def __delitem__(self, index: int | slice) -> None:
        """Removes the hook, or the hooks of a slice, from their modules and from the list."""
        ### BEGIN SOLUTION
        for hook in self[index] if isinstance(index, slice) else [self[index]]:
            hook.remove()
        super().__delitem__(index)
        ### END SOLUTION

    def remove(self) -> None:
        """Takes all hooks off their modules."""
        ### BEGIN SOLUTION
        for hook in self:
            hook.remove()
        ### END SOLUTION


# %%
def append_stats(hook: Hook, module: nn.Module, inputs: Any, output: Tensor) -> None:
    """Appends to `hook.stats = (means, stds, hists)`: mean, standard deviation, and 40 bins of |output| on [0, 10]."""
    ### BEGIN SOLUTION
    if not hasattr(hook, "stats"):
        hook.stats = ([], [], [])
    means, stds, hists = hook.stats
    activations = output.detach().cpu()
    means.append(activations.mean())
    stds.append(activations.std(correction=0))
    hists.append(activations.abs().histc(40, 0, 10))
    ### END SOLUTION


# %%
def dead_fraction(hists: Tensor) -> Tensor:
    """Share of the first bin at each step, `(steps, bins)` to `(steps,)`; 0 where a step is empty."""
    ### BEGIN SOLUTION
    counts = hists.sum(1)
    return torch.where(counts > 0, hists[:, 0] / counts.clamp(min=1), 0.0)
    ### END SOLUTION


# %%
def histogram_image(hists: Tensor) -> Tensor:
    """The picture of `(steps, bins)`: `(bins, steps)`, log(1 + count)."""
    ### BEGIN SOLUTION
    return hists.T.log1p()
    ### END SOLUTION


# %%
class HooksCallback(Callback):
    """Hooks modules for the length of a fit, chosen by the list `mods` or by `mod_filter`, in the phases asked for."""

    def __init__(
        self,
        hookfunc: Callable[..., Any],
        mod_filter: Callable[[nn.Module], bool] | None = None,
        on_train: bool = True,
        on_valid: bool = False,
        mods: Iterable[nn.Module] | None = None,
    ) -> None:
        ### BEGIN SOLUTION
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.on_train, self.on_valid = on_train, on_valid
        self.hooks: Hooks | list[Hook] = []
        ### END SOLUTION

    def before_fit(self) -> None:
        ### BEGIN SOLUTION
        mods = self.mods
        if mods is None:
            mods = [m for m in self.model.modules() if self.mod_filter is None or self.mod_filter(m)]
        self.hooks = Hooks(mods, self._hookfunc)
        ### END SOLUTION

    def _hookfunc(self, *args: Any) -> None:
        ### BEGIN SOLUTION
        if self.on_train if self.training else self.on_valid:
            self.hookfunc(*args)
        ### END SOLUTION

    def cleanup_fit(self) -> None:
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


# %%
class ActivationStats(HooksCallback):
    """`append_stats` for the modules that `mod_filter` chooses, over a fit; three pictures of what it collected."""

    def __init__(self, mod_filter: Callable[[nn.Module], bool]) -> None:
        ### BEGIN SOLUTION
        super().__init__(append_stats, mod_filter)
        ### END SOLUTION
