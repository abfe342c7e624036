"""A notebook's cells behind the wall: they show what they show in Jupyter, and nothing that could act on a reader."""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from grading.classroom import readable
from grading.classroom._shown import SIGNATURE, code_cells, png
from grading.course import CellLimits, Course
from grading.nbgrader._cells import NOT_AT_HAND
from grading.sandbox import CellSandbox, Sandbox, SandboxError, _template, run_cells
from grading.sandbox._notebook import outputs
from grading.sandbox._wire import WireError
from grading.subject import Composition, Sources, read_sources

from .conftest import ROOT

pytestmark = pytest.mark.slow

Run = Callable[..., list[list[dict[str, Any]]]]
SETUP = "from __future__ import annotations\nfrom grading.notebook import check, siblings\n__package__ = siblings()"
LIMITS = CellLimits(seconds=1.0, all_seconds=60.0)
GENEROUS = CellLimits(seconds=60.0, all_seconds=120.0)


@pytest.fixture(scope="module")
def wall(course: Course) -> Iterator[CellSandbox]:
    with CellSandbox(course) as sandbox:
        yield sandbox


@pytest.fixture
def run(course: Course, wall: CellSandbox, tmp_path: Path) -> Run:
    """Runs cells of unit 7's notebook; files of other units are those in `units`, and `lent` is the reference's."""

    def run(*cells: str, limits: CellLimits = GENEROUS, lent: tuple[str, ...] = (), **units: str) -> Any:
        for unit, text in units.items():
            (tmp_path / f"{unit}.py").write_text(text, encoding="utf-8")
        sources = read_sources(course, tmp_path) if units else Sources(tmp_path, {})
        reference = read_sources(course, ROOT / "solutions")
        exercise = course.by_unit["u7_normalization"].exercises[-1]
        composition = Composition(course, sources, reference, lent, exercise, sparing=True)
        return list(run_cells(wall, composition, [SETUP, *cells], limits, 1))[1:]

    return run


def text(outputs: list[dict[str, Any]]) -> str:
    """All that a reader would see of a cell's outputs."""
    shown = [
        output.get("text") or output.get("data", {}).get("text/plain") or output.get("evalue") for output in outputs
    ]
    return "".join(filter(None, shown))


