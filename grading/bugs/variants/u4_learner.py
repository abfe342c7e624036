import copy
import math

import torch
from torch import nn


# %% callback: the learner by getattr
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        # `learn` itself is not in the list, so that it ends below where there is no learner
        if name in self.forward_to_learner:
            return getattr(self.learn, name)
        raise AttributeError(name)

    @property
    def training(self):
        return self.learn.training


# %% callback: refused first
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        learn = vars(self).get("learn")
        if learn is None or name not in type(self).forward_to_learner:
            message = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(message, name=name, obj=self)
        return getattr(learn, name)

    @property
    def training(self):
        model = self.model
        return bool(model.training)


# %% callback: Python's own refusal
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        for forwarded in self.forward_to_learner:
            if forwarded == name:
                learn = object.__getattribute__(self, "learn")
                return getattr(learn, name)
        return object.__getattribute__(self, name)

    def _mode(self):
        return self.learn.model.training

    @property
    def training(self):
        return self._mode()


# %% callback: an error of the dictionary translated
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        try:
            learn = self.__dict__["learn"]
        except KeyError:
            raise AttributeError(f"{name}: there is no learner yet") from None
        if name in set(self.forward_to_learner):
            return getattr(learn, name)
        raise AttributeError(f"callbacks do not forward {name}")

    @property
    def training(self):
        return self.model.training


# %% train_learner: the batch unpacked
class TrainLearner(Learner):
    def predict(self):
        x, _ = self.batch
        self.preds = self.model(x)

    def get_loss(self):
        _, y = self.batch
        self.loss = self.loss_func(self.preds, y)

    def backward(self):
        torch.autograd.backward(self.loss)

    def step(self):
        self.opt.step()

    def zero_grad(self):
        self.opt.zero_grad(set_to_none=False)


# %% train_learner: gradients set to None by hand
class TrainLearner(Learner):
    def predict(self):
        inputs = self.batch[:-1]
        self.preds = self.model(*inputs)

    def get_loss(self):
        self.loss = self.loss_func(self.preds, self.batch[-1])

    def backward(self):
        self.loss.backward()

    def step(self):
        optimizer = self.opt
        optimizer.step()

    def zero_grad(self):
        for p in self.model.parameters():
            p.grad = None


# %% train_learner: gradients added by hand
class TrainLearner(Learner):
    def predict(self):
        self.preds = self.model.forward(self.batch[0])

    def get_loss(self):
        self.loss = self.loss_func(self.preds, self.batch[1])

    def backward(self):
        trained = [p for p in self.model.parameters() if p.requires_grad]
        new = torch.autograd.grad(self.loss, trained, allow_unused=True)
        for p, g in zip(trained, new, strict=True):
            if g is not None:
                p.grad = g if p.grad is None else p.grad + g

    def step(self):
        self.opt.step()

    def zero_grad(self):
        self.model.zero_grad()


# %% momentum_learner: a new gradient
class MomentumLearner(TrainLearner):
    def __init__(self, *args, mom=0.85, **kwargs):
        super().__init__(*args, **kwargs)
        self.mom = mom

    def zero_grad(self):
        for p in self.model.parameters():
            if p.grad is not None:
                p.grad = p.grad * self.mom


# %% momentum_learner: arguments written out
class MomentumLearner(TrainLearner):
    def __init__(
        self, model, dls, loss_func=nn.functional.mse_loss, lr=0.1, cbs=(), opt_func=torch.optim.SGD, mom=0.85
    ):
        super().__init__(model, dls, loss_func=loss_func, lr=lr, cbs=cbs, opt_func=opt_func)
        self.mom = mom

    @torch.no_grad()
    def zero_grad(self):
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        for g in gradients:
            g.mul_(self.mom)


# %% momentum_learner: sums of its own
class MomentumLearner(TrainLearner):
    def __init__(self, *args, mom=0.85, **kwargs):
        super().__init__(*args, **kwargs)
        self.mom, self.sums = mom, {}

    def backward(self):
        super().zero_grad()
        super().backward()
        for name, p in self.model.named_parameters():
            if p.grad is not None:
                p.grad += self.sums.get(name, 0.0)

    def zero_grad(self):
        self.sums = {n: self.mom * p.grad for n, p in self.model.named_parameters() if p.grad is not None}


# %% momentum_learner: the optimizer's parameters
class MomentumLearner(TrainLearner):
    def __init__(self, *args, mom=0.85, **kwargs):
        self.forgotten = 1 - mom
        super().__init__(*args, **kwargs)

    def zero_grad(self):
        for group in self.opt.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                p.grad.data.sub_(p.grad.data, alpha=self.forgotten)


