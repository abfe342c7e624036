"""The laws of unit 4. A learner and its callbacks live beside the code under test; what comes back are plain values.

Expected weights and losses come from the formulas of the linear model, its squared error and the update, in float64.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import dtypes, normal, numbers, seeds
from torch import nn

from grading.verdict import expect, refused, unchanged


@st.composite
def batches(draw, min_count=2, max_count=5, min_size=1):
    """A list of pairs: x of 3 columns, y of 2, with as many rows as the batch has samples."""
    sizes = draw(st.lists(st.integers(min_size, min_size + 3), min_size=min_count, max_size=max_count))
    seed = draw(seeds())
    return [
        (normal((n, 3), seed + 2 * i, dtype=torch.float64), normal((n, 2), seed + 2 * i + 1, dtype=torch.float64))
        for i, n in enumerate(sizes)
    ]


@st.composite
def starts(draw):
    """Weight and bias of a linear model from 3 inputs to 2 outputs."""
    seed = draw(seeds())
    return normal((2, 3), seed, dtype=torch.float64), normal((2,), seed + 1, dtype=torch.float64)


def cast(values, dtype):
    """The tensors in a nest of lists and tuples, in another float type."""
    if isinstance(values, torch.Tensor):
        return values.to(dtype)
    return type(values)(cast(value, dtype) for value in values)


def predicted(start, x):
    """The linear model."""
    weight, bias = start
    return x @ weight.T + bias


def squared_error(preds, y):
    return ((preds - y) ** 2).mean()


def gradients(start, x, y, loss=squared_error):
    """Of the loss with respect to weight and bias."""
    leaves = [t.clone().requires_grad_() for t in start]
    return torch.autograd.grad(loss(predicted(leaves, x), y), leaves)


def trajectory(start, batches, lr, mom=0.0, loss=squared_error):
    """Weight and bias after each batch; a step follows the gradients plus `mom` times what the last one followed."""
    start, sums, path = [t.double() for t in start], [torch.zeros_like(t).double() for t in start], []
    for x, y in batches:
        sums = [mom * s + g for s, g in zip(sums, gradients(start, x.double(), y.double(), loss), strict=True)]
        start = [t - lr * s for t, s in zip(start, sums, strict=True)]
        path.append(start)
    return path


def expect_path(got, want, dtype, call):
    """Compares what a model held after each batch; the first entries set the scale, as later ones may shrink."""
    size = max(float(t.abs().max()) for one in want for t in one)
    expect(got, [[t.to(dtype) for t in one] for one in want], call, scale=max(size, 0.1))


# -- callback


def _reads(pieces, *, batches, start, lr, epoch):
    """What a callback reads from a learner whose attributes change."""
    model = nn.Linear(3, 2)
    learner, callback = pieces.Learner(model, None), pieces.Callback()
    callback.learn = learner
    seen = []
    for number, batch in enumerate(batches):
        learner.model = nn.Linear(3, 2).double()
        learner.model.load_state_dict({"weight": start[0] + number, "bias": start[1]})
        learner.batch, learner.epoch = batch, epoch + number
        learner.opt = torch.optim.SGD(learner.model.parameters(), lr + number)
        rate = callback.opt.param_groups[0]["lr"]
        seen.append([callback.model.weight.detach(), callback.batch, callback.epoch, rate])
    return seen


@pytest.mark.weight(2)
@given(batches=batches(), start=starts(), lr=numbers(0.01, 2), epoch=st.integers(0, 50))
def test_callback_reads_from_learner(callback, beside, batches, start, lr, epoch):
    """`model`, `opt`, `batch` and `epoch` of a callback are those that its learner has at this moment.

    `__getattr__(self, name)` is called for attributes that the callback itself has not got.
    """
    got = beside(_reads, batches=batches, start=start, lr=lr, epoch=epoch)
    for number, (one, batch) in enumerate(zip(got, batches, strict=True)):
        expect(one[0], start[0] + number, "callback.model.weight")
        expect(one[1], batch, "callback.batch")
        expect(one[2], epoch + number, "callback.epoch")
        expect(one[3], lr + number, "callback.opt.param_groups[0]['lr']")


def _refuses(pieces, *, name, value, epoch):
    """The error that reading another attribute of the learner raises, and one that must be read."""
    learner, callback = pieces.Learner(nn.Linear(3, 2), None), pieces.Callback()
    callback.learn = learner
    setattr(learner, name, value)
    learner.epoch = epoch
    callback.own = value + epoch
    try:
        answer = f"the value {getattr(callback, name)}"
    except AttributeError as error:
        answer = f"AttributeError: {error}"
    there = [hasattr(callback, one) for one in (name, "before_fit", "epoch", "batch")]
    return {"answer": answer, "hasattr": there, "read": [callback.epoch, callback.own]}


@given(
    name=st.sampled_from(["loss", "preds", "dl", "lr", "iter", "n_epochs", "before_batch", "models", "epochs", "dls"])
    | st.integers(100, 999).map("note_{}".format),
    value=numbers(-5, 5),
    epoch=st.integers(0, 50),
)
def test_callback_refuses_other_names(callback, beside, name, value, epoch):
    """Reading any other attribute, even one that the learner has, raises AttributeError naming it in the message.

    A forwarded name that the learner has not got itself, such as `batch` before the first one, is no attribute either.
    """
    got = beside(_refuses, name=name, value=value, epoch=epoch)
    expect(got["read"], [epoch, value + epoch], "[callback.epoch, callback.own]")
    expect(got["answer"].partition(":")[0], "AttributeError", f"callback.{name}, which only the learner has,")
    named = name in got["answer"].partition(":")[2]
    expect(named, True, f"whether the error's message names {name!r}")
    names = f"[{name!r}, 'before_fit', 'epoch', 'batch']"
    expect(got["hasattr"], [False, False, True, False], f"hasattr of callback, before the first batch, for {names}")


def _extended(pieces, *, added, value, epoch):
    """What callbacks with their own `forward_to_learner` read, and what they refuse."""

    class Counting(pieces.Learner):
        @property
        def next_epoch(self):
            return self.epoch + 1

    class Wider(pieces.Callback):
        forward_to_learner = (*pieces.Callback.forward_to_learner, added, "next_epoch")

    class Narrower(pieces.Callback):
        forward_to_learner = (added,)

    learner = Counting(nn.Linear(3, 2), None)
    setattr(learner, added, value)
    learner.epoch = epoch
    read = []
    for callback in (Wider(), Narrower(), pieces.Callback()):
        callback.learn = learner
        read.append([getattr(callback, name, "refused") for name in (added, "next_epoch", "epoch")])
    return read


@given(
    added=st.sampled_from(["loss", "preds", "dl", "n_epochs"]) | st.integers(100, 999).map("note_{}".format),
    value=numbers(-5, 5),
    epoch=st.integers(0, 50),
)
def test_callback_subclass_forwards_its_names(callback, beside, added, value, epoch):
    """A subclass decides with its own `forward_to_learner` which names are read from the learner, properties too."""
    got = beside(_extended, added=added, value=value, epoch=epoch)
    names = f"[callback.{added}, callback.next_epoch, callback.epoch]"
    added = f"{added!r} and 'next_epoch', a property of the learner,"
    expect(got[0], [value, epoch + 1, epoch], f"{names} of a subclass that adds {added}")
    expect(got[1], [value, "refused", "refused"], f"{names} of a subclass that forwards the first alone")
    expect(got[2], ["refused", "refused", epoch], f"{names} of Callback itself")


def _sets(pieces, *, name, theirs, mine):
    """What the learner and the callback hold after the callback's attribute was set."""
    learner, callback = pieces.Learner(nn.Linear(3, 2), None), pieces.Callback()
    callback.learn = learner
    setattr(learner, name, theirs)
    before = getattr(callback, name)
    setattr(callback, name, mine)
    return [before, getattr(learner, name), getattr(callback, name)]


