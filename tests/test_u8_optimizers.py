"""The laws of unit 8. Expected values: closed forms of the averages, in float64, and PyTorch's own optimizers.

An optimizer shares memory with its parameters, so it lives beside the code under test, and what comes back are the
values that the parameters had after each step.
"""

import math
from functools import lru_cache, partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import dtypes, generator, normal, numbers, seeds, tensors
from torch.optim.adamw import adamw as torch_adamw_step
from torch.optim.sgd import sgd as torch_sgd_step

from grading.verdict import Mismatch, expect, show, unchanged

# -- what is drawn


@st.composite
def parameters(draw, max_count=3):
    """One to three tensors of one float type, with shapes of their own, 0-dim among them."""
    dtype = draw(dtypes())
    return [draw(tensors(max_dims=2, max_side=3, dtype=dtype)) for _ in range(draw(st.integers(1, max_count)))]


def gradients(params, steps, seed, size=1.0):
    """For each step a gradient per parameter; they change sign, and their size by up to three orders of magnitude.

    Two decimals, so that a message can be read; `size` then scales all of them.
    """
    return [list(row) for row in _gradients(tuple(p.shape for p in params), params[0].dtype, steps, seed, size)]


# a judge comes by the same numbers twice, when it collects what to ask and when it looks at the answers; the code under
# test is given copies
@lru_cache(1000)
def _gradients(shapes, dtype, steps, seed, size):
    chance, sizes = generator(seed), [math.prod(shape) for shape in shapes]
    # all parameters in one: for tensors as small as these, what costs time is how many operations there are
    entries = torch.randn((steps, sum(sizes)), generator=chance, dtype=torch.float64)
    spreads = 10 ** (1.5 * torch.rand((steps, len(shapes)), generator=chance, dtype=torch.float64) - 0.5)
    entries *= spreads.repeat_interleave(torch.tensor(sizes), 1)
    entries = ((entries * 100).round_() / 100 * size).to(dtype)
    parts = zip(entries.split(sizes, 1), shapes, strict=True)
    return list(zip(*(part.reshape(steps, *shape).unbind() for part, shape in parts), strict=True))


def family(dtype, seed):
    """Five parameters: two of one shape and of equal values, one 0-dim, and two more."""
    twin = normal((2, 3), seed, dtype=dtype)
    return [twin, twin.clone(), *(normal(shape, seed + 1, dtype=dtype) for shape in ((), (3,), (1,)))]


def gaps(seed, steps, size):
    """Which of `size` parameters have a gradient at which step: the first never, the second always, the third late."""
    some = torch.rand((steps, size), generator=generator(seed)) < 0.6
    some[:, 0], some[:, 1], some[: steps // 2, 2], some[-1, 2:] = False, True, False, True
    return some.tolist()


# -- what is expected


def averages(values, beta):
    """All moving averages from 0 over the first dimension: (1 - beta) times the sum of beta^age * value."""
    weights = [(1 - beta) * beta**age for age in range(len(values))]
    return combined([[*weights[step::-1], *[0.0] * (len(values) - step - 1)] for step in range(len(values))], values)


def combined(weights, values):
    """For each step the sum of `values` over all steps, each with its weight of that step."""
    flat = values.double().reshape(len(values), -1)
    return (torch.tensor(weights, dtype=torch.float64) @ flat).reshape(values.shape)


def column(factors, values):
    """`factors`, one per step, shaped so that they multiply `values`."""
    return factors.reshape(-1, *[1] * (values.dim() - 1))


def sgd_directions(grads):
    """What each step of plain SGD follows: the gradient."""
    return grads


def momentum_directions(grads, mom=0.9):
    """The moving average of the gradients, from 0."""
    return averages(grads, mom)


def rmsprop_directions(grads, sqr_mom=0.99, eps=1e-5):
    """Gradients over the root of the average square, which starts at the first one."""
    ages = torch.arange(1, len(grads) + 1, dtype=torch.float64)
    squares = averages(grads**2, sqr_mom) + column(sqr_mom**ages, grads) * grads[0] ** 2
    return grads / (squares.sqrt() + eps)


def adam_directions(grads, beta1=0.9, beta2=0.99, eps=1e-5, counts=None):
    """Debiased averages; `counts` are the steps at which the gradients came, from 1, where these are not all steps."""
    counts = torch.arange(1, len(grads) + 1, dtype=torch.float64) if counts is None else counts
    above = averages(grads, beta1) / column(1 - beta1**counts, grads)
    below = averages(grads**2, beta2) / column(1 - beta2**counts, grads)
    return above / (below.sqrt() + eps)


def path(start, followed, rates, wd=0.0):
    """The values after each step p <- p * (1 - lr * wd) - lr * followed[step], stacked, in float64.

    `rates` are the learning rates of the steps. In closed form: step by step it would be many small operations.
    """
    left, weights, kept, shares = 1.0, [0.0] * len(rates), [], []
    for step, lr in enumerate(rates):
        left *= 1 - lr * wd
        weights = [weight * (1 - lr * wd) for weight in weights]
        weights[step] = lr
        kept.append(left)
        shares.append(weights)
    return column(torch.tensor(kept, dtype=torch.float64), followed) * start.double() - combined(shares, followed)


def walk(start, grads, directions, rates, wd=0.0):
    """The values of one parameter after every step; steps at which its gradient is None leave it alone.

    `directions` maps all its gradients, stacked, to what is followed; `rates` are the learning rates of the steps.
    """
    taken = [step for step, grad in enumerate(grads) if grad is not None]
    followed = torch.zeros((len(grads), *start.shape), dtype=torch.float64)
    if taken:
        followed[taken] = directions(torch.stack([grads[step] for step in taken]).double())
    return path(start, followed, [lr if step in taken else 0.0 for step, lr in enumerate(rates)], wd)


def joined(params, grads):
    """All parameters in one row, and all their gradients in one row per step: the formulas treat entries alike."""
    columns = [torch.stack(column).reshape(len(grads), -1) for column in zip(*grads, strict=True)]
    return torch.cat([p.reshape(-1) for p in params]), torch.cat(columns, 1).double()


def apart(values, params):
    """What has been computed for `joined` parameters, for each of them in its own shape."""
    parts = values.split([p.numel() for p in params], 1)
    return [part.reshape(len(values), *p.shape) for part, p in zip(parts, params, strict=True)]


def walks(params, grads, directions, rates, wd=0.0):
    """`walk` for every parameter, where all have a gradient at every step."""
    start, history = joined(params, grads)
    return apart(path(start, directions(history), rates, wd), params)


def packed(grads):
    """Gradients by step, for `_rows`: of each parameter those that there are in one tensor, and at which steps.

    Few tensors reach the code under test more quickly than many.
    """
    columns = [([grad for grad in column if grad is not None], column) for column in zip(*grads, strict=True)]
    return [(torch.stack(some) if some else None, [grad is not None for grad in column]) for some, column in columns]


def expect_walks(got, want, params, grads, call):
    """Compares the values of each parameter after every step, stacked."""
    for j, values in enumerate(want):
        # a parameter that passes near 0 is rounded where it was largest
        whole = torch.cat([params[j].double()[None], values])
        size = max(1e-3, float(whole.abs().max()))
        try:
            expect(got[j], whole[1:].to(params[j].dtype), call, scale=size)
        except Mismatch:
            # a student reads the first step that differs
            for step, value in enumerate(values):
                past = f", gradients {show([row[j] for row in grads[: step + 1]])}" if step < 3 else ""
                text = f"params[{j}] after {step + 1} step{'s' if step else ''} of {call}, from {show(params[j])}{past}"
                expect(got[j][step], value.to(params[j].dtype), text, scale=size)
            raise


def described(name, how):
    """`Adam(params, lr=0.1, beta1=0.9)`"""
    return f"{name}(params, {', '.join(f'{key}={value:g}' for key, value in how.items())})"


def torch_walks(step, params, grads):
    """What `walks` gives, from the functional form of one of PyTorch's optimizers.

    `step(params, grads, number)` makes one step in place. The classes would have torch import its compiler first.
    """
    params = [p.double().clone() for p in params]
    values = [[] for _ in params]
    for number, row in enumerate(grads):
        step(params, [grad.double() for grad in row], number)
        for mine, p in zip(values, params, strict=True):
            mine.append(p.clone())
    return [torch.stack(mine) for mine in values]


def torch_sgd(lr, wd=0.0):
    """A step of torch.optim.SGD, whose decay belongs to the gradient."""
    plain = {"momentum": 0.0, "dampening": 0.0, "nesterov": False, "maximize": False}

    def step(params, grads, number):
        torch_sgd_step(params, grads, [None] * len(params), weight_decay=wd, lr=lr, **plain)

    return step


def torch_adamw(params, lr, wd, beta1, beta2, eps):
    """A step of torch.optim.AdamW with averages of its own."""
    means, squares = [[torch.zeros_like(p, dtype=torch.float64) for p in params] for _ in range(2)]
    plain = {"amsgrad": False, "maximize": False}

    def step(params, grads, number):
        counts = [torch.tensor(float(number)) for _ in params]
        how = {"beta1": beta1, "beta2": beta2, "lr": lr, "weight_decay": wd, "eps": eps}
        torch_adamw_step(params, grads, means, squares, [], counts, **how, **plain)

    return step


# -- what runs beside the code under test


def _rows(packed):
    """The gradients by step, None where a parameter has none."""
    columns = []
    for stacked, present in packed:
        left = iter(() if stacked is None else stacked)
        columns.append([next(left) if there else None for there in present])
    return zip(*columns, strict=True)


def _histories(values):
    """What was noted of all parameters after each step, stacked for each parameter."""
    return [torch.stack(column) for column in zip(*values, strict=True)]


def _steps(pieces, *, optimizer, how, params, grads, rates):
    """The values of all parameters after every step; a new gradient tensor each time. `how`: by name or by position."""
    params = [p.clone().requires_grad_() for p in params]
    kind = getattr(pieces, optimizer)
    opt = kind(params, **how) if isinstance(how, dict) else kind(params, *how)
    values = []
    for row, lr in zip(_rows(grads), rates, strict=True):
        opt.lr = lr
        for p, grad in zip(params, row, strict=True):
            p.grad = None if grad is None else grad.clone()
        opt.step()
        values.append([p.detach().clone() for p in params])
    return _histories(values)


def _defaults(pieces, *, optimizer, lr, params, grads):
    """The values of all parameters after every step of an optimizer that is given a generator and a learning rate."""
    params = [p.clone().requires_grad_() for p in params]
    opt = getattr(pieces, optimizer)((p for p in params), lr)
    values = []
    for row in _rows(grads):
        for p, grad in zip(params, row, strict=True):
            p.grad = grad.clone()
        opt.step()
        values.append([p.detach().clone() for p in params])
    return _histories(values)


def _in_place(pieces, *, optimizer, how, params, grads):
    """What others see who hold on to a parameter's memory or to its gradient's, which is filled anew for each step."""
    params = [p.clone().requires_grad_() for p in params]
    views, slots = [p.detach() for p in params], [torch.zeros_like(p) for p in params]
    for p, slot in zip(params, slots, strict=True):
        p.grad = slot
    opt = getattr(pieces, optimizer)(params, **how)
    seen, left, own = [], [], []
    for row in _rows(grads):
        for slot, grad in zip(slots, row, strict=True):
            slot.copy_(grad)
        opt.step()
        own.append([p.detach().clone() for p in params])
        seen.append([view.clone() for view in views])
        left.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params])
        opt.zero_grad()
        for p, slot in zip(params, slots, strict=True):
            p.grad = slot
    leaves = [bool(p.requires_grad and p.is_leaf and p.grad_fn is None) for p in params]
    recorded = [(p * 2).requires_grad for p in params]
    found = {"values": _histories(own), "views": _histories(seen), "grads": _histories(left)}
    return {**found, "leaves": leaves, "recorded": recorded}