# %% batch_transform: two conditions
class BatchTransform(Callback):
    def __init__(self, tfm, on_train=True, on_valid=True):
        self.tfm = tfm
        self.on_train = on_train
        self.on_valid = on_valid

    def before_batch(self):
        if (self.training and self.on_train) or (not self.training and self.on_valid):
            self.learn.batch = self.tfm(self.batch)


# %% batch_transform: phases in a dictionary
class BatchTransform(Callback):
    def __init__(self, tfm, on_train=True, on_valid=True):
        self.tfm = tfm
        self.wanted = {True: on_train, False: on_valid}

    def before_batch(self):
        learn = self.learn
        if self.wanted[learn.model.training]:
            new = self.tfm(learn.batch)
            learn.batch = new


# %% batch_transform: nothing to do
class BatchTransform(Callback):
    def __init__(self, tfm, on_train=True, on_valid=True):
        self.tfm, self.on_train, self.on_valid = tfm, on_train, on_valid

    def active(self):
        return self.on_train if self.model.training else self.on_valid

    def before_batch(self):
        if not self.active():
            return
        self.learn.batch = self.tfm(self.learn.batch)


# %% lr_finder: clones of the state
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma = gamma
        self.max_mult = max_mult

    def before_fit(self):
        self.lrs = []
        self.losses = []
        self.best = float("inf")
        self.was_training = self.model.training
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}

    def after_batch(self):
        if not self.training:
            return
        loss = float(self.learn.loss)
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(loss)
        if loss < self.best:
            self.best = loss
        if loss != loss or loss > self.best * self.max_mult:
            raise CancelFitException()
        for group in self.opt.param_groups:
            group["lr"] = group["lr"] * self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.state)
        self.model.train(self.was_training)


# %% lr_finder: a copy of the model
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult
        self.lrs, self.losses = [], []

    def before_fit(self):
        self.lrs.clear()
        self.losses.clear()
        self.before = copy.deepcopy(self.model)

    def before_batch(self):
        if not self.model.training:
            raise CancelBatchException

    def after_batch(self):
        loss = self.learn.loss.detach().cpu().item()
        self.lrs.append(float(self.opt.param_groups[0]["lr"]))
        self.losses.append(loss)
        if not loss <= self.max_mult * min(self.losses):
            raise CancelFitException
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.before.state_dict())
        for now, then in zip(self.model.modules(), self.before.modules(), strict=True):
            now.training = then.training


# %% lr_finder: parameters and buffers by hand
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.records, self.best = [], None
        self.tensors = [*self.model.parameters(), *self.model.buffers()]
        self.copies = [t.detach().clone() for t in self.tensors]
        self.mode = self.training

    def before_epoch(self):
        if not self.training:
            raise CancelEpochException

    def after_batch(self):
        loss = self.learn.loss.item()
        self.records.append((self.opt.param_groups[0]["lr"], loss))
        self.best = loss if self.best is None else min(self.best, loss)
        if math.isnan(loss) or loss / self.best > self.max_mult:
            raise CancelFitException("the loss has exploded")
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma

    @property
    def lrs(self):
        return [lr for lr, _ in self.records]

    @property
    def losses(self):
        return [loss for _, loss in self.records]

    def cleanup_fit(self):
        with torch.no_grad():
            for t, before in zip(self.tensors, self.copies, strict=True):
                t.copy_(before)
        if self.mode:
            self.model.train()
        else:
            self.model.eval()


# %% lr_finder: rates from the count of batches
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.lrs, self.losses = [], []
        self.first = [group["lr"] for group in self.opt.param_groups]
        self.state = copy.deepcopy(self.model.state_dict())
        self.mode = self.model.training

    def after_loss(self):
        if self.training:
            self.lrs.append(self.first[0] * self.gamma ** len(self.lrs))
            self.losses.append(self.learn.loss.item())

    def after_batch(self):
        if not self.training:
            return
        last = self.losses[-1]
        if math.isnan(last) or any(last > self.max_mult * loss for loss in self.losses):
            raise CancelFitException
        for group, first in zip(self.opt.param_groups, self.first, strict=True):
            group["lr"] = first * self.gamma ** len(self.lrs)

    def cleanup_fit(self):
        self.model.load_state_dict(self.state)
        self.model.train(self.mode)


# %% lr_finder: stops before the last step
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma = gamma
        self.max_mult = max_mult

    def before_fit(self):
        self.lrs, self.losses = [], []
        self.before = copy.deepcopy(self.model.state_dict())
        self.mode = self.model.training

    def after_loss(self):
        if self.training:
            self.lrs.append(self.opt.param_groups[0]["lr"])
            self.losses.append(self.learn.loss.item())
            if not self.losses[-1] <= self.max_mult * min(self.losses):
                raise CancelFitException

    def after_batch(self):
        if self.training:
            for group in self.opt.param_groups:
                group["lr"] *= self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.before)
        self.model.train(self.mode)
