"""The laws of unit 7. Expected values come from PyTorch's own norms and autograd, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, generator, normal, numbers, pairs, seeds, sides, tensors

from grading.verdict import expect, refused, unchanged

# a norm divides differences of the elements of x by a standard deviation, and its rounding errors grow with that
# slope: the scales below hold it, and what is left are a few hundred roundings
TOL = {torch.float32: 1e-5, torch.float64: 1e-10}
CHANNELS = 5


def epsilons():
    """Values of eps that show next to the variances that are drawn."""
    return numbers(0.001, 0.5)


def per_channel():
    """Values for up to CHANNELS channels; a check takes as many as its x has."""
    return tensors((CHANNELS,), dtype=torch.float32)


@st.composite
def shapes_of_images(draw, max_channels=CHANNELS, min_pixels=1):
    """(N, C, H, W) with more than one value per channel and at least `min_pixels` values in an image."""
    (n, c), (h, w) = draw(sides(4, max_channels)), draw(sides(4, 4))
    return n, c, h, w + 1 if h * w < min_pixels or n * h * w == 1 else w


@st.composite
def shapes_of_samples(draw, max_dims, min_values=2):
    """(N, ...) with two to `max_dims` dimensions and at least `min_values` values in a sample, one or two."""
    n, *sides, last = draw(st.lists(st.integers(1, 4), min_size=2, max_size=max_dims))
    return n, *sides, last + 1 if math.prod((*sides, last)) < min_values else last


def samples(max_dims, min_values=2):
    """Batches `(N, ...)` of anything."""
    return tensors(shapes_of_samples(max_dims, min_values))


def images(**how):
    """Batches `(N, C, H, W)`."""
    return tensors(shapes_of_images(**how))


def plain(x):
    """A copy that is contiguous: where strides are unusual, PyTorch's own batch norm returns wrong gradients."""
    return x.detach().clone(memory_format=torch.contiguous_format)


def exact(x):
    """A contiguous copy in float64."""
    return plain(x).double()


def slope(rows, eps):
    """The largest 1 / standard deviation, that of the smallest variance: `rows` has one row per mean and variance."""
    return float(1 / (rows.double().var(1, correction=0) + eps).min().sqrt())


# -- what runs beside the code under test; a layer is (class, arguments, keyword arguments)


def _new(pieces, layer, dtype):
    name, arguments, settings = layer
    norm = getattr(pieces, name)(*arguments, **settings)
    return norm.double() if dtype == torch.float64 else norm


def _state(norm):
    """A copy of the tensors in the state_dict, beside which a module may keep more."""
    state = dict(norm.state_dict())
    return {name: value.detach().clone() for name, value in state.items() if isinstance(value, torch.Tensor)}


def _set(norm, values):
    """Sets parameters and buffers by name, whatever shape they are kept in; how many numbers each of them has."""
    state = _state(norm)
    sizes = {name: state[name].numel() for name in values if name in state}
    if sizes == {name: value.numel() for name, value in values.items()}:
        filled = {name: value.to(state[name].dtype).reshape(state[name].shape) for name, value in values.items()}
        norm.load_state_dict({**norm.state_dict(), **filled})
    return sizes


def _history(pieces, *, layer, dtype, values, steps):
    """What a norm that starts with `values` makes of each batch x, in the mode asked for, and what state it is in then.

    `steps` are (training, x, upstream): None leaves the mode as it is; a gradient `upstream` is sent back from the
    output, and without one nothing is recorded, as in a validation.
    """
    norm = _new(pieces, layer, dtype)
    sizes = _set(norm, values)
    if len(sizes) < len(values):
        return {"sizes": sizes}
    start, calls = _state(norm), []
    for training, x, upstream in steps:
        if training is not None:
            norm.train(training)
        x = x if upstream is None else x.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
        with torch.set_grad_enabled(upstream is not None):
            y = norm(x)
        if upstream is not None:
            (y * upstream).sum().backward()
        calls.append({"y": y, "x": x.detach(), "gradient": x.grad, "state": _state(norm)})
    gradients = {name: p.grad for name, p in norm.named_parameters()}
    return {"sizes": sizes, "start": start, "calls": calls, "gradients": gradients}


def _one_after_the_other(pieces, *, layers, dtype, x):
    """What layers made and used one after the other make of x, and their states before and after."""
    found = []
    for layer in layers:
        new = _state(_new(pieces, layer, torch.float32))
        norm = _new(pieces, layer, dtype)
        y = norm(x)
        found.append({"new": new, "y": y, "state": _state(norm)})
    return found


def _outcome(function, *arguments):
    """The name of what a call raises, or None."""
    try:
        function(*arguments)
    except NotImplementedError:
        raise
    except ValueError:
        return "ValueError"
    except Exception as error:
        return type(error).__name__
    return None


def _refusals(pieces, *, layer, dtype, values, training, wrong, x):
    """What each of the `wrong` batches raises, and what they leave behind for x."""
    norm = _new(pieces, layer, dtype)
    sizes = _set(norm, values)
    if len(sizes) < len(values):
        return {"sizes": sizes}
    norm.train(training)
    before = _state(norm)
    outcomes = [_outcome(norm, bad) for bad in wrong]
    after = _state(norm)
    return {
        "sizes": sizes,
        "before": before,
        "outcomes": outcomes,
        "after": after,
        "y": norm(x),
        "state": _state(norm),
    }


