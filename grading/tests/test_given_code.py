"""The classes of unit 4 that students are given: what every later unit and suite takes for granted about them."""

from __future__ import annotations

import contextlib
import gc
import sys
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from solutions.u4_learner import (
    Callback,
    CancelBatchException,
    CancelEpochException,
    CancelFitException,
    DataLoaders,
    DeviceCallback,
    Learner,
    LRFinder,
    MetricsCallback,
    ProgressCallback,
    TrainLearner,
    accuracy,
    clean_memory,
)

EVENTS = [
    *("before_fit", "before_epoch", "before_batch", "predict", "after_predict", "get_loss", "after_loss", "backward"),
    *("after_backward", "step", "after_step", "zero_grad", "after_batch", "after_epoch", "after_fit"),
    *(f"{kind}_{level}" for kind in ("after_cancel", "cleanup") for level in ("batch", "epoch", "fit")),
]
TRAINING_BATCH = [
    *("before_batch", "predict", "after_predict", "get_loss", "after_loss", "backward", "after_backward", "step"),
    *("after_step", "zero_grad", "after_batch", "cleanup_batch"),
]
VALIDATION_BATCH = [
    *("before_batch", "predict", "after_predict", "get_loss", "after_loss", "after_batch", "cleanup_batch"),
]


class Log(Callback):
    """Notes every event, and raises `error` at the first `at`."""

    def __init__(self, at: str = "", error: type[BaseException] = CancelFitException) -> None:
        self.at, self.error, self.events = at, error, []

    def note(self, event: str) -> None:
        self.events.append(event)
        if event == self.at and self.events.count(event) == 1:
            raise self.error


for _event in EVENTS:
    setattr(Log, _event, lambda self, event=_event: self.note(event))


def batches(*sizes: int, seed: int = 0) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [(torch.randn(n, 3, generator=generator), torch.randint(4, (n,), generator=generator)) for n in sizes]


def learner(*sizes: int, **how) -> TrainLearner:
    torch.manual_seed(0)
    dls = DataLoaders(batches(*sizes), batches(*sizes, seed=1))
    return TrainLearner(nn.Linear(3, 4), dls, F.cross_entropy, **how)


def bare(log: Log) -> Learner:
    return Learner(nn.Linear(3, 4), DataLoaders(batches(2, 2), batches(2)), cbs=[log])


def test_events_come_in_order() -> None:
    log = Log()
    bare(log).fit(1)
    train = ["before_epoch", *TRAINING_BATCH * 2, "after_epoch", "cleanup_epoch"]
    valid = ["before_epoch", *VALIDATION_BATCH, "after_epoch", "cleanup_epoch"]
    assert log.events == ["before_fit", *train, *valid, "after_fit", "cleanup_fit"]


@pytest.mark.parametrize(
    ("error", "level"), [(CancelBatchException, "batch"), (CancelEpochException, "epoch"), (CancelFitException, "fit")]
)
@pytest.mark.parametrize("at", ["before_batch", "after_loss", "after_step", "after_batch"])
def test_cancelling_ends_its_level_quietly(error: type[Exception], level: str, at: str) -> None:
    log = Log(at, error)
    bare(log).fit(1)
    place = log.events.index(at)
    inner = {"batch": [], "epoch": ["cleanup_batch"], "fit": ["cleanup_batch", "cleanup_epoch"]}[level]
    ending = [*inner, f"after_cancel_{level}", f"cleanup_{level}"]
    assert log.events[place + 1 : place + 1 + len(ending)] == ending
    following = {"batch": "before_batch", "epoch": "before_epoch"}.get(level)
    assert log.events[place + 1 + len(ending) :][:1] == ([following] if following else [])
    assert f"after_{level}" not in log.events[: place + 1 + len(ending)] or at == f"after_{level}"