def _two(pieces, *, optimizer, how, second, params, grads, before):
    """Values while a first optimizer takes `before` steps alone, and then takes turns with a second one."""
    params = [p.clone().requires_grad_() for p in params]
    opts = [getattr(pieces, optimizer)(params, **how)]
    values = []
    for step, row in enumerate(_rows(grads)):
        if step == before:
            opts.append(getattr(pieces, optimizer)(params, **second))
        for p, grad in zip(params, row, strict=True):
            p.grad = grad.clone()
        opts[int(step >= before and (step - before) % 2 == 0)].step()
        values.append([p.detach().clone() for p in params])
    return _histories(values)


# -- the laws that all optimizers share, to be called by their checks


def follows(beside, optimizer, how, directions, params, steps, seed, size=1.0):
    """The values after every step are those of the formula, for a fixed learning rate and no decay."""
    grads, rates = gradients(params, steps, seed, size), [how["lr"]] * steps
    got = beside(_steps, optimizer=optimizer, how=how, params=params, grads=packed(grads), rates=rates)
    expect_walks(got, walks(params, grads, directions, rates), params, grads, described(optimizer, how))


def follows_by_default(beside, optimizer, directions, params, lr, steps, seed):
    """The same with defaults, and a generator of parameters; gradients are so small that the default eps is seen."""
    grads = gradients(params, steps, seed, 1e-4)
    # small parameters, which float32 can still see move
    params = [p * 1e-2 for p in params]
    got = beside(_defaults, optimizer=optimizer, lr=lr, params=params, grads=packed(grads))
    want = walks(params, grads, directions, [lr] * steps)
    expect_walks(got, want, params, grads, f"{optimizer}((p for p in params), {lr:g})")


def decays(beside, optimizer, how, directions, params, steps, seed):
    """Decay is decoupled, comes first, and both it and the step use the learning rate of the moment."""
    grads = gradients(params, steps, seed)
    # a gradient of zero is a gradient: the decay goes on
    grads[-1][-1] = torch.zeros_like(params[-1])
    rates = [how["lr"] * (1, 0.5, 2, 0.25, 1.5)[step % 5] for step in range(steps)]
    got = beside(_steps, optimizer=optimizer, how=how, params=params, grads=packed(grads), rates=rates)
    call = f"{described(optimizer, how)} with opt.lr set to {show(rates)}"
    expect_walks(got, walks(params, grads, directions, rates, how["wd"]), params, grads, call)


