"""The laws of unit 7. Expected values come from PyTorch's own norms and autograd, in float64."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from strategies import dtypes, generator, normal, numbers, pairs, seeds, tensors

from grading.verdict import expect, rejects, unchanged

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
    n, c = draw(st.integers(1, 4)), draw(st.integers(1, max_channels))
    h, w = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return n, c, h, w + 1 if h * w < min_pixels or n * h * w == 1 else w


@st.composite
def shapes_of_samples(draw, max_dims):
    """(N, ...) with two to `max_dims` dimensions and more than one value in a sample."""
    n, *sides, last = draw(st.lists(st.integers(1, 4), min_size=2, max_size=max_dims))
    return n, *sides, last + 1 if math.prod((*sides, last)) == 1 else last


def samples(max_dims):
    """Batches `(N, ...)` of anything."""
    return tensors(shapes_of_samples(max_dims))


def images(**how):
    """Batches `(N, C, H, W)`."""
    return tensors(shapes_of_images(**how))


def plain(x):
    """A copy that is contiguous: where strides are unusual, PyTorch's own batch norm returns wrong gradients."""
    return x.detach().clone(memory_format=torch.contiguous_format)


def exact(x):
    """A contiguous copy in float64."""
    return plain(x).double()


def norm_in(norm, dtype):
    return norm.double() if dtype == torch.float64 else norm


def state_of(norm, *names):
    """A copy of the state_dict, in which `names` must be found."""
    state = {name: value.detach().clone() for name, value in dict(norm.state_dict()).items()}
    missing = [name for name in names if name not in state]
    expect(", ".join(missing) or "none", "none", "what state_dict() lacks")
    return state


def set_values(norm, **values):
    """Sets parameters and buffers by name, whatever shape they are kept in."""
    state = state_of(norm, *values)
    for name, value in values.items():
        expect(state[name].numel(), value.numel(), f"number of values in {name}")
        state[name] = value.to(state[name].dtype).reshape(state[name].shape)
    norm.load_state_dict(state)


def slope(rows, eps):
    """The largest 1 / standard deviation, that of the smallest variance: `rows` has one row per mean and variance."""
    return float(1 / (rows.double().var(1, correction=0) + eps).min().sqrt())


def check_output(norm, oracle, x, rows, eps, call, **values):
    """norm(x) with the parameters `values` is what `oracle` computes in float64, and x stays as it is."""
    set_values(norm, **values)
    with unchanged(x=x):
        got = norm(x)
    want = oracle(exact(x), *(value.double() for value in values.values()))
    mults, *_ = values.values()
    scale = want.abs().max() + mults.abs().max() * slope(rows, eps) * x.abs().max()
    expect(got, want.to(x.dtype), call, tol=TOL[x.dtype], scale=scale)


def check_gradients(norm, oracle, x, rows, eps, seed, call, **values):
    """A random gradient at the output comes back at x and the parameters `values` as autograd says for `oracle`."""
    set_values(norm, **values)
    upstream = torch.randn(x.shape, generator=generator(seed), dtype=torch.float64).to(x.dtype)
    inputs = plain(x).requires_grad_()
    norm(inputs).backward(upstream)
    wants = [exact(x).requires_grad_(), *(value.double().requires_grad_() for value in values.values())]
    oracle(*wants).backward(upstream.double())
    mults, *_ = values.values()
    steep, tall = slope(rows, eps), x.abs().max().double()
    scale = upstream.abs().max() * mults.abs().max() * steep * (1 + steep * tall)
    expect(inputs.grad is not None, True, f"{call}.backward(...) reaches x")
    expect(inputs.grad, wants[0].grad.to(x.dtype), f"x.grad after {call}.backward(...)", tol=TOL[x.dtype], scale=scale)
    for (name, _), want in zip(values.items(), wants[1:], strict=True):
        grad = getattr(norm, name).grad
        expect(grad is not None, True, f"{call}.backward(...) reaches {name}")
        scale = upstream.abs().sum() * (1 + steep * tall)
        text = f"{name}.grad after {call}.backward(...)"
        expect(grad.flatten(), want.grad.flatten().to(x.dtype), text, tol=TOL[x.dtype], scale=scale)


