"""Keeps a student's code from lasting for ever, and what it changes from reaching the next check."""

from __future__ import annotations

import builtins
import ctypes
import math
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from operator import is_
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch
from torch._tensor_str import PRINT_OPTS

# after this many interruptions that the code swallowed, it is interrupted between two of its lines; after as many
# again, only ending the process helps
PATIENCE = 50
# how many times a limit is looked at before it is over
TICKS = 16
NAMESPACES: tuple[Any, ...] = (
    builtins,
    math,
    torch,
    torch.Tensor,
    torch.nn,
    torch.nn.functional,
    torch.nn.init,
    torch.nn.Module,
    torch.optim,
)


class TimeExpired(BaseException):
    """The code under test did not finish in time. Not an Exception, so that `except Exception` does not hold it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeExpired in the block after `seconds`, and again every tenth of a second until it leaves.

    A debugger on the main thread stops the clock: whoever steps through code has all the time there is. So does
    stopping the process.
    """
    if seconds <= 0 or sys.gettrace() is not None or threading.current_thread() is not threading.main_thread():
        yield
    elif hasattr(signal, "setitimer"):
        with _alarm(seconds):
            yield
    else:
        with _watchdog(seconds):
            yield


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    rings, spent, tick = 0, 0.0, seconds / TICKS
    lines = _Lines(seconds)
    heard, worked = time.monotonic(), time.process_time()

    def ring(signum: int, frame: FrameType | None) -> None:
        nonlocal rings, spent, heard, worked
        if not rings:
            now, work = time.monotonic(), time.process_time()
            # whoever was stopped, with Ctrl-Z say, hears the clock late and has not worked meanwhile
            stopped = now - heard > 2 * tick and work - worked < (now - heard) / 2
            spent += tick if stopped else now - heard
            heard, worked = now, work
            # the last tick may come a little early
            if spent < seconds - tick / 2:
                return
            signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
        rings += 1
        if rings > 2 * PATIENCE:
            _give_up(seconds)
        if rings > PATIENCE:
            lines.interrupt(frame)
        else:
            raise TimeExpired(seconds)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, tick, tick)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        lines.leave()


class _Lines:
    """Raises TimeExpired at one line of the running code after the other: some line of a loop is outside its `try`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.tried: set[tuple[CodeType, int]] = set()
        self.frames: list[FrameType] = []

    def interrupt(self, frame: FrameType | None) -> None:
        # Python takes the tracer away when it raises
        sys.settrace(lambda *event: None)
        while frame is not None:
            frame.f_trace = self._at_line
            self.frames.append(frame)
            frame = frame.f_back

    def _at_line(self, frame: FrameType, event: str, argument: Any) -> Any:
        place = (frame.f_code, frame.f_lineno)
        if event == "line" and place not in self.tried:
            self.tried.add(place)
            raise TimeExpired(self.seconds)
        return self._at_line

    def leave(self) -> None:
        if self.frames:
            sys.settrace(None)
        for frame in self.frames:
            frame.f_trace = None


@contextmanager
def _watchdog(seconds: float) -> Iterator[None]:
    """The same where there is no interval timer (Windows): a thread that raises in this one."""
    done = threading.Event()
    thread = ctypes.c_ulong(threading.get_ident())

    def watch() -> None:
        wait = seconds
        for _ in range(PATIENCE):
            if done.wait(wait):
                return
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeExpired))
            wait = 0.1
        if not done.wait(wait):
            _give_up(seconds)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _give_up(seconds: float) -> None:
    message = (
        f"\ngoodinit: the code under test has run for more than {seconds:g} s and catches every interruption. "
        "Look for a loop with a bare `except:`. Stopped.\n"
    )
    os.write(2, message.encode())
    os._exit(3)


def _torch_states() -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Of the CPU's generator and of each GPU's, as far as any has been used."""
    return torch.random.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]


def _set_torch_states(cpu: torch.Tensor, gpus: list[torch.Tensor]) -> None:
    torch.random.set_rng_state(cpu)
    if gpus:
        torch.cuda.set_rng_state_all(gpus)


@contextmanager
def preserved_state(*, chance: bool = True) -> Iterator[None]:
    """Leaves torch's defaults, its and Python's names, folder and environment as they were, and random states too.

    Without `chance`, random states stay as the block leaves them. In the block `torch.compile` compiles nothing.
    """
    names = [(space, dict(vars(space))) for space in NAMESPACES]
    compiling, torch.compile = torch.compile, _as_written
    generators = (random.getstate(), np.random.get_state(), _torch_states()) if chance else None
    dtype, device, threads = torch.get_default_dtype(), torch.get_default_device(), torch.get_num_threads()
    grad, strict = torch.is_grad_enabled(), torch.are_deterministic_algorithms_enabled()
    anomaly, printing = torch.is_anomaly_enabled(), dict(vars(PRINT_OPTS))
    streams, recursion = (sys.stdout, sys.stderr), sys.getrecursionlimit()
    path, environment = list(sys.path), dict(os.environ)
    folder = _folder()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        # first, for only then most checks have changed nothing
        torch.compile = compiling
        for space, before in names:
            _restore(space, before)
        if generators:
            random.setstate(generators[0])
            np.random.set_state(generators[1])
            _set_torch_states(*generators[2])
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(grad)
        if torch.are_deterministic_algorithms_enabled() != strict:
            torch.use_deterministic_algorithms(strict)
        torch.autograd.set_detect_anomaly(anomaly)
        vars(PRINT_OPTS).update(printing)
        sys.stdout, sys.stderr = streams
        sys.setrecursionlimit(recursion)
        sys.path[:] = path
        if dict(os.environ) != environment:
            os.environ.clear()
            os.environ.update(environment)
        if folder and _folder() != folder:
            os.chdir(folder)


def _as_written(model: Any = None, **options: Any) -> Any:
    """Stands in for `torch.compile`: what it makes gives the same results, after longer than a check may last."""
    return model if model is not None else partial(_as_written, **options)


def _restore(space: Any, before: dict[str, Any]) -> None:
    now = vars(space)
    # most checks change nothing, and to see that names and values are the same objects in the same order is cheap
    if len(now) == len(before) and all(map(is_, now, before)) and all(map(is_, now.values(), before.values())):
        return
    changed = [name for name, value in before.items() if name not in now or now[name] is not value]
    for name in changed:
        setattr(space, name, before[name])
    if isinstance(space, type):
        # a name added to a class hides the one that it inherits; modules load parts of themselves late, and keep them
        for name in now.keys() - before.keys():
            delattr(space, name)


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None