@pytest.mark.parametrize("at", EVENTS[:-6])
def test_cleanup_comes_after_an_error(at: str) -> None:
    log = Log(at, KeyboardInterrupt)
    learn = bare(log)
    with pytest.raises(KeyboardInterrupt):
        learn.fit(1)
    for level in ("batch", "epoch", "fit"):
        assert log.events.count(f"cleanup_{level}") >= (f"before_{level}" in log.events)
    assert log.events[-1] == "cleanup_fit"
    assert not any("cancel" in event for event in log.events)


def test_callbacks_run_by_order_and_leave_with_their_fit() -> None:
    seen = []

    class Noting(Callback):
        def __init__(self, name: str, order: int) -> None:
            self.name, self.order = name, order

        def before_fit(self) -> None:
            seen.append(self.name)

    learn = learner(2, cbs=[Noting("late", 5), Noting("first", -1)])
    learn.fit(1, cbs=[Noting("added", 0)])
    learn.fit(1)
    assert seen == ["first", "added", "late", "first", "late"]
    with contextlib.suppress(KeyboardInterrupt):
        learn.fit(1, cbs=[Log("before_fit", KeyboardInterrupt)])
    assert [callback.name for callback in learn.cbs] == ["late", "first"]


def test_phases_and_modes_are_those_asked_for() -> None:
    class Phases(Callback):
        seen: tuple = ()

        def before_batch(self) -> None:
            self.seen = (*self.seen, (self.epoch, self.training, torch.is_grad_enabled()))

    for how, want in (
        ({}, [(0, True, True), (0, False, False), (1, True, True), (1, False, False)]),
        ({"train": False}, [(0, False, False), (1, False, False)]),
        ({"valid": False}, [(0, True, True), (1, True, True)]),
    ):
        phases = Phases()
        learner(2, cbs=[phases]).fit(2, **how)
        assert list(phases.seen) == want


def test_each_fit_makes_its_optimizer_with_its_rate() -> None:
    learn = learner(2, lr=0.25)
    learn.fit(1)
    first = learn.opt
    assert first.param_groups[0]["lr"] == 0.25
    learn.fit(1, lr=0.5)
    assert learn.opt is not first
    assert (learn.opt.param_groups[0]["lr"], learn.lr) == (0.5, 0.25)


def test_metrics_average_over_samples() -> None:
    metrics = MetricsCallback(accuracy=accuracy)
    learn = learner(5, 5, 1, lr=0.0, cbs=[metrics])
    learn.fit(2)
    x, y = (torch.cat(parts) for parts in zip(*learn.dls.valid, strict=True))
    preds = learn.model(x)
    assert [(record["epoch"], record["phase"]) for record in metrics.history] == [
        *[(0, "train"), (0, "valid")],
        *[(1, "train"), (1, "valid")],
    ]
    record = metrics.history[-1]
    assert record["loss"] == pytest.approx(F.cross_entropy(preds, y).item())
    assert record["accuracy"] == pytest.approx((preds.argmax(1) == y).float().mean().item())
    assert all(type(record[name]) is float for name in ("loss", "accuracy"))


def test_metrics_hold_no_graph() -> None:
    metrics = MetricsCallback(error=F.cross_entropy)
    learner(3, 3, cbs=[metrics]).fit(1, valid=False)
    assert not metrics.sums["error"].requires_grad
    assert metrics.history[0]["error"] == pytest.approx(metrics.history[0]["loss"])


def test_device_callback_moves_model_and_batches() -> None:
    learn = learner(2, 3, cbs=[DeviceCallback("meta")])
    learn.fit(1)
    assert {p.device.type for p in learn.model.parameters()} == {"meta"}
    assert {t.device.type for t in (learn.preds, learn.loss, *learn.batch)} == {"meta"}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device_callback_trains_on_a_gpu() -> None:
    metrics = MetricsCallback(accuracy=accuracy)
    learn = learner(8, 8, cbs=[metrics, DeviceCallback("cuda")])
    learn.fit(3)
    losses = [record["loss"] for record in metrics.history if record["phase"] == "train"]
    assert losses[-1] < losses[0]
    assert learn.loss.is_cuda
    learn.lr_find(max_epochs=2)
    assert {p.device.type for p in learn.model.parameters()} == {"cuda"}
    clean_memory()


