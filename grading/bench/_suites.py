"""What a student waits for: suites, a diagnosis, the reference's pieces and an epoch of the capstone."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from grading.course import Course, load
from grading.data import SYNTHETIC, DataError, fashion_mnist, find_source
from grading.judge import Judge
from grading.subject import read_sources

# what was measured, its repetitions in seconds, and what the median compares to
Row = tuple[str, list[float], str]


def suite_rows(root: Path, runs: int) -> list[Row]:
    """Wall seconds of the commands that students run, and of what lies inside them."""
    python = [sys.executable, "-m"]
    start = _processes(root, [sys.executable, "-c", "import torch, hypothesis, pytest"], runs)
    fresh = _processes(root, [*python, "grading.cli", "check", "--json"], runs)
    unit = _processes(root, [*python, "pytest", "-q", "--impl", "solutions", "tests/test_u7_normalization.py"], runs)
    whole = _processes(root, [*python, "pytest", "-q", "--impl", "solutions"], max(1, runs // 2))
    rows = [
        ("import torch, hypothesis and pytest", start, ""),
        ("goodinit check --json, nothing started", fresh, _times(fresh, start, "imports")),
        ("pytest --impl solutions, unit 7", unit, _times(unit, start, "imports")),
        ("pytest --impl solutions, without slow", whole, _times(whole, unit, "unit 7")),
    ]
    return [*rows, *_wrong_answer(root, runs), *_norms(root, runs), *_loading(root, runs)]


def _processes(root: Path, command: list[str], runs: int) -> list[float]:
    """Wall time of a whole command, a warm-up not counted."""

    def once() -> None:
        subprocess.run(command, cwd=root, capture_output=True, check=False)

    once()
    return _repeat(once, runs)


def _repeat(call: Callable[[], object], runs: int) -> list[float]:
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def _times(one: list[float], other: list[float], name: str) -> str:
    return f"{statistics.median(one) / statistics.median(other):.2f} times {name}"


def _wrong_answer(root: Path, runs: int) -> list[Row]:
    """A check that fails and is diagnosed, against the same check passing."""
    course = load(root)
    reference = read_sources(course, root / "solutions")
    text = "def variance(t):\n    return t.var()\n"
    path = root / ".goodinit" / "bench.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    wrong = read_sources(course, path)
    path.unlink()

    def judge(sources: object) -> None:
        one = Judge(course, sources, reference, 1)  # type: ignore[arg-type]
        one.run(one.checks("variance")[0])
        one.close()

    judge(reference)
    right, failed = _repeat(lambda: judge(reference), runs), _repeat(lambda: judge(wrong), runs)
    return [
        ("one check of variance, right", right, ""),
        ("the same, wrong, shrunk and diagnosed", failed, _times(failed, right, "the right one")),
    ]


def _on_the_reference(root: Path) -> tuple[Course, Judge]:
    course = load(root)
    sources = read_sources(course, root / "solutions")
    return course, Judge(course, sources, sources, 1)


def _norms(root: Path, runs: int) -> list[Row]:
    """The reference's BatchNorm against PyTorch's, forward and backward on a capstone batch."""
    course, judge = _on_the_reference(root)
    norm = judge.subject.exercise(course.exercises["batch_norm"])
    x = torch.randn(256, 16, 14, 14, requires_grad=True)

    def step(module: torch.nn.Module) -> None:
        for _ in range(10):
            module(x).sum().backward()

    mine, theirs = norm(16), torch.nn.BatchNorm2d(16)
    step(mine)
    step(theirs)
    ours, native = _repeat(lambda: step(mine), runs), _repeat(lambda: step(theirs), runs)
    judge.close()
    return [
        ("10 steps of nn.BatchNorm2d, 256x16x14x14", native, ""),
        ("10 steps of the reference's BatchNorm", ours, _times(ours, native, "nn.BatchNorm2d")),
    ]


def _loading(root: Path, runs: int) -> list[Row]:
    """An epoch's loading and an epoch's training in the capstone."""
    course, judge = _on_the_reference(root)
    pieces = judge.subject.pieces(course.exercises["train"])
    try:
        data = find_source(None).label
        images = fashion_mnist(None)
    except DataError:
        data, images = "drawn garments", fashion_mnist(SYNTHETIC)
    dls = pieces.fashion_loaders(images, batch_size=256)
    model = pieces.conv_net(act=pieces.nn.ReLU, norm=pieces.BatchNorm)
    load_epoch = _repeat(lambda: [None for _ in dls.train], runs)
    train_epoch = _repeat(lambda: pieces.train(model, dls, 1, 0.01), max(1, runs // 2))
    judge.close()
    share = statistics.median(load_epoch) / statistics.median(train_epoch)
    return [
        (f"an epoch of training on {data}", train_epoch, ""),
        ("an epoch's loading alone", load_epoch, f"{share:.1%} of the epoch"),
    ]