def takes_by_position(beside, optimizer, values, directions, params, steps, seed):
    """The values after every step when lr, wd and what the optimizer adds are given without their names."""
    lr, wd = values[:2]
    # a factor of 0 takes the average to a new value that may be far smaller than the old one, and `old + (new - old)`
    # leaves little of that in float32
    params = [p.double() for p in params]
    grads, rates = gradients(params, steps, seed), [lr] * steps
    got = beside(_steps, optimizer=optimizer, how=values, params=params, grads=packed(grads), rates=rates)
    call = f"{optimizer}(params, {', '.join(f'{value:g}' for value in values)})"
    expect_walks(got, walks(params, grads, directions, rates, wd), params, grads, call)


def keeps_apart(beside, optimizer, how, directions, dtype, seed, steps=8):
    """Every parameter has a state of its own, whatever it looks like."""
    params = family(dtype, seed)
    grads, rates = gradients(params, steps, seed), [how["lr"]] * steps
    # the first parameter does not move at first, so that the second meets one that still equals it
    grads[0][0] = torch.zeros_like(params[0])
    got = beside(_steps, optimizer=optimizer, how=how, params=params, grads=packed(grads), rates=rates)
    expect_walks(got, walks(params, grads, directions, rates), params, grads, described(optimizer, how))


def skips(beside, optimizer, how, choices, dtype, seed, steps=8):
    """Parameters without gradient are untouched, decay included, and so is their state.

    `choices` gives the directions that the catalogue allows for gradients at the steps `taken`.
    """
    params = family(dtype, seed)
    present = gaps(seed, steps, len(params))
    grads = [
        [grad if there else None for grad, there in zip(row, some, strict=True)]
        for row, some in zip(gradients(params, steps, seed), present, strict=True)
    ]
    rates = [how["lr"]] * steps
    got = beside(_steps, optimizer=optimizer, how=how, params=params, grads=packed(grads), rates=rates)
    for j, p in enumerate(params):
        mine = [row[j] for row in grads]
        taken = [step for step, grad in enumerate(mine) if grad is not None]
        wants = [walk(p, mine, directions, rates, how["wd"]) for directions in choices(taken)]
        # where the catalogue leaves a choice, the reading that is nearer at the end is the one that is meant
        want = min(wants, key=lambda values: float((values[-1] - got[j][-1]).abs().max()))
        expect_walks([got[j]], [want], [p], [[grad] for grad in mine], described(optimizer, how))


def stays_in_place(beside, optimizer, how, directions, params, steps, seed):
    """Updates reach whoever shares the parameter's memory; gradients and autograd are left alone."""
    grads = gradients(params, steps, seed)
    sent = packed(grads)
    got = beside(_in_place, optimizer=optimizer, how=how, params=params, grads=sent)
    given_grads = [history for history, _ in sent]
    expect(got["grads"], given_grads, "the gradients after each step: a step leaves them as they are;", tol=0)
    want = walks(params, grads, directions, [how["lr"]] * steps, how.get("wd", 0.0))
    call = f"{described(optimizer, how)}, while each gradient tensor is filled anew"
    expect_walks(got["values"], want, params, grads, call)
    expect_walks(got["views"], want, params, grads, f"{call}, seen through a view of the parameter's memory")
    expect(got["leaves"], [True] * len(params), "whether each parameter is still a leaf that requires a gradient")
    expect(got["recorded"], [True] * len(params), "whether autograd records again after the steps")


def starts_fresh(beside, optimizer, how, second, directions, params, before, seed, together=4):
    """A second optimizer on the same parameters knows nothing of the first, and the other way round."""
    steps = before + together
    grads = gradients(params, steps, seed)
    got = beside(_two, optimizer=optimizer, how=how, second=second, params=params, grads=packed(grads), before=before)
    turns = [int(step >= before and (step - before) % 2 == 0) for step in range(steps)]
    start, history = joined(params, grads)
    followed = torch.zeros_like(history)
    for one, hyper in enumerate((how, second)):
        at = [step for step in range(steps) if turns[step] == one]
        followed[at] = hyper["lr"] * directions(history[at], **{k: v for k, v in hyper.items() if k != "lr"})
    want = apart(path(start, followed, [1.0] * steps), params)
    call = f"{described(optimizer, how)}, joined by {described(optimizer, second)} after step {before}, taking turns"
    expect_walks(got, want, params, grads, call)


# -- ema and debias


@given(values=tensors(st.tuples(st.integers(3, 30) | st.integers(100, 200))), beta=numbers(0.05, 0.99))
@pytest.mark.weight(2)
def test_ema_value(ema, values, beta):
    """Each average is beta times the one before plus (1 - beta) times the value, starting from 0."""
    with unchanged(values=values):
        got = ema(values, beta)
    expect(got, averages(values, beta).to(values.dtype), f"ema(values, {beta:g})", scale=values.abs().max())


@given(value=numbers(0.5, 20), beta=numbers(0.3, 0.95), dtype=dtypes())
def test_ema_of_a_constant(ema, value, beta, dtype):
    """The average of a constant climbs from 0, to 1 - beta^n times the constant after n values; zeros lead it back.

    beta is what is *kept* of the average, and 1 - beta what is taken of the new value; the two add up to 1.
    """
    values = torch.tensor([value] * 4 + [0.0] * 6, dtype=dtype)
    climb = value * (1 - beta ** torch.arange(1, 5, dtype=torch.float64))
    want = torch.cat([climb, climb[-1] * beta ** torch.arange(1, 7, dtype=torch.float64)])
    expect(ema(values, beta), want.to(dtype), f"ema(four times {value:g} and six times 0, {beta:g})", scale=value)


@given(values=tensors(st.tuples(st.integers(2, 12))))
def test_ema_without_memory(ema, values):
    """With beta = 0 nothing is kept: the averages are the values."""
    expect(ema(values, 0.0), values.clone(), "ema(values, 0.0)")


@given(avg=tensors(), beta=numbers(0.05, 0.99), i=st.integers(0, 40))
@pytest.mark.weight(2)
def test_debias_value(debias, avg, beta, i):
    """The average is divided by 1 - beta^(i + 1)."""
    with unchanged(avg=avg):
        got = debias(avg, beta, i)
    expect(got, (avg.double() / (1 - beta ** (i + 1))).to(avg.dtype), f"debias(avg, {beta:g}, {i})")


@given(avg=tensors(), beta=numbers(0.05, 0.99))
def test_debias_first_step(debias, avg, beta):
    """Step 0 has seen one value: debiasing (1 - beta) * value gives the value back.

    Steps count from 0 and updates from 1. With the exponent i the first step divides by 0.
    """
    expect(debias((1 - beta) * avg, beta, 0), avg.clone(), f"debias((1 - {beta:g}) * value, {beta:g}, 0)")


@given(value=numbers(0.5, 20), beta=numbers(0.05, 0.99), i=st.integers(0, 40), dtype=dtypes())
def test_debias_of_a_constant(debias, value, beta, i, dtype):
    """The debiased average of a constant is that constant at every step."""
    avg = averages(torch.full((i + 1, 2), value, dtype=torch.float64), beta)[-1].to(dtype)
    call = f"debias(average of {i + 1} times {value:g}, {beta:g}, {i})"
    expect(debias(avg, beta, i), torch.full((2,), value, dtype=dtype), call)


# -- sgd


