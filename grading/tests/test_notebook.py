"""Notebooks: what of their cells is judged, what `check` shows in a kernel, and what nbgrader's validate says of it."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.validator import Validator

from grading.build import notebook_text
from grading.course import Course
from grading.judge import Judge
from grading.notebook import CheckError, check
from grading.subject import (
    Source,
    TimeExpired,
    _guard,
    finished,
    read_source,
    read_sources,
    source_of_cells,
    time_limit,
)
from grading.subject._cells import joined
from grading.verdict import PASSED, Verdict
from grading.verdict.cell import fragment, plain

from .conftest import ROOT

pytestmark = pytest.mark.slow

if TYPE_CHECKING:
    from .conftest import NbgraderCourse

STUB = re.compile(r"\n *### (BEGIN|END) SOLUTION")
BEGIN = "from grading.notebook import check, siblings\n__package__ = siblings()"


def kept(*cells: str, wanted: tuple[str, ...] = ()) -> list[str]:
    """The statements that remain of some cells, each in one line."""
    return [" ".join(ast.unparse(statement).split()) for statement in joined(cells).tree(wanted).body]


# -- what of a notebook is judged


@pytest.mark.parametrize(
    ("cells", "left_out"),
    [
        (["def f(): pass", "f()", "1 / 0", "x = f()"], [1, 2, 3]),
        (["import torch", "import seaborn", "def f(): return torch"], [1]),
        (["eps = 1", "x = train()", "def f(x): return x + eps"], [1]),
        (["def f(): pass", "def f(): return 2"], [0]),
        (["class A: step = 1", "a = A()", "class A: pass"], [0, 1]),
        (["class A: pass", "class A(A): pass"], []),
        (["def f(): pass", "g = f()", "def f(): return g"], []),
        (["t = []", "t.append(1)", "t[0] = 2", "def f(): return t"], []),
        (["t = {}", "for i in (1, 2): t[i] = i", "for i in (3, 4): print(i)", "def f(): return t"], [2]),
        (["def forward(self): pass", "class A: pass", "A.forward = forward"], []),
        (["relu = torch.relu", "import torch", "x = 2"], [2]),
        (["if __name__ == '__main__':\n    def f(): pass"], [0]),
        (["from os import *", "def f(): pass"], []),
        (["xs = [f(i) for i in y]", "def f(): return [i for i in (1, 2)]"], [0]),
        (["with a as b:\n    c = b", "def f(): return c"], []),
    ],
)
def test_definitions_are_kept_with_what_they_need(cells: list[str], left_out: list[int]) -> None:
    expected = [ast.unparse(ast.parse(cell)) for number, cell in enumerate(cells) if number not in left_out]
    assert kept(*cells, wanted=("relu",)) == [" ".join(statement.split()) for statement in expected]


def test_future_imports_come_first_from_wherever_they_are() -> None:
    cells = ["import torch", "from __future__ import annotations\ndef f(x: Later): return torch"]
    assert kept(*cells) == ["from __future__ import annotations", "import torch", "def f(x: Later): return torch"]


@pytest.mark.parametrize(
    ("cell", "statements"),
    [
        ("%%bash\nls | wc", []),
        ("%%time\ndef f(): pass", ["def f(): pass"]),
        ("%matplotlib inline\n!ls\ndef f(): pass", ["def f(): pass"]),
        (
            "try:\n    import a\nexcept ImportError:\n    %pip install a\ndef f(): return a",
            ["try: import a except ImportError: pass", "def f(): return a"],
        ),
        ("x = await f()\ndef f(): pass", ["def f(): pass"]),
        ("f?\ndef f(): pass", ["def f(): pass"]),
    ],
)
def test_magics_are_no_python(cell: str, statements: list[str]) -> None:
    assert kept(cell) == statements


@pytest.mark.parametrize(
    "text", ["def mean(t:\n", "def mean(t):\nreturn 3", "return 3\ndef mean(t): pass", "def mean(t): \0"]
)
def test_a_cell_that_is_no_python_costs_what_it_would_define(course: Course, text: str) -> None:
    source = source_of_cells(course, "u1_statistics", Path("u1.ipynb"), ["import torch", text, "def variance(t): pass"])
    assert set(source.definitions) == {"variance"}
    assert set(source.broken) == {"mean"}
    assert "cell 2, line" in source.broken["mean"]


def test_a_broken_cell_is_wrong_and_not_untouched(course: Course, judge_cells: Callable[..., Any]) -> None:
    found = judge_cells(["import torch", "def mean(t)\n    return t", "def variance(t): return t.var(correction=0)"])
    assert found["mean_value"].verdict == "wrong"
    assert "cell 2, line 1: SyntaxError: expected ':', in `def mean(t)`" in found["mean_value"].message
    assert found["variance_value"].verdict != "not started"


@pytest.fixture
def judge_cells(course: Course, tmp_path: Path) -> Iterator[Callable[..., dict[str, Verdict]]]:
    """Judges mean and variance of a notebook with the cells given."""
    judges: list[Judge] = []

    def judge(cells: list[str]) -> dict[str, Verdict]:
        path = tmp_path / "u1_statistics.ipynb"
        nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
        judges.append(Judge(course, read_sources(course, path), read_sources(course, ROOT / "solutions"), 1))
        chosen = [course.exercises["mean"], course.exercises["variance"]]
        return {verdict.check: verdict for verdict in judges[-1].judge(chosen)}

    yield judge
    for one in judges:
        one.close()


def test_experiments_neither_run_nor_fail(judge_cells: Callable[..., Any], tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    cells = [
        f"import torch\nopen({str(trace)!r}, 'w')",
        "def mean(t): return t.sum() / t.numel()\nassert mean('oops')",
        "while True: pass",
        "check('mean')",
    ]
    found = judge_cells(cells)
    assert found["mean_value"].verdict == PASSED
    assert not trace.exists()


@pytest.mark.parametrize(
    "text", ["{}", "[]", '{"cells": 3, "nbformat": 4, "nbformat_minor": 5}', '{"nbformat": 4}', "\0"]
)
def test_what_is_no_notebook_is_broken(course: Course, tmp_path: Path, text: str) -> None:
    path = tmp_path / "u1_statistics.ipynb"
    path.write_text(text)
    source = read_source(course, path)
    assert not isinstance(source, Source) or not source.definitions


@pytest.mark.parametrize(
    ("line", "statements"),
    [(1, 0), (2, 1), (3, 2), (4, 2), (5, 2), (6, 3)],
)
def test_of_a_cell_that_failed_the_statements_before_count(line: int, statements: int) -> None:
    cell = "import a\nx = 1\n@x\ndef f():\n    pass\nf()"
    assert len(ast.parse(finished(cell, line)).body) == statements


# -- loops that nothing ends


CATCHES = """
def loop():
    while True:
        try:
            sum(range(1000))
        except:
            pass
