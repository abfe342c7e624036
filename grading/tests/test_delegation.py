"""Delegation: the finished thing is noticed in the source and taken away at run time; honest answers never suffer."""

from __future__ import annotations

import ast
import copy
import importlib
import re
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from grading.bugs import load_bugs, load_variants, with_bug
from grading.course import Course, Exercise, load
from grading.subject import Delegated, Source, Subject, read_sources, review, unavailable

from .conftest import ROOT

COURSE = load(ROOT)
LISTED = [exercise.id for exercise in COURSE.exercises.values() if exercise.delegation]
PIECES = "import math\nimport torch\nimport torch.nn.functional as F\nfrom torch import Tensor, nn\n"


@pytest.fixture
def reviewed(course: Course, tmp_path: Path) -> Any:
    """The review of one exercise in a text, as if a student had handed it in."""

    def look(exercise: str, text: str, name: str = "handed_in.py") -> list[str]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        source = read_sources(course, path).of(course.exercises[exercise])
        assert isinstance(source, Source), source
        return review(course, course.exercises[exercise], source)

    return look


def mentions(exercise: Exercise, text: str) -> bool:
    """Whether the last word of one of the exercise's finished things stands in a text as an attribute."""
    return any(re.search(rf"\.{re.escape(name.rpartition('.')[2])}\b", text) for name in exercise.delegation)


# -- honest answers


@pytest.mark.parametrize("unit", list(COURSE.by_unit))
def test_no_reference_is_accused(course: Course, unit: str) -> None:
    source = read_sources(course, ROOT / "solutions").units[unit]
    assert isinstance(source, Source)
    for exercise in course.by_unit[unit].exercises:
        assert review(course, exercise, source) == []


def test_no_right_answer_is_accused(course: Course, reviewed: Any) -> None:
    variants = load_variants(course)
    assert len(variants) > 100
    for variant in variants:
        assert reviewed(variant.exercise, variant.text) == [], f"{variant.exercise}: {variant.name}"


def test_a_wrong_answer_is_accused_of_what_it_calls_only(course: Course, reviewed: Any) -> None:
    for answer in load_variants(course, Path(__file__).parent / "rewritten"):
        entries = reviewed(answer.exercise, answer.text)
        if not mentions(course.exercises[answer.exercise], answer.text):
            assert entries == [], f"{answer.exercise}: {answer.name}"


def test_a_bug_is_accused_where_it_delegates_and_nowhere_else(course: Course) -> None:
    reference = read_sources(course, ROOT / "solutions")
    for exercise in course.exercises.values():
        for bug in load_bugs(course)[exercise.id]:
            source = with_bug(course, reference, bug).units[exercise.unit]
            assert isinstance(source, Source)
            entries = review(course, exercise, source)
            if not mentions(exercise, bug.put):
                assert entries == [], f"{bug.exercise}: {bug.name}"