# -- what is made of it


def expect_names(state, *names):
    """`names` are in a state_dict."""
    missing = [name for name in names if name not in state]
    expect(", ".join(missing) or "none", "none", "what state_dict() lacks")


def expect_sizes(sizes, values):
    """The parameters and buffers that were set are there, and have room for `values`."""
    expect_names(sizes, *values)
    for name, value in values.items():
        expect(sizes[name], value.numel(), f"number of values in {name}")


def history(beside, layer, dtype, steps, **values):
    """The states and calls of `_history`, once it is known that the layer took `values`."""
    found = beside(_history, layer=layer, dtype=dtype, values=values, steps=steps)
    expect_sizes(found["sizes"], values)
    return found


def check_output(beside, layer, oracle, x, rows, eps, call, buffers=None, **values):
    """norm(x) with the parameters `values` is what `oracle` computes in float64, and x stays as it is."""
    before = x.clone()
    found = history(beside, layer, x.dtype, [(None, x, None)], **(buffers or {}), **values)
    (used,) = found["calls"]
    expect(used["x"], before, "x after the call: an exercise leaves its inputs as they are;", tol=0)
    want = oracle(exact(x), *(value.double() for value in values.values()))
    mults, *_ = values.values()
    scale = want.abs().max() + mults.abs().max() * slope(rows, eps) * x.abs().max()
    expect(used["y"], want.to(x.dtype), call, tol=TOL[x.dtype], scale=scale)


def check_gradients(beside, layer, oracle, x, rows, eps, seed, call, **values):
    """A random gradient at the output comes back at x and the parameters `values` as autograd says for `oracle`."""
    upstream = torch.randn(x.shape, generator=generator(seed), dtype=torch.float64).to(x.dtype)
    found = history(beside, layer, x.dtype, [(None, x, upstream)], **values)
    (used,) = found["calls"]
    expect(used["x"], plain(x), "x after the call: an exercise leaves its inputs as they are;", tol=0)
    got = used["gradient"]
    wants = [exact(x).requires_grad_(), *(value.double().requires_grad_() for value in values.values())]
    (oracle(*wants) * upstream.double()).sum().backward()
    mults, *_ = values.values()
    steep, tall = slope(rows, eps), x.abs().max().double()
    scale = upstream.abs().max() * mults.abs().max() * steep * (1 + steep * tall)
    expect(got is not None, True, f"{call}.backward(...) reaches x")
    expect(got, wants[0].grad.to(x.dtype), f"x.grad after {call}.backward(...)", tol=TOL[x.dtype], scale=scale)
    for (name, _), want in zip(values.items(), wants[1:], strict=True):
        grad = found["gradients"].get(name)
        expect(grad is not None, True, f"{call}.backward(...) reaches {name}")
        scale = upstream.abs().sum() * (1 + steep * tall)
        text = f"{name}.grad after {call}.backward(...)"
        expect(grad.flatten(), want.grad.flatten().to(x.dtype), text, tol=TOL[x.dtype], scale=scale)


def check_same_in_evaluation(beside, layer, x, names):
    """A norm without running statistics gives in evaluation what it gives in training, and keeps nothing of x.

    Returns what it gives in evaluation.
    """
    found = history(beside, layer, x.dtype, [(None, x, None), (False, x, None)])
    expect_names(found["start"], *names)
    expect(", ".join(sorted(found["start"])), ", ".join(sorted(names)), "what is in state_dict()")
    trained, used = found["calls"]
    scale = 1 + trained["y"].detach().abs().max()
    expect(used["y"], trained["y"].detach(), "norm(x) in evaluation, compared with training", scale=scale)
    expect_names(used["state"], *names)
    expect(used["state"], found["start"], "state_dict() after two calls", tol=0)
    return used["y"]


# ---- lerp


@given(ends=pairs(), weight=numbers(0, 1))
def test_lerp_tensors(lerp, ends, weight):
    """lerp lies `weight` of the way from start to end: start + weight * (end - start).

    `weight` is the share of the end, not of the start.
    """
    start, end = ends
    with unchanged(start=start, end=end):
        got = lerp(start, end, weight)
    want = start.double() * (1 - weight) + end.double() * weight
    expect(got, want.to(start.dtype), "lerp(start, end, weight)", scale=start.abs().max() + end.abs().max())


@given(start=numbers(-9, 9), end=numbers(-9, 9), weight=numbers(0, 1))
def test_lerp_floats(lerp, start, end, weight):
    """lerp of Python floats is a Python float: 2 and 10 with weight 0.25 give 4."""
    want = start * (1 - weight) + end * weight
    scale = 1 + abs(start) + abs(end)
    expect(lerp(start, end, weight), want, "lerp(start, end, weight)", tol=1e-12, scale=scale)
    expect(lerp(2.0, 10.0, 0.25), 4.0, "lerp(2.0, 10.0, 0.25)")


@given(ends=pairs())
def test_lerp_ends(lerp, ends):
    """Weight 0 gives the start, weight 1 gives the end."""
    start, end = ends
    scale = start.abs().max() + end.abs().max()
    expect(lerp(start, end, 0.0), start, "lerp(start, end, 0.0)", scale=scale)
    expect(lerp(start, end, 1.0), end, "lerp(start, end, 1.0)", scale=scale)