@given(params=parameters(), lr=numbers(0.01, 2), steps=st.integers(1, 12), seed=seeds())
@pytest.mark.weight(2)
def test_sgd_step(sgd, beside, params, lr, steps, seed):
    """A step moves every parameter against its gradient, by the learning rate times the gradient."""
    grads, rates, how = gradients(params, steps, seed), [lr] * steps, {"lr": lr}
    got = beside(_steps, optimizer="SGD", how=how, params=params, grads=packed(grads), rates=rates)
    want = torch_walks(torch_sgd(lr), params, grads)
    expect_walks(got, want, params, grads, described("SGD", how))


@given(params=parameters(), lr=numbers(0.1, 0.8), wd=numbers(0.2, 1), steps=st.integers(1, 8), seed=seeds())
@settings(max_examples=15)
def test_sgd_decays_first(sgd, beside, params, lr, wd, steps, seed):
    """Each step calls reg_step and then opt_step, both with the learning rate that `lr` has at that moment."""
    decays(beside, "SGD", {"lr": lr, "wd": wd}, sgd_directions, params, steps, seed)


@given(lr=numbers(0.1, 0.8), wd=numbers(0.2, 1), dtype=dtypes(), seed=seeds())
@settings(max_examples=10)
def test_sgd_without_gradient(sgd, beside, lr, wd, dtype, seed):
    """A parameter is untouched while its gradient is None, also by the decay; the others are not kept waiting."""
    skips(beside, "SGD", {"lr": lr, "wd": wd}, lambda taken: [sgd_directions], dtype, seed)


@given(params=parameters(), lr=numbers(0.1, 2), steps=st.integers(1, 4), seed=seeds())
@settings(max_examples=10)
def test_sgd_in_place(sgd, beside, params, lr, steps, seed):
    """A step changes the parameters in place and without a graph, and leaves the gradients as they are."""
    stays_in_place(beside, "SGD", {"lr": lr}, sgd_directions, params, steps, seed)


def _own_parts(pieces, *, how, params, grads):
    """Values after every step of an optimizer with parts of its own: add lr, then follow the sign."""

    class Signs(pieces.SGD):
        def reg_step(self, p):
            p += self.lr

        def opt_step(self, p):
            p *= 1 - self.lr * p.grad.sign()

    params = [p.clone().requires_grad_() for p in params]
    opt, values = Signs(params, **how), []
    for row in _rows(grads):
        for p, grad in zip(params, row, strict=True):
            p.grad = grad.clone()
        opt.step()
        values.append([p.detach().clone() for p in params])
    return _histories(values)


@given(
    params=parameters(),
    lr=numbers(0.1, 0.8),
    wd=st.just(0.0) | numbers(0.2, 1),
    steps=st.integers(1, 5),
    seed=seeds(),
)
@settings(max_examples=10)
def test_sgd_calls_its_parts(sgd, beside, params, lr, wd, steps, seed):
    """`step` leaves the work to `reg_step` and `opt_step`, so a subclass that replaces them takes other steps.

    Momentum, RMSProp and Adam inherit `step` and replace `opt_step` only. Both parts are asked whatever `wd` is.
    """
    grads = gradients(params, steps, seed)
    got = beside(_own_parts, how={"lr": lr, "wd": wd}, params=params, grads=packed(grads))
    want = []
    for j, p in enumerate(params):
        value, values = p.double(), []
        for row in grads:
            value = (value + lr) * (1 - lr * row[j].double().sign())
            values.append(value)
        want.append(torch.stack(values))
    call = f"a subclass of SGD (lr={lr:g}, wd={wd:g}): reg_step adds lr, opt_step multiplies by 1 - lr * sign(grad)"
    expect_walks(got, want, params, grads, call)


def _counts(pieces, *, params, grads, lr):
    """`i` during and after every step, with the gradients cleared in between."""
    during, after = [], []

    class Noting(pieces.SGD):
        def opt_step(self, p):
            during[-1] = self.i

    params = [p.clone().requires_grad_() for p in params]
    opt = Noting(params, lr)
    for row in _rows(grads):
        for p, grad in zip(params, row, strict=True):
            p.grad = None if grad is None else grad.clone()
        during.append(None)
        opt.step()
        after.append(opt.i)
        opt.zero_grad()
    return {"during": during, "after": after}


@given(count=st.integers(1, 4), steps=st.integers(1, 9), lr=numbers(0.1, 1), seed=seeds())
@settings(max_examples=10)
def test_sgd_counts(sgd, beside, count, steps, lr, seed):
    """`i` is the number of steps taken: it grows by one per step, not per parameter, also when none has a gradient.

    It is 0 during the first step, and no business of zero_grad.
    """
    params = [normal((2,), seed)] * count
    grads = gradients(params, steps, seed)
    grads[-1] = [None] * count
    got = beside(_counts, params=params, grads=packed(grads), lr=lr)
    expect(got["after"], list(range(1, steps + 1)), f"opt.i after each of {steps} steps with {count} parameters")
    expect(got["during"], [*range(steps - 1), None], f"opt.i during each of {steps} steps with {count} parameters")


def _cleared(pieces, *, params, before, after, lr):
    """The gradients after zero_grad, and after the next backward; one parameter takes no part in the loss.

    The second one, which tells whoever stops there from whoever clears nothing; then the first.
    """
    result = {"cleared": [], "next": [], "values": []}
    for idle in (1, 0):
        own = [p.clone().requires_grad_() for p in params]
        others = [*own[:idle], *own[idle + 1 :]]
        opt = pieces.SGD((p for p in own), lr)
        opt.zero_grad()
        sum((p * grad).sum() for p, grad in zip(others, before, strict=True)).backward()
        opt.zero_grad()
        result["cleared"].append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in own])
        opt.zero_grad()
        sum((p * grad).sum() for p, grad in zip(others, after, strict=True)).backward()
        result["next"].append([p.grad.clone() for p in others])
        result["values"].append([p.detach() for p in own])
    return result


@given(params=parameters(), lr=numbers(0.1, 1), seed=seeds())
@settings(max_examples=15)
def test_sgd_zero_grad(sgd, beside, params, lr, seed):
    """After zero_grad every gradient is None or zero, and the next backward starts fresh; parameters stay.

    `backward` adds to the gradients that are there. A parameter that took no part in the loss has None, and a loss that
    overflowed leaves gradients that are not finite.
    """
    params = [params[0], params[0], *params[1:], normal((2,), seed, dtype=params[0].dtype)]
    before, after = gradients(params[1:], 2, seed)
    # these two add up to 0, which is not to be taken for no gradient
    before[-1] = torch.tensor([1.0, -1.0], dtype=params[0].dtype)
    before[0] = torch.full_like(before[0], torch.inf)
    got = beside(_cleared, params=params, before=before, after=after, lr=lr)
    zeros = [torch.zeros_like(p) for p in params]
    for number, idle in enumerate(("second", "first")):
        left_out = f"(the loss does without the {idle} parameter)"
        cleared = "the gradients after backward and zero_grad (None counts as zero)"
        expect(got["cleared"][number], zeros, f"{cleared} {left_out}")
        expect(got["next"][number], after, f"the gradients after backward, zero_grad and another backward {left_out}")
        expect(got["values"][number], params, f"the parameters after zero_grad {left_out}", tol=0)


# -- weight_decay