HONEST = {
    "own function that is named like PyTorch's": (
        "standard_deviation",
        "def var(t):\n    return ((t - t.mean()) ** 2).mean()\ndef standard_deviation(t):\n    return var(t) ** 0.5\n",
    ),
    "own lerp for the batch norm": (
        "lerp",
        "def lerp(start, end, weight):\n    return start + weight * (end - start)\n",
    ),
    "own name over an import": (
        "variance",
        "from torch import *\ndef var(t):\n    return t.square().mean()\n"
        "def variance(t):\n    return var(t - t.mean())\n",
    ),
    "attribute of self": (
        "relu",
        "class _Acts:\n    def __init__(self):\n        self.relu = lambda x: x.clamp(min=0)\n"
        "    def __call__(self, x):\n        return self.relu(x)\ndef relu(x):\n    return _Acts()(x)\n",
    ),
    "method of an own class": (
        "mean",
        "class Stats:\n    def __init__(self, t):\n        self.t = t\n    def mean(self):\n"
        "        return self.t.sum() / self.t.numel()\ndef mean(t):\n    return Stats(t).mean()\n",
    ),
    "method of an own class, by a helper's parameter": (
        "mean",
        "class Stats:\n    def __init__(self, t):\n        self.t = t\n    def mean(self):\n"
        "        return self.t.sum() / self.t.numel()\ndef of(stats):\n    return stats.mean()\n"
        "def mean(t):\n    return of(Stats(t))\n",
    ),
    "method of an own object kept on self": (
        "variance",
        "class Spread:\n    def var(self, t):\n        return ((t - t.mean()) ** 2).mean()\n"
        "class Tool:\n    def __init__(self):\n        self.spread = Spread()\n    def __call__(self, t):\n"
        "        return self.spread.var(t)\ndef variance(t):\n    return Tool()(t)\n",
    ),
    "words in comments and strings": (
        "variance",
        'def variance(t):\n    """Like torch.var(t, correction=0)."""\n    # not t.var()\n'
        '    name = "torch.var"\n    return ((t - t.mean()) ** 2).mean() if name else None\n',
    ),
    "another exercise of the same file": (
        "variance",
        "def mean(t):\n    return t.mean()\ndef standard_deviation(t):\n    return t.std(correction=0)\n"
        "def variance(t):\n    return mean((t - mean(t)) ** 2)\n",
    ),
    "a prerequisite that itself delegates": (
        "standard_deviation",
        "def variance(t):\n    return torch.var(t, correction=0)\n"
        "def standard_deviation(t):\n    return variance(t).sqrt()\n",
    ),
    "a helper that is not used": (
        "variance",
        "def check(t):\n    return torch.var(t)\ndef variance(t):\n    return ((t - t.mean()) ** 2).mean()\n",
    ),
    "an experiment at the top of the file": (
        "variance",
        "def variance(t):\n    return ((t - t.mean()) ** 2).mean()\n"
        "x = torch.randn(9)\nassert torch.allclose(variance(x), x.var(correction=0))\n",
    ),
    "a demonstration": (
        "variance",
        "def variance(t):\n    return ((t - t.mean()) ** 2).mean()\n"
        "if __name__ == '__main__':\n    variance = torch.var\n    print(torch.ones(3).var())\n",
    ),
    "a first attempt, written again below": (
        "variance",
        "def variance(t):\n    return t.var()\ndef variance(t):\n    return ((t - t.mean()) ** 2).mean()\n",
    ),
    "lerp in Adam": (
        "adam",
        "class SGD:\n    pass\nclass Adam(SGD):\n    def opt_step(self, p):\n"
        "        self.avgs[p] = torch.lerp(p.grad, self.avgs[p], self.beta1)\n"
        "        self.avgs[p].lerp_(p.grad, 0.1)\n",
    ),
    "mean and var in a norm": (
        "layer_norm",
        "class LayerNorm(nn.Module):\n    def forward(self, x):\n        var, mean = torch.var_mean(x)\n"
        "        return (x - mean) / (var + x.var() + torch.std(x)).sqrt()\n",
    ),
    "F.relu in the general ReLU": (
        "general_relu",
        "class GeneralReLU(nn.Module):\n    def forward(self, x):\n        return F.relu(x) - self.sub\n",
    ),
    "asking for the class": (
        "batch_norm",
        "class BatchNorm(nn.Module):\n    def forward(self, x):\n"
        "        if isinstance(self, nn.BatchNorm2d) or type(self) in (nn.LayerNorm, nn.BatchNorm2d):\n"
        "            return None\n        match self:\n            case nn.GroupNorm():\n                return None\n"
        "        return x\n",
    ),
    "annotations": (
        "batch_norm",
        "class BatchNorm(nn.Module):\n    inner: nn.BatchNorm2d\n"
        "    def forward(self, x: nn.BatchNorm2d) -> nn.LayerNorm:\n"
        "        y: nn.GroupNorm = x\n        return y\n",
    ),
    "getattr on what is no module of PyTorch": (
        "init_weights",
        "def init_weights(module, leak=0.0):\n    for name in ('weight', 'bias'):\n        p = getattr(module, name)\n"
        "        nn.init.normal_(p)\n",
    ),
    "getattr with another name": (
        "variance",
        "def variance(t):\n    square = getattr(torch, 'square')\n    return square(t - t.mean()).mean()\n",
    ),
    "eval as a mode": (
        "batch_norm",
        "class BatchNorm(nn.Module):\n    def forward(self, x):\n        self.eval()\n        return x\n",
    ),
    "the finished thing of another exercise": (
        "momentum",
        "class SGD(torch.optim.SGD):\n    pass\nclass Momentum(SGD):\n    def opt_step(self, p):\n"
        "        nn.utils.clip_grad_norm_([p], 1.0)\n        p -= self.lr * p.grad\n",
    ),
    "a method of another exercise": (
        "weight_decay",
        "class SGD:\n    def step(self):\n        self.inner = torch.optim.SGD(self.params)\n"
        "    def reg_step(self, p):\n        p *= 1 - self.lr * self.wd\n",
    ),
    "numbers of a standard library": (
        "mean",
        "def mean(t):\n    values = t.flatten().tolist()\n    return torch.tensor(math.fsum(values) / len(values))\n",
    ),
    "an attribute that is no call": (
        "mean",
        "def mean(t):\n    hook = lambda: None\n    hook.mean = t.sum() / t.numel()\n    return hook.mean\n",
    ),
    "a local name": (
        "variance",
        "def variance(t):\n    mean = t.mean()\n    var = ((t - mean) ** 2).mean()\n    return var\n",
    ),
    "the capstone": (
        "train",
        "def train(model, dls, epochs, lr, **others):\n    opt = torch.optim.Adam(model.parameters())\n"
        "    nn.init.kaiming_normal_(model.weight)\n    return eval('opt'), nn.BatchNorm2d(3)\n",
    ),
}