"""
SUPPRESSES = """
from contextlib import suppress
def loop():
    while True:
        with suppress(BaseException):
            sum(range(1000))
"""
CATCHES_WITHIN = """
def inner():
    while True:
        try:
            for _ in range(10):
                sum(range(1000))
        finally:
            continue

def loop():
    while True:
        try:
            inner()
        except BaseException:
            inner()
"""


@pytest.mark.parametrize("text", [CATCHES, SUPPRESSES, CATCHES_WITHIN])
def test_a_loop_that_catches_everything_is_ended(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "PATIENCE", 25)
    monkeypatch.setattr(_guard, "_give_up", lambda seconds: pytest.exit("the loop could not be ended"))
    names: dict[str, Any] = {}
    exec(text, names)
    with pytest.raises(TimeExpired), time_limit(0.05):
        names["loop"]()
    assert sys.gettrace() is None


# -- what is shown


def verdict(**more: Any) -> Verdict:
    return Verdict("u1_statistics", "mean", **{"check": "mean_value", "verdict": "wrong", "max_points": 1.0, **more})


def test_a_table_needs_no_script_and_escapes_what_it_shows() -> None:
    details = "called       <b>\nlikely       `<i>` is code\nreplay       pytest -k mean"
    shown = fragment([verdict(message="<script>x</script>", details=details)])
    assert "<code>&lt;i&gt;</code> is code" in shown
    assert "<script" not in shown and "&lt;script&gt;" in shown and "&lt;b&gt;" in shown
    assert not re.search(r"\son\w+=|javascript:|https?:", shown)
    assert "pytest" not in shown, "a notebook has its own way of drawing the same numbers"


def test_hints_fold_out_one_after_the_other() -> None:
    shown = fragment([verdict()], hints=["first", "second", "third"])
    assert re.search("<details.*first.*<details.*second.*<details.*third.*</details>.*</details>", shown, re.S)
    assert "first" not in fragment([verdict(verdict=PASSED)], hints=["first", "second", "third"])


def test_nothing_promises_points() -> None:
    passed = [verdict(verdict=PASSED, message="The law."), verdict(verdict=PASSED, check="mean_of_one")]
    assert "public checks passed (2)" in fragment(passed)
    assert plain(passed) == "✓ mean: public checks passed (2)"
    assert "full" not in fragment(passed)


def test_the_text_names_the_first_failure_in_full() -> None:
    details = (
        "called       mean(t)\nwith         t = tensor([1.])\n             u = 2\nhint         Add up.\nreplay       x"
    )
    text = plain([verdict(message="The law. mean(t): came back", details=details, borrowed=("lerp",), seed=5)])
    assert "called       mean(t)" in text and "u = 2" in text
    assert "Add up" not in text and "replay" not in text
    assert 'check("mean", seed=5)' in text
    assert text.count("judged with the reference's lerp") == 1


# -- in a kernel


@pytest.fixture(scope="session")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the course whose checks may take a second."""
    folder = tmp_path_factory.mktemp("hasty")
    text = (ROOT / "course.toml").read_text(encoding="utf-8")
    (folder / "course.toml").write_text(text.replace("check_seconds = 30\n", "check_seconds = 1\n"), encoding="utf-8")
    for name in ("tests", "solutions"):
        (folder / name).symlink_to(ROOT / name)
    return folder