@given(ends=pairs(), start=numbers(-9, 9), end=numbers(-9, 9), beyond=numbers(0.1, 3))
def test_lerp_extrapolates(lerp, ends, start, end, beyond):
    """A weight outside [0, 1] goes on along the line, past the end or back before the start."""
    for weight in (1 + beyond, -beyond):
        want = start + weight * (end - start)
        expect(lerp(start, end, weight), want, f"lerp(start, end, {weight:g})", scale=40 * (1 + abs(start) + abs(end)))
        one, other = ends
        want = one.double() + weight * (other.double() - one.double())
        scale = 4 * (one.abs().max() + other.abs().max())
        expect(lerp(one, other, weight), want.to(one.dtype), f"lerp(*ends, {weight:g})", scale=scale)


def _written_over(pieces, *, start, end, weights):
    """What is left of start and end when each result is written over, and of a result when the next one is made."""
    for weight in weights:
        pieces.lerp(start, end, weight).fill_(99.0)
    result = pieces.lerp(start, end, 0.5)
    before = result.clone()
    pieces.lerp(end, start, 0.25)
    return {"start": start, "end": end, "result": result, "before": before}


@given(ends=pairs())
def test_lerp_gives_a_new_tensor(lerp, beside, ends):
    """The result is a tensor of its own, also at the ends: writing to it changes neither start nor end."""
    start, end = ends
    got = beside(_written_over, start=start, end=end, weights=[0.0, 1.0, 0.5])
    expect(got["result"], got["before"], "a result, once lerp was called again", tol=0)
    expect(got["start"], start, "start, once the results of lerp(start, end, weight) were written over")
    expect(got["end"], end, "end, once the results of lerp(start, end, weight) were written over")


# ---- layer norm


def _layer_norm(eps):
    return lambda x, mult, add: F.layer_norm(x, x.shape[1:], eps=eps) * mult + add


@pytest.mark.weight(3)
@given(
    x=samples(max_dims=5) | samples(max_dims=2, min_values=1), eps=epsilons(), mult=numbers(-3, 3), add=numbers(-3, 3)
)
def test_layer_norm_value(layer_norm, beside, x, eps, mult, add):
    """Each sample is normalised over all dimensions but the first, by its biased variance plus eps, then times mult
    plus add.

    The divisor is sqrt(variance + eps): eps stands inside the root, and the variance divides by n.
    """
    values = {"mult": torch.tensor(mult), "add": torch.tensor(add)}
    layer = ("LayerNorm", (), {"eps": eps})
    check_output(beside, layer, _layer_norm(eps), x, x.flatten(1), eps, f"LayerNorm(eps={eps})(x)", **values)


@pytest.mark.weight(3)
@given(
    x=samples(max_dims=4),
    eps=epsilons(),
    mult=numbers(-3, 3),
    add=numbers(-3, 3),
    seed=seeds(),
)
def test_layer_norm_gradients(layer_norm, beside, x, eps, mult, add, seed):
    """Gradients reach mult, add and x, and flow through the mean and the variance on their way."""
    values = {"mult": torch.tensor(mult), "add": torch.tensor(add)}
    layer, call = ("LayerNorm", (), {"eps": eps}), f"LayerNorm(eps={eps})(x)"
    check_gradients(beside, layer, _layer_norm(eps), x, x.flatten(1), eps, seed, call, **values)


@given(seed=seeds(), n_filters=st.integers(1, 6), n=st.integers(1, 4), dtype=dtypes())
def test_layer_norm_defaults(layer_norm, beside, seed, n_filters, n, dtype):
    """mult starts at 1, add at 0, and eps is 1e-5; the number of filters may be given and changes nothing."""
    x = normal((n, 4, 3), seed, dtype=dtype, spread=0.004)  # a variance near eps, so that eps shows
    # the second positional argument is eps
    layers = [("LayerNorm", arguments, {}) for arguments in ((), (n_filters,), (n_filters, 1e-4), (n_filters, 0.0))]
    *plainly, other, none = beside(_one_after_the_other, layers=layers, dtype=dtype, x=x)
    want = F.layer_norm(exact(x), (4, 3), eps=1e-5).to(dtype)
    for found, call in zip(plainly, ("LayerNorm()", f"LayerNorm({n_filters})"), strict=True):
        expect_names(found["new"], "mult", "add")
        expect(found["new"]["mult"].flatten(), torch.ones(1), f"mult of {call}")
        expect(found["new"]["add"].flatten(), torch.zeros(1), f"add of {call}")
        expect(found["y"], want, f"{call}(x)", scale=1.0)
    want = F.layer_norm(exact(x), (4, 3), eps=1e-4).to(dtype)
    expect(other["y"], want, f"LayerNorm({n_filters}, 1e-4)(x)", scale=1.0)
    want = F.layer_norm(exact(x), (4, 3), eps=0.0).to(dtype)
    expect(none["y"], want, f"LayerNorm({n_filters}, 0.0)(x)", scale=1.0)


@given(x=samples(max_dims=4), eps=epsilons())
def test_layer_norm_evaluation(layer_norm, beside, x, eps):
    """Training and evaluation are the same: layer norm has two parameters and remembers nothing of its input."""
    got = check_same_in_evaluation(beside, ("LayerNorm", (), {"eps": eps}), x, ("add", "mult"))
    want = _layer_norm(eps)(exact(x), 1, 0).to(x.dtype)
    scale = 1 + slope(x.flatten(1), eps) * x.abs().max()
    expect(got, want, f"LayerNorm(eps={eps})(x) in evaluation", tol=TOL[x.dtype], scale=scale)


