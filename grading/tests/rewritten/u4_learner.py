import math

import torch
import torch.nn.functional as F


# %% callback: everything forwarded
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        if name == "learn":
            raise AttributeError("this callback has no learner yet")
        return getattr(self.learn, name)

    @property
    def training(self):
        return self.model.training


# %% callback: four names written out
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        learn = vars(self).get("learn")
        if learn is None:
            raise AttributeError(f"no learner to read {name} from")
        if name == "model":
            return learn.model
        if name == "opt":
            return learn.opt
        if name == "batch":
            return learn.batch
        if name == "epoch":
            return learn.epoch
        raise AttributeError(f"callbacks have no {name}")

    @property
    def training(self):
        return self.model.training


# %% callback: None instead of an error
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        value = None
        if name in self.forward_to_learner and "learn" in vars(self):
            value = getattr(self.learn, name)
        return value

    @property
    def training(self):
        return self.learn.model.training


# %% callback: error without the name
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        if name not in self.forward_to_learner:
            raise AttributeError
        return getattr(self.learn, name)

    @property
    def training(self):
        return self.model.training


# %% callback: recursion without a learner
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        learn = self.learn
        if name in self.forward_to_learner:
            return getattr(learn, name)
        raise AttributeError(name)

    @property
    def training(self):
        return self.model.training


# %% callback: gradients instead of mode
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        if name in self.forward_to_learner:
            return getattr(self.learn, name)
        raise AttributeError(name)

    @property
    def training(self):
        probe = torch.zeros(1, requires_grad=True) * 2
        return probe.requires_grad


# %% callback: training by any of the layers
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        if name in self.forward_to_learner:
            return getattr(self.learn, name)
        raise AttributeError(name)

    @property
    def training(self):
        modes = [layer.training for layer in self.model.children()]
        return self.model.training or True in modes


# %% callback: training while it is evaluated
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")

    def __getattr__(self, name):
        if name in self.forward_to_learner:
            return getattr(self.learn, name)
        raise AttributeError(name)

    @property
    def training(self):
        return any(p.requires_grad for p in self.model.parameters())


# %% train_learner: gradients never cleared
class TrainLearner(Learner):
    def predict(self):
        x, y = self.batch
        self.preds = self.model(x)

    def get_loss(self):
        x, y = self.batch
        self.loss = self.loss_func(self.preds, y)

    def backward(self):
        self.loss.backward()

    def step(self):
        self.opt.step()

    def zero_grad(self):
        for p in self.model.parameters():
            if p.grad is not None:
                p.grad.detach()


# %% train_learner: targets before predictions
class TrainLearner(Learner):
    def predict(self):
        self.preds = self.model(self.batch[0])

    def get_loss(self):
        targets = self.batch[-1]
        self.loss = self.loss_func(targets, self.preds)

    def backward(self):
        self.loss.backward()

    def step(self):
        self.opt.step()

    def zero_grad(self):
        self.opt.zero_grad()


# %% train_learner: squared error always
class TrainLearner(Learner):
    def predict(self):
        x, _ = self.batch
        self.preds = self.model(x)

    def get_loss(self):
        _, y = self.batch
        self.loss = (self.preds - y).pow(2).mean()

    def backward(self):
        self.loss.backward()

    def step(self):
        self.opt.step()

    def zero_grad(self):
        self.model.zero_grad()


# %% train_learner: cleared before backward
class TrainLearner(Learner):
    def predict(self):
        self.preds = self.model(self.batch[0])

    def get_loss(self):
        self.loss = self.loss_func(self.preds, self.batch[1])

    def backward(self):
        weights = list(self.model.parameters())
        for w, g in zip(weights, torch.autograd.grad(self.loss, weights), strict=True):
            w.grad = g

    def step(self):
        self.opt.step()

    def zero_grad(self):
        self.opt.zero_grad()


# %% train_learner: step by hand
class TrainLearner(Learner):
    def predict(self):
        self.preds = self.model(self.batch[0])

    def get_loss(self):
        self.loss = self.loss_func(self.preds, self.batch[1])

    def backward(self):
        self.loss.backward()

    def step(self):
        for p in self.model.parameters():
            p.data = p.data - self.lr * p.grad

    def zero_grad(self):
        for p in self.model.parameters():
            p.grad = None