def check_same_in_evaluation(norm, x, names):
    """A norm without running statistics gives in evaluation what it gives in training, and keeps nothing of x."""
    before = state_of(norm, *names)
    expect(", ".join(sorted(before)), ", ".join(sorted(names)), "what is in state_dict()")
    trained = norm(x)
    norm.eval()
    expect(
        norm(x),
        trained.detach(),
        "norm(x) in evaluation, compared with training",
        scale=1 + trained.detach().abs().max(),
    )
    expect(state_of(norm, *names), before, "state_dict() after two calls", tol=0)


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
    expect(lerp(start, end, weight), want, "lerp(start, end, weight)", scale=1 + abs(start) + abs(end))
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


# ---- layer norm


def _layer_norm(eps):
    return lambda x, mult, add: F.layer_norm(x, x.shape[1:], eps=eps) * mult + add


@pytest.mark.weight(3)
@given(x=samples(max_dims=5), eps=epsilons(), mult=numbers(-3, 3), add=numbers(-3, 3))
def test_layer_norm_value(layer_norm, x, eps, mult, add):
    """Each sample is normalised over all dimensions but the first, by its biased variance plus eps, then times mult
    plus add.

    The divisor is sqrt(variance + eps): eps stands inside the root, and the variance divides by n.
    """
    values = {"mult": torch.tensor(mult), "add": torch.tensor(add)}
    norm = norm_in(layer_norm(eps=eps), x.dtype)
    check_output(norm, _layer_norm(eps), x, x.flatten(1), eps, f"LayerNorm(eps={eps})(x)", **values)


@pytest.mark.weight(3)
@given(
    x=samples(max_dims=4),
    eps=epsilons(),
    mult=numbers(-3, 3),
    add=numbers(-3, 3),
    seed=seeds(),
)
def test_layer_norm_gradients(layer_norm, x, eps, mult, add, seed):
    """Gradients reach mult, add and x, and flow through the mean and the variance on their way."""
    values = {"mult": torch.tensor(mult), "add": torch.tensor(add)}
    norm = norm_in(layer_norm(eps=eps), x.dtype)
    check_gradients(norm, _layer_norm(eps), x, x.flatten(1), eps, seed, f"LayerNorm(eps={eps})(x)", **values)


@given(seed=seeds(), n_filters=st.integers(1, 6), n=st.integers(1, 4), dtype=dtypes())
def test_layer_norm_defaults(layer_norm, seed, n_filters, n, dtype):
    """mult starts at 1, add at 0, and eps is 1e-5; the number of filters may be given and changes nothing."""
    x = normal((n, 4, 3), seed, dtype=dtype, spread=0.004)  # a variance near eps, so that eps shows
    want = F.layer_norm(exact(x), (4, 3), eps=1e-5).to(dtype)
    for norm, call in ((layer_norm(), "LayerNorm()"), (layer_norm(n_filters), f"LayerNorm({n_filters})")):
        state = state_of(norm, "mult", "add")
        expect(state["mult"].flatten(), torch.ones(1), f"mult of {call}")
        expect(state["add"].flatten(), torch.zeros(1), f"add of {call}")
        expect(norm_in(norm, dtype)(x), want, f"{call}(x)", scale=1.0)
    # the second positional argument is eps
    want = F.layer_norm(exact(x), (4, 3), eps=1e-4).to(dtype)
    expect(norm_in(layer_norm(n_filters, 1e-4), dtype)(x), want, f"LayerNorm({n_filters}, 1e-4)(x)", scale=1.0)


@given(x=samples(max_dims=4), eps=epsilons())
def test_layer_norm_evaluation(layer_norm, x, eps):
    """Training and evaluation are the same: layer norm has two parameters and remembers nothing of its input."""
    norm = norm_in(layer_norm(eps=eps), x.dtype)
    check_same_in_evaluation(norm, x, ("add", "mult"))
    want = _layer_norm(eps)(exact(x), 1, 0).to(x.dtype)
    scale = 1 + slope(x.flatten(1), eps) * x.abs().max()
    expect(norm(x), want, f"LayerNorm(eps={eps})(x) in evaluation", tol=TOL[x.dtype], scale=scale)


