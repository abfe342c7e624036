"""Wrong answers to unit 6, each a bug of the bank as a student would write it."""

import torch


# %% lsuv_layer: sample standard deviation
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("weight_module has no bias")
    stats = {}

    def hook_fn(module, inp, outp):
        stats["mean"] = outp.mean().item()
        stats["std"] = outp.std().item()

    saved = {k: v.clone() for k, v in weight_module.state_dict().items()}
    handle = act_module.register_forward_hook(hook_fn)
    done = False
    with torch.no_grad():
        for _ in range(max_iter):
            model(xb)
            if abs(stats["mean"]) <= tol and abs(stats["std"] - 1) <= tol:
                done = True
                break
            if stats["std"] == 0:
                break
            weight_module.bias.sub_(stats["mean"])
            weight_module.weight.div_(stats["std"])
    handle.remove()
    if not done:
        weight_module.load_state_dict(saved)
        raise RuntimeError(f"did not converge: mean {stats['mean']}, std {stats['std']}")
    return stats["mean"], stats["std"]


# %% lsuv_layer: variance alone
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("weight_module has no bias")
    w0, b0 = weight_module.weight.data.clone(), weight_module.bias.data.clone()

    def keep(hook, module, inputs, output):
        hook.output = output.detach()

    hook = Hook(act_module, keep)
    try:
        for _ in range(max_iter):
            with torch.no_grad():
                model(xb)
            mean = hook.output.mean().item()
            std = hook.output.var(correction=0).sqrt().item()
            if abs(std - 1.0) <= tol:
                return mean, std
            if std == 0:
                break
            weight_module.weight.data.div_(std)
        weight_module.weight.data.copy_(w0)
        weight_module.bias.data.copy_(b0)
        raise RuntimeError(f"mean={mean} std={std}")
    finally:
        hook.remove()


# %% lsuv_layer: one correction
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    bias = weight_module.bias
    if bias is None:
        raise ValueError("no bias")
    outputs = []
    handle = act_module.register_forward_hook(lambda m, i, o: outputs.append(o.detach().clone()))
    with torch.no_grad():
        model(xb)
        y = outputs[-1]
        bias -= y.mean()
        weight_module.weight /= y.std(unbiased=False)
        model(xb)
    handle.remove()
    y = outputs[-1]
    return y.mean().item(), y.std(unbiased=False).item()


# %% lsuv_layer: biases divided too
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("weight_module must have a bias")
    backup = [p.detach().clone() for p in (weight_module.weight, weight_module.bias)]

    def record(hook, module, inp, out):
        n = out.numel()
        hook.mean = (out.sum() / n).item()
        hook.std = (((out - hook.mean) ** 2).sum() / n).sqrt().item()

    hook = Hook(act_module, record)
    try:
        with torch.no_grad():
            for _ in range(max_iter):
                model(xb)
                m, s = hook.mean, hook.std
                if abs(m) <= tol and abs(s - 1) <= tol:
                    return (m, s)
                if s == 0:
                    break
                weight_module.weight /= s
                weight_module.bias -= m
                weight_module.bias /= s
            weight_module.weight.copy_(backup[0])
            weight_module.bias.copy_(backup[1])
            raise RuntimeError(f"failed with mean {m} and std {s}")
    finally:
        hook.remove()


# %% lsuv_layer: mean added
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    w, b = weight_module.weight, weight_module.bias
    if b is None:
        raise ValueError("bias missing")
    w_old, b_old = w.detach().clone(), b.detach().clone()
    last = [0.0, 0.0]

    def look(hook, module, inp, out):
        last[0], last[1] = out.mean().item(), out.std(correction=0).item()

    hook = Hook(act_module, look)
    ok = False
    with torch.no_grad():
        for _ in range(max_iter):
            model(xb)
            ok = abs(last[0]) <= tol and abs(last[1] - 1) <= tol
            if ok or last[1] == 0:
                break
            b.add_(last[0])
            w.div_(last[1])
        if not ok:
            w.copy_(w_old)
            b.copy_(b_old)
    hook.remove()
    if not ok:
        raise RuntimeError(f"cannot reach the target, mean: {last[0]}, std: {last[1]}")
    return tuple(last)


# %% lsuv_layer: measured before the activation
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("weight_module has no bias")
    old = weight_module.weight.detach().clone(), weight_module.bias.detach().clone()

    def measure(hook, module, inputs, output):
        hook.mean, hook.std = inputs[0].mean().item(), inputs[0].std(correction=0).item()

    hook = Hook(act_module, measure)
    try:
        with torch.no_grad():
            model(xb)
            steps = 1
            while abs(hook.mean) > tol or abs(hook.std - 1) > tol:
                if steps == max_iter:
                    weight_module.weight.copy_(old[0])
                    weight_module.bias.copy_(old[1])
                    raise RuntimeError(f"stuck at mean {hook.mean}, std {hook.std}")
                weight_module.bias -= hook.mean
                weight_module.weight /= hook.std
                model(xb)
                steps += 1
    finally:
        hook.remove()
    return hook.mean, hook.std


