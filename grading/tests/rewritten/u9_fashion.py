"""Wrong answers to unit 9, each a bug of the bank as a student would write it."""

from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn


# %% conv: norm asked instead of its module
def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    if bias is None:
        bias = not isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
    layers = [nn.Conv2d(n_in, n_out, kernel_size=ks, stride=stride, padding=ks // 2, bias=bias)]
    if norm:
        layers.append(norm(n_out))
    if act:
        layers.append(act())
    return nn.Sequential(*layers)


# %% conv: no bias before any norm
def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    if bias is None:
        bias = not norm
    seq = nn.Sequential(nn.Conv2d(n_in, n_out, ks, stride=stride, padding=ks // 2, bias=bias))
    if norm is not None:
        seq.append(norm(n_out))
    if act is not None:
        seq.append(act())
    return seq


# %% conv: course's batch norm forgotten
def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    normalisation = norm(n_out) if norm is not None else None
    activation = act() if act is not None else None
    if bias is None:
        bias = True
        if isinstance(normalisation, nn.BatchNorm2d):
            bias = False
    convolution = nn.Conv2d(n_in, n_out, ks, stride, ks // 2, bias=bias)
    return nn.Sequential(*[layer for layer in (convolution, normalisation, activation) if layer is not None])


# %% conv: activation before the norm
def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    after = []
    if act is not None:
        after.append(act())
    if norm is not None:
        after.append(norm(n_out))
    if bias is None:
        bias = not any(isinstance(m, (BatchNorm, nn.BatchNorm2d)) for m in after)
    return nn.Sequential(nn.Conv2d(n_in, n_out, ks, stride, padding=ks // 2, bias=bias), *after)


# %% conv: padding of 1
def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    n = norm(n_out) if norm else None
    if bias is None:
        bias = not isinstance(n, (BatchNorm, nn.BatchNorm2d, nn.SyncBatchNorm))
    model = nn.Sequential()
    model.add_module("conv", nn.Conv2d(n_in, n_out, kernel_size=ks, stride=stride, padding=1, bias=bias))
    if n:
        model.add_module("norm", n)
    if act:
        model.add_module("act", act())
    return model


# %% conv_net: activation on the logits
def conv_net(act=nn.ReLU, norm=None, filters=(1, 8, 16, 32, 64), n_classes=10):
    layers = []
    for i in range(len(filters) - 1):
        layers.append(conv(filters[i], filters[i + 1], act=act, norm=norm))
    layers.append(conv(filters[-1], n_classes, act=act))
    layers.append(nn.Flatten())
    return nn.Sequential(*layers)


# %% conv_net: norm on the logits
def conv_net(act=nn.ReLU, norm=None, filters=(1, 8, 16, 32, 64), n_classes=10):
    layers = []
    for i in range(1, len(filters)):
        layers.append(conv(filters[i - 1], filters[i], act=act, norm=norm))
    layers.append(conv(filters[-1], n_classes, act=None, norm=norm, bias=True))
    return nn.Sequential(*layers, nn.Flatten())


# %% conv_net: not flattened
def conv_net(act=nn.ReLU, norm=None, filters=(1, 8, 16, 32, 64), n_classes=10):
    model = nn.Sequential()
    n_in, *widths = filters
    for n_out in widths:
        model.append(conv(n_in, n_out, act=act, norm=norm))
        n_in = n_out
    model.append(nn.Conv2d(filters[-1], n_classes, 3, stride=2, padding=1))
    return model


# %% normalized: pixels up to 255
def normalized(dsd, mean, std):
    def transform(batch):
        images = []
        for image in batch["image"]:
            t = torch.tensor(np.array(image), dtype=torch.float32)
            images.append(((t - mean) / std).unsqueeze(0))
        batch["image"] = images
        return batch

    return dsd.with_transform(transform)


# %% normalized: each image by itself
def normalized(dsd, mean, std):
    def one(image):
        x = torch.from_numpy(np.array(image)).float().div(255)
        return ((x - torch.mean(x)) / torch.std(x)).view(1, 28, 28)

    return dsd.with_transform(lambda batch: dict(batch, image=[one(image) for image in batch["image"]]))


# %% normalized: no channel dimension
def normalized(dsd, mean, std):
    def transform(batch):
        pixels = np.stack([np.array(image) for image in batch["image"]])
        x = (torch.tensor(pixels).float() / 255 - mean) / std
        return {"image": list(x), "label": batch["label"]}

    return dsd.with_transform(transform)


# %% normalized: original changed
def normalized(dsd, mean, std):
    def transform(batch):
        out = dict(batch)
        out["image"] = [
            torch.tensor(np.array(image, dtype=np.float32)).div(255).sub(mean).div(std)[None]
            for image in batch["image"]
        ]
        return out

    dsd.set_transform(transform)
    return dsd


# %% train: not initialised
def train(model, dls, epochs, lr, *, wd=0.05, leak=0.0, cbs=()):
    def opt_func(params, lr):
        return Adam(params, lr, wd=wd)

    cbs = [OneCycle(lr), *cbs]
    learn = TrainLearner(model, dls, loss_func=F.cross_entropy, lr=lr, cbs=cbs, opt_func=opt_func)
    learn.fit(epochs)
    return learn


# %% train: no schedule
def train(model, dls, epochs, lr, *, wd=0.05, leak=0.0, cbs=()):
    for module in model.modules():
        init_weights(module, leak)
    learn = TrainLearner(model, dls, F.cross_entropy, lr=lr, cbs=cbs, opt_func=partial(Adam, wd=wd))
    learn.fit(epochs)
    return learn


# %% train: loss for log-probabilities
def train(model, dls, epochs, lr, *, wd=0.05, leak=0.0, cbs=()):
    model.apply(lambda module: init_weights(module, leak=leak))
    learn = TrainLearner(model, dls, nn.NLLLoss(), lr, opt_func=partial(Adam, wd=wd))
    learn.fit(epochs, cbs=[OneCycle(lr), *cbs])
    return learn