# ---- batch norm


def _batch_norm(eps):
    return lambda x, mults, adds: F.batch_norm(x, None, None, mults, adds, training=True, eps=eps)


def _channels(x):
    return x.transpose(0, 1).flatten(1)


def _check_buffers(norm, means, variances, x, after):
    """The buffers, flattened, are the given ones (float64), to rounding."""
    state = state_of(norm, "means", "vars")
    tall = 1 + x.abs().max()
    expect(state["means"].flatten(), means.to(x.dtype), f"means after {after}", tol=TOL[x.dtype], scale=tall)
    expect(state["vars"].flatten(), variances.to(x.dtype), f"vars after {after}", tol=TOL[x.dtype], scale=tall**2)


@pytest.mark.weight(3)
@given(x=images(), mom=numbers(0, 1), eps=epsilons(), mults=per_channel(), adds=per_channel(), means=per_channel())
def test_batch_norm_training(batch_norm, x, mom, eps, mults, adds, means):
    """In training each channel is normalised over N, H and W by the batch's own mean and biased variance, plus eps.

    The divisor is sqrt(variance + eps), eps inside the root. The buffers take no part in it.
    """
    c = x.shape[1]
    norm = norm_in(batch_norm(c, mom=mom, eps=eps), x.dtype)
    set_values(norm, means=means[:c], vars=means[:c].abs() + 0.5)
    call = f"BatchNorm({c}, mom={mom}, eps={eps})(x) in training"
    check_output(norm, _batch_norm(eps), x, _channels(x), eps, call, mults=mults[:c], adds=adds[:c])


@pytest.mark.weight(3)
@given(x=images(), mom=numbers(0, 1), eps=epsilons(), mults=per_channel(), adds=per_channel(), seed=seeds())
def test_batch_norm_gradients(batch_norm, x, mom, eps, mults, adds, seed):
    """In training gradients reach mults, adds and x, and flow through the batch's mean and variance on their way.

    The mean and the variance depend on x. Taken as constants (`detach`, `no_grad`) they leave a wrong gradient
    behind.
    """
    c = x.shape[1]
    norm = norm_in(batch_norm(c, mom=mom, eps=eps), x.dtype)
    call = f"BatchNorm({c}, mom={mom}, eps={eps})(x)"
    check_gradients(norm, _batch_norm(eps), x, _channels(x), eps, seed, call, mults=mults[:c], adds=adds[:c])


@pytest.mark.weight(3)
@given(x=images(), mom=numbers(0, 1), eps=epsilons(), means=per_channel(), seed=seeds())
def test_batch_norm_running_statistics(batch_norm, x, mom, eps, means, seed):
    """Each training batch moves the buffers by lerp, with weight mom, towards its mean and its unbiased variance.

    The output is divided by the root of the biased variance (divisor n), but `vars` collects the unbiased one
    (divisor n - 1).
    """
    c = x.shape[1]
    norm = norm_in(batch_norm(c, mom, eps), x.dtype)
    want = [means[:c].double(), means[:c].double().abs() + 0.5]
    set_values(norm, means=want[0], vars=want[1])
    step = 1 + torch.rand(3, generator=generator(seed))
    for number, factor in enumerate(step.tolist(), start=1):
        batch = x * factor + factor
        norm(batch)
        F.batch_norm(exact(batch), *want, training=True, momentum=mom, eps=eps)
        _check_buffers(norm, *want, batch, f"training batch {number} of BatchNorm({c}, {mom}, {eps})")


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
def test_batch_norm_evaluation(batch_norm, x, mom, eps, mults, adds, means, seed):
    """In evaluation x is normalised by the buffers, plus eps, and nothing changes; a single value per channel is
    welcome.
    """
    c = x.shape[1]
    norm = norm_in(batch_norm(c, mom=mom, eps=eps), x.dtype)
    values = {"mults": mults[:c], "adds": adds[:c], "means": means[:c], "vars": mults[:c].abs() + 0.1}
    set_values(norm, **values)
    norm.eval()
    before = state_of(norm, *values)
    call = f"BatchNorm({c}, mom={mom}, eps={eps})(x) in evaluation"
    inputs, want = plain(x).requires_grad_(), exact(x).requires_grad_()
    weights = mults[:c].double(), adds[:c].double()
    expected = F.batch_norm(want, means[:c].double(), values["vars"].double(), *weights, eps=eps)
    with unchanged(x=x):
        norm(x)
    got = norm(inputs)
    scale = expected.detach().abs().max() + 40 * (1 + x.abs().max())
    expect(got, expected.detach().to(x.dtype), call, tol=TOL[x.dtype], scale=scale)
    expect(state_of(norm, *values), before, "state_dict() after a call in evaluation", tol=0)
    single = expected.detach()[:1, :, :1, :1].to(x.dtype)
    expect(
        norm(plain(x)[:1, :, :1, :1]), single, f"{call}, of a single value per channel", tol=TOL[x.dtype], scale=scale
    )
    upstream = torch.randn(x.shape, generator=generator(seed), dtype=torch.float64).to(x.dtype)
    got.backward(upstream)
    expected.backward(upstream.double())
    expect(inputs.grad, want.grad.to(x.dtype), f"x.grad after {call}", scale=40.0)