@pytest.mark.parametrize("what", HONEST)
def test_an_honest_answer_is_not_accused(reviewed: Any, what: str) -> None:
    exercise, text = HONEST[what]
    assert reviewed(exercise, PIECES + text) == []


# -- delegations


def stand_ins(exercise: Exercise) -> Iterator[tuple[str, str]]:
    """For every finished thing of an exercise: its name, and an answer that hands its work over."""
    name, _, method = exercise.names[0].partition(".")
    # a class that a student reads as a class, and a function that is one
    heads = {True: f"class {name}:\n    def {method or 'forward'}(self, x):\n", False: f"def {name}(x, *more):\n"}
    head = heads[name[0].isupper()]
    for dotted in exercise.delegation:
        words = dotted.split(".")
        call = f"more.{words[-1]}()" if words[-2][0].isupper() else f"{dotted}(x)"
        yield dotted, f"import {words[0]}\nmore = torch.ones(3)\n{head}        return {call}\n"


@pytest.mark.parametrize("name", LISTED)
def test_every_finished_thing_is_noticed(course: Course, reviewed: Any, name: str) -> None:
    for dotted, text in stand_ins(course.exercises[name]):
        entries = reviewed(name, PIECES + text)
        assert len(entries) == 1, (dotted, entries)
        assert "would do the work of this exercise, where it is called" in entries[0]