@given(name=st.sampled_from(["model", "opt", "batch", "epoch"]), theirs=numbers(-5, 0), mine=numbers(1, 5))
def test_callback_sets_its_own(callback, beside, name, theirs, mine):
    """Setting an attribute of a callback never changes the learner's; the callback then has one of its own."""
    got = beside(_sets, name=name, theirs=theirs, mine=mine)
    expect(got[0], theirs, f"callback.{name} before")
    expect(got[1], theirs, f"learner.{name} after callback.{name} = {mine}")
    expect(got[2], mine, f"callback.{name} after callback.{name} = {mine}")


def _modes(pieces, *, modes):
    """`training` of two callbacks while their models change to opposite modes, then in each phase of a fit."""
    seen = []
    for opposite in (False, True):
        learner, callback = pieces.Learner(nn.Sequential(nn.Dropout()), None), pieces.Callback()
        callback.learn = learner
        for number, mode in enumerate(modes):
            if number == len(modes) // 2:
                learner.model = nn.Sequential(nn.Dropout())
            learner.model.train(mode != opposite)
            learner.model[0].train(mode == opposite)
            with torch.set_grad_enabled(number % 2 == 0):
                seen.append(callback.training)
    phases = []

    class Recorder(pieces.Callback):
        def before_batch(self):
            phases.append(self.training)

    many = sum(modes) + 1
    pieces.Learner(nn.Linear(3, 2), pieces.DataLoaders([0] * many, [0]), cbs=[Recorder()]).fit(2)
    return {"seen": seen, "phases": phases}


@given(modes=st.lists(st.booleans(), max_size=4).map(lambda modes: [True, False, False, True, *modes]))
def test_callback_training_is_the_mode(callback, beside, modes):
    """`training` of a callback is the present mode of the learner's model, whether or not gradients are recorded.

    A layer in the model may be in another mode than the model, such as a frozen batch norm.
    """
    got = beside(_modes, modes=modes)
    # first the model without layers: there, the mode of some layer is the model's
    phases = ([True] * (sum(modes) + 1) + [False]) * 2
    expect(got["phases"], phases, "callback.training at each batch of two epochs")
    both = modes + [not mode for mode in modes]
    expect(got["seen"], both, f"callback.training after model.train(mode) for each mode in {both}")


def _copies(pieces, *, own, epoch, later):
    """What copies of a callback read, with a learner and without, and what a half-made one answers."""
    import copy
    import pickle

    makers = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda one: pickle.loads(pickle.dumps(one))}
    result = {}
    for name, make in makers.items():
        alone, callback = pieces.Callback(), pieces.Callback()
        learner = pieces.Learner(nn.Linear(3, 2), None)
        learner.epoch, callback.learn = epoch, learner
        alone.own = callback.own = own
        lonely, twin = make(alone), make(callback)
        learner.epoch = later
        result[name] = [lonely.own, hasattr(lonely, "epoch"), twin.own, twin.epoch]
    half = pieces.Callback.__new__(pieces.Callback)
    result["half-made"] = {name: hasattr(half, name) for name in ("model", "batch", "order", "anything")}
    half.learn = learner
    result["completed"] = half.epoch
    return result


@pytest.mark.weight(2)
@given(own=numbers(-5, 5), epoch=st.integers(0, 50), later=st.integers(60, 99))
def test_callback_survives_copies(callback, beside, own, epoch, later):
    """A callback can be copied and pickled, with a learner and before it has one, and is itself again afterwards.

    Such copies begin as empty objects. If `__getattr__` reads `self.learn` where there is none, it calls itself.
    """
    got = beside(_copies, own=own, epoch=epoch, later=later)
    # a shallow copy shares the learner, the others have one of their own
    for name, expected in (("copy", later), ("deepcopy", epoch), ("pickle", epoch)):
        expect(
            got[name][:2], [own, False], f"[callback.own, hasattr(callback, 'epoch')] after {name} without a learner"
        )
        expect(got[name][2:], [own, expected], f"[callback.own, callback.epoch] after {name} with a learner")
    has = {"model": False, "batch": False, "order": True, "anything": False}
    expect(got["half-made"], has, "hasattr of Callback.__new__(Callback) for")
    expect(got["completed"], later, "callback.epoch of Callback.__new__(Callback), once it has a learner,")


# -- train_learner


def _predictions(pieces, *, batches, start, train):
    """Predictions and losses of each batch, in a fit of one phase, with a lopsided loss."""
    model = nn.Linear(3, 2).to(start[0].dtype)
    model.load_state_dict({"weight": start[0], "bias": start[1]})

    class Recorder:
        order, seen = 0, ()

        def after_loss(self):
            self.seen = (*self.seen, [learner.preds.detach(), learner.loss.detach()])

    recorder = Recorder()
    dls = pieces.DataLoaders(batches, batches)
    learner = pieces.TrainLearner(model, dls, lambda p, t: ((p - 2 * t) ** 2).mean() + p.mean(), 0.0, [recorder])
    learner.fit(1, train=train, valid=not train)
    return {"seen": list(recorder.seen), "weight": model.weight.detach()}