@given(x=images(), mom=numbers(0.1, 1), eps=epsilons())
def test_batch_norm_modes(batch_norm, x, mom, eps):
    """Training, evaluation, training: what a batch leaves in the buffers is what the next evaluation uses."""
    c = x.shape[1]
    norm = norm_in(batch_norm(c, mom=mom, eps=eps), x.dtype)
    means, variances = torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)
    for number, batch in enumerate((x, 2 * x + 1, x - 3), start=1):
        tall = batch.abs().max()
        scale = 1 + tall * slope(_channels(batch), eps)
        want = F.batch_norm(exact(batch), means, variances, training=True, momentum=mom, eps=eps)
        norm.train()
        expect(norm(batch), want.to(x.dtype), f"norm(batch {number}) in training", tol=TOL[x.dtype], scale=scale)
        want = F.batch_norm(exact(batch), means, variances, eps=eps)
        norm.eval()
        # the buffers' rounding errors are those of tall numbers, divided by the root of the running variance
        scale = want.abs().max() + (1 + tall) ** 2 / (float(variances.min()) + eps) ** 0.5 / min(
            1.0, float(variances.min()) + eps
        )
        text = f"norm(batch {number}) in evaluation, after {number} in training"
        expect(norm(batch), want.to(x.dtype), text, tol=TOL[x.dtype], scale=scale)


@given(seed=seeds(), c=st.integers(1, CHANNELS), n=st.integers(1, 3), dtype=dtypes())
def test_batch_norm_defaults(batch_norm, seed, c, n, dtype):
    """mults and vars start at 1, adds and means at 0, for every new layer; mom is 0.1 and eps is 1e-5."""
    x = normal((n, c, 3, 2), seed, dtype=dtype, spread=0.004)  # a variance near eps, so that eps shows
    used = norm_in(batch_norm(c), dtype)
    want = [torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)]
    expected = F.batch_norm(exact(x), *want, training=True, momentum=0.1, eps=1e-5).to(dtype)
    expect(used(x), expected, f"BatchNorm({c})(x) in training", scale=1.0)
    _check_buffers(used, *want, x, f"one training batch of BatchNorm({c})")
    state = state_of(batch_norm(c), "mults", "adds", "means", "vars")
    for name, start in (("mults", 1.0), ("adds", 0.0), ("means", 0.0), ("vars", 1.0)):
        expect(state[name].flatten(), torch.full((c,), start), f"{name} of a new BatchNorm({c})")


