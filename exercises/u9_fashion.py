# %% [markdown]
# # Unit 9: Fashion-MNIST
#
# Everything so far was written to be used, and here it is used: your initialisation, your activation, your batch norm,
# your optimizer and your training loop, on 60,000 photographs of clothes in ten classes (Xiao et al. 2017). The goal is
# **90 % of the 10,000 test images after five epochs**, on a plain CPU, with five convolutions and nothing else. The
# lesson that this course follows gets to 89.9 % with momentum and batch norm.
#
# Nothing in this unit is hard by itself. What is hard is that a mistake rarely shows as an error: a network trains with
# an unscaled initialisation, with inputs that were never normalised, with a bias that does nothing; it only ends some
# percent lower, and nobody tells you. So each piece is written and judged by itself first.

# %%
from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .u2_initialization import init_weights
from .u3_activations import GeneralReLU
from .u4_learner import Callback, DataLoaders, Learner, MetricsCallback, TrainLearner, accuracy, lr_picture
from .u7_normalization import BatchNorm
from .u8_optimizers import Adam

if TYPE_CHECKING:  # importing `datasets` takes longer than this whole unit
    from datasets import Dataset, DatasetDict
    from matplotlib.figure import Figure

# %% [markdown]
# ## One layer
#
# A layer of our network is a convolution, then perhaps a normalisation, then perhaps an activation, in this order:
# Ioffe & Szegedy (2015, section 3.2) normalise what enters the nonlinearity, because the weighted sum of many inputs is
# more nearly normal than what is left of it after a ReLU.
#
# With padding `ks // 2` an odd kernel sees as much beyond the edge on one side as on the other. The stride then
# decides the size: with `ks=3`, stride 1 keeps 28 x 28 pixels and stride 2 makes 14 x 14 of them. We halve with the
# stride and need no pooling.
#
# The bias deserves a thought. Batch norm subtracts the mean of each channel, and with it whatever constant a bias has
# added to that channel: the bias has no influence on the output and its gradient is 0. Batch norm's own `adds` does the
# job. So the convolution gets no bias when a batch norm follows, and *only* then. Layer norm subtracts one mean for all
# channels together, and differences between channels survive; group norm shares a mean among a few of them.
#
# `norm` and `act` are not modules but whatever makes one: a class, a `partial`, a lambda. You cannot see from the
# outside what `partial(BatchNorm, mom=0.2)` will make. Ask the module that it has made.


# %%
def conv(
    n_in: int,
    n_out: int,
    ks: int = 3,
    stride: int = 2,
    act: Callable[[], nn.Module] | None = nn.ReLU,
    norm: Callable[[int], nn.Module] | None = None,
    bias: bool | None = None,
) -> nn.Sequential:
    """A convolution `(n, n_in, h, w)` to `(n, n_out, h', w')` with padding `ks // 2`, then norm, then activation.

    act: makes the activation, called as `act()`; None for none. norm: makes the normalisation, called as
    `norm(n_out)`; None for none. bias: whether the convolution has one; None means that it has, unless the module that
    `norm` makes is a batch norm, the course's or one of PyTorch's.
    """
    raise NotImplementedError("conv: replace this line with your own")


# %% [markdown]
# **Question.** How many numbers does leaving out the biases save in the network of the next section, and how
# many of all its parameters is that? If it is so few, why bother?

# %% [markdown] question="u9-bias" points=2
# Your answer here.

# %% [markdown]
# ## The network
#
# Four layers that halve the image and double the channels, 1, 8, 16, 32, 64, and a last one to the ten classes:
#
# | | pixels | channels |
# |---|---|---|
# | image | 28 x 28 | 1 |
# | after layer 1 | 14 x 14 | 8 |
# | after layer 2 | 7 x 7 | 16 |
# | after layer 3 | 4 x 4 | 32 |
# | after layer 4 | 2 x 2 | 64 |
# | after the last | 1 x 1 | 10 |
#
# The last layer's outputs are the **logits**, from which cross-entropy forms probabilities. They must be free to be
# negative and of any size: an activation would cut them off, a normalisation would fix how sure the network may be,
# and as no norm follows, the last convolution keeps its bias. What remains is 1 x 1 pixel, which `nn.Flatten` removes.


# %%
def conv_net(
    act: Callable[[], nn.Module] | None = nn.ReLU,
    norm: Callable[[int], nn.Module] | None = None,
    filters: Sequence[int] = (1, 8, 16, 32, 64),
    n_classes: int = 10,
) -> nn.Sequential:
    """A `conv` with `act` and `norm` for each pair of neighbours in `filters`, then one to the classes, flattened.

    The last has neither act nor norm, and a bias. All have kernels of 3 and stride 2: with five of them images
    `(n, filters[0], 28, 28)` become logits `(n, n_classes)`.
    """
    raise NotImplementedError("conv_net: replace this line with your own")


