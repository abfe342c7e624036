"""Verdicts: every way in which an answer can be off gets the right one, with a sentence, and replays from its seed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from grading.bugs import UNHURRIED_SECONDS, load_bugs, with_bug
from grading.course import Course, Limits
from grading.judge import Judge, SuiteError, checks_of, fresh_seed
from grading.subject import read_sources
from grading.verdict import KIT_ERROR, Verdict, expect
from grading.verdict.render import render

from .conftest import ROOT

Judging = Callable[..., dict[str, Verdict]]

RETURNS = {
    "None": "came back None: is a `return` missing?",
    "float(t.var(correction=0))": "came back as a Python float, expected a tensor",
    "[t.var(correction=0)]": "came back as a list, expected a tensor",
    "t.var(correction=0).numpy()": "came back as a numpy",
    "t.var(correction=0).to(torch.float16)": "came back as torch.float16, expected torch.float",
    "t.var(correction=0).reshape(1)": "came back with shape (1,), expected ()",
    "t.var(correction=0) * torch.nan": "came back with nan in it",
    "t.var()": "came back",
}


@pytest.mark.parametrize("expression", RETURNS)
def test_what_comes_back_is_named(judge_text: Judging, expression: str) -> None:
    found = judge_text(f"import torch\ndef variance(t): return {expression}\n", "variance")
    verdict = found["variance_value"]
    assert verdict.verdict == "wrong"
    assert RETURNS[expression] in verdict.message
    assert "Traceback" not in render(verdict)
    assert "grading/" not in render(verdict)


def test_an_error_starts_in_the_students_file(judge_text: Judging) -> None:
    text = "def helper(t):\n    return t.reshape(-7, 7)\n\ndef variance(t):\n    return helper(t).q\n"
    verdict = judge_text(text, "variance")["variance_value"]
    lines = [line.strip() for line in verdict.details.splitlines()]
    assert lines[1].startswith("raised")
    assert lines[1].endswith("handed_in.py:5, in variance: return helper(t).q")
    assert lines[2].endswith("handed_in.py:2, in helper: return t.reshape(-7, 7)")
    assert lines[3].startswith("RuntimeError: ")


def test_a_stub_is_not_started(judge_text: Judging) -> None:
    found = judge_text('def variance(t):\n    raise NotImplementedError("variance")\n', "variance", "mean")
    assert {verdict.verdict for verdict in found.values()} == {"not started"}
    assert sum(verdict.points for verdict in found.values()) == 0
    assert sum(verdict.max_points for verdict in found.values()) == pytest.approx(2)


def test_a_module_without_forward_has_been_started(judge_text: Judging) -> None:
    text = """
class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
"""
    assert "wrong" in {verdict.verdict for verdict in judge_text(text, "layer_norm").values()}


def test_an_endless_loop_ends(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def covariance(x, y):\n    while True:\n        pass\n")
    quick = replace(course, limits=Limits(check_seconds=0.5))
    judge = Judge(quick, read_sources(course, path), read_sources(course, ROOT / "solutions"), 1)
    found = list(judge.judge([course.exercises["covariance"]]))
    judge.close()
    assert {verdict.verdict for verdict in found} == {"wrong"}
    for verdict in found[:2]:
        assert "covariance did not finish within 0.5 s; is there a loop that never ends?" in verdict.message
    assert len(found) > 2
    for verdict in found[2:]:
        assert verdict.message == "not run: 2 checks of covariance before this one did not finish"


@pytest.mark.parametrize("call", ["exit()", "raise SystemExit(0)", "quit(0)"])
def test_leaving_python_is_wrong(judge_text: Judging, call: str) -> None:
    verdict = judge_text(f"def mean(t):\n    {call}\n", "mean")["mean_value"]
    assert verdict.verdict == "wrong"
    assert "SystemExit" in verdict.message


def test_what_a_check_changes_is_gone_for_the_next(judge_text: Judging) -> None:
    text = """
import torch
def mean(t):
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    torch.Tensor.var = None
    torch.set_grad_enabled(False)
    return t.sum() / t.numel()
def variance(t):
    assert torch.get_default_dtype() == torch.float32 and torch.is_grad_enabled()
    return t.var(correction=0)