@given(x=images(), mom=numbers(0.1, 1), eps=epsilons(), mults=per_channel(), adds=per_channel())
def test_batch_norm_state(batch_norm, x, mom, eps, mults, adds):
    """mults and adds are parameters, means and vars are buffers: all four are saved, loaded and moved with the model.

    `register_buffer` makes a tensor part of the state without making it a parameter. A plain attribute is not
    saved, and stays behind when the model moves to another device or float type.
    """
    c = x.shape[1]
    norm = batch_norm(c, mom=mom, eps=eps)
    expect(", ".join(sorted(dict(norm.named_parameters()))), "adds, mults", "names of the parameters")
    set_values(norm, mults=mults[:c], adds=adds[:c])
    x = x.float()
    norm(x)
    means, variances = torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)
    F.batch_norm(exact(x), means, variances, training=True, momentum=mom, eps=eps)
    loaded = batch_norm(c, mom=mom, eps=eps)
    loaded.load_state_dict(state_of(norm, "mults", "adds", "means", "vars"))
    loaded = loaded.double()
    _check_dtype(loaded)
    loaded.eval()
    weights = mults[:c].double(), adds[:c].double()
    want = F.batch_norm(exact(x), means, variances, *weights, eps=eps)
    scale = (
        want.abs().max() + (1 + mults.abs().max()) * (1 + x.abs().max()) ** 2 / (float(variances.min()) + eps) ** 1.5
    )
    # what was saved carries float32's rounding errors
    expect(
        loaded(x.double()), want, "loaded(x) in evaluation, after load_state_dict and .double()", tol=1e-5, scale=scale
    )


def _check_dtype(norm):
    for name, value in state_of(norm, "mults", "adds", "means", "vars").items():
        if name in ("mults", "adds", "means", "vars"):
            expect(str(value.dtype), "torch.float64", f"dtype of {name} after .double()")


def _evaluation_after_training(pieces, *, batch, x, upstream, mom):
    norm = pieces.BatchNorm(x.shape[1], mom=mom).to(x.dtype)
    batch, x = batch.clone().requires_grad_(), x.clone().requires_grad_()
    norm(batch)
    norm.eval()
    norm(x).backward(upstream)
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
def test_batch_norm_refuses_one_value(batch_norm, c, seed, mom, dtype):
    """A training batch with one value per channel raises ValueError and leaves the buffers alone; two values are
    enough.

    One value has no unbiased variance: n - 1 is 0, and the buffers would be nan for ever after.
    """
    norm = norm_in(batch_norm(c, mom=mom), dtype)
    x = normal((1, c, 2, 1), seed, dtype=dtype, offset=1.0)
    before = state_of(norm, "means", "vars")
    with rejects(ValueError, "norm(x[:, :, :1]) in training, x[:, :, :1] being of shape " + str((1, c, 1, 1))):
        norm(x[:, :, :1])
    expect(state_of(norm, "means", "vars"), before, "state_dict() after the refused batch", tol=0)
    want = [torch.zeros(c, dtype=torch.float64), torch.ones(c, dtype=torch.float64)]
    expected = F.batch_norm(exact(x), *want, training=True, momentum=mom)
    scale = 1 + slope(_channels(x), 1e-5) * x.abs().max()
    expect(norm(x), expected.to(dtype), "norm(x) in training", tol=TOL[dtype], scale=scale)
    _check_buffers(norm, *want, x, "norm(x) in training")


@given(x=images(min_pixels=2), training=st.booleans(), means=per_channel())
def test_batch_norm_refuses_shapes(batch_norm, x, training, means):
    """x must have four dimensions and as many channels as the layer, else it raises ValueError, also where x would
    broadcast.
    """
    n, c = x.shape[:2]
    norm = norm_in(batch_norm(c), x.dtype)
    buffers = {"means": means[:c], "vars": means[:c].abs() + 0.5}
    set_values(norm, **buffers)
    norm.train(training)
    before = state_of(norm, "means", "vars")
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
    for call, bad in wrong.items():
        with rejects(ValueError, f"{call}, for a BatchNorm({c})"):
            norm(bad)
    expect(state_of(norm, "means", "vars"), before, "state_dict() after the refused batches", tol=0)
    want = F.batch_norm(exact(x), *(value.double() for value in buffers.values()), training=training).to(x.dtype)
    scale = want.abs().max() + (2 + slope(_channels(x), 1e-5)) * x.abs().max()
    expect(norm(x), want, f"BatchNorm({c})(x)", tol=TOL[x.dtype], scale=scale)


# ---- instance norm


def _instance_norm(eps):
    return lambda x, mults, adds: F.instance_norm(x, weight=mults, bias=adds, eps=eps)


def _images(x):
    return x.flatten(0, 1).flatten(1)


