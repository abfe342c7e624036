import torch


# %% hook: first input alone
class Hook:
    def __init__(self, module, fn):
        self.fn = fn
        self.handle = module.register_forward_hook(self.call)

    def call(self, module, inputs, output):
        x, *_ = inputs
        self.fn(self, module, x, output)

    def remove(self):
        self.handle.remove()


# %% hook: remove does nothing
class Hook:
    def __init__(self, module, fn):
        self.handle = module.register_forward_hook(lambda *args: fn(self, *args))

    def remove(self):
        self.handle = None


# %% hook: removed after one pass
class Hook:
    def __init__(self, module, fn):
        def call(module, inputs, output):
            fn(self, module, inputs, output)
            self.remove()

        self.handle = module.register_forward_hook(call)

    def remove(self):
        self.handle.remove()


# %% hook: all hooks removed
class Hook:
    def __init__(self, module, fn):
        self.module = module
        module.register_forward_hook(lambda m, i, o: fn(self, m, i, o))

    def remove(self):
        for key in list(self.module._forward_hooks):
            del self.module._forward_hooks[key]


# %% hook: output detached on the way
class Hook:
    def __init__(self, module, fn):
        def call(module, inputs, output):
            with torch.no_grad():
                fn(self, module, inputs, output.data)

        self.handle = module.register_forward_hook(call)

    def remove(self):
        self.handle.remove()


# %% hooks: exit removes nothing
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__()
        for module in modules:
            self.append(Hook(module, fn))

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return None

    def __delitem__(self, index):
        hooks = self[index]
        for hook in hooks if isinstance(hooks, list) else [hooks]:
            hook.remove()
        super().__delitem__(index)


# %% hooks: removed only without error
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__([Hook(module, fn) for module in modules])

    def __enter__(self):
        return self

    def __exit__(self, error_type, error, traceback):
        if error_type is not None:
            return
        del self[:]

    def __delitem__(self, index):
        hooks = self[index]
        for hook in hooks if isinstance(hooks, list) else [hooks]:
            hook.remove()
        super().__delitem__(index)


# %% hooks: exception swallowed
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__([Hook(module, fn) for module in modules])

    def __enter__(self):
        return self

    def __exit__(self, *args):
        return [hook.remove() for hook in self]

    def __delitem__(self, index):
        hooks = self[index]
        for hook in hooks if isinstance(hooks, list) else [hooks]:
            hook.remove()
        super().__delitem__(index)


# %% hooks: deleted hooks stay registered
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__([Hook(module, fn) for module in modules])

    def __enter__(self):
        return self

    def __exit__(self, *args):
        for i in range(len(self)):
            self[i].remove()


# %% hooks: no slices
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__([Hook(module, fn) for module in modules])

    def __enter__(self):
        return self

    def __exit__(self, *args):
        for hook in self:
            hook.remove()

    def __delitem__(self, i):
        hook = self[i]
        hook.remove()
        super().__delitem__(i)


# %% hooks: list changed while looping
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__([Hook(module, fn) for module in modules])

    def __enter__(self):
        return self

    def __exit__(self, *args):
        for hook in self:
            self.pop(self.index(hook)).remove()

    def __delitem__(self, index):
        hooks = self[index]
        for hook in hooks if isinstance(hooks, list) else [hooks]:
            hook.remove()
        super().__delitem__(index)


# %% append_stats: sample deviation
def append_stats(hook, module, inputs, output):
    if not hasattr(hook, "stats"):
        hook.stats = ([], [], [])
    acts = output.detach().cpu()
    hook.stats[0].append(acts.mean())
    hook.stats[1].append(acts.var().sqrt())
    hook.stats[2].append(acts.abs().histc(40, 0, 10))


# %% append_stats: signs kept in the histogram
def append_stats(hook, module, inputs, output):
    if not hasattr(hook, "stats"):
        hook.stats = ([], [], [])
    acts = output.detach().cpu()
    hook.stats[0].append(acts.mean())
    hook.stats[1].append(acts.std(unbiased=False))
    hook.stats[2].append(torch.histogram(acts.flatten(), bins=40, range=(0.0, 10.0)).hist)


# %% append_stats: graph kept
def append_stats(hook, module, inputs, output):
    if not hasattr(hook, "stats"):
        hook.stats = ([], [], [])
    means, stds, hists = hook.stats
    means.append(output.mean())
    stds.append(((output - output.mean()) ** 2).mean().sqrt())
    hists.append(torch.histc(output.abs(), bins=40, min=0, max=10))


# %% append_stats: lists made anew
def append_stats(hook, module, inputs, output):
    means, stds, hists = [], [], []
    acts = output.detach().cpu()
    means.append(acts.mean().item())
    stds.append(acts.std(correction=0).item())
    hists.append(acts.abs().histc(40, 0, 10))
    hook.stats = (means, stds, hists)