def lopsided(preds, y):
    return ((preds - 2 * y) ** 2).mean() + preds.mean()


@given(batches=batches(), start=starts(), dtype=dtypes(), train=st.booleans(), kind=st.sampled_from([tuple, list]))
def test_train_learner_predicts(train_learner, beside, batches, start, dtype, train, kind):
    """`preds` is the model's output for the inputs of the batch, in training and in validation."""
    batches, start = [kind(pair) for pair in cast(batches, dtype)], cast(start, dtype)
    got = beside(_predictions, batches=batches, start=start, train=train)
    want = [predicted(cast(start, torch.float64), x.double()).to(dtype) for x, _ in batches]
    expect([one[0] for one in got["seen"]], want, "learn.preds of each batch", scale=10.0)


@given(batches=batches(), start=starts(), dtype=dtypes(), train=st.booleans())
def test_train_learner_measures_loss(train_learner, beside, batches, start, dtype, train):
    """`loss` is `loss_func(preds, y)`: the predictions come first, then the targets of the batch."""
    batches, start = cast(batches, dtype), cast(start, dtype)
    got = beside(_predictions, batches=batches, start=start, train=train)
    exact = cast(start, torch.float64)
    want = [lopsided(predicted(exact, x.double()), y.double()).to(dtype) for x, y in batches]
    expect([one[1] for one in got["seen"]], want, "learn.loss of each batch", scale=max(float(w) for w in want) + 10)


def _training(pieces, *, batches, start, lr, n_epochs, how, later_lr=None):
    """Weight and bias after each batch of a fit, and of a later one with its own learning rate."""
    model = nn.Linear(3, 2).to(start[0].dtype)
    model.load_state_dict({"weight": start[0], "bias": start[1]})
    path = []

    class Recorder:
        order = 0

        def after_batch(self):
            path.append([model.weight.detach().clone(), model.bias.detach().clone()])

    class Adam(torch.optim.Adam):
        def __init__(self, params, lr):
            super().__init__(params, lr, betas=(0.7, 0.8))

    class Momentum(torch.optim.SGD):
        def __init__(self, params, lr):
            super().__init__(params, lr, momentum=0.6)

    optimizer = {"SGD": torch.optim.SGD, "SGD with momentum": Momentum, "Adam": Adam}[how]
    learner = pieces.TrainLearner(model, pieces.DataLoaders(batches, batches), F.mse_loss, lr, [Recorder()], optimizer)
    learner.fit(n_epochs, valid=n_epochs > 1)
    if later_lr is not None:
        learner.fit(1, valid=False, lr=later_lr)
    return path


@pytest.mark.weight(2)
@given(batches=batches(), start=starts(), dtype=dtypes(), lr=numbers(0.01, 0.3))
def test_train_learner_descends(train_learner, beside, batches, start, dtype, lr):
    """Each training batch moves the weights by its own gradients: those of earlier batches are cleared.

    `backward` adds to the gradients that are there, so the third step without `zero_grad` follows the sum of three.
    """
    batches, start = cast(batches, dtype), cast(start, dtype)
    got = beside(_training, batches=batches, start=start, lr=lr, n_epochs=1, how="SGD")
    expect_path(got, trajectory(start, batches, lr), dtype, "[weight, bias] after each batch")


@given(batches=batches(max_count=3), start=starts(), lr=numbers(0.01, 0.3), n_epochs=st.integers(2, 3))
def test_train_learner_leaves_validation_alone(train_learner, beside, batches, start, lr, n_epochs):
    """Validation batches do not move the weights, and leave nothing behind for the next epoch of training."""
    got = beside(_training, batches=batches, start=start, lr=lr, n_epochs=n_epochs, how="SGD")
    want, here = [], start
    for _ in range(n_epochs):
        path = trajectory(here, batches, lr)
        here = path[-1]
        want += path + [here] * len(batches)
    expect_path(got, want, torch.float64, "[weight, bias] after each batch, training and validation by turns")


@given(
    batches=batches(max_count=4),
    start=starts(),
    lr=numbers(0.01, 0.3),
    how=st.sampled_from(["SGD with momentum", "Adam", "SGD"]),
)
def test_train_learner_uses_the_optimizer(train_learner, beside, batches, start, lr, how):
    """The step is the one of the learner's optimizer, whichever that is; every fit has a new one."""
    got = beside(_training, batches=batches, start=start, lr=lr, n_epochs=1, how=how, later_lr=lr / 2)
    leaves = [t.clone().requires_grad_() for t in start]
    want = []
    for rate in (lr, lr / 2):
        if how == "Adam":
            optimizer = torch.optim.Adam(leaves, rate, betas=(0.7, 0.8))
        else:
            optimizer = torch.optim.SGD(leaves, rate, momentum=0.6 if "momentum" in how else 0.0)
        for x, y in batches:
            for leaf, gradient in zip(leaves, gradients([t.detach() for t in leaves], x, y), strict=True):
                leaf.grad = gradient
            optimizer.step()
            want.append([t.detach().clone() for t in leaves])
    call = f"[weight, bias] after each batch of two fits with {how}, the second with half the learning rate,"
    expect_path(got, want, torch.float64, call)


def _one_by_one(pieces, *, batch, start, lr, grad):
    """What each of the five methods does by itself, on a learner that has what this one needs and no more."""
    x, y = batch[0].clone().requires_grad_(), batch[1]
    made, states = {}, {}
    for name in ("predict", "get_loss", "backward", "step", "zero_grad"):
        model = nn.Linear(3, 1).to(start[0].dtype)
        model.load_state_dict({"weight": start[0], "bias": start[1]})
        model.weight.grad = grad.clone()
        learner = pieces.TrainLearner(model, None, lr=lr)
        learner.opt = torch.optim.SGD(model.parameters(), lr)
        if name in ("predict", "get_loss"):
            learner.batch = (x, y)
        if name == "get_loss":
            learner.preds = 2 * model(x)
        if name == "backward":
            learner.loss = F.mse_loss(2 * model(x), y)
        getattr(learner, name)()
        left = torch.zeros_like(grad) if model.weight.grad is None else model.weight.grad.clone()
        states[name] = [model.weight.detach().clone(), left]
        if name in ("predict", "get_loss"):
            value = learner.preds if name == "predict" else learner.loss
            slope = torch.autograd.grad(value.sum(), x, allow_unused=True)[0] if value.requires_grad else None
            made[name] = [value.detach(), slope]
    return {"made": made, "states": states}


