"""`goodinit train`: the capstone, or the lesson's table, on the pieces of a student or of the reference."""

from __future__ import annotations

import argparse
import inspect
import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from grading.course import Course

TEST_SPLIT = "test"


class TrainError(Exception):
    """One sentence on why there is no training: what is missing, or what in the student's code failed, and where.

    `unwritten` is the exercise that is still a stub, where that is the reason.
    """

    def __init__(self, sentence: str, unwritten: str = "") -> None:
        super().__init__(sentence)
        self.unwritten = unwritten


def configure(parser: argparse.ArgumentParser) -> None:
    """The arguments of `goodinit train`."""
    parser.add_argument(
        "--impl",
        metavar="PATH",
        help="folder with the nine units; exercises/ unless given, `solutions` is the reference",
    )
    parser.add_argument("--data", metavar="DIR", help="folder with the Fashion-MNIST IDX files, or `synthetic`")
    parser.add_argument("--epochs", type=_whole, default=5, metavar="N", help="5 unless given")
    parser.add_argument("--lr", type=_rate, default=0.02, help="the highest learning rate; 0.02 unless given")
    parser.add_argument("--batch-size", type=_whole, default=128, metavar="N", help="128 unless given")
    parser.add_argument("--device", choices=("cuda", "mps", "cpu"), help="the fastest there is unless given")
    parser.add_argument("--seed", type=int, metavar="N", help="the same weights and batches as an earlier run")
    parser.add_argument("--out", metavar="FOLDER", help="where pictures and numbers go; runs/<time> unless given")
    parser.add_argument("--table", action="store_true", help="run every row of the lesson's table instead")


def run(course: Course, args: argparse.Namespace) -> int:
    """Trains, prints a line per epoch and the accuracy, and writes pictures and metrics.json; returns 0.

    Raises TrainError, DataError or ImplError, each with one sentence.
    """
    from ._workshop import Workshop

    started = time.perf_counter()
    workshop = Workshop(course, args.impl)
    workshop.check_written(() if args.table else ("train",))
    if args.table:
        from ._table import run_table

        return run_table(workshop, args, _open(args, workshop))
    return _capstone(workshop, args, _open(args, workshop), started)