def stream(name: str, text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


# -- as in Jupyter


def test_cells_share_their_names_and_show_the_last_expression(run: Run) -> None:
    found = run("x = 20", "x + 1", "x;", "print(x)\nx", "def f():\n    return x + 2\nf()")
    assert found[0] == found[2] == []
    assert found[1] == [
        {"output_type": "execute_result", "data": {"text/plain": "21"}, "metadata": {}, "execution_count": None}
    ]
    assert found[3][0] == stream("stdout", "20\n") and text(found[3][1:]) == "20"
    assert text(found[4]) == "22"


def test_streams_keep_their_order(run: Run) -> None:
    [shown] = run("import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')\nprint('d')")
    assert shown == [stream("stdout", "a\n"), stream("stderr", "b\n"), stream("stdout", "c\nd\n")]


def test_an_error_is_shown_with_its_line_and_the_next_cell_goes_on(run: Run) -> None:
    failed, after, broken = run("y = 3\n1 / 0", "y", "def f(:\n    pass")
    assert failed[0]["output_type"] == "error" and failed[0]["ename"] == "ZeroDivisionError"
    assert any("----> 2 1 / 0" in line for line in failed[0]["traceback"])
    assert text(after) == "3"
    assert broken[0]["ename"] == "SyntaxError"


def test_figures_become_pictures(run: Run) -> None:
    plotted, shown = run(
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
        "from IPython.display import display\ndisplay(plt.subplots()[0])",
    )
    for outputs_of_cell in (plotted, shown[:1]):
        [output] = outputs_of_cell
        picture = Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"])))
        assert output["output_type"] == "display_data" and picture.format == "PNG"


def test_demonstrations_run(run: Run) -> None:
    assert text(run('if __name__ == "__main__":\n    print("here")')[0]) == "here\n"


def test_magics_run_and_other_programs_do_not(run: Run) -> None:
    timed, shell, taken, installed = run("%timeit -n1 -r1 1 + 1", "!ls", "files = !ls\nfiles", "%pip install torch")
    assert "per loop" in text(timed)
    for refused in (shell, taken, installed):
        assert "no other program is started" in text(refused)
    assert text(taken).endswith("[]")


def test_the_checks_show_nothing(run: Run) -> None:
    assert run('check("lerp")', 'check("lerp", "batch_norm")') == [[], []]


def test_imports_find_the_students_own_units(run: Run) -> None:
    own = "def mean(t):\n    return 'my own'\n"
    [shown] = run("from .u1_statistics import mean\nmean(1)", u1_statistics=own)
    assert text(shown) == "'my own'"


def test_what_has_not_passed_is_lent_and_nothing_else(run: Run) -> None:
    lent, spared = run(
        "import torch\nfrom .u1_statistics import mean\nmean(torch.tensor([1.0, 3.0]))",
        "from .u1_statistics import variance\nvariance(torch.tensor([1.0, 3.0]))",
        lent=("mean",),
    )
    assert text(lent) == "tensor(2.)"
    assert spared[0]["ename"] == "NotImplementedError"


def test_the_data_of_the_course_is_said_not_to_be_there(run: Run) -> None:
    [shown] = run("from grading.data import fashion_mnist\nfashion_mnist()")
    assert "not at hand where work is graded" in text(shown) and shown[0]["ename"] == NOT_AT_HAND


# -- nothing that acts on a reader


def test_of_rich_objects_only_text_and_png_are_kept(run: Run) -> None:
    found = run(
        "from IPython.display import HTML, SVG, Javascript, display, publish_display_data",
        "display(HTML('<script>alert(1)</script>'))\nHTML('<b>x</b>')",
        "Javascript('alert(1)')",
        "publish_display_data({'text/html': '<script>alert(1)</script>', 'application/javascript': 'alert(1)'})",
        "class Rich:\n    def _repr_html_(self):\n        return '<script>alert(1)</script>'\nRich()",
        "publish_display_data({'text/plain': 'kept', 'image/svg+xml': '<svg onload=alert(1)>'})",
    )
    kinds = {kind for cell in found for output in cell for kind in output.get("data", {})}
    assert kinds == {"text/plain"} and "alert" not in str(found)
    assert found[3] == [] and text(found[5]) == "kept"


def test_a_worker_that_lies_is_not_believed() -> None:
    forged = {"kind": "display_data", "data": {"text/html": "<script>", "text/plain": "x"}}
    assert outputs([forged], LIMITS)[0]["data"] == {"text/plain": "x"}
    for lie in (
        "text",
        [{"kind": "stream", "name": "stdout", "text": 3}],
        [{"kind": "stream", "name": "other", "text": "x"}],
        [{"kind": "error", "name": "E", "value": "v", "traceback": [3]}],
        [{"kind": "display_data", "data": "x"}],
        [["stream"]],
    ):
        with pytest.raises(WireError):
            outputs(lie, LIMITS)


def test_a_cell_that_takes_the_worker_apart_costs_only_the_cells_below(run: Run) -> None:
    before, forging, after = run(
        "1 + 1",
        "import sys\nsys.modules['grading.sandbox._worker'].send = lambda *a: None\nraise ValueError('x' * 10)",
        "2",
        limits=LIMITS,
    )
    assert text(before) == "2"
    assert forging[0]["ename"] in ("CellTimeoutError", "KernelDied") and after == []


def test_escapes_and_places_are_taken_out_of_texts() -> None:
    shown = readable(
        stream("stdout", "\x1b[31mred\x1b[0m \u202eabc\rover\nFile /home/x/lib/python3.11/site-packages/a.py:3")
    )
    assert shown["text"] == "over\nFile a.py:3"
    error = {"output_type": "error", "ename": "E\x07", "evalue": "v\x1b]0;t\x07", "traceback": ["a\x9b2J", "b"]}
    assert readable(error) == {"output_type": "error", "ename": "E", "evalue": "v", "traceback": ["a", "b"]}


def test_why_a_cell_ended_is_kept_whatever_it_showed_before() -> None:
    many = [{"kind": "stream", "name": "stdout", "text": "x"}] * 300
    error = {"kind": "error", "name": "ValueError", "value": "here", "traceback": ["ValueError: here"]}
    *shown, left_out, last = outputs([*many, error], LIMITS)
    assert len(shown) == 200
    assert "is left out" in left_out["text"]
    assert last["evalue"] == "here"
    assert "is left out" in outputs(many, LIMITS)[-1]["text"]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def drawn(**more: Any) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 3), "red").save(file, "PNG", **more)
    return file.getvalue()


def test_a_picture_keeps_what_it_is_drawn_from() -> None:
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", "<script>alert(1)</script>")
    kept = png(drawn(pnginfo=note))
    assert kept is not None and b"script" not in kept
    assert Image.open(io.BytesIO(kept)).getpixel((0, 0)) == (255, 0, 0)
    assert png(drawn() + b"<script>") == png(drawn())


HUGE = SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GIF89a",
        SIGNATURE,
        drawn()[:-3],
        drawn()[:20] + b"\xff" + drawn()[21:],
        HUGE + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
        SIGNATURE + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
        SIGNATURE + chunk(b"IHDR", b"1234") + chunk(b"IDAT", b"") + chunk(b"IEND", b""),
    ],
)
def test_what_is_no_picture_or_too_large_is_left_out(data: bytes) -> None:
    assert png(data) is None
    shown = {"output_type": "display_data", "data": {"image/png": base64.b64encode(data).decode()}, "metadata": {}}
    assert readable(shown)["data"] == {}


# -- bounds