# ---- batch norm


def _batch_norm(eps):
    return lambda x, mults, adds: F.batch_norm(x, None, None, mults, adds, training=True, eps=eps)


def _channels(x):
    return x.transpose(0, 1).flatten(1)


def _check_buffers(state, means, variances, x, after):
    """The buffers, flattened, are the given ones (float64), to rounding."""
    expect_names(state, "means", "vars")
    tall = 1 + x.abs().max()
    expect(state["means"].flatten(), means.to(x.dtype), f"means after {after}", tol=TOL[x.dtype], scale=tall)
    expect(state["vars"].flatten(), variances.to(x.dtype), f"vars after {after}", tol=TOL[x.dtype], scale=tall**2)


@pytest.mark.weight(3)
@given(x=images(), mom=numbers(0, 1), eps=epsilons(), mults=per_channel(), adds=per_channel(), means=per_channel())
def test_batch_norm_training(batch_norm, beside, x, mom, eps, mults, adds, means):
    """In training each channel is normalised over N, H and W by the batch's own mean and biased variance, plus eps.

    The divisor is sqrt(variance + eps), eps inside the root. The buffers take no part in it.
    """
    c = x.shape[1]
    layer, buffers = ("BatchNorm", (c,), {"mom": mom, "eps": eps}), {"means": means[:c], "vars": means[:c].abs() + 0.5}
    call, values = f"BatchNorm({c}, mom={mom}, eps={eps})(x) in training", {"mults": mults[:c], "adds": adds[:c]}
    check_output(beside, layer, _batch_norm(eps), x, _channels(x), eps, call, buffers, **values)


@pytest.mark.weight(3)
@given(x=images(), mom=numbers(0, 1), eps=epsilons(), mults=per_channel(), adds=per_channel(), seed=seeds())
def test_batch_norm_gradients(batch_norm, beside, x, mom, eps, mults, adds, seed):
    """In training gradients reach mults, adds and x, and flow through the batch's mean and variance on their way.

    The mean and the variance depend on x. Taken as constants (`detach`, `no_grad`) they leave a wrong gradient
    behind.
    """
    c = x.shape[1]
    layer, call = ("BatchNorm", (c,), {"mom": mom, "eps": eps}), f"BatchNorm({c}, mom={mom}, eps={eps})(x)"
    check_gradients(beside, layer, _batch_norm(eps), x, _channels(x), eps, seed, call, mults=mults[:c], adds=adds[:c])


@pytest.mark.weight(3)
@given(x=images(), mom=numbers(0, 1), eps=epsilons(), means=per_channel(), seed=seeds())
def test_batch_norm_running_statistics(batch_norm, beside, x, mom, eps, means, seed):
    """Each training batch moves the buffers by lerp, with weight mom, towards its mean and its unbiased variance.

    The output is divided by the root of the biased variance (divisor n), but `vars` collects the unbiased one
    (divisor n - 1).
    """
    c = x.shape[1]
    want = [means[:c].double(), means[:c].double().abs() + 0.5]
    batches = [x * factor + factor for factor in (1 + torch.rand(3, generator=generator(seed))).tolist()]
    layer, steps = ("BatchNorm", (c, mom, eps), {}), [(None, batch, None) for batch in batches]
    found = history(beside, layer, x.dtype, steps, means=want[0].clone(), vars=want[1].clone())
    for number, (batch, used) in enumerate(zip(batches, found["calls"], strict=True), start=1):
        F.batch_norm(exact(batch), *want, training=True, momentum=mom, eps=eps)
        _check_buffers(used["state"], *want, batch, f"training batch {number} of BatchNorm({c}, {mom}, {eps})")


@pytest.mark.weight(3)
@given(
    x=tensors(st.tuples(*(st.integers(1, 4) for _ in range(4)))),
    mom=numbers(0.1, 1),
    eps=epsilons(),
    mults=per_channel(),
    adds=per_channel(),
    means=per_channel(),
    seed=seeds(),
)
def test_batch_norm_evaluation(batch_norm, beside, x, mom, eps, mults, adds, means, seed):
    """In evaluation x is normalised by the buffers, plus eps, and nothing changes; a single value per channel is
    welcome.
    """
    c = x.shape[1]
    values = {"mults": mults[:c], "adds": adds[:c], "means": means[:c], "vars": mults[:c].abs() + 0.1}
    upstream = torch.randn(x.shape, generator=generator(seed), dtype=torch.float64).to(x.dtype)
    before, steps = x.clone(), [(False, x, None), (None, x, upstream), (None, plain(x)[:1, :, :1, :1], None)]
    found = history(beside, ("BatchNorm", (c,), {"mom": mom, "eps": eps}), x.dtype, steps, **values)
    first, used, single = found["calls"]
    call = f"BatchNorm({c}, mom={mom}, eps={eps})(x) in evaluation"
    want = exact(x).requires_grad_()
    weights = mults[:c].double(), adds[:c].double()
    expected = F.batch_norm(want, means[:c].double(), values["vars"].double(), *weights, eps=eps)
    (expected * upstream.double()).sum().backward()
    expected = expected.detach().to(x.dtype)
    scale = expected.abs().max() + 40 * (1 + x.abs().max())
    expect(first["x"], before, "x after the call: an exercise leaves its inputs as they are;", tol=0)
    expect(used["y"], expected, call, tol=TOL[x.dtype], scale=scale)
    expect(used["state"], found["start"], "state_dict() after a call in evaluation", tol=0)
    text = f"{call}, of a single value per channel"
    expect(single["y"], expected[:1, :, :1, :1], text, tol=TOL[x.dtype], scale=scale)
    expect(used["gradient"], want.grad.to(x.dtype), f"x.grad after {call}", scale=40.0)


