"""What every run of a check's body goes through, whoever runs it and on whatever inputs."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch

from grading.bugs import MISMATCH, Run
from grading.subject import describe
from grading.verdict import Mismatch, observing


class StubReached(BaseException):
    """A check's body has come upon a stub.

    Not an Exception: Hypothesis would look for the simplest input on which a stub is a stub.
    """


class Running:
    """Opens what a check runs in, seeds, and closes it again."""

    def __init__(self, seed: int, contexts: Iterable[AbstractContextManager[None]], *, slow: bool) -> None:
        self.seed, self.contexts, self.slow = seed, contexts, slow

    def __enter__(self) -> None:
        self.stack = ExitStack()
        with ExitStack() as stack:
            for context in self.contexts:
                stack.enter_context(context)
            begin(self.seed, slow=self.slow)
            self.stack = stack.pop_all()

    def __exit__(self, *error: Any) -> None:
        self.stack.__exit__(*error)


def begin(seed: int, *, slow: bool) -> None:
    """Makes ready for a run of a check's body."""
    seed_everything(seed)
    # on the small tensors of a check, handing work to other threads costs more than the work
    if not slow:
        torch.set_num_threads(1)


def seed_everything(seed: int) -> None:
    """Seeds torch's global generators; the CPU's alone where there is no other, which is far quicker."""
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


@contextmanager
def recording(run: Run) -> Iterator[None]:
    """Keeps in `run` what the block looks at, and how it ends."""
    with observing() as run.observations:
        try:
            yield
        except BaseException as error:
            run.error = _ended_by(error)
            raise
        run.finished = True


def _ended_by(error: BaseException) -> str:
    if isinstance(error, Mismatch):
        return MISMATCH
    # at which call it has been enough depends on how deep the judge was
    return RecursionError.__name__ if isinstance(error, RecursionError) else describe(error)


class Sink(io.TextIOBase):
    """Takes what the code under test prints, and keeps none of it."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)
