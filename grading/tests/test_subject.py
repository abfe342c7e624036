"""Subjects: what is read, how a student's exercise is put among pieces that work, and what a file may not break."""

from __future__ import annotations

import ast
import copy
import json
import os
import random
import signal
import textwrap
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from grading import ipynb
from grading.course import Course, Limits
from grading.judge import Judge
from grading.subject import (
    Broken,
    ImplError,
    Source,
    Subject,
    SubjectError,
    TimeExpired,
    preserved_state,
    read_source,
    read_sources,
    time_limit,
)
from grading.verdict import PASSED, WRONG, Verdict

from .conftest import ROOT

Judging = Callable[..., dict[str, Verdict]]


def subject(course: Course, path: Path) -> Subject:
    return Subject(course, read_sources(course, path), read_sources(course, ROOT / "solutions"))


def notebook(path: Path, *cells: str) -> Path:
    code = [
        {"cell_type": "code", "metadata": {}, "execution_count": None, "outputs": [], "id": f"c{n}", "source": cell}
        for n, cell in enumerate(cells)
    ]
    path.write_text(json.dumps({"cells": code, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}), encoding="utf-8")
    return path


# -- reading


def test_a_folder_without_unit_files_is_refused(course: Course, tmp_path: Path) -> None:
    with pytest.raises(ImplError, match="holds no file of this course"):
        read_sources(course, tmp_path)


STUB = "def {0}(t):\n    raise NotImplementedError('{0}')\n\n\n"
OWN = "def {0}(t):\n    return t.sum()\n\n\n"
BOTH = [
    # what stands in the file, in the notebook, and which of the two is judged
    (STUB.format("mean") + STUB.format("variance"), OWN.format("mean"), ".ipynb"),
    (OWN.format("mean"), STUB.format("mean"), ".py"),
    (OWN.format("mean"), OWN.format("mean"), ".py"),
    (OWN.format("mean"), OWN.format("mean") + OWN.format("variance"), ".ipynb"),
    (STUB.format("mean"), STUB.format("mean"), ".py"),
    ("def mean(:", OWN.format("mean"), ".ipynb"),
    ("def mean(:", STUB.format("mean"), ".py"),
]


@pytest.mark.parametrize(("file", "cell", "judged"), BOTH)
def test_of_a_file_and_a_notebook_the_one_that_was_worked_in_is_judged(
    course: Course, tmp_path: Path, file: str, cell: str, judged: str
) -> None:
    (tmp_path / "u1_statistics.py").write_text(file)
    notebook(tmp_path / "u1_statistics.ipynb", cell)
    found = read_sources(course, tmp_path).units["u1_statistics"]
    place = found.where if isinstance(found, Broken) else found.shown_path
    assert Path(place.partition(":")[0]).suffix == judged


def test_an_exercise_is_started_that_only_guards_by_what_stubs_raise(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "u1_statistics.py"
    guard = "    if t.is_complex():\n        raise NotImplementedError('real numbers only')\n"
    path.write_text(f"def mean(t):\n{guard}    return t.mean()\n\n\n{STUB.format('variance')}")
    sources = read_sources(course, path)
    assert sources.started(course.exercises["mean"])
    assert not sources.started(course.exercises["variance"])
    assert not sources.started(course.exercises["covariance"])


@pytest.mark.parametrize("name", ["nowhere", "nowhere.py"])
def test_a_missing_path_is_refused(course: Course, tmp_path: Path, name: str) -> None:
    with pytest.raises(ImplError, match="there is no file or folder"):
        read_sources(course, tmp_path / name)


def test_another_kind_of_file_is_refused(course: Course, tmp_path: Path) -> None:
    (tmp_path / "u1.txt").write_text("")
    with pytest.raises(ImplError, match="neither a folder nor"):
        read_sources(course, tmp_path / "u1.txt")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"def variance(t:\n", "SyntaxError"),
        (b"def variance(t):\nreturn t\n", "IndentationError"),
        (b"return 3\n", "SyntaxError"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"x = 1\x00", ""),
        (b"(" * 5000, ""),
        (b"x = '" + b"a" * 100_000, "unterminated string literal"),
        (b"x = 1\n" * 100_000, "more than 500 kB of code"),
        (b"x = " + b"a " * 100_000, ""),
    ],
)
def test_a_file_that_is_no_python_is_broken_and_not_an_error(
    course: Course, tmp_path: Path, content: bytes, problem: str
) -> None:
    path = tmp_path / "u1_statistics.py"
    path.write_bytes(content)
    source = read_source(course, path)
    assert isinstance(source, Broken)
    assert problem in source.problem
    assert "\n" not in source.problem and len(source.problem) < 300 and source.problem[-1] not in ": "


