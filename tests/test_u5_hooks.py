"""The laws of unit 5. Models and their hooks live beside the code under test; what comes back are their notes.

Outputs come from the formula of a linear layer, statistics and counts from PyTorch or from how the data were made.
"""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import LAYOUTS, dtypes, generator, normal, numbers, seeds, tensors
from torch import nn

from grading.verdict import expect, unchanged

# keeps products of rounded entries off the edges of the histogram's bins, where rounding would decide
FACTOR = math.pi / 3


def _idle(parameters, lr):
    """An optimizer that does nothing, called as torch's are; making one of those would import torch's compiler."""
    return SimpleNamespace(
        param_groups=[{"params": list(parameters), "lr": lr}],
        step=lambda closure=None: None if closure is None else closure(),
        zero_grad=lambda set_to_none=True: None,
    )


def _learner(pieces, model, dls, *cbs):
    """A learner that calls its model: how the student's predicts is no matter of this unit, and hooks run in a call."""

    class Calling(pieces.TrainLearner):
        def predict(self):
            self.preds = self.model(self.batch[0])

    return Calling(model, dls, opt_func=_idle, cbs=cbs)


@st.composite
def inputs(draw, min_count=1, max_count=4):
    """A list of batches with 3 columns and one row or several."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=min_count, max_size=max_count))
    seed = draw(seeds())
    return [normal((n, 3), seed + i, dtype=torch.float64) for i, n in enumerate(sizes)]


@st.composite
def weights(draw):
    """Weights for a linear layer from 3 to 4 features and one from 4 to 2."""
    seed = draw(seeds())
    return [normal(shape, seed + i, dtype=torch.float64) * FACTOR for i, shape in enumerate([(4, 3), (2, 4)])]


def outputs(weights, xs):
    """For each layer of the model of `_fit`, its outputs for `xs`: linear, ReLU, linear."""
    first = [x @ weights[0].T for x in xs]
    second = [x.clamp_min(0) for x in first]
    return [first, second, [x @ weights[1].T for x in second]]


# -- hook


def _watched(pieces, *, weight, xs, ys):
    """What a hook notes about a module with two inputs, and what the module computes meanwhile."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(weight.clone())

        def forward(self, x, y):
            return x @ self.weight.T + y

    def note(hook, module, inputs, output):
        told = [module.weight.detach().clone(), tuple(inputs), output.detach(), output.requires_grad]
        hook.seen = [*getattr(hook, "seen", []), told]

    module = Sum()
    hook = pieces.Hook(module, note)
    outs = [module(x, y) for x, y in zip(xs, ys, strict=True)]
    sum((out**2).sum() for out in outs).backward()
    return {"seen": getattr(hook, "seen", []), "outs": [out.detach() for out in outs], "grad": module.weight.grad}


@pytest.mark.weight(2)
@given(xs=inputs(), weights=weights(), shift=numbers(-3, 3))
def test_hook_tells_its_function(hook, beside, xs, weights, shift):
    """After each forward pass `fn` is called with the hook itself, the module, the tuple of inputs and the output.

    The output is handed on as it is, still attached to its graph: whether to detach it is for `fn` to say.
    """
    ys = [x[:, :1] + shift for x in xs]
    got = beside(_watched, weight=weights[0], xs=xs, ys=ys)
    want = [[weights[0], (x, y), x @ weights[0].T + y, True] for x, y in zip(xs, ys, strict=True)]
    told = "[module.weight, inputs, output, output.requires_grad] for each pass,"
    expect(got["seen"], want, f"what fn(hook, module, inputs, output) stored in hook.seen, {told}", scale=10.0)


@given(xs=inputs(), weights=weights(), shift=numbers(-3, 3))
def test_hook_changes_nothing(hook, beside, xs, weights, shift):
    """A module that is watched computes what it did before, and gradients flow through it."""
    ys = [x[:, :1] + shift for x in xs]
    got = beside(_watched, weight=weights[0], xs=xs, ys=ys)
    outs = [x @ weights[0].T + y for x, y in zip(xs, ys, strict=True)]
    expect(got["outs"], outs, "module(x, y) with a hook", scale=10.0)
    want = sum(2 * out.T @ x for out, x in zip(outs, xs, strict=True))
    expect(got["grad"], want, "module.weight.grad after the backward pass", scale=100.0)


def _every_pass(pieces, *, weight, xs):
    """What hooks that nobody keeps note about two modules, in either mode, with gradients and without."""

    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.part, self.passes = nn.Linear(3, 4, bias=False).double(), 0
            self.part.load_state_dict({"weight": weight})

        def forward(self, x):
            self.passes += 1
            return self.part(x), x + self.passes

    modules, notes = [Counted() for _ in xs], []

    def note(hook, module, inputs, output):
        if getattr(hook, "stats", None) is None:
            hook.stats = ([], [], [])
        number = modules.index(module) if module in modules else -1
        outs = [out.detach() for out in output]
        notes.append([number, len(hook.stats[0]), isinstance(inputs, tuple), tuple(inputs), outs])
        hook.stats[0].append(outs)

    for module in modules:
        pieces.Hook(module, note)
    for training, recorded in ((True, True), (True, False), (False, True), (False, False)):
        for module, x in zip(modules, xs, strict=True):
            with torch.set_grad_enabled(recorded):
                module.train(training)(x)
    return notes


@settings(max_examples=8)
@given(xs=inputs(min_count=2, max_count=2), weights=weights())
def test_hook_tells_of_every_pass(hook, beside, xs, weights):
    """`fn` is called once after each forward pass of the module itself, in either mode, with gradients and without.

    A single input comes in a tuple too, and an output that is a tuple comes as it is. The calls end with `remove()`
    alone, not when nobody else keeps the hook; and what is stored in `hook.stats` belongs to this hook alone.
    """
    got = beside(_every_pass, weight=weights[0], xs=xs)
    passes = [(count, number, x) for count in range(4) for number, x in enumerate(xs)]
    want = [[number, count, True, (x,), [x @ weights[0].T, x + count + 1]] for count, number, x in passes]
    told = "[number of the module, notes in hook.stats so far, whether inputs is a tuple, inputs, outputs]"
    expect(got, want, f"{told} for four passes of each of two modules", scale=10.0)