@given(params=parameters(), lr=numbers(0.1, 1), wd=numbers(0.05, 2.5), steps=st.integers(1, 6), seed=seeds())
@pytest.mark.weight(2)
def test_weight_decay_value(weight_decay, beside, params, lr, wd, steps, seed):
    """Where the gradient is zero, a step multiplies the parameter by 1 - lr * wd, for the `lr` of that step."""
    grads = [[torch.zeros_like(p) for p in params]] * steps
    rates = [lr * (1, 0.5, 0.25)[step % 3] for step in range(steps)]
    how = {"lr": lr, "wd": wd}
    got = beside(_steps, optimizer="SGD", how=how, params=params, grads=packed(grads), rates=rates)
    call = f"{described('SGD', how)} with opt.lr set to {show(rates)}"
    expect_walks(got, walks(params, grads, sgd_directions, rates, wd), params, grads, call)


@given(params=parameters(), lr=numbers(0.01, 1), wd=numbers(0.01, 0.9), steps=st.integers(1, 8), seed=seeds())
def test_weight_decay_equals_a_penalty(weight_decay, beside, params, lr, wd, steps, seed):
    """For plain SGD the decay equals the gradient of the penalty wd / 2 * ||p||², added to the loss."""
    grads, rates, how = gradients(params, steps, seed), [lr] * steps, {"lr": lr, "wd": wd}
    got = beside(_steps, optimizer="SGD", how=how, params=params, grads=packed(grads), rates=rates)
    want = torch_walks(torch_sgd(lr, wd), params, grads)
    expect_walks(got, want, params, grads, described("SGD", how))


def _signs(pieces, *, how, params, grads):
    """Values after every step, and gradients, of an optimizer that follows the sign of the gradient."""

    class Signs(pieces.SGD):
        def opt_step(self, p):
            p -= self.lr * p.grad.sign()

    params = [p.clone().requires_grad_() for p in params]
    opt, values, left = Signs(params, **how), [], []
    for row in _rows(grads):
        for p, grad in zip(params, row, strict=True):
            p.grad = grad.clone()
        opt.step()
        values.append([p.detach().clone() for p in params])
        left.append([torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in params])
    return {"values": _histories(values), "grads": _histories(left)}


@given(params=parameters(), lr=numbers(0.1, 1), wd=numbers(0.05, 0.9), steps=st.integers(1, 6), seed=seeds())
@settings(max_examples=15)
def test_weight_decay_is_decoupled(weight_decay, beside, params, lr, wd, steps, seed):
    """The decay acts on the parameter, not on its gradient: what an optimizer makes of the gradient does not change.

    With the penalty's wd * p added to the gradient, an optimizer that rescales gradients rescales the decay too.
    """
    grads, how = gradients(params, steps, seed), {"lr": lr, "wd": wd}
    sent = packed(grads)
    got = beside(_signs, how=how, params=params, grads=sent)
    given_grads = [history for history, _ in sent]
    expect(got["grads"], given_grads, "the gradients after each step: a step leaves them as they are;", tol=0)
    want = walks(params, grads, torch.sign, [lr] * steps, wd)
    call = f"a subclass of SGD (lr={lr:g}, wd={wd:g}) whose opt_step follows the sign of the gradient"
    expect_walks(got["values"], want, params, grads, call)


@given(params=parameters(), lr=numbers(0.1, 1), explicit=st.booleans(), seed=seeds())
@settings(max_examples=15)
def test_weight_decay_is_off_by_default(weight_decay, beside, params, lr, explicit, seed):
    """Without `wd`, or with 0.0, parameters whose gradient is zero keep their values exactly."""
    grads = [[torch.zeros_like(p) for p in params]] * 2
    how = {"lr": lr, "wd": 0.0} if explicit else {"lr": lr}
    got = beside(_steps, optimizer="SGD", how=how, params=params, grads=packed(grads), rates=[lr] * 2)
    want, call = [torch.stack([p] * 2) for p in params], described("SGD", how)
    expect(got, want, f"the parameters after each step of {call} with gradients of zero", tol=0)


@given(params=parameters(), lr=numbers(0.1, 1), wd=numbers(0.05, 0.9), steps=st.integers(1, 4), seed=seeds())
@settings(max_examples=10)
def test_weight_decay_in_place(weight_decay, beside, params, lr, wd, steps, seed):
    """The decay changes the parameter in place and without a graph, and leaves its gradient as it is."""
    stays_in_place(beside, "SGD", {"lr": lr, "wd": wd}, sgd_directions, params, steps, seed)


# -- momentum


@given(params=parameters(), lr=numbers(0.05, 2), mom=numbers(0.1, 0.98), steps=st.integers(3, 25), seed=seeds())
@pytest.mark.weight(3)
def test_momentum_follows_the_average(momentum, beside, params, lr, mom, steps, seed):
    """Each step follows the average of the gradients, avg = mom * avg + (1 - mom) * grad from 0: p -= lr * avg.

    PyTorch's SGD keeps a sum instead, without the factor 1 - mom.
    """
    how = {"lr": lr, "mom": mom}
    follows(beside, "Momentum", how, partial(momentum_directions, mom=mom), params, steps, seed)


@given(params=parameters(max_count=2), lr=numbers(0.1, 1), steps=st.integers(3, 12), seed=seeds())
@settings(max_examples=15)
def test_momentum_defaults(momentum, beside, params, lr, steps, seed):
    """Momentum(params, lr) has mom=0.9 and wd=0.0, and takes any iterable of parameters, also a generator."""
    follows_by_default(beside, "Momentum", momentum_directions, params, lr, steps, seed)


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 0.8),
    wd=numbers(0.2, 1),
    mom=st.just(0.0) | numbers(0.2, 0.8),
    seed=seeds(),
)
@settings(max_examples=10)
def test_momentum_by_position(momentum, beside, params, lr, wd, mom, seed):
    """The arguments are params, lr, wd, mom in this order; with mom = 0 nothing is kept: that is plain SGD."""
    directions = partial(momentum_directions, mom=mom)
    takes_by_position(beside, "Momentum", [lr, wd, mom], directions, params, 4, seed)


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 0.8),
    wd=numbers(0.2, 1),
    steps=st.integers(3, 8),
    seed=seeds(),
    mom=numbers(0.2, 0.98),
)
@settings(max_examples=15)
def test_momentum_decay_is_decoupled(momentum, beside, params, lr, wd, steps, seed, mom):
    """Weight decay shrinks the parameter by lr * wd before the step and stays out of the averages.

    Added to the gradient, it would be carried on by the average. Both use the learning rate of the moment.
    """
    how = {"lr": lr, "wd": wd, "mom": mom}
    decays(beside, "Momentum", how, partial(momentum_directions, mom=mom), params, steps, seed)


@given(lr=numbers(0.1, 1), dtype=dtypes(), seed=seeds(), mom=numbers(0.2, 0.98))
@settings(max_examples=10)
def test_momentum_state_per_parameter(momentum, beside, lr, dtype, seed, mom):
    """Every parameter has an average of its own, also among others of the same shape and values."""
    keeps_apart(beside, "Momentum", {"lr": lr, "mom": mom}, partial(momentum_directions, mom=mom), dtype, seed)