def test_imported_names_are_not_definitions(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("from solutions.u1_statistics import variance\nmean = lambda t: t.sum() / t.numel()\n")
    source = read_sources(course, path).loose
    assert isinstance(source, Source)
    assert source.defines(course.exercises["mean"])
    assert not source.defines(course.exercises["variance"])


def test_a_notebook_is_read_without_its_magics(course: Course, tmp_path: Path) -> None:
    path = notebook(
        tmp_path / "u1_statistics.ipynb",
        "%matplotlib inline\n!pip list\nimport torch",
        "def mean(t):\n    return t.sum() / t.numel()",
    )
    one = subject(course, path)
    assert one.exercise(course.exercises["mean"])(torch.tensor([1.0, 3.0])) == 2
    assert one.locate(course.exercises["mean"]).endswith("u1_statistics.ipynb, cell 2, line 1")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_notebook_is_read_in_any_encoding_that_json_may_have(course: Course, tmp_path: Path, encoding: str) -> None:
    path = notebook(tmp_path / "u1_statistics.ipynb", 'def mean(t):\n    """Σx / n"""\n    return t.sum() / t.numel()')
    path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    assert subject(course, path).exercise(course.exercises["mean"])(torch.tensor([1.0, 3.0])) == 2


AWKWARD = [
    {"text": ["\\", '"', '\\\\"]', "]}", "{[", "\\u005d", '"outputs": [']},
    [],
    {"data": {"image/png": "A" * 99}},
]


def test_of_a_notebook_nothing_but_outputs_is_left_out() -> None:
    source = ['kept = {"outputs": [1, 2], "attachments": {}}\n', "'\"outputs\": [' '\\\\'"]
    cell = {"cell_type": "code", "outputs": AWKWARD, "source": source, "metadata": {"outputs": AWKWARD[0]}}
    prose = {"cell_type": "markdown", "attachments": AWKWARD[2], "source": ["outputs", ":["]}
    both = {"cells": [cell, prose, cell], "metadata": {}}
    kept = {**cell, "outputs": [], "metadata": {"outputs": {}}}
    for indent in (None, 1):
        text = ipynb.text_of(json.dumps(both, indent=indent).encode())
        assert json.loads(text) == {"cells": [kept, {**prose, "attachments": {}}, kept], "metadata": {}}


def shown(path: Path, output: str) -> Path:
    """A notebook with a cell that defines `mean`, and has shown something."""
    notebook(path, "def mean(t):\n    return t.sum() / t.numel()")
    path.write_text(path.read_text(encoding="utf-8").replace('"outputs": []', f'"outputs": {output}'), encoding="utf-8")
    return path


def test_a_notebook_may_have_shown_much(course: Course, tmp_path: Path) -> None:
    path = shown(
        tmp_path / "u1_statistics.ipynb", json.dumps([{"output_type": "stream", "text": ["x" * 80] * 270_000}])
    )
    assert path.stat().st_size > 20_000_000
    assert subject(course, path).exercise(course.exercises["mean"])(torch.tensor([1.0, 3.0])) == 2


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (lambda: "[" + "[]," * 16_000_000 + "[]]", "more than 2 million parts; clear its outputs"),
        (lambda: '["' + '\\"' * 24_000_000, "it is no notebook, or a part of one"),
        (lambda: '["' + "x" * 50_000_000 + '"]', "larger than 50 MB; clear its outputs"),
        (lambda: '[], "x": "' + "x" * 5_000_000 + '"', "larger than 4 MB even without outputs; clear its outputs"),
    ],
    ids=["brackets", "quotes", "letters", "metadata"],
)
def test_what_is_too_much_is_told_in_bearable_time(
    course: Course, tmp_path: Path, output: Callable[[], str], problem: str
) -> None:
    path = shown(tmp_path / "u1_statistics.ipynb", output())
    start = time.process_time()
    source = read_source(course, path)
    assert isinstance(source, Broken) and problem in source.problem
    assert time.process_time() - start < 10