@given(batch=batches(1, 1, min_size=2).map(lambda pairs: pairs[0]), start=starts(), lr=numbers(0.01, 0.3), seed=seeds())
def test_train_learner_does_one_thing_at_a_time(train_learner, beside, batch, start, lr, seed):
    """Each method does its own part: backward adds to the gradients, step moves the weights, zero_grad clears.

    It goes by `batch`, `preds` and `loss` alone, so that callbacks and subclasses can set these or do another part
    otherwise. Gradients flow back through `preds` and `loss` to the inputs.
    """
    grad = normal((1, 3), seed, dtype=torch.float64)
    (x, y), start = (batch[0], batch[1][:, :1]), (start[0][:1], start[1][:1])
    with unchanged(x=x, y=y):
        got = beside(_one_by_one, batch=(x, y), start=start, lr=lr, grad=grad)
    inputs, weight = x.clone().requires_grad_(), start[0].clone().requires_grad_()
    preds = predicted((weight, start[1]), inputs)
    loss = squared_error(2 * preds, y)
    slopes = [torch.autograd.grad(value.sum(), [inputs, weight], retain_graph=True) for value in (preds, loss)]
    full = grad + slopes[1][1]
    size = max(1.0, float(full.abs().max()), loss.item())
    inside = "and the gradient of its sum with respect to the inputs] after"
    expect(got["made"]["predict"], [preds.detach(), slopes[0][0]], f"[learn.preds, {inside} predict()", scale=size)
    call = f"[learn.loss, {inside} get_loss(), with `preds` of our own,"
    expect(got["made"]["get_loss"], [loss.detach(), slopes[1][0]], call, scale=size)
    want = {
        "predict": [start[0], grad],
        "get_loss": [start[0], grad],
        "backward": [start[0], full],
        "step": [start[0] - lr * grad, grad],
        "zero_grad": [start[0], torch.zeros_like(grad)],
    }
    for name, state in want.items():
        expect(got["states"][name], state, f"[weight, weight.grad] after {name}() by itself", scale=size)


# -- momentum_learner


def _momentum(pieces, *, batches, start, lr, mom, n_epochs):
    """Weight and bias after each training batch; `mom` None leaves it to the default."""

    class Model(nn.Module):
        """The mean of two layers that share weight and bias: the linear model."""

        def __init__(self):
            super().__init__()
            self.one, self.other = (nn.Linear(3, 2, dtype=start[0].dtype) for _ in "12")
            self.one.load_state_dict({"weight": start[0], "bias": start[1]})
            self.other.weight, self.other.bias = self.one.weight, self.one.bias

        def forward(self, x):
            return (self.one(x) + self.other(x)) / 2

    model, path = Model(), []

    class Recorder:
        order = 0

        def after_batch(self):
            if model.training:
                path.append([model.one.weight.detach().clone(), model.one.bias.detach().clone()])

    dls = pieces.DataLoaders(batches, batches)
    given = {} if mom is None else {"mom": mom}
    learner = pieces.MomentumLearner(model, dls, lr=lr, cbs=[Recorder()], **given)
    # another learner with a share of its own is nobody else's business
    pieces.MomentumLearner(nn.Linear(3, 2), dls, mom=0.123)
    learner.fit(n_epochs)
    return path


@pytest.mark.weight(3)
@given(batches=batches(3, 6), start=starts(), dtype=dtypes(), lr=numbers(0.01, 0.1), mom=numbers(0.1, 0.99))
def test_momentum_learner_trajectory(momentum_learner, beside, batches, start, dtype, lr, mom):
    """Each step follows the batch's gradients plus `mom` times the sum that the step before followed.

    Layers within a model may share a weight; it has one gradient, of which `mom` times is kept once.
    """
    batches, start = cast(batches, dtype), cast(start, dtype)
    got = beside(_momentum, batches=batches, start=start, lr=lr, mom=mom, n_epochs=1)
    expect_path(got, trajectory(start, batches, lr, mom), dtype, f"[weight, bias] after each batch, mom={mom:g},")


@given(batches=batches(3, 5), start=starts(), lr=numbers(0.01, 0.1))
def test_momentum_learner_default(momentum_learner, beside, batches, start, lr):
    """Where `mom` is not given it is 0.85, whatever other learners were made with; 0 is a share like any other."""
    got, want = [], []
    for mom in (None, 0.0):
        got += beside(_momentum, batches=batches, start=start, lr=lr, mom=mom, n_epochs=1)
        want += trajectory(start, batches, lr, 0.85 if mom is None else mom)
    expect_path(got, want, torch.float64, "[weight, bias] after each batch, without the argument mom, then with mom=0,")


@given(batches=batches(2, 3), start=starts(), lr=numbers(0.01, 0.1), mom=numbers(0.1, 0.99))
def test_momentum_learner_goes_on(momentum_learner, beside, batches, start, lr, mom):
    """Validation between two epochs neither adds to the kept gradients nor shrinks them."""
    got = beside(_momentum, batches=batches, start=start, lr=lr, mom=mom, n_epochs=2)
    want = trajectory(start, batches * 2, lr, mom)
    expect_path(got, want, torch.float64, "[weight, bias] after each training batch of two epochs")


def _frozen(pieces, *, batches, start, lr, mom):
    """A fit of a later model, of which one parameter is frozen and another takes no part; all of them afterwards."""

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(start[1] + 1)
            self.bias = nn.Parameter(start[1].clone(), requires_grad=False)
            self.weight = nn.Parameter(start[0].clone())

        def forward(self, x):
            return x @ self.weight.T + self.bias

    model = Model()
    learner = pieces.MomentumLearner(nn.Linear(3, 2), pieces.DataLoaders(batches, []), lr=lr, mom=mom)
    learner.model = model
    learner.fit(1)
    idle = [model.unused.grad is None, model.bias.grad is None]
    return {"now": [model.weight.detach(), model.bias.detach(), model.unused.detach()], "idle": idle}


