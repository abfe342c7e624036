"""Hands submissions to judges in processes of their own, and replaces a judge that hangs or dies."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from ._entries import Entry, Taken

# a new process imports torch and the suites, twice: for the judge and for what its workers are forked from
START_SECONDS = 180.0
# parsing is bounded by the size of files; what takes longer is meant to
READ_SECONDS = 60.0
# what a judge may need after its last check has run out of time
MARGIN_SECONDS = 60.0
TRIES = 2
# how the problem of a submission begins that the next run tries again
LOST = "could not be graded"
# the files of a submission lie in a folder of their own, so that no name in it is where a module is looked for
FOLDER = "submissions"


class GradeError(Exception):
    """One sentence on why nothing can be graded."""


@dataclass(frozen=True)
class Job:
    """One submission, its seed, and how to get at its files when its turn comes."""

    entry: Entry
    seed: int
    take: Callable[[], Taken]


@dataclass(frozen=True)
class Result:
    """What was found on one submission: verdicts, review and problem, or why it could not be graded.

    `cells` has the outputs of each code cell, where those of a notebook were run.
    """

    job: Job
    taken: Taken
    max_points: dict[str, float]
    verdicts: list[dict[str, Any]]
    review: dict[str, list[str]]
    problem: str
    cells: list[list[dict[str, Any]]] = field(default_factory=list)


class _Judge:
    """One judge's process, seen from outside."""

    def __init__(self, setup: dict[str, Any], folder: Path) -> None:
        self.folder = folder
        (folder / FOLDER).mkdir(parents=True)
        self.connection, theirs = Pipe()
        with open(folder / "errors.txt", "wb") as errors:
            self.process = subprocess.Popen(
                # -P: the folder that it is started in is no place for modules
                [sys.executable, "-P", "-m", f"{__package__}._bench", str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                cwd=folder,
                start_new_session=True,
                env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", **_ONE_THREAD},
            )
        theirs.close()
        self.max_points: dict[str, float] | None = None
        self.job: Job | None = None
        self.taken = Taken()
        self.deadline = time.monotonic() + START_SECONDS
        self.send(setup)

    def send(self, message: dict[str, Any]) -> None:
        # one that has died is noticed when it is listened to
        with contextlib.suppress(OSError):
            self.connection.send_bytes(json.dumps(message).encode())

    def receive(self) -> dict[str, Any]:
        """The next message; `died` where there is none any more."""
        try:
            message: dict[str, Any] = json.loads(self.connection.recv_bytes())
            return message
        except (EOFError, OSError):
            return {"died": "its judge has ended"}

    def give(self, job: Job, taken: Taken) -> None:
        self.job, self.taken = job, taken
        for name, data in taken.files.items():
            path = self.folder / FOLDER / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
        first = next(iter(taken.files))
        self.deadline = time.monotonic() + READ_SECONDS
        self.send({"path": f"{FOLDER}/{first.partition('/')[0]}", "seed": job.seed})

    def clear(self) -> None:
        self.job = None
        shutil.rmtree(self.folder / FOLDER)
        (self.folder / FOLDER).mkdir()

    def last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.folder / "errors.txt").read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it said nothing"

    def kill(self) -> None:
        """Ends it and everything that it has started; workers end with what they were forked from."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Queue:
    """Grades jobs on `processes` judges, which wait for more until it is closed; `setup` is what each is told first."""

    def __init__(self, setup: dict[str, Any], work: Path, processes: int, seconds: float) -> None:
        self.setup, self.work, self.processes, self.seconds = setup, work, processes, seconds
        self.judges: list[_Judge] = []
        self.numbers = itertools.count()

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *error: object) -> None:
        for judge in self.judges:
            judge.kill()
        self.judges = []

    def run(self, jobs: list[Job]) -> Iterator[Result]:
        """A result for every job, in the order in which they are done."""
        todo = deque((job, 1) for job in jobs)
        tries: dict[Entry, int] = {}
        while len(self.judges) < min(self.processes, len(jobs)):
            self.judges.append(self._start())
        while todo or any(judge.job for judge in self.judges):
            for judge in self.judges:
                while todo and judge.job is None and judge.max_points is not None:
                    job, tries[job.entry] = todo.popleft()
                    taken = job.take()
                    if taken.files:
                        judge.give(job, taken)
                    else:
                        yield Result(job, taken, judge.max_points, [], {}, "")
            if not todo and not any(judge.job for judge in self.judges):
                return
            for judge, message in self._messages():
                if "cannot" in message:
                    raise GradeError(message["cannot"])
                if "max_points" in message:
                    judge.max_points, judge.deadline = message["max_points"], float("inf")
                elif "read" in message:
                    judge.deadline = time.monotonic() + self.seconds
                elif "verdicts" in message:
                    result = self._result(judge, **message)
                    judge.clear()
                    yield result
                else:
                    yield from self._lost(judge, message, todo, tries)

    def _start(self) -> _Judge:
        return _Judge(self.setup, self.work / f"judge-{next(self.numbers)}")

    def _messages(self) -> Iterator[tuple[_Judge, dict[str, Any]]]:
        """What the judges say next, and `late` for those that have been silent for too long."""
        nearest = min(judge.deadline for judge in self.judges)
        timeout = None if nearest == float("inf") else max(0.0, nearest - time.monotonic())
        listening = [judge for judge in self.judges if judge.job or judge.max_points is None]
        connections: list[Connection] = [judge.connection for judge in listening]
        speaking = wait(connections, timeout)
        for judge in listening:
            if judge.connection in speaking:
                yield judge, judge.receive()
            elif time.monotonic() > judge.deadline:
                yield judge, {"late": "it took too long to read or to judge"}

    def _lost(
        self, judge: _Judge, message: dict[str, Any], todo: deque[tuple[Job, int]], tries: dict[Entry, int]
    ) -> Iterator[Result]:
        """Replaces a judge; its submission is tried once more, for it may not be its fault."""
        job = judge.job
        if job is None:
            raise GradeError(f"a judge did not start: {judge.last_words()}")
        if tries[job.entry] < TRIES:
            todo.append((job, tries[job.entry] + 1))
        else:
            reason = next(iter(message.values()))
            yield self._result(judge, [], {}, f"{LOST}: {reason}", [])
        judge.kill()
        self.judges.remove(judge)
        if todo:
            self.judges.append(self._start())

    @staticmethod
    def _result(
        judge: _Judge, verdicts: list[Any], review: dict[str, list[str]], problem: str, cells: list[Any]
    ) -> Result:
        assert judge.job is not None and judge.max_points is not None, "it was given a job when it was ready"
        return Result(judge.job, judge.taken, judge.max_points, verdicts, review, problem, cells)
