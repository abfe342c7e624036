"""The process of a run that judges are forked from, with suites and reference loaded once.

`python -m grading.classroom._bench FD PARENT` is started by the queue, which sends JSON over the connection FD: `judge`
with a folder and a connection for a new judge, and `end` with the judge that is not wanted any more. A judge forks
again for each submission that it is sent: none is judged in a process that another one has left traces in, so a record
depends on nothing but the submission and its seed. A student's code runs in no such process, but behind the wall.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import resource
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

from grading.startup import importing, installation, spare_what_exists

with importing():
    import torch

    # before the first operation: a child of a process whose thread pool has run hangs in its first parallel operation
    torch.set_num_threads(1)

    from grading.bugs import UNHURRIED_SECONDS
    from grading.course import CellLimits, Course, Exercise, load
    from grading.data import DataError, garments
    from grading.judge import Drawn, Judge, SuiteError, load_suite, refuse_strangers
    from grading.sandbox import CellSandbox, RemoteSubject, Sandbox, SandboxError, end_with, run_cells
    from grading.subject import Broken, Composition, Sources, read_sources, reviewed
    from grading.verdict import PASSED, clean

    from ._shown import code_cells, readable


class _Watched(Sandbox):
    """Remembers that it failed: what could not be judged then is judged again by the next run."""

    problem = ""

    def fork(self) -> Any:
        try:
            return super().fork()
        except SandboxError as error:
            self.problem = str(error)
            raise


class _WatchedCells(_Watched, CellSandbox):
    pass


class Bench:
    """Everything that is the same for all submissions."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.course: Course = load(Path(setup["root"]))
        self.cell_limits = CellLimits(**setup["cells"]) if setup.get("cells") else None
        self.sandbox: _Watched = _WatchedCells(self.course) if self.cell_limits else _Watched(self.course)
        self.sandbox.begin()
        for unit in self.course.units:
            load_suite(self.course, unit)
        self.exercises: list[Exercise] = [self.course.exercises[name] for name in setup["exercises"]]
        self.slow: bool = setup["slow"]
        self.reference = read_sources(self.course, self.course.root / "solutions")
        # a hint is given until all have been
        self.hints = {} if setup["hints"] else dict.fromkeys(self.course.exercises, sys.maxsize)
        self.hidden = Path(setup["hidden"]) if setup.get("hidden") else None
        self.max_points = self._warm()
        self.inputs_seed: int | None = setup.get("inputs_seed")
        needs_garments = self.slow and any(
            "garments" in check.fixtures for exercise in self.exercises for check in self._checks(exercise)
        )
        self.garments = garments(setup["data"]) if needs_garments else None
        # last, for the template gets ready meanwhile
        self.sandbox.fork().kill()
        self.inputs = {} if self.inputs_seed is None else self._drawn(self.inputs_seed)

    def _checks(self, exercise: Exercise, judge: Judge | None = None) -> list[Any]:
        checks = (judge or self._judge).checks(exercise.id)
        return [check for check in checks if self.slow or not check.slow]

    def _warm(self) -> dict[str, float]:
        """The points of each exercise; runs one check of each unit, for what sets itself up on first use."""
        if self.hidden is not None:
            refuse_strangers(self.hidden, self.course)
            # a private suite may give backward() a gradient, and then torch imports sympy on first use
            torch.ones(2, requires_grad=True).exp().backward(torch.ones(2))  # type: ignore[no-untyped-call]
        self._judge = Judge(self.course, self.reference, self.reference, 0, hidden=self.hidden)
        for unit in dict.fromkeys(exercise.unit for exercise in self.exercises):
            checks = self._judge.checks(self.course.by_unit[unit].exercises[-1].id)
            for check in [check for check in checks if not check.slow][:1]:
                self._judge.run(check)
        return {exercise.id: math.fsum(check.share for check in self._checks(exercise)) for exercise in self.exercises}

    def _drawn(self, seed: int) -> dict[str, Drawn]:
        """The inputs of all checks, and what identifies right answers to them.

        They are the same for all submissions with this seed: found out once, not by each.
        """
        subject = RemoteSubject(self.course, self.reference, self.reference, self.sandbox)
        judge = Judge(self.course, self.reference, self.reference, seed, subject=subject, hidden=self.hidden)
        checks = [check for exercise in self.exercises for check in self._checks(exercise, judge)]
        found = judge.drawn_for_many(checks)
        judge.close()
        return found

    def judge(self, path: Path, seed: int, connection: Connection) -> dict[str, Any]:
        """The plain findings on one submission; says when it has been read, which has a deadline of its own."""
        until = time.monotonic() + self.course.limits.submission_seconds
        sources = read_sources(self.course, path)
        _send(connection, {"read": True})
        problems = _unreadable(sources, self.exercises)
        notes = {
            name: [clean(sentence) for sentence in sentences]
            for name, sentences in reviewed(self.course, (one.id for one in self.exercises), sources).items()
        }
        subject = RemoteSubject(self.course, sources, self.reference, self.sandbox)
        judge = Judge(
            self.course,
            sources,
            self.reference,
            seed,
            garments=self._garments,
            hints=self.hints,
            subject=subject,
            inputs=self.inputs if seed == self.inputs_seed else None,
            hidden=self.hidden,
            # a record must not depend on how fast the machine is
            diagnosis_seconds=UNHURRIED_SECONDS,
        )
        late = False
        checks = [check for exercise in self.exercises for check in self._checks(exercise, judge)]
        # hidden ones last: code that remembers their inputs has no public check left whose message could tell them
        for check in sorted(checks, key=lambda check: check.hidden):
            late = late or time.monotonic() > until
            if not late:
                judge.run(check)
        verdicts = [judge.verdicts[check.name] for check in checks if check.name in judge.verdicts]
        judge.close()
        cells = self._cells(self.cell_limits, sources, judge, path, seed) if self.cell_limits else []
        if self.sandbox.problem:
            return {"failed": self.sandbox.problem}
        if late:
            seconds = self.course.limits.submission_seconds
            problems.append(f"stopped after {seconds:g} s, before all checks had run")
        return {
            "verdicts": [verdict.to_dict() for verdict in verdicts],
            "review": notes,
            "problem": "; ".join(problems),
            "cells": cells,
        }

    def _cells(
        self, limits: CellLimits, sources: Sources, judge: Judge, path: Path, seed: int
    ) -> list[list[dict[str, Any]]]:
        """What each code cell of the notebook shows that the exercises are in.

        Its relative imports find the student's other units, with the reference of what was not started or has not
        passed; nothing is judged where they run.
        """
        assert isinstance(self.sandbox, CellSandbox), "it was made for cells"
        unit = self.exercises[0].unit
        judged = {verdict.exercise for verdict in judge.verdicts.values()}
        lent = tuple(
            name
            for name, exercise in self.course.exercises.items()
            if exercise.unit != unit
            and (judge.progress(name) != PASSED if name in judged else not sources.started(exercise))
        )
        composition = Composition(self.course, sources, self.reference, lent, self.exercises[-1], sparing=True)
        found = run_cells(self.sandbox, composition, code_cells(path / f"{unit}.ipynb"), limits, seed)
        shown = [[readable(output) for output in outputs] for outputs in found]
        return [[output for output in outputs if output.get("data") != {}] for outputs in shown]

    def _garments(self) -> Any:
        return self.garments