# %% [markdown]
# ## The data
#
# Hugging Face's `datasets` hands out Fashion-MNIST as a `DatasetDict`: two splits, `train` and `test`, whose elements
# are dictionaries with a PIL picture `image` and a number `label`. The kit takes it from the folder that
# `FASHION_MNIST_DIR` names, from Debian's package, or from the Hub.

# %%
if __name__ == "__main__":
    from grading.data import fashion_mnist

    fashion = fashion_mnist()
    print(fashion, fashion["train"][0])

# %% [markdown]
# The network wants float tensors of mean 0 and standard deviation 1; unit 2 has shown what else happens. Pixels come as
# 0 to 255: divide by 255, then subtract the mean and divide by the standard deviation **of the training set**, 0.2860
# and 0.3530 on that scale. The test images are shifted by the same two numbers. With numbers of their own they would be
# seen through other glasses than those that the network was trained with.
#
# `with_transform` attaches a function that is run when elements are read, and leaves what is stored as it is. Three
# things to know:
#
# - The function always gets a **batch**: a dictionary of lists, `{"image": [...], "label": [...]}`, and must return
#   one, also when a single element is read. Whoever treats `batch["image"]` as a picture gets an error from deep
#   within.
# - It sees whatever columns there are. Those that it has no business with belong into the result as they came.
# - `with_transform` returns a new `DatasetDict`. Its sibling `set_transform` changes the one it is called on, and with
#   it everything else that uses the same data.


# %%
def normalized(dsd: DatasetDict, mean: float, std: float) -> DatasetDict:
    """The same data, with every image read as a normalised float32 tensor `(1, 28, 28)`; `dsd` is untouched.

    dsd: grey PIL pictures in the column `image`, numbers in `label`. mean, std: of pixels between 0 and 1; the result
    is (pixel / 255 - mean) / std. Elements, slices and columns of every split are read so; labels stay as they are.
    """

    raise NotImplementedError("normalized: replace this line with your own")


# %% [markdown]
# Unpacking and converting 60,000 pictures takes a few seconds. Done again in every epoch it takes as long as the
# training. The whole set fits into memory many times over, so `fashion_loaders` reads each image once, and an epoch
# costs no more than picking rows of a tensor in random order.


