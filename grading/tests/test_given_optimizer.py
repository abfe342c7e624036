"""What unit 8 gives: a parameter group, so that the learning-rate finder of unit 4 drives the optimizers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from grading.course import Course
from grading.subject import Subject, read_sources

from .conftest import ROOT

OPTIMIZERS = ("SGD", "Momentum", "RMSProp", "Adam")


@pytest.fixture
def pieces(course: Course) -> Iterator[Any]:
    subject = Subject(course, read_sources(course, ROOT / "solutions"))
    yield subject.pieces(course.exercises["adam"])
    subject.close()


def a_learner(pieces: Any, optimizer: str) -> Any:
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(1))
    # one batch many times: the loss explodes because of the rate, not because another batch is harder
    batches = [(x, x @ torch.ones(3, 1))] * 8
    model = torch.nn.Linear(3, 1)
    torch.nn.init.zeros_(model.weight)
    dls = pieces.DataLoaders(batches, batches[:1])
    return pieces.TrainLearner(model, dls, opt_func=getattr(pieces, optimizer))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_group_reads_and_sets_the_optimizer(pieces: Any, optimizer: str) -> None:
    p = torch.ones(2, requires_grad=True)
    opt = getattr(pieces, optimizer)([p], 0.5)
    (group,) = opt.param_groups
    assert group["lr"] == 0.5
    assert group["params"][0] is p
    group["lr"] *= 2
    assert opt.lr == 1.0
    opt.lr = 0.25
    assert opt.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_finder_raises_the_rate_and_leaves_the_model(pieces: Any, optimizer: str) -> None:
    learner = a_learner(pieces, optimizer)
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    finder = learner.lr_find(gamma=2, start_lr=1e-3)
    rates = torch.tensor(finder.lrs)
    assert len(rates) > 5
    assert rates == pytest.approx(1e-3 * 2.0 ** torch.arange(len(rates)))
    assert finder.losses[-1] > 3 * min(finder.losses)
    for name, value in learner.model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_fit_learns(pieces: Any, optimizer: str) -> None:
    learner = a_learner(pieces, optimizer)
    x, y = learner.dls.valid[0]
    learner.fit(20, lr=0.05)
    assert float(((learner.model(x) - y) ** 2).mean().detach()) < 0.1