VARIANCE = "def variance(t):\n    return {}\n"
DISGUISES = {
    "the plain function": ("variance", VARIANCE.format("torch.var(t)")),
    "the method": ("variance", VARIANCE.format("t.var(correction=0)")),
    "the method of an expression": ("variance", VARIANCE.format("(t.double() - 1).flatten().var()")),
    "the method of an array": ("variance", VARIANCE.format("torch.tensor(t.numpy().var())")),
    "the method, not called here": ("variance", "def variance(t):\n    f = t.std\n    return f() ** 2\n"),
    "the unbound method": ("variance", VARIANCE.format("Tensor.var(t)")),
    "the method by the type": ("variance", VARIANCE.format("type(t).var(t)")),
    "an import": ("variance", "from torch import var as v\n" + VARIANCE.format("v(t)")),
    "an import of everything": ("variance", "from torch import *\n" + VARIANCE.format("var(t)")),
    "an import in the function": ("variance", "def variance(t):\n    import torch as q\n    return q.std(t) ** 2\n"),
    "an alias of the function": ("variance", "v = torch.var\n" + VARIANCE.format("v(t)")),
    "an alias of the module": (
        "batch_norm",
        "q = torch.nn\nk = q.functional\nclass BatchNorm:\n    f = k.batch_norm\n",
    ),
    "a pair of aliases": ("variance", "a, b = torch, torch\ndef variance(t):\n    return b.var(t)\n"),
    "the answer is the function": ("variance", "variance = torch.var\n"),
    "the answer is imported": ("variance", "from torch import var as variance\nvariance = variance\n"),
    "the answer is a partial": (
        "variance",
        "from functools import partial\nvariance = partial(torch.var, correction=0)\n",
    ),
    "a lambda": ("variance", "variance = lambda t: t.std() ** 2\n"),
    "a helper": ("variance", "def help(t):\n    return torch.var(t)\n" + VARIANCE.format("help(t)")),
    "a helper's helper": (
        "variance",
        "def a(t):\n    return torch.var(t)\ndef b(t):\n    return a(t)\n" + VARIANCE.format("b(t)"),
    ),
    "a helper class": (
        "batch_norm",
        "class Inner(nn.Module):\n    def forward(self, x):\n        return F.batch_norm(x, None, None)\n"
        "class BatchNorm(nn.Module):\n    def __init__(self, n):\n        self.inner = Inner()\n",
    ),
    "a default": ("variance", "def variance(t, f=torch.var):\n    return f(t)\n"),
    "a decorator": ("variance", "@(lambda f: torch.var)\ndef variance(t):\n    return t\n"),
    "a base class": ("batch_norm", "class BatchNorm(nn.BatchNorm2d):\n    pass\n"),
    "a base of a base": ("batch_norm", "class Base(nn.BatchNorm2d):\n    pass\nclass BatchNorm(Base):\n    pass\n"),
    "an alias as base class": ("batch_norm", "bn = nn.BatchNorm2d\nclass BatchNorm(bn):\n    pass\n"),
    "the private base class": (
        "batch_norm",
        "import torch.nn.modules.batchnorm as b\nclass BatchNorm(b._BatchNorm):\n    pass\n",
    ),
    "the class at another address": (
        "batch_norm",
        "class BatchNorm:\n    def __init__(self, n):\n        self.n = nn.modules.batchnorm.BatchNorm2d(n)\n",
    ),
    "an attribute of the class": ("group_norm", "class GroupNorm(nn.Module):\n    kind = nn.GroupNorm\n"),
    "a method put on later": (
        "batch_norm",
        "class BatchNorm(nn.Module):\n    pass\nBatchNorm.forward = lambda self, x: F.batch_norm(x, None, None)\n",
    ),
    "several put on at once": (
        "batch_norm",
        "class BatchNorm(nn.Module):\n    pass\n"
        "BatchNorm.forward, BatchNorm.own = (lambda self, x: F.batch_norm(x, None, None)), 1\n",
    ),
    "setattr": (
        "batch_norm",
        "class BatchNorm(nn.Module):\n    pass\nsetattr(BatchNorm, 'forward', nn.BatchNorm2d.forward)\n",
    ),
    "getattr": ("variance", VARIANCE.format("getattr(torch, 'var')(t)")),
    "getattr with pieces": ("variance", VARIANCE.format("getattr(torch, 'v' + 'ar')(t)")),
    "getattr with a computed name": ("variance", VARIANCE.format("getattr(torch, 'rav'[::-1])(t)")),
    "getattr of a submodule": ("layer_norm", "class LayerNorm:\n    f = getattr(torch.nn, 'functional').layer_norm\n"),
    "getattr of a tensor": ("variance", VARIANCE.format("getattr(t, 'var')()")),
    "getattr of a tensor with a computed name": ("variance", VARIANCE.format("getattr(t, 'rav'[::-1])()")),
    "__getattribute__": ("variance", VARIANCE.format("t.__getattribute__('var')()")),
    "methodcaller": ("variance", "import operator\n" + VARIANCE.format("operator.methodcaller('var')(t)")),
    "the dictionary of the module": ("variance", VARIANCE.format("torch.__dict__['var'](t)")),
    "vars": ("variance", VARIANCE.format("vars(torch)['var'](t)")),
    "vars with a computed name": ("variance", VARIANCE.format("vars(torch)['rav'[::-1]](t)")),
    "sys.modules": ("variance", "import sys\n" + VARIANCE.format("sys.modules['torch'].var(t)")),
    "globals": ("variance", VARIANCE.format("globals()['torch'].var(t)")),
    "eval": ("variance", VARIANCE.format("eval('t.var()')")),
    "exec": ("variance", "exec('def help(t): return t.var()')\ndef variance(t):\n    exec('t')\n"),
    "__import__": ("variance", VARIANCE.format("__import__('torch').var(t)")),
    "importlib": ("variance", "import importlib\n" + VARIANCE.format("importlib.import_module('torch').var(t)")),
    "torch.ops": ("variance", VARIANCE.format("torch.ops.aten.var.default(t)")),
    "torch.ops with another kernel": ("variance", VARIANCE.format("torch.ops.aten.frobenius_norm(t)")),
    "torch._C": ("variance", VARIANCE.format("torch._C._VariableFunctions.var(t)")),
    "torch.compile": ("variance", "variance = torch.compile(torch.var)\n"),
    "a script in a string": ("variance", "variance = torch.jit.CompilationUnit('def f(t): return t.var()').f\n"),
    "a map": ("variance", VARIANCE.format("next(map(torch.var, [t]))")),
    "a conditional": (
        "variance",
        "try:\n    from torch import var as v\nexcept ImportError:\n    v = None\n" + VARIANCE.format("v(t)"),
    ),
    "numpy": ("variance", "import numpy as np\n" + VARIANCE.format("torch.tensor(np.var(t.numpy()))")),
    "the optimizer inside": (
        "adam",
        "class SGD:\n    pass\nclass Adam(SGD):\n    def __init__(self, params, lr):\n"
        "        self.inner = torch.optim.Adam(params, lr)\n",
    ),
    "the optimizer as base class": ("sgd", "from torch.optim import SGD as S\nclass SGD(S):\n    pass\n"),
    "the clipping": (
        "clip_grad_norm",
        "from torch.nn import utils as u\ndef clip_grad_norm(params, top):\n    return u.clip_grad_norm_(params)\n",
    ),
    "the optimizer's own step": (
        "adam",
        "from torch.optim.adam import _single_tensor_adam as step\nclass SGD:\n    pass\nclass Adam(SGD):\n"
        "    def step(self):\n        step(self.params)\n",
    ),
    "a table of all classes": ("variance", VARIANCE.format("getattr(type(t).__mro__[1], 'v' + 'ar')(t)")),
    "everything that torch has": (
        "variance",
        "KEPT = [v for k, v in vars(torch).items() if k == 'var']\n" + VARIANCE.format("KEPT[0](t)"),
    ),
    "an import in a class": (
        "variance",
        "class Box:\n    from torch import var as kept\n" + VARIANCE.format("Box.kept(t)"),
    ),
    "what looks like an experiment": (
        "variance",
        "__name__ = '__main__'\nif __name__ == '__main__':\n    KEPT = [torch.var]\n" + VARIANCE.format("KEPT[0](t)"),
    ),
    "another's locker": (
        "variance",
        "def mean_absolute_deviation(t, kept=[torch.var]):\n    pass\n"
        + VARIANCE.format("mean_absolute_deviation.__defaults__[0][0](t)"),
    ),
    "a pickle": ("variance", "import pickle\n" + VARIANCE.format("pickle.loads(b'ctorch\\nvar\\n.')(t)")),
    "the kit itself": ("variance", "import grading.subject\n" + VARIANCE.format("t.sum()")),
    "another norm's kernel": (
        "instance_norm",
        "class InstanceNorm:\n    def forward(self, x):\n        return torch.native_batch_norm(x)\n",
    ),
}