@given(x=images(), mom=numbers(0.1, 1), eps=epsilons())
def test_batch_norm_modes(batch_norm, beside, x, mom, eps):
    """Training, evaluation, training: what a batch leaves in the buffers is what the next evaluation uses.

    Before the first batch they are 0 and 1, and evaluation uses these too.
    """
    c, batches = x.shape[1], (x, 2 * x + 1, x - 3)
    steps = [(False, x, None), *((training, batch, None) for batch in batches for training in (True, False))]
    fresh, *calls = history(beside, ("BatchNorm", (c,), {"mom": mom, "eps": eps}), x.dtype, steps)["calls"]
    means, variances = torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)
    want = F.batch_norm(exact(x), means, variances, eps=eps).to(x.dtype)
    expect(fresh["y"], want, "norm(x) of a new layer in evaluation", tol=TOL[x.dtype], scale=1 + x.abs().max())
    for number, batch in enumerate(batches, start=1):
        trained, evaluated = calls[2 * number - 2], calls[2 * number - 1]
        tall = batch.abs().max()
        scale = 1 + tall * slope(_channels(batch), eps)
        want = F.batch_norm(exact(batch), means, variances, training=True, momentum=mom, eps=eps)
        text = f"norm(batch {number}) in training"
        expect(trained["y"], want.to(x.dtype), text, tol=TOL[x.dtype], scale=scale)
        want = F.batch_norm(exact(batch), means, variances, eps=eps)
        # the buffers' rounding errors are those of tall numbers, divided by the root of the running variance
        scale = want.abs().max() + (1 + tall) ** 2 / (float(variances.min()) + eps) ** 0.5 / min(
            1.0, float(variances.min()) + eps
        )
        text = f"norm(batch {number}) in evaluation, after {number} in training"
        expect(evaluated["y"], want.to(x.dtype), text, tol=TOL[x.dtype], scale=scale)


@given(seed=seeds(), c=st.integers(1, CHANNELS), n=st.integers(1, 3), dtype=dtypes())
def test_batch_norm_defaults(batch_norm, beside, seed, c, n, dtype):
    """mults and vars start at 1, adds and means at 0, for every new layer; mom is 0.1 and eps is 1e-5."""
    x = normal((n, c, 3, 2), seed, dtype=dtype, spread=0.004)  # a variance near eps, so that eps shows
    used, later = beside(_one_after_the_other, layers=[("BatchNorm", (c,), {})] * 2, dtype=dtype, x=x)
    want = [torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)]
    expected = F.batch_norm(exact(x), *want, training=True, momentum=0.1, eps=1e-5).to(dtype)
    expect(used["y"], expected, f"BatchNorm({c})(x) in training", scale=1.0)
    _check_buffers(used["state"], *want, x, f"one training batch of BatchNorm({c})")
    expect_names(later["new"], "mults", "adds", "means", "vars")
    for name, start in (("mults", 1.0), ("adds", 0.0), ("means", 0.0), ("vars", 1.0)):
        expect(later["new"][name].flatten(), torch.full((c,), start), f"{name} of a new BatchNorm({c})")


def _saved_and_loaded(pieces, *, layer, values, x):
    """What a layer that has seen x gives for it once its state is loaded by another one, which then becomes float64."""
    norm, loaded = _new(pieces, layer, torch.float32), _new(pieces, layer, torch.float32)
    parameters, sizes = sorted(dict(norm.named_parameters())), _set(norm, values)
    if len(sizes) < len(values):
        return {"parameters": parameters, "sizes": sizes}
    norm(x)
    saved = _state(norm)
    loaded.load_state_dict(norm.state_dict())
    loaded = loaded.double()
    dtypes = {name: str(value.dtype) for name, value in _state(loaded).items()}
    loaded.eval()
    y = loaded(x.double())
    return {"parameters": parameters, "sizes": sizes, "saved": sorted(saved), "dtypes": dtypes, "y": y}


@given(x=images(), mom=numbers(0.1, 1), eps=epsilons(), mults=per_channel(), adds=per_channel())
def test_batch_norm_state(batch_norm, beside, x, mom, eps, mults, adds):
    """mults and adds are parameters, means and vars are buffers: all four are saved, loaded and moved with the model.

    `register_buffer` makes a tensor part of the state without making it a parameter. A plain attribute is not
    saved, and stays behind when the model moves to another device or float type.
    """
    c, x = x.shape[1], x.float()
    layer, values = ("BatchNorm", (c,), {"mom": mom, "eps": eps}), {"mults": mults[:c], "adds": adds[:c]}
    found = beside(_saved_and_loaded, layer=layer, values=values, x=x)
    expect(", ".join(found["parameters"]), "adds, mults", "names of the parameters")
    expect_sizes(found["sizes"], values)
    expect_names(found["saved"], "mults", "adds", "means", "vars")
    for name in ("mults", "adds", "means", "vars"):
        expect(found["dtypes"][name], "torch.float64", f"dtype of {name} after .double()")
    means, variances = torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)
    F.batch_norm(exact(x), means, variances, training=True, momentum=mom, eps=eps)
    weights = mults[:c].double(), adds[:c].double()
    want = F.batch_norm(exact(x), means, variances, *weights, eps=eps)
    scale = (
        want.abs().max() + (1 + mults.abs().max()) * (1 + x.abs().max()) ** 2 / (float(variances.min()) + eps) ** 1.5
    )
    # what was saved carries float32's rounding errors
    expect(found["y"], want, "loaded(x) in evaluation, after load_state_dict and .double()", tol=1e-5, scale=scale)