"""
    found = judge_text(text, "mean", "variance")
    assert {verdict.verdict for verdict in found.values()} == {"passed"}


def test_ten_thousand_lines_do_not_reach_the_reader(judge_text: Judging, capfd: pytest.CaptureFixture[str]) -> None:
    text = "def mean(t):\n    for n in range(10_000):\n        print('line', n)\n    return t.sum() / t.numel()\n"
    assert judge_text(text, "mean")["mean_value"].verdict == "passed"
    out, err = capfd.readouterr()
    assert out == err == ""


def test_a_seed_replays_a_verdict_word_for_word(judge_text: Judging) -> None:
    text = "def variance(t):\n    return t.var()\n"
    once, again = (judge_text(text, "variance", seed=5) for _ in range(2))
    assert once == again


def test_numbers_do_not_depend_on_what_else_runs(judge_text: Judging) -> None:
    text = "def covariance(x, y):\n    return (x * y).mean()\ndef mean(t):\n    return t.sum() / t.numel()\n"
    alone = judge_text(text, "covariance", seed=7)
    among = judge_text(text, "mean", "covariance", seed=7)
    assert {check: among[check] for check in alone} == alone


def test_another_seed_draws_other_numbers(judge_text: Judging) -> None:
    text = """
seen = []
def mean(t):
    seen.append(t.sum())
    if len(seen) > 10:
        raise ValueError(f"the sixth sum was {seen[5]}")
    return t.sum() / t.numel()
"""
    messages = {judge_text(text, "mean", seed=seed)["mean_value"].message for seed in range(3)}
    assert len(messages) == 3


def test_points_of_a_unit_add_up(course: Course, judge_text: Judging) -> None:
    text = (ROOT / "solutions" / "u1_statistics.py").read_text(encoding="utf-8")
    found = judge_text(text, *(e.id for e in course.by_unit["u1_statistics"].exercises), name="u1_statistics.py")
    assert sum(v.points for v in found.values()) == pytest.approx(course.by_unit["u1_statistics"].points)


def test_the_capstone_waits_for_own_pieces(judge_text: Judging) -> None:
    text = "def train(model, dls, epochs, lr):\n    return None\n"
    found = judge_text(text, "train")
    assert {verdict.verdict for verdict in found.values()} == {"blocked"}
    assert "waits for" in next(iter(found.values())).message


def test_a_check_that_fails_on_the_reference_too_is_our_error(course: Course, judge_text: Judging) -> None:
    path = ROOT / "solutions"
    judge = Judge(course, read_sources(course, path), read_sources(course, path), 1)
    check = judge.checks("mean")[0]

    def impossible(mean: object) -> None:
        """The mean of nothing is something."""
        raise RuntimeError("the suite is at fault")

    ours = replace(check, name="impossible", function=impossible, fixtures=("mean",))
    assert judge.run(ours).verdict == KIT_ERROR


class Suite:
    """A made-up suite module: `checks_of` reads its functions."""

    def __init__(self, *functions: Callable[..., None]) -> None:
        self.__name__ = "made_up"
        for function in functions:
            function.__module__ = "made_up"
            setattr(self, function.__name__, function)


def refused(course: Course, function: Callable[..., None]) -> str:
    with pytest.raises(SuiteError) as error:
        checks_of(course, course.by_unit["u1_statistics"], Suite(function))  # type: ignore[arg-type]
    return str(error.value)


def test_suites_keep_their_rules(course: Course) -> None:
    def test_two(mean: object, variance: object) -> None:
        """Says two things at once."""

    def test_none(t: object) -> None:
        """Judges nothing."""

    def test_silent(mean: object) -> None: ...

    @pytest.mark.parametrize("n", [1, 2])
    def test_many(mean: object, n: int) -> None:
        """Is several checks."""

    def test_lonely(mean: object) -> None:
        """Leaves the other exercises without a check."""

    assert "must take exactly one" in refused(course, test_two)
    assert "must take exactly one" in refused(course, test_none)
    assert "has no docstring" in refused(course, test_silent)
    assert "is parametrized" in refused(course, test_many)
    assert "has no check for variance" in refused(course, test_lonely)


def test_a_right_answer_may_be_written_differently(judge_text: Judging) -> None:
    text = """