def run(folder: Path, *cells: str, kernel: str | None = None) -> list[dict[str, Any]]:
    """What each cell shows when all are run in a kernel in `folder`: text, html, errors."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", allow_errors=True, resources={"metadata": {"path": str(folder)}}
    )
    if kernel:
        client.create_kernel_manager()
        client.km.kernel_spec.argv = [kernel, *client.km.kernel_spec.argv[1:]]
    client.execute()
    return [_shown(cell) for cell in notebook.cells]


def _shown(cell: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"text": "", "html": "", "error": "", "value": "", "kinds": []}
    for output in cell.outputs:
        data = output.get("data", {})
        found["kinds"].append(output.output_type)
        found["text"] += output.get("text", "")
        found["html"] += data.get("text/html", "")
        found["value"] += data.get("text/plain", "")
        found["error"] += "\n".join(output.get("traceback", []))
    return found


RIGHT = "import torch\ndef mean(t):\n    return t.sum() / t.numel()"
AGAIN = 'check("mean")'
NOISE = """
import warnings
import matplotlib.pyplot as plt
from IPython.display import display
from tqdm.auto import tqdm
def mean(t):
    for i in tqdm(range(1000)):
        print("x" * 100)
    display(3)
    warnings.warn("hm")
    plt.figure()
    torch.manual_seed(1)
    return t.sum() / t.numel()