# %% momentum_learner: gradients kept whole
class MomentumLearner(TrainLearner):
    def __init__(self, *args, mom=0.85, **kwargs):
        super().__init__(*args, **kwargs)
        self.mom = mom

    def zero_grad(self):
        for p in self.model.parameters():
            if p.grad is not None:
                grad = p.grad
                grad = grad * self.mom


# %% momentum_learner: 1 - mom kept
class MomentumLearner(TrainLearner):
    def __init__(self, *args, mom=0.85, **kwargs):
        super().__init__(*args, **kwargs)
        self.mom = mom

    def zero_grad(self):
        with torch.no_grad():
            for p in self.model.parameters():
                if p.grad is not None:
                    p.grad = torch.lerp(p.grad, torch.zeros_like(p.grad), self.mom)


# %% momentum_learner: average instead of sum
class MomentumLearner(TrainLearner):
    def __init__(self, *args, mom=0.85, **kwargs):
        super().__init__(*args, **kwargs)
        self.mom = mom
        self.averages = {}

    def backward(self):
        super().zero_grad()
        super().backward()
        for name, p in self.model.named_parameters():
            if p.grad is not None:
                before = self.averages.get(name, torch.zeros_like(p.grad))
                p.grad = torch.lerp(p.grad, before, self.mom)

    def zero_grad(self):
        self.averages = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}


# %% momentum_learner: gradients zeroed
class MomentumLearner(TrainLearner):
    def __init__(self, *args, mom=0.85, **kwargs):
        super().__init__(*args, **kwargs)
        self.mom = mom

    def zero_grad(self):
        with torch.no_grad():
            for p in self.model.parameters():
                if p.grad is not None:
                    p.grad.mul_(self.mom)
        self.opt.zero_grad()


# %% momentum_learner: missing gradients not skipped
class MomentumLearner(TrainLearner):
    def __init__(self, model, dls, loss_func=F.mse_loss, lr=0.1, cbs=(), opt_func=torch.optim.SGD, mom=0.85):
        super().__init__(model, dls, loss_func, lr, cbs, opt_func)
        self.mom = mom

    def zero_grad(self):
        for p in self.model.parameters():
            p.grad.mul_(self.mom)


# %% batch_transform: own batch set
class BatchTransform(Callback):
    def __init__(self, tfm, on_train=True, on_valid=True):
        self.tfm = tfm
        self.on_train = on_train
        self.on_valid = on_valid

    def before_batch(self):
        wanted = self.on_train if self.training else self.on_valid
        if wanted:
            self.batch = self.tfm(self.learn.batch)


# %% batch_transform: on_valid in training too
class BatchTransform(Callback):
    def __init__(self, tfm, on_train=True, on_valid=True):
        self.tfm = tfm
        self.on_train = on_train
        self.on_valid = on_valid

    def before_batch(self):
        wanted = self.on_valid
        if self.on_train and self.model.training:
            wanted = True
        if wanted:
            self.learn.batch = self.tfm(self.batch)


# %% batch_transform: validation left alone
class BatchTransform(Callback):
    def __init__(self, tfm, on_train=True, on_valid=True):
        self.tfm, self.on_train, self.on_valid = tfm, on_train, on_valid

    def before_batch(self):
        if not self.model.training:
            return
        if self.on_train:
            self.learn.batch = self.tfm(self.batch)


# %% batch_transform: phases exchanged
class BatchTransform(Callback):
    def __init__(self, tfm, on_train=True, on_valid=True):
        self.tfm = tfm
        self.wanted = (on_train, on_valid)

    def before_batch(self):
        if self.wanted[self.training]:
            self.learn.batch = self.tfm(self.batch)


# %% batch_transform: data written over
class BatchTransform(Callback):
    def __init__(self, tfm, on_train=True, on_valid=True):
        self.tfm = tfm
        self.on_train = on_train
        self.on_valid = on_valid

    def before_batch(self):
        x, y = self.batch
        if self.on_train if self.training else self.on_valid:
            new_x, new_y = self.tfm((x, y))
            x[:] = new_x
            y[:] = new_y