@pytest.mark.weight(3)
@given(x=images(min_pixels=2), eps=epsilons(), mults=per_channel(), adds=per_channel())
def test_instance_norm_value(instance_norm, x, eps, mults, adds):
    """Each channel of each sample is normalised over H and W, by its biased variance plus eps, then scaled per
    channel.
    """
    c = x.shape[1]
    norm = norm_in(instance_norm(c, eps=eps), x.dtype)
    call = f"InstanceNorm({c}, eps={eps})(x)"
    check_output(norm, _instance_norm(eps), x, _images(x), eps, call, mults=mults[:c], adds=adds[:c])


@pytest.mark.weight(3)
@given(x=images(min_pixels=2), eps=epsilons(), mults=per_channel(), adds=per_channel(), seed=seeds())
def test_instance_norm_gradients(instance_norm, x, eps, mults, adds, seed):
    """Gradients reach mults, adds and x, and flow through the mean and the variance on their way."""
    c = x.shape[1]
    norm = norm_in(instance_norm(c, eps=eps), x.dtype)
    call = f"InstanceNorm({c}, eps={eps})(x)"
    check_gradients(norm, _instance_norm(eps), x, _images(x), eps, seed, call, mults=mults[:c], adds=adds[:c])


@given(seed=seeds(), c=st.integers(1, CHANNELS), n=st.integers(1, 4), dtype=dtypes())
def test_instance_norm_defaults(instance_norm, seed, c, n, dtype):
    """mults start at 1 and adds at 0, one per channel, and eps is 1e-5."""
    x = normal((n, c, 3, 2), seed, dtype=dtype, spread=0.004)  # a variance near eps, so that eps shows
    norm = instance_norm(c)
    state = state_of(norm, "mults", "adds")
    expect(state["mults"].flatten(), torch.ones(c), f"mults of a new InstanceNorm({c})")
    expect(state["adds"].flatten(), torch.zeros(c), f"adds of a new InstanceNorm({c})")
    want = F.instance_norm(exact(x), eps=1e-5).to(dtype)
    expect(norm_in(norm, dtype)(x), want, f"InstanceNorm({c})(x)", scale=1.0)
    want = F.instance_norm(exact(x), eps=1e-4).to(dtype)
    expect(norm_in(instance_norm(c, 1e-4), dtype)(x), want, f"InstanceNorm({c}, 1e-4)(x)", scale=1.0)


@given(x=images(min_pixels=2), eps=epsilons())
def test_instance_norm_evaluation(instance_norm, x, eps):
    """Training and evaluation are the same: there are no running statistics."""
    norm = norm_in(instance_norm(x.shape[1], eps=eps), x.dtype)
    check_same_in_evaluation(norm, x, ("adds", "mults"))
    scale = 1 + slope(_images(x), eps) * x.abs().max()
    want = F.instance_norm(exact(x), eps=eps).to(x.dtype)
    expect(norm(x), want, "norm(x) in evaluation", tol=TOL[x.dtype], scale=scale)


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
def test_group_norm_value(group_norm, groups_and_x, eps, mults, adds):
    """Each group of consecutive channels of each sample shares a mean and a biased variance; mults and adds are per
    channel.
    """
    n_groups, x = groups_and_x
    c = x.shape[1]
    norm = norm_in(group_norm(n_groups, c, eps=eps), x.dtype)
    call = f"GroupNorm({n_groups}, {c}, eps={eps})(x)"
    rows = _groups(x, n_groups)
    check_output(norm, _group_norm(n_groups, eps), x, rows, eps, call, mults=mults[:c], adds=adds[:c])


@pytest.mark.weight(3)
@given(groups_and_x=grouped(), eps=epsilons(), mults=per_grouped_channel(), adds=per_grouped_channel(), seed=seeds())
def test_group_norm_gradients(group_norm, groups_and_x, eps, mults, adds, seed):
    """Gradients reach mults, adds and x, and flow through the mean and the variance on their way."""
    n_groups, x = groups_and_x
    c = x.shape[1]
    norm = norm_in(group_norm(n_groups, c, eps=eps), x.dtype)
    call = f"GroupNorm({n_groups}, {c}, eps={eps})(x)"
    rows = _groups(x, n_groups)
    check_gradients(norm, _group_norm(n_groups, eps), x, rows, eps, seed, call, mults=mults[:c], adds=adds[:c])