"""


@pytest.fixture(scope="session")
def session(hasty: Path) -> dict[str, dict[str, Any]]:
    """One long session of a student who does everything; what each step shows, by its name."""
    steps = {
        "begin": BEGIN + "\nalive = 42",
        "unstarted": AGAIN,
        "right": RIGHT,
        "passes": AGAIN,
        "wrong": "def mean(t):\n    return t.sum() / (t.numel() - 1)",
        "fails": 'check("mean", seed=11)',
        "points": 'print(repr(check("mean", seed=11).points)); check("mean", "variance", seed=11)',
        "broken": "def mean(t:\n    return 3",
        "before broken counts": 'check("mean", seed=11)',
        "failed": RIGHT + "\n\nmean('oops')\ndef mean(t): return 3",
        "before failure counts": AGAIN,
        "magic": "%%time\ndef mean(t):\n    return t.sum() * 0",
        "magic counts": AGAIN,
        "bash": "%%bash\necho def mean",
        "loop": "def mean(t):\n    while True:\n        pass",
        "ended": AGAIN,
        "stubborn": CATCHES.replace("loop()", "mean(t)"),
        "ended too": AGAIN,
        "exit": "import sys\ndef mean(t):\n    sys.exit(3)",
        "exited": AGAIN,
        "noise": NOISE,
        "silent": "state = torch.random.get_rng_state()\n" + AGAIN,
        "untouched": "print(torch.equal(state, torch.random.get_rng_state()), len(plt.get_fignums()), alive)",
        "unknown": 'check("maen")',
        "unit": 'print([v.exercise for v in check("u1").verdicts][-1])',
        "text": 'print(check("mean").text)',
    }
    return dict(zip(steps, run(hasty, *steps.values()), strict=True))


def test_untouched_exercises_are_not_started(session: dict[str, Any]) -> None:
    assert session["unstarted"]["value"] == "0"
    assert "not started" in session["unstarted"]["html"]


def test_what_passes_says_so_and_is_a_number(session: dict[str, Any]) -> None:
    assert session["passes"]["kinds"] == ["execute_result"]
    assert session["passes"]["value"] == "1"
    assert "public checks passed" in session["passes"]["html"]


def test_what_fails_is_explained(session: dict[str, Any]) -> None:
    html = session["fails"]["html"]
    for word in ("wrong", "called", "came back", "expected", "likely", "<summary>Hint</summary>", "seed=11"):
        assert word in html
    assert not session["fails"]["error"]


def test_points_are_a_share(session: dict[str, Any]) -> None:
    share = float(session["points"]["text"])
    assert 0 <= share < 1
    assert float(session["points"]["value"]) == pytest.approx(share)


def test_cells_that_fail_count_as_far_as_they_ran(session: dict[str, Any]) -> None:
    assert session["before broken counts"]["value"] == session["fails"]["value"]
    assert "AttributeError" in session["failed"]["error"]
    assert session["before failure counts"]["value"] == "1"
    assert session["magic counts"]["value"] != "1"


def test_no_exercise_ends_the_kernel(session: dict[str, Any]) -> None:
    for step in ("ended", "ended too"):
        assert "did not finish within 1 s" in session[step]["html"]
    assert "SystemExit" in session["exited"]["html"]
    assert session["untouched"]["text"] == "True 0 42\n"


def test_what_an_exercise_shows_is_not_shown(session: dict[str, Any]) -> None:
    assert session["silent"]["kinds"] == ["execute_result"]
    assert session["silent"]["value"] == "1"


def test_an_unknown_name_is_one_sentence(session: dict[str, Any]) -> None:
    assert session["unknown"]["error"] == "there is no unit or exercise 'maen' (did you mean 'mean'?)"


def lerp(start: Any, end: Any, weight: Any) -> Any:
    """A student's own function."""


