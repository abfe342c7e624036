"""Hands submissions to judges in processes of their own, and replaces a judge that hangs or dies.

All judges of a run are forked from one process, the bench, which has loaded what takes seconds to load.
"""

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
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any

from grading.startup import another_installation

from ._entries import Entry, Taken

# a new process imports torch and the suites, and so does what workers are forked from
START_SECONDS = 180.0
# to fork takes milliseconds
FORK_SECONDS = 60.0
# parsing is bounded by the size of files; what takes longer is meant to
READ_SECONDS = 60.0
# what a judge may need after its last check has run out of time
MARGIN_SECONDS = 60.0
TRIES = 2
# how the problem of a submission begins that the next run tries again
LOST = "could not be graded"
ERRORS = "errors.txt"
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


_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class _BenchDied(Exception):
    """Its last words."""


class _Bench:
    """The process that judges are forked from, seen from outside; `max_points` are those of each exercise."""

    max_points: dict[str, float]

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.connection, theirs = Pipe()
        with theirs, open(folder / ERRORS, "wb") as errors:
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

    def open(self, setup: dict[str, Any]) -> None:
        """Waits until it is ready; raises GradeError where it cannot be."""
        try:
            found = self._ask(setup, START_SECONDS)
        except _BenchDied as died:
            raise GradeError(f"a judge did not start: {died}") from None
        if "cannot" in found:
            raise GradeError(found["cannot"])
        other = another_installation(found["installation"], "judges")
        if other:
            raise GradeError(other)
        self.max_points = found["max_points"]

    def judge(self, folder: Path) -> _Judge:
        """A new judge that works in `folder`; raises _BenchDied."""
        (folder / FOLDER).mkdir(parents=True)
        connection, theirs = Pipe()
        try:
            with theirs:
                pid = self._ask({"judge": str(folder)}, FORK_SECONDS, theirs)["pid"]
        except _BenchDied:
            shutil.rmtree(folder)
            raise
        return _Judge(self, connection, pid, folder)

    def end(self, pid: int) -> None:
        """Ends a judge and everything that it has started; workers end with what they were forked from."""
        # where the bench has died, so have its judges
        with contextlib.suppress(_BenchDied):
            self._ask({"end": pid}, FORK_SECONDS)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _ask(self, request: dict[str, Any], seconds: float, connection: Connection | None = None) -> dict[str, Any]:
        """Its answer to a request, which a connection may go with; raises _BenchDied where there is none."""
        try:
            self.connection.send_bytes(json.dumps(request).encode())
            if connection is not None:
                send_handle(self.connection, connection.fileno(), self.process.pid)
            if not self.connection.poll(seconds):
                # an answer may still come, to a question that nobody remembers
                self.connection.close()
                raise _BenchDied(f"it has been silent for {seconds:g} s")
            answer: dict[str, Any] = json.loads(self.connection.recv_bytes())
            return answer
        except (EOFError, OSError):
            raise _BenchDied(self._last_words()) from None

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = (self.folder / ERRORS).read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else "it said nothing"
        return "it said nothing"


class _Judge:
    """One judge's process, seen from outside."""

    def __init__(self, bench: _Bench, connection: Connection, pid: int, folder: Path) -> None:
        self.bench, self.connection, self.pid, self.folder = bench, connection, pid, folder
        self.job: Job | None = None
        self.taken = Taken()
        self.deadline = 0.0

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
        # one that has died is noticed when it is listened to
        with contextlib.suppress(OSError):
            request = {"path": f"{FOLDER}/{first.partition('/')[0]}", "seed": job.seed}
            self.connection.send_bytes(json.dumps(request).encode())

    def clear(self) -> None:
        self.job = None
        shutil.rmtree(self.folder / FOLDER)
        (self.folder / FOLDER).mkdir()

    def end(self) -> None:
        self.bench.end(self.pid)
        self.connection.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class Queue:
    """Grades jobs on `processes` judges, which wait for more until it is closed; `setup` is what the bench is told."""

    def __init__(self, setup: dict[str, Any], work: Path, processes: int, seconds: float) -> None:
        self.setup, self.work, self.processes, self.seconds = setup, work, processes, seconds
        self.bench: _Bench | None = None
        self.judges: list[_Judge] = []
        self.numbers = itertools.count()

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *error: object) -> None:
        for judge in self.judges:
            judge.end()
        if self.bench is not None:
            self.bench.close()
        self.bench, self.judges = None, []

    def run(self, jobs: list[Job]) -> Iterator[Result]:
        """A result for every job, in the order in which they are done."""
        todo = deque((job, 1) for job in jobs)
        tries: dict[Entry, int] = {}
        while len(self.judges) < min(self.processes, len(jobs)):
            self.judges.append(self._start())
        while todo or any(judge.job for judge in self.judges):
            for judge in self.judges:
                while todo and judge.job is None:
                    job, tries[job.entry] = todo.popleft()
                    taken = job.take()
                    if taken.files:
                        judge.give(job, taken)
                    else:
                        yield self._result(job, taken, [], {}, "", [])
            if not todo and not any(judge.job for judge in self.judges):
                return
            for judge, message in self._messages():
                if "read" in message:
                    judge.deadline = time.monotonic() + self.seconds
                elif "verdicts" in message:
                    assert judge.job is not None, "it was listened to"
                    result = self._result(judge.job, judge.taken, **message)
                    judge.clear()
                    yield result
                else:
                    yield from self._lost(judge, message, todo, tries)

    def _start(self) -> _Judge:
        """A new judge, of a new bench where there is none or it has died; raises GradeError."""
        for bench in (self.bench, None):
            try:
                return (bench or self._opened()).judge(self.work / f"judge-{next(self.numbers)}")
            except _BenchDied as died:
                reason = died
        raise GradeError(f"a judge did not start: {reason}")

    def _opened(self) -> _Bench:
        if self.bench is not None:
            self.bench.close()
        self.bench = _Bench(self.work / f"bench-{next(self.numbers)}")
        self.bench.open(self.setup)
        return self.bench

    def _messages(self) -> Iterator[tuple[_Judge, dict[str, Any]]]:
        """What the judges say next, and `late` for those that have been silent for too long."""
        listening = [judge for judge in self.judges if judge.job]
        timeout = max(0.0, min(judge.deadline for judge in listening) - time.monotonic())
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
        assert job is not None, "it was listened to"
        if tries[job.entry] < TRIES:
            todo.append((job, tries[job.entry] + 1))
        else:
            yield self._result(job, judge.taken, [], {}, f"{LOST}: {next(iter(message.values()))}", [])
        judge.end()
        self.judges.remove(judge)
        if todo:
            self.judges.append(self._start())

    def _result(
        self,
        job: Job,
        taken: Taken,
        verdicts: list[Any],
        review: dict[str, list[str]],
        problem: str,
        cells: list[Any],
    ) -> Result:
        assert self.bench is not None, "judges come from it"
        return Result(job, taken, self.bench.max_points, verdicts, review, problem, cells)