@given(batches=batches(), start=starts(), lr=numbers(0.01, 0.1), mom=numbers(0.1, 0.99))
def test_momentum_learner_skips_idle_parameters(momentum_learner, beside, batches, start, lr, mom):
    """Parameters without a gradient, frozen or not used by the model, are skipped; the others train as ever.

    The learner's model is the one that it has now, which need not be the one that it was made with.
    """
    got = beside(_frozen, batches=batches, start=start, lr=lr, mom=mom)
    weight, sums = start[0], torch.zeros_like(start[0])
    for x, y in batches:
        sums = mom * sums + gradients((weight, start[1]), x, y)[0]
        weight = weight - lr * sums
    size = max(1.0, float(weight.abs().max()))
    expect(
        got["now"],
        [weight, start[1], start[1] + 1],
        "[weight, frozen bias, unused parameter] after the fit",
        scale=size,
    )
    expect(got["idle"], [True, True], "whether the idle parameters' grad is still None")


def _passed_on(pieces, *, batches, start, lr, mom, positional):
    """A fit with arguments by position or by name: loss function, learning rate, callbacks, optimizer."""
    model = nn.Linear(3, 2).double()
    model.load_state_dict({"weight": start[0], "bias": start[1]})
    path = []

    class Recorder:
        order = 0

        def after_batch(self):
            path.append([model.weight.detach().clone(), model.bias.detach().clone()])

    class Halved(torch.optim.SGD):
        """Half the learning rate, and a parameter group for each parameter."""

        def __init__(self, params, lr):
            super().__init__([{"params": [param]} for param in params], lr / 2)

    def loss(p, t):
        return ((p - 2 * t) ** 2).mean() + p.mean()

    dls = pieces.DataLoaders(batches, [])
    if positional:
        learner = pieces.MomentumLearner(model, dls, loss, lr, [Recorder()], Halved, mom=mom)
    else:
        more = {"mom": mom, "opt_func": Halved, "cbs": [Recorder()], "lr": lr, "loss_func": loss}
        learner = pieces.MomentumLearner(model=model, dls=dls, **more)
    learner.fit(1)
    return path


@given(batches=batches(), start=starts(), lr=numbers(0.02, 0.2), mom=numbers(0.1, 0.99), positional=st.booleans())
def test_momentum_learner_passes_arguments_on(momentum_learner, beside, batches, start, lr, mom, positional):
    """All other arguments, by position or by name, mean what they mean to Learner."""
    got = beside(_passed_on, batches=batches, start=start, lr=lr, mom=mom, positional=positional)
    want = trajectory(start, batches, lr / 2, mom, lopsided)
    expect_path(got, want, torch.float64, "[weight, bias] after each batch, with a loss and an optimizer of our own,")


# -- batch_transform


def _transformed(pieces, *, batches, start, factor, shift, phases, n_epochs, twice):
    """The batches that predictions and losses were made of, by phase; `phases` None leaves them to the defaults.

    After the fit there is one more pass over the validation batches, in which gradients are recorded.
    """
    model = nn.Linear(3, 2).double()
    model.load_state_dict({"weight": start[0], "bias": start[1]})
    seen = {"train": [], "valid": []}

    def counting(number):
        """A transform that adds more with every call."""
        calls = []

        def transform(batch):
            calls.append(batch)
            x, y = batch
            return x * (factor - number / 2) + shift * len(calls) / 10, y - shift

        return transform

    class Recorder:
        order = 1

        def before_batch(self):
            self.early = [t.clone() for t in learner.batch]

        def after_loss(self):
            phase = "train" if model.training else "valid"
            record = [self.early, [t.clone() for t in learner.batch], learner.preds.detach(), learner.loss.detach()]
            seen[phase].append(record)

    def make(how, transform):
        if how is None:
            return pieces.BatchTransform(transform)
        if how[2]:
            return pieces.BatchTransform(transform, how[0], how[1])
        return pieces.BatchTransform(tfm=transform, on_valid=how[1], on_train=how[0])

    callbacks = [make(phases, counting(number)) for number in range(1 + twice)]
    learner = pieces.TrainLearner(
        model, pieces.DataLoaders(batches, batches[::-1]), lr=0.0, cbs=[*callbacks, Recorder()]
    )
    learner.fit(n_epochs)
    learner.one_epoch(False)
    return seen


def expect_transformed(got, want, start):
    """Compares all records of a fit with those of the batches wanted, in one go: so a mistake shows as a whole."""
    records = {}
    for call, batches in want.items():
        preds = [predicted(start, x) for x, _ in batches]
        records[call] = {
            "learn.batch before it is used": [[x, y] for x, y in batches],
            "learn.batch after the loss": [[x, y] for x, y in batches],
            "learn.preds": preds,
            "learn.loss": [squared_error(p, y) for p, (_, y) in zip(preds, batches, strict=True)],
        }
    names = ("learn.batch before it is used", "learn.batch after the loss", "learn.preds", "learn.loss")
    seen = {call: {name: [one[n] for one in ones] for n, name in enumerate(names)} for call, ones in got.items()}
    scale = 10 + max(float(loss) for one in records.values() for loss in one["learn.loss"])
    expect(seen, records, "the records of a fit", scale=scale)


def changed(batches, factor, shift, on=(True, True), n_epochs=1, twice=False):
    """What the transforms make of the batches of each phase, where they are on."""
    want, calls = {"train": [], "valid": []}, 0
    for phase in ("train", "valid") * n_epochs + ("valid",):
        for x, y in batches if phase == "train" else batches[::-1]:
            if on[phase == "valid"]:
                calls += 1
                for number in range(1 + twice):
                    x, y = x * (factor - number / 2) + shift * calls / 10, y - shift
            want[phase].append((x, y))
    return want


@pytest.mark.weight(2)
@given(batches=batches(max_count=4), start=starts(), factor=numbers(1.1, 3), shift=numbers(0.1, 3))
def test_batch_transform_replaces_the_batch(batch_transform, beside, batches, start, factor, shift):
    """Predictions and loss are made of `tfm(batch)`, by default in training and in validation.

    Setting never forwards: `self.batch = ...` makes an attribute of the callback; the learner's batch stays as it is.
    """
    got, want = {}, {}
    for phases, switches in ((None, "by default"), ((True, True, True), "with both switches on")):
        copies = [(x.clone(), y.clone()) for x, y in batches]
        how = {"phases": phases, "n_epochs": 1, "twice": False}
        seen = beside(_transformed, batches=copies, start=start, factor=factor, shift=shift, **how)
        for phase, ones in changed(batches, factor, shift).items():
            call = f"{phase}, {switches}"
            got[call], want[call] = seen[phase], ones
    expect_transformed(got, want, start)