@pytest.mark.parametrize("text", ['{"cells": [', '{"cells": ' + "[" * 100_000, ""])
def test_a_damaged_notebook_is_broken(course: Course, tmp_path: Path, text: str) -> None:
    (tmp_path / "u1_statistics.ipynb").write_text(text)
    source = read_source(course, tmp_path / "u1_statistics.ipynb")
    assert isinstance(source, Broken)
    assert "it is no notebook" in source.problem


def test_a_notebook_of_too_much_code_is_broken(course: Course, tmp_path: Path) -> None:
    source = read_source(course, notebook(tmp_path / "u1_statistics.ipynb", *["x = 1\n" * 10_000] * 10))
    assert isinstance(source, Broken)
    assert "more than 500 kB of code" in source.problem


# -- putting an exercise among pieces that work


def test_a_wrong_prerequisite_is_replaced_by_the_reference(judge_text: Judging) -> None:
    text = """
import torch
def mean(t): return t.sum() / (t.numel() + 1)
def variance(t): return mean((t - mean(t)) ** 2)
"""
    found = judge_text(text, "mean", "variance", name="u1_statistics.py")
    assert found["mean_value"].verdict == "wrong"
    assert found["variance_value"].verdict == "passed"
    assert found["variance_value"].borrowed == ("mean",)


def test_lent_code_is_no_line_of_the_students(judge_text: Judging) -> None:
    text = """
import torch
def mean(
    t,
):
    raise NotImplementedError("mean")
def variance(t): return mean(t - mean(t), 2)
"""
    found = judge_text(text, "variance", name="u1_statistics.py")
    assert (
        "u1_statistics.py:7, in variance: def variance(t): return mean(t - mean(t), 2)"
        in found["variance_value"].details
    )
    text = text.replace("mean(t - mean(t), 2)", "mean(float(t.sum()))")
    found = judge_text(text, "variance", name="u1_statistics.py")
    assert "in mean" not in found["variance_value"].details and "AttributeError" in found["variance_value"].details


def test_a_right_prerequisite_is_the_students_own(judge_text: Judging) -> None:
    text = """
import torch
calls = []
def mean(t):
    calls.append(1)
    return t.sum() / t.numel()
def variance(t):
    before = len(calls)
    result = mean((t - mean(t)) ** 2)
    assert len(calls) == before + 2
    return result
"""
    found = judge_text(text, "variance", name="u1_statistics.py")
    assert {verdict.verdict for verdict in found.values()} == {"passed"}
    assert found["variance_value"].borrowed == ()


def test_a_method_beside_a_stub_is_judged_on_its_own(course: Course, judge_text: Judging) -> None:
    stub = (ROOT / "exercises" / "u8_optimizers.py").read_text(encoding="utf-8")
    solution = (ROOT / "solutions" / "u8_optimizers.py").read_text(encoding="utf-8")
    tail = solution[solution.index("class Momentum") :]
    text = stub[: stub.index("class Momentum")] + tail
    found = judge_text(text, "sgd", "weight_decay", "momentum", name="u8_optimizers.py")
    states = {
        exercise: {v.verdict for v in found.values() if v.exercise == exercise} for exercise in ("sgd", "momentum")
    }
    assert states == {"sgd": {"not started"}, "momentum": {"passed"}}


def test_a_loose_file_need_not_repeat_what_is_given(judge_text: Judging) -> None:
    text = "def correlation(x, y):\n    return covariance(x, y) / (standard_deviation(x) * standard_deviation(y))\n"
    assert {v.verdict for v in judge_text(text, "correlation").values()} == {"passed"}


def test_a_loose_file_is_not_given_what_it_is_to_write(judge_text: Judging) -> None:
    text = "given = variance\ndef variance(t):\n    return given(t)\n"
    found = judge_text(text, "variance")
    assert {verdict.verdict for verdict in found.values()} == {"wrong"}
    assert "NameError: name 'variance' is not defined" in found["variance_value"].message


@pytest.mark.parametrize("file", ["{unit}.py", "answers.py"])
def test_a_file_of_one_exercise_alone_is_enough(course: Course, tmp_path: Path, file: str) -> None:
    """With nothing of what was given beside it, and no import that keeps annotations from being evaluated."""
    reference = read_sources(course, ROOT / "solutions")
    for exercise in course.exercises.values():
        whole = reference.whole(exercise.unit)
        imports = [node for node in whole.tree.body if isinstance(node, ast.Import | ast.ImportFrom)][1:]
        alone = _Unannotated().visit(copy.deepcopy(whole.definitions[exercise.symbol]))
        path = tmp_path / exercise.id / file.format(unit=exercise.unit)
        path.parent.mkdir()
        text = ast.unparse(ast.fix_missing_locations(ast.Module([*imports, alone], [])))
        path.write_text(f"from __future__ import division\n{text}", encoding="utf-8")
        found = Subject(course, read_sources(course, path), reference)
        assert callable(found.exercise(exercise)), exercise.id
        found.close()