# %% append_stats: rest in the last bin
def append_stats(hook, module, inputs, output):
    if not hasattr(hook, "stats"):
        hook.stats = ([], [], [])
    acts = output.detach().cpu()
    bins = (acts.abs().flatten() * 4).long()
    bins[bins > 39] = 39
    hook.stats[0].append(acts.mean())
    hook.stats[1].append(acts.std(correction=0))
    hook.stats[2].append(torch.bincount(bins, minlength=40).to(acts.dtype))


# %% append_stats: output returned
def append_stats(hook, module, inputs, output):
    if not hasattr(hook, "stats"):
        hook.stats = ([], [], [])
    output = output.detach().cpu()
    means, stds, hists = hook.stats
    means.append(output.mean())
    stds.append(output.std(correction=0))
    hists.append(output.abs().histc(40, 0, 10))
    return output


# %% dead_fraction: nan at empty steps
def dead_fraction(hists):
    fractions = []
    for hist in hists:
        fractions.append(hist[0] / hist.sum())
    return torch.stack(fractions)


# %% dead_fraction: first two bins
def dead_fraction(hists):
    columns = hists.T
    small = columns[:2].sum(0)
    return (small / columns.sum(0)).nan_to_num()


# %% dead_fraction: 1 added to the total
def dead_fraction(hists):
    total = 1 + hists.sum(dim=1)
    return hists[:, 0].div(total)


# %% dead_fraction: total of all steps
def dead_fraction(hists):
    if hists.sum() == 0:
        return torch.zeros(len(hists), dtype=hists.dtype)
    shares = hists / hists.sum()
    return shares[:, 0]


# %% histogram_image: not transposed
def histogram_image(hists):
    return torch.stack([torch.log(1 + hist) for hist in hists])


# %% histogram_image: reshaped, not transposed
def histogram_image(hists):
    steps, bins = hists.shape
    return torch.log(hists.contiguous().view(bins, steps) + 1)


# %% histogram_image: logarithm of 0
def histogram_image(hists):
    image = torch.log(hists)
    return image.transpose(0, 1)


# %% histogram_image: first bin in the last row
def histogram_image(hists):
    columns = [torch.log1p(hist.flip(0)) for hist in hists]
    return torch.stack(columns, dim=1)


# %% hooks_callback: hooks left by failed fits
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.on_train, self.on_valid = on_train, on_valid
        self.hooks = []

    def before_fit(self):
        mods = self.mods
        if mods is None:
            mods = [m for m in self.model.modules() if self.mod_filter is None or self.mod_filter(m)]
        self.hooks = Hooks(mods, self.call)

    def call(self, hook, module, inputs, output):
        if (self.on_train and self.training) or (self.on_valid and not self.training):
            self.hookfunc(hook, module, inputs, output)

    def remove(self):
        for hook in self.hooks:
            hook.remove()

    def after_fit(self):
        self.remove()

    def after_cancel_fit(self):
        self.remove()

    def __iter__(self):
        return iter(self.hooks)

    def __len__(self):
        return len(self.hooks)


# %% hooks_callback: called in every phase
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.hooks = []

    def before_fit(self):
        mods = self.mods
        if mods is None:
            mods = filter(self.mod_filter, self.learn.model.modules())
        self.hooks = [Hook(m, self.hookfunc) for m in mods]

    def cleanup_fit(self):
        for hook in self.hooks:
            hook.remove()

    def __iter__(self):
        return iter(self.hooks)

    def __len__(self):
        return len(self.hooks)


# %% hooks_callback: validation never noted
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.on_train, self.on_valid = on_train, on_valid
        self.hooks = []

    def before_fit(self):
        mods = self.mods or [m for m in self.model.modules() if not self.mod_filter or self.mod_filter(m)]
        self.hooks = Hooks(mods, self.call)

    def call(self, hook, module, inputs, output):
        if not self.training:
            return
        if self.on_train:
            self.hookfunc(hook, module, inputs, output)

    def cleanup_fit(self):
        self.hooks.__exit__()

    def __iter__(self):
        return iter(self.hooks)

    def __len__(self):
        return len(self.hooks)


# %% hooks_callback: notes lost at the end
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.phases = {True: on_train, False: on_valid}
        self.hooks = []

    def before_fit(self):
        if self.mods is None:
            self.hooks = Hooks([m for m in self.model.modules() if self.mod_filter(m)], self.call)
        else:
            self.hooks = Hooks(self.mods, self.call)

    def call(self, *args):
        if self.phases[self.training]:
            self.hookfunc(*args)

    def cleanup_fit(self):
        while self.hooks:
            self.hooks.pop().remove()

    def __iter__(self):
        return iter(self.hooks)

    def __len__(self):
        return len(self.hooks)