# %% lsuv_layer: weights not restored
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("there is no bias")

    class Stats:
        mean = std = None

    def hook_fn(module, inputs, output):
        Stats.mean = output.mean().item()
        Stats.std = torch.sqrt(((output - output.mean()) ** 2).mean()).item()

    handle = act_module.register_forward_hook(hook_fn)
    try:
        with torch.no_grad():
            for _ in range(max_iter):
                model(xb)
                if abs(Stats.mean) <= tol and abs(Stats.std - 1) <= tol:
                    return Stats.mean, Stats.std
                if Stats.std == 0:
                    break
                weight_module.bias.sub_(Stats.mean)
                weight_module.weight.div_(Stats.std)
    finally:
        handle.remove()
    raise RuntimeError(f"LSUV failed (mean {Stats.mean}, std {Stats.std})")


# %% lsuv_layer: hook left behind
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("bias required")
    weight, bias = weight_module.weight.data, weight_module.bias.data
    weight_before, bias_before = weight.clone(), bias.clone()
    seen = []
    act_module.register_forward_hook(lambda m, i, o: seen.append((o.mean().item(), o.std(correction=0).item())))
    for _ in range(max_iter):
        with torch.no_grad():
            model(xb)
        mean, std = seen[-1]
        if abs(mean) <= tol and abs(std - 1) <= tol:
            return mean, std
        if std == 0:
            break
        bias -= mean
        weight /= std
    weight.copy_(weight_before)
    bias.copy_(bias_before)
    raise RuntimeError(f"mean {mean}, std {std}")


# %% lsuv_layer: tol ignored
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    weight, bias = weight_module.weight, weight_module.bias
    if bias is None:
        raise ValueError("weight_module.bias is None")
    snapshot = weight.detach().clone(), bias.detach().clone()
    result = []

    def append(hook, module, inputs, output):
        result.append((output.mean().item(), output.std(correction=0).item()))

    hook = Hook(act_module, append)
    with torch.no_grad():
        while len(result) < max_iter:
            model(xb)
            mean, std = result[-1]
            if max(abs(mean), abs(std - 1)) <= 0.001:
                hook.remove()
                return mean, std
            if std == 0:
                break
            bias -= mean
            weight /= std
        weight.copy_(snapshot[0])
        bias.copy_(snapshot[1])
    hook.remove()
    raise RuntimeError(f"after {len(result)} steps: mean {mean}, std {std}")


# %% lsuv_layer: gives up in silence
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("no bias")
    w, b = weight_module.weight.detach().clone(), weight_module.bias.detach().clone()
    stats = [0, 0]

    def fn(hook, module, inputs, output):
        stats[:] = output.mean().item(), output.std(correction=0).item()

    hook = Hook(act_module, fn)
    good = False
    with torch.no_grad():
        for _ in range(max_iter):
            model(xb)
            good = abs(stats[0]) <= tol and abs(stats[1] - 1) <= tol
            if good or stats[1] == 0:
                break
            weight_module.bias -= stats[0]
            weight_module.weight /= stats[1]
        if not good:
            print("warning: LSUV has not converged, old weights are kept")
            weight_module.weight.copy_(w)
            weight_module.bias.copy_(b)
    hook.remove()
    return stats[0], stats[1]


# %% lsuv_layer: corrected out of place
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    weight = weight_module.weight
    bias = weight_module.bias
    if bias is None:
        raise ValueError("bias is None")
    old_weight = weight.detach().clone()
    old_bias = bias.detach().clone()
    values = {}

    def measure(module, inputs, output):
        values["mean"] = output.mean()
        values["std"] = output.std(correction=0)

    handle = act_module.register_forward_hook(measure)
    try:
        with torch.no_grad():
            for _ in range(max_iter):
                model(xb)
                mean, std = values["mean"].item(), values["std"].item()
                if abs(mean) <= tol and abs(std - 1) <= tol:
                    return mean, std
                if std == 0:
                    break
                bias = bias - values["mean"]
                weight = weight / values["std"]
            weight_module.weight.copy_(old_weight)
            weight_module.bias.copy_(old_bias)
    finally:
        handle.remove()
    raise RuntimeError(f"no success: mean {mean:.3f}, std {std:.3f}")