class _Unannotated(ast.NodeTransformer):
    """Takes away what only a future import makes harmless."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        return ast.Assign([node.target], node.value) if node.value else ast.Pass()


@pytest.mark.parametrize(
    ("line", "mean"),
    [
        *((f"from {package}u1_statistics import mean", "mean") for package in ("exercises.", "solutions.", ".", "")),
        *((f"import {package}u1_statistics as u1", "u1.mean") for package in ("exercises.", "solutions.", "")),
        *(
            (f"from {package} import u1_statistics", "u1_statistics.mean")
            for package in ("exercises", "solutions", ".")
        ),
        ("import math, u1_statistics", "u1_statistics.mean"),
        ("import exercises.u1_statistics", "exercises.u1_statistics.mean"),
    ],
)
def test_units_import_each_other_however_they_are_called(judge_text: Judging, line: str, mean: str) -> None:
    text = f"{line}\ndef variance(t):\n    return {mean}((t - {mean}(t)) ** 2)\n"
    found = judge_text(text, "variance")
    assert {v.verdict for v in found.values()} == {"passed"}, found


@pytest.mark.parametrize(
    ("line", "earlier"),
    [
        *(("from .u7_normalization import *", earlier) for earlier in ("", "stub", "wrong", "right")),
        ("from . import u7_normalization as norms", "stub"),
    ],
)
def test_what_an_answer_uses_of_earlier_units_is_lent_where_it_has_not_passed(
    course: Course, tmp_path: Path, line: str, earlier: str
) -> None:
    """Whether or not the course says that one builds on the other."""
    lerp = "norms.lerp" if "norms" in line else "lerp"
    (tmp_path / "u8_optimizers.py").write_text(f"import torch\n{line}\n{LERPING.format(lerp=lerp)}", encoding="utf-8")
    right = "def lerp(start, end, weight):\n    return start + weight * (end - start)\n"
    texts = {
        "stub": (ROOT / "exercises/u7_normalization.py").read_text(encoding="utf-8"),
        "wrong": right.replace("end - start", "start - end"),
        "right": right,
    }
    if earlier:
        (tmp_path / "u7_normalization.py").write_text(texts[earlier], encoding="utf-8")
    judge = Judge(course, read_sources(course, tmp_path), read_sources(course, ROOT / "solutions"), 1)
    found = list(judge.judge([course.exercises["ema"]], slow=False))
    judge.close()
    assert {verdict.verdict for verdict in found} == {PASSED}, found
    assert found[0].borrowed == (() if earlier == "right" else ("lerp",))


# each with one mistake that does not matter to what comes after it, and with a method or an attribute of its own
HOOK = """
from functools import partial
from .u4_learner import Callback
class Hook:
    def __init__(self, module, fn):
        self.handle = module.register_forward_hook(partial(fn, self))
    def remove(self):
        self.handle.remove()
"""
HOOKS = """
class Hooks(list):
    def __init__(self, modules, fn):
        super().__init__([Hook(module, fn) for module in modules])
    def __enter__(self):
        return self
    def __exit__(self, *args):
        self.remove()
    def __delitem__(self, i):
        self[i].remove()
        super().__delitem__(i)
    def remove(self):
        for hook in self:
            hook.remove()
"""
HOOKS_CALLBACK = """
class HooksCallback(Callback):
    def __init__(self, hookfunc, mod_filter=None, on_train=True, on_valid=False, mods=None):
        self.hookfunc, self.on_train, self.on_valid, self.hooks = hookfunc, on_train, on_valid, []
        self.choice = lambda model: filter(mod_filter, model.modules()) if mods is None else mods
    def before_fit(self):
        self.hooks = Hooks(self.choice(self.model), self.in_phase)
    def in_phase(self, *seen):
        if self.on_train if self.training else self.on_valid:
            self.hookfunc(*seen)
    def cleanup_fit(self):
        self.hooks.remove()
    def __iter__(self):
        return iter(self.hooks)
    def __len__(self):
        return len(self.hooks)