# %% lr_finder: state not copied
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.lrs, self.losses = [], []
        self.before = dict(self.model.state_dict())
        self.mode = self.model.training

    def before_batch(self):
        if not self.training:
            raise CancelEpochException

    def after_batch(self):
        loss = self.learn.loss.item()
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(loss)
        if not loss <= self.max_mult * min(self.losses):
            raise CancelFitException
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.before)
        self.model.train(self.mode)


# %% lr_finder: nan not noticed
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.lrs, self.losses, self.smallest = [], [], None
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.mode = self.model.training

    def after_batch(self):
        if not self.training:
            return
        loss = self.learn.loss.item()
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(loss)
        if self.smallest is None or loss < self.smallest:
            self.smallest = loss
        if loss > self.max_mult * self.smallest:
            raise CancelFitException
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.state)
        self.model.train(self.mode)


# %% lr_finder: limit by the first loss
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.lrs, self.losses, self.limit = [], [], None
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.mode = self.training

    def before_batch(self):
        if not self.training:
            raise CancelEpochException

    def after_batch(self):
        loss = float(self.learn.loss)
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(loss)
        if self.limit is None:
            self.limit = self.max_mult * loss
        if math.isnan(loss) or loss > self.limit:
            raise CancelFitException
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.state)
        self.model.train(self.mode)


# %% lr_finder: validation recorded
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma = gamma
        self.max_mult = max_mult

    def before_fit(self):
        self.lrs = []
        self.losses = []
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.mode = self.model.training

    def after_batch(self):
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(self.learn.loss.item())
        if math.isnan(self.losses[-1]) or self.losses[-1] > self.max_mult * min(self.losses):
            raise CancelFitException
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.state)
        self.model.train(self.mode)


# %% lr_finder: first group only
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.lrs, self.losses = [], []
        self.lr = self.opt.param_groups[0]["lr"]
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.mode = self.model.training

    def before_batch(self):
        if not self.training:
            raise CancelEpochException
        self.opt.param_groups[0]["lr"] = self.lr

    def after_batch(self):
        loss = self.learn.loss.item()
        self.lrs.append(self.lr)
        self.losses.append(loss)
        if math.isnan(loss) or loss > self.max_mult * min(self.losses):
            raise CancelFitException
        self.lr *= self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.state)
        self.model.train(self.mode)


# %% lr_finder: last batch not recorded
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.lrs, self.losses = [], []
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.mode = self.model.training

    def before_batch(self):
        if not self.training:
            raise CancelEpochException

    def after_batch(self):
        loss = self.learn.loss.item()
        if math.isnan(loss) or any(loss > self.max_mult * earlier for earlier in self.losses):
            raise CancelFitException
        self.losses.append(loss)
        for group in self.opt.param_groups:
            if group is self.opt.param_groups[0]:
                self.lrs.append(group["lr"])
            group["lr"] *= self.gamma

    def cleanup_fit(self):
        self.model.load_state_dict(self.state)
        self.model.train(self.mode)


# %% lr_finder: buffers not restored
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.lrs, self.losses, self.best = [], [], math.inf
        self.weights = [p.detach().clone() for p in self.model.parameters()]
        self.mode = self.model.training

    def before_batch(self):
        if not self.training:
            raise CancelEpochException

    def after_batch(self):
        loss = self.learn.loss.item()
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(loss)
        self.best = min(loss, self.best)
        if math.isnan(loss) or loss > self.max_mult * self.best:
            raise CancelFitException
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma

    def cleanup_fit(self):
        with torch.no_grad():
            for p, before in zip(self.model.parameters(), self.weights, strict=True):
                p.copy_(before)
        self.model.train(self.mode)


# %% lr_finder: not restored after an error
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult

    def before_fit(self):
        self.lrs, self.losses = [], []
        self.state = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.mode = self.model.training

    def before_batch(self):
        if not self.training:
            raise CancelEpochException

    def after_batch(self):
        loss = self.learn.loss.item()
        self.lrs.append(self.opt.param_groups[0]["lr"])
        self.losses.append(loss)
        if math.isnan(loss) or loss > self.max_mult * min(self.losses):
            raise CancelFitException
        for group in self.opt.param_groups:
            group["lr"] *= self.gamma

    def restore(self):
        self.model.load_state_dict(self.state)
        self.model.train(self.mode)

    def after_fit(self):
        self.restore()

    def after_cancel_fit(self):
        self.restore()
