"""`goodinit grade --scheduler` on a real Dask cluster: the same records, whatever happens to workers and runs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed", reason="Dask is not installed: pip install 'goodinit[cluster]'")

from distributed import KilledWorker, LocalCluster

from grading.classroom import Entry, GradeError, Job, Options, Taken, _cluster, grade
from grading.cli import main
from grading.course import Course

from .conftest import ROOT
from .test_grade import MEAN, VARIANCE, files, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("sandbox")]

# what a worker does before it is asked to judge: says so, takes its time, and fails in the way that a test is about
WORKER = """
import os, signal, sys, time
if "BARE" in os.environ:
    sys.modules["grading"] = None
elif "judge" not in globals():  # Dask runs this twice
    from grading.classroom import _cluster, _queue
    judge = _cluster.Judges.judge

    def say(*words):
        with open({log!r}, "a") as file:
            print(os.getpid(), *words, file=file)

    def slowly(self, request):
        say("begins", request["slug"])
        if request["slug"] == "deadly":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(float(os.environ.get("PAUSE", 0)))
        answer = judge(self, request)
        say("ends", request["slug"])
        return answer

    _cluster.Judges.judge = slowly
    if "OTHER_KIT" in os.environ:
        _cluster.kit_version = lambda course: "0.0.1+other"
    if "NO_WALL" in os.environ:
        _queue._Bench._ask = lambda self, *request: {{"cannot": "no wall here"}}
"""


# passes where a worker has unpacked it
SUITE = '''
from pathlib import Path
from grading.verdict import expect

def test_where(mean):
    """It is judged where it was sent to."""
    expect(str(Path(__file__).parent).count("dask-scratch-space"), 1, "place")
'''
LOCAL_CLUSTER: Any = LocalCluster


class Cluster:
    """A scheduler, and workers in processes of their own."""

    def __init__(self, folder: Path, failures: int) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        self.processes: list[subprocess.Popen[bytes]] = []
        (folder / "preload.py").write_text(WORKER.format(log=str(self.log)))
        place = folder / "scheduler.json"
        words = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(place)]
        self.scheduler = self.start("scheduler", *words, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES=str(failures))
        # it is there before it is written
        wait_for(lambda: place.exists() and place.read_text().rstrip().endswith("}"))
        self.address: str = json.loads(place.read_text())["address"]

    def start(self, kind: str, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        with open(self.folder / "dask.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_" + kind, *words],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, **environment},
            )
        self.processes.append(process)
        return process

    def worker(self, *words: str, **environment: str) -> subprocess.Popen[bytes]:
        home = self.folder / f"worker-{len(self.processes)}"
        words = (*words, "--nthreads", "1", "--no-dashboard", "--local-directory", str(home))
        return self.start("worker", self.address, "--preload", str(self.folder / "preload.py"), *words, **environment)

    def said(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def stop(self) -> None:
        # the scheduler last: a worker that has lost it may wait for ever
        for process in reversed(self.processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The parameter is how often Dask itself tries a task again that a worker was lost with."""
    (tmp_path / "cluster").mkdir()
    one = Cluster(tmp_path / "cluster", getattr(request, "param", 1))
    yield one
    one.stop()


@pytest.fixture(scope="module")
def handed_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("class") / "handed_in"
    folder.mkdir()
    for number in range(3):
        (folder / f"right{number}.py").write_text(MEAN + VARIANCE)
        (folder / f"wrong{number}.py").write_text(MEAN + "def variance(t):\n    return t.var()\n")
        (folder / f"partly{number}.py").write_text(MEAN)
    (folder / "hostile.py").write_text("import os\ndef mean(t):\n    os._exit(0)\n" + VARIANCE)
    (folder / "empty").mkdir()
    (folder / "damaged.ipynb").write_text("{")
    return folder


def words(folder: Path, out: Path, *more: str) -> list[str]:
    return ["grade", str(folder), "--out", str(out), "--seed", "3", "--unit", "mean", "variance", *more]


def goodinit(*command: str) -> int:
    with contextlib.chdir(ROOT):
        return main(list(command))