@pytest.mark.parametrize(
    ("words", "more", "sentence"),
    [
        ((lerp,), {}, 'check takes a name, which goes in quotes: check("lerp")'),
        (("mean", 3), {}, 'check takes a name, which goes in quotes: check("mean")'),
        ((), {}, 'check takes the name of an exercise or a unit, in quotes, such as check("mean")'),
        (("lerp",), {"seed": "x"}, "seed takes a whole number, not 'x'"),
        (("lerp",), {"seed": 1.0}, "seed takes a whole number, not 1.0"),
        (("lerp",), {"seed": True}, "seed takes a whole number, not True"),
    ],
)
def test_a_call_of_check_that_asks_for_nothing_is_one_sentence(
    words: tuple[Any, ...], more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(CheckError) as error:
        check(*words, **more)
    assert error.value._render_traceback_() == [sentence]


def test_a_unit_is_all_its_exercises(session: dict[str, Any]) -> None:
    assert session["unit"]["text"] == "correlation\n"


def test_a_place_is_the_cell_that_was_run(session: dict[str, Any]) -> None:
    assert re.search(r"In \[\d+\], line 3, in mean: sys\.exit", session["exited"]["html"])


TEXTS = {
    "mean": RIGHT,
    "variance": "import torch\ndef variance(t):\n    return t.var(correction=0)",
    "lerp": "import torch\ndef lerp(start, end, weight):\n    return end + weight * (start - end)",
    "layer_norm": "class LayerNorm:\n    pass",
    "relu": "import torch\ndef relu(x):\n    return torch.relu(x)",
    "debias": "def debias(avg, beta, i):\n    return avg / (1 - beta ** i)",
    "ema": "def ema(values, beta):\n    raise NotImplementedError('later')",
}


def test_verdicts_are_those_of_a_file_with_the_same_text(course: Course, tmp_path: Path) -> None:
    """The judge is the one that pytest asks; so are its seeds."""
    asked = f"import json\nnames = {list(TEXTS)}\nfor name in names:\n    for v in check(name, seed=7).verdicts:\n"
    asked += "        print(json.dumps([v.check, v.verdict, v.message, v.bug, v.points, list(v.borrowed)]))"
    *_, shown, delegated = run(tmp_path, BEGIN, *TEXTS.values(), asked, 'print(check("variance").text)')
    assert not shown["error"]
    expected = []
    for name in TEXTS:
        path = tmp_path / f"{course.exercises[name].unit}.py"
        texts = [other for key, other in TEXTS.items() if course.exercises[key].unit == course.exercises[name].unit]
        path.write_text("\n".join(texts), encoding="utf-8")
        judge = Judge(course, read_sources(course, path), read_sources(course, ROOT / "solutions"), 7)
        found = list(judge.judge([course.exercises[name]], slow=False))
        judge.close()
        path.unlink()
        expected += [[v.check, v.verdict, v.message, v.bug, v.points, list(v.borrowed)] for v in found]
    places = re.compile(r"(In \[\d+\]|\S*u\d_\w+\.py:\d+|, line \d+)")
    got = [json.loads(line) for line in shown["text"].splitlines()]
    assert [[places.sub("", str(item)) for item in row] for row in got] == [
        [places.sub("", str(item)) for item in row] for row in expected
    ]
    assert {row[1] for row in got} >= {"passed", "wrong", "not started"}
    assert (
        "a person will look at this: In [3], line 3: `t.var` would do the work of this exercise, where it is called"
        in delegated["text"]
    )


def test_sibling_units_are_the_students_own_or_lent(course: Course, tmp_path: Path) -> None:
    own = nbformat.reads(notebook_text(course, course.by_unit["u4_learner"]), as_version=4)
    for cell in own.cells:
        if cell.source.startswith("class Callback:"):
            cell.source = STUB.sub("", cell.source) + "\n    mine = True\n"
        elif cell.source.startswith("def accuracy"):
            cell.source = "def accuracy(*args):\n    raise NotImplementedError('not yet')"
    own.cells.insert(4, new_code_cell("1 / 0"))
    for unit in ("u4_learner", "u5_hooks"):
        (tmp_path / unit).mkdir()
    nbformat.write(own, tmp_path / "u4_learner" / "u4_learner.ipynb")
    begun, imported, lent = run(
        tmp_path / "u5_hooks",
        "import warnings\nwarnings.simplefilter('error')\n" + BEGIN,
        "from .u4_learner import Callback\nfrom .u7_normalization import BatchNorm as Norm\n"
        "print(Callback.mine, Norm(2).mom)",
        "import torch\nfrom .u1_statistics import mean\nprint(mean(torch.ones(3)))",
    )
    assert begun["kinds"] == []
    assert imported["text"] == "True 0.1\n" and not imported["error"]
    assert lent["text"] == "tensor(1.)\n"


def test_what_was_not_run_is_not_started(tmp_path: Path) -> None:
    """The file of the notebook itself is not looked at, whatever it holds."""
    nbformat.write(new_notebook(cells=[new_code_cell(RIGHT)]), tmp_path / "u1_statistics.ipynb")
    begin = BEGIN.replace("siblings()", "siblings('u1_statistics')")
    assert run(tmp_path, begin, AGAIN)[-1]["value"] == "0"


def test_another_units_exercise_is_judged_as_its_own_notebook_has_it(tmp_path: Path) -> None:
    (tmp_path / "u1_statistics").mkdir()
    (tmp_path / "u7_normalization").mkdir()
    cells = [new_code_cell(RIGHT), new_code_cell("def variance(t)")]
    nbformat.write(new_notebook(cells=cells), tmp_path / "u1_statistics" / "u1_statistics.ipynb")
    asked = 'print(check("mean").passed, check("variance").verdicts[0].message)'
    begin = BEGIN.replace("siblings()", "siblings('u7_normalization')")
    *_, shown = run(tmp_path / "u7_normalization", begin, "mean = 3", asked)
    assert shown["text"].startswith("True") and "u1_statistics.ipynb, cell 2, line 1: SyntaxError" in shown["text"]


def test_a_terminal_gets_text(hasty: Path) -> None:
    code = f"{BEGIN}\n\n{RIGHT}\n\ncheck('mean')\n"
    ipython = [sys.executable, "-m", "IPython", "--simple-prompt", "--colors=NoColor"]
    done = subprocess.run(ipython, cwd=hasty, input=code, capture_output=True, text=True, check=True)
    assert "✓ mean: public checks passed" in done.stdout


def test_a_script_is_told_how_it_is_judged(hasty: Path) -> None:
    code = "from grading.notebook import check\ncheck('mean')"
    done = subprocess.run([sys.executable, "-c", code], cwd=hasty, capture_output=True, text=True)
    assert done.stderr.splitlines()[-1].endswith("for a script: goodinit check --impl FILE")


# -- nbgrader's validate


@pytest.fixture(scope="session")
def answers(course: Course) -> dict[str, str]:
    """The answers to unit 3, by the ids of their cells."""
    notebook = nbformat.reads(notebook_text(course, course.by_unit["u3_activations"]), as_version=4)
    cells = [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]
    return {cell.metadata.nbgrader.grade_id: STUB.sub("", cell.source) for cell in cells}


@pytest.mark.parametrize("kind", ["right", "wrong", "partly done", "untouched"])
def test_validate_agrees(nbgrader_course: NbgraderCourse, answers: dict[str, str], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "u3_activations.ipynb"
    released = nbformat.read(nbgrader_course.released("u3_activations"), as_version=4)
    wanted: dict[str, str] = {}
    for cell in released.cells:
        name = cell.metadata.get("nbgrader", {}).get("grade_id", "")
        answer = answers.get(name)
        code = cell.cell_type == "code"
        if answer and (kind == "right" or not code or (kind == "partly done" and name == "relu")):
            cell.source = answer
        elif answer and kind == "wrong":
            cell.source = answer.replace("return ", "return 2 + 0 * ")
        if name.startswith("check-") and not (kind == "right" or (kind == "partly done" and name == "check-relu")):
            wanted[cell.source] = "wrong" if kind == "wrong" else "not started"
    nbformat.write(released, path)
    found = Validator().validate(str(path))
    failed = {entry["source"]: entry["raw_error"] for entry in found.get("failed", [])}
    assert set(found) <= {"failed"}
    assert set(failed) == set(wanted)
    assert all(word in failed[cell] for cell, word in wanted.items())


# -- where there is nothing but the notebook


def test_a_wheel_is_all_that_a_notebook_needs(
    nbgrader_course: NbgraderCourse, answers: dict[str, str], tmp_path: Path
) -> None:
    """A fresh environment with the wheel and its dependencies, and the released notebook in an empty folder."""
    clone, python = tmp_path / "clone", tmp_path / "venv" / "bin" / "python"
    shutil.copytree(
        ROOT, clone, symlinks=True, ignore=shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "runs")
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *offline, "-w", str(tmp_path), str(clone)], check=True, capture_output=True)
    venv.create(tmp_path / "venv", with_pip=False)
    packages = next((tmp_path / "venv" / "lib").glob("python*")) / "site-packages"
    # the dependencies, but not this checkout: .pth files work only in the environment's own folder
    (packages / "dependencies.pth").write_text(str(Path(nbformat.__file__).parents[1]))
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([*pip, "--python", str(python), "install", *offline, str(wheel)], check=True, capture_output=True)
    alone = tmp_path / "alone"
    alone.mkdir()
    released = nbformat.read(nbgrader_course.released("u3_activations"), as_version=4)
    cells = [cell for cell in released.cells if cell.cell_type == "code"]
    for cell in cells:
        cell.source = answers.get(cell.metadata.get("nbgrader", {}).get("grade_id"), cell.source)
    cells.append(new_code_cell("import grading\nprint(grading.__file__)"))
    shown = run(alone, *(cell.source for cell in cells), kernel=str(python))
    checks = [one["value"] for one, cell in zip(shown, cells, strict=True) if cell.source.startswith("check(")]
    assert checks and all(float(value) > 0 for value in checks)
    assert shown[-1]["text"].startswith(str(packages))
    assert not any(one["error"] for one in shown)
