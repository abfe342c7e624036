"""Judges beside the workers of a Dask cluster: what the local queue does, on any number of machines.

What crosses the network is plain and made by us: the course's files once, then JSON with the files and the seed of a
submission, and JSON with what was found. Nothing that follows from a student's work is unpickled, and a Dask worker
runs none of it: it starts a judge in a process of its own, as the local queue does, and waits for it.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import logging
import secrets
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, cast

from distributed import Client, Future, KilledWorker, Worker, WorkerPlugin, get_worker
from tornado.ioloop import PeriodicCallback

from grading.course import Course, load
from grading.verdict import clean

from ._entries import Entry, Taken
from ._queue import LOST, TRIES, GradeError, Job, Queue, Result
from ._record import course_files, kit_version

CONNECT_SECONDS = 15
GATEWAY = "gateway:"
LOOK_SECONDS = 5.0
# how long a cluster may have no worker at all: a batch system starts them when it has room
ALONE_SECONDS = 600.0
# Dask's client has no types
connect: Any = Client
# a judge that has had nothing to do for so long belongs to a run that was ended by force
IDLE_SECONDS = 300.0
FOUND = [field.name for field in fields(Result) if field.name not in ("job", "taken")]


class Cluster:
    """Grades jobs on all workers that a scheduler has or gets; `setup` is what each judge is told first.

    `scheduler` is an address, `gateway:NAME` for a cluster of dask-gateway, or a cluster object. `at_once` says how
    many submissions are under way; unless it is given, twice as many as the cluster has threads.
    """

    def __init__(
        self, scheduler: Any, course: Course, setup: dict[str, Any], seconds: float, at_once: int | None = None
    ) -> None:
        self.scheduler, self.at_once = scheduler, at_once
        self.address = str(getattr(scheduler, "scheduler_address", scheduler))
        files = {f"course/{path.relative_to(course.root).as_posix()}": path for path in course_files(course)}
        if setup["hidden"]:
            if not Path(setup["hidden"]).is_dir():
                raise GradeError(f"there is no folder {setup['hidden']} with hidden checks")
            files |= {f"hidden/{path.name}": path for path in Path(setup["hidden"]).glob("*.py")}
        self.judges = Judges(
            kit_version(course), {name: path.read_bytes() for name, path in files.items()}, setup, seconds
        )
        self.max_points: dict[str, float] = {}

    def __enter__(self) -> Cluster:
        # what there is to say is said in a sentence
        for name in logging.root.manager.loggerDict:
            if name.partition(".")[0] == "distributed":
                logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            self.client = _client(self.scheduler)
        except Exception as error:
            raise GradeError(f"no Dask scheduler answers at {self.address}: {_line(error)}") from None
        try:
            self.client.register_plugin(self.judges)
        except Exception as error:
            self.client.close()
            raise self._cannot(error) from None
        return self

    def __exit__(self, *error: object) -> None:
        # a scheduler that has gone cannot be told any more
        with contextlib.suppress(Exception):
            self.client.unregister_worker_plugin(self.judges.name)
        with contextlib.suppress(Exception):
            self.client.close()

    def run(self, jobs: list[Job]) -> Iterator[Result]:
        """A result for every job, in the order in which they are done.

        Dask gives what a lost worker had to another one. A submission that several workers were lost with is tried
        again when nothing else is under way, so that no other is blamed for it; then that is what is recorded.
        """
        todo, suspects = deque(jobs), deque[Job]()
        under_way: dict[Future[bytes], tuple[Job, Taken, int]] = {}
        self.done: SimpleQueue[Future[bytes]] = SimpleQueue()
        try:
            while todo or suspects or under_way:
                while todo and len(under_way) < self._room():
                    self._give(under_way, todo.popleft(), 1)
                if suspects and not under_way:
                    self._give(under_way, suspects.popleft(), TRIES)
                future = self._next()
                job, taken, tries = under_way.pop(future)
                answer = self._answer(future)
                if answer is not None:
                    self.max_points = answer["max_points"]
                    yield Result(job, taken, **answer)
                elif tries < TRIES:
                    suspects.append(job)
                else:
                    problem = f"{LOST}: every Dask worker that had it has ended"
                    yield Result(job, taken, self._max_points(), [], {}, problem)
        finally:
            with contextlib.suppress(Exception):
                self.client.cancel(list(under_way))

    def _room(self) -> int:
        """How many submissions may be under way: at least two, so that a cluster that grows by need has one."""
        return self.at_once or max(2, 2 * sum(self._threads().values()))

    def _threads(self) -> dict[str, int]:
        try:
            return dict(self.client.nthreads())
        except Exception as error:
            raise self._gone(error) from None

    def _give(self, under_way: dict[Future[bytes], tuple[Job, Taken, int]], job: Job, tries: int) -> None:
        taken = job.take()
        future = self._send(job.entry.slug, job.seed, taken)
        under_way[future] = job, taken, tries
        future.add_done_callback(self.done.put)  # type: ignore[no-untyped-call]

    def _send(self, slug: str, seed: int, taken: Taken) -> Future[bytes]:
        files = {name: base64.b64encode(data).decode() for name, data in taken.files.items()}
        request = json.dumps({"slug": slug, "seed": seed, "files": files}).encode()
        future = self.client.submit(_judge, self.judges.name, request, pure=False)
        return cast("Future[bytes]", future)

    def _next(self) -> Future[bytes]:
        """Waits for the next that is done."""
        alone = time.monotonic()
        while True:
            with contextlib.suppress(Empty):
                return self.done.get(timeout=LOOK_SECONDS)
            if self._threads():
                alone = time.monotonic()
            elif time.monotonic() > alone + ALONE_SECONDS:
                raise GradeError(
                    f"the Dask scheduler at {self.address} has had no worker for {ALONE_SECONDS:.0f} s; "
                    f"start some with: dask worker {self.address}"
                )

    def _answer(self, future: Future[bytes]) -> dict[str, Any] | None:
        """What was found; None where workers were lost with it."""
        if future.status == "cancelled":
            raise self._gone("the connection was lost")
        try:
            answer: dict[str, Any] = json.loads(future.result())
        except KilledWorker:
            return None
        except Exception as error:
            raise self._cannot(error) from None
        if "cannot" in answer:
            raise GradeError(answer["cannot"])
        return answer

    def _max_points(self) -> dict[str, float]:
        """Those of any submission, and of an empty one where there is no other."""
        if not self.max_points:
            answer = self._answer(self._send("empty", 0, Taken()))
            if answer is None:
                raise GradeError(f"every worker of the Dask cluster at {self.address} ends when it is to grade")
            self.max_points = answer["max_points"]
        return self.max_points

    def _gone(self, reason: object) -> GradeError:
        return GradeError(
            f"the Dask scheduler at {self.address} has gone ({_line(reason)}); what is graded is kept, "
            "and the same command goes on from there"
        )

    def _cannot(self, error: Exception) -> GradeError:
        # Dask turns some exceptions of a worker into text
        if isinstance(error, ImportError) or "ModuleNotFoundError" in str(error):
            return GradeError(
                f"the Dask cluster at {self.address} has not this goodinit ({_line(error)}): "
                "install the same one where its scheduler and its workers run"
            )
        return GradeError(f"the Dask cluster at {self.address} cannot grade: {type(error).__name__}: {_line(error)}")


class Judges(WorkerPlugin):
    """What a Dask worker holds during a run: the course and private suites, unpacked, and a judge for each thread.

    Dask itself needs the pickle of this object, which is made of the course and of nothing else.
    """

    def __init__(self, kit: str, files: dict[str, bytes], setup: dict[str, Any], seconds: float) -> None:
        self.kit, self.files, self.setting, self.seconds = kit, files, setup, seconds
        self.name = f"goodinit-{secrets.token_hex(8)}"

    def setup(self, worker: Worker) -> None:
        self.address = worker.address
        self.folder = Path(worker.local_directory).resolve() / self.name
        self.lock, self.numbers = threading.Lock(), itertools.count()
        self.idle: list[tuple[float, Queue]] = []
        self.closed = self.unpacked = False
        self.tidying = PeriodicCallback(self._tidy, 1000 * IDLE_SECONDS / 5)
        self.tidying.start()

    def teardown(self, worker: Worker) -> None:
        self.closed = True
        self.tidying.stop()
        self._tidy()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tidy(self) -> None:
        """Ends the judges that nobody needs any more."""
        now = time.monotonic()
        with self.lock:
            for since, queue in list(self.idle):
                if self.closed or now > since + IDLE_SECONDS:
                    self.idle.remove((since, queue))
                    queue.__exit__()

    def judge(self, request: dict[str, Any]) -> dict[str, Any]:
        """What was found on one submission, by a judge that is free or by a new one."""
        taken = Taken({name: base64.b64decode(data) for name, data in request["files"].items()})
        job = Job(Entry(request["slug"], False, request["slug"]), request["seed"], lambda: taken)
        try:
            with self.lock:
                if not self.unpacked:
                    self._unpack()
                queue = self.idle.pop()[1] if self.idle else self._start()
            with contextlib.ExitStack() as stack:
                stack.push(queue)
                [result] = queue.run([job])
                with self.lock:
                    if not self.closed:
                        stack.pop_all()
                        self.idle.append((time.monotonic(), queue))
        except GradeError as error:
            return {"cannot": f"the Dask worker {self.address} cannot grade: {error}"}
        except OSError as error:
            return {"cannot": f"the Dask worker {self.address} cannot grade: {_line(error)}"}
        return {name: getattr(result, name) for name in FOUND}

    def _start(self) -> Queue:
        here = {"root": str(self.folder / "course")}
        if self.setting["hidden"]:
            here["hidden"] = str(self.folder / "hidden")
        return Queue({**self.setting, **here}, self.folder / f"judge-{next(self.numbers)}", 1, self.seconds)

    def _unpack(self) -> None:
        """Writes the course; raises GradeError where grading by it is not what the sender's machine would do."""
        for name, data in self.files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            kit = kit_version(load(self.folder / "course"))
        except Exception as error:
            raise GradeError(_line(error)) from None
        if kit != self.kit:
            raise GradeError(
                f"its kit is {kit}, and that of this run is {self.kit}; "
                "install the same versions of goodinit, torch and hypothesis everywhere"
            )
        self.unpacked = True