@pytest.mark.weight(2)
@settings(max_examples=10)
@given(batches=batches(max_count=3), start=starts(), factor=numbers(1.1, 3), shift=numbers(0.1, 3), named=st.booleans())
def test_batch_transform_keeps_to_its_phases(batch_transform, beside, batches, start, factor, shift, named):
    """`on_train` and `on_valid` say in which phases batches are transformed; in the others they stay as they are.

    `tfm` is called once for each batch that it is to change, and for no other. It is the mode of the model that tells
    the phases apart; gradients may be recorded in validation too.
    """
    got, want = {}, {}
    for phases in ((True, False), (False, True), (False, False), (True, True)):
        copies = [(x.clone(), y.clone()) for x, y in batches]
        how = {"phases": (*phases, not named), "n_epochs": 1, "twice": False}
        seen = beside(_transformed, batches=copies, start=start, factor=factor, shift=shift, **how)
        for phase, ones in changed(batches, factor, shift, phases).items():
            call = f"{phase}, with on_train={phases[0]} and on_valid={phases[1]}"
            got[call], want[call] = seen[phase], ones
    expect_transformed(got, want, start)


@given(batches=batches(max_count=4), start=starts(), factor=numbers(1.1, 3), shift=numbers(0.1, 3))
def test_batch_transform_follows_another(batch_transform, beside, batches, start, factor, shift):
    """Two transforms work on each other's result, and every epoch begins with the data as they were.

    A batch may be a list, and that belongs to the data: what `tfm` returns is put in its place, not into it.
    """
    want = changed(batches, factor, shift, n_epochs=2, twice=True)
    how = {"phases": (True, True, False), "n_epochs": 2, "twice": True}
    lists = [[x.clone(), y.clone()] for x, y in batches]
    got = beside(_transformed, batches=lists, start=start, factor=factor, shift=shift, **how)
    expect_transformed(got, want, start)


def without_graph(value):
    """The value, a tensor in it detached."""
    if isinstance(value, dict):
        return {name: without_graph(one) for name, one in value.items()}
    return value.detach() if isinstance(value, torch.Tensor) else value


def _whole(pieces, *, batches, extra):
    """What the learner's batch is, before and after its use, where a batch is a dictionary and `tfm` makes another.

    Also the gradient of a factor in `tfm`, and what a fit raises whose `tfm` breaks.
    """
    seen, slopes, broken = [], [], []
    factor = torch.ones((), dtype=torch.float64, requires_grad=True)

    def transform(batch):
        if broken:
            raise ZeroDivisionError("trouble on purpose")
        return {"image": factor * batch["x"], "whole": batch, "extra": extra}

    class Recorder:
        order = 1

        def before_batch(self):
            seen.append([without_graph(learner.batch)])

        def after_predict(self):
            seen[-1].append(without_graph(learner.batch))

        def after_loss(self):
            seen[-1].append(without_graph(learner.batch))
            image = learner.batch.get("image") if isinstance(learner.batch, dict) else None
            recorded = image is not None and image.requires_grad
            slopes.append(torch.autograd.grad(image.sum(), factor)[0] if recorded else None)

    data = [{"x": x, "y": y} for x, y in batches]
    learner = pieces.Learner(
        nn.Linear(3, 2), pieces.DataLoaders(data, []), cbs=[pieces.BatchTransform(transform), Recorder()]
    )
    learner.fit(1)
    found = {"seen": seen[:], "slopes": slopes[:], "raised": None}
    broken.append(True)
    try:
        learner.fit(1)
    except ZeroDivisionError:
        found["raised"] = "ZeroDivisionError"
    return found


@given(batches=batches(), extra=numbers(-5, 5))
def test_batch_transform_takes_the_whole_batch(batch_transform, beside, batches, extra):
    """`tfm` takes the whole batch as it came, and whatever it returns is the new one, also where that is not a pair.

    What `tfm` records for gradients stays recorded, and an error that it raises ends the fit.
    """
    got = beside(_whole, batches=batches, extra=extra)
    want = [[{"image": x, "whole": {"x": x, "y": y}, "extra": extra}] * 3 for x, y in batches]
    call = "learn.batch before the prediction, after it and after the loss, where the transform makes a dictionary"
    expect(got["seen"], want, call)
    call = "the gradients of image.sum() with respect to a factor in tfm, batch by batch,"
    expect(got["slopes"], [x.sum() for x, _ in batches], call, scale=10.0)
    refused(got["raised"], ZeroDivisionError, "learn.fit(1) with a tfm that raises ZeroDivisionError")


# -- lr_finder


@st.composite
def loss_tables(draw, low=0.25, high=8.0, min_size=1):
    """For each epoch the losses of its batches: as drawn, or rising by degrees, or falling and then high."""
    table = draw(st.lists(st.lists(numbers(low, high), min_size=min_size, max_size=4), min_size=min_size, max_size=4))
    losses = [loss for epoch in table for loss in epoch]
    rising = sorted(losses)
    falling = rising[::-1]
    losses = iter(draw(st.sampled_from([losses, rising, falling[2:] + falling[:2]])))
    return [[next(losses) for _ in epoch] for epoch in table]


def clear_of(losses, max_mult):
    """The losses, those within a hundredth of the limit moved away from it: rounding must not decide."""
    best, table = math.inf, []
    for epoch in losses:
        table.append([])
        for loss in epoch:
            best = min(best, loss)
            if abs(loss / (max_mult * best) - 1) < 0.01:
                loss = round(loss * 1.03, 4)
            table[-1].append(loss)
    return table


def search(losses, lr, gamma, max_mult):
    """The records of a search by the letter of the exercise."""
    lrs, seen, best = [], [], math.inf
    for loss in (loss for epoch in losses for loss in epoch):
        lrs.append(lr)
        seen.append(loss)
        best = min(best, loss)
        if math.isnan(loss) or loss > max_mult * best:
            break
        lr *= gamma
    return lrs, seen