"""
ONCE = "self.handle = self.handle.remove()"
CONTEXT = "    def __enter__(self):\n        return self\n    def __exit__(self, *args):\n        self.remove()\n"
LSUV_LAYER = """
import torch
def lsuv_layer(model, act_module, weight_module, xb, tol=1e-3, max_iter=50):
    if weight_module.bias is None:
        raise ValueError("weight_module has no bias")
    found = {}
    bias, weight = weight_module.bias.detach().clone(), weight_module.weight.detach().clone()
    def measure(hook, module, inputs, output):
        found["now"] = float(output.mean()), float(output.std(correction=0))
    with torch.no_grad(), Hook(act_module, measure):
        for _ in range(max_iter + 1):
            model(xb)
            mean, std = found["now"]
            if abs(mean) <= tol and abs(std - 1) <= tol:
                return mean, std
            weight_module.bias -= mean
            weight_module.weight /= std
        weight_module.bias.copy_(bias)
        weight_module.weight.copy_(weight)
    raise RuntimeError(f"mean {mean}, std {std}")
"""
MOMENTUM = """
import torch
class Momentum(SGD):
    def __init__(self, params, lr, wd=0.0, mom=0.95):
        super().__init__(params, lr, wd)
        self.mom, self.avgs = mom, {}
    def average(self, p):
        self.avgs[p] = self.avgs.get(p, torch.zeros_like(p)) * self.mom + (1 - self.mom) * p.grad
        return self.avgs[p]
    def opt_step(self, p):
        p -= self.lr * self.average(p)
class Adam(Momentum):
    def __init__(self, params, lr, wd=0.0, beta1=0.9, beta2=0.99, eps=1e-5):
        super().__init__(params, lr, wd, beta1)
        self.beta2, self.eps, self.squares = beta2, eps, {}
    def opt_step(self, p):
        self.squares[p] = self.squares.get(p, 0) * self.beta2 + (1 - self.beta2) * p.grad**2
        avg, square = debias(self.average(p), self.mom, self.i), debias(self.squares[p], self.beta2, self.i)
        p -= self.lr * avg / (square.sqrt() + self.eps)
"""


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        (HOOK + HOOKS + HOOKS_CALLBACK, "hooks", "hooks_callback"),
        (HOOK.replace("self.handle.remove()", ONCE) + CONTEXT + LSUV_LAYER, "hook", "lsuv_layer"),
        (MOMENTUM, "momentum", "adam"),
    ],
)
def test_what_an_answer_uses_of_its_own_class_cannot_be_lent(
    judge_text: Judging, text: str, wrong: str, right: str
) -> None:
    found = judge_text(text, wrong, right).values()
    assert {v.verdict for v in found if v.exercise == right} == {PASSED}, found
    assert {v.verdict for v in found if v.exercise == wrong} == {PASSED, WRONG}
    assert all(wrong not in v.borrowed for v in found)


def test_what_the_reference_would_not_find_keeps_it_from_lending(judge_text: Judging) -> None:
    """Its `step` goes through `self.params`, which the contract does not name."""
    text = (ROOT / "solutions/u8_optimizers.py").read_text(encoding="utf-8")
    text = text.replace("self.params", "self.mine").replace("p.grad = None", "p.grad += 1")
    found = judge_text(text, "sgd", "momentum", name="u8_optimizers.py").values()
    assert {v.verdict for v in found if v.exercise == "sgd"} == {PASSED, WRONG}
    assert {v.verdict for v in found if v.exercise == "momentum"} == {PASSED}, found


@pytest.mark.parametrize(
    "text",
    [
        HOOK + HOOKS + HOOKS_CALLBACK.replace("self.hooks.remove()", "del self.hooks[:]"),
        # what another one's code stores there is found on the reference's as well
        HOOK
        + HOOKS.replace("def remove(self):", "def forget(self):\n        self.seen = 0\n    def quit(self):")
        + HOOKS_CALLBACK.replace(
            "self.hooks.remove()", "self.hooks.seen = 9\n        del self.hooks[: self.hooks.seen]"
        ),
    ],
)
def test_what_an_answer_does_not_use_is_lent_all_the_same(judge_text: Judging, text: str) -> None:
    found = judge_text(text, "hooks", "hooks_callback").values()
    assert all("hooks" in v.borrowed for v in found if v.exercise == "hooks_callback")


LERPING = """
def moved(avg, value, beta):
    return {lerp}(value, avg, beta)

