"""The lesson's table, row by row, with the accuracies that the same settings reach here."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.console import Console
from rich.table import Table

from ._train import Setting, TrainError, classes
from ._workshop import Workshop

LEAK, SHIFT = 0.1, 0.4


@dataclass(frozen=True)
class Row:
    """One experiment: 3 epochs with batches of 1024 unless said; `stages` are epochs and learning rates in turn."""

    name: str
    lesson: str
    stages: tuple[tuple[int, float], ...]
    learner: str = "TrainLearner"
    optimizer: str = "SGD"
    normalised: bool = True
    init: str = "kaiming"
    act: str = "GeneralReLU"
    norm: str | None = None
    batch_size: int = 1024
    one_cycle: bool = False
    wd: float = 0.0


def _rows() -> list[Row]:
    momentum = partial(Row, learner="MomentumLearner")
    batch_norm = partial(Row, norm="BatchNorm")
    plain = partial(momentum, act="ReLU", stages=((3, 0.2),))
    return [
        plain("plain network, lr 0.2", "collapses", normalised=False, init="none"),
        plain("+ Kaiming init, raw inputs", "0.10 to 0.70", normalised=False),
        plain("+ normalised inputs", "0.85"),
        momentum("+ GeneralReLU(leak 0.1, sub 0.4)", "0.87", ((3, 0.2),)),
        momentum("LSUV instead of Kaiming", "0.86", ((3, 0.2),), init="lsuv"),
        momentum("LayerNorm", "0.873", ((3, 0.2),), norm="LayerNorm"),
        momentum("BatchNorm, lr 0.4", "0.85 to 0.87", ((3, 0.4),), norm="BatchNorm"),
        momentum(
            "PyTorch BatchNorm, batch 256, lr 0.2; then 2 epochs at lr 0.05",
            "0.878; 0.897 to 0.899",
            ((3, 0.2), (2, 0.05)),
            norm="nn.BatchNorm2d",
            batch_size=256,
        ),
        batch_norm("SGD lr 0.4", "0.852", ((3, 0.4),)),
        batch_norm("Momentum lr 1.5", "0.876", ((3, 1.5),), optimizer="Momentum"),
        batch_norm("RMSProp lr 3e-3", "0.853", ((3, 3e-3),), optimizer="RMSProp"),
        batch_norm("Adam lr 6e-3", "0.865 to 0.871", ((3, 6e-3),), optimizer="Adam"),
        batch_norm(
            "AdamW one-cycle, 5 epochs, lr 6e-2", "0.906", ((5, 6e-2),), optimizer="Adam", one_cycle=True, wd=0.01
        ),
    ]


def run_table(workshop: Workshop, args: argparse.Namespace, setting: Setting) -> int:
    """Prints the table and writes table.json; rows whose pieces are missing or fail say so. Returns 0."""
    with workshop.student_code():
        bench = Bench(workshop.pieces, setting)
    console = Console(file=sys.stdout)
    table = Table(title="valid accuracy, lesson and here", title_justify="left")
    table.add_column("row", overflow="fold")
    table.add_column("lesson")
    table.add_column("here")
    records: list[dict[str, Any]] = []
    try:
        with Console(stderr=True).status("reading images") as status:
            for number, row in enumerate(_rows(), start=1):
                status.update(f"row {number}: {row.name}")
                record = _measured(bench, workshop, row)
                records.append(record)
                table.add_row(row.name, row.lesson, record["here"])
                # whole after every row: it takes minutes, and may be stopped
                setting.write("table.json", {"data": setting.source.label, "seed": setting.seed, "rows": records})
    finally:
        console.print(table, highlight=False, markup=False)
        print(f"on {setting.source.label}; table.json is in {setting.folder}")
    return 0


def _measured(bench: Bench, workshop: Workshop, row: Row) -> dict[str, Any]:
    """A row with what was reached here, or why that could not be measured."""
    start = time.perf_counter()
    record: dict[str, Any] = {"row": row.name, "lesson": row.lesson, "accuracies": []}
    try:
        with workshop.student_code():
            record["accuracies"] = bench.run(row)
        record["here"] = "; ".join(f"{value:.3f}" for value in record["accuracies"])
    except TrainError as error:
        record["here"] = f"not written yet: {error.unwritten}" if error.unwritten else str(error)
        record["problem"] = record["here"]
    record["seconds"] = time.perf_counter() - start
    return record


class Bench:
    """The data, raw and normalised, and what turns a row into a training run."""

    def __init__(self, pieces: Any, setting: Setting) -> None:
        self.pieces, self.setting = pieces, setting
        self.dsd = setting.source.load()
        self.statistics = setting.source.statistics()
        self._loaded: dict[bool, Any] = {}

    def run(self, row: Row) -> list[float]:
        """The accuracy after each stage."""
        import torch
        import torch.nn.functional as F

        pieces = self.pieces
        images = self._images(row.normalised)
        dls = pieces.DataLoaders(pieces.Batches(images.train.x, images.train.y, row.batch_size, shuffle=True), [])
        torch.manual_seed(self.setting.seed)
        model, callbacks = self._model(row)
        optimizer = partial(getattr(pieces, row.optimizer), wd=row.wd)
        learner = getattr(pieces, row.learner)(model, dls, F.cross_entropy, 0.1, callbacks, optimizer)
        found = []
        for epochs, lr in row.stages:
            cycle = [pieces.OneCycle(lr)] if row.one_cycle else []
            learner.fit(epochs, lr=lr, cbs=cycle)
            found.append(float((classes(model, images.valid.x) == images.valid.y).double().mean()))
        return found

    def _model(self, row: Row) -> tuple[Any, list[Any]]:
        """An initialised network, and the callback that initialises it on the first batch where that is LSUV."""
        from torch import nn

        pieces = self.pieces
        leaky = row.act == "GeneralReLU"
        act = partial(pieces.GeneralReLU, leak=LEAK, sub=SHIFT) if leaky else nn.ReLU
        norm = nn.BatchNorm2d if row.norm == "nn.BatchNorm2d" else getattr(pieces, row.norm) if row.norm else None
        model = pieces.conv_net(act=act, norm=norm).to(self.setting.device)
        if row.init == "kaiming":
            model.apply(partial(pieces.init_weights, leak=LEAK if leaky else 0.0))
        if row.init != "lsuv":
            return model, []

        def pairs(network: Any) -> list[tuple[Any, Any]]:
            modules = list(network.modules())
            acts = [module for module in modules if isinstance(module, pieces.GeneralReLU)]
            convolutions = [module for module in modules if isinstance(module, nn.Conv2d)]
            return list(zip(acts, convolutions, strict=False))

        return model, [pieces.LSUVCallback(pairs)]

    def _images(self, normalised: bool) -> Any:
        if normalised not in self._loaded:
            mean, std = self.statistics if normalised else (0.0, 1.0)
            seen = self.pieces.normalized(self.dsd, mean, std)
            self._loaded[normalised] = self.pieces.fashion_loaders(seen, device=self.setting.device)
        return self._loaded[normalised]
