# %% [markdown]
# # Unit 4: a learner with callbacks
#
# A training loop is ten lines: for every epoch, for every batch, predict, measure, differentiate, step, clear. The next
# units want to do more with it: look at activations, rescale weights before the first batch, change the learning
# rate after each, stop early, move data to a GPU, draw progress. Written into the loop, every such wish doubles the
# number of its variants. So the loop here does nothing but run, and announces what it is about to do; whoever wants
# something is told when.

# %%
from __future__ import annotations

import copy
import gc
import math
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

# %% [markdown]
# ## Events
#
# A **callback** is an object with methods named after the moments of a fit. The learner calls them in this nesting:
#
# ```text
# before_fit
#     before_epoch                                    once for the training batches, once for the validation batches
#         before_batch
#             predict,  then after_predict
#             get_loss, then after_loss
#             backward, then after_backward           training only, like the following two
#             step,     then after_step
#             zero_grad
#         after_batch
#     after_epoch
# after_fit
# ```
#
# A callback may also end what is running, by raising the cancel exception of the batch, the epoch or the fit. Then
# `after_cancel_batch` (or `_epoch`, `_fit`) takes the place of the matching `after_` event, and nothing else is
# reported. Every level finally announces `cleanup_`, whether it ended well, was cancelled, or broke with an error.
# What must be undone in any case, such as a hook on a layer or weights borrowed for an experiment, is undone in
# `cleanup_fit`.
#
# `epoch` in these names, as in `CancelEpochException`, means one phase: the training or the validation batches of one
# epoch.


# %%
class CancelFitException(Exception):
    """Raised by a callback to end the whole fit, quietly."""


class CancelEpochException(Exception):
    """Raised by a callback to go on with the next epoch, or with the next phase of this one."""


class CancelBatchException(Exception):
    """Raised by a callback to go on with the next batch."""


def run_callbacks(callbacks: Iterable[Callback], event: str) -> None:
    """Calls the method `event` of every callback that has one, lowest `order` first."""
    for callback in sorted(callbacks, key=lambda callback: callback.order):
        method = getattr(callback, event, None)
        if method is not None:
            method()


# %% [markdown]
# ## A callback reads from its learner
#
# Callbacks talk about the model, the optimizer and the batch all the time, and `self.learn.model` everywhere makes
# hard reading. Python has a place for this: when an attribute is found neither on an object nor on its class, it
# calls `__getattr__(self, name)` as the last resort. There, the few names in `forward_to_learner` are looked up on
# the learner, and every other name is refused with `AttributeError`, as Python itself would. Three things go wrong
# easily:
#
# - **Forwarding everything.** A misspelt name is then searched on the learner, and `hasattr(callback, "before_fit")`,
#   with which the learner finds out who wants to be told, asks the wrong object.
# - **Expecting it to work both ways.** `__getattr__` is about reading. `self.batch = ...` makes a new attribute on
#   the callback, which from then on hides the learner's; the learner never sees it. To change the learner, say so:
#   `self.learn.batch = ...`.
# - **Recursion.** `copy` and `pickle` make an object without calling `__init__` and, before it holds anything, ask it
#   for methods such as `__setstate__`. If `__getattr__` then reads `self.learn`, which is not there, Python calls
#   `__getattr__("learn")`, which reads `self.learn` ..., and the kernel reports `RecursionError` from a line that
#   copies something. `self.__dict__` is always there and never forwards.


# %%
class Callback:
    """Something that happens at certain events of a fit, such as `before_fit` or `after_batch`.

    The learner sets `learn` before the first event. The names in `forward_to_learner` are read from the learner; a
    subclass may have a tuple of its own. Where several callbacks wait for one event, the lowest `order` comes first.
    """

    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name: str) -> Any:
        """Reads the attributes named in `forward_to_learner` from `self.learn`.

        Raises AttributeError naming the attribute for every other one, and for all while there is no learner.
        """
        raise NotImplementedError("callback: replace this line with your own")

    @property
    def training(self) -> bool:
        """Whether the learner's model is in training mode: `Module.training`, which `train` and `eval` set."""
        raise NotImplementedError("callback: replace this line with your own")