def ema(values, beta):
    averages = [torch.zeros_like(values[0])]
    for value in values:
        averages.append(moved(averages[-1], value, beta))
    return torch.stack(averages[1:])
"""

PLAIN = """
import torch

class {name}:
    def __init__(self, params, lr, wd=0.0):
        self.params, self.lr, self.wd, self.i = list(params), lr, wd, 0

    @property
    def param_groups(self):
        return [vars(self)]
"""
METHODS = """
def step(self):
    with torch.no_grad():
        for p in self.params:
            if p.grad is not None:
                self.reg_step(p)
                self.opt_step(p)
    self.i += 1

def opt_step(self, p):
    p.sub_(self.lr * p.grad)

def reg_step(self, p):
    p.mul_(1 - self.lr * self.wd)

def zero_grad(self):
    for p in self.params:
        p.grad = None
"""
NAMES = ("step", "opt_step", "reg_step", "zero_grad")
FORMS = {
    "inherited": PLAIN.format(name="Plain") + textwrap.indent(METHODS, "    ") + "class SGD(Plain):\n    pass\n",
    "another name": PLAIN.format(name="Plain") + textwrap.indent(METHODS, "    ") + "SGD = Plain\n",
    "given later": PLAIN.format(name="SGD") + METHODS + "".join(f"SGD.{name} = {name}\n" for name in NAMES),
    "given at once": PLAIN.format(name="SGD")
    + METHODS
    + f"{', '.join(f'SGD.{name}' for name in NAMES)} = {', '.join(NAMES)}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_class_may_have_its_methods_from_anywhere(judge_text: Judging, form: str) -> None:
    found = judge_text(FORMS[form], "sgd", "weight_decay")
    assert {verdict.verdict for verdict in found.values()} == {"passed"}, found


@pytest.mark.parametrize("form", ["another name", "given at once"])
def test_a_wrong_method_from_anywhere_costs_its_own_exercise(judge_text: Judging, form: str) -> None:
    for wrong, exercise, other in (
        ("p.sub_(2 * self", "sgd", "weight_decay"),
        ("p.mul_(2 - self", "weight_decay", "sgd"),
    ):
        text = FORMS[form].replace(wrong.replace("2 * ", "").replace("2 -", "1 -"), wrong)
        assert text != FORMS[form]
        found = judge_text(text, exercise, other).values()
        assert "wrong" in {verdict.verdict for verdict in found if verdict.exercise == exercise}
        assert {verdict.verdict for verdict in found if verdict.exercise == other} == {"passed"}


def test_definitions_of_every_form_are_found(judge_text: Judging) -> None:
    text = """
import torch
mean, variance = (lambda t: t.sum() / t.numel()), (lambda t: ((t - mean(t)) ** 2).sum() / t.numel())
for _ in range(1):
    def standard_deviation(t):
        return variance(t).sqrt()
"""
    found = judge_text(text, "mean", "variance", "standard_deviation")
    assert {verdict.verdict for verdict in found.values()} == {"passed"}, found


def test_what_is_lent_to_a_loose_file_finds_its_own_unit(judge_text: Judging) -> None:
    text = """
def standard_deviation(t):
    return t.std()
def normalize(x, mean=None, std=None):
    mean = x.mean() if mean is None else mean
    return (x - mean) / (standard_deviation(x) if std is None else std)