def test_progress_says_where_a_fit_is(capsys: pytest.CaptureFixture[str]) -> None:
    learner(2, 2, 2, cbs=[ProgressCallback()]).fit(2)
    shown = capsys.readouterr().err
    for words in ("epoch 1/2 train", "epoch 1/2 valid", "epoch 2/2 train", "/3 [", "loss="):
        assert words in shown


@pytest.mark.parametrize(
    ("error", "at"),
    [
        (CancelFitException, "before_fit"),
        (CancelFitException, "before_epoch"),
        (CancelFitException, "after_batch"),
        (CancelEpochException, "before_epoch"),
        (CancelEpochException, "after_batch"),
    ],
)
def test_progress_does_not_disturb_a_cancelled_fit(error: type[Exception], at: str) -> None:
    progress = ProgressCallback()
    learner(2, 2, cbs=[progress, Log(at, error)]).fit(1)
    assert progress.bar is None


def test_progress_takes_batches_without_a_length() -> None:
    class Stream:
        def __iter__(self):
            return iter(batches(2, 2))

    learn = learner(2)
    learn.dls = DataLoaders(Stream(), Stream())
    learn.fit(1, cbs=[ProgressCallback()])


def test_lr_find_hands_its_arguments_on() -> None:
    learn = learner(4, 4, 4, lr=0.3)
    before = [p.detach().clone() for p in learn.model.parameters()]
    finder = learn.lr_find(gamma=2, max_mult=1e9, start_lr=1e-4, max_epochs=2)
    assert isinstance(finder, LRFinder)
    assert finder.lrs == pytest.approx([1e-4 * 2**n for n in range(6)])
    assert (learn.lr, learn.cbs) == (0.3, [])
    assert all(torch.equal(p, q) for p, q in zip(before, learn.model.parameters(), strict=True))


def test_lr_find_stops_when_the_loss_explodes() -> None:
    finder = learner(8, 8, 8, 8).lr_find(start_lr=0.1, gamma=3, max_epochs=50)
    assert 4 < len(finder.losses) < 50
    assert finder.losses[-1] > 3 * min(finder.losses)


def test_lr_finder_that_never_began_changes_nothing() -> None:
    learn = learner(4, 4)
    finder = learn.lr_find(max_epochs=1)
    learn.fit(1)
    trained = learn.model.weight.detach().clone()

    class Early(Callback):
        order = -1

        def before_fit(self) -> None:
            raise CancelFitException

    learn.fit(1, cbs=[Early(), finder])
    assert torch.equal(learn.model.weight, trained)


def test_clean_memory_lets_go_of_tensors() -> None:
    class Held(nn.Linear):
        pass

    def fail() -> weakref.ref:
        model = Held(2, 2)
        model.cycle = model
        try:
            raise RuntimeError("as after a failed cell")
        except RuntimeError as error:
            sys.last_type, sys.last_value, sys.last_traceback = type(error), error, error.__traceback__
        return weakref.ref(model)

    gc.disable()
    try:
        held = fail()
        assert held() is not None
        clean_memory()
        assert held() is None
        clean_memory()
    finally:
        gc.enable()


def test_clean_memory_empties_a_notebook_history() -> None:
    from IPython.core import interactiveshell as shells

    shell = shells.InteractiveShell.instance()
    try:
        shell.run_cell("import torch\nclass Big(torch.nn.Linear): pass", store_history=True)
        shell.run_cell("Big(2, 2)", store_history=True)
        shell.run_cell("import weakref; held = weakref.ref(_)\nNone", store_history=True)
        assert shell.user_ns["held"]() is not None
        clean_memory()
        assert shell.user_ns["held"]() is None
        shell.run_cell("1 + 1", store_history=True)
        assert shell.user_ns["_"] == 2
    finally:
        shells.InteractiveShell.clear_instance()