@given(lr=numbers(0.1, 0.8), wd=numbers(0.2, 1), dtype=dtypes(), seed=seeds(), mom=numbers(0.2, 0.98))
@settings(max_examples=10)
def test_momentum_without_gradient(momentum, beside, lr, wd, dtype, seed, mom):
    """A parameter without gradient is untouched, and its averages wait until it has one again."""
    directions = partial(momentum_directions, mom=mom)
    skips(beside, "Momentum", {"lr": lr, "wd": wd, "mom": mom}, lambda taken: [directions], dtype, seed)


@given(
    params=parameters(max_count=2), lr=numbers(0.1, 1), steps=st.integers(3, 6), seed=seeds(), mom=numbers(0.2, 0.98)
)
@settings(max_examples=10)
def test_momentum_in_place(momentum, beside, params, lr, steps, seed, mom):
    """A step changes the parameters in place, leaves the gradients as they are, and keeps no hold on their memory."""
    stays_in_place(
        beside, "Momentum", {"lr": lr, "mom": mom}, partial(momentum_directions, mom=mom), params, steps, seed
    )


@given(
    params=parameters(max_count=2), lr=numbers(0.1, 1), before=st.integers(1, 4), seed=seeds(), mom=numbers(0.2, 0.98)
)
@settings(max_examples=10)
def test_momentum_state_per_optimizer(momentum, beside, params, lr, before, seed, mom):
    """The averages belong to the optimizer: a second one on the same parameters starts fresh."""
    how = {"lr": lr, "mom": mom}
    starts_fresh(beside, "Momentum", how, {"lr": lr / 2, "mom": mom / 2}, momentum_directions, params, before, seed)


# -- rmsprop


@given(
    params=parameters(),
    lr=numbers(0.05, 1),
    sqr_mom=numbers(0.1, 0.995),
    eps=numbers(0.001, 0.1),
    steps=st.integers(3, 25),
    seed=seeds(),
)
@pytest.mark.weight(3)
def test_rmsprop_divides_by_the_root(rmsprop, beside, params, lr, sqr_mom, eps, steps, seed):
    """Each step divides the gradient by sqrt(sqr_avg) + eps, where sqr_avg averages the squares of the gradients."""
    how = {"lr": lr, "sqr_mom": sqr_mom, "eps": eps}
    directions = partial(rmsprop_directions, sqr_mom=sqr_mom, eps=eps)
    follows(beside, "RMSProp", how, directions, params, steps, seed)


@given(params=parameters(), lr=numbers(0.05, 1), sqr_mom=numbers(0.1, 0.995), eps=numbers(0.001, 0.1), seed=seeds())
@settings(max_examples=15)
def test_rmsprop_starts_at_the_first_square(rmsprop, beside, params, lr, sqr_mom, eps, seed):
    """The squared average starts at the first gradient squared: the first step is lr * grad / (abs(grad) + eps).

    From 0, as PyTorch has it, it would be 1 / sqrt(1 - sqr_mom) times as long.
    """
    how = {"lr": lr, "sqr_mom": sqr_mom, "eps": eps}
    follows(beside, "RMSProp", how, lambda grads: grads / (grads.abs() + eps), params, 1, seed)


@given(params=parameters(), lr=numbers(0.05, 1), sqr_mom=numbers(0.5, 0.99), steps=st.integers(3, 10), seed=seeds())
@settings(max_examples=15)
def test_rmsprop_small_gradients(rmsprop, beside, params, lr, sqr_mom, steps, seed):
    """Gradients far below eps move a parameter little: eps = 0.01 is added to the root, not under it."""
    how = {"lr": lr, "sqr_mom": sqr_mom, "eps": 0.01}
    directions = partial(rmsprop_directions, sqr_mom=sqr_mom, eps=0.01)
    follows(beside, "RMSProp", how, directions, params, steps, seed, size=1e-3)


@given(params=parameters(max_count=2), lr=numbers(0.1, 1), steps=st.integers(3, 12), seed=seeds())
@settings(max_examples=15)
def test_rmsprop_defaults(rmsprop, beside, params, lr, steps, seed):
    """RMSProp(params, lr) has sqr_mom=0.99, eps=1e-5 and wd=0.0, and takes any iterable, also a generator."""
    follows_by_default(beside, "RMSProp", rmsprop_directions, params, lr, steps, seed)


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 0.8),
    wd=numbers(0.2, 1),
    sqr_mom=st.just(0.0) | numbers(0.2, 0.8),
    eps=numbers(0.001, 0.1),
    seed=seeds(),
)
@settings(max_examples=10)
def test_rmsprop_by_position(rmsprop, beside, params, lr, wd, sqr_mom, eps, seed):
    """The arguments are params, lr, wd, sqr_mom, eps in this order; with sqr_mom = 0 no earlier square is kept."""
    directions = partial(rmsprop_directions, sqr_mom=sqr_mom, eps=eps)
    takes_by_position(beside, "RMSProp", [lr, wd, sqr_mom, eps], directions, params, 4, seed)


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 0.8),
    wd=numbers(0.2, 1),
    steps=st.integers(3, 8),
    seed=seeds(),
    sqr_mom=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=15)
def test_rmsprop_decay_is_decoupled(rmsprop, beside, params, lr, wd, steps, seed, sqr_mom, eps):
    """Weight decay shrinks the parameter by lr * wd before the step and stays out of the squared averages.

    Added to the gradient, it would be divided by the root. Both use the learning rate of the moment.
    """
    how = {"lr": lr, "wd": wd, "sqr_mom": sqr_mom, "eps": eps}
    decays(beside, "RMSProp", how, partial(rmsprop_directions, sqr_mom=sqr_mom, eps=eps), params, steps, seed)


@given(lr=numbers(0.1, 1), dtype=dtypes(), seed=seeds(), sqr_mom=numbers(0.2, 0.98), eps=numbers(0.001, 0.1))
@settings(max_examples=10)
def test_rmsprop_state_per_parameter(rmsprop, beside, lr, dtype, seed, sqr_mom, eps):
    """Every parameter has a squared average of its own, also among others of the same shape and values."""
    keeps_apart(
        beside,
        "RMSProp",
        {"lr": lr, "sqr_mom": sqr_mom, "eps": eps},
        partial(rmsprop_directions, sqr_mom=sqr_mom, eps=eps),
        dtype,
        seed,
    )


@given(
    lr=numbers(0.1, 0.8),
    wd=numbers(0.2, 1),
    dtype=dtypes(),
    seed=seeds(),
    sqr_mom=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=10)
def test_rmsprop_without_gradient(rmsprop, beside, lr, wd, dtype, seed, sqr_mom, eps):
    """A parameter without gradient is untouched; its squared average starts at its own first gradient, late or not."""
    directions = partial(rmsprop_directions, sqr_mom=sqr_mom, eps=eps)
    skips(
        beside, "RMSProp", {"lr": lr, "wd": wd, "sqr_mom": sqr_mom, "eps": eps}, lambda taken: [directions], dtype, seed
    )


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 1),
    steps=st.integers(3, 6),
    seed=seeds(),
    sqr_mom=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=10)
