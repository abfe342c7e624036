"""The process that workers are forked from: torch imported and warmed, no suite, no solution and no secret in it.

`python -m grading.sandbox._template FD MARK [MODULE ...]` imports the modules as well. It reads requests from the
socket FD: `fork` with a worker's socket attached, `reap`, `branch` with the socket attached that a copy of this process
reads requests from, and `cells`, after which workers can run a notebook's cells. Forking takes a few milliseconds where
a fresh interpreter takes seconds.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

from grading.startup import importing, installation

with importing():
    import matplotlib
    import matplotlib.pyplot
    import torch
    import tqdm.auto  # noqa: F401  what the course shows progress with

# before the first operation: a child of a process whose thread pool has run hangs in its first parallel operation
torch.set_num_threads(1)

from grading.subject import preserved_state  # noqa: E402

from . import _confine, _wire, _worker  # noqa: E402

if TYPE_CHECKING:
    from ._cells import Cells

REQUEST_BYTES = 65_536
SOCKET = 3
EXIT_REFUSED, EXIT_ENDED = 97, 99


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    # what exists now is never looked through again, so that children do not copy its pages
    with importing():
        for module in sys.argv[3:]:
            importlib.import_module(module)
        warm()
    wall = _confine.Wall(_confine.readable_paths())
    cells: Cells | None = None
    branches: set[int] = set()
    control.send(installation().encode())
    while True:
        try:
            text, files, _, _ = socket.recv_fds(control, REQUEST_BYTES, 1)
        except OSError:
            return
        if not text:
            return
        request = json.loads(text)
        if request["do"] == "fork":
            _fork(control, request, files[0], wall, cells)
        elif request["do"] == "branch":
            control = _branched(control, files[0], branches)
        elif request["do"] == "cells":
            cells, problem = _prepared()
            control.send(json.dumps({"problem": problem}).encode())
        else:
            _, status, usage = os.wait4(request["pid"], 0)
            report = {"status": status, "seconds": usage.ru_utime + usage.ru_stime}
            control.send(json.dumps(report).encode())


def warm() -> None:
    """Runs one operation of each kind that sets itself up on first use."""
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(72, 3)
    )
    for optimizer in (torch.optim.SGD(model.parameters(), 0.1), torch.optim.Adam(model.parameters())):
        loss = torch.nn.functional.cross_entropy(model(torch.randn(2, 1, 8, 8)), torch.tensor([0, 1]))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    torch.linalg.svd(torch.eye(3))
    torch.randn(9).sort()
    torch.histc(torch.randn(9), 3)
    # the course's plots are drawn beside the student's code, where no cache of fonts can be written
    matplotlib.use("agg")
    figure = matplotlib.pyplot.figure()
    figure.add_subplot().plot([0, 1])
    figure.canvas.draw()
    matplotlib.pyplot.close(figure)
    # each worker does this before it is judged, and what that loads late took it half of its time to start
    with preserved_state():
        pass


def _prepared() -> tuple[Cells | None, str]:
    """A shell for the cells of notebooks, or why there is none."""
    try:
        with importing():
            from ._cells import Cells

            cells = Cells()
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"
    return cells, ""


def _branched(control: socket.socket, connection: int, branches: set[int]) -> socket.socket:
    """Where this process goes on reading requests: after a fork, its copy does so from the other connection."""
    branches -= {pid for pid in branches if os.waitpid(pid, os.WNOHANG)[0]}
    pid = os.fork()
    if pid == 0:
        branches.clear()
        control.close()
        return socket.socket(fileno=connection)
    branches.add(pid)
    os.close(connection)
    control.send(b"{}")
    return control


def _fork(
    control: socket.socket, request: dict[str, Any], connection: int, wall: _confine.Wall, cells: Cells | None
) -> None:
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _child(request, connection, wall, parent, cells)
        finally:
            os._exit(EXIT_ENDED)
    os.close(connection)
    pidfd = os.pidfd_open(pid)
    socket.send_fds(control, [json.dumps({"pid": pid}).encode()], [pidfd])
    os.close(pidfd)


def _child(request: dict[str, Any], connection: int, wall: _confine.Wall, parent: int, cells: Cells | None) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.dup2(connection, SOCKET)
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=SOCKET)
    limits = _confine.Limits(**request["limits"])
    layers = _confine.confine((0, 1, 2, SOCKET), wall, limits, parent=parent, uid=request["uid"])
    missing = _confine.missing(layers)
    _wire.send(stream, {"missing": missing})
    if missing:
        os._exit(EXIT_REFUSED)
    worker = _worker.Worker(stream)
    if cells is not None:
        worker.operations |= cells.operations(worker)
    worker.serve()


if __name__ == "__main__":
    main()