@pytest.mark.parametrize("what", DISGUISES)
def test_a_delegation_is_noticed(reviewed: Any, what: str) -> None:
    exercise, text = DISGUISES[what]
    entries = reviewed(exercise, PIECES + text)
    assert entries
    assert all(re.fullmatch(r"line \d+: .{10,160}", entry) for entry in entries), entries


def test_an_entry_says_where_and_what(reviewed: Any) -> None:
    text = PIECES + "class BatchNorm:\n    def forward(self, x):\n        eval('x')\n        return F.batch_norm(x)\n"
    assert reviewed("batch_norm", text) == [
        "line 7: `eval` hides what is called",
        "line 8: `F.batch_norm` would do the work of this exercise, where it is called",
    ]
    assert reviewed("variance", "from torch import var as v\n" + VARIANCE.format("v(t)")) == [
        "line 3: `v` (torch.var) would do the work of this exercise, where it is called"
    ]


def test_what_nothing_calls_is_not_said_to_do_the_work(reviewed: Any) -> None:
    own = "class LayerNorm(nn.Module):\n    def forward(self, x): return x - x.mean()\n"
    (entry,) = reviewed("layer_norm", PIECES + own + "    def self_test(self, x): assert nn.LayerNorm(3)(x) is not x\n")
    assert entry.endswith("`nn.LayerNorm` would do the work of this exercise, where it is called")