def _evaluation_after_training(pieces, *, batch, x, upstream, mom):
    norm = pieces.BatchNorm(x.shape[1], mom=mom).to(x.dtype)
    batch, x = batch.clone().requires_grad_(), x.clone().requires_grad_()
    norm(batch)
    norm.eval()
    (norm(x) * upstream).sum().backward()
    earlier = torch.zeros_like(batch) if batch.grad is None else batch.grad
    return {"gradient of the training batch": earlier, "gradient of x": x.grad}


@given(
    batches=tensors(shapes_of_images(), dtype=torch.float64), shift=numbers(0.5, 2), mom=numbers(0.1, 0.9), seed=seeds()
)
def test_batch_norm_buffers_stay_out_of_the_graph(batch_norm, beside, batches, shift, mom, seed):
    """Buffers carry numbers from one batch to the next, and no gradients: they are moved under no_grad, or detached.

    Otherwise every batch stays in memory for as long as the layer lives, and `backward` runs into batches long
    gone.
    """
    upstream = torch.randn(batches.shape, generator=generator(seed), dtype=torch.float64)
    batches = plain(batches)
    x = plain(batches.flip(0) * shift + shift)
    c = x.shape[1]
    means, variances = torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)
    F.batch_norm(batches, means, variances, training=True, momentum=mom)
    got = beside(_evaluation_after_training, batch=batches, x=x, upstream=upstream, mom=mom)
    slopes = 1 / (variances + 1e-5).sqrt()
    want = {"gradient of the training batch": torch.zeros_like(x), "gradient of x": upstream * slopes[:, None, None]}
    expect(got, want, "norm(batch) in training, then norm(x).backward(...) in evaluation", tol=1e-8, scale=10.0)


@given(c=st.integers(1, CHANNELS), seed=seeds(), mom=numbers(0.1, 1), dtype=dtypes())
def test_batch_norm_refuses_one_value(batch_norm, beside, c, seed, mom, dtype):
    """A training batch with one value per channel raises ValueError and leaves the buffers alone; two values are
    enough.

    One value has no unbiased variance: n - 1 is 0, and the buffers would be nan for ever after.
    """
    x, layer = normal((1, c, 2, 1), seed, dtype=dtype, offset=1.0), ("BatchNorm", (c,), {"mom": mom})
    how = {"layer": layer, "dtype": dtype, "values": {}, "training": True}
    found = beside(_refusals, **how, wrong=[x[:, :, :1]], x=x)
    expect_names(found["before"], "means", "vars")
    text = "norm(x[:, :, :1]) in training, x[:, :, :1] being of shape " + str((1, c, 1, 1))
    refused(found["outcomes"][0], ValueError, text)
    expect(found["after"], found["before"], "state_dict() after the refused batch", tol=0)
    want = [torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)]
    expected = F.batch_norm(exact(x), *want, training=True, momentum=mom)
    scale = 1 + slope(_channels(x), 1e-5) * x.abs().max()
    expect(found["y"], expected.to(dtype), "norm(x) in training", tol=TOL[dtype], scale=scale)
    _check_buffers(found["state"], *want, x, "norm(x) in training")


@given(x=images(min_pixels=2), training=st.booleans(), means=per_channel())
def test_batch_norm_refuses_shapes(batch_norm, beside, x, training, means):
    """x must have four dimensions and as many channels as the layer, else it raises ValueError, also where x would
    broadcast.
    """
    n, c = x.shape[:2]
    buffers = {"means": means[:c], "vars": means[:c].abs() + 0.5}
    wide = torch.cat([x, x[:, :1]], dim=1)
    wrong = {
        "norm(x[:, :, 0, 0]), which is (N, C)": x[:, :, 0, 0],
        "norm(x[0]), which is (C, H, W)": x[0],
        "norm(x[..., 0]), which is (N, C, H)": x[..., 0],
        "norm(x[..., None]), which is (N, C, H, W, 1)": x[..., None],
        "norm(x with one channel more)": wide,
        "norm(x.transpose(0, 1)), which is (C, N, H, W)": x.transpose(0, 1) if n != c else wide,
    }
    if c > 1:
        wrong["norm(x[:, :1]), which has one channel"] = x[:, :1]
    how = {"layer": ("BatchNorm", (c,), {}), "dtype": x.dtype, "values": buffers, "training": training}
    found = beside(_refusals, **how, wrong=list(wrong.values()), x=x)
    expect_sizes(found["sizes"], buffers)
    for call, outcome in zip(wrong, found["outcomes"], strict=True):
        refused(outcome, ValueError, f"{call}, for a BatchNorm({c})")
    expect(found["after"], found["before"], "state_dict() after the refused batches", tol=0)
    want = F.batch_norm(exact(x), *(value.double() for value in buffers.values()), training=training).to(x.dtype)
    scale = want.abs().max() + (2 + slope(_channels(x), 1e-5)) * x.abs().max()
    expect(found["y"], want, f"BatchNorm({c})(x)", tol=TOL[x.dtype], scale=scale)


