import math

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure


# %% hook: arguments handed through
class Hook:
    def __init__(self, module, fn):
        self.handle = module.register_forward_hook(lambda *told: fn(self, *told))

    def remove(self):
        self.handle.remove()


# %% hook: a method is registered
class Hook:
    def __init__(self, module, fn):
        self.module, self.fn = module, fn
        self.registered = module.register_forward_hook(self.after_forward)

    def after_forward(self, module, inputs, output):
        self.fn(self, module, inputs, output)

    def remove(self):
        if self.registered is not None:
            self.registered.remove()
            self.registered = None


# %% hook: the object itself is registered
class Hook:
    def __init__(self, module, fn):
        self.fn = fn
        self.handles = [module.register_forward_hook(self)]

    def __call__(self, module, inputs, output):
        return self.fn(self, module, inputs, output)

    def remove(self):
        while self.handles:
            self.handles.pop().remove()


# %% hook: silent as well as removed
class Hook:
    removed = False

    def __init__(self, module, fn):
        def tell(module, inputs, output):
            if not self.removed:
                fn(self, module, inputs, output)

        self.handle = module.register_forward_hook(tell)

    def remove(self):
        self.removed = True
        self.handle.remove()


# %% hooks: everything by deletion
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__([Hook(module, fn) for module in modules])

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        del self[:]

    def __delitem__(self, index):
        taken = self[index]
        super().__delitem__(index)
        for hook in taken if isinstance(taken, list) else (taken,):
            hook.remove()


# %% hooks: appended and popped
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__()
        for module in modules:
            self.append(Hook(module, fn))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        while self:
            self.pop().remove()
        return False

    def __delitem__(self, index):
        if isinstance(index, slice):
            for place in sorted(range(*index.indices(len(self))), reverse=True):
                del self[place]
        else:
            self.pop(index).remove()


# %% hooks: those that are gone are removed
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__()
        self.extend(Hook(module, fn) for module in modules)

    def __enter__(self):
        return self

    def remove(self):
        for hook in list(self):
            hook.remove()

    def __exit__(self, *error):
        self.remove()

    def __delitem__(self, index):
        before = list(self)
        list.__delitem__(self, index)
        left = {id(hook) for hook in self}
        for hook in before:
            if id(hook) not in left:
                hook.remove()


# %% append_stats: under no_grad
def append_stats(hook, module, inputs, output):
    with torch.no_grad():
        if not hasattr(hook, "stats"):
            hook.stats = [[], [], []]
        values = output.cpu().flatten()
        hook.stats[0].append(values.mean())
        hook.stats[1].append(((values - values.mean()) ** 2).mean().sqrt())
        hook.stats[2].append(torch.histogram(values.abs(), bins=40, range=(0.0, 10.0)).hist)


# %% append_stats: NumPy and Python numbers
def append_stats(hook, module, inputs, output):
    values = output.detach().cpu().numpy()
    counts, _ = np.histogram(np.abs(values), bins=40, range=(0, 10))
    stats = getattr(hook, "stats", None) or ([], [], [])
    for entries, entry in zip(stats, (values.mean().item(), values.std().item(), counts), strict=True):
        entries.append(torch.tensor(entry, dtype=torch.float32) if entry is counts else entry)
    hook.stats = stats


# %% append_stats: bins by division
def append_stats(hook, module, inputs, output):
    if "stats" not in vars(hook):
        hook.stats = ([], [], [])
    means, stds, hists = hook.stats
    sizes = output.data.abs().flatten()
    places = (sizes[sizes <= 10] / 0.25).long().clamp(max=39)
    means.append(float(output.data.mean()))
    stds.append(output.data.std(unbiased=False).item())
    hists.append(torch.bincount(places, minlength=40).to(output.dtype).cpu())