# %% [markdown]
# ## The learner
#
# `Learner` holds what a fit needs and runs the loop. It does not say what a prediction or a step *is*: the five
# methods `predict`, `get_loss`, `backward`, `step` and `zero_grad` are left to a subclass or, where that has none, to
# the callbacks as five more events. The optimizer is made anew by every `fit`, so two fits share the weights and no
# momentum.


# %%
class DataLoaders:
    """The two iterables of batches that a fit needs: `train` and `valid`."""

    def __init__(self, train: Iterable[Any], valid: Iterable[Any]) -> None:
        self.train, self.valid = train, valid


class Learner:
    """The loop over epochs, phases and batches; callbacks and subclasses say what happens in it.

    model: the module that is trained.
    dls: an object with `train` and `valid`, iterables of batches.
    opt_func: called with `(parameters, lr)` at the start of every fit.
    Events, in order: before_fit, before_epoch, before_batch, after_predict, after_loss, after_backward, after_step,
    after_batch, after_epoch, after_fit; after a cancel exception after_cancel_batch / _epoch / _fit instead, and
    cleanup_batch / _epoch / _fit always, also after an error.
    """

    def __init__(
        self,
        model: nn.Module,
        dls: Any,
        loss_func: Callable[..., Tensor] = F.mse_loss,
        lr: float = 0.1,
        cbs: Iterable[Callback] = (),
        opt_func: Callable[..., Any] = torch.optim.SGD,
    ) -> None:
        self.model, self.dls, self.loss_func, self.lr, self.opt_func = model, dls, loss_func, lr, opt_func
        self.cbs = list(cbs)

    def fit(
        self,
        n_epochs: int = 1,
        train: bool = True,
        valid: bool = True,
        cbs: Iterable[Callback] = (),
        lr: float | None = None,
    ) -> None:
        """Runs `n_epochs` epochs; `cbs` are added for this fit only, and `lr` replaces the learner's."""
        added = list(cbs)
        self.cbs += added
        try:
            self.n_epochs, self.epochs = n_epochs, range(n_epochs)
            for callback in self.cbs:
                callback.learn = self
            if self.opt_func is not None:
                self.opt = self.opt_func(self.model.parameters(), self.lr if lr is None else lr)
            self.run("fit", CancelFitException, partial(self.all_epochs, train, valid))
        finally:
            for callback in added:
                self.cbs.remove(callback)

    def all_epochs(self, train: bool, valid: bool) -> None:
        """The epochs of a fit, each with the phases asked for."""
        for epoch in self.epochs:
            self.epoch = epoch
            if train:
                self.one_epoch(True)
            if valid:
                with torch.no_grad():
                    self.one_epoch(False)

    def one_epoch(self, training: bool) -> None:
        """One pass over the training or the validation batches, with the model in that mode."""
        self.model.train(training)
        self.dl = self.dls.train if training else self.dls.valid
        self.run("epoch", CancelEpochException, self.all_batches)

    def all_batches(self) -> None:
        """The batches of a phase."""
        for number, batch in enumerate(self.dl):
            self.iter, self.batch = number, batch
            self.one_batch()

    def one_batch(self) -> None:
        """Everything that happens to `self.batch`."""
        self.run("batch", CancelBatchException, self.five_steps)

    def five_steps(self) -> None:
        """Prediction and loss, and in training the step that follows from them."""
        self.predict()
        self.callback("after_predict")
        self.get_loss()
        self.callback("after_loss")
        if self.model.training:
            self.backward()
            self.callback("after_backward")
            self.step()
            self.callback("after_step")
            self.zero_grad()

    def run(self, name: str, cancel: type[Exception], level: Callable[[], None]) -> None:
        """before_<name>, the level itself, after_<name>; `cancel` ends it quietly, and cleanup_<name> comes always."""
        try:
            self.callback(f"before_{name}")
            level()
            self.callback(f"after_{name}")
        except cancel:
            self.callback(f"after_cancel_{name}")
        finally:
            self.callback(f"cleanup_{name}")

    def callback(self, event: str) -> None:
        """Tells all callbacks of `event`."""
        run_callbacks(self.cbs, event)

    def __getattr__(self, name: str) -> Any:
        """The five steps of a batch are left to callbacks where no subclass defines them."""
        if name in ("predict", "get_loss", "backward", "step", "zero_grad"):
            return partial(self.callback, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    @property
    def training(self) -> bool:
        return self.model.training

    def lr_find(
        self, gamma: float = 1.3, max_mult: float = 3, start_lr: float = 1e-5, max_epochs: int = 10
    ) -> LRFinder:
        """Fits with a learning rate that grows from `start_lr` until the loss explodes; returns the finder."""
        finder = LRFinder(gamma, max_mult)
        self.fit(max_epochs, lr=start_lr, cbs=[finder])
        return finder


# %% [markdown]
# ## The usual loop
#
# With batches of pairs `(x, y)` the five methods are a line each. Each does its own part only: what the forward pass
# leaves in `preds` and `loss`, callbacks read between the steps; and `backward` *adds* to the gradients, which is why
# PyTorch needs a `zero_grad` at all. Leave it out and the third step follows the sum of three gradients: training
# looks fast for a few batches and then swings ever wider.


# %%
class TrainLearner(Learner):
    """The usual loop on `(x, y)` batches: predictions in `preds`, their loss in `loss`."""

    def predict(self) -> None:
        """Sets `preds` to the model's output for the inputs of the batch."""
        raise NotImplementedError("train_learner: replace this line with your own")

    def get_loss(self) -> None:
        """Sets `loss` to `loss_func` of `preds` and the targets of `batch`, in this order, whoever has set them."""
        raise NotImplementedError("train_learner: replace this line with your own")

    def backward(self) -> None:
        """Adds the gradients of `loss` to the parameters' `grad`."""
        raise NotImplementedError("train_learner: replace this line with your own")

    def step(self) -> None:
        """Lets the optimizer take a step."""
        raise NotImplementedError("train_learner: replace this line with your own")

    def zero_grad(self) -> None:
        """Lets the optimizer clear the gradients."""
        raise NotImplementedError("train_learner: replace this line with your own")


# %% [markdown]
# ## Momentum in one line
#
# If forgetting `zero_grad` adds up all gradients since the start, then *nearly* zeroing adds up the recent ones.
# That is momentum (Polyak 1964; in this form Sutskever et al. 2013, section 2), without a new optimizer:
#
# $$v_t = \mu\, v_{t-1} + g_t, \qquad w_{t+1} = w_t - \eta\, v_t$$
#
# The parameter's own `grad` serves as $v$: it is multiplied by $\mu$ where it used to be zeroed, and the next
# `backward` adds $g_t$ to it. In a narrow valley the gradients across it change sign from step to step and cancel in
# the sum; those along it agree and add up. Parameters that took no part in the loss have no gradient, `None`, and
# nothing to multiply.


# %%
class MomentumLearner(TrainLearner):
    """Momentum without an optimizer: each step's gradients are added to `mom` times the sum of those before.

    Takes the arguments of Learner, and mom, the share of the sum that a step passes on.
    Parameters without gradient are skipped.
    """

    def __init__(self, *args: Any, mom: float = 0.85, **kwargs: Any) -> None:
        raise NotImplementedError("momentum_learner: replace this line with your own")

    def zero_grad(self) -> None:
        """Keeps `mom` times every gradient instead of zeroing it."""
        raise NotImplementedError("momentum_learner: replace this line with your own")


# %%
def valley_picture(moms: Iterable[float] = (0.0, 0.85), lr: float = 0.045, n_steps: int = 40):
    """A figure with the path of two weights to the bottom of a narrow valley, a panel for each `mom`."""
    import matplotlib.pyplot as plt

    moms = list(moms)
    steepness = torch.tensor([1.0, 40.0])
    across, along = torch.meshgrid(torch.linspace(-1.6, 1.6, 80), torch.linspace(-0.4, 2.4, 80), indexing="ij")
    figure, axes = plt.subplots(1, len(moms), figsize=(5 * len(moms), 3), layout="constrained", squeeze=False)
    for ax, mom in zip(axes.flat, moms, strict=True):
        weight = nn.Parameter(torch.tensor([2.0, 1.0]))
        valley = nn.ParameterList([weight])
        learn = MomentumLearner(valley, DataLoaders([], []), lr=lr, mom=mom)
        learn.opt = learn.opt_func([weight], lr)
        path = [weight.detach().clone()]
        for _ in range(n_steps):
            learn.loss = (steepness * weight**2).sum() / 2
            learn.backward()
            learn.step()
            learn.zero_grad()
            path.append(weight.detach().clone())
        ax.contour(
            along, across, (along**2 + 40 * across**2) / 2, levels=[0.1, 0.3, 1, 3, 10, 30], linewidths=0.5, alpha=0.6
        )
        ax.plot(*torch.stack(path).T, marker=".", color="tab:red")
        ax.set(title=f"mom = {mom:g}: {n_steps} steps", xlabel="weight along the valley", ylabel="weight across it")
    return figure


# %%
if __name__ == "__main__":
    valley_picture()

# %% [markdown]
# **Question.** All gradients of a long stretch are the same number g. How large does the step of `MomentumLearner`
# become with `lr=0.1` and `mom=0.85`, and after how many steps has it reached 90 % of that? Another form of momentum,
# that of unit 8, averages: $v_t = \mu\, v_{t-1} + (1 - \mu)\, g_t$. Which learning rate gives it the same steps?

# %% [markdown] question="u4-momentum" points=3
# Your answer here.

# %% [markdown]
# ## Changing the batch
#
# Augmentation, normalisation, noise, moving to a device: much of what is done to data can be done to a whole batch just
# before it is used. This is the place where "setting never forwards" bites: `self.batch = self.tfm(self.batch)` runs
# without an error, changes nothing, and is noticed when augmentation has made no difference for a week.


# %%
class BatchTransform(Callback):
    """Replaces the batch by `tfm(batch)` before it is used, in training, validation or both.

    tfm: takes the whole batch, as the data loader gave it, and returns the one to use instead.
    """

    def __init__(self, tfm: Callable[[Any], Any], on_train: bool = True, on_valid: bool = True) -> None:
        raise NotImplementedError("batch_transform: replace this line with your own")

    def before_batch(self) -> None:
        """Puts the transformed batch in the learner's place of it, where this phase is asked for."""
        raise NotImplementedError("batch_transform: replace this line with your own")


# %% [markdown]
# ## Finding a learning rate
#
# Too small a learning rate wastes the afternoon, too large a one ends in `nan`, and the useful range depends on
# everything: the model, its initialisation, the batch size, the optimizer. It can be measured in a minute (Smith
# 2017, section 3.3): train while the learning rate grows with every batch, and look where the loss falls fastest and
# where it explodes.
#
# Smith raises the rate by equal steps. Here it is *multiplied* by `gamma` each batch, which covers five powers of ten
# in as many batches each, and the fit stops by itself once the loss is more than `max_mult` times the best one seen.
# The best is the smallest so far, neither the first nor the latest. And `nan` needs its own test: every comparison
# with `nan` is false, so `loss > max_mult * best` lets it pass.
#
# Afterwards the weights are those of an explosion, and the running statistics of a batch norm too. They are put back,
# however the fit ended, so they must have been *copied* before: `state_dict()` holds the parameters' own memory, and
# what was not cloned is trained along with them.


# %%
class LRFinder(Callback):
    """Multiplies the learning rate by `gamma` each training batch until the loss exceeds `max_mult` times its best.

    A loss of nan ends the fit too. Validation batches are skipped.
    lrs, losses: lists of floats with the learning rate and the loss of each training batch of the latest fit, the one
    that ended it included.
    Afterwards weights, buffers and mode of the model are as before. Smith 2017, section 3.3.
    """

    def __init__(self, gamma: float = 1.3, max_mult: float = 3) -> None:
        raise NotImplementedError("lr_finder: replace this line with your own")

    def before_fit(self) -> None:
        """Starts new records, and keeps a copy of what is to be put back."""
        raise NotImplementedError("lr_finder: replace this line with your own")

    def before_batch(self) -> None:
        """Skips validation."""
        raise NotImplementedError("lr_finder: replace this line with your own")

    def after_batch(self) -> None:
        """Records, then stops the fit or raises the learning rate of every parameter group."""
        raise NotImplementedError("lr_finder: replace this line with your own")

    def cleanup_fit(self) -> None:
        """Puts weights, buffers and mode back."""
        raise NotImplementedError("lr_finder: replace this line with your own")


# %%
def lr_picture(finder: LRFinder):
    """A figure with the loss over the learning rate, the latter in powers of ten."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    ax.plot(finder.lrs, finder.losses)
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss of the batch")
    return figure


# %%
if __name__ == "__main__":
    torch.manual_seed(1)
    inputs = torch.randn(50, 64, 10)
    targets = (inputs @ torch.randn(10, 1)).tanh()
    model = nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 1))
    batches = list(zip(inputs, targets, strict=True))
    learner = TrainLearner(model, DataLoaders(batches, batches[:5]))
    lr_picture(learner.lr_find())

# %% [markdown]
# **Question.** The search starts at 1e-5 and multiplies by 1.3. How many batches does it need to come past 0.1, and
# how many would equal steps of 1e-5 need? In the picture the loss is smallest just before it explodes: why is the
# learning rate *there* a poor choice for training, and which one would you take?

# %% [markdown] question="u4-range-test" points=3
# Your answer here.

# %% [markdown]
# ## Callbacks that come with the kit
#
# Three that most fits want. `MetricsCallback` averages over samples, not over batches: the last batch of an epoch is
# smaller, and its few samples must not count for more than the others. `DeviceCallback` moves the model before the
# first batch and each batch as it comes. `ProgressCallback` draws a bar per phase.


# %%
class MetricsCallback(Callback):
    """Averages the loss, and `metrics` of predictions and targets, over the samples of each phase.

    history: a dictionary per phase with `epoch`, `phase` ("train" or "valid"), `loss` and a float for each metric.
    """

    def __init__(self, **metrics: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.metrics = metrics
        self.history: list[dict[str, Any]] = []

    def before_epoch(self) -> None:
        self.count, self.sums = 0, dict.fromkeys(("loss", *self.metrics), 0.0)

    def after_batch(self) -> None:
        learn, y = self.learn, self.batch[1]
        self.count += len(y)
        self.sums["loss"] += learn.loss.detach() * len(y)
        for name, metric in self.metrics.items():
            self.sums[name] += metric(learn.preds.detach(), y) * len(y)

    def after_epoch(self) -> None:
        averages = {name: float(total) / max(self.count, 1) for name, total in self.sums.items()}
        self.history.append({"epoch": self.epoch, "phase": "train" if self.training else "valid", **averages})


def accuracy(preds: Tensor, y: Tensor) -> Tensor:
    """Share of the rows of `preds` `(n, classes)` whose largest entry is at index `y` `(n,)`."""
    return (preds.argmax(dim=1) == y).float().mean()


class DeviceCallback(Callback):
    """Moves the model and every batch to a device before they are used."""

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)

    def before_fit(self) -> None:
        self.model.to(self.device)

    def before_batch(self) -> None:
        self.learn.batch = tuple(t.to(self.device) for t in self.batch)


class ProgressCallback(Callback):
    """A progress bar per phase, in a notebook or a terminal, with the current loss beside it."""

    order = 100
    bar = None

    def before_epoch(self) -> None:
        phase = "train" if self.training else "valid"
        total = len(self.learn.dl) if hasattr(self.learn.dl, "__len__") else None
        self.bar = tqdm(total=total, desc=f"epoch {self.epoch + 1}/{self.learn.n_epochs} {phase}", leave=False)

    def after_batch(self) -> None:
        self.bar.update()
        if self.learn.iter % 10 == 0:
            self.bar.set_postfix(loss=f"{self.learn.loss.item():.3f}")

    def cleanup_epoch(self) -> None:
        # a callback before this one may have cancelled the epoch, or the fit, before there was a bar
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def clean_memory() -> None:
    """Frees what holds on to tensors after an experiment.

    That is a notebook's history, the last traceback (its frames hold their variables), garbage, and the GPU cache.
    """
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is not None:
        shell.history_manager.reset(new_session=False)
        shell.displayhook.flush()
        # flush forgets the copies that IPython keeps to notice when `_` was assigned by the user
        shell.push({"_": "", "__": "", "___": ""}, interactive=False)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