# ---- instance norm


def _instance_norm(eps):
    return lambda x, mults, adds: F.instance_norm(x, weight=mults, bias=adds, eps=eps)


def _images(x):
    return x.flatten(0, 1).flatten(1)


@pytest.mark.weight(3)
@given(x=images(min_pixels=2), eps=epsilons(), mults=per_channel(), adds=per_channel())
def test_instance_norm_value(instance_norm, beside, x, eps, mults, adds):
    """Each channel of each sample is normalised over H and W, by its biased variance plus eps, then scaled per
    channel.
    """
    c = x.shape[1]
    layer, call = ("InstanceNorm", (c,), {"eps": eps}), f"InstanceNorm({c}, eps={eps})(x)"
    check_output(beside, layer, _instance_norm(eps), x, _images(x), eps, call, mults=mults[:c], adds=adds[:c])


@pytest.mark.weight(3)
@given(x=images(min_pixels=2), eps=epsilons(), mults=per_channel(), adds=per_channel(), seed=seeds())
def test_instance_norm_gradients(instance_norm, beside, x, eps, mults, adds, seed):
    """Gradients reach mults, adds and x, and flow through the mean and the variance on their way."""
    c = x.shape[1]
    layer, call = ("InstanceNorm", (c,), {"eps": eps}), f"InstanceNorm({c}, eps={eps})(x)"
    check_gradients(beside, layer, _instance_norm(eps), x, _images(x), eps, seed, call, mults=mults[:c], adds=adds[:c])


@given(seed=seeds(), c=st.integers(1, CHANNELS), n=st.integers(1, 4), dtype=dtypes())
def test_instance_norm_defaults(instance_norm, beside, seed, c, n, dtype):
    """mults start at 1 and adds at 0, one per channel, and eps is 1e-5."""
    x = normal((n, c, 3, 2), seed, dtype=dtype, spread=0.004)  # a variance near eps, so that eps shows
    layers = [("InstanceNorm", arguments, {}) for arguments in ((c,), (c, 1e-4), (c, 0.0))]
    found, *others = beside(_one_after_the_other, layers=layers, dtype=dtype, x=x)
    expect_names(found["new"], "mults", "adds")
    expect(found["new"]["mults"].flatten(), torch.ones(c), f"mults of a new InstanceNorm({c})")
    expect(found["new"]["adds"].flatten(), torch.zeros(c), f"adds of a new InstanceNorm({c})")
    want = F.instance_norm(exact(x), eps=1e-5).to(dtype)
    expect(found["y"], want, f"InstanceNorm({c})(x)", scale=1.0)
    for other, eps in zip(others, (1e-4, 0.0), strict=True):
        want = F.instance_norm(exact(x), eps=eps).to(dtype)
        expect(other["y"], want, f"InstanceNorm({c}, {eps:g})(x)", scale=1.0)


@given(x=images(min_pixels=2), eps=epsilons())
def test_instance_norm_evaluation(instance_norm, beside, x, eps):
    """Training and evaluation are the same: there are no running statistics."""
    layer = ("InstanceNorm", (x.shape[1],), {"eps": eps})
    got = check_same_in_evaluation(beside, layer, x, ("adds", "mults"))
    scale = 1 + slope(_images(x), eps) * x.abs().max()
    want = F.instance_norm(exact(x), eps=eps).to(x.dtype)
    expect(got, want, "norm(x) in evaluation", tol=TOL[x.dtype], scale=scale)


# ---- group norm


def _group_norm(n_groups, eps):
    return lambda x, mults, adds: F.group_norm(x, n_groups, mults, adds, eps=eps)


def _groups(x, n_groups):
    return x.reshape(len(x) * n_groups, -1)


@st.composite
def grouped(draw):
    """A number of groups, and images whose channels it divides."""
    n_groups, size = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    n, h, w = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    return n_groups, draw(tensors((n, n_groups * size, h, w + 1 if size * h * w == 1 else w)))


def per_grouped_channel():
    return tensors((12,), dtype=torch.float32)


@pytest.mark.weight(3)
@given(groups_and_x=grouped(), eps=epsilons(), mults=per_grouped_channel(), adds=per_grouped_channel())
def test_group_norm_value(group_norm, beside, groups_and_x, eps, mults, adds):
    """Each group of consecutive channels of each sample shares a mean and a biased variance; mults and adds are per
    channel.
    """
    n_groups, x = groups_and_x
    c = x.shape[1]
    layer, call = ("GroupNorm", (n_groups, c), {"eps": eps}), f"GroupNorm({n_groups}, {c}, eps={eps})(x)"
    rows, values = _groups(x, n_groups), {"mults": mults[:c], "adds": adds[:c]}
    check_output(beside, layer, _group_norm(n_groups, eps), x, rows, eps, call, **values)