def test_a_loop_is_interrupted_and_the_next_cell_goes_on(run: Run) -> None:
    before, loop, after = run("x = 5", "while True: pass", "x", limits=LIMITS)
    assert before == [] and loop[0]["ename"] == "CellTimeoutError" and text(after) == "5"


@pytest.mark.parametrize(
    "loop",
    [
        "import signal\nsignal.signal(signal.SIGALRM, signal.SIG_IGN)\nwhile True: pass",
        "import signal\nsignal.setitimer(signal.ITIMER_REAL, 0)\nwhile True: pass",
        "sum(range(10**14))",
    ],
)
def test_a_loop_that_cannot_be_interrupted_costs_the_cells_below(run: Run, loop: str) -> None:
    before, caught, after = run("print('kept')", loop, "3", limits=LIMITS)
    assert text(before) == "kept\n" and caught[0]["ename"] == "CellTimeoutError" and after == []


def test_a_notebook_has_an_end(run: Run) -> None:
    slow = "while True: pass"
    found = run(slow, slow, slow, "1", limits=CellLimits(seconds=1.0, all_seconds=1.5))
    assert [cell[0]["ename"] for cell in found if cell][-1] == "CellTimeoutError"
    assert found[-1] == []


@pytest.mark.parametrize(
    "end", ["import os\nos._exit(0)", "import os\nos.kill(os.getpid(), 9)", "import ctypes\nctypes.string_at(0)"]
)
def test_a_process_that_ends_keeps_what_was_shown_before(run: Run, end: str) -> None:
    before, ended, after = run("print('kept')", end, "3")
    assert text(before) == "kept\n"
    assert ended[0]["ename"] == "KernelDied" and "the cells below were not run" in ended[0]["evalue"]
    assert after == []


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "exit()", "import sys\nsys.exit()"])
def test_an_exit_ends_its_cell_alone(run: Run, end: str) -> None:
    assert text(run(end, "3")[1]) == "3"


def test_output_is_bounded(run: Run) -> None:
    limits = CellLimits(seconds=60.0, all_seconds=120.0, characters=1000, picture_bytes=5000)
    printed, many, error, plotted, after = run(
        "print('x' * 10_000_000)",
        "for n in range(100_000): print(n)",
        "raise ValueError('y' * 10_000_000)",
        "import matplotlib.pyplot as plt\nplt.plot(range(100));",
        "4",
        limits=limits,
    )
    assert len(text(printed)) < 1100 and "more than is kept" in text(printed)
    assert len(text(many)) < 1100
    assert error[0]["ename"] == "ValueError" and len(str(error)) < 50_000
    assert "image/png" not in str(plotted) and text(after) == "4"


def test_memory_is_bounded(run: Run) -> None:
    hungry, after = run("held = [bytes(10**9) for _ in range(100)]", "5")
    assert hungry[0]["ename"] in ("MemoryError", "KernelDied")
    assert text(after) in ("5", "")


def test_nothing_outside_can_be_reached(run: Run, tmp_path: Path) -> None:
    book = tmp_path / "gradebook.db"
    book.write_text("grades")
    found = run(
        f"open({str(book)!r}).read()",
        f"open({str(book)!r}, 'a').write('100')",
        f"import sqlite3\nsqlite3.connect({str(book)!r}).execute('create table t (x)')",
        f"import os\nos.remove({str(book)!r})",
        "import socket\nsocket.socket()",
        "import subprocess\nsubprocess.run(['ls'])",
        f"open({str(ROOT / 'solutions' / 'u7_normalization.py')!r}).read()",
        "import grading.judge",
    )
    assert all(cell[0]["output_type"] == "error" for cell in found)
    assert book.read_text() == "grades"


def test_notebooks_know_nothing_of_each_other(run: Run) -> None:
    run("import builtins, torch\nbuiltins.leftover = torch.leftover = 1")
    [shown] = run("import builtins, torch\nhasattr(builtins, 'leftover'), hasattr(torch, 'leftover')")
    assert text(shown) == "(False, False)"


def test_the_same_seed_draws_the_same_numbers(run: Run) -> None:
    cell = "import torch, random\ntorch.rand(3).tolist(), random.random()"
    assert run(cell) == run(cell)


# -- what cells are taken from


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"cells": 3}', '{"cells": [3]}', '{"cells": [{"cell_type": "code"}]}']
)
def test_a_file_that_is_no_notebook_has_no_cells(tmp_path: Path, text: str) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_text(text)
    assert code_cells(path) == []


def test_without_ipython_it_says_what_to_install(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grading.sandbox._cells", None)
    cells, problem = _template._prepared()
    assert cells is None and "ModuleNotFoundError" in problem

    class Template:
        def send(self, data: bytes) -> None:
            assert json.loads(data) == {"do": "cells"}

        def recv(self, size: int) -> bytes:
            return json.dumps({"problem": problem}).encode()

    monkeypatch.setattr(Sandbox, "_started", lambda self: Template())
    with pytest.raises(SandboxError, match=r"cells cannot be run here: .*; pip install"):
        CellSandbox(course).fork()