# %%
class Batches:
    """Batches `(x, y)` from tensors in memory, with the rows in a new order each time where `shuffle` says so.

    generator: what the orders are drawn from, on the CPU; torch's own where None.
    """

    def __init__(
        self, x: Tensor, y: Tensor, size: int, shuffle: bool = False, generator: torch.Generator | None = None
    ) -> None:
        self.x, self.y, self.size, self.shuffle, self.generator = x, y, size, shuffle, generator

    def __len__(self) -> int:
        return math.ceil(len(self.x) / self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.shuffle:
            yield from zip(self.x.split(self.size), self.y.split(self.size), strict=True)
            return
        order = torch.randperm(len(self.x), generator=self.generator).to(self.x.device)
        for rows in order.split(self.size):
            yield self.x[rows], self.y[rows]


def to_tensors(dataset: Dataset, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """All images `(n, 1, 28, 28)` and labels `(n,)` of one split of a `normalized` DatasetDict, on a device."""
    images, labels = [], []
    for start in range(0, len(dataset), 1000):
        part = dataset[start : start + 1000]
        images.append(torch.stack(list(part["image"])).to(device))
        labels.append(torch.as_tensor(part["label"], device=device))
    return torch.cat(images), torch.cat(labels)


def fashion_loaders(
    dsd: DatasetDict,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    generator: torch.Generator | None = None,
    train: str = "train",
    valid: str = "test",
) -> DataLoaders:
    """Shuffled training batches and larger validation batches of two splits of a `normalized` DatasetDict."""
    return DataLoaders(
        Batches(*to_tensors(dsd[train], device), batch_size, shuffle=True, generator=generator),
        Batches(*to_tensors(dsd[valid], device), max(1000, batch_size)),
    )


# %% [markdown]
# ## A learning rate that comes and goes
#
# The best learning rate is not one number. At the start the weights are random and the gradients large and
# contradictory: steps must be short. Then long steps are wanted; they get far in few epochs, and their noise keeps
# the network out of narrow minima. In the end the noise is all that is left, and steps must become short again for
# the loss to settle. Smith (2018, section 3) puts the three together into **one cycle**: up, for about a quarter of
# all steps, and down, almost to 0, for the rest.
#
# $$\eta(t) = \eta_{\max} \cdot \frac{1 - \cos(\pi t / w)}{2} \text{ for } t < w,
# \qquad \eta(t) = \eta_{\max} \cdot \frac{1 + \cos\left(\pi (t - w) / (1 - w)\right)}{2} \text{ after that}$$
#
# with $t$ the share of the steps that has passed and $w$ the share of the warm-up. The code begins at
# 4 % instead of 0, so that the first step is not lost. Much of the accuracy comes in the last epochs, while the rate
# goes to 0: the schedule must know from the start how long the training will be.


# %%
def one_cycle(t: float, warm_up: float = 0.25, start: float = 0.04) -> float:
    """What to multiply the highest rate by at `t` from 0 to 1: from `start` up to 1 at `warm_up`, then down to 0."""
    if t < warm_up:
        return start + (1 - start) * (1 - math.cos(math.pi * t / warm_up)) / 2
    return (1 + math.cos(math.pi * (t - warm_up) / (1 - warm_up))) / 2


class OneCycle(Callback):
    """Sets the optimizer's learning rate before each training batch, so that the whole fit is one cycle.

    lr: the highest rate. warm_up: the share of all steps in which the rate rises.
    lrs: the rate of every step so far.
    """

    def __init__(self, lr: float, warm_up: float = 0.25) -> None:
        self.lr, self.warm_up = lr, warm_up

    def before_fit(self) -> None:
        self.lrs = []
        self.n_steps = self.learn.n_epochs * len(self.learn.dls.train)

    def before_batch(self) -> None:
        if self.training:
            lr = self.lr * one_cycle(len(self.lrs) / self.n_steps, self.warm_up)
            set_lr(self.opt, lr)
            self.lrs.append(lr)


class LossRecorder(Callback):
    """Keeps the loss of every training batch in `losses`."""

    def before_fit(self) -> None:
        self.losses = []

    def after_batch(self) -> None:
        if self.training:
            self.losses.append(self.learn.loss.item())


def set_lr(opt: Any, lr: float) -> None:
    """Gives an optimizer, of this course or of PyTorch, a new learning rate."""
    if hasattr(opt, "lr"):
        opt.lr = lr
    for group in getattr(opt, "param_groups", ()):
        group["lr"] = lr


# %% [markdown]
# ## All of it together
#
# `train` takes a network and data and puts your pieces to work:
#
# 1. **Initialise** every convolution with `init_weights` (`model.apply` visits all modules). The `leak` of the
#    activation belongs into it: what leaks through need not be made up for by larger weights.
# 2. **Adam** with decoupled weight decay, from unit 8. Adam's step is about `lr` whatever the gradient's size, so
#    rates near 0.01 are right where SGD wants 0.4. The decay multiplies the weights by `1 - lr * wd` each step.
# 3. **`TrainLearner`** with cross-entropy, which takes logits, and not probabilities.
# 4. **`OneCycle`** among the callbacks, with the same `lr` at its top. What the caller wants to watch comes after it.
#
# The optimizer is made by the learner when `fit` begins, by calling `opt_func(parameters, lr)`; `partial` fixes the
# rest of its arguments before that.


# %%
def train(
    model: nn.Module,
    dls: DataLoaders,
    epochs: int,
    lr: float,
    *,
    wd: float = 0.05,
    leak: float = 0.0,
    cbs: Iterable[Callback] = (),
) -> Learner:
    """Initialises `model`, trains it for `epochs` on `dls` with Adam in one cycle up to `lr`; returns the learner.

    model: from images to logits; trained in place, whatever its weights were. dls: `train` and `valid`, batches of
    images and class numbers, `train` with a length. wd: decoupled weight decay. leak: slope of the activation below 0.
    cbs: further callbacks.
    """
    raise NotImplementedError("train: replace this line with your own")


def predict(model: nn.Module, images: Tensor, batch_size: int = 1000) -> Tensor:
    """The class `(n,)` that the model finds most likely for each of the normalised images `(n, 1, 28, 28)`."""
    model.eval()
    with torch.no_grad():
        return torch.cat([model(batch).argmax(dim=1) for batch in images.split(batch_size)])


# %% [markdown]
# ## Past 90 %
#
# Batches of 128, a highest rate of 0.02, and `GeneralReLU` with nothing set: a plain ReLU. Unit 3 added a leak, so that
# no activation dies, and subtracted 0.4, so that they have mean 0. Batch norm does both by itself: it hands every
# activation inputs of which about half are positive, and takes the mean out again behind the next convolution. Three
# runs each, with the same settings otherwise: 91.0 to 91.2 % with the plain one, 90.5 to 91.0 % with a leak of 0.1.
#
# The first loss should be a little above ln 10 = 2.3, the loss of a network that knows that there are ten classes and
# nothing else. The same run, with a progress bar and all pictures, is `goodinit train`.

# %%
if __name__ == "__main__":
    torch.manual_seed(1)
    dls = fashion_loaders(normalized(fashion, 0.2860, 0.3530))
    metrics, recorder = MetricsCallback(accuracy=accuracy), LossRecorder()
    model = conv_net(act=GeneralReLU, norm=BatchNorm)
    learn = train(model, dls, epochs=5, lr=0.02, cbs=[metrics, recorder])
    for record in metrics.history:
        print("epoch {epoch}, {phase}: loss {loss:.3f}, accuracy {accuracy:.4f}".format(**record))

# %% [markdown]
# **Question.** Right after `train` has initialised the network, before its first step, the loss is about 2.5. What
# would it be if all logits were 0, and why is it a little more? A friend's network, which has no norm, begins with a
# loss of 100. What do you suspect, and would you still see it if the network had batch norm?

# %% [markdown] question="u9-first-loss" points=3
# Your answer here.

# %% [markdown]
# ## What to look at
#
# Before training, the learning rate finder (unit 4). While it trains, the activations (unit 5). The means and
# standard deviations of all layers should stay where they start, about 0.4 and 0.6 for a ReLU of standard normal
# numbers. The colourful dimension should look the same in each layer and change slowly, without a sudden drop to the
# bottom. The "dead" fraction is near 0.6 and flat: half of all inputs are negative and become 0, and a tenth is small.
# What to worry about is a fraction that climbs towards 1.
#
# After training, the loss, and the images that the network gets wrong. Quite a few of them you would get wrong as well:
# what a label calls a shirt is often a T-shirt, a pullover or a coat to everybody else.


# %%
def loss_picture(losses: Sequence[float], history: Sequence[dict[str, Any]] = ()) -> Figure:
    """A figure with the loss of each training step, smoothed, and the validation loss at the end of each epoch."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
    ax.plot(losses, alpha=0.25, linewidth=0.5, color="tab:blue")
    width = max(1, len(losses) // 100)
    smooth = [sum(losses[max(0, i - width + 1) : i + 1]) / min(i + 1, width) for i in range(len(losses))]
    ax.plot(smooth, color="tab:blue", label="training")
    valid = [record["loss"] for record in history if record["phase"] == "valid"]
    if valid:
        steps = [(number + 1) * len(losses) / len(valid) for number in range(len(valid))]
        ax.plot(steps, valid, marker="o", color="tab:orange", label="validation")
    top = max([*smooth[width:], *valid, 0.1]) * 1.1 if losses else 1.0
    ax.set(xlabel="step", ylabel="loss", ylim=(0, top if math.isfinite(top) else None))
    ax.legend()
    return figure


def samples_picture(images: Tensor, labels: Tensor, predicted: Tensor, names: Sequence[str], rows: int = 4) -> Figure:
    """A figure of the first images `(n, 1, 28, 28)`, with the class predicted and, where it differs, the true one."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, 6, figsize=(9, 1.75 * rows), layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    shown = zip(axes.flat, images.cpu(), labels.tolist(), predicted.tolist(), strict=False)
    for ax, image, label, guess in shown:
        ax.imshow(image[0].numpy(), cmap="gray_r")
        right = label == guess
        title = names[guess] if right else f"{names[guess]}\n(is: {names[label]})"
        ax.set_title(title, fontsize=8, color="black" if right else "tab:red")
    return figure


# %%
if __name__ == "__main__":
    loss_picture(recorder.losses, metrics.history)
    names = fashion["test"].features["label"].names
    samples_picture(dls.valid.x, dls.valid.y, predict(learn.model, dls.valid.x), names)

# %%
if __name__ == "__main__":
    from .u5_hooks import ActivationStats, show

    stats = ActivationStats(lambda module: isinstance(module, GeneralReLU))
    watched = conv_net(act=GeneralReLU, norm=BatchNorm)
    train(watched, dls, epochs=1, lr=0.02, cbs=[stats])
    for figure in (stats.plot_stats(), stats.color_dim(), stats.dead_chart()):
        show(figure)

# %%
if __name__ == "__main__":
    searched = conv_net(act=GeneralReLU, norm=BatchNorm)
    searched.apply(init_weights)
    lr_picture(TrainLearner(searched, dls, F.cross_entropy, opt_func=Adam).lr_find())
