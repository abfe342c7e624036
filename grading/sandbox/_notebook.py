"""The judge's side of running a notebook's cells: what comes back is bounded, and is text and pictures only."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from grading.course import CellLimits
from grading.subject import Composition, SubjectDied, TimeExpired

from ._processes import REPLY_BYTES, Sandbox, SandboxError, Worker, undisturbed
from ._wire import WireError

TEXT, PICTURE = "text/plain", "image/png"
MAX_OUTPUTS = 200
MAX_SOURCE = 1_000_000
# what a cell may need beyond its time, to say that it was interrupted
GRACE_SECONDS = 5.0

# what a worker lets errors take beyond that
MAX_ERROR = 25_000


class CellSandbox(Sandbox):
    """A Sandbox whose workers can run the cells of a notebook; needs IPython."""

    def _started(self) -> Any:
        fresh = self._control is None
        control = super()._started()
        if fresh:
            with undisturbed():
                control.send(json.dumps({"do": "cells"}).encode())
                problem = json.loads(control.recv(REPLY_BYTES))["problem"]
            if problem:
                raise SandboxError(f"cells cannot be run here: {problem}; pip install 'goodinit[instructor]'")
        return control


def run_cells(
    sandbox: CellSandbox, composition: Composition, sources: Sequence[str], limits: CellLimits, seed: int
) -> Iterator[list[dict[str, Any]]]:
    """What each of the cells shows, as outputs of a notebook, one cell after the other in one confined process.

    Whoever shows them to somebody cleans them first: a text may hold escapes, and what is called a picture anything.

    A cell that is not over in time is interrupted, and the next one goes on. Where the process ends, its cell says so,
    and the others show nothing.
    """
    worker = sandbox.fork()
    until = time.monotonic() + limits.all_seconds
    try:
        worker.compositions.append(composition)
        worker.seed = seed
        worker.ask("notebook", package=0, names=sorted(composition.names), homes=composition.homes)
        for number, source in enumerate(sources, start=1):
            left = until - time.monotonic()
            if worker.ended is not None:
                yield []
            elif left <= 0:
                worker.kill()
                yield [_error("CellTimeoutError", f"the notebook was still running after {limits.all_seconds:g} s")]
            else:
                yield _run(worker, number, source, limits, min(limits.seconds, left))
    finally:
        worker.kill()


def _run(worker: Worker, number: int, source: str, limits: CellLimits, seconds: float) -> list[dict[str, Any]]:
    if len(source) > MAX_SOURCE:
        return [_error("MemoryError", f"not run: the cell is longer than {MAX_SOURCE:,} characters")]
    if not source.strip():
        return []
    encode = worker.encoder()
    bounds = {"seconds": seconds, "characters": limits.characters, "pictures": limits.picture_bytes}
    worker.seconds = seconds + GRACE_SECONDS
    try:
        text = encode(source.encode(errors="replace"))
        found = worker.ask("cell", encode, number=number, source=text, limits=bounds)
        return outputs(found, limits)
    except TimeExpired:
        return [_error("CellTimeoutError", f"the cell did not end within {seconds:g} s, and could not be interrupted")]
    except SubjectDied as died:
        return [_error("KernelDied", f"the code {died}; the cells below were not run")]
    except WireError as error:
        worker.kill()
        return [_error("KernelDied", f"what the cell showed is malformed ({error}); the cells below were not run")]
    except Exception as error:
        # the worker itself has failed, which only code that reaches for it can bring about
        worker.kill()
        return [_error("KernelDied", f"{str(error)[:200]}; the cells below were not run")]


def outputs(found: Any, limits: CellLimits) -> list[dict[str, Any]]:
    """The outputs of a notebook's cell from what a worker says that the cell has shown.

    Raises WireError where that is not what an honest worker says.
    """
    if not isinstance(found, list):
        raise WireError("no list of outputs")
    room = _Room(limits.characters, limits.picture_bytes)
    shown = [output for entry in found[:MAX_OUTPUTS] if (output := _output(entry, room)) is not None]
    if len(found) > MAX_OUTPUTS:
        text = f"(what followed the first {MAX_OUTPUTS} outputs of this cell is left out)\n"
        shown.append({"output_type": "stream", "name": "stderr", "text": text})
        # why the cell ended is more than what it showed before
        last = _output(found[-1], room)
        shown += [last] if last and last["output_type"] == "error" else ()
    return shown


@dataclass
class _Room:
    """How much of a cell's output there is still room for."""

    characters: int
    picture_bytes: int

    def text(self, value: Any) -> str:
        if not isinstance(value, str):
            raise WireError("a text is none")
        # an honest worker keeps to the bound, and says where it has cut
        kept = value[: self.characters + 100]
        self.characters = max(0, self.characters - len(kept))
        return kept

    def picture(self, value: Any) -> str | None:
        if not isinstance(value, bytes) or len(value) > self.picture_bytes:
            return None
        self.picture_bytes -= len(value)
        return base64.b64encode(value).decode()


def _output(entry: Any, room: _Room) -> dict[str, Any] | None:
    match entry:
        case {"kind": "stream", "name": "stdout" | "stderr" as name, "text": text}:
            return {"output_type": "stream", "name": name, "text": room.text(text)}
        case {"kind": "display_data" | "execute_result" as kind, "data": dict(data)}:
            kept = {TEXT: room.text(data[TEXT])} if TEXT in data else {}
            picture = room.picture(data.get(PICTURE))
            if picture:
                kept[PICTURE] = picture
            number = {"execution_count": None} if kind == "execute_result" else {}
            return {"output_type": kind, "data": kept, "metadata": {}, **number} if kept else None
        case {"kind": "error", "name": name, "value": value, "traceback": list(lines)}:
            if all(isinstance(text, str) for text in (name, value, *lines)):
                return _error(name[:80], value[:MAX_ERROR], "\n".join(lines)[:MAX_ERROR].splitlines())
    raise WireError("an output is malformed")


def _error(name: str, value: str, lines: list[str] | None = None) -> dict[str, Any]:
    lines = [f"{name}: {value}"] if lines is None else lines
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": lines}