def test_a_notebook_is_read_by_cell(course: Course, reviewed: Any) -> None:
    import nbformat

    cells = [nbformat.v4.new_code_cell(PIECES), nbformat.v4.new_code_cell(VARIANCE.format("t.var()"))]
    text = nbformat.writes(nbformat.v4.new_notebook(cells=cells))
    assert reviewed("variance", text, "u1_statistics.ipynb") == [
        "cell 2, line 2: `t.var` would do the work of this exercise, where it is called"
    ]


@pytest.mark.parametrize(
    "text",
    [
        VARIANCE.format(" + ".join(["t[0]"] * 900)),
        VARIANCE.format("t" + ".abs()" * 400),
        VARIANCE.format("getattr(torch, " + " + ".join(["'v'"] * 500) + ")(t)"),
        "def variance(t):\n" + "".join(f"    a{i + 1} = a{i} + a{i}\n" for i in range(300)) + "    return a300.var()\n",
        "a = b\nb = a\n" + VARIANCE.format("a.mean(b)"),
        "class A(A):\n    pass\n" + VARIANCE.format("A.x(t)"),
        "x = 0\nif x:\n" + "    x = x\n" * 6000 + VARIANCE.format("x and t.sum()"),
        "def variance(t):\n    if 0:\n" + "        torch.var\n" * 6000,
    ],
    ids=["wide", "long", "spelled", "doubling", "circular", "own base", "ambiguous", "repeated"],
)
def test_a_tangled_source_is_read_quickly(course: Course, tmp_path: Path, text: str) -> None:
    source = Source("handed_in", tmp_path, "handed_in.py", ast.parse(text))
    assert len(review(course, course.exercises["variance"], source)) <= 21


# -- unavailable


def resolved(name: str) -> Any:
    words = name.split(".")
    here = importlib.import_module(words[0])
    for count, word in enumerate(words[1:], start=2):
        here = sys.modules.get(".".join(words[:count])) or getattr(here, word)
    return here


def test_every_name_of_the_course_resolves(course: Course) -> None:
    for exercise in course.exercises.values():
        for name in exercise.delegation:
            importlib.import_module(name.partition(".")[0])
        with unavailable(exercise.delegation):
            pass