# %% lsuv_layer: left in evaluation mode
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("weight_module has no bias")
    model.eval()
    start = weight_module.weight.detach().clone(), weight_module.bias.detach().clone()
    last = {}

    def note(hook, module, inputs, output):
        last.update(mean=output.mean().item(), std=output.std(correction=0).item())

    hook = Hook(act_module, note)
    try:
        with torch.no_grad():
            for _ in range(max_iter):
                model(xb)
                if abs(last["mean"]) <= tol and abs(last["std"] - 1) <= tol:
                    return last["mean"], last["std"]
                if last["std"] == 0:
                    break
                weight_module.bias -= last["mean"]
                weight_module.weight /= last["std"]
            weight_module.weight.copy_(start[0])
            weight_module.bias.copy_(start[1])
    finally:
        hook.remove()
    raise RuntimeError("stopped at mean {mean}, std {std}".format(**last))


# %% lsuv_layer: max_iter ignored
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("weight_module has no bias")
    saved = weight_module.weight.data.clone(), weight_module.bias.data.clone()
    out = []
    handle = act_module.register_forward_hook(lambda m, i, o: out.append(o.detach()))
    count = 0
    while True:
        with torch.no_grad():
            model(xb)
        y = out.pop()
        mean, std = y.mean().item(), y.std(correction=0).item()
        if abs(mean) <= tol and abs(std - 1) <= tol:
            break
        count += 1
        if std == 0 or count == 50:
            weight_module.weight.data.copy_(saved[0])
            weight_module.bias.data.copy_(saved[1])
            handle.remove()
            raise RuntimeError(f"mean {mean} and std {std} after 50 steps")
        weight_module.bias.data -= mean
        weight_module.weight.data /= std
    handle.remove()
    return mean, std


# %% lsuv_init: last layer first
def lsuv_init(model, pairs, xb, tol=1e-3):
    pairs = list(pairs)
    results = [None] * len(pairs)
    for i in range(len(pairs) - 1, -1, -1):
        act_module, weight_module = pairs[i]
        results[i] = lsuv_layer(model, act_module, weight_module, xb, tol)
    return results


# %% lsuv_init: tol not passed on
def lsuv_init(model, pairs, xb, tol=1e-3):
    results = []
    for act_module, weight_module in pairs:
        results.append(lsuv_layer(model, act_module, weight_module, xb))
    return results


# %% lsuv_init: only the last pair comes back
def lsuv_init(model, pairs, xb, tol=1e-3):
    for act_module, weight_module in pairs:
        result = lsuv_layer(model, act_module, weight_module, xb, tol=tol)
    return result


# %% lsuv_init: only the first layer
def lsuv_init(model, pairs, xb, tol=1e-3):
    stats = []
    for act_module, weight_module in pairs:
        stats.append(lsuv_layer(model, act_module, weight_module, xb, tol))
        break
    return stats


# %% lsuv_callback: before every fit
class LSUVCallback(Callback):
    order = -1

    def __init__(self, pairs_of):
        self.pairs_of = pairs_of

    def before_fit(self):
        xb, *_ = next(iter(self.learn.dls.train))
        pairs = list(self.pairs_of(self.learn.model))
        lsuv_init(self.learn.model, pairs, xb)


# %% lsuv_callback: once for all callbacks
class LSUVCallback(Callback):
    order = -1
    done = False

    def __init__(self, pairs_of):
        self.pairs_of = pairs_of

    def before_fit(self):
        if LSUVCallback.done:
            return
        for batch in self.learn.dls.train:
            lsuv_init(self.model, self.pairs_of(self.model), batch[0])
            break
        LSUVCallback.done = True


# %% lsuv_callback: validation batch
class LSUVCallback(Callback):
    order = -1

    def __init__(self, pairs_of):
        self.pairs_of = pairs_of
        self.first = True

    def before_fit(self):
        if self.first:
            batch = next(iter(self.learn.dls.valid))
            lsuv_init(self.model, self.pairs_of(self.model), batch[0])
            self.first = False


# %% lsuv_callback: after the fit
class LSUVCallback(Callback):
    def __init__(self, pairs_of):
        self.pairs_of = pairs_of
        self.fits = 0

    def after_fit(self):
        self.fits += 1
        if self.fits == 1:
            xb = next(iter(self.learn.dls.train))[0]
            lsuv_init(self.model, self.pairs_of(self.model), xb)


# %% lsuv_callback: model replaced by a copy
class LSUVCallback(Callback):
    order = -1

    def __init__(self, pairs_of):
        self.pairs_of = pairs_of
        self.finished = False

    def before_fit(self):
        if self.finished:
            return
        import copy

        model = copy.deepcopy(self.learn.model)
        xb = next(iter(self.learn.dls.train))[0]
        lsuv_init(model, self.pairs_of(model), xb)
        self.learn.model = model
        self.finished = True