"""
    found = judge_text(text, "standard_deviation", "normalize").values()
    assert "wrong" in {verdict.verdict for verdict in found if verdict.exercise == "standard_deviation"}
    assert {verdict.verdict for verdict in found if verdict.exercise == "normalize"} == {"passed"}


def test_a_file_is_read_in_the_encoding_that_it_names(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "u1_statistics.py"
    text = "# -*- coding: latin-1 -*-\ndef mean(t):\n    'Durchschnitt für alle'\n    return t.sum() / t.numel()\n"
    path.write_bytes(text.encode("latin-1"))
    assert isinstance(read_source(course, path), Source)
    others = ["# -*- coding: rot13 -*-", "# coding: zlib_codec", "# coding: undefined", "# coding: nothing", ""]
    for line in others:
        path.write_bytes((line + text[text.index("\n") :]).encode("latin-1"))
        source = read_source(course, path)
        assert isinstance(source, Broken), line
        assert "not UTF-8" in source.problem


# -- files that do not load

CRASHES = {
    "import torch\n1 / 0\ndef mean(t): return t.mean()\n": ":2: importing the file raised ZeroDivisionError",
    "import nothing_of_this_name\ndef mean(t): return t.mean()\n": ":1: importing the file raised ModuleNotFoundError",
    "import sys\nsys.exit(0)\ndef mean(t): return t.mean()\n": ":2: the file stops Python when it is imported",
    "def mean(t: return\n": ":1: SyntaxError",
    "while True: pass\ndef mean(t): return t.mean()\n": ":1: the file was still running after 0.5 s",
    "def mean(t): return t.mean()\nmean = 3\n": "`mean` is a int, expected a function or a class",
    "def mean(t): return t.mean()\ndel mean\n": "`mean` is gone after",
}


@pytest.mark.parametrize("text", CRASHES)
def test_a_file_that_does_not_load_says_where(course: Course, tmp_path: Path, text: str) -> None:
    path = tmp_path / "u1_statistics.py"
    path.write_text(text)
    quick = replace(course, limits=Limits(import_seconds=0.5))
    one = subject(quick, path)
    started = time.monotonic()
    for _ in range(2):
        with pytest.raises(SubjectError) as error:
            one.exercise(course.exercises["mean"])
        assert CRASHES[text] in str(error.value)
        assert error.value.started
    assert time.monotonic() - started < 5


def test_a_broken_unit_leaves_the_others_alone(course: Course, tmp_path: Path) -> None:
    (tmp_path / "u4_learner.py").write_text("def oops(:\n")
    (tmp_path / "u5_hooks.py").write_text((ROOT / "solutions" / "u5_hooks.py").read_text(encoding="utf-8"))
    one = subject(course, tmp_path)
    assert one.exercise(course.exercises["hooks_callback"]).__name__ == "HooksCallback"
    with pytest.raises(SubjectError, match="SyntaxError"):
        one.exercise(course.exercises["callback"])


def test_only_what_was_given_is_a_stub(course: Course, tmp_path: Path) -> None:
    """What is known not to have been started is not run: whatever else a body does may be an answer, or a mistake."""
    stub = '    raise NotImplementedError("mean: replace this line with your own")\n'
    for body, untouched in {
        stub: True,
        f'    """What it is."""\n{stub}': True,
        f"    if t.numel() == 1:\n        return t\n{stub}": False,
        f"    t = t.no_such_thing\n{stub}": False,
        f"{stub}    yield t\n": False,
        "    return t.mean()\n": False,
    }.items():
        path = tmp_path / "mine.py"
        path.write_text(f"def mean(t):\n{body}")
        found = subject(course, path).untouched(course.exercises["mean"])
        assert bool(found) == untouched, body
        assert not found or (found.startswith(f"{path}:") and "replace this line" in found)


# how a file of unit 4 can be spoilt, as text that is replaced, so that it leaves unit 5 with nothing to build on
SPOILT = {
    "no Python": ("class Callback:", "class Callback"),
    "a crash": ("class Callback:", "1 / 0\nclass Callback:"),
    "a library that is not there": ("import torch\n", "import torch\nimport nothing_of_this_name\n"),
    "an exit": ("class Callback:", "sys.exit()\nclass Callback:"),
    "a loop": ("class Callback:", "while True: pass\nclass Callback:"),
    "a name taken away": ("def accuracy(", "del MetricsCallback\ndef accuracy("),
    "a given class left out": ("class MetricsCallback(Callback):", "class Metrics(Callback):"),
    "another given class left out": ("class CancelFitException(", "class Cancelled("),
}


def spoil_unit_4(folder: Path, how: str) -> None:
    """Puts a spoilt unit 4 beside a right unit 5."""
    for unit in ("u4_learner.py", "u5_hooks.py"):
        text = (ROOT / "solutions" / unit).read_text(encoding="utf-8")
        old, new = SPOILT[how] if unit == "u4_learner.py" else ("", "")
        assert old in text
        (folder / unit).write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize("how", SPOILT)
def test_a_spoilt_unit_costs_the_next_one_nothing(course: Course, tmp_path: Path, how: str) -> None:
    spoil_unit_4(tmp_path, how)
    quick = replace(course, limits=Limits(import_seconds=3))
    judge = Judge(quick, read_sources(quick, tmp_path), read_sources(quick, ROOT / "solutions"), 1)
    # the checks of the hooks' callback cancel a fit, with an exception of unit 4
    verdicts = list(
        judge.judge([course.exercises[name] for name in ("callback", "hook", "hooks_callback")], slow=False)
    )
    judge.close()
    assert {verdict.verdict for verdict in verdicts if verdict.exercise != "callback"} == {PASSED}
    # what was given is given again, and what else is wrong with unit 4 is the verdict of unit 4
    loads = "left out" in how or how == "a name taken away"
    assert {verdict.verdict for verdict in verdicts if verdict.exercise == "callback"} == {PASSED if loads else WRONG}


@pytest.mark.parametrize(
    ("definition", "missing"),
    [
        ("def normalize(x, mean=None): return x", "the parameter `std` is missing"),
        ("def normalize(x): return x", "the parameter `mean` is missing"),
        ("def normalize(): return 1", "the parameter `x` is missing"),
        ("def normalize(x, mean, std): return x", "missing a required argument: 'mean'"),
    ],
)
def test_a_missing_parameter_is_named(course: Course, tmp_path: Path, definition: str, missing: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(definition + "\n")
    with pytest.raises(SubjectError) as error:
        subject(course, path).exercise(course.exercises["normalize"])
    assert missing in str(error.value)
    assert "its signature is normalize(x, mean=None, std=None)" in str(error.value)


@pytest.mark.parametrize(
    "definition", ["def normalize(*a, **k): return 1", "def normalize(data, mean=0, std=1, eps=0): ..."]
)
def test_a_wider_signature_is_accepted(course: Course, tmp_path: Path, definition: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(definition + "\n")
    assert callable(subject(course, path).exercise(course.exercises["normalize"]))


# -- what a file changes around itself

TAMPERING = """
import builtins, os, random, sys, torch, warnings
random.seed(0); torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
torch.set_grad_enabled(False)
torch.set_num_threads(1)
torch.mean = None
torch.Tensor.sum = None
builtins.len = lambda x: 0
sys.stdout = None
os.environ["HOME"] = "gone"
sys.path.clear()
def mean(t): return t.flatten().double().cumsum(0)[-1].to(t.dtype) / t.numel()
"""


def test_what_a_file_changes_stays_in_it(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "u1_statistics.py"
    path.write_text(TAMPERING)
    before = (torch.mean, torch.Tensor.sum, len, torch.get_default_dtype(), torch.is_grad_enabled(), os.environ["PATH"])
    states = random.getstate(), torch.random.get_rng_state(), torch.get_num_threads(), os.environ.get("HOME")
    subject(course, path).exercise(course.exercises["mean"])
    after = (torch.mean, torch.Tensor.sum, len, torch.get_default_dtype(), torch.is_grad_enabled(), os.environ["PATH"])
    assert before == after
    assert states[0] == random.getstate()
    assert torch.equal(states[1], torch.random.get_rng_state())
    assert states[2:] == (torch.get_num_threads(), os.environ.get("HOME"))


def test_state_is_preserved_also_after_an_error(tmp_path: Path) -> None:
    folder = os.getcwd()
    with pytest.raises(ValueError, match="x"), preserved_state():
        torch.set_default_dtype(torch.float64)
        os.chdir(tmp_path)
        raise ValueError("x")
    assert torch.get_default_dtype() == torch.float32
    assert os.getcwd() == folder


def test_time_runs_out_also_for_code_that_catches_everything() -> None:
    started = time.monotonic()
    with pytest.raises(TimeExpired), time_limit(0.2):
        while True:
            try:
                while True:
                    pass
            except BaseException:
                if time.monotonic() - started > 0.5:
                    raise
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("stopped", [0.8, 2.0])
def test_time_in_which_the_process_was_stopped_does_not_count(stopped: float) -> None:
    pid = os.fork()
    if pid == 0:
        reached = 1
        try:
            with time_limit(0.5):
                os.kill(os.getpid(), signal.SIGSTOP)
                time.sleep(0.2)
                reached = 2
                while True:
                    pass
        except TimeExpired:
            os._exit(reached)
        finally:
            os._exit(3)
    os.waitpid(pid, os.WUNTRACED)
    time.sleep(stopped)
    os.kill(pid, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2


def test_time_that_suffices_leaves_no_trace() -> None:
    with time_limit(0.2):
        pass
    time.sleep(0.3)