def _client(scheduler: Any) -> Any:
    """A client of the scheduler. Where something else answers, Dask itself would wait for what it never says."""
    found: SimpleQueue[Any] = SimpleQueue()

    def connecting() -> None:
        try:
            found.put(connect(_named(scheduler), timeout=CONNECT_SECONDS, set_as_default=False))
        except Exception as error:
            found.put(error)

    threading.Thread(target=connecting, daemon=True).start()
    try:
        client = found.get(timeout=2 * CONNECT_SECONDS)
    except Empty:
        raise TimeoutError("something else may listen there") from None
    if isinstance(client, Exception):
        raise client
    return client


def _named(scheduler: Any) -> Any:
    """What Dask takes for a scheduler; where the gateway is and who may use it, dask-gateway's own settings say."""
    if not str(scheduler).startswith(GATEWAY):
        return scheduler
    from dask_gateway import Gateway

    return Gateway().connect(scheduler.removeprefix(GATEWAY), shutdown_on_close=False)


def _judge(name: str, request: bytes) -> bytes:
    """What a Dask worker is asked to do."""
    judges: Any = get_worker().plugins[name]
    return json.dumps(judges.judge(json.loads(request))).encode()


def _line(error: object) -> str:
    return " ".join(clean(str(error)).split()) or type(error).__name__