def test_rmsprop_in_place(rmsprop, beside, params, lr, steps, seed, sqr_mom, eps):
    """A step changes the parameters in place, leaves the gradients as they are, and keeps no hold on their memory."""
    stays_in_place(
        beside,
        "RMSProp",
        {"lr": lr, "sqr_mom": sqr_mom, "eps": eps},
        partial(rmsprop_directions, sqr_mom=sqr_mom, eps=eps),
        params,
        steps,
        seed,
    )


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 1),
    before=st.integers(1, 4),
    seed=seeds(),
    sqr_mom=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=10)
def test_rmsprop_state_per_optimizer(rmsprop, beside, params, lr, before, seed, sqr_mom, eps):
    """The squared averages belong to the optimizer: a second one on the same parameters starts fresh."""
    how = {"lr": lr, "sqr_mom": sqr_mom, "eps": eps}
    starts_fresh(
        beside,
        "RMSProp",
        how,
        {"lr": lr / 2, "sqr_mom": sqr_mom / 2, "eps": eps * 2},
        rmsprop_directions,
        params,
        before,
        seed,
    )


# -- adam


@given(
    params=parameters(),
    lr=numbers(0.05, 1),
    beta1=numbers(0.1, 0.98),
    beta2=numbers(0.1, 0.995),
    eps=numbers(0.001, 0.1),
    steps=st.integers(3, 25),
    seed=seeds(),
)
@pytest.mark.weight(3)
def test_adam_follows_the_ratio(adam, beside, params, lr, beta1, beta2, eps, steps, seed):
    """Each step follows the debiased average over the root of the debiased squared average, plus eps.

    With constant gradients that is the sign alone; these change their sign and size.
    """
    how = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    directions = partial(adam_directions, beta1=beta1, beta2=beta2, eps=eps)
    follows(beside, "Adam", how, directions, params, steps, seed)


@given(
    params=parameters(),
    lr=numbers(0.05, 1),
    beta1=numbers(0.1, 0.95),
    beta2=numbers(0.5, 0.99),
    steps=st.integers(3, 10),
    seed=seeds(),
)
@settings(max_examples=15)
def test_adam_small_gradients(adam, beside, params, lr, beta1, beta2, steps, seed):
    """Gradients far below eps move a parameter little: eps = 0.01 is added to the root, not under it."""
    how = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": 0.01}
    directions = partial(adam_directions, beta1=beta1, beta2=beta2, eps=0.01)
    follows(beside, "Adam", how, directions, params, steps, seed, size=1e-3)


@given(
    params=parameters(),
    lr=numbers(0.05, 1),
    wd=numbers(0, 0.5),
    beta1=numbers(0.1, 0.98),
    beta2=numbers(0.1, 0.995),
    eps=numbers(0.001, 0.1),
    steps=st.integers(3, 15),
    seed=seeds(),
)
@settings(max_examples=15)
def test_adam_agrees_with_adamw(adam, beside, params, lr, wd, beta1, beta2, eps, steps, seed):
    """With the same settings the steps are those of torch.optim.AdamW."""
    how = {"lr": lr, "wd": wd, "beta1": beta1, "beta2": beta2, "eps": eps}
    grads, rates = gradients(params, steps, seed), [lr] * steps
    got = beside(_steps, optimizer="Adam", how=how, params=params, grads=packed(grads), rates=rates)
    want = torch_walks(torch_adamw(params, **how), params, grads)
    expect_walks(got, want, params, grads, described("Adam", how))


@given(params=parameters(max_count=2), lr=numbers(0.1, 1), steps=st.integers(3, 12), seed=seeds())
@settings(max_examples=15)
def test_adam_defaults(adam, beside, params, lr, steps, seed):
    """Adam(params, lr) has beta1=0.9, beta2=0.99, eps=1e-5 and wd=0.0, and takes any iterable, also a generator."""
    follows_by_default(beside, "Adam", adam_directions, params, lr, steps, seed)


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 0.8),
    wd=numbers(0.2, 1),
    betas=st.tuples(st.just(0.0) | numbers(0.2, 0.8), st.just(0.0) | numbers(0.2, 0.8)),
    eps=numbers(0.001, 0.1),
    seed=seeds(),
)
@settings(max_examples=10)
def test_adam_by_position(adam, beside, params, lr, wd, betas, eps, seed):
    """The arguments are params, lr, wd, beta1, beta2, eps in this order; with a beta of 0 nothing earlier is kept."""
    beta1, beta2 = betas
    directions = partial(adam_directions, beta1=beta1, beta2=beta2, eps=eps)
    takes_by_position(beside, "Adam", [lr, wd, beta1, beta2, eps], directions, params, 4, seed)


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 0.8),
    wd=numbers(0.2, 1),
    steps=st.integers(3, 8),
    seed=seeds(),
    beta1=numbers(0.2, 0.98),
    beta2=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=15)
def test_adam_decay_is_decoupled(adam, beside, params, lr, wd, steps, seed, beta1, beta2, eps):
    """Weight decay shrinks the parameter by lr * wd before the step and stays out of the averages.

    Added to the gradient, it would be divided by the root. Both use the learning rate of the moment.
    """
    how = {"lr": lr, "wd": wd, "beta1": beta1, "beta2": beta2, "eps": eps}
    decays(beside, "Adam", how, partial(adam_directions, beta1=beta1, beta2=beta2, eps=eps), params, steps, seed)


@given(
    lr=numbers(0.1, 1),
    dtype=dtypes(),
    seed=seeds(),
    beta1=numbers(0.2, 0.98),
    beta2=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=10)
def test_adam_state_per_parameter(adam, beside, lr, dtype, seed, beta1, beta2, eps):
    """Every parameter has averages of its own, also among others of the same shape and values."""
    keeps_apart(
        beside,
        "Adam",
        {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps},
        partial(adam_directions, beta1=beta1, beta2=beta2, eps=eps),
        dtype,
        seed,
    )


@given(
    lr=numbers(0.1, 0.8),
    wd=numbers(0.2, 1),
    dtype=dtypes(),
    seed=seeds(),
    beta1=numbers(0.2, 0.98),
    beta2=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=10)
def test_adam_without_gradient(adam, beside, lr, wd, dtype, seed, beta1, beta2, eps):
    """A parameter without gradient is untouched, and its averages wait until it has one again."""
    directions = partial(adam_directions, beta1=beta1, beta2=beta2, eps=eps)

    def choices(taken):
        """Debiased by the optimizer's steps, or by the updates that this parameter's averages have had."""
        return [partial(directions, counts=torch.tensor(taken, dtype=torch.float64) + 1), directions]

    skips(beside, "Adam", {"lr": lr, "wd": wd, "beta1": beta1, "beta2": beta2, "eps": eps}, choices, dtype, seed)


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 1),
    steps=st.integers(3, 6),
    seed=seeds(),
    beta1=numbers(0.2, 0.98),
    beta2=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=10)
def test_adam_in_place(adam, beside, params, lr, steps, seed, beta1, beta2, eps):
    """A step changes the parameters in place, leaves the gradients as they are, and keeps no hold on their memory."""
    stays_in_place(
        beside,
        "Adam",
        {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps},
        partial(adam_directions, beta1=beta1, beta2=beta2, eps=eps),
        params,
        steps,
        seed,
    )


