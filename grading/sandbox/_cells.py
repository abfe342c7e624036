"""Runs the cells of a notebook inside a confined process, as Jupyter would, and keeps what they show.

Only text and PNG pictures are kept: nothing that a page could run. The shell is made in the process that workers are
forked from, where it costs once what it would cost for every notebook. Nothing in here is trusted by the judge.
"""

from __future__ import annotations

import base64
import io
import signal
import sys
import warnings
from collections.abc import Callable
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, Any

# what a shell would import when drawing is turned on
import IPython.core.magics.execution  # noqa: F401
import matplotlib_inline.backend_inline  # noqa: F401
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from matplotlib import pyplot
from matplotlib.backends.registry import backend_registry
from traitlets.config import Config

from grading.subject import Package

from ._worker import _RemoteModules

if TYPE_CHECKING:
    from ._wire import Decoder
    from ._worker import Worker

TEXT, PICTURE = "text/plain", "image/png"
CUT = "\n... more than is kept ...\n"
# how long a cell that was interrupted may take to say so, before it is interrupted again
AGAIN_SECONDS = 2.0
# an error is shown also where the cell has used up its room
ERROR_CHARACTERS = 20_000
SHELL_REFUSED = "(where work is graded, no other program is started)"
NO_DATA = "the data of the course is not at hand where work is graded"


class CellTimeoutError(BaseException):
    """A cell has run for too long. Not an Exception, so that `except Exception` does not hold it."""


class DataNotAtHand(RuntimeError):
    """What whoever asks for the course's data is told."""


class Recorder:
    """What one cell shows, in order and bounded."""

    def __init__(self) -> None:
        self.begin(0, 0)

    def begin(self, characters: int, pictures: int) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.places: dict[str, int] = {}
        self.characters, self.pictures = characters, pictures

    def stream(self, name: str, text: str) -> None:
        text = self.bounded(text)
        last = self.outputs[-1] if self.outputs else {}
        if last.get("kind") == "stream" and last["name"] == name:
            last["pieces"].append(text)
        elif text:
            self.outputs.append({"kind": "stream", "name": name, "pieces": [text]})

    def shown(self, kind: str, data: dict[str, Any], place: str | None = None) -> None:
        kept: dict[str, Any] = {}
        if isinstance(data.get(TEXT), str):
            kept[TEXT] = self.bounded(data[TEXT])
        picture = data.get(PICTURE)
        picture = base64.b64decode(picture) if isinstance(picture, str) else picture
        if isinstance(picture, bytes) and len(picture) <= self.pictures:
            self.pictures -= len(picture)
            kept[PICTURE] = picture
        if kept and place in self.places:
            self.outputs[self.places[place]]["data"] = kept
        elif kept:
            if place:
                self.places[place] = len(self.outputs)
            self.outputs.append({"kind": kind, "data": kept})

    def raised(self, name: str, value: str, lines: list[str]) -> None:
        text = "\n".join(lines)
        lines = (text if len(text) <= ERROR_CHARACTERS else text[:ERROR_CHARACTERS] + CUT).splitlines()
        self.outputs.append({"kind": "error", "name": name, "value": value[:ERROR_CHARACTERS], "traceback": lines})

    def clear(self) -> None:
        self.outputs.clear()
        self.places.clear()

    def bounded(self, text: str) -> str:
        """As much of a text as there is room for; the place where the rest is missing says so, once."""
        if len(text) <= self.characters:
            self.characters -= len(text)
            return text
        text, self.characters = (text[: self.characters] + CUT if self.characters else ""), 0
        return text

    def found(self) -> list[dict[str, Any]]:
        for output in self.outputs:
            if "pieces" in output:
                output["text"] = "".join(output.pop("pieces"))
        return self.outputs


class _Stream(io.TextIOBase):
    """Standard output or standard error of the cells."""

    encoding = "utf-8"

    def __init__(self, recorder: Recorder, name: str) -> None:
        self.recorder, self.name = recorder, name

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.recorder.stream(self.name, text)
        return len(text)


class _Publisher(DisplayPublisher):
    recorder: Recorder

    def publish(
        self, data: Any, metadata: Any = None, source: Any = None, *, transient: Any = None, **more: Any
    ) -> None:
        self.recorder.shown("display_data", data, (transient or {}).get("display_id"))

    def clear_output(self, wait: bool = False) -> None:
        self.recorder.clear()


class _Hook(DisplayHook):
    recorder: Recorder

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self.recorder.shown("execute_result", format_dict)

    def finish_displayhook(self) -> None:
        pass