import torch
def variance(t):
    values = t.double().flatten().tolist()
    centre = sum(values) / len(values)
    return torch.tensor(sum((v - centre) ** 2 for v in values) / len(values), dtype=t.dtype)
"""
    assert {v.verdict for v in judge_text(text, "variance").values()} == {"passed"}


def test_inputs_that_are_drawn_beforehand_give_the_same_verdicts(course: Course) -> None:
    reference = read_sources(course, ROOT / "solutions")
    seed = fresh_seed()
    first = Judge(course, reference, reference, seed)
    exercises = [course.exercises[name] for name in ("correlation", "rmsprop")]
    checks = [check for exercise in exercises for check in first.checks(exercise.id) if check.drawn]
    inputs = {check.name: first.drawn(check) for check in checks}
    assert all(len(inputs[check.name].inputs) >= 10 for check in checks)
    for bug in (None, *(load_bugs(course)[exercise.id][0] for exercise in exercises)):
        sources = with_bug(course, reference, bug) if bug else reference
        judged = [exercise for exercise in exercises if bug is None or exercise.id == bug.exercise]
        # a diagnosis that runs out of time names nothing
        judges = [
            Judge(course, sources, reference, seed, inputs=known, diagnosis_seconds=UNHURRIED_SECONDS)
            for known in (None, inputs)
        ]
        one, other = [list(judge.judge(judged, slow=False)) for judge in judges]
        assert one == other, f"seed {seed}"
        assert (bug is None) == all(verdict.verdict == "passed" for verdict in one)


def test_inputs_follow_from_the_seed_and_differ_from_each_other(course: Course) -> None:
    reference = read_sources(course, ROOT / "solutions")
    seed = fresh_seed()
    one, again, other = [Judge(course, reference, reference, number) for number in (seed, seed, seed + 1)]
    check = one.check_named("u1_statistics", "covariance_value")
    drawn = [[found.choices for found in judge.drawn(check).inputs] for judge in (one, again, other)]
    assert drawn[0] == drawn[1], f"seed {seed}"
    assert len(set(drawn[0])) == len(drawn[0]) == 25
    # the simplest comes first, whatever the seed is
    assert drawn[0][0] == drawn[2][0]
    assert not set(drawn[0][1:]) & set(drawn[2][1:])


def test_the_simplest_input_is_shown(course: Course, judge_text: Judging) -> None:
    verdict = judge_text("def mean(t):\n    return t.mean() + (t.numel() > 3)\n", "mean", seed=fresh_seed())[
        "mean_value"
    ]
    assert verdict.verdict == "wrong"
    shown = next(line for line in verdict.details.splitlines() if line.startswith("with"))
    assert shown.count(",") - shown.count("float64") == 3, f"seed {verdict.seed}: {shown}"


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
def test_a_check_may_name_inputs_and_leave_others_out(course: Course) -> None:
    reference = read_sources(course, ROOT / "solutions")
    judge = Judge(course, reference, reference, fresh_seed())
    used: list[int] = []

    @example(n=99)
    @given(n=st.integers(0, 9))
    def test_some(mean: Callable[[torch.Tensor], torch.Tensor], n: int) -> None:
        """The mean of n ones is 1."""
        assume(n > 4)
        used.append(n)
        expect(mean(torch.ones(n)), torch.tensor(1.0), "mean(t)")

    ours = replace(judge.checks("mean")[0], name="some", function=test_some, fixtures=("mean",))
    assert judge.run(ours).verdict == "passed", judge.verdicts["some"].message
    assert used[0] == 99
    assert set(used[1:]) <= {5, 6, 7, 8, 9}
    assert len(used) > 1


def test_code_that_is_not_the_same_twice_is_wrong_and_not_the_kit(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "handed_in.py"
    path.write_text("calls = 0\ndef mean(t):\n    global calls\n    calls += 1\n    return t.mean() + (calls == 5)\n")
    sources, reference = read_sources(course, path), read_sources(course, ROOT / "solutions")
    seed = fresh_seed()
    for drawn in (False, True):
        judge = Judge(course, sources, reference, seed)
        check = judge.check_named("u1_statistics", "mean_value")
        judge.inputs = {check.name: judge.drawn(check)} if drawn else {}
        verdict = judge.run(check)
        assert verdict.verdict == "wrong", f"seed {seed}"
        assert "again        the same input passed" in verdict.details


def test_what_pytorch_says_of_a_forgotten_no_grad_is_explained(judge_text: Judging) -> None:
    text = """