def _search(pieces, *, losses, valid_losses, lr, given, rounds):
    """The finder's records of fits whose losses are prescribed, and the learning rates of the steps."""
    epochs, steps, result = [], [], []

    class Prescribed:
        """One epoch's batches after the other."""

        def __iter__(self):
            return iter([(torch.ones(1, 1), torch.tensor(loss, dtype=torch.float64)) for loss in epochs.pop(0)])

        def __len__(self):
            return len(epochs[0])

    class Recorder:
        order = -1

        def after_backward(self):
            steps.append(float(learner.opt.param_groups[0]["lr"]))

    dls = pieces.DataLoaders(Prescribed(), [(torch.ones(1, 1), torch.tensor(loss).double()) for loss in valid_losses])
    learner = pieces.TrainLearner(nn.Linear(1, 1), dls, lambda p, t: t + 0 * p.sum(), cbs=[Recorder()])
    finder = pieces.LRFinder(**given)
    for number in range(rounds):
        epochs[:] = [[loss * (number + 1) for loss in epoch] for epoch in losses]
        steps.clear()
        learner.fit(len(losses), valid=bool(valid_losses), lr=lr * (number + 1), cbs=[finder])
        # another finder's search is nobody else's business
        learner.fit(0, cbs=[pieces.LRFinder()])
        result.append({"lrs": finder.lrs[:], "losses": finder.losses[:], "steps": steps[:]})
    return result


def expect_search(got, losses, lr, gamma=1.3, max_mult=3.0):
    lrs, seen = search(losses, lr, gamma, max_mult)
    stopped = math.isnan(seen[-1]) or seen[-1] > max_mult * min(seen)
    # whether the batch at which the fit stops still makes its step is left open
    steps = lrs[:-1] if stopped and len(got["steps"]) == len(lrs) - 1 else lrs
    want = {"finder.losses": seen, "finder.lrs": lrs, "the learning rate of each step": steps}
    got = dict(zip(want, (got["losses"], got["lrs"], got["steps"]), strict=True))
    expect(got, want, f"after a search with the losses {[loss for epoch in losses for loss in epoch]}:")


@pytest.mark.weight(3)
@given(losses=loss_tables(min_size=2), lr=numbers(0.001, 0.1), gamma=numbers(1.05, 3), max_mult=numbers(1.2, 5))
def test_lr_finder_records_and_stops(lr_finder, beside, losses, lr, gamma, max_mult):
    """Every training batch records learning rate and loss as Python floats; then either the fit stops, because the loss
    is above `max_mult` times the best one so far, or the learning rate is multiplied by `gamma`."""
    losses = clear_of(losses, max_mult)
    how = {"given": {"gamma": gamma, "max_mult": max_mult}, "valid_losses": [], "rounds": 1}
    # a loss at the limit is not above it; then one above it by the best loss, not by the one before nor by the first
    base = losses[0][0]
    creeping = [1.0, max_mult, max_mult**1.4, 1.0]
    falling = [base, base / 2, base / 2 * max_mult**1.2, base]
    for table in (losses, [creeping], [falling]):
        got = beside(_search, losses=table, lr=lr, **how)
        expect_search(got[0], table, lr, gamma, max_mult)


@given(losses=loss_tables(), lr=numbers(0.001, 0.1))
def test_lr_finder_defaults(lr_finder, beside, losses, lr):
    """Where they are not given, `gamma` is 1.3 and `max_mult` is 3."""
    losses = clear_of(losses, 3.0)
    got = beside(_search, losses=losses, lr=lr, given={}, valid_losses=[], rounds=1)
    expect_search(got[0], losses, lr)


@given(losses=loss_tables(1.0, 2.0), lr=numbers(0.001, 0.1), gamma=numbers(1.05, 3), place=st.integers(0, 11))
def test_lr_finder_stops_at_nan(lr_finder, beside, losses, lr, gamma, place):
    """A loss of nan ends the fit, and is recorded as the last one.

    Every comparison with nan is false, so it never is above any limit.
    """
    place %= sum(len(epoch) for epoch in losses)
    table = iter(math.nan if n == place else loss for n, loss in enumerate(loss for epoch in losses for loss in epoch))
    losses = [[next(table) for _ in epoch] for epoch in losses]
    got = beside(_search, losses=losses, lr=lr, given={"gamma": gamma}, valid_losses=[], rounds=1)
    expect_search(got[0], losses, lr, gamma)


@given(
    losses=loss_tables(1.0, 4.0), valid_losses=st.lists(st.sampled_from([1e-3, 1e3, math.nan]), min_size=1, max_size=3)
)
def test_lr_finder_skips_validation(lr_finder, beside, losses, valid_losses):
    """Validation batches are not recorded, do not change the learning rate, and do not stop the fit."""
    losses = clear_of(losses, 3.0)
    got = beside(_search, losses=losses, lr=0.01, given={}, valid_losses=valid_losses, rounds=1)
    expect_search(got[0], losses, 0.01)


@given(losses=loss_tables(), lr=numbers(0.001, 0.1), gamma=numbers(1.05, 3))
def test_lr_finder_starts_afresh(lr_finder, beside, losses, lr, gamma):
    """A second fit with the same finder has records of its own, and a best loss of its own."""
    losses = clear_of(losses, 3.0)
    got = beside(_search, losses=losses, lr=lr, given={"gamma": gamma}, valid_losses=[], rounds=3)
    for number, one in enumerate(got):
        expect_search(one, [[loss * (number + 1) for loss in epoch] for epoch in losses], lr * (number + 1), gamma)


def _groups(pieces, *, batches, rates, gamma):
    """The learning rate of every parameter group at each step."""
    model = nn.Sequential(*(nn.Linear(3, 3, bias=False) for _ in rates[1:]), nn.Linear(3, 2)).double()
    steps = []

    class Recorder:
        order = 0

        def after_backward(self):
            steps.append([float(group["lr"]) for group in learner.opt.param_groups])

    def make_groups(params, lr):
        return torch.optim.SGD(
            [{"params": layer.parameters(), "lr": r} for layer, r in zip(model, rates, strict=True)], lr
        )

    learner = pieces.TrainLearner(model, pieces.DataLoaders(batches, []), cbs=[Recorder()], opt_func=make_groups)
    learner.fit(1, cbs=[pieces.LRFinder(gamma, 1e9)])
    return steps