def simple_calls(exercise: str, pieces: Any) -> None:
    """A few ordinary calls of one exercise's reference."""
    t, x = torch.arange(12.0).reshape(3, 4), torch.randn(2, 4, 3, 3)
    of_two = {"covariance", "correlation"}
    one_tensor = {"mean", "variance", "standard_deviation", "variance_shortcut", "normalize", "relu"}
    optimizers = {"sgd": "SGD", "weight_decay": "SGD", "momentum": "Momentum", "rmsprop": "RMSProp", "adam": "Adam"}
    norms = {"layer_norm": "LayerNorm", "batch_norm": "BatchNorm", "instance_norm": "InstanceNorm"}
    if exercise in one_tensor:
        getattr(pieces, exercise)(t)
    elif exercise in of_two:
        getattr(pieces, exercise)(t, 2 * t)
    elif exercise in ("glorot_normal", "glorot_uniform", "kaiming_normal"):
        getattr(pieces, exercise)(4, 5)
    elif exercise in ("fan_in", "init_weights"):
        pieces.init_weights(nn.Linear(4, 3))
        assert pieces.fan_in(nn.Conv2d(3, 4, 3).weight) == 27
    elif exercise == "general_relu":
        pieces.GeneralReLU(leak=0.1, sub=0.4, maxv=6.0)(t)
    elif exercise == "lerp":
        assert pieces.lerp(1.0, 3.0, 0.5) == 2.0
    elif exercise in norms:
        layer = copy.deepcopy(getattr(pieces, norms[exercise])(4))
        layer(x.requires_grad_()).square().sum().backward()
        layer.eval()(x)
        layer.load_state_dict(layer.state_dict())
    elif exercise == "group_norm":
        pieces.GroupNorm(2, 4)(x)
    elif exercise == "ema":
        pieces.ema(torch.arange(5.0), 0.9)
    elif exercise in optimizers:
        p = torch.ones(3, requires_grad=True)
        optimizer = getattr(pieces, optimizers[exercise])([p], lr=0.1, wd=0.1)
        p.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    else:
        assert exercise.startswith("clip_grad")
        p = torch.ones(3, requires_grad=True)
        p.square().sum().backward()
        getattr(pieces, exercise)([p], 0.5)


def everyday_torch() -> None:
    """What every exercise may rest on, some of it written in Python inside PyTorch."""
    torch.manual_seed(1)
    x = torch.randn(8, 4, requires_grad=True)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    F.cross_entropy(model(x), torch.zeros(8, dtype=torch.long)).backward()
    nn.init.normal_(nn.Conv2d(1, 2, 3).weight)
    assert "tensor" in repr(x) and "Linear" in repr(model)
    assert not isinstance(model, nn.BatchNorm2d)
    copy.deepcopy(model).load_state_dict(model.state_dict())
    torch.autograd.gradcheck(lambda y: y.square().sum(), torch.ones(2, dtype=torch.float64, requires_grad=True))


def touch(name: str) -> None:
    """Uses a finished thing as far as it takes to be refused."""
    thing = resolved(name)
    with pytest.raises(Delegated, match="is the finished thing; this exercise asks you to write it yourself"):
        thing()
    if isinstance(thing, type):
        with pytest.raises(Delegated, match="is the finished thing"):
            type("Student", (thing,), {})


@pytest.mark.parametrize("name", LISTED)
def test_the_finished_thing_is_unavailable_and_the_rest_is_not(course: Course, name: str) -> None:
    exercise = course.exercises[name]
    for dotted in exercise.delegation:
        importlib.import_module(dotted.partition(".")[0])
    before = {dotted: resolved(dotted) for dotted in exercise.delegation}
    inits = {dotted: thing.__init__ for dotted, thing in before.items() if isinstance(thing, type)}
    subject = Subject(course, read_sources(course, ROOT / "solutions"))
    pieces = subject.pieces(exercise)
    with unavailable(exercise.delegation):
        everyday_torch()
        simple_calls(name, pieces)
        for dotted in exercise.delegation:
            touch(dotted)
    subject.close()
    for dotted, thing in before.items():
        assert resolved(dotted) is thing
        if isinstance(thing, type):
            assert thing.__init__ is inits[dotted]
            type("Student", (thing,), {})


def test_the_rest_of_a_name_is_left() -> None:
    t = torch.arange(4.0)
    with unavailable(["torch.var", "torch.Tensor.var"]):
        for call in (torch.var, torch.Tensor.var, torch.functional.torch.var, torch.ops.aten.var, torch._VF.var):
            with pytest.raises(Delegated, match=r"`torch\.(Tensor\.)?var` is the finished thing"):
                call(t)
        with pytest.raises(Delegated):
            t.var()
        with pytest.raises(Delegated):
            nn.Parameter(t).var()
        with pytest.raises(Delegated):
            list(map(torch.var, [t]))
        with pytest.raises(Delegated):
            torch.ops.aten.var.default(t)
        assert t.mean() == 1.5 and t.std() > 0
    assert t.var() == torch.var(t) == statistics.variance([0, 1, 2, 3])
    assert "var" not in vars(torch.Tensor)