class _Shell(InteractiveShell):
    """IPython without a terminal, a history or files of its own."""

    recorder: Recorder

    def init_profile_dir(self, profile_dir: Any) -> None:
        self.profile_dir = None

    def enable_gui(self, gui: Any = None) -> None:
        pass

    def ask_exit(self) -> None:
        pass

    def system(self, cmd: str) -> None:
        print(SHELL_REFUSED, file=sys.stderr)

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> list[str]:
        self.system(cmd)
        return []

    def _showtraceback(self, etype: type[BaseException], evalue: BaseException, stb: list[str]) -> None:
        try:
            value = str(evalue)
        except BaseException:
            value = "(its message cannot be read)"
        self.recorder.raised(
            etype.__name__, value, [f"{etype.__name__}: {value}"] if etype is CellTimeoutError else stb
        )


class Cells:
    """One notebook's shell; made before forking, used by a worker that is told to run cells."""

    def __init__(self) -> None:
        main = sys.modules["__main__"]
        config = Config()
        config.HistoryManager.enabled = False
        config.HistoryManager.hist_file = ":memory:"
        self.module = ModuleType("__main__")
        self.recorder = Recorder()
        make: Any = _Shell
        self.shell = make(
            config=config,
            user_module=self.module,
            ipython_dir="/nowhere",
            colors="nocolor",
            xmode="Context",
            displayhook_class=_Hook,
            display_pub_class=_Publisher,
        )
        self.shell.display_formatter.active_types = [TEXT, PICTURE]
        for part in (self.shell, self.shell.displayhook, self.shell.display_pub):
            part.recorder = self.recorder
        self._warm()
        # what is forked to judge an exercise is no notebook
        sys.modules["__main__"] = main

    def _warm(self) -> None:
        """Runs what sets itself up on first use."""
        self.recorder.begin(10_000, 0)
        for source in ("import torch\ntorch.zeros(2)", "def f():\n    raise ValueError('')\nf()", "1 +", "f?"):
            self.shell.run_cell(source)
        self.shell.reset(new_session=True)
        # turning on drawing inline looks for all backends that are installed
        backend_registry.resolve_gui_or_backend("inline")  # type: ignore[no-untyped-call]

    def operations(self, worker: Worker) -> dict[str, Callable[[dict[str, Any], Decoder], Any]]:
        """What a worker can be asked for besides its own operations."""

        def notebook(message: dict[str, Any], read: Decoder) -> None:
            names, homes = frozenset(message["names"]), message["homes"]
            self._begin(Package(_RemoteModules(worker, message["package"], names, homes)).name)

        def cell(message: dict[str, Any], read: Decoder) -> list[dict[str, Any]]:
            # tracebacks name cells by their numbers
            self.shell.execution_count = message["number"]
            return self._run(read(message["source"]).decode(), **message["limits"])

        return {"notebook": notebook, "cell": cell}

    def _begin(self, package: str) -> None:
        sys.modules["__main__"] = self.module
        shell_classes: Any = _Shell._walk_mro()
        for kind in shell_classes:
            kind._instance = self.shell
        self.module.__package__ = package
        sys.modules["grading.notebook"] = _Kit(package)
        sys.modules["grading.data"] = _Data("grading.data")
        sys.stdout, sys.stderr = _Stream(self.recorder, "stdout"), _Stream(self.recorder, "stderr")
        signal.signal(signal.SIGALRM, _ring)
        warnings.filterwarnings("ignore", message="To exit: use")
        self.shell.enable_matplotlib("inline")
        # it would draw every figure after each cell, and what keeps the figures draws them once more
        pyplot.uninstall_repl_displayhook()

    def _run(self, source: str, seconds: float, characters: int, pictures: int) -> list[dict[str, Any]]:
        self.recorder.begin(characters, pictures)
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)
            try:
                self.shell.run_cell(source, store_history=True)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except CellTimeoutError as late:
            # it rang when the cell was done, or while its failure was being written down
            self.recorder.raised(type(late).__name__, str(late), [f"{type(late).__name__}: {late}"])
        return self.recorder.found()


def _ring(signum: int, frame: FrameType | None) -> None:
    raise CellTimeoutError("the cell was still running when its time was over")


class _Kit(ModuleType):
    """What a notebook's first cell asks of the kit: checks that show nothing, for the judge will, and its siblings."""

    def __init__(self, package: str) -> None:
        super().__init__("grading.notebook")
        self.siblings = lambda *unit: package

    def check(self, *exercises: object) -> None:
        pass


class _Data(ModuleType):
    """The course's data, which a worker has no way to: whoever asks is told so."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _no_data


def _no_data(*args: Any, **kwargs: Any) -> None:
    raise DataNotAtHand(NO_DATA)