@given(batches=batches(), rates=st.lists(numbers(0.001, 0.01), min_size=2, max_size=4), gamma=numbers(1.05, 2))
def test_lr_finder_raises_every_group(lr_finder, beside, batches, rates, gamma):
    """The learning rate of every parameter group of the optimizer is multiplied, each from where it starts."""
    got = beside(_groups, batches=batches, rates=rates, gamma=gamma)
    want = [[rate * gamma**n for rate in rates] for n in range(len(batches))]
    expect(got, want, "the groups' learning rates at each step")


@st.composite
def states(draw):
    """A state_dict for a linear layer, a batch norm and another linear layer."""
    seed = draw(seeds())
    shapes = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (4,), "1.bias": (4,), "2.weight": (2, 4), "2.bias": (2,)}
    state = {name: normal(shape, seed + n) for n, (name, shape) in enumerate(shapes.items())}
    state |= {"1.running_mean": normal((4,), seed + 7), "1.running_var": normal((4,), seed + 8).abs() + 0.5}
    return {**state, "1.num_batches_tracked": torch.tensor(draw(st.integers(0, 99)))}


def _restored(pieces, *, state, batches, lr, mode, valid, ending):
    """The model after a search that ends in one of several ways: its state, its mode and how the fit ended.

    Its last layer is frozen before the fit, and trained in it.
    """
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model.load_state_dict(state)
    model.train(mode)
    model[2].requires_grad_(False)

    class Trouble:
        order = 5

        def before_epoch(self):
            model[2].requires_grad_(True)

        def after_backward(self):
            if learner.iter == len(batches) // 2:
                if ending == "an error":
                    raise ZeroDivisionError("trouble on purpose")
                if ending == "another callback":
                    raise pieces.CancelFitException
                if ending == "nan":
                    learner.loss = learner.loss * math.nan
                    model[0].weight.grad *= math.nan

    dls = pieces.DataLoaders(batches, batches if valid else [])
    learner = pieces.TrainLearner(model, dls, lr=lr, cbs=[Trouble()])
    raised = "nothing"
    try:
        learner.fit(2, valid=valid, cbs=[pieces.LRFinder(max_mult=1e9)])
    except ZeroDivisionError:
        raised = "ZeroDivisionError"
    modes = [module.training for module in model.modules()]
    return {
        "state": {name: value.clone() for name, value in model.state_dict().items()},
        "learner": {name: value.clone() for name, value in learner.model.state_dict().items()},
        "modes": modes,
        "raised": raised,
    }


def expect_restored(beside, endings, state, mode, **how):
    """Compares what searches leave behind, of all `endings` in one go: so a mistake shows as a whole."""
    got, want = {}, {}
    for ending in endings:
        left = beside(_restored, state={name: t.clone() for name, t in state.items()}, mode=mode, ending=ending, **how)
        names = ("state_dict()", "state_dict() by way of the learner", "training of it and its layers", "raised")
        call = f"after a fit ended by {ending}"
        got[call] = dict(zip(names, (left["state"], left["learner"], left["modes"], left["raised"]), strict=True))
        raised = "ZeroDivisionError" if ending == "an error" else "nothing"
        want[call] = dict(zip(names, (state, state, [mode] * 4, raised), strict=True))
    expect(got, want, "the model", tol=0)


@pytest.mark.weight(2)
@settings(max_examples=15)
@given(state=states(), batches=batches(min_size=2), lr=numbers(0.05, 0.5), mode=st.booleans(), valid=st.booleans())
def test_lr_finder_restores_the_model(lr_finder, beside, state, batches, lr, mode, valid):
    """After the search weights, buffers such as a batch norm's running statistics, and training mode are as before.

    `state_dict()` holds the model's own tensors, not copies: what was not cloned is trained along with the model.
    """
    batches = cast(batches, torch.float32)
    expect_restored(beside, ("its last batch", "nan"), state, mode, batches=batches, lr=lr, valid=valid)


@pytest.mark.weight(2)
@settings(max_examples=15)
@given(state=states(), batches=batches(min_size=2), lr=numbers(0.05, 0.5), mode=st.booleans())
def test_lr_finder_restores_after_trouble(lr_finder, beside, state, batches, lr, mode):
    """The model is put back also when the fit was ended by an error or by another callback; the error is passed on."""
    batches = cast(batches, torch.float32)
    endings = ("another callback", "an error", "its last batch")
    expect_restored(beside, endings, state, mode, batches=batches, lr=lr, valid=False)


def _afterwards(pieces, *, batches, start, lr, start_lr, gamma):
    """A search, the weights after each batch of a fit with the learner's own learning rate, and after a new search."""
    model = nn.Linear(3, 2).double()
    model.load_state_dict({"weight": start[0], "bias": start[1]})
    learner = pieces.TrainLearner(model, pieces.DataLoaders(batches, []), lr=lr)
    finder = pieces.LRFinder(gamma, 1e9)
    model.eval()
    learner.fit(2, valid=False, lr=start_lr, cbs=[finder])
    found = {"lrs": finder.lrs[:], "lr": learner.lr, "mode": model.training}
    path = []

    class Recorder:
        order = 0

        def after_batch(self):
            path.append([model.weight.detach().clone(), model.bias.detach().clone()])

    learner.fit(1, cbs=[Recorder()])
    learner.fit(1, valid=False, lr=start_lr, cbs=[finder])
    return {**found, "path": path, "last": [model.weight.detach().clone(), model.bias.detach().clone()]}


@settings(max_examples=15)
@given(
    batches=batches(), start=starts(), lr=numbers(0.01, 0.1), start_lr=numbers(0.001, 0.01), gamma=numbers(1.05, 1.5)
)
def test_lr_finder_leaves_the_learner_ready(lr_finder, beside, batches, start, lr, start_lr, gamma):
    """A fit after the search is what it would have been without: learning rate and weights are the learner's own."""
    got = beside(_afterwards, batches=batches, start=start, lr=lr, start_lr=start_lr, gamma=gamma)
    want = [start_lr * gamma**n for n in range(2 * len(batches))]
    expect(got["lrs"], want, "finder.lrs")
    expect(got["lr"], lr, "learn.lr after the search")
    path, last = "[weight, bias] after each batch of a later fit", "[weight, bias] after another search"
    want = {"model.training after the search": False, path: trajectory(start, batches, lr)}
    want[last] = want[path][-1]
    size = max(float(t.abs().max()) for one in want[path] for t in one)
    found = {"model.training after the search": got["mode"], path: got["path"], last: got["last"]}
    expect(found, want, "what a search leaves:", scale=max(size, 0.1))