def test_what_torch_builds_on_it_goes_on() -> None:
    x = torch.randn(4, 3, 2, 2)
    norm = nn.BatchNorm2d(3)
    with unavailable(["torch.batch_norm", "torch.nn.functional.batch_norm", "torch.nn.functional.relu", "torch.relu"]):
        assert norm(x).shape == x.shape
        assert nn.ReLU()(x).min() == 0
        with pytest.raises(Delegated):
            F.batch_norm(x, None, None, training=True)
        with pytest.raises(Delegated):
            F.relu(x)


def test_a_class_stays_a_class() -> None:
    norm = nn.BatchNorm2d(3)
    with unavailable(["torch.nn.BatchNorm2d", "torch.nn.modules.batchnorm._BatchNorm"]):
        assert isinstance(norm, nn.BatchNorm2d)
        assert copy.deepcopy(norm)(torch.randn(2, 3, 2, 2)).shape == (2, 3, 2, 2)
        nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(nn.Linear(2, 2)))
        with pytest.raises(Delegated):
            nn.Sequential(nn.Flatten(), nn.BatchNorm2d(3))
        with pytest.raises(Delegated):

            class Mine(nn.BatchNorm2d):
                pass

    class Yours(nn.BatchNorm2d):
        pass

    assert Yours(3)(torch.randn(2, 3, 2, 2)).shape == (2, 3, 2, 2)
    assert "__init__" not in vars(nn.BatchNorm2d)


def test_a_subclass_that_was_there_before_cannot_be_used() -> None:
    class Mine(nn.BatchNorm2d):
        def __init__(self, n: int) -> None:
            super().__init__(n)

    with unavailable(["torch.nn.BatchNorm2d"]), pytest.raises(Delegated):
        Mine(3)
    Mine(3)


def test_everything_is_restored_after_an_exception() -> None:
    before = torch.var, torch.nn.functional.layer_norm, torch._VF.var, torch.ops.aten.var
    with pytest.raises(ZeroDivisionError), unavailable(["torch.var", "torch.nn.functional.layer_norm"]):
        raise ZeroDivisionError
    assert (torch.var, torch.nn.functional.layer_norm, torch._VF.var, torch.ops.aten.var) == before


def test_a_kept_stand_in_becomes_harmless() -> None:
    with unavailable(["torch.lerp"]):
        kept = torch.lerp
        with pytest.raises(Delegated):
            kept(torch.zeros(1), torch.ones(1), 0.5)
    assert kept(torch.zeros(1), torch.ones(1), 0.5) == 0.5


def test_blocks_within_each_other() -> None:
    t = torch.arange(3.0)
    with unavailable(["torch.var"]):
        with unavailable(["torch.var", "torch.std"]), pytest.raises(Delegated):
            torch.var(t)
        assert torch.std(t) == 1
        with pytest.raises(Delegated):
            torch.var(t)
    assert torch.var(t) == 1


def test_names_that_a_module_has_imported_go_too() -> None:
    module = type(sys)("handed_in")
    exec("from torch import var as v\nimport torch\nbn = torch.nn.BatchNorm2d", module.__dict__)
    with unavailable(["torch.var", "torch.nn.BatchNorm2d"], [module]):
        with pytest.raises(Delegated):
            module.v(torch.ones(3))
        with pytest.raises(Delegated):
            module.bn(3)
    assert module.v is torch.var


@pytest.mark.parametrize(
    "name", ["torch.vra", "torch.nn.BatchNorm9d", "torch.Tensor.variance", "nosuch.thing", "math.pi"]
)
def test_an_unknown_name_is_noticed_at_once(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape(name.rpartition(".")[2])), unavailable(["torch.var", name]):
        raise AssertionError("the block was entered")
    assert torch.var(torch.arange(3.0)) == 1


def test_a_package_that_is_not_loaded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "pandas"]:
        monkeypatch.delitem(sys.modules, name)
    with unavailable(["pandas.Series.ewm"]), pytest.raises(Delegated, match=r"`pandas\.Series\.ewm`"):
        import pandas  # noqa: F401
    assert not any(type(finder).__name__ == "_Refusing" for finder in sys.meta_path)