class Setting:
    """What a run starts from: data, device, seed and a folder for what it leaves behind."""

    def __init__(self, source: Any, device: str, seed: int, folder: Path) -> None:
        self.source, self.device, self.seed, self.folder = source, device, seed, folder

    def write(self, name: str, record: object) -> None:
        """Keeps numbers as JSON in the folder."""
        path = self.folder / name
        path.write_text(json.dumps(_plain(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _open(args: argparse.Namespace, workshop: Any) -> Setting:
    from grading.data import find_source
    from grading.judge import fresh_seed

    setting = Setting(
        source=find_source(args.data),
        device=_device(args.device),
        seed=fresh_seed() if args.seed is None else args.seed,
        folder=_folder(args.out),
    )
    print(setting.source.label)
    print(f"pieces from {workshop.name}, on {setting.device}; the same again: --seed {setting.seed}", flush=True)
    return setting


def _capstone(workshop: Any, args: argparse.Namespace, setting: Setting, started: float) -> int:
    import torch

    pieces = workshop.pieces
    with workshop.student_code():
        mean, std = setting.source.statistics()
        dsd = setting.source.load()
        torch.manual_seed(setting.seed)
        dls = pieces.fashion_loaders(pieces.normalized(dsd, mean, std), args.batch_size, setting.device)
        model = network(pieces, setting.device)
        report = Report(args.epochs, started)
        batches = dls.train
        dls.train = Timed(batches)
        options = {"cbs": [report]} if "cbs" in inspect.signature(pieces.train).parameters else {}
        try:
            learn = pieces.train(model, dls, args.epochs, args.lr, **options)
        finally:
            report.close()
        if not hasattr(learn, "model"):
            raise TrainError(f"train returned {learn!r}, expected the learner; is a `return` missing?")
        predicted = classes(learn.model, dls.valid.x)
    right = float((predicted == dls.valid.y).double().mean())
    print(f"valid accuracy {right:.4f} on {setting.source.label}")
    record = {
        "data": setting.source.label,
        "pieces": workshop.name,
        "device": setting.device,
        "seed": setting.seed,
        "epochs": args.epochs,
        "lr": args.lr,
        "batch_size": args.batch_size,
        "accuracy": right,
        "history": report.history,
        "seconds": {
            "before_the_first_step": report.first_step,
            "loading": dls.train.seconds,
            "training": sum(entry["seconds"] for entry in report.history),
        },
    }
    setting.write("metrics.json", record)
    names = dsd[TEST_SPLIT].features["label"].names
    draw = Pictures(workshop, setting)
    draw("loss", lambda: pieces.loss_picture(report.losses, report.history))
    draw("predictions", lambda: _samples(pieces, dls.valid, predicted, names))
    draw.observed(batches, args.lr)
    print(f"{', '.join(draw.done)} and metrics.json are in {setting.folder}")
    return 0


def network(pieces: Any, device: str) -> Any:
    """The capstone's network of the student's own pieces, not yet initialised."""
    model = pieces.conv_net(act=pieces.GeneralReLU, norm=pieces.BatchNorm)
    return model.to(device)


def classes(model: Any, images: Any) -> Any:
    """What a model takes each image for, in evaluation mode."""
    import torch

    model.eval()
    with torch.no_grad():
        return torch.cat([model(batch).argmax(dim=1) for batch in images.split(1000)])


class Timed:
    """Batches that keep count of the seconds spent on fetching them."""

    def __init__(self, batches: Any) -> None:
        self.batches, self.seconds = batches, 0.0

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        source = iter(self.batches)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            self.seconds += time.perf_counter() - start
            if batch is None:
                return
            yield batch


class Report:
    """A callback of the learner: a progress bar on a terminal, and a line per epoch everywhere."""

    order = 1000
    learn: Any

    def __init__(self, epochs: int, started: float) -> None:
        self.epochs, self.started = epochs, started
        self.losses: list[float] = []
        self.history: list[dict[str, Any]] = []
        self.first_step = math.nan
        self.bar: Any = None
        self._pending: list[Any] = []

    def before_fit(self) -> None:
        from tqdm import tqdm

        print("epoch  train loss  valid loss  accuracy     time", flush=True)
        total = self.epochs * len(self.learn.dls.train)
        self.bar = tqdm(total=total, unit="batch", leave=False, disable=None, dynamic_ncols=True, file=sys.stderr)

    def before_epoch(self) -> None:
        self.count, self.loss, self.right = 0, 0.0, 0.0
        if self.learn.model.training:
            self.epoch_started = time.perf_counter()

    def after_step(self) -> None:
        if math.isnan(self.first_step):
            self.first_step = time.perf_counter() - self.started

    def after_batch(self) -> None:
        y = self.learn.batch[1]
        self.count += len(y)
        loss = self.learn.loss.detach()
        self.loss += loss * len(y)
        self.right += (self.learn.preds.detach().argmax(dim=1) == y).sum()
        if self.learn.model.training:
            self._pending.append(loss)
            self.bar.update()

    def after_epoch(self) -> None:
        import torch

        phase = "train" if self.learn.model.training else "valid"
        count = max(self.count, 1)
        entry: dict[str, Any] = {"epoch": self.learn.epoch, "phase": phase}
        entry |= {"loss": float(self.loss) / count, "accuracy": float(self.right) / count}
        entry["seconds"] = time.perf_counter() - self.epoch_started
        if self._pending:
            # one transfer per epoch: on a GPU every single number is waited for
            self.losses += torch.stack(self._pending).tolist()
            self._pending.clear()
        self.epoch_started = time.perf_counter()
        self.history.append(entry)
        if phase == "valid":
            train = next((e for e in reversed(self.history) if e["phase"] == "train"), entry)
            seconds = entry["seconds"] + (train["seconds"] if train is not entry else 0.0)
            self.bar.clear()
            print(
                f"{entry['epoch'] + 1:>3}/{self.epochs:<3} {train['loss']:>9.4f} {entry['loss']:>11.4f} "
                f"{entry['accuracy']:>9.4f} {seconds:>6.1f} s",
                flush=True,
            )

    def close(self) -> None:
        """Takes the bar off the terminal, however the training ended."""
        if self.bar is not None:
            self.bar.close()


class Pictures:
    """Draws with the student's code where that works, and says in a line where it does not."""

    def __init__(self, workshop: Any, setting: Setting) -> None:
        import matplotlib

        matplotlib.use("Agg")
        self.workshop, self.setting = workshop, setting
        self.done: list[str] = []

    def __call__(self, name: str, figure: Callable[[], Any]) -> None:
        """Saves what `figure` returns as name.png."""
        import matplotlib.pyplot as plt

        with self.allowed(f"{name}.png"):
            drawn = figure()
            drawn.savefig(self.setting.folder / f"{name}.png", dpi=110)
            plt.close(drawn)
            self.done.append(f"{name}.png")

    def observed(self, batches: Any, lr: float) -> None:
        """Looks into two networks of their own: one through an epoch with hooks, the other through a range of rates."""
        import torch
        import torch.nn.functional as F

        pieces = self.workshop.pieces

        def fresh(size: int, callbacks: Iterable[Any]) -> Any:
            torch.manual_seed(self.setting.seed)
            model = network(pieces, self.setting.device)
            model.apply(pieces.init_weights)
            dls = pieces.DataLoaders(pieces.Batches(batches.x, batches.y, size, shuffle=True), [])
            return pieces.TrainLearner(model, dls, F.cross_entropy, lr, list(callbacks), pieces.Adam)

        with self.allowed("activations.png, colourful_dimension.png and dead_units.png"):
            stats = pieces.ActivationStats(lambda module: isinstance(module, pieces.GeneralReLU))
            fresh(512, [pieces.OneCycle(lr), stats]).fit(1)
            self("activations", stats.plot_stats)
            self("colourful_dimension", stats.color_dim)
            self("dead_units", stats.dead_chart)
        with self.allowed("lr_finder.png"):
            finder = fresh(256, []).lr_find()
            self("lr_finder", lambda: pieces.lr_picture(finder))

    def allowed(self, names: str) -> Any:
        """Goes on without these pictures where the student's code fails: the training itself has ended well."""
        return self.workshop.tolerated(lambda reason: print(f"no {names}: {reason}"))


def _samples(pieces: Any, valid: Any, predicted: Any, names: list[str]) -> Any:
    """The first twelve images and the first twelve mistakes."""
    import torch

    wrong = (predicted != valid.y).nonzero().flatten()[:12].cpu()
    chosen = torch.cat([torch.arange(min(12, len(predicted))), wrong]).to(predicted.device)
    return pieces.samples_picture(valid.x[chosen], valid.y[chosen], predicted[chosen], names)


def _device(word: str | None) -> str:
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if word is None:
        return next(name for name, is_there in there.items() if is_there)
    if not there[word]:
        others = " or ".join(name for name, is_there in there.items() if is_there)
        raise TrainError(
            f"there is no {word} device on this machine that PyTorch {torch.__version__} can use: {others}"
        )
    return word


def _folder(word: str | None) -> Path:
    """The folder for a run's files, made before anything is trained."""
    folder = Path(word) if word else Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainError(f"{folder} cannot be made ({error.strerror}): give another folder with --out") from None
    return folder


def _plain(value: Any) -> Any:
    """JSON knows no nan: a loss that has diverged becomes null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _whole(text: str) -> int:
    number = int(text) if text.strip().isdecimal() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"takes a whole number from 1, not {text!r}")
    return number


def _rate(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"takes a number from 0, not {text!r}")
    return number