@given(
    params=parameters(max_count=2),
    lr=numbers(0.1, 1),
    before=st.integers(1, 4),
    seed=seeds(),
    beta1=numbers(0.2, 0.98),
    beta2=numbers(0.2, 0.98),
    eps=numbers(0.001, 0.1),
)
@settings(max_examples=10)
def test_adam_state_per_optimizer(adam, beside, params, lr, before, seed, beta1, beta2, eps):
    """The averages belong to the optimizer: a second one on the same parameters starts fresh."""
    how = {"lr": lr, "beta1": beta1, "beta2": beta2, "eps": eps}
    starts_fresh(
        beside,
        "Adam",
        how,
        {"lr": lr / 2, "beta1": beta2, "beta2": beta1, "eps": eps * 2},
        adam_directions,
        params,
        before,
        seed,
    )


# -- clipping


def _clipped(pieces, *, clip, grads, limit, once):
    """What `clip` returns, and what it leaves in the gradients, for who holds their memory, and in the parameters."""
    params = [torch.ones(3) if grad is None else torch.ones_like(grad) for grad in grads]
    # of a matrix as a transposed layer would have it: a flattened view of it is a copy
    held = [None if grad is None else grad.T.contiguous().T if grad.dim() == 2 else grad.clone() for grad in grads]
    for p, grad in zip(params, held, strict=True):
        p.requires_grad_().grad = grad
    returned = getattr(pieces, clip)((p for p in params) if once else params, limit)
    return {
        "returned": returned,
        "grads": [p.grad for p in params],
        "held": held,
        "untouched": bool(all((p == 1).all() and p.requires_grad for p in params)),
    }


def clips(beside, clip, grads, limit, want, once=False, tol=None):
    """Calls `clip`, compares what it leaves with `want`, and gives what it returns."""
    got = beside(_clipped, clip=clip, grads=grads, limit=limit, once=once)
    params = "(p for p in params)" if once else "params"
    call = f"after {clip}({params}, {limit:g}), from gradients {show(grads)}"
    # first, for gradients that are as they were have two reasons
    expect(got["untouched"], True, f"whether {clip} leaves the parameters alone")
    for j, grad in enumerate(want):
        expect(got["grads"][j], grad, f"params[{j}].grad {call}", tol=tol)
        expect(got["held"][j], grad, f"what held the tensor params[{j}].grad {call}", tol=tol)
    return got["returned"]


def with_gaps(grads):
    """The gradients of more parameters, of which the first and the last have none."""
    return [None, *grads, None]


@given(grads=parameters(), share=numbers(0.05, 0.9))
@pytest.mark.weight(2)
def test_clip_grad_value_caps_entries(clip_grad_value, beside, grads, share):
    """Every gradient entry is capped at ±threshold: what is larger gets that size and keeps its sign; 0 stays 0."""
    grads = [*grads, torch.tensor([0.0, -6.0], dtype=grads[0].dtype)]
    threshold = max(round(share * max(float(grad.abs().max()) for grad in grads), 3), 0.001)
    want = [grad.double().clamp(-threshold, threshold).to(grad.dtype) for grad in grads]
    clips(beside, "clip_grad_value", grads, threshold, want)


@given(grads=parameters(), above=numbers(1.01, 3))
@settings(max_examples=15)
def test_clip_grad_value_small(clip_grad_value, beside, grads, above):
    """Where no entry reaches the threshold nothing changes: a threshold does not scale."""
    threshold = above * max(0.01, *(float(grad.abs().max()) for grad in grads))
    clips(beside, "clip_grad_value", grads, threshold, [grad.clone() for grad in grads], tol=0)


@given(grads=parameters(), share=numbers(0.05, 0.9), once=st.booleans())
@settings(max_examples=15)
def test_clip_grad_value_skips(clip_grad_value, beside, grads, share, once):
    """Parameters without gradient are skipped, and any iterable of parameters is taken, also a generator."""
    threshold = max(round(share * max(float(grad.abs().max()) for grad in grads), 3), 0.001)
    want = with_gaps([grad.clamp(-threshold, threshold) for grad in grads])
    clips(beside, "clip_grad_value", with_gaps(grads), threshold, want, once)


def joint_norm(grads):
    """The L2 norm of all gradients as one long vector, in float64."""
    return torch.cat([grad.double().flatten() for grad in grads]).norm()


# a divisor of norm + 1e-6, which PyTorch uses, also keeps the norm at or below the maximum
SAFE_DIVISOR = 1e-4


@given(dtype=dtypes(), seed=seeds(), share=numbers(0.05, 0.95))
@pytest.mark.weight(2)
def test_clip_grad_norm_scales(clip_grad_norm, beside, dtype, seed, share):
    """Gradients whose joint norm is too large are all multiplied by max_norm / norm.

    One norm and one factor for all parameters together: the direction of the whole step stays.
    """
    [grads] = gradients(family(dtype, seed), 1, seed)
    max_norm = share * float(joint_norm(grads))
    want = [(share * grad.double()).to(dtype) for grad in grads]
    clips(beside, "clip_grad_norm", grads, max_norm, want, tol=SAFE_DIVISOR)


@given(grads=parameters(), factor=numbers(0.2, 3))
def test_clip_grad_norm_returns_the_norm(clip_grad_norm, beside, grads, factor):
    """What comes back is the joint L2 norm before clipping, whether it was clipped or not, as a 0-dim tensor."""
    grads = [grad + 5 for grad in grads]
    norm = joint_norm(grads)
    got = beside(_clipped, clip="clip_grad_norm", grads=grads, limit=factor * float(norm), once=False)
    call = f"clip_grad_norm(params, {factor * float(norm):g}) of gradients {show(grads)}"
    expect(got["returned"], norm.to(grads[0].dtype), call)


@given(grads=parameters(), above=numbers(1.01, 10))
@settings(max_examples=15)
def test_clip_grad_norm_small(clip_grad_norm, beside, grads, above):
    """Gradients whose joint norm is below the maximum stay as they are: clipping never lengthens."""
    max_norm = above * max(0.01, float(joint_norm(grads)))
    clips(beside, "clip_grad_norm", grads, max_norm, [grad.clone() for grad in grads], tol=0)


@given(dtype=dtypes(), seed=seeds(), share=numbers(0.05, 0.95), once=st.booleans())
@settings(max_examples=15)
def test_clip_grad_norm_skips(clip_grad_norm, beside, dtype, seed, share, once):
    """Parameters without gradient are skipped, and any iterable of parameters is taken, also a generator.

    A generator can be gone through once: who needs the gradients twice keeps them in a list.
    """
    [grads] = gradients(family(dtype, seed), 1, seed)
    norm = joint_norm(grads)
    want = with_gaps([(share * grad.double()).to(dtype) for grad in grads])
    clips(beside, "clip_grad_norm", with_gaps(grads), share * float(norm), want, once, tol=SAFE_DIVISOR)


@given(params=parameters(), max_norm=numbers(0.1, 5))
@settings(max_examples=10)
def test_clip_grad_norm_of_zero(clip_grad_norm, beside, params, max_norm):
    """Gradients of zero have the norm 0 and stay zero; nothing is divided by that norm."""
    zeros = [torch.zeros_like(p) for p in params]
    got = clips(beside, "clip_grad_norm", zeros, max_norm, [zero.clone() for zero in zeros])
    expect(got, torch.zeros((), dtype=zeros[0].dtype), f"clip_grad_norm(params, {max_norm:g}) of gradients of zero")
