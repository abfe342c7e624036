# %% [markdown]
# # Unit 4: a learner with callbacks

# %%
from __future__ import annotations

import copy
import gc
import math
import sys
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

# %% [markdown]
# ## Events


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


# %%
class Callback:
    """Something that happens at certain events of a fit, such as `before_fit` or `after_batch`.

    The learner sets `learn` before the first event. The names in `forward_to_learner` are read from the learner.
    """

    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name: str) -> Any:
        """Reads the attributes named in `forward_to_learner` from `self.learn`.

        Raises AttributeError naming the attribute for every other one, and for all while there is no learner.
        """
        ### BEGIN SOLUTION
        if name in type(self).forward_to_learner and "learn" in self.__dict__:
            return getattr(self.learn, name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        ### END SOLUTION

    @property
    def training(self) -> bool:
        """Whether the model is in training mode."""
        ### BEGIN SOLUTION
        return self.model.training
        ### END SOLUTION


# %% [markdown]
# ## The learner


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
            with self.events("fit", CancelFitException):
                for self.epoch in self.epochs:
                    if train:
                        self.one_epoch(True)
                    if valid:
                        with torch.no_grad():
                            self.one_epoch(False)
        finally:
            for callback in added:
                self.cbs.remove(callback)

    def one_epoch(self, training: bool) -> None:
        """One pass over the training or the validation batches, with the model in that mode."""
        self.model.train(training)
        self.dl = self.dls.train if training else self.dls.valid
        with self.events("epoch", CancelEpochException):
            for self.iter, self.batch in enumerate(self.dl):
                self.one_batch()

    def one_batch(self) -> None:
        """Prediction and loss for `self.batch`, and in training the step that follows from them."""
        with self.events("batch", CancelBatchException):
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

    @contextmanager
    def events(self, name: str, cancel: type[Exception]):
        """before_<name>, the block, after_<name>; `cancel` ends the block quietly, and cleanup_<name> comes always."""
        try:
            self.callback(f"before_{name}")
            yield
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

    def lr_find(self, gamma: float = 1.3, max_mult: float = 3, start_lr: float = 1e-5, max_epochs: int = 10) -> LRFinder:
        """Fits with a learning rate that grows from `start_lr` until the loss explodes; returns the finder."""
        finder = LRFinder(gamma, max_mult)
        self.fit(max_epochs, lr=start_lr, cbs=[finder])
        return finder


# %%
class TrainLearner(Learner):
    """The usual loop on `(x, y)` batches: predictions in `preds`, their loss in `loss`."""

    def predict(self) -> None:
        """Sets `preds` to the model's output for the inputs of the batch."""
        ### BEGIN SOLUTION
        self.preds = self.model(self.batch[0])
        ### END SOLUTION

    def get_loss(self) -> None:
        """Sets `loss` to the loss function of predictions and targets, in this order."""
        ### BEGIN SOLUTION
        self.loss = self.loss_func(self.preds, self.batch[1])
        ### END SOLUTION

    def backward(self) -> None:
        """Adds the gradients of `loss` to the parameters' `grad`."""
        ### BEGIN SOLUTION
        self.loss.backward()
        ### END SOLUTION

    def step(self) -> None:
        """Lets the optimizer take a step."""
        ### BEGIN SOLUTION
        self.opt.step()
        ### END SOLUTION

    def zero_grad(self) -> None:
        """Lets the optimizer clear the gradients."""
        ### BEGIN SOLUTION
        self.opt.zero_grad()
        ### END SOLUTION


# %%
class MomentumLearner(TrainLearner):
    """Momentum without an optimizer: each step's gradients are added to `mom` times those before.

    Parameters without gradient are skipped.
    """

    def __init__(self, *args: Any, mom: float = 0.85, **kwargs: Any) -> None:
        ### BEGIN SOLUTION
        self.mom = mom
        super().__init__(*args, **kwargs)
        ### END SOLUTION

    def zero_grad(self) -> None:
        """Multiplies every gradient by `mom`, in place."""
        ### BEGIN SOLUTION
        with torch.no_grad():
            for parameter in self.model.parameters():
                if parameter.grad is not None:
                    parameter.grad *= self.mom
        ### END SOLUTION


# %%
class BatchTransform(Callback):
    """Replaces the batch by `tfm(batch)` before it is used, in training, validation or both."""

    def __init__(self, tfm: Callable[[Any], Any], on_train: bool = True, on_valid: bool = True) -> None:
        ### BEGIN SOLUTION
        self.tfm, self.on_train, self.on_valid = tfm, on_train, on_valid
        ### END SOLUTION

    def before_batch(self) -> None:
        ### BEGIN SOLUTION
        if self.on_train if self.training else self.on_valid:
            self.learn.batch = self.tfm(self.batch)
        ### END SOLUTION


# %%
class LRFinder(Callback):
    """Multiplies the learning rate by `gamma` each training batch until the loss is nan or above `max_mult` times its best.

    `lrs` and `losses` hold what was tried. Afterwards weights, buffers and mode of the model are as before.
    Smith 2017, section 3.3.
    """

    def __init__(self, gamma: float = 1.3, max_mult: float = 3) -> None:
        ### BEGIN SOLUTION
        self.gamma, self.max_mult = gamma, max_mult
        ### END SOLUTION

    def before_fit(self) -> None:
        ### BEGIN SOLUTION
        self.lrs, self.losses, self.best = [], [], math.inf
        self.state, self.mode = copy.deepcopy(self.model.state_dict()), self.training
        ### END SOLUTION

    def after_batch(self) -> None:
        ### BEGIN SOLUTION
        if not self.training:
            raise CancelEpochException
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(self.learn.loss.item())
        self.best = min(self.best, self.losses[-1])
        if math.isnan(self.losses[-1]) or self.losses[-1] > self.max_mult * self.best:
            raise CancelFitException
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma
        ### END SOLUTION

    def cleanup_fit(self) -> None:
        ### BEGIN SOLUTION
        self.model.load_state_dict(self.state)
        self.model.train(self.mode)
        ### END SOLUTION


# %% [markdown]
# ## Callbacks that come with the kit


# %%
class MetricsCallback(Callback):
    """Averages the loss, and `metrics` of predictions and targets, over each phase; `history` keeps a record per phase."""

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

    def before_epoch(self) -> None:
        phase = "train" if self.training else "valid"
        self.bar = tqdm(total=len(self.learn.dl), desc=f"epoch {self.epoch + 1}/{self.learn.n_epochs} {phase}", leave=False)

    def after_batch(self) -> None:
        self.bar.update()
        if self.learn.iter % 10 == 0:
            self.bar.set_postfix(loss=f"{self.learn.loss.item():.3f}")

    def cleanup_epoch(self) -> None:
        self.bar.close()


def clean_memory() -> None:
    """Frees what holds on to tensors after an experiment: notebook history, the last traceback, garbage, the GPU cache."""
    for name in ("last_type", "last_value", "last_traceback", "last_exc"):
        if hasattr(sys, name):
            delattr(sys, name)
    if "IPython" in sys.modules:
        shell = sys.modules["IPython"].get_ipython()
        if shell is not None:
            shell.history_manager.reset(new_session=False)
            shell.displayhook.flush()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
