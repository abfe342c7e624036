"""What no check can see, each with the reason: mutants as `line -> changed line`, and arguments by their names."""

from __future__ import annotations

AT_THE_EDGE = "the two differ only where a number drawn from a continuum meets another one exactly"
GIVES_UP = "a dead layer is given up later, with the same error and the weights restored"
LOOKS = "how a figure is framed; its curves and images are what is checked"
SAME_LENGTH = "what is walked through together has one length"

EQUIVALENT: dict[str, dict[str, str]] = {
    "covariance": {
        "return mean((x - mean(x)) * (y - mean(y))) -> return mean((x + mean(x)) * (y - mean(y)))": (
            "the mean of y - mean(y) is 0, so that a constant beside x adds nothing"
        ),
        "return mean((x - mean(x)) * (y - mean(y))) -> return mean((x - mean(x)) * (y + mean(y)))": (
            "the mean of x - mean(x) is 0, so that a constant beside y adds nothing"
        ),
    },
    "general_relu": {
        "x = relu(x) if self.leak is None else torch.where(x > 0, x, self.leak * x) -> "
        "x = relu(x) if self.leak is None else torch.where(x >= 0, x, self.leak * x)": "both sides are 0 at 0",
        "x = torch.where(x > self.maxv, self.maxv + slope * (x - self.maxv), x) -> "
        "x = torch.where(x >= self.maxv, self.maxv + slope * (x - self.maxv), x)": "both sides are maxv at maxv",
    },
    "lr_finder": {
        'self.lrs.append(self.opt.param_groups[0]["lr"]) -> self.lrs.append(self.opt.param_groups[ -1]["lr"])': (
            "which group's rate is recorded, where there are several, the catalogue leaves open"
        ),
        "if math.isnan(self.losses[-1]) or self.losses[-1] > self.max_mult * self.best: -> "
        "if math.isnan(self.losses[-1]) or self.losses[-1] >= self.max_mult * self.best:": AT_THE_EDGE,
    },
    "dead_fraction": {
        "return torch.where(total > 0, hists[:, 0] / total, 0) -> "
        "return torch.where(total != 0, hists[:, 0] / total, 0)": "counts are never negative",
    },
    "group_norm": {
        "if n_groups < 1 or n_filters % n_groups: -> if n_groups < 0 or n_filters % n_groups:": (
            "no groups at all: a ZeroDivisionError, which is PyTorch's own answer, is no mistake"
        ),
    },
    "activation_stats": {
        f'ax.set(title=f"layer {{number}}", xlabel="batch", ylabel="dead fraction", ylim=(0, 1)) -> '
        f'ax.set(title=f"layer {{number}}", xlabel="batch", ylabel="dead fraction", ylim=({limits}))': LOOKS
        for limits in (" 1, 1", " -1, 1", "0, 2", "0, 0")
    }
    | {
        f"for {what}, strict=True): -> for {what}, strict=False):": SAME_LENGTH
        for what in ('ax, title, which in zip(axes, ("mean", "standard deviation"), (0, 1)',)
    }
    | {
        "for number, (ax, hook) in enumerate(zip(axes, self, strict=True)): -> "
        "for number, (ax, hook) in enumerate(zip(axes, self, strict=False)):": SAME_LENGTH,
    },
    "lsuv_layer": {
        "if hook.std == 0: -> if hook.std == -1:": GIVES_UP,
        "if hook.std == 0: -> if hook.std < 0:": GIVES_UP,
        "if hook.std == 0: -> if hook.std <= 0:": "a standard deviation is never negative",
        "break -> continue": GIVES_UP,
        "if abs(hook.mean) <= tol and abs(hook.std - 1) <= tol: -> "
        "if abs(hook.mean) < tol and abs(hook.std - 1) <= tol:": AT_THE_EDGE,
        "if abs(hook.mean) <= tol and abs(hook.std - 1) <= tol: -> "
        "if abs(hook.mean) <= tol and abs(hook.std - 1) < tol:": AT_THE_EDGE,
    },
    "batch_norm": {
        "if n == 1: -> if n <= 1:": "a batch without values has no statistics in either case",
        "if x.ndim != 4 or x.shape[1] != len(self.mults): -> "
        "if x.ndim != 4 or x.shape[1] is not len(self.mults):": "small whole numbers are one object in CPython",
    },
    "clip_grad_norm": {
        "if norm > max_norm: -> if norm >= max_norm:": "at the limit the factor is 1",
    },
}

UNSEEN: dict[tuple[str, str], str] = {
    ("append_stats", "module"): "a hook function is given the module, and needs only its output",
    ("append_stats", "inputs"): "a hook function is given the inputs, and needs only the output",
    ("layer_norm", "__init__.n_filters"): "accepted so that norms can be exchanged; one number scales all of a sample",
    ("train", "wd"): "the reference's own; the catalogue leaves further arguments open",
    ("train", "leak"): "the reference's own; the catalogue leaves further arguments open",
    ("train", "cbs"): "the reference's own; the catalogue leaves further arguments open",
}