def _removed(pieces, *, weight, xs, times):
    """What two hooks on one module, and one that is not ours, note before and after the first is removed."""
    module = nn.Linear(3, 4, bias=False).double()
    module.load_state_dict({"weight": weight})
    notes = {"first": [], "second": [], "other": []}
    first = pieces.Hook(module, lambda hook, module, inputs, output: notes["first"].append(output.detach()))
    second = pieces.Hook(module, lambda hook, module, inputs, output: notes["second"].append(output.detach()))
    module.register_forward_hook(lambda module, inputs, output: notes["other"].append(output.detach()))
    for number, x in enumerate(xs):
        if number == len(xs) // 2:
            for _ in range(times):
                first.remove()
        module(x)
    for _ in range(times):
        second.remove()
        first.remove()
    module(xs[0])
    return notes


@pytest.mark.weight(2)
@given(xs=inputs(min_count=2), weights=weights(), times=st.integers(1, 3))
def test_hook_remove(hook, beside, xs, weights, times):
    """After `remove()` the function is not called any more; removing again does nothing, and other hooks stay."""
    got = beside(_removed, weight=weights[0], xs=xs, times=times)
    outs = [x @ weights[0].T for x in xs]
    expect(got["other"], [*outs, outs[0]], "the outputs seen by a hook of the module's own register_forward_hook")
    expect(got["first"], outs[: len(xs) // 2], "the outputs seen by a hook that is removed half-way")
    expect(got["second"], outs, "the outputs seen by another hook on the same module")


# -- hooks


def _listed(pieces, *, weights, xs, kind):
    """The notes of each hook in a list of hooks, told to it through the hook itself."""
    modules = [nn.Linear(3, 4, bias=False).double(), nn.ReLU(), nn.Linear(4, 2, bias=False).double()]
    modules[0].load_state_dict({"weight": weights[0]})
    modules[2].load_state_dict({"weight": weights[1]})
    modules[2] = nn.Sequential(modules[2])

    def note(hook, module, inputs, output):
        hook.seen = [*getattr(hook, "seen", []), output.detach()]

    named = [*modules, modules[0]]
    given = {"a list": named, "a generator": (module for module in named), "a Sequential": nn.Sequential(*named)}
    hooks = pieces.Hooks(given[kind], note)
    for x in xs:
        nn.Sequential(*modules)(x)
    looped = [getattr(hook, "seen", []) for hook in hooks]
    indexed = [getattr(hooks[index], "seen", []) for index in (0, 1, 2, -1)]
    return {"length": len(hooks), "looped": looped, "indexed": indexed}


@pytest.mark.weight(2)
@given(xs=inputs(), weights=weights(), kind=st.sampled_from(["a list", "a generator", "a Sequential"]))
def test_hooks_is_a_list(hooks, beside, xs, weights, kind):
    """`Hooks` is the list of a hook for each module, in their order, and every hook keeps notes of its own."""
    got = beside(_listed, weights=weights, xs=xs, kind=kind)
    want = outputs(weights, xs)
    want.append(want[0])
    modules = f"three modules and the first of them again, in {kind}"
    expect(got["length"], 4, f"len(Hooks(modules, fn)) for {modules}")
    expect(got["looped"], want, f"the outputs noted on each hook of the list, for {modules},", scale=10.0)
    call = f"the outputs noted on hooks[0], hooks[1], hooks[2] and hooks[-1], for {modules},"
    expect(got["indexed"], want, call, scale=10.0)


def _managed(pieces, *, weights, xs, fails):
    """The outputs noted within a `with` block and after it, which an error may have ended."""
    modules = [nn.Linear(3, 4, bias=False).double(), nn.ReLU(), nn.Linear(4, 2, bias=False).double()]
    modules[0].load_state_dict({"weight": weights[0]})
    modules[2].load_state_dict({"weight": weights[1]})
    model, late = nn.Sequential(*modules), nn.Identity()
    notes, caught, length = [[] for _ in range(4)], "nothing", -1
    errors = {"ZeroDivisionError": ZeroDivisionError, "KeyboardInterrupt": KeyboardInterrupt}

    def note(hook, module, inputs, output):
        notes[[module is one for one in [*modules, late]].index(True)].append(output.detach())

    try:
        with pieces.Hooks(modules, note) as hooks:
            length = len(hooks)
            hooks.append(pieces.Hook(late, note))
            for x in xs:
                late(model(x))
            del hooks[0]
            late(model(xs[0]))
            if fails:
                raise errors[fails]("on purpose")
    except tuple(errors.values()) as error:
        caught = type(error).__name__
    late(model(xs[0]))
    return {"notes": notes, "caught": caught, "length": length}


def expect_managed(got, weights, xs):
    first, *others = outputs(weights, xs)
    want = [first, *([*outs, outs[0]] for outs in [*others, others[-1]])]
    call = "the outputs noted by each hook, the first deleted in the block and the last appended there, and after it,"
    expect(got["notes"], want, call, scale=10.0)


@given(xs=inputs(), weights=weights())
def test_hooks_as_context_manager(hooks, beside, xs, weights):
    """`with Hooks(...) as hooks` gives the list, and removes all of its hooks when the block ends."""
    got = beside(_managed, weights=weights, xs=xs, fails=None)
    expect(got["length"], 3, "len(hooks) in `with Hooks(modules, fn) as hooks`, for three modules,")
    expect_managed(got, weights, xs)


@settings(max_examples=10)
@given(xs=inputs(), weights=weights())
def test_hooks_are_removed_after_an_error(hooks, beside, xs, weights):
    """When the block raises, all hooks are removed too, and the exception goes on its way."""
    expect_managed(beside(_managed, weights=weights, xs=xs, fails=None), weights, xs)
    for error in ("ZeroDivisionError", "KeyboardInterrupt"):
        got = beside(_managed, weights=weights, xs=xs, fails=error)
        expect(got["caught"], error, f"what comes out of a `with Hooks(...)` block that raises {error}")
        expect_managed(got, weights, xs)


def _deleted(pieces, *, weights, x, count, place):
    """Which hooks are left, and which still take notes, after one or a slice of them was deleted."""
    module = nn.Linear(3, 4, bias=False).double()
    module.load_state_dict({"weight": weights[0]})
    branches = [nn.Identity() for _ in range(count)]
    notes = [[] for _ in branches]

    def note(hook, module, inputs, output):
        number = [module is one for one in branches].index(True)
        hook.number = number
        notes[number].append(output.detach())

    hooks = pieces.Hooks(branches, note)
    for number, branch in enumerate(branches):
        branch(module(x) + number)
    del hooks[slice(*place) if isinstance(place, tuple) else place]
    left = [hook.number for hook in hooks]
    for number, branch in enumerate(branches):
        branch(module(x) + number)
    return {"left": left, "notes": notes}


def expect_deleted(beside, weights, x, count, place):
    got = beside(_deleted, weights=weights, x=x, count=count, place=place)
    left, out = list(range(count)), x @ weights[0].T
    written = "[{}]".format(":".join("" if n is None else str(n) for n in place) if isinstance(place, tuple) else place)
    del left[slice(*place) if isinstance(place, tuple) else place]
    expect(got["left"], left, f"the numbers of the hooks left after del hooks{written}, of {count}")
    want = [[out + n] * (2 if n in left else 1) for n in range(count)]
    expect(got["notes"], want, f"the outputs noted by each of {count} hooks before and after del hooks{written}")


@given(weights=weights(), x=inputs().map(lambda xs: xs[0]), count=st.integers(1, 5), place=st.integers(-5, 4))
def test_hooks_del_removes_the_hook(hooks, beside, weights, x, count, place):
    """`del hooks[i]` takes that hook from the list and removes it from its module; `i` may be negative."""
    expect_deleted(beside, weights, x, count, place % count if place >= 0 else -(-place % count) or -count)
    expect_deleted(beside, weights, x, count, -1)


ends = st.none() | st.integers(-5, 5)


@given(
    weights=weights(),
    x=inputs().map(lambda xs: xs[0]),
    count=st.integers(1, 5),
    place=st.tuples(ends, ends, st.sampled_from([None, 1, 2, -1])),
)
def test_hooks_del_removes_a_slice(hooks, beside, weights, x, count, place):
    """`del hooks[i:j]` does the same for every hook in the slice."""
    expect_deleted(beside, weights, x, count, place)


# -- append_stats


def _appended(pieces, *, outputs):
    """The statistics of two hooks: one is told all the outputs, the other the last one alone."""

    class Notes:
        pass

    first, second, module, answers = Notes(), Notes(), nn.Identity(), []
    for number, output in enumerate(outputs):
        module.train(number % 2 == 0)
        answers.append(pieces.append_stats(first, module, (output,), output))
    pieces.append_stats(second, module.eval(), (outputs[-1],), outputs[-1])
    result = {"answers": answers}
    for name, notes in (("first", first), ("second", second)):
        means, stds, hists = getattr(notes, "stats", ([], [], []))
        result[name] = [[float(m) for m in means], [float(s) for s in stds], [torch.as_tensor(h) for h in hists]]
    result["tensors"] = [isinstance(hist, torch.Tensor) for hist in first.stats[2]]
    kept = [torch.as_tensor(entry) for entries in first.stats for entry in entries]
    result["tracked"] = [entry.requires_grad for entry in kept]
    result["devices"] = [entry.device.type for entry in kept]
    return result


@pytest.mark.weight(2)
@given(dtype=dtypes(), outputs=st.lists(tensors(dtype=torch.float64), min_size=1, max_size=4))
def test_append_stats_mean_and_std(append_stats, beside, dtype, outputs):
    """Each call appends the mean and the standard deviation over all elements to `hook.stats[0]` and `hook.stats[1]`.

    Statistics are population statistics: they divide by n.
    """
    outputs = [output.to(dtype) for output in outputs]
    with unchanged(**{f"output {number}": output for number, output in enumerate(outputs)}):
        got = beside(_appended, outputs=outputs)
    exact = [output.double() for output in outputs]
    tol = {"tol": 1e-4 if dtype == torch.float32 else 1e-8, "scale": max(float(t.abs().max()) for t in exact) + 1.0}
    expect(got["first"][0], [float(t.mean()) for t in exact], "hook.stats[0], the means,", **tol)
    expect(
        got["first"][1], [float(t.std(correction=0)) for t in exact], "hook.stats[1], the standard deviations,", **tol
    )


@st.composite
def activations(draw):
    """Numbers that lie inside the bins of width 0.25, some beyond the last one; and their counts in the 40 bins."""
    bins = draw(st.lists(st.integers(0, 45), min_size=1, max_size=24))
    random = generator(draw(seeds()))
    inside = 0.1 + 0.8 * torch.rand(len(bins), generator=random, dtype=torch.float64)
    signs = 2 * torch.randint(2, (len(bins),), generator=random) - 1
    values = (torch.tensor(bins) + inside) * 0.25 * signs
    shape = (-1, 2) if len(bins) % 2 == 0 else (1, -1, 1)
    return values.reshape(shape), torch.bincount(torch.tensor(bins), minlength=46)[:40].double()


@pytest.mark.weight(2)
@given(dtype=dtypes(), outputs_and_counts=st.lists(activations(), min_size=1, max_size=3))
def test_append_stats_histogram(append_stats, beside, dtype, outputs_and_counts):
    """Each call appends to `hook.stats[2]` how many absolute values lie in each of 40 equal bins on [0, 10].

    Values above 10 are in no bin. Negative activations count by their size. 0.25 is not below 0.25, and so in the
    second bin; 10 is not above 10, and so in the last.
    """
    edges, counts = torch.tensor([[0.0, 0.25, -0.25], [10.0, -10.0, 10.25]]), torch.zeros(40, dtype=torch.float64)
    counts[0], counts[1], counts[-1] = 1, 2, 2
    outputs_and_counts = [*outputs_and_counts, (edges, counts)]
    got = beside(_appended, outputs=[output.to(dtype) for output, _ in outputs_and_counts])
    want = [counts for _, counts in outputs_and_counts]
    expect([hist.double() for hist in got["first"][2]], want, "hook.stats[2], the histograms,", tol=0)
    expect(all(got["tensors"]), True, "whether every histogram in hook.stats[2] is a tensor")


@given(outputs=st.lists(tensors(min_dims=1), min_size=1, max_size=4))
def test_append_stats_keeps_hooks_apart(append_stats, beside, outputs):
    """The first call for a hook creates its `stats`, later ones go on with them; another hook has its own.

    Whether the module is in training or in evaluation mode makes no difference.
    """
    got = beside(_appended, outputs=outputs)
    expect([len(entries) for entries in got["first"]], [len(outputs)] * 3, "the lengths of hook.stats")
    expect(
        [len(entries) for entries in got["second"]], [1] * 3, "the lengths of hook.stats for another hook, called once,"
    )
    want = float(outputs[-1].double().mean())
    scale = float(outputs[-1].abs().max()) + 1.0
    expect(got["second"][0], [want], "hook.stats[0] of the hook that was called once", tol=1e-4, scale=scale)


def _in_training(pieces, *, weights, xs):
    """What a model with `append_stats` on every layer computes, and what of it the statistics hold on to."""
    layers = [nn.Linear(3, 4, bias=False).double(), nn.ReLU(), nn.Linear(4, 2, bias=False).double()]
    layers[0].load_state_dict({"weight": weights[0]})
    layers[2].load_state_dict({"weight": weights[1]})

    class Notes:
        pass

    def watch(layer, notes):
        layer.register_forward_hook(lambda module, inputs, output: pieces.append_stats(notes, module, inputs, output))

    watchers = [Notes() for _ in layers]
    for layer, notes in zip(layers, watchers, strict=True):
        watch(layer, notes)
    outs = [nn.Sequential(*layers)(x) for x in xs]
    sum((out**2).sum() for out in outs).backward()
    kept = [torch.as_tensor(entry) for notes in watchers for entries in notes.stats for entry in entries]
    return {
        "outs": [out.detach() for out in outs],
        "grads": [layers[0].weight.grad, layers[2].weight.grad],
        "means": [[float(mean) for mean in notes.stats[0]] for notes in watchers],
        "tracked": [entry.requires_grad for entry in kept],
        "devices": [entry.device.type for entry in kept],
    }


def off_the_kink(drawn):
    """Whether no input of the ReLU is nearly 0: its gradient there is a matter of rounding."""
    weights, xs = drawn
    return all(bool((x.abs() > 1e-6).all()) for x in outputs(weights, xs)[0])


@given(drawn=st.tuples(weights(), inputs()).filter(off_the_kink))
def test_append_stats_only_watches(append_stats, beside, drawn):
    """A model with `append_stats` as its hooks computes the same outputs and gradients as without.

    A forward hook that returns anything but None replaces the module's output.
    """
    weights, xs = drawn
    got = beside(_in_training, weights=weights, xs=xs)
    leaves = [weight.clone().requires_grad_() for weight in weights]
    outs = [(x @ leaves[0].T).clamp_min(0) @ leaves[1].T for x in xs]
    sum((out**2).sum() for out in outs).backward()
    expect(got["outs"], [out.detach() for out in outs], "model(x) with hooks", scale=10.0)
    size = max(1.0, max(float(leaf.grad.abs().max()) for leaf in leaves))
    expect(got["grads"], [leaf.grad for leaf in leaves], "the weights' gradients with hooks", scale=size)


@given(weights=weights(), xs=inputs())
def test_append_stats_lets_go_of_the_graph(append_stats, beside, weights, xs):
    """The entries are detached and on the CPU: none of them holds on to the graph of its batch."""
    got = beside(_in_training, weights=weights, xs=xs)
    want = [[float(out.mean()) for out in outs] for outs in outputs(weights, xs)]
    expect(got["means"], want, "the means noted for each layer", scale=10.0)
    expect(got["tracked"], [False] * (9 * len(xs)), "requires_grad of every entry")
    expect(got["devices"], ["cpu"] * (9 * len(xs)), "the device of every entry")


# -- dead_fraction and histogram_image


@st.composite
def histograms(draw, empty=False):
    """Counts `(steps, bins)`, many of them 0; with `empty`, some steps without any."""
    steps, bins = draw(st.integers(1, 6)), draw(st.integers(1, 8) | st.just(40))
    random = generator(draw(seeds()))
    largest = draw(st.sampled_from([3, 100, 1_000_000]))
    counts = torch.randint(largest, (steps, bins), generator=random)
    counts *= torch.randint(2, (steps, bins), generator=random)
    if empty:
        counts[torch.randint(steps, ((steps + 1) // 2,), generator=random)] = 0
    else:
        counts[:, -1] += 1
    counts = counts.to(draw(dtypes()))
    layout = draw(st.sampled_from(LAYOUTS))
    if layout == "transposed":
        return counts.T.contiguous().T
    return counts.repeat_interleave(2, dim=1)[:, ::2] if layout == "strided" else counts


@pytest.mark.weight(2)
@given(hists=histograms())
def test_dead_fraction_value(dead_fraction, hists):
    """At each step it is the first bin's share of all that was counted at this step."""
    with unchanged(hists=hists):
        got = dead_fraction(hists)
    want = (hists[:, 0].double() / hists.double().sum(1)).to(hists.dtype)
    expect(got, want, "dead_fraction(hists)", scale=1.0)


@given(hists=histograms(empty=True))
def test_dead_fraction_of_empty_steps(dead_fraction, hists):
    """A step at which nothing was counted has the dead fraction 0, not nan."""
    got = dead_fraction(hists)
    shares = [float(row[0]) / float(row.sum()) if row.any() else 0.0 for row in hists.double()]
    expect(got, torch.tensor(shares, dtype=hists.dtype), "dead_fraction(hists)", scale=1.0)


@given(dtype=dtypes(), counts=st.lists(st.integers(5, 10_000), min_size=1, max_size=6), bins=st.integers(2, 40))
def test_dead_fraction_extremes(dead_fraction, dtype, counts, bins):
    """It is 1 where all is in the first bin, and 0 where nothing is, whatever the number of activations."""
    counts = [1, *counts]
    hists = torch.zeros(2 * len(counts), bins, dtype=dtype)
    hists[::2, 0] = torch.tensor(counts, dtype=dtype)
    hists[1::2, -1] = torch.tensor(counts, dtype=dtype)
    want = torch.tensor([1.0, 0.0], dtype=dtype).repeat(len(counts))
    expect(dead_fraction(hists), want, "dead_fraction(hists)")


@pytest.mark.weight(2)
@given(hists=histograms())
def test_histogram_image_value(histogram_image, hists):
    """Row b, column t of the picture is log(1 + count) of bin b at step t; the logarithm is the natural one."""
    with unchanged(hists=hists):
        got = histogram_image(hists)
    want = torch.log(1 + hists.double()).to(hists.dtype)
    expect(got, want.permute(1, 0), "histogram_image(hists)", scale=1.0)


@given(hists=histograms(empty=True))
def test_histogram_image_of_empty_bins(histogram_image, hists):
    """Empty bins are 0 in the picture; the logarithm alone would make them minus infinity."""
    got = histogram_image(hists)
    want = [[math.log(1 + float(hists[t, b])) for t in range(hists.shape[0])] for b in range(hists.shape[1])]
    expect(got, torch.tensor(want, dtype=torch.float64).to(hists.dtype), "histogram_image(hists)", scale=1.0)


@given(dtype=dtypes(), counts=st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True))
def test_histogram_image_of_one_step(histogram_image, dtype, counts):
    """A step is a column from top to bottom: the first bin is row 0."""
    hists = torch.tensor([counts], dtype=dtype)
    want = torch.tensor([[math.log(1 + count)] for count in counts], dtype=torch.float64).to(dtype)
    expect(histogram_image(hists), want, "histogram_image(hists)")


# -- hooks_callback


def _fit(pieces, *, weights, train, valid, chosen, phases, n_epochs):
    """The outputs noted on each hook of a callback in a fit, and the callback's length during it and after."""
    first, relu, last = nn.Linear(3, 4, bias=False).double(), nn.ReLU(), nn.Linear(4, 2, bias=False).double()
    first.load_state_dict({"weight": weights[0]})
    last.load_state_dict({"weight": weights[1]})

    class Inner(nn.Sequential):
        def forward(self, x):
            return self[1](self[0](x))

    class Frozen(nn.Sequential):
        def forward(self, x):
            with torch.no_grad():
                x = self[0](x)
            return self[1](x)

    class Modes:
        order = -5

        def before_epoch(self):
            first.train()
            last.eval()

    # one module with two names, one without gradients, and two with modes of their own
    inner = Inner(relu, last, last)
    model = Frozen(first, inner)
    lengths = []

    def note(hook, module, inputs, output):
        lengths.append(len(callback))
        hook.seen = [*getattr(hook, "seen", []), [*(x.detach() for x in inputs), output.detach()]]

    filters = {
        "linear layers": lambda module: isinstance(module, nn.Linear),
        "narrow layers": lambda module: getattr(module, "out_features", 9) < 3,
        "containers": lambda module: isinstance(module, nn.Sequential),
    }
    lists = {"the last, then the first": [last, first], "the inner ones": [inner, last]}
    both = "the last, then the first, and a filter beside"
    by_default = {} if phases is None else {"on_train": phases[0], "on_valid": phases[1]}
    if chosen == "all modules":
        callback = pieces.HooksCallback(note, **by_default)
    elif chosen in lists:
        callback = pieces.HooksCallback(note, mods=lists[chosen], **by_default)
    elif chosen == both:
        callback = pieces.HooksCallback(note, filters["containers"], mods=[last, first], **by_default)
    elif phases is None:
        callback = pieces.HooksCallback(note, filters[chosen])
    else:
        callback = pieces.HooksCallback(note, filters[chosen], *phases)
    dls = pieces.DataLoaders([(x, x[:, :2]) for x in train], [(x, x[:, :2]) for x in valid])
    model(train[0])
    _learner(pieces, model, dls, callback, Modes()).fit(n_epochs)
    noted = [[getattr(hook, "seen", []) for hook in callback] for _ in range(2)]
    return {"seen": noted[0], "again": noted[1], "lengths": lengths, "length": len(callback)}


def expected_notes(weights, xs, chosen):
    """For each chosen module, input and output for `xs`."""
    linear, relu, last = outputs(weights, xs)
    modules = {
        "first": list(zip(xs, linear, strict=True)),
        "relu": list(zip(linear, relu, strict=True)),
        "last": list(zip(relu, last, strict=True)),
        "inner": list(zip(linear, last, strict=True)),
        "model": list(zip(xs, last, strict=True)),
    }
    names = {
        "linear layers": ("first", "last"),
        "narrow layers": ("last",),
        "containers": ("model", "inner"),
        "the last, then the first": ("last", "first"),
        "the last, then the first, and a filter beside": ("last", "first"),
        "the inner ones": ("inner", "last"),
        "all modules": ("model", "first", "inner", "relu", "last"),
    }[chosen]
    return [[list(pair) for pair in modules[name]] for name in names]


def expect_notes(got, want, chosen, phases):
    expect(got["length"], len(want), f"len(callback) after the fit, for {chosen}")
    expect(sorted(set(got["lengths"])), [len(want)] if any(want) else [], f"len(callback) during the fit, for {chosen}")
    call = f"[input, output] noted on each of the callback's hooks, for {chosen} and {phases},"
    expect(got["seen"], want, call, scale=10.0)
    expect(got["again"], want, f"in a second loop over the callback: {call}", scale=10.0)


@pytest.mark.weight(2)
@given(
    weights=weights(),
    train=inputs(),
    valid=inputs(),
    chosen=st.sampled_from(["linear layers", "narrow layers", "containers"]),
)
def test_hooks_callback_filters_modules(hooks_callback, beside, weights, train, valid, chosen):
    """It hooks those of the model's modules, at every depth, that `mod_filter` says yes to, by default in training."""
    how = {"chosen": chosen, "phases": None, "n_epochs": 1}
    got = beside(_fit, weights=weights, train=train, valid=valid, **how)
    expect_notes(got, expected_notes(weights, train, chosen), chosen, "the default phases")


@settings(max_examples=5)
@given(weights=weights(), train=inputs(), valid=inputs())
def test_hooks_callback_hooks_all_by_default(hooks_callback, beside, weights, train, valid):
    """Without filter and list it hooks all of `model.modules()`, each once, also one that has two names.

    Training is what the learner's model is in, whatever the modes of its parts, and also where gradients are off.
    """
    how = {"chosen": "all modules", "phases": None, "n_epochs": 1}
    got = beside(_fit, weights=weights, train=train, valid=valid, **how)
    expect_notes(got, expected_notes(weights, train, "all modules"), "all modules", "the default phases")


@given(
    weights=weights(),
    train=inputs(),
    valid=inputs(),
    chosen=st.sampled_from(
        ["the last, then the first", "the inner ones", "the last, then the first, and a filter beside"]
    ),
)
def test_hooks_callback_takes_a_list(hooks_callback, beside, weights, train, valid, chosen):
    """With `mods` it hooks these modules, in their order; there is a hook for each to loop over, also after the fit.

    They are hooked instead of those that a filter says yes to.
    """
    how = {"chosen": chosen, "phases": None, "n_epochs": 1}
    got = beside(_fit, weights=weights, train=train, valid=valid, **how)
    expect_notes(got, expected_notes(weights, train, chosen), chosen, "the default phases")


@pytest.mark.weight(2)
@given(
    weights=weights(),
    train=inputs(max_count=3),
    valid=inputs(max_count=3),
    on_train=st.booleans(),
    on_valid=st.booleans(),
    chosen=st.sampled_from(["linear layers", "the inner ones"]),
    n_epochs=st.integers(1, 2),
)
def test_hooks_callback_keeps_to_its_phases(
    hooks_callback, beside, weights, train, valid, on_train, on_valid, chosen, n_epochs
):
    """`hookfunc` is called in training if `on_train`, and in validation if `on_valid`."""
    how = {"chosen": chosen, "phases": (on_train, on_valid), "n_epochs": n_epochs}
    got = beside(_fit, weights=weights, train=train, valid=valid, **how)
    xs = ((train if on_train else []) + (valid if on_valid else [])) * n_epochs
    expect_notes(got, expected_notes(weights, xs, chosen), chosen, f"on_train={on_train}, on_valid={on_valid}")


def _ended(pieces, *, weights, xs, ending, event, rounds):
    """The outputs noted in fits that end in different ways, the third of another model, and by passes after each."""
    import contextlib

    class Trouble:
        order = 5

    def make_trouble(self):
        if ending == "an error":
            raise ZeroDivisionError("trouble on purpose")
        if ending == "CancelFitException":
            raise pieces.CancelFitException

    setattr(Trouble, event, make_trouble)
    notes, others, lengths, learners = [], [], [], []
    select = {"mod_filter": lambda module: isinstance(module, nn.Linear), "on_train": True, "on_valid": True}
    callback = pieces.HooksCallback(lambda hook, module, inputs, output: notes[-1].append(output.detach()), **select)
    dls = pieces.DataLoaders([(x, torch.zeros(len(x), 2)) for x in xs], [])
    for _ in range(0, rounds, 2):
        first, last = nn.Linear(3, 4, bias=False).double(), nn.Linear(4, 2, bias=False).double()
        first.load_state_dict({"weight": weights[0]})
        last.load_state_dict({"weight": weights[1]})
        last.register_forward_hook(lambda module, inputs, output: others.append(output.detach()))
        model = nn.Sequential(first, nn.ReLU(), last)
        learners.append(_learner(pieces, model, dls, callback))
    for number in range(rounds):
        learner = learners[number // 2]
        notes.append([])
        with contextlib.suppress(ZeroDivisionError):
            learner.fit(1, cbs=[Trouble()])
        lengths.append(len(callback))
        for mode in (True, False):
            notes.append([])
            learner.model.train(mode)
            learner.model(xs[0])
    return {"notes": notes, "others": others, "lengths": lengths}


def expect_ended(beside, weights, xs, ending, event, rounds):
    got = beside(_ended, weights=weights, xs=xs, ending=ending, event=event, rounds=rounds)
    first, _, last = outputs(weights, xs)
    outs = [out for pair in zip(first, last, strict=True) for out in pair]
    noted = outs if ending == "the last batch" else [] if event in ("before_fit", "before_epoch") else outs[:2]
    end = f"fits ended by {ending}" + ("" if ending == "the last batch" else f" in {event}")
    passes = "then by a pass in training mode, then by one in evaluation mode,"
    call = f"the outputs of two layers noted in each of {rounds} {end}, {passes}"
    expect(got["notes"], [noted, [], []] * rounds, call, scale=10.0)
    want = [*noted[1::2], last[0], last[0]] * rounds
    expect(
        got["others"], want, f"the last layer's outputs seen by a hook of somebody else in {end}, and after", scale=10.0
    )
    expect(got["lengths"], [2] * rounds, f"len(callback) after each of {rounds} {end}")


@pytest.mark.weight(3)
@given(
    weights=weights(),
    xs=inputs(),
    ending=st.sampled_from(["the last batch", "an error", "CancelFitException"]),
    event=st.sampled_from(["before_fit", "before_epoch", "after_predict", "after_backward", "after_batch"]),
)
def test_hooks_callback_removes_its_hooks(hooks_callback, beside, weights, xs, ending, event):
    """After the fit the hooks are gone, whether it reached its last batch, was cancelled or ended with an error.

    `after_fit` does not come when a fit is cancelled or fails; `cleanup_fit` comes always. Hooks that somebody else
    registered stay.
    """
    expect_ended(beside, weights, xs, ending, event, 1)


@settings(max_examples=10)
@given(weights=weights(), xs=inputs(), ending=st.sampled_from(["the last batch", "an error", "CancelFitException"]))
def test_hooks_callback_hooks_again(hooks_callback, beside, weights, xs, ending):
    """A further fit with the same callback hooks the modules again, each once; in another model, those of that one."""
    expect_ended(beside, weights, xs, ending, "after_batch", 3)


# -- activation_stats


def _pictured(pieces, *, weights, train, valid, chosen, which):
    """The statistics of the second of two fits, and all numbers that each panel of a figure of it shows."""
    import sys

    import matplotlib
    import numpy as np
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    # nothing may pop up, however the figure is made
    matplotlib.use("Agg")
    first, last = nn.Linear(3, 4, bias=False).double(), nn.Linear(4, 2, bias=False).double()
    first.load_state_dict({"weight": weights[0]})
    last.load_state_dict({"weight": weights[1]})
    inner = nn.Sequential(nn.ReLU(), last)
    model = nn.Sequential(first, inner)
    stats = pieces.ActivationStats(lambda module: chosen == "all" or module is first or module is inner)
    for batches in (valid[:1], train):
        dls = pieces.DataLoaders([(x, x[:, :2]) for x in batches], [(x, x[:, :2]) for x in valid])
        _learner(pieces, model, dls, stats).fit(1)
    model.train()(train[0])

    def as_drawn(values, xs, ys, ax):
        """The matrix with the lowest row first and the leftmost column first; places are those on the axes."""
        (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
        rows = np.argsort(ys if bottom < top else -ys, kind="stable")
        return values[rows][:, np.argsort(xs if left < right else -xs, kind="stable")]

    def picture(artist, ax):
        """The matrix that an image or a mesh along the axes shows, as drawn; None for anything else."""
        values = None if artist.get_array() is None else np.asarray(artist.get_array(), dtype=float)
        if type(artist) is AxesImage and values is not None and values.ndim == 2:
            left, right, bottom, top = artist.get_extent()
            low, high = (bottom, top) if artist.origin == "lower" else (top, bottom)
            shares = [(np.arange(n) + 0.5) / n for n in values.shape]
            return as_drawn(values, left + (right - left) * shares[1], low + (high - low) * shares[0], ax)
        if type(artist) is QuadMesh and values is not None:
            corners = artist.get_coordinates()
            shape = corners.shape[:2] if values.size == corners[..., 0].size else [n - 1 for n in corners.shape[:2]]
            values, corners = values.reshape(shape), corners[: shape[0], : shape[1]]
            if np.ptp(corners[:, 0, 1]) == 0:
                values, corners = values.T, corners.transpose(1, 0, 2)
            return as_drawn(values, corners[0, :, 0], corners[:, 0, 1], ax)
        return None

    figures = [getattr(stats, which)() for _ in range(2)] if which is not None else []
    noted = [
        [[float(mean) for mean in hook.stats[0]], [float(std) for std in hook.stats[1]], [*hook.stats[2]]]
        for hook in stats
    ]
    result = {"noted": [[means, stds, [h.double() for h in hists]] for means, stds, hists in noted]}
    if which is None:
        return result
    result["figure"] = all(isinstance(figure, Figure) for figure in figures)
    result["new"] = figures[0] is not figures[1]
    if not result["figure"]:
        return result
    result["panels"] = []
    for ax in figures[1].axes:
        shown = [np.asarray(line.get_ydata(), dtype=float) for line in ax.lines]
        shown += [np.asarray(image.get_array(), dtype=float).ravel() for image in ax.images]
        shown.append(np.array([patch.get_path().get_extents(patch.get_patch_transform()).y1 for patch in ax.patches]))
        for collection in ax.collections:
            if collection.get_array() is not None:
                shown.append(np.asarray(collection.get_array(), dtype=float).ravel())
            vertices = [path.vertices[:, 1] for path in collection.get_paths()]
            shown += [np.concatenate(vertices)] if vertices else []
            shown.append(np.asarray(collection.get_offsets(), dtype=float)[:, 1])
        panel = {"parts": [torch.from_numpy(values.astype("float32")) for values in shown if values.size]}
        drawn = [picture(artist, ax) for artist in (*ax.images, *ax.collections)]
        panel["pictures"] = [torch.from_numpy(matrix.astype("float32")) for matrix in drawn if matrix is not None]
        panel["lines"] = [
            [torch.from_numpy(np.array(values, dtype="float32")) for values in line.get_data(orig=False)]
            for line in ax.lines
        ]
        result["panels"].append(panel)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
    return result


def statistics(weights, xs, chosen="some"):
    """Means, standard deviations and histograms of the chosen modules of the model of `_pictured` for each batch."""
    linear, relu, last = outputs(weights, xs)
    noted = []
    for outs in [last, linear, last, relu, last] if chosen == "all" else [linear, last]:
        hists = [out.abs().histc(40, 0, 10) for out in outs]
        noted.append([[float(out.mean()) for out in outs], [float(out.std(correction=0)) for out in outs], hists])
    return noted


@pytest.mark.weight(2)
@settings(max_examples=10)
@given(weights=weights(), train=inputs(), valid=inputs())
def test_activation_stats_collects(activation_stats, beside, weights, train, valid):
    """Its hooks, one for each module that `mod_filter` chooses, hold the statistics of every training batch.

    A module that contains others may be chosen like any other. After the fit nothing is added; a second fit begins
    anew.
    """
    got = beside(_pictured, weights=weights, train=train, valid=valid, chosen="some", which=None)
    call = "hook.stats of each of the hooks after a second fit: means, standard deviations and histograms;"
    expect(got["noted"], statistics(weights, train), call, scale=10.0)


def distance(values, want):
    """How far the numbers of a part of a figure are from those expected; infinitely, where one of them is nan."""
    return float((values - want).abs().nan_to_num(nan=math.inf).max())


def closest_part(shown, want):
    """The sorted numbers of the part of a figure closest to `want`; of the largest part, if none has as many."""
    parts = [values.sort().values for values in shown]
    fitting = [values for values in parts if values.shape == want.shape]
    if fitting:
        return min(fitting, key=lambda values: distance(values, want))
    return max(parts, key=len, default=torch.empty(0))


def closest_numbers(shown, row):
    """The numbers that come closest to those of `row`, all from one part of a figure."""
    parts = [values[(values[None] - row[:, None]).abs().nan_to_num(nan=math.inf).argmin(dim=1)] for values in shown]
    return min(parts, key=lambda values: distance(values, row), default=torch.empty(0))


def shows(parts, want):
    """Whether one of the parts has the sorted numbers `want`, and no others."""
    sizes = [part.sort().values for part in parts if part.shape == want.shape]
    return any(distance(values, want) < 1e-5 for values in sizes)


def holds(parts, row):
    """Whether one of the parts has all the numbers of `row`."""
    found = closest_numbers(parts, row)
    return found.shape == row.shape and distance(found, row) < 1e-5


def expect_figure(beside, which, weights, train, valid, chosen="some"):
    """What `_pictured` has to say, if both calls gave a figure of their own and left the statistics as they were."""
    got = beside(_pictured, weights=weights, train=train, valid=valid, chosen=chosen, which=which)
    expect(got["figure"], True, f"whether {which}() returns a matplotlib Figure")
    expect(got["new"], True, f"whether a second call of {which}() returns a Figure of its own")
    call = f"hook.stats of each of the hooks after two calls of {which}(): means, standard deviations and histograms;"
    expect(got["noted"], statistics(weights, train, chosen), call, scale=10.0)
    return got["panels"], [part for panel in got["panels"] for part in panel["parts"]]


@settings(max_examples=2)
@given(weights=weights(), train=inputs(min_count=2), valid=inputs())
def test_activation_stats_color_dim(activation_stats, beside, weights, train, valid):
    """`color_dim()` is a new figure with a panel for each hooked module: its histogram image, log(1 + count).

    The smallest activations are at the bottom, and the batches follow each other from left to right.
    """
    panels, shown = expect_figure(beside, "color_dim", weights, train, valid, "all")
    images = [torch.stack(hists).log1p().T.float() for _, _, hists in statistics(weights, train, "all")]
    for number, image in enumerate(images):
        want = image.flatten().sort().values
        call = f"the sorted numbers of the part of color_dim() closest to log(1 + count) of all bins of module {number}"
        expect(closest_part(shown, want), want, call, tol=1e-5, scale=1.0)
        alike = sum(torch.equal(other, image) for other in images)
        count = sum(shows(panel["parts"], want) for panel in panels)
        expect(min(count, alike), alike, f"the number of panels with the image of module {number}, {alike} have it,")
        pictures = [picture for panel in panels for picture in panel["pictures"] if shows([picture.flatten()], want)]
        upright = [picture for picture in pictures if picture.shape == image.shape] or pictures[:1]
        if upright:
            found = min(upright, key=lambda picture: distance(picture.flatten(), image.flatten()))
            call = f"the image of module {number}, its rows from the bottom up and its columns from left to right,"
            expect(found, image, call, tol=1e-5, scale=1.0)


@settings(max_examples=2)
@given(weights=weights(), train=inputs(min_count=2), valid=inputs())
def test_activation_stats_dead_chart(activation_stats, beside, weights, train, valid):
    """`dead_chart()` is a new figure with the dead fraction of each hooked module over the batches."""
    # in every batch a part is dead, and all of the last: no fraction is 0, and none is a count
    train = [*(torch.cat([x, torch.zeros(1, 3, dtype=x.dtype)]) for x in train), torch.zeros(2, 3, dtype=torch.float64)]
    _, shown = expect_figure(beside, "dead_chart", weights, train, valid)
    for number, (_, _, hists) in enumerate(statistics(weights, train)):
        row = torch.tensor([float(hist[0]) / max(float(hist.sum()), 1.0) for hist in hists])
        found, percent = closest_numbers(shown, row), closest_numbers(shown, 100 * row) / 100
        if percent.shape == row.shape and distance(percent, row) < 1e-5:
            found = percent
        call = f"the numbers in dead_chart() closest to the fractions of module {number}"
        expect(found, row, call, tol=1e-5, scale=1.0)


@settings(max_examples=2)
@given(weights=weights(), train=inputs(min_count=2), valid=inputs())
def test_activation_stats_plot_stats(activation_stats, beside, weights, train, valid):
    """`plot_stats()` is a new figure with the means and the standard deviations of each module over the batches.

    Means and standard deviations do not share a panel.
    """
    # the means go down and up again
    train = [*train, -train[-1], train[-1]]
    panels, shown = expect_figure(beside, "plot_stats", weights, train, valid)
    for number, noted in enumerate(statistics(weights, train)):
        for name, row in zip(("means", "standard deviations"), noted[:2], strict=True):
            row = torch.tensor(row)
            call = f"the numbers in plot_stats() closest to the {name} of module {number}"
            expect(closest_numbers(shown, row), row, call, tol=1e-5, scale=1.0)
            lines = [
                x for panel in panels for x, y in panel["lines"] if y.shape == row.shape and distance(y, row) < 1e-5
            ]
            steady = [bool((x.diff() > 0).all() or (x.diff() < 0).all()) for x in lines]
            call = f"whether the line of the {name} of module {number} goes from batch to batch"
            expect(any(steady) or not lines, True, call)
    means, stds = (torch.tensor(row) for row in statistics(weights, train)[0][:2])
    mixed = [holds(panel["parts"], means) and holds(panel["parts"], stds) for panel in panels]
    expect(any(mixed), False, "whether a panel of plot_stats() has both means and standard deviations")