@given(x=images(min_pixels=2), eps=epsilons())
def test_group_norm_extremes(group_norm, x, eps):
    """One group is layer norm over C, H and W; as many groups as channels is instance norm."""
    c = x.shape[1]
    layer, instance = norm_in(group_norm(1, c, eps=eps), x.dtype), norm_in(group_norm(c, c, eps=eps), x.dtype)
    want = F.layer_norm(exact(x), x.shape[1:], eps=eps).to(x.dtype)
    scale = 1 + slope(x.flatten(1), eps) * x.abs().max()
    expect(layer(x), want, f"GroupNorm(1, {c})(x)", tol=TOL[x.dtype], scale=scale)
    want = F.instance_norm(exact(x), eps=eps).to(x.dtype)
    scale = 1 + slope(_images(x), eps) * x.abs().max()
    expect(instance(x), want, f"GroupNorm({c}, {c})(x)", tol=TOL[x.dtype], scale=scale)


@given(n_groups=st.integers(2, 4), size=st.integers(1, 3), extra=st.integers(1, 3), seed=seeds())
def test_group_norm_refuses_groups(group_norm, n_groups, size, extra, seed):
    """n_groups must divide n_filters, else GroupNorm(n_groups, n_filters) raises ValueError."""
    c, odd = n_groups * size, n_groups * size + min(extra, n_groups - 1)
    with rejects(ValueError, f"GroupNorm({n_groups}, {odd})"):
        group_norm(n_groups, odd)
    with rejects(ValueError, f"GroupNorm({2 * c}, {c})"):
        group_norm(2 * c, c)
    x = normal((2, c, 2, 3), seed, offset=1.0)
    want = F.group_norm(exact(x), n_groups).float()
    scale = 1 + slope(_groups(x, n_groups), 1e-5) * x.abs().max()
    expect(group_norm(n_groups, c)(x), want, f"GroupNorm({n_groups}, {c})(x)", tol=1e-5, scale=scale)


@given(seed=seeds(), n_groups=st.integers(1, 3), size=st.integers(1, 3), n=st.integers(1, 4), dtype=dtypes())
def test_group_norm_defaults(group_norm, seed, n_groups, size, n, dtype):
    """mults start at 1 and adds at 0, one per channel and not per group, and eps is 1e-5."""
    c = n_groups * size
    x = normal((n, c, 3, 2), seed, dtype=dtype, spread=0.004)  # a variance near eps, so that eps shows
    norm = group_norm(n_groups, c)
    state = state_of(norm, "mults", "adds")
    expect(state["mults"].flatten(), torch.ones(c), f"mults of a new GroupNorm({n_groups}, {c})")
    expect(state["adds"].flatten(), torch.zeros(c), f"adds of a new GroupNorm({n_groups}, {c})")
    want = F.group_norm(exact(x), n_groups, eps=1e-5).to(dtype)
    expect(norm_in(norm, dtype)(x), want, f"GroupNorm({n_groups}, {c})(x)", scale=1.0)
    want = F.group_norm(exact(x), n_groups, eps=1e-4).to(dtype)
    expect(norm_in(group_norm(n_groups, c, 1e-4), dtype)(x), want, f"GroupNorm({n_groups}, {c}, 1e-4)(x)", scale=1.0)


@given(groups_and_x=grouped(), eps=epsilons())
def test_group_norm_evaluation(group_norm, groups_and_x, eps):
    """Training and evaluation are the same: there are no running statistics."""
    n_groups, x = groups_and_x
    norm = norm_in(group_norm(n_groups, x.shape[1], eps=eps), x.dtype)
    check_same_in_evaluation(norm, x, ("adds", "mults"))
    scale = 1 + slope(_groups(x, n_groups), eps) * x.abs().max()
    want = F.group_norm(exact(x), n_groups, eps=eps).to(x.dtype)
    expect(norm(x), want, "norm(x) in evaluation", tol=TOL[x.dtype], scale=scale)