@pytest.mark.weight(3)
@given(groups_and_x=grouped(), eps=epsilons(), mults=per_grouped_channel(), adds=per_grouped_channel(), seed=seeds())
def test_group_norm_gradients(group_norm, beside, groups_and_x, eps, mults, adds, seed):
    """Gradients reach mults, adds and x, and flow through the mean and the variance on their way."""
    n_groups, x = groups_and_x
    c = x.shape[1]
    layer, call = ("GroupNorm", (n_groups, c), {"eps": eps}), f"GroupNorm({n_groups}, {c}, eps={eps})(x)"
    rows, values = _groups(x, n_groups), {"mults": mults[:c], "adds": adds[:c]}
    check_gradients(beside, layer, _group_norm(n_groups, eps), x, rows, eps, seed, call, **values)


@given(x=images(min_pixels=2), eps=epsilons())
def test_group_norm_extremes(group_norm, beside, x, eps):
    """One group is layer norm over C, H and W; as many groups as channels is instance norm."""
    c = x.shape[1]
    layers = [("GroupNorm", (n_groups, c), {"eps": eps}) for n_groups in (1, c)]
    layer, instance = beside(_one_after_the_other, layers=layers, dtype=x.dtype, x=x)
    want = F.layer_norm(exact(x), x.shape[1:], eps=eps).to(x.dtype)
    scale = 1 + slope(x.flatten(1), eps) * x.abs().max()
    expect(layer["y"], want, f"GroupNorm(1, {c})(x)", tol=TOL[x.dtype], scale=scale)
    want = F.instance_norm(exact(x), eps=eps).to(x.dtype)
    scale = 1 + slope(_images(x), eps) * x.abs().max()
    expect(instance["y"], want, f"GroupNorm({c}, {c})(x)", tol=TOL[x.dtype], scale=scale)


def _made_or_refused(pieces, *, wrong, right, x):
    """What making each of the `wrong` layers raises, and what the `right` one makes of x."""
    outcomes = [_outcome(_new, pieces, layer, x.dtype) for layer in wrong]
    return {"outcomes": outcomes, "y": _new(pieces, right, x.dtype)(x)}


@given(n_groups=st.integers(2, 4), size=st.integers(1, 3), extra=st.integers(1, 3), seed=seeds())
def test_group_norm_refuses_groups(group_norm, beside, n_groups, size, extra, seed):
    """n_groups must divide n_filters, else GroupNorm(n_groups, n_filters) raises ValueError."""
    c, odd = n_groups * size, n_groups * size + min(extra, n_groups - 1)
    x = normal((2, c, 2, 3), seed, offset=1.0)
    wrong, right = [(n_groups, odd), (2 * c, c)], ("GroupNorm", (n_groups, c), {})
    layers = [("GroupNorm", arguments, {}) for arguments in wrong]
    found = beside(_made_or_refused, wrong=layers, right=right, x=x)
    for arguments, outcome in zip(wrong, found["outcomes"], strict=True):
        refused(outcome, ValueError, f"GroupNorm{arguments}")
    want = F.group_norm(exact(x), n_groups).float()
    scale = 1 + slope(_groups(x, n_groups), 1e-5) * x.abs().max()
    expect(found["y"], want, f"GroupNorm({n_groups}, {c})(x)", tol=1e-5, scale=scale)


@given(seed=seeds(), n_groups=st.integers(1, 3), size=st.integers(1, 3), n=st.integers(1, 4), dtype=dtypes())
def test_group_norm_defaults(group_norm, beside, seed, n_groups, size, n, dtype):
    """mults start at 1 and adds at 0, one per channel and not per group, and eps is 1e-5."""
    c = n_groups * size
    x = normal((n, c, 3, 2), seed, dtype=dtype, spread=0.004)  # a variance near eps, so that eps shows
    layers = [("GroupNorm", (n_groups, c, *eps), {}) for eps in ((), (1e-4,), (0.0,))]
    found, *others = beside(_one_after_the_other, layers=layers, dtype=dtype, x=x)
    expect_names(found["new"], "mults", "adds")
    expect(found["new"]["mults"].flatten(), torch.ones(c), f"mults of a new GroupNorm({n_groups}, {c})")
    expect(found["new"]["adds"].flatten(), torch.zeros(c), f"adds of a new GroupNorm({n_groups}, {c})")
    want = F.group_norm(exact(x), n_groups, eps=1e-5).to(dtype)
    expect(found["y"], want, f"GroupNorm({n_groups}, {c})(x)", scale=1.0)
    for other, eps in zip(others, (1e-4, 0.0), strict=True):
        want = F.group_norm(exact(x), n_groups, eps=eps).to(dtype)
        expect(other["y"], want, f"GroupNorm({n_groups}, {c}, {eps:g})(x)", scale=1.0)


@given(groups_and_x=grouped(), eps=epsilons())
def test_group_norm_evaluation(group_norm, beside, groups_and_x, eps):
    """Training and evaluation are the same: there are no running statistics."""
    n_groups, x = groups_and_x
    layer = ("GroupNorm", (n_groups, x.shape[1]), {"eps": eps})
    got = check_same_in_evaluation(beside, layer, x, ("adds", "mults"))
    scale = 1 + slope(_groups(x, n_groups), eps) * x.abs().max()
    want = F.group_norm(exact(x), n_groups, eps=eps).to(x.dtype)
    expect(got, want, "norm(x) in evaluation", tol=TOL[x.dtype], scale=scale)