# %% append_stats: lists that are extended
def append_stats(hook, module, inputs, output):
    output = output.detach().to("cpu")
    means, stds, hists = getattr(hook, "stats", ([], [], []))
    deviations = output.double() - output.double().mean()
    sizes = output.abs()
    counts = [((sizes >= bin / 4) & (sizes < (bin + 1) / 4)).sum() for bin in range(40)]
    counts[-1] += (sizes == 10).sum()
    hook.stats = (
        [*means, output.mean()],
        [*stds, deviations.norm() / math.sqrt(deviations.numel())],
        [*hists, torch.stack(counts).to(output.dtype)],
    )


# %% dead_fraction: total of at least 1
def dead_fraction(hists):
    return hists[:, 0] / hists.sum(dim=1).clamp(min=1)


# %% dead_fraction: nan replaced
def dead_fraction(hists):
    return torch.nan_to_num(hists.select(1, 0) / hists.sum(-1))


# %% dead_fraction: a loop over steps
def dead_fraction(hists):
    shares = [row[0].item() / row.sum().item() if row.any() else 0.0 for row in hists.double()]
    return torch.tensor(shares, dtype=hists.dtype, device=hists.device)


# %% dead_fraction: only steps with counts
def dead_fraction(hists):
    result = hists.new_zeros(len(hists))
    full = hists.sum(dim=1) != 0
    result[full] = hists[full, 0] / hists[full].sum(dim=1)
    return result


# %% histogram_image: 1 added by hand
def histogram_image(hists):
    return torch.log(hists.permute(1, 0) + 1)


# %% histogram_image: columns stacked
def histogram_image(hists):
    return torch.stack([torch.log1p(hist) for hist in hists], dim=1)


# %% histogram_image: float64 inside
def histogram_image(hists):
    image = torch.empty(hists.shape[1], hists.shape[0], dtype=torch.float64)
    image.copy_(hists.t())
    return image.add_(1).log_().to(hists.dtype)


# %% hooks_callback: a list of its own
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.wanted = {True: on_train, False: on_valid}
        self.hooks = []

    def before_fit(self):
        mods = self.mods
        if mods is None:
            mods = [module for module in self.model.modules() if self.mod_filter is None or self.mod_filter(module)]
        self.hooks = [Hook(module, self.watch) for module in mods]

    def watch(self, hook, *told):
        if self.wanted[self.learn.model.training]:
            self.hookfunc(hook, *told)

    def cleanup_fit(self):
        for hook in self.hooks:
            hook.remove()

    def __iter__(self):
        yield from self.hooks

    def __len__(self):
        return sum(1 for _ in self.hooks)