@pytest.fixture(scope="module")
def local(handed_in: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What the judges of this machine find."""
    out = tmp_path_factory.mktemp("local")
    assert goodinit(*words(handed_in, out)) == 1
    return files(out)


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "grading.cli", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def judges_under(folder: Path) -> list[str]:
    """The processes that work in `folder`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/cwd").startswith(f"{folder}/worker-"):
                found.append(pid)
    return found


def test_a_worker_that_dies_costs_nobody_anything(
    cluster: Cluster, handed_in: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    victim, other = cluster.worker("--no-nanny", PAUSE="0.5"), cluster.worker("--no-nanny", PAUSE="0.5")
    out = tmp_path / "out"
    run = start(words(handed_in, out, "--scheduler", cluster.address))

    def of_the_victim(word: str) -> set[str]:
        return {entry[2] for entry in cluster.said() if entry[:2] == [str(victim.pid), word]}

    def interrupted() -> set[str]:
        return of_the_victim("begins") - of_the_victim("ends")

    def kept() -> bool:
        ended = of_the_victim("ends")
        return bool(ended) and ended <= {path.stem for path in out.glob("records/*")}

    wait_for(lambda: run.poll() is not None or (interrupted() and kept()))
    victim.kill()
    _, errors = run.communicate(timeout=200)
    assert victim.wait() == -signal.SIGKILL and other.poll() is None
    assert run.returncode == 1, errors
    assert files(out) == local
    assert interrupted(), "it had a submission when it was killed"
    ended = [entry for entry in cluster.said() if entry[1] == "ends"]
    assert {entry[0] for entry in ended} == {str(victim.pid), str(other.pid)}
    assert {(str(other.pid), "ends", slug) for slug in interrupted()} <= {tuple(entry) for entry in ended}
    assert sorted(entry[2] for entry in ended) == sorted(path.stem for path in (out / "records").iterdir())
    wait_for(lambda: not judges_under(cluster.folder))


def test_stopped_and_started_again_nothing_is_graded_twice(
    cluster: Cluster, handed_in: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    cluster.worker("--no-nanny", PAUSE="0.5")
    out = tmp_path / "out"
    run = start(words(handed_in, out, "--scheduler", cluster.address))
    wait_for(lambda: run.poll() is not None or len(list(out.glob("records/*"))) >= 4)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in (out / "records").iterdir()}
    again = start(words(handed_in, out, "--scheduler", cluster.address))
    said, errors = again.communicate(timeout=200)
    assert again.returncode == 1, errors
    assert f"{len(before)} of them before" in said
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert files(out) == local


def test_a_scheduler_that_goes_is_told_in_a_sentence(
    cluster: Cluster, handed_in: Path, local: dict[str, bytes], tmp_path: Path
) -> None:
    cluster.worker("--no-nanny", PAUSE="0.5")
    out = tmp_path / "out"
    run = start(words(handed_in, out, "--scheduler", cluster.address))
    wait_for(lambda: run.poll() is not None or len(list(out.glob("records/*"))) >= 2)
    cluster.scheduler.kill()
    _, errors = run.communicate(timeout=200)
    assert run.returncode == 2
    assert "has gone" in errors.splitlines()[-1] and "the same command goes on from there" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert goodinit(*words(handed_in, out)) == 1
    assert files(out) == local


@pytest.mark.parametrize("cluster", [0], indirect=True)
def test_a_submission_that_workers_die_of_is_recorded_and_no_other_is_blamed(
    cluster: Cluster, tmp_path: Path, course: Course
) -> None:
    folder = tmp_path / "handed_in"
    folder.mkdir()
    for name in ("before", "deadly", "later"):
        (folder / f"{name}.py").write_text(MEAN)
    cluster.worker("--nanny")
    exercises = (course.exercises["mean"],)
    done = grade(course, folder, tmp_path / "out", Options(exercises, 3, scheduler=cluster.address))
    assert (done.graded, done.problems) == (3, 1)
    found = {path.stem: json.loads(path.read_text()) for path in (tmp_path / "out" / "records").iterdir()}
    assert found["deadly"]["problem"] == "could not be graded: every Dask worker that had it has ended"
    assert found["deadly"]["max_points"] == found["later"]["points"] == found["before"]["points"] == 1
    begun = [entry[2] for entry in cluster.said() if entry[1] == "begins"]
    assert begun.count("deadly") == 2, "among the others, and alone"
    # nobody else's record is known now, from which its points could be taken
    again = grade(course, folder, tmp_path / "out", Options(exercises, 3, scheduler=cluster.address))
    assert (again.graded, again.kept, again.problems) == (1, 2, 1)


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"OTHER_KIT": "1"}, "its kit is 0.0.1+other, and that of this run is"),
        ({"NO_WALL": "1"}, "cannot grade: no wall here"),
        ({"BARE": "1"}, "install the same one where its scheduler and its workers run"),
    ],
)
def test_a_worker_that_cannot_grade_is_told_in_a_sentence(
    cluster: Cluster,
    handed_in: Path,
    tmp_path: Path,
    environment: dict[str, str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cluster.worker("--no-nanny", **environment)
    with _cluster.connect(cluster.address) as client:
        client.wait_for_workers(1)
    assert goodinit(*words(handed_in, tmp_path / "out", "--scheduler", cluster.address)) == 2
    errors = capsys.readouterr().err
    assert sentence in errors and errors.startswith("goodinit: ") and errors.count("\n") == 1


def test_a_scheduler_without_workers(
    cluster: Cluster,
    handed_in: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_cluster, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(_cluster, "ALONE_SECONDS", 0.5)
    assert goodinit(*words(handed_in, tmp_path / "out", "--scheduler", cluster.address)) == 2
    assert f"start some with: dask worker {cluster.address}" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x:1", "127.0.0.1:port"])
def test_no_scheduler_there(
    address: str,
    handed_in: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(_cluster, "CONNECT_SECONDS", 1)
    assert goodinit(*words(handed_in, tmp_path / "out", "--scheduler", address)) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"goodinit: no Dask scheduler answers at {address}: ") and errors.count("\n") == 1


def test_what_answers_may_be_no_scheduler(course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask waits for more of what it says than there is."""
    monkeypatch.setattr(_cluster, "CONNECT_SECONDS", 0.5)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.py").write_text(MEAN, encoding="utf-8")
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    options = Options((course.exercises["mean"],), seed=1, scheduler=f"tcp://127.0.0.1:{server.server_port}")
    with pytest.raises(GradeError, match="no Dask scheduler answers at"):
        grade(course, tmp_path / "in", tmp_path / "out", options)
    server.shutdown()


def test_without_dask_it_says_what_to_install(
    handed_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    monkeypatch.delitem(sys.modules, "grading.classroom._cluster")
    assert goodinit(*words(handed_in, tmp_path / "out", "--scheduler", "tcp://127.0.0.1:1")) == 2
    assert "pip install 'goodinit[cluster]'" in capsys.readouterr().err


def test_a_cluster_object_does_as_well_as_an_address(
    handed_in: Path, local: dict[str, bytes], tmp_path: Path, course: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of dask-gateway are such objects, and are found by their names."""
    settings = {
        "threads_per_worker": 2,
        "processes": False,
        "dashboard_address": None,
        "local_directory": str(tmp_path),
    }
    with LOCAL_CLUSTER(n_workers=1, **settings) as workers:
        exercises = (course.exercises["mean"], course.exercises["variance"])
        done = grade(course, handed_in, tmp_path / "out", Options(exercises, 3, scheduler=workers))
        assert done.left == 0 and files(tmp_path / "out") == local

        def connect(name: str, shutdown_on_close: bool) -> Any:
            assert name == "spring" and not shutdown_on_close
            return workers

        gateway = types.SimpleNamespace(connect=connect)
        monkeypatch.setitem(sys.modules, "dask_gateway", types.SimpleNamespace(Gateway=lambda: gateway))
        assert goodinit(*words(handed_in, tmp_path / "named", "--scheduler", "gateway:spring")) == 1
        assert files(tmp_path / "named") == local


def test_private_suites_go_along(cluster: Cluster, tmp_path: Path, course: Course) -> None:
    """A worker on another machine has no such folder."""
    for name in ("handed_in", "private"):
        (tmp_path / name).mkdir()
    (tmp_path / "handed_in" / "anna.py").write_text(MEAN)
    (tmp_path / "private" / "test_u1_statistics.py").write_text(SUITE)
    cluster.worker("--no-nanny")
    options = Options((course.exercises["mean"],), 3, scheduler=cluster.address, hidden=str(tmp_path / "private"))
    grade(course, tmp_path / "handed_in", tmp_path / "out", options)
    record = json.loads((tmp_path / "out" / "records" / "anna.json").read_text())
    assert {verdict["check"]: verdict["verdict"] for verdict in record["verdicts"]}["where"] == "passed"
    with pytest.raises(GradeError, match="elsewhere with hidden checks"):
        elsewhere = replace(options, hidden=str(tmp_path / "elsewhere"))
        grade(course, tmp_path / "handed_in", tmp_path / "again", elsewhere)


class LostWithItsWorker:
    """A future of the client below: only an empty submission comes back."""

    status = "finished"

    def __init__(self, slug: str) -> None:
        self.slug = slug

    def add_done_callback(self, tell: Any) -> None:
        tell(self)

    def result(self) -> str:
        if self.slug != "empty":
            raise KilledWorker("task", None, 3)
        return json.dumps({"max_points": {"mean": 1}, "verdicts": [], "review": {}, "problem": "", "cells": []})


class Client:
    def submit(self, judge: Any, name: str, request: bytes, *, pure: bool) -> LostWithItsWorker:
        return LostWithItsWorker(json.loads(request)["slug"])

    def nthreads(self) -> dict[str, int]:
        return {"worker": 1}


def test_where_all_are_lost_each_is_recorded() -> None:
    cluster = _cluster.Cluster.__new__(_cluster.Cluster)
    cluster.address, cluster.at_once, cluster.client, cluster.max_points = "x", None, Client(), {}  # type: ignore[assignment]
    cluster.judges = types.SimpleNamespace(name="judges")  # type: ignore[assignment]
    jobs = [Job(Entry(name, True, name), 0, Taken) for name in ("ada", "bob", "eve")]
    found = list(cluster.run(jobs))
    assert [result.job.entry.raw for result in found] == ["ada", "bob", "eve"]
    assert all(result.problem for result in found)