class SGD:
    def __init__(self, params, lr, wd=0.0):
        self.params, self.lr, self.wd, self.i = list(params), lr, wd, 0
    def step(self):
        for p in self.params:
            p -= self.lr * p.grad
    def zero_grad(self):
        for p in self.params:
            p.grad = None
"""
    found = judge_text(text, "sgd", name="u8_optimizers.py")
    details = found["sgd_step"].details
    assert "likely       What autograd watches is changed in place" in details


def test_each_check_of_a_course_has_a_name_of_its_own(course: Course, tmp_path: Path) -> None:
    """Two units' private checks of one name would share a verdict, and its points."""
    for unit, exercise in (("u1_statistics", "mean"), ("u2_initialization", "normalize")):
        text = f'def test_secret({exercise}):\n    """Not told."""\n'
        (tmp_path / f"test_{unit}.py").write_text(text)
    sources = read_sources(course, ROOT / "solutions")
    judge = Judge(course, sources, sources, 1, hidden=tmp_path)
    assert judge.checks("mean")
    with pytest.raises(SuiteError, match="u1_statistics and u2_initialization both have a check test_secret"):
        judge.checks("normalize")
    with pytest.raises(SuiteError, match="test_nothing is no check of u1_statistics"):
        judge.check_named("u1_statistics", "test_nothing")
    judge.close()


def test_a_slow_check_replays(course: Course, tmp_path: Path) -> None:
    def fail() -> None:
        raise OSError("there is no such folder")

    sources = read_sources(course, ROOT / "solutions")
    judge = Judge(course, sources, sources, 5, garments=fail, impl="my answers", data="my data")
    check = judge.check_named("u9_fashion", "train_capstone")
    verdict = judge.run(check)
    judge.close()
    assert verdict.verdict == KIT_ERROR
    assert "there is no such folder" in verdict.message
    assert judge.again == "pytest --impl 'my answers' --data 'my data' --seed 5"
    assert judge._replay_line(check) == ("replay", f"{judge.again} --slow -k train_capstone")


def test_how_tensors_are_printed_is_left_as_it_was(judge_text: Judging) -> None:
    torch.set_printoptions(precision=2)
    try:
        judge_text("import torch\ndef mean(t):\n    torch.set_printoptions(precision=7)\n    return t.mean()\n", "mean")
        assert repr(torch.tensor(1.23456)) == "tensor(1.23)"
    finally:
        torch.set_printoptions(profile="default")


def test_what_pytorch_has_not_implemented_has_been_started(judge_text: Judging) -> None:
    found = judge_text("def variance(t):\n    return ((t - t.mean()) ^ 2).mean()\n", "variance")
    assert {verdict.verdict for verdict in found.values()} == {"wrong"}
    assert "likely       A power is written `**`" in found["variance_value"].details


def test_what_a_scenario_has_seen_raised_is_explained(judge_text: Judging, course: Course) -> None:
    text = (ROOT / "solutions" / "u6_lsuv.py").read_text(encoding="utf-8")
    mine = text.replace("bias -= hook.mean", "bias -= hook.mean if bias else 0")
    assert mine != text
    details = [verdict.details for verdict in judge_text(mine, "lsuv_layer", name="u6_lsuv.py").values()]
    assert any("likely       Python asks for one truth there" in text for text in details)


def test_how_an_input_lies_in_memory_is_shown_where_that_matters(judge_text: Judging) -> None:
    text = "def relu(x):\n    return x.view(-1).clamp(min=0).view(x.shape)\n"
    found = judge_text(text, "relu")
    assert re.search(r"x = tensor.*  # not contiguous: strides \(1, \d", found["relu_value"].details)
    always = judge_text("def relu(x):\n    return x\n", "relu")
    assert "contiguous" not in always["relu_value"].details