# %% hooks_callback: phase flags and a context manager
class HooksCallback(Callback):
    hooks = ()

    def __init__(self, hookfunc, mod_filter=lambda module: True, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.on_train, self.on_valid = on_train, on_valid

    def before_fit(self):
        self.hooks = Hooks(self.mods or filter(self.mod_filter, self.model.modules()), self._call).__enter__()

    def _call(self, hook, module, inputs, output):
        if (self.training and self.on_train) or (not self.training and self.on_valid):
            self.hookfunc(hook, module, inputs, output)

    def cleanup_fit(self):
        if self.hooks:
            self.hooks.__exit__(None, None, None)

    def __iter__(self):
        return iter(self.hooks)

    def __len__(self):
        return len(self.hooks)


# %% hooks_callback: a property and a closure
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.found = []

        def in_phase(hook, module, inputs, output):
            phases = [on_valid, on_train]
            if phases[int(self.training)]:
                hookfunc(hook, module, inputs, output)

        def select(model):
            return list(mods) if mods is not None else list(filter(mod_filter or bool_true, model.modules()))

        def bool_true(module):
            return True

        self.hook_all = lambda model: Hooks(select(model), in_phase)

    @property
    def hooks(self):
        return self.found

    def before_fit(self):
        self.found = self.hook_all(self.learn.model)

    def cleanup_fit(self):
        list(map(Hook.remove, self.found))

    def __iter__(self):
        return (hook for hook in self.found)

    def __len__(self):
        return len(self.found)


# %% hooks_callback: silent as well as removed
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.on_train, self.on_valid = on_train, on_valid
        self.hooks, self.fitting = [], False

    def chosen(self):
        if self.mods is not None:
            yield from self.mods
            return
        for module in self.model.modules():
            if self.mod_filter is None or self.mod_filter(module):
                yield module

    def before_fit(self):
        self.hooks, self.fitting = [], True
        for module in self.chosen():
            self.hooks.append(Hook(module, self.when_asked))

    def when_asked(self, hook, module, inputs, output):
        asked = self.on_train if self.training else self.on_valid
        if asked and self.fitting:
            self.hookfunc(hook, module, inputs, output)

    def cleanup_fit(self):
        self.fitting = False
        for number in range(len(self)):
            self.hooks[number].remove()

    def __iter__(self):
        return iter(list(self.hooks))

    def __len__(self):
        return len(self.hooks)


# %% activation_stats: pyplot, a mesh and bars
class ActivationStats(HooksCallback):
    def __init__(self, mod_filter):
        super().__init__(append_stats, mod_filter=mod_filter, on_train=True, on_valid=False)

    def axes(self, count):
        figure, grid = plt.subplots(1, count, squeeze=False)
        return figure, grid[0]

    def color_dim(self):
        figure, axes = self.axes(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.pcolormesh(histogram_image(torch.stack(hook.stats[2])).numpy())
        return figure

    def dead_chart(self):
        figure, axes = self.axes(len(self))
        for ax, hook in zip(axes, self, strict=True):
            heights = dead_fraction(torch.stack(hook.stats[2])).numpy()
            ax.bar(range(len(heights)), heights)
        return figure

    def plot_stats(self):
        figure, axes = self.axes(2)
        for hook in self:
            for ax, entries in zip(axes, hook.stats[:2], strict=True):
                ax.scatter(range(len(entries)), [float(entry) for entry in entries])
        return figure


# %% activation_stats: per cent and a colour bar
class ActivationStats(HooksCallback):
    def __init__(self, mod_filter):
        super().__init__(append_stats, mod_filter)

    def color_dim(self):
        figure = Figure()
        for number, hook in enumerate(self, start=1):
            image = histogram_image(torch.stack(hook.stats[2])).flip(0)
            figure.colorbar(figure.add_subplot(len(self), 1, number).imshow(image.numpy(), cmap="magma"))
        return figure

    def dead_chart(self):
        figure = Figure()
        ax = figure.add_subplot()
        for number, hook in enumerate(self):
            ax.plot(100 * dead_fraction(torch.stack(hook.stats[2])).numpy(), label=f"layer {number}")
        ax.set_ylabel("dead, per cent")
        ax.legend()
        return figure

    def plot_stats(self):
        figure = Figure()
        left, right = figure.subplots(1, 2)
        for hook in self:
            means, stds, _ = hook.stats
            left.plot(np.array([float(mean) for mean in means]), marker=".")
            right.plot(np.array([float(std) for std in stds]), marker=".")
        return figure


# %% activation_stats: another hook function and filled areas
class ActivationStats(HooksCallback):
    def __init__(self, mod_filter):
        def collect(hook, module, inputs, output):
            append_stats(hook, module, inputs, output)

        super().__init__(collect, lambda module: bool(mod_filter(module)))

    def hists(self):
        return [torch.stack(list(hook.stats[2])) for hook in self]

    def color_dim(self):
        figure, axes = panels(len(self), columns=1)
        for ax, hists in zip(axes, self.hists(), strict=True):
            ax.imshow(histogram_image(hists).numpy(), origin="lower", aspect="auto", vmin=0)
            ax.set_axis_off()
        return figure

    def dead_chart(self):
        figure, axes = panels(len(self), columns=1)
        for ax, hists in zip(axes, self.hists(), strict=True):
            ax.fill_between(range(len(hists)), dead_fraction(hists).numpy())
        return figure

    def plot_stats(self):
        figure, axes = panels(2 * len(self))
        for number, hook in enumerate(self):
            for which in (0, 1):
                entries = [float(entry) for entry in hook.stats[which]]
                axes[2 * number + which].step(range(len(entries)), entries)
        return figure
