"""The laws of unit 6. What a layer puts out after its correction is measured here once more, from weights and
biases alone.

The activations are leaky ReLUs minus a constant, for which the correction settles within some sixty steps even for
the strictest tolerances below.
"""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import dtypes, generator, numbers, seeds
from torch import nn

from grading.verdict import expect

STEPS = 300  # more than any correction below takes


def _descent(parameters, lr):
    """Gradient descent, called as torch's is; making one of torch's would import its compiler first."""
    parameters = list(parameters)

    def step(closure=None):
        loss = None if closure is None else closure()
        with torch.no_grad():
            for p in parameters:
                p -= lr * (0.0 if p.grad is None else p.grad)
        return loss

    def zero_grad(set_to_none=True):
        for p in parameters:
            p.grad = None if set_to_none or p.grad is None else torch.zeros_like(p)

    return SimpleNamespace(param_groups=[{"params": parameters, "lr": lr}], step=step, zero_grad=zero_grad)


def leaks():
    return numbers(0.4, 0.8)


def shifts():
    return numbers(0, 0.5)


def modes():
    """The model is in training, and whichever of its modules are: all in training or none would hide much."""
    return st.tuples(st.just(True), *[st.booleans()] * 4)


def halves(rng, rows, *shape):
    """Normal numbers and their negatives: with few and lopsided ones the correction may go round in circles."""
    half = torch.randn(rows // 2, *shape, generator=rng, dtype=torch.float64)
    return torch.cat([half, -half])


@st.composite
def layers_of_any_kind(draw, images=False):
    dtype, rng = draw(dtypes()), generator(draw(seeds()))
    n_in, n_out = draw(st.integers(2, 5)), draw(st.integers(2, 5))
    size, gain, offset = draw(numbers(0.5, 3)), draw(numbers(0.3, 2)), draw(numbers(-1.5, 1.5))
    kernel = (draw(st.integers(1, 3)), draw(st.integers(1, 3))) if images else ()
    x = halves(rng, 6 if images else 32, n_in, *(side + 2 for side in kernel)) * size + offset
    weight = torch.randn(n_out, n_in, *kernel, generator=rng, dtype=torch.float64) * gain
    bias = torch.randn(n_out, generator=rng, dtype=torch.float64) * 0.3 + 0.4
    return x.to(dtype), weight.to(dtype), bias.to(dtype), draw(leaks()), draw(shifts())


def layers(images=False):
    """A batch, weight and bias of a linear layer or a convolution, and leak and shift of its activation.

    The layer is far from mean 0 and standard deviation 1, and gets there in well under 50 steps; one in 200 does not.
    """
    return layers_of_any_kind(images).filter(lambda layer: steps_to(2 * layer[0], *layer[1:], 1e-4) < 40)


def output(x, weight, bias, leak, sub):
    """What the activation puts out, in float64."""
    x, weight, bias = x.double(), weight.double(), bias.double()
    y = F.linear(x, weight, bias) if weight.ndim == 2 else F.conv2d(x, weight, bias)
    return F.leaky_relu(y, leak) - sub


def mean_and_std(y):
    return y.mean().item(), y.std(correction=0).item()


def steps_to(x, weight, bias, leak, sub, tol):
    """How many corrections it takes; STEPS where those are not enough."""
    weight, bias = weight.double(), bias.double()
    for step in range(STEPS):
        mean, std = mean_and_std(output(x, weight, bias, leak, sub))
        if abs(mean) <= tol and abs(std - 1) <= tol:
            return step
        weight, bias = weight / std, bias - mean
    return STEPS


def check_scale(y, tol, dtype, what):
    """The elements of y have mean 0 and population standard deviation 1, to `tol` and rounding."""
    mean, std = mean_and_std(y)
    allowed = 1.001 * tol + (1e-5 if dtype == torch.float32 else 1e-11)
    expect(mean, 0.0, f"mean of {what}", tol=allowed, scale=1.0)
    expect(std, 1.0, f"standard deviation of {what}", tol=allowed, scale=1.0)


def names_std(message):
    """Whether a message names the standard deviation, in whatever words: std, stdev, standard deviation."""
    return "std" in message.lower() or "deviation" in message.lower()


def check_result(result, y, dtype, what):
    """`result` is the (mean, std) of y, as two Python floats."""
    rounding = 1e-5 if dtype == torch.float32 else 1e-10
    expect(result, list(mean_and_std(y)), what, tol=rounding, scale=1.0)


# ---- what the scenarios share


def _activation(leak, sub):
    """A leaky ReLU of slope `leak`, minus `sub`."""

    class Activation(nn.Module):
        def forward(self, x):
            return F.leaky_relu(x, leak) - sub

    return Activation()


def _linear(weight, bias):
    """A linear layer with these values; without a bias, where that is None."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None).to(weight.dtype)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer


# ---- lsuv_layer


def _layer(pieces, *, x, weight, bias, leak, sub, tol=None, max_iter=None, modes=(True,) * 5, frozen=False, grad=None):
    """lsuv_layer on a layer in the middle of a model: what came of it, and in what state it left the model."""

    class Before(nn.Module):
        def forward(self, x):
            return 2 * x

    class After(nn.Module):
        def forward(self, x):
            return 3 * x + 5

    n_out, n_in = weight.shape[:2]
    has_bias = bias is not None
    layer = (
        nn.Linear(n_in, n_out, has_bias)
        if weight.ndim == 2
        else nn.Conv2d(n_in, n_out, weight.shape[2:], bias=has_bias)
    )
    layer = layer.to(weight.dtype)
    held = [layer.weight, layer.bias] if has_bias else [layer.weight]
    with torch.no_grad():
        for parameter, value in zip(held, (weight, bias), strict=False):
            parameter.copy_(value)
            parameter.grad = None if grad is None else torch.full_like(value, grad)
    layer.weight.requires_grad_(not frozen)
    activation = _activation(leak, sub)
    model = nn.Sequential(Before(), layer, activation, After())
    for module, mode in zip(model.modules(), modes, strict=True):
        module.training = mode
    passes = []
    activation.register_forward_hook(
        lambda module, inputs, output: passes.append(torch.stack([output.mean(), output.std(correction=0)]).detach())
    )
    arguments = {}
    if tol is not None:
        arguments["tol"] = tol
    if max_iter is not None:
        arguments["max_iter"] = max_iter
    given = x.clone()
    raised, message, result = "", "", []
    try:
        result = pieces.lsuv_layer(model, activation, layer, given, **arguments)
    except NotImplementedError:
        raise
    except (RuntimeError, ValueError) as error:
        raised, message = type(error).__name__, str(error)
    parameters = [layer.weight, layer.bias] if has_bias else [layer.weight]
    return {
        "raised": raised,
        "message": message,
        "result": list(result) if isinstance(result, tuple) else result,
        "second pass": passes[1] if len(passes) > 1 else torch.zeros(0),
        "x": given,
        "parameters": [parameter.detach().clone() for parameter in held],
        "parameters of the layer": [parameter.detach().clone() for parameter in parameters],
        "modes": [module.training for module in model.modules()],
        "hooks": [len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()],
        "requires_grad": [parameter.requires_grad for parameter in parameters],
        "in no graph": [parameter.is_leaf for parameter in parameters],
        "gradients": [0.0 if parameter.grad is None else parameter.grad.abs().max().item() for parameter in parameters],
    }


def _through(pieces, *, x, weight, bias, leak, sub, tol=1e-3):
    """lsuv_layer in a model with batch norms, one of them in evaluation, and with a module that works in place; then on
    a model that is act_module itself.
    """
    grads = []

    class Noting(nn.Module):
        def forward(self, x):
            grads.append(torch.is_grad_enabled())
            return F.leaky_relu(x, leak) - sub

    class InPlace(nn.Module):
        def forward(self, x):
            return x.mul_(3).add_(5)

    def norm(channels):
        return nn.BatchNorm1d(channels, momentum=1.0, affine=False).to(weight.dtype)

    first, frozen, last = norm(weight.shape[1]), norm(weight.shape[1]).eval(), norm(weight.shape[0])
    layer, activation, alone = _linear(weight, bias), Noting(), _linear(weight, bias)
    model = nn.Sequential(first, frozen, layer, activation, InPlace(), last)
    whole = nn.Sequential(alone, Noting())
    raised, message, result = "", "", []
    try:
        result = pieces.lsuv_layer(model, activation, layer, x.clone(), tol=tol)
        pieces.lsuv_layer(whole, whole, alone, 2 * x, tol=tol)
    except NotImplementedError:
        raise
    except (RuntimeError, ValueError) as error:
        raised, message = type(error).__name__, str(error)
    return {
        "raised": raised,
        "message": message,
        "result": list(result) if isinstance(result, tuple) else result,
        "parameters": [parameter.detach().clone() for parameter in layer.parameters()],
        "alone": [parameter.detach().clone() for parameter in alone.parameters()],
        "means": [norm.running_mean.clone() for norm in (first, frozen, last)],
        "variances": [norm.running_var.clone() for norm in (first, frozen, last)],
        "gradients": any(grads),
    }


def normalised(x):
    """What a batch norm in training makes of x, in float64."""
    x = x.double()
    return (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt()


def check_worked(got, call):
    # where a first correction leads is no law, but it is what tells one mistake from another
    second = got.get("second pass", torch.zeros(0))
    expect(second, second, f"mean and std of act_module's output in {call}, second pass")
    gave_up = got["raised"] == "RuntimeError" and names_std(got["message"])
    error = "a RuntimeError that names mean and std" if gave_up else f"{got['raised']}: {got['message'][:150]}"
    expect(error if got["raised"] else "nothing", "nothing", f"what {call} raised")


def check_gave_up(got, call):
    # what came back instead, and what is left, tells one mistake from another
    expect(got["result"], got["result"], f"what {call} returned")
    expect(got["parameters"], got["parameters"], f"weight and bias that {call} left")
    expect(got["raised"] or "nothing", "RuntimeError", f"what {call} raised")


def check_traces(got, x, modes=(True,) * 5, frozen=False, grad=None):
    """The model is as it was but for the numbers in weight and bias."""
    many = len(got["parameters"])
    expect(got["modes"], list(modes), "training of the model and its four modules afterwards")
    expect(got["hooks"], [0, 0, 0, 1, 0], "number of hooks on the model and its four modules (one was there before)")
    expect(got["requires_grad"], [not frozen, True][:many], "requires_grad of weight and bias afterwards")
    expect(got["in no graph"], [True, True][:many], "is_leaf of weight and bias afterwards")
    expect(got["gradients"], [grad or 0.0] * many, "gradients of weight and bias afterwards", tol=1e-6, scale=1.0)
    expect(
        got["parameters of the layer"],
        got["parameters"],
        "the layer's parameters, compared with those from before",
        tol=0,
    )
    expect(got["x"], x, "xb afterwards", tol=0)


@pytest.mark.weight(3)
@given(layer=layers(), tol=st.sampled_from((None, 1e-2, 1e-4)))
def test_lsuv_layer_linear(lsuv_layer, beside, layer, tol):
    """Afterwards the output of act_module has mean 0 and standard deviation 1, both to within tol, and they are
    returned.

    The standard deviation is the population's: it divides by n. The pair is measured after the last correction.
    """
    x, weight, bias, leak, sub = layer
    got = beside(_layer, x=x, weight=weight, bias=bias, leak=leak, sub=sub, tol=tol)
    call = f"lsuv_layer(model, act_module, linear, xb{'' if tol is None else f', tol={tol:g}'})"
    check_worked(got, f"{call}")
    y = output(2 * x, *got["parameters"], leak, sub)
    check_scale(y, tol or 1e-3, x.dtype, f"act_module's output after {call}")
    check_result(got["result"], y, x.dtype, call)


@pytest.mark.weight(2)
@given(layer=layers(images=True))
@settings(max_examples=15)
def test_lsuv_layer_convolution(lsuv_layer, beside, layer):
    """A convolution is corrected like a linear layer: mean and standard deviation run over samples, channels and
    positions.
    """
    x, weight, bias, leak, sub = layer
    got = beside(_layer, x=x, weight=weight, bias=bias, leak=leak, sub=sub)
    call = "lsuv_layer(model, act_module, conv, xb)"
    check_worked(got, f"{call}")
    y = output(2 * x, *got["parameters"], leak, sub)
    check_scale(y, 1e-3, x.dtype, f"act_module's output after {call}")
    check_result(got["result"], y, x.dtype, call)


@pytest.mark.weight(2)
@given(layer=layers())
def test_lsuv_layer_corrects_by_two_numbers(lsuv_layer, beside, layer):
    """All weights are divided by one number and all biases shifted by one number; biases are not divided, nor
    weights shifted.

    This is not a normalisation of each channel: their relations to each other are the initialisation's.
    """
    x, weight, bias, leak, sub = layer
    got = beside(_layer, x=x, weight=weight, bias=bias, leak=leak, sub=sub)
    check_worked(got, "lsuv_layer(model, act_module, linear, xb)")
    divided, shifted = got["parameters"]
    expect(float(divided.norm()) > 0, True, "some weights are left")
    want = (weight.double() * float(divided.double().norm() / weight.double().norm())).to(x.dtype)
    expect(divided, want, "weight afterwards, beside the old one divided by a number", tol=1e-5)
    shift = (shifted.double() - bias.double()).mean()
    want = (bias.double() + shift).to(x.dtype)
    scale = 1 + bias.abs().max() + shift.abs()
    expect(shifted, want, "bias afterwards, beside the old one shifted by a number", tol=1e-5, scale=scale)


def half_right(layer):
    """The layer, scaled and shifted so that either its mean or its standard deviation is right to begin with."""
    x, weight, bias, leak, _ = layer
    mean, std = mean_and_std(output(2 * x, weight, bias, leak, 0.0))
    for first_mean, first_std in ((0.0, 0.5), (0.0, 2.0), (-0.5, 1.0), (0.5, 1.0)):
        size = first_std / std
        yield x, weight * size, bias * size, leak, mean * size - first_mean


@given(layer=layers().filter(lambda layer: all(steps_to(2 * x, *rest, 1e-4) < 40 for x, *rest in half_right(layer))))
@settings(max_examples=8)
def test_lsuv_layer_both(lsuv_layer, beside, layer):
    """A right mean is not enough, nor is a right standard deviation: it goes on until both are within tol."""
    scales, dtype = [], layer[0].dtype
    for x, weight, bias, leak, sub in half_right(layer):
        got = beside(_layer, x=x, weight=weight, bias=bias, leak=leak, sub=sub)
        check_worked(got, "lsuv_layer(model, act_module, linear, xb)")
        scales.append(list(mean_and_std(output(2 * x, *got["parameters"], leak, sub))))
    allowed = 1.001e-3 + (1e-5 if dtype == torch.float32 else 1e-11)
    text = "mean and standard deviation afterwards, from (0, 0.5), (0, 2), (-0.5, 1) and (0.5, 1) before,"
    expect(scales, [[0.0, 1.0]] * 4, text, tol=allowed, scale=1.0)


@given(
    layer=layers(),
    modes=modes(),
    frozen=st.booleans(),
    grad=numbers(0.5, 3),
)
def test_lsuv_layer_leaves_no_traces(lsuv_layer, beside, layer, modes, frozen, grad):
    """Weight and bias change in place; hooks, gradients, requires_grad, and the mode of every single module stay as
    they were.

    A model may be in training while a frozen batch norm inside it is not: `model.train()` at the end would change
    that.
    """
    x, weight, bias, leak, sub = layer
    how = {"modes": modes, "frozen": frozen, "grad": grad}
    got = beside(_layer, x=x, weight=weight, bias=bias, leak=leak, sub=sub, **how)
    check_worked(got, "lsuv_layer(model, act_module, linear, xb)")
    check_traces(got, x, **how)
    y = output(2 * x, *got["parameters"], leak, sub)
    check_scale(y, 1e-3, x.dtype, "act_module's output, from the parameters that the layer had before,")


@given(layer=layers().filter(lambda layer: steps_to(normalised(layer[0]), *layer[1:], 1e-4) < 40))
@settings(max_examples=5)
def test_lsuv_layer_runs_the_model(lsuv_layer, beside, layer):
    """xb runs through the whole model, without gradients and in the mode that every module is in; what act_module puts
    out is measured before a later module can change it.

    Batch norms in training move their running statistics, as in every forward pass. act_module may be the model itself.
    """
    x, weight, bias = (t.float() for t in layer[:3])
    leak, sub = layer[3:]
    got = beside(_through, x=x, weight=weight, bias=bias, leak=leak, sub=sub)
    call = (
        "lsuv_layer(model, act_module, linear, xb), with batch norms in training and a module behind act_module that "
    )
    call += "works in place"
    check_worked(got, call)
    z = normalised(x)
    y = output(z / (1 + 1e-5) ** 0.5, *got["parameters"], leak, sub)
    check_scale(y, 1e-3, x.dtype, f"act_module's output after {call}")
    check_result(got["result"], y, x.dtype, call)
    n_in, behind = x.shape[1], 3 * y + 5
    means = [x.double().mean(0), torch.zeros(n_in), behind.mean(0)]
    variances = [x.double().var(0), torch.ones(n_in), behind.var(0)]
    text = "of three batch norms with momentum 1 (in training, in evaluation, in training behind act_module) afterwards"
    for name, want in (("means", means), ("variances", variances)):
        want = [t.float() for t in want]
        expect(got[name], want, f"running {name} {text}", tol=1e-4, scale=max(1 + float(t.max()) for t in want))
    expect(got["gradients"], False, "torch.is_grad_enabled() while act_module runs")
    y = output(2 * x, *got["alone"], leak, sub)
    check_scale(y, 1e-3, x.dtype, "the model's output after lsuv_layer(model, model, linear, xb)")


@given(layer=layers(), modes=modes())
@settings(max_examples=5)
def test_lsuv_layer_needs_no_correction(lsuv_layer, beside, layer, modes):
    """A layer that is within tol is left as it is, and what was measured is returned: abs(std - 1), not the variance,
    is compared with tol.
    """
    (x, weight, bias), (leak, _) = (t.double() for t in layer[:3]), layer[3:]
    mean, std = mean_and_std(output(2 * x, weight, bias, leak, 0.0))
    for size in (0.7, 1.3):
        values = {"x": x, "weight": weight * size / std, "bias": bias * size / std}
        sub = mean * size / std - 0.1
        got = beside(_layer, **values, leak=leak, sub=sub, tol=0.4, modes=modes)
        call = f"lsuv_layer(..., tol=0.4) where mean and standard deviation are 0.1 and {size:g}"
        check_worked(got, call)
        expect(got["parameters"], [values["weight"], values["bias"]], f"weight and bias after {call}", tol=0)
        expect(got["result"], [0.1, size], call, tol=1e-10, scale=1.0)


@given(layer=layers(), modes=modes())
@settings(max_examples=10)
def test_lsuv_layer_needs_a_bias(lsuv_layer, beside, layer, modes):
    """A weight_module without bias raises ValueError before anything changes, also where nothing is to be corrected.

    A forward pass would change something: the running statistics of a batch norm.
    """
    x, weight, bias, leak, sub = layer
    got = beside(_layer, x=x, weight=weight, bias=None, leak=leak, sub=sub, modes=modes)
    expect(
        got["raised"] or "nothing",
        "ValueError",
        "what lsuv_layer(model, act_module, nn.Linear(..., bias=False), xb) raised",
    )
    check_traces(got, x, modes)
    expect(got["parameters"], [weight], "weight afterwards", tol=0)
    got = beside(_through, x=x, weight=weight, bias=None, leak=leak, sub=sub, tol=1e6)
    expect(got["raised"] or "nothing", "ValueError", "what the same call with batch norms and tol=1e6 raised")
    untouched = [torch.zeros(n, dtype=x.dtype) for n in (weight.shape[1], weight.shape[1], weight.shape[0])]
    expect(got["means"], untouched, "running means of the batch norms afterwards", tol=0)
    got = beside(_layer, x=x, weight=weight, bias=bias, leak=leak, sub=sub, modes=modes)
    check_worked(got, "the same call with a bias")
    y = output(2 * x, *got["parameters"], leak, sub)
    check_scale(y, 1e-3, x.dtype, "act_module's output after the same call with a bias")


@pytest.mark.weight(2)
@given(layer=layers(), modes=modes(), grad=numbers(0.5, 3))
@settings(max_examples=15)
def test_lsuv_layer_out_of_reach(lsuv_layer, beside, layer, modes, grad):
    """A plain ReLU, or a dead one, cannot get there: RuntimeError that names mean and std; weight and bias are as
    before.

    ReLU has mean 0 only where all of its output is 0, and then there is no standard deviation to divide by.
    """
    x, weight = layer[:2]
    for kind, bias in (("plain", layer[2]), ("dead", layer[2] - 1000)):
        got = beside(_layer, x=x, weight=weight, bias=bias, leak=0.0, sub=0.0, modes=modes, grad=grad)
        what = f"lsuv_layer(model, a {kind} ReLU, linear, xb)"
        check_gave_up(got, what)
        for word, named in (("mean", "mean" in got["message"].lower()), ("std", names_std(got["message"]))):
            expect(word if named else got["message"][:150], word, f"what the message of {what} names")
        expect(got["parameters"], [weight, bias], f"weight and bias after {what}", tol=0)
        check_traces(got, x, modes, grad=grad)


@given(layer=layers(), modes=modes())
@settings(max_examples=10)
def test_lsuv_layer_counts_its_steps(lsuv_layer, beside, layer, modes):
    """After max_iter steps it gives up, with RuntimeError and the old weights; a larger tol needs fewer steps.

    What was reached by then is not kept: a layer is either right or as it was.
    """
    (x, weight, bias), (leak, sub) = (t.double() for t in layer[:3]), layer[3:]
    strict, loose = 1e-8, 0.2  # strict takes six steps at the very least
    few = steps_to(2 * x, weight, bias, leak, sub, loose)
    values = {"x": x, "weight": weight, "bias": bias, "leak": leak, "sub": sub, "modes": modes}
    got = beside(_layer, **values, tol=strict, max_iter=2)
    check_gave_up(got, f"lsuv_layer(..., tol={strict:g}, max_iter=2)")
    expect(got["parameters"], [weight, bias], "weight and bias after max_iter=2 steps", tol=0)
    check_traces(got, x, modes)
    # without a bend the second correction hits; the first does not, as the products have a mean and the wrong spread
    straight = x - x.mean(0) + weight.sum(0)
    narrow = weight * 2 / mean_and_std(output(2 * straight, weight, 0 * bias, 1.0, 0.0))[1]
    linear = {"x": straight, "weight": narrow, "bias": 0 * bias + 0.4, "leak": 1.0, "sub": 0.0}
    got = beside(_layer, **linear, tol=strict, max_iter=1)
    check_gave_up(got, f"lsuv_layer(..., tol={strict:g}, max_iter=1) of a layer that needs two corrections")
    for tol, steps in ((strict, STEPS), (loose, few + 3)):
        got = beside(_layer, **values, tol=tol, max_iter=steps)
        call = f"lsuv_layer(..., tol={tol:g}, max_iter={steps})"
        check_worked(got, f"{call}")
        y = output(2 * x, *got["parameters"], leak, sub)
        check_scale(y, tol, x.dtype, f"act_module's output after {call}")
        check_result(got["result"], y, x.dtype, call)


# ---- lsuv_init


@st.composite
def networks_of_any_kind(draw, min_layers, max_layers, batches):
    dtype, rng = draw(dtypes()), generator(draw(seeds()))
    widths = draw(st.lists(st.integers(3, 6), min_size=min_layers + 1, max_size=max_layers + 1))
    sizes = draw(st.lists(numbers(0.3, 3), min_size=batches, max_size=batches))
    xs = [halves(rng, 96, widths[0]) * size for size in sizes]
    weights, biases = [], []
    for n_in, n_out in pairwise(widths):
        gain = 0.3 + 2 * torch.rand(1, generator=rng, dtype=torch.float64)
        weights.append(torch.randn(n_out, n_in, generator=rng, dtype=torch.float64) * gain)
        biases.append(torch.randn(n_out, generator=rng, dtype=torch.float64) * 0.3)
    xs, weights, biases = ([t.to(dtype) for t in tensors] for tensors in (xs, weights, biases))
    return xs, weights, biases, draw(leaks()), draw(shifts())


def networks(min_layers=2, max_layers=4, batches=1, left_out=(None,)):
    """Batches, weights and biases of linear layers, and leak and shift of the activation behind each of them.

    Whichever batch is taken, and whichever layer is left out, LSUV settles in well under 50 steps per layer.
    """

    def settled(network):
        xs, *rest = network
        return all(settles(x, *rest, index) for x in xs for index in left_out)

    return networks_of_any_kind(min_layers, max_layers, batches).filter(settled)


def outputs(x, weights, biases, leak, sub):
    """What every activation puts out, in float64."""
    found = []
    for weight, bias in zip(weights, biases, strict=True):
        x = output(x, weight, bias, leak, sub)
        found.append(x)
    return found


def settles(x, weights, biases, leak, sub, left_out=None):
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        weight, bias = weight.double(), bias.double()
        if index != left_out:
            count = steps_to(x, weight, bias, leak, sub, 1e-5)
            if count >= 40:
                return False
            for _ in range(count):
                mean, std = mean_and_std(output(x, weight, bias, leak, sub))
                weight, bias = weight / std, bias - mean
        x = output(x, weight, bias, leak, sub)
    return True


def _network(
    pieces, *, x, weights, biases, leak, sub, chosen, tol=None, frozen=(), turned=False, once=False, norm=False
):
    """lsuv_init on the chosen layers of a network of linear layers and activations.

    The weights of the layers in `frozen` need no gradients; `turned` registers the last layer first; `once` gives the
    pairs as an iterator; `norm` puts a batch norm in training before all layers, in a network in evaluation.
    """

    class Turned(nn.Module):
        def __init__(self, blocks):
            super().__init__()
            self.blocks = nn.ModuleList(blocks[::-1])

        def forward(self, x):
            for index in reversed(range(len(self.blocks))):
                x = self.blocks[index](x)
            return x

    linears = [_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    blocks = [nn.Sequential(linear, _activation(leak, sub)) for linear in linears]
    pairs = [(blocks[index][1], blocks[index][0]) for index in chosen]
    for index in frozen:
        linears[index].weight.requires_grad_(False)
    first = nn.BatchNorm1d(x.shape[1], momentum=1.0, affine=False).to(x.dtype)
    model = Turned(blocks) if turned else nn.Sequential(*([first] if norm else []), *blocks)
    if norm:
        model.eval()
        first.train()
    arguments = {} if tol is None else {"tol": tol}
    raised, result = "", []
    try:
        result = pieces.lsuv_init(model, iter(pairs) if once else pairs, x.clone(), **arguments)
    except RuntimeError as error:
        if isinstance(error, NotImplementedError) or not names_std(str(error)):
            raise
        raised = type(error).__name__
    return {
        "raised": raised,
        "kind": type(result).__name__,
        "result": [list(pair) if isinstance(pair, tuple) else pair for pair in result] if result else result,
        "modes": [module.training for module in (model, first, *blocks)],
        "running mean": first.running_mean.clone(),
        "weights": [linear.weight.detach().clone() for linear in linears],
        "biases": [linear.bias.detach().clone() for linear in linears],
    }


def check_got_there(got):
    expect(got["raised"] or "nothing", "nothing", "what lsuv_init(model, pairs, xb) raised")


@pytest.mark.weight(2)
@given(network=networks())
@settings(max_examples=12)
def test_lsuv_init_every_layer(lsuv_init, beside, network):
    """At the end every layer has mean 0 and standard deviation 1, a frozen one too: the first is corrected first, so
    that no later one is spoilt.
    """
    (x,), weights, biases, leak, sub = network
    every = list(range(len(weights)))
    got = beside(_network, x=x, weights=weights, biases=biases, leak=leak, sub=sub, chosen=every, frozen=[0])
    check_got_there(got)
    for index, y in enumerate(outputs(x, got["weights"], got["biases"], leak, sub)):
        check_scale(y, 1e-3, x.dtype, f"layer {index}'s output after lsuv_init(model, pairs, xb)")


@given(network=networks())
@settings(max_examples=12)
def test_lsuv_init_result(lsuv_init, beside, network):
    """What comes back is the list of every pair's final (mean, std), in the order of the pairs.

    That is the order in which the model uses its layers, and may not be the one in which they were registered. A pair
    that comes twice is in the list twice.
    """
    (x,), weights, biases, leak, sub = network
    chosen = [0, *range(len(weights))]
    got = beside(_network, x=x, weights=weights, biases=biases, leak=leak, sub=sub, chosen=chosen, turned=True)
    check_got_there(got)
    ys = outputs(x, got["weights"], got["biases"], leak, sub)
    want = [list(mean_and_std(ys[index])) for index in chosen]
    rounding = 1e-5 if x.dtype == torch.float32 else 1e-10
    expect(got["kind"], "list", "type of lsuv_init(model, pairs, xb)")
    expect(got["result"], want, "lsuv_init(model, pairs, xb)", tol=rounding, scale=1.0)


@given(network=networks(), tol=st.sampled_from((1e-2, 1e-4, 1e-5)))
def test_lsuv_init_tolerance(lsuv_init, beside, network, tol):
    """tol is how exact every layer must be."""
    ((x,), weights, biases), (leak, sub) = ([t.double() for t in tensors] for tensors in network[:3]), network[3:]
    every = list(range(len(weights)))
    got = beside(_network, x=x, weights=weights, biases=biases, leak=leak, sub=sub, chosen=every, tol=tol)
    check_got_there(got)
    for index, y in enumerate(outputs(x, got["weights"], got["biases"], leak, sub)):
        check_scale(y, tol, x.dtype, f"layer {index}'s output after lsuv_init(model, pairs, xb, tol={tol:g})")


@given(network=networks(min_layers=3, left_out=(0, 1, 2)), left_out=st.integers(0, 2))
@settings(max_examples=12)
def test_lsuv_init_only_pairs(lsuv_init, beside, network, left_out):
    """Only the layers in `pairs` are corrected, which may be any iterable; the others feed them as they are."""
    (x,), weights, biases, leak, sub = network
    chosen = [index for index in range(len(weights)) if index != left_out]
    got = beside(_network, x=x, weights=weights, biases=biases, leak=leak, sub=sub, chosen=chosen, once=True)
    check_got_there(got)
    expect(len(got["result"]), len(chosen), "how many results lsuv_init(model, pairs, xb) returns for an iterator")
    expect(got["weights"][left_out], weights[left_out], f"weight of layer {left_out}, which is in no pair", tol=0)
    expect(got["biases"][left_out], biases[left_out], f"bias of layer {left_out}, which is in no pair", tol=0)
    ys = outputs(x, got["weights"], got["biases"], leak, sub)
    for index in chosen:
        check_scale(ys[index], 1e-3, x.dtype, f"layer {index}'s output after lsuv_init(model, pairs, xb)")


@given(network=networks(max_layers=3).filter(lambda network: settles(normalised(network[0][0]), *network[1:])))
@settings(max_examples=4)
def test_lsuv_init_as_the_model_is(lsuv_init, beside, network):
    """Every module is in the mode that it was in, during the measurements and afterwards."""
    (x,), weights, biases, leak, sub = network
    x, every = x + 1, list(range(len(weights)))
    got = beside(_network, x=x, weights=weights, biases=biases, leak=leak, sub=sub, chosen=every, norm=True)
    check_got_there(got)
    modes = [False, True, *[False] * len(weights)]
    expect(got["modes"], modes, "training of the model, its batch norm and its blocks afterwards")
    text = "running mean of the batch norm, in training and with momentum 1, afterwards"
    expect(got["running mean"], x.mean(0), text, tol=1e-5, scale=1 + x.abs().max())
    for index, y in enumerate(outputs(normalised(x), got["weights"], got["biases"], leak, sub)):
        check_scale(y, 1e-3, x.dtype, f"layer {index}'s output after lsuv_init(model, pairs, xb) with a batch norm")


@given(network=networks(max_layers=2))
@settings(max_examples=4)
def test_lsuv_init_out_of_reach(lsuv_init, beside, network):
    """The RuntimeError of a layer that does not get there comes out, and tol is not loosened for it."""
    (x,), weights, biases, leak, sub = network
    # a plain ReLU with standard deviation 1 and a mean below that
    unit = weights[0] / mean_and_std(output(x, weights[0], 0 * biases[0], 0.0, 0.0))[1]
    values = {"x": x, "weights": [unit, weights[1]], "biases": [0 * biases[0], biases[1]], "chosen": [0]}
    got = beside(_network, **values, leak=0.0, sub=0.0)
    expect(got["raised"] or "nothing", "RuntimeError", "what lsuv_init(model, pairs, xb) raised for a plain ReLU")
    values = {"x": x, "weights": weights, "biases": biases, "chosen": [0]}
    check_got_there(beside(_network, **values, leak=leak, sub=sub))


# ---- LSUVCallback


def _fits(pieces, *, xs, held_out, weights, biases, leak, sub, moved, through_fit):
    """Three fits of one model with one LSUVCallback at learning rate 0, the last by another learner; then one with
    none and one with another callback.
    """

    class Record(pieces.Callback):
        def __init__(self):
            self.seen = []

        def before_batch(self):
            self.seen.append((self.model.training, float(self.batch[0].abs().sum())))

    linears = [_linear(weight, bias) for weight, bias in zip(weights, biases, strict=True)]
    model = nn.Sequential(*(nn.Sequential(linear, _activation(leak, sub)) for linear in linears))
    held = [parameter for linear in linears for parameter in (linear.weight, linear.bias)]

    def values():
        return [parameter.detach().clone() for parameter in held]

    asked = []

    def pairs_of(given):
        asked.append(given is model)
        return [(activation, linear) for linear, activation in given]

    def batches(xs):
        return [(x.clone(), torch.zeros(len(x), weights[-1].shape[0], dtype=x.dtype)) for x in xs]

    dls = pieces.DataLoaders(batches(xs), batches(held_out))
    record, callback = Record(), pieces.LSUVCallback(pairs_of)
    always = [record] if through_fit else [callback, record]
    now = [callback] if through_fit else []
    learner = pieces.TrainLearner(model, dls, lr=0.0, opt_func=_descent, cbs=always)
    learner.fit(1, cbs=now)
    found = {"first": values(), "seen": list(record.seen), "asked": list(asked)}
    found["first of the learner's"] = [parameter.detach().clone() for parameter in learner.model.parameters()]
    with torch.no_grad():
        for parameter in held:
            parameter.add_(moved)
    found["moved"] = values()
    learner.fit(2, cbs=now)
    found["second"], found["seen later"] = values(), record.seen[len(found["seen"]) :]
    pieces.TrainLearner(model, dls, lr=0.0, opt_func=_descent, cbs=[callback]).fit(1)
    found["third"] = values()
    learner = pieces.TrainLearner(model, dls, lr=0.0, opt_func=_descent)
    learner.fit(1)
    learner.fit(1, cbs=[pieces.LSUVCallback(pairs_of)])
    found["another"] = values()
    return found


def check_some_batch(network, parameters, what):
    """For one of the network's batches, every layer has mean 0 and standard deviation 1."""
    (xs, _, _, leak, sub), errors = network, []
    for x in xs:
        scales = [mean_and_std(y) for y in outputs(x, parameters[::2], parameters[1::2], leak, sub)]
        errors.append(max(max(abs(mean), abs(std - 1)) for mean, std in scales))
    text = f"largest abs(mean) or abs(std - 1) of a layer {what}, on the training batch where it is smallest"
    expect(min(errors), 0.0, text, tol=1.02e-3, scale=1.0)


def check_same_model(asked, of_the_learners, held):
    """The learner has the parameters that it had before."""
    # how pairs_of is called is no law, but it tells one mistake from another
    expect(asked, asked, "whether pairs_of was given the learner's model, call by call")
    text = "the parameters of the learner's model after the fit, compared with those from before"
    expect(of_the_learners, held, text, tol=0)


def small_networks():
    """Three training batches and a small network."""
    return networks(max_layers=3, batches=3)


def held_out(xs):
    """Validation batches, unlike all training batches."""
    return [5 * x.flip(0) + 2 for x in xs[:2]]


def fit(beside, network, moved, through_fit):
    xs, weights, biases, leak, sub = network
    values = {"xs": xs, "held_out": held_out(xs), "weights": weights, "biases": biases, "leak": leak, "sub": sub}
    got = beside(_fits, **values, moved=moved, through_fit=through_fit)
    check_same_model(got["asked"], got["first of the learner's"], got["first"])
    return got


@pytest.mark.weight(2)
@given(network=small_networks(), through_fit=st.booleans())
@settings(max_examples=10)
def test_lsuv_callback_initialises(lsuv_callback, beside, network, through_fit):
    """Before the first fit the layers of pairs_of(model) are corrected on a training batch, in place."""
    got = fit(beside, network, 0.0, through_fit)
    check_some_batch(network, got["first"], "after the first fit, at learning rate 0")


@given(network=small_networks(), moved=numbers(0.05, 0.3), through_fit=st.booleans())
@settings(max_examples=10)
def test_lsuv_callback_only_once(lsuv_callback, beside, network, moved, through_fit):
    """A second fit with the same callback leaves the weights alone, however far they have moved, and so does a third
    by another learner.
    """
    got = fit(beside, network, moved, through_fit)
    check_some_batch(network, got["first"], "after the first fit, at learning rate 0")
    expect(got["second"], got["moved"], "weights and biases after the second fit, at learning rate 0", tol=0)
    expect(got["third"], got["moved"], "weights and biases after a third fit, by another learner", tol=0)


@given(network=small_networks(), through_fit=st.booleans())
@settings(max_examples=10)
def test_lsuv_callback_each_its_own(lsuv_callback, beside, network, through_fit):
    """Every callback does it once: that one has done it does not keep another one from it, nor do fits without any."""
    got = fit(beside, network, 0.01, through_fit)
    check_some_batch(network, got["another"], "after a fit with another callback")


@given(network=small_networks(), through_fit=st.booleans())
@settings(max_examples=10)
def test_lsuv_callback_uses_up_no_batch(lsuv_callback, beside, network, through_fit):
    """The first epoch still sees all its batches, and so do all others."""
    got, xs = fit(beside, network, 0.0, through_fit), network[0]
    epoch = [[True, float(x.abs().sum())] for x in xs] + [[False, float(x.abs().sum())] for x in held_out(xs)]
    for seen, want, which in ((got["seen"], epoch, "first fit"), (got["seen later"], 2 * epoch, "second fit")):
        expect(len(seen), len(want), f"number of batches in the {which}")
        text = f"(model.training, xb.abs().sum()) of the batches of the {which}"
        expect([list(pair) for pair in seen], want, text, tol=1e-5, scale=100.0)


def _trained(pieces, *, x, y, weight, bias, leak, sub, lr):
    """One layer after a fit of one batch with an LSUVCallback, for two learning rates: 0 and `lr`."""

    class Batches:
        def __iter__(self):
            yield x.clone(), y.clone(), torch.arange(len(x))

    class Pairs:
        """Leaves the learner x and y of each batch, all that a TrainLearner takes, once LSUV has seen it whole."""

        order = 9

        def before_batch(self):
            self.learn.batch = self.learn.batch[:2]

    found, asked = [], []

    def pairs_of(given):
        asked.append(given is model)
        return [(given[1], given[0])]

    for rate in (0.0, lr):
        model = nn.Sequential(_linear(weight, bias), _activation(leak, sub))
        dls = pieces.DataLoaders(Batches(), [])
        callbacks = [pieces.LSUVCallback(pairs_of), Pairs()]
        learner = pieces.TrainLearner(model, dls, lr=rate, opt_func=_descent, cbs=callbacks)
        learner.fit(1)
        found.append([model[0].weight.detach().clone(), model[0].bias.detach().clone()])
        found.append([parameter.detach().clone() for parameter in learner.model.parameters()])
    return {"still": found[0], "stepped": found[2], "of the learner's": found[1::2], "asked": asked}


@given(layer=layers(), lr=numbers(0.01, 1), seed=seeds())
@settings(max_examples=10)
def test_lsuv_callback_then_trains(lsuv_callback, beside, layer, lr, seed):
    """The fit trains the corrected weights: the optimizer, which already holds the parameters, steps from where LSUV
    left them.

    `dls.train` may be any iterable, and its batches may have more elements than two.
    """
    (x, weight, bias), (leak, sub) = (t.double() for t in layer[:3]), layer[3:]
    y = torch.randn(len(x), len(bias), generator=generator(seed), dtype=torch.float64)
    got = beside(_trained, x=x, y=y, weight=weight, bias=bias, leak=leak, sub=sub, lr=lr)
    still, stepped = got["still"], got["stepped"]
    check_same_model(got["asked"], got["of the learner's"], [still, stepped])
    check_some_batch(([x], weight, bias, leak, sub), still, "after a fit at learning rate 0")
    parameters = [value.clone().requires_grad_() for value in still]
    F.mse_loss(output(x, *parameters, leak, sub), y).backward()
    want = [(value - lr * value.grad).detach() for value in parameters]
    expect(stepped, want, f"weight and bias after one step at learning rate {lr:g} from there", tol=1e-8, scale=10.0)


def _failed(pieces, **values):
    """What the fits of `_trained` raised."""
    try:
        _trained(pieces, **values)
    except NotImplementedError:
        raise
    except RuntimeError as error:
        return type(error).__name__
    return "nothing"


@given(layer=layers(), seed=seeds())
@settings(max_examples=4)
def test_lsuv_callback_out_of_reach(lsuv_callback, beside, layer, seed):
    """The RuntimeError of a layer that does not get there comes out of the fit."""
    x, weight, bias, leak, sub = layer
    y = torch.randn(len(x), len(bias), generator=generator(seed), dtype=torch.float64).to(x.dtype)
    values = {"x": x, "y": y, "weight": weight, "bias": bias, "lr": 0.1}
    got = beside(_failed, **values, leak=0.0, sub=0.0)
    expect(got, "RuntimeError", "what a fit raised where a plain ReLU is behind the layer")
    got = beside(_failed, **values, leak=leak, sub=sub)
    expect(got, "nothing", "what a fit raised where a leaky one is")


def _cancelled(pieces, *, x, y, weight, bias, leak, sub, moved):
    """One layer after a fit with an LSUVCallback that is cancelled after its first batch, and after another fit."""

    class Cancel(pieces.Callback):
        def after_batch(self):
            raise pieces.CancelFitException

    model = nn.Sequential(_linear(weight, bias), _activation(leak, sub))
    held = list(model.parameters())

    def values():
        return [parameter.detach().clone() for parameter in held]

    dls = pieces.DataLoaders([(x.clone(), y.clone())], [])
    callback = pieces.LSUVCallback(lambda given: [(given[1], given[0])])
    learner = pieces.TrainLearner(model, dls, lr=0.0, opt_func=_descent, cbs=[callback])
    learner.fit(1, cbs=[Cancel()])
    found = {"first": values()}
    with torch.no_grad():
        for parameter in held:
            parameter.add_(moved)
    found["moved"] = values()
    learner.fit(1)
    return {**found, "second": values()}


@given(layer=layers(), moved=numbers(0.05, 0.3))
@settings(max_examples=4)
def test_lsuv_callback_cancelled(lsuv_callback, beside, layer, moved):
    """A first fit that was cancelled was the first fit all the same: the second leaves the weights alone."""
    x, weight, bias, leak, sub = layer
    y = torch.zeros(len(x), len(bias), dtype=x.dtype)
    got = beside(_cancelled, x=x, y=y, weight=weight, bias=bias, leak=leak, sub=sub, moved=moved)
    what = "after a fit that was cancelled after its first batch"
    check_some_batch(([x], weight, bias, leak, sub), got["first"], what)
    expect(got["second"], got["moved"], f"weights and biases {what} and a second fit, at learning rate 0", tol=0)