def _unreadable(sources: Sources, exercises: list[Exercise]) -> list[str]:
    """A sentence for every file that is no Python, of those that are looked at."""
    found: dict[str, None] = {}
    for exercise in exercises:
        source = sources.of(exercise)
        if isinstance(source, Broken):
            found[clean(f"{source.where}: {source.problem}")] = None
    return list(found)


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    end_with(int(sys.argv[2]))
    try:
        bench = Bench(_receive(connection))
    except (SandboxError, DataError, SuiteError) as error:
        _send(connection, {"cannot": str(error)})
        return
    _send(connection, {"max_points": bench.max_points, "installation": installation()})
    spare_what_exists()
    while True:
        try:
            request = _receive(connection)
        except EOFError:
            bench.sandbox.close()
            return
        if "end" in request:
            os.killpg(request["end"], signal.SIGKILL)
            os.waitpid(request["end"], 0)
            _send(connection, {"ended": request["end"]})
        else:
            theirs = Connection(recv_handle(connection))
            sandbox = bench.sandbox.branch()
            parent = os.getpid()
            pid = os.fork()
            if pid == 0:
                connection.close()
                bench.sandbox = sandbox
                _judge(bench, theirs, Path(request["judge"]), parent)
            theirs.close()
            # the judge has its own end of the connection
            sandbox.close()
            os.setpgid(pid, pid)
            _send(connection, {"pid": pid})


def _judge(bench: Bench, connection: Connection, folder: Path, parent: int) -> None:
    """Judges one submission after the other, until it is ended."""
    try:
        end_with(parent)
        os.chdir(folder)
        while True:
            request = _receive(connection)
            _prepare(Path(request["path"]))
            me = os.getpid()
            child = os.fork()
            if child == 0:
                _child(bench, connection, request, me)
            _, status = os.waitpid(child, 0)
            if status:
                _send(connection, {"died": _how(status)})
    except EOFError:
        # nobody is there any more who would send submissions
        pass
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(1)


def _prepare(path: Path) -> None:
    """Loads what reading a notebook takes, once for all submissions to come."""
    if "jupytext" not in sys.modules and (path.suffix == ".ipynb" or any(path.glob("*.ipynb"))):
        nbformat = importlib.import_module("nbformat")
        importlib.import_module("jupytext.magics")
        # compiles the schema that notebooks are validated by
        nbformat.validate(nbformat.v4.new_notebook())
        spare_what_exists()


def _child(bench: Bench, connection: Connection, request: dict[str, Any], parent: int) -> None:
    """Judges one submission and ends the process, whatever happens."""
    status = 1
    try:
        end_with(parent)
        _bound(bench.course.limits.data_mb)
        try:
            answer = bench.judge(Path(request["path"]), request["seed"], connection)
        except Exception as error:
            traceback.print_exc()
            sys.stderr.flush()
            answer = {"failed": clean(f"{type(error).__name__}: {error}")}
        _send(connection, answer)
        status = 0
    finally:
        os._exit(status)


def _bound(megabytes: int) -> None:
    """Bounds the memory that this process may take from now on.

    A hundred million numbers are a frame of bearable size, and far more than memory holds where a check takes them
    apart one by one.
    """
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5])
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (pages * resource.getpagesize() + megabytes * 2**20, most))


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"its judge was ended by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"its judge ended with status {os.WEXITSTATUS(status)}"


def _send(connection: Connection, message: dict[str, Any]) -> None:
    connection.send_bytes(json.dumps(message).encode())


def _receive(connection: Connection) -> Any:
    return json.loads(connection.recv_bytes())


if __name__ == "__main__":
    main()
