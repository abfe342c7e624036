"""Right answers to unit 9, written differently."""

import math
from collections import OrderedDict
from functools import partial

import numpy as np
import torch
from torch import nn


# %% conv: identities where nothing is asked for
def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    middle = norm(n_out) if norm else nn.Identity()
    if bias is None:
        bias = "BatchNorm" not in type(middle).__name__
    convolution = nn.Conv2d(n_in, n_out, kernel_size=ks, stride=stride, padding=math.floor(ks / 2), bias=bool(bias))
    return nn.Sequential(convolution, middle, act() if act else nn.Identity())


# %% conv: named layers
def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    layers = OrderedDict()
    layers["conv"] = None
    if norm is not None:
        layers["norm"] = norm(n_out)
    if act is not None:
        layers["act"] = act()
    batch_norms = (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    followed = isinstance(layers.get("norm"), batch_norms)
    layers["conv"] = nn.Conv2d(n_in, n_out, ks, stride, ks // 2, bias=not followed if bias is None else bias)
    return nn.Sequential(layers)


# %% conv: layers appended one by one
def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    made = None
    if norm is not None:
        made = norm(n_out)
    if bias is None:
        bias = True
        for kind in (BatchNorm, nn.modules.batchnorm._BatchNorm):
            if isinstance(made, kind):
                bias = False
    model = nn.Sequential()
    model.append(nn.Conv2d(n_in, n_out, (ks, ks), stride=(stride, stride), padding=(ks // 2, ks // 2), bias=bias))
    for layer in (made, act and act()):
        if layer is not None:
            model.append(layer)
    return model


# %% conv_net: loop over the filters
def conv_net(act=nn.ReLU, norm=None, filters=(1, 8, 16, 32, 64), n_classes=10):
    model = nn.Sequential()
    n_in = filters[0]
    for n_out in filters[1:]:
        model.append(conv(n_in, n_out, 3, 2, act, norm))
        n_in = n_out
    model.append(conv(n_in, n_classes, act=None))
    model.append(nn.Flatten(start_dim=1))
    return model


# %% conv_net: all layers alike, and the last one's extras taken off
def conv_net(act=nn.ReLU, norm=None, filters=(1, 8, 16, 32, 64), n_classes=10):
    widths = [*filters, n_classes]
    blocks = []
    for number in range(len(filters)):
        last = number == len(filters) - 1
        extras = {"act": None, "norm": None} if last else {"act": act, "norm": norm}
        blocks.append(conv(widths[number], widths[number + 1], **extras))
    return nn.Sequential(nn.Sequential(*blocks), nn.Flatten())


# %% conv_net: a plain convolution at the end
def conv_net(act=nn.ReLU, norm=None, filters=(1, 8, 16, 32, 64), n_classes=10):
    layer = partial(conv, ks=3, stride=2, act=act, norm=norm)
    body = map(layer, filters[:-1], filters[1:])
    head = nn.Conv2d(filters[-1], n_classes, kernel_size=3, stride=2, padding=1)
    return nn.Sequential(*body, head, nn.Flatten())


# %% normalized: the whole batch as one tensor
def normalized(dsd, mean, std):
    def transform(batch):
        result = dict(batch)
        pixels = np.stack([np.asarray(image) for image in batch["image"]])
        result["image"] = (torch.from_numpy(pixels)[:, None].to(torch.float32) / 255 - mean) / std
        return result

    return dsd.with_transform(transform)


# %% normalized: split by split
def normalized(dsd, mean, std):
    def read(image):
        pixels = torch.tensor(list(image.tobytes()), dtype=torch.float64).reshape(1, image.height, image.width)
        return pixels.div_(255).sub_(mean).div_(std).float()

    def transform(batch):
        batch["image"] = list(map(read, batch["image"]))
        return batch

    return type(dsd)({name: split.with_transform(transform) for name, split in dsd.items()})


# %% normalized: one slope and one shift
def _scaled(batch, slope, shift):
    images = []
    for image in batch["image"]:
        pixels = torch.tensor(np.array(image)).float().unsqueeze(0)
        images.append(pixels * slope + shift)
    return {name: images if name == "image" else column for name, column in batch.items()}


def normalized(dsd, mean, std):
    return dsd.with_transform(partial(_scaled, slope=1 / (255 * std), shift=-mean / std))


# %% train: modules initialised one by one
def train(model, dls, epochs, lr, *, wd=0.05, leak=0.0, cbs=()):
    for module in model.modules():
        init_weights(module, leak)
    callbacks = [OneCycle(lr)]
    callbacks.extend(cbs)
    learner = TrainLearner(
        model=model,
        dls=dls,
        loss_func=nn.CrossEntropyLoss(),
        lr=lr,
        cbs=callbacks,
        opt_func=lambda params, lr: Adam(params, lr, wd=wd),
    )
    learner.fit(n_epochs=epochs)
    return learner


# %% train: a schedule of straight lines
def train(model, dls, epochs, lr, *, wd=0.05, leak=0.0, cbs=()):
    class Lines(Callback):
        def before_fit(self):
            self.step, self.n_steps = 0, epochs * len(dls.train)

        def before_batch(self):
            if self.training:
                share = self.step / self.n_steps
                self.opt.lr = lr * min(0.1 + 3 * share, (1 - share) / 0.7)
                self.step += 1

    model.apply(lambda module: init_weights(module, leak=leak))
    learner = TrainLearner(model, dls, lambda preds, y: -preds.log_softmax(1)[range(len(y)), y].mean(), lr)
    learner.opt_func = partial(Adam, wd=wd)
    learner.fit(epochs, cbs=[Lines(), *cbs])
    return learner
