"""Right answers to unit 6, written differently."""

import copy
import math
from itertools import starmap

import torch


# %% lsuv_layer: bias and weight measured one after the other, in float64
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if getattr(weight_module, "bias", None) is None:
        raise ValueError("weight_module needs a bias")
    seen = []
    handle = act_module.register_forward_hook(lambda module, inputs, output: seen.append(output.double()))

    def measured():
        model(xb)
        y = seen.pop().flatten()
        mean = y.sum() / len(y)
        return mean.item(), math.sqrt((y - mean).square().sum().item() / len(y))

    before = copy.deepcopy(weight_module.state_dict())
    with torch.no_grad():
        mean, std = measured()
        steps = 0
        while abs(mean) > tol or abs(std - 1) > tol:
            if steps == max_iter or std == 0:
                handle.remove()
                weight_module.load_state_dict(before)
                raise RuntimeError(f"Mean is {mean}, std is {std}: this layer cannot be corrected")
            weight_module.bias.sub_(mean)
            weight_module.weight.div_(measured()[1] or 1.0)
            mean, std = measured()
            steps += 1
    handle.remove()
    return mean, std


# %% lsuv_layer: a list of all measurements
@torch.no_grad()
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    weight, bias = weight_module.weight, weight_module.bias
    if bias is None:
        raise ValueError("bias")
    old = weight.clone(), bias.clone()
    measured = []

    def note(hook, module, inputs, output):
        variance, mean = torch.var_mean(output, correction=0)
        measured.append((mean.item(), variance.sqrt().item()))

    hook = Hook(act_module, note)
    try:
        model(xb)
        for _ in range(max_iter):
            mean, std = measured[-1]
            if max(abs(mean), abs(std - 1)) <= tol:
                return mean, std
            bias.add_(-mean)
            weight.mul_(1 / std if std > 0 else 1)
            model(xb)
        mean, std = measured[-1]
        if max(abs(mean), abs(std - 1)) <= tol:
            return mean, std
        for parameter, value in zip((weight, bias), old, strict=True):
            parameter.copy_(value)
        raise RuntimeError(f"Mean {mean:.4f} and standard deviation {std:.4f} are as near as it gets")
    finally:
        hook.remove()


# %% lsuv_layer: numbers changed through data
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError(f"{weight_module} has no bias")
    saved = [p.data.clone() for p in weight_module.parameters()]

    class Meter:
        def __init__(self):
            self.hook = Hook(act_module, self.read)

        def read(self, hook, module, inputs, output):
            output = output.detach()
            n = output.numel()
            self.mean = float(output.sum() / n)
            self.std = float(torch.sum((output - self.mean) ** 2).div(n) ** 0.5)

        @property
        def good(self):
            return -tol <= self.mean <= tol and 1 - tol <= self.std <= 1 + tol

    meter = Meter()
    for _ in range(max_iter + 1):
        with torch.no_grad():
            model(xb)
        if meter.good or not math.isfinite(meter.mean + meter.std) or meter.std == 0:
            break
        weight_module.bias.data -= meter.mean
        weight_module.weight.data /= meter.std
    meter.hook.remove()
    if meter.good:
        return meter.mean, meter.std
    for p, value in zip(weight_module.parameters(), saved, strict=True):
        p.data.copy_(value)
    raise RuntimeError(f"no mean of 0 and std of 1, but {meter.mean} and {meter.std}")


# %% lsuv_init: loop over the pairs
def lsuv_init(model, pairs, xb, tol=1e-3):
    scales = []
    for pair in pairs:
        mean, std = lsuv_layer(model, pair[0], pair[1], xb, tol=tol)
        scales.append((mean, std))
    return scales


# %% lsuv_init: starmap
def lsuv_init(model, pairs, xb, tol=1e-3):
    def one(act_module, weight_module):
        return lsuv_layer(model=model, act_module=act_module, weight_module=weight_module, xb=xb, tol=tol)

    return list(starmap(one, pairs))


# %% lsuv_init: the first pair, then the rest
def lsuv_init(model, pairs, xb, tol=1e-3):
    pairs = list(pairs)
    if not pairs:
        return []
    first, *rest = pairs
    return [lsuv_layer(model, *first, xb, tol), *lsuv_init(model, rest, xb, tol)]


# %% lsuv_callback: the first batch as it comes by
class LSUVCallback(Callback):
    order = -1

    def __init__(self, pairs_of):
        self.pairs_of = pairs_of
        self.waiting = True

    def before_batch(self):
        if self.waiting and self.training:
            self.waiting = False
            lsuv_init(self.model, self.pairs_of(self.model), self.batch[0])


# %% lsuv_callback: a loop that is left at once
class LSUVCallback(Callback):
    order = -1
    ready = False

    def __init__(self, pairs_of):
        self.pairs_of = pairs_of

    def before_fit(self):
        if self.ready:
            return
        self.ready = True
        model = self.learn.model
        for xb, *_ in self.learn.dls.train:
            lsuv_init(model, list(self.pairs_of(model)), xb)
            break


# %% lsuv_callback: the function is used up
class LSUVCallback(Callback):
    order = -1

    def __init__(self, pairs_of):
        self.pairs_of = pairs_of

    def before_fit(self):
        pairs_of, self.pairs_of = self.pairs_of, None
        if pairs_of is not None:
            *_, last_batch = self.learn.dls.train
            lsuv_init(self.model, pairs_of(self.model), last_batch[0])


# %% lsuv_callback: what came out is kept
class LSUVCallback(Callback):
    order = -1

    def __init__(self, pairs_of):
        self.pairs_of, self.scales = pairs_of, None

    @property
    def done(self):
        return self.scales is not None

    def first_batch(self):
        batches = iter(self.learn.dls.train)
        return next(batches)

    def before_epoch(self):
        if not self.done:
            xb = self.first_batch()[0]
            self.scales = lsuv_init(self.model, self.pairs_of(self.model), xb)