# %% hooks_callback: hooked in the first fit only
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.on_train, self.on_valid = on_train, on_valid
        self.hooks = None

    def before_fit(self):
        if self.hooks is not None:
            return
        mods = self.mods
        if mods is None:
            mods = [m for m in self.model.modules() if self.mod_filter(m)]
        self.hooks = Hooks(mods, self.call)

    def call(self, hook, module, inputs, output):
        if self.training and self.on_train:
            self.hookfunc(hook, module, inputs, output)
        if not self.training and self.on_valid:
            self.hookfunc(hook, module, inputs, output)

    def cleanup_fit(self):
        for hook in self.hooks:
            hook.remove()

    def __iter__(self):
        return iter(self.hooks)

    def __len__(self):
        return len(self.hooks)


# %% hooks_callback: children only
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.mod_filter, self.mods = hookfunc, mod_filter, mods
        self.on_train, self.on_valid = on_train, on_valid
        self.hooks = []

    def before_fit(self):
        mods = self.mods
        if mods is None:
            mods = [m for m in self.model if self.mod_filter(m)]
        self.hooks = Hooks(mods, self.call)

    def call(self, hook, module, inputs, output):
        wanted = self.on_train if self.training else self.on_valid
        if wanted:
            self.hookfunc(hook, module, inputs, output)

    def cleanup_fit(self):
        for hook in self.hooks:
            hook.remove()

    def __iter__(self):
        return iter(self.hooks)

    def __len__(self):
        return len(self.hooks)


# %% activation_stats: raw counts pictured
class ActivationStats(HooksCallback):
    def __init__(self, mod_filter):
        super().__init__(append_stats, mod_filter)

    def color_dim(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            counts = [hist.tolist() for hist in hook.stats[2]]
            ax.imshow(torch.tensor(counts).T.numpy(), origin="lower")
        return figure

    def dead_chart(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.plot(dead_fraction(torch.stack(hook.stats[2])).tolist())
        return figure

    def plot_stats(self):
        figure, axes = panels(2)
        for hook in self:
            axes[0].plot([m.item() for m in hook.stats[0]])
            axes[1].plot([s.item() for s in hook.stats[1]])
        return figure


# %% activation_stats: living instead of dead
class ActivationStats(HooksCallback):
    def __init__(self, mod_filter):
        super().__init__(append_stats, mod_filter)

    def color_dim(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.imshow(histogram_image(torch.stack(hook.stats[2])), origin="lower")
        return figure

    def dead_chart(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            hists = torch.stack(hook.stats[2])
            ax.plot((hists[:, 1:].sum(1) / hists.sum(1)).tolist())
        return figure

    def plot_stats(self):
        figure, axes = panels(2)
        for hook in self:
            axes[0].plot([m.item() for m in hook.stats[0]])
            axes[1].plot([s.item() for s in hook.stats[1]])
        return figure


# %% activation_stats: means in both panels
class ActivationStats(HooksCallback):
    def __init__(self, mod_filter):
        super().__init__(append_stats, mod_filter)

    def color_dim(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.imshow(histogram_image(torch.stack(hook.stats[2])), origin="lower")
        return figure

    def dead_chart(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.plot(dead_fraction(torch.stack(hook.stats[2])).tolist())
        return figure

    def plot_stats(self):
        figure, axes = panels(2)
        for ax, title in zip(axes, ["means", "stds"], strict=True):
            for hook in self:
                means, stds, hists = hook.stats
                ax.plot([m.item() for m in means])
            ax.set_title(title)
        return figure


# %% activation_stats: figure not returned
class ActivationStats(HooksCallback):
    def __init__(self, mod_filter):
        super().__init__(append_stats, mod_filter)

    def color_dim(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.imshow(histogram_image(torch.stack(hook.stats[2])), origin="lower")
        return figure

    def dead_chart(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.plot(dead_fraction(torch.stack(hook.stats[2])).tolist())
        return figure

    def plot_stats(self):
        figure, axes = panels(2)
        for hook in self:
            axes[0].plot([m.item() for m in hook.stats[0]])
            axes[1].plot([s.item() for s in hook.stats[1]])
        return axes


# %% activation_stats: validation noted too
class ActivationStats(HooksCallback):
    def __init__(self, mod_filter):
        super().__init__(append_stats, mod_filter)
        self.on_valid = self.on_train

    def color_dim(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.imshow(histogram_image(torch.stack(hook.stats[2])), origin="lower")
        return figure

    def dead_chart(self):
        figure, axes = panels(len(self))
        for ax, hook in zip(axes, self, strict=True):
            ax.plot(dead_fraction(torch.stack(hook.stats[2])).tolist())
        return figure

    def plot_stats(self):
        figure, axes = panels(2)
        for hook in self:
            axes[0].plot([m.item() for m in hook.stats[0]])
            axes[1].plot([s.item() for s in hook.stats[1]])
        return figure
