"""The bug bank and the diagnosis: a wrong answer is caught, and named by its own name or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from grading.bugs import UNHURRIED_SECONDS, BankError, Bug, Variant, load_bugs, load_variants, with_bug
from grading.course import Course, load
from grading.judge import Judge
from grading.sandbox import RemoteSubject, Sandbox
from grading.subject import read_sources
from grading.verdict import WRONG, Verdict
from grading.verdict.render import render

from .conftest import ROOT

Judging = Callable[..., dict[str, Verdict]]

OPTIMIZERS = ("sgd", "weight_decay", "momentum", "rmsprop", "adam")
NORMS = ("lerp", "layer_norm", "batch_norm", "instance_norm", "group_norm")


def one_each() -> list[Variant]:
    """A wrong answer, written as a whole, for each optimizer and each normalisation."""
    answers = load_variants(load(ROOT), Path(__file__).parent / "rewritten")
    return [next(answer for answer in answers if answer.exercise == name) for name in (*OPTIMIZERS, *NORMS)]


@pytest.mark.parametrize("answer", one_each(), ids=lambda answer: answer.exercise)
def test_a_wrong_answer_is_caught_and_never_misnamed(judge_text: Judging, answer: Variant) -> None:
    found = judge_text(answer.text, answer.exercise)
    wrong = [verdict for verdict in found.values() if verdict.verdict == WRONG]
    assert wrong
    assert {verdict.bug for verdict in wrong} <= {None, answer.name}
    for verdict in wrong:
        text = render(verdict)
        assert verdict.exercise in text
        assert "Traceback" not in text
        assert "pytest --seed" in text


def test_every_bug_applies_to_the_reference(course: Course) -> None:
    reference = read_sources(course, ROOT / "solutions")
    bugs = [bug for found in load_bugs(course).values() for bug in found]
    assert bugs
    for bug in bugs:
        with_bug(course, reference, bug)


def test_a_bug_that_does_not_apply_is_refused(course: Course) -> None:
    reference = read_sources(course, ROOT / "solutions")
    bug = Bug("mean", "nothing", "Nothing is wrong.", "t.sum()", "t.sum()", ("mean_value",))
    with pytest.raises(BankError, match="changes nothing"):
        with_bug(course, reference, bug)
    with pytest.raises(BankError, match="stands 0 times"):
        with_bug(course, reference, Bug("mean", "n", "S.", "t.total()", "t.sum()", ("mean_value",)))


def test_a_known_misunderstanding_is_named(judge_text: Judging) -> None:
    verdict = judge_text("def variance(t):\n    return t.var()\n", "variance")["variance_example"]
    bug = next(bug for bug in load_bugs(load(ROOT))["variance"] if bug.name == verdict.bug)
    assert "n - 1" in bug.sentence
    assert bug.sentence in verdict.message


# each raises in some of its checks
RAISING = [
    ("layer_norm", "images only"),
    ("relu", "in place"),
    ("train_learner", "whole batch to the model"),
    ("batch_transform", "inputs only"),
]


@pytest.mark.parametrize(("exercise", "name"), RAISING)
def test_a_known_misunderstanding_is_named_by_what_it_raises(course: Course, exercise: str, name: str) -> None:
    """Also behind the wall, where an exception is read from a wire."""
    reference = read_sources(course, ROOT / "solutions")
    bug = next(bug for bug in load_bugs(course)[exercise] if bug.name == name)
    sources = with_bug(course, reference, bug)
    raised: list[set[str]] = []
    with Sandbox(course) as sandbox:
        for subject in (None, RemoteSubject(course, sources, reference, sandbox)):
            judge = Judge(course, sources, reference, 1, subject=subject, diagnosis_seconds=UNHURRIED_SECONDS)
            found = list(judge.judge([course.exercises[exercise]], slow=False))
            judge.close()
            raised.append({verdict.check for verdict in found if "\nraised " in verdict.details})
            assert {verdict.bug for verdict in found if verdict.check in raised[-1]} == {name}
    assert raised[0] == raised[1] != set()


def test_an_unknown_mistake_is_not_guessed(judge_text: Judging) -> None:
    found = judge_text("def variance(t):\n    return t.var(correction=0) * 1.37 + 0.11\n", "variance")
    assert {verdict.bug for verdict in found.values()} == {None}


def test_a_bug_that_other_checks_contradict_is_not_named(judge_text: Judging) -> None:
    few = "def variance(t):\n    return t.var() if t.numel() == 4 else 1.37 * t.var(correction=0)\n"
    found = judge_text(few, "variance")
    assert found["variance_example"].verdict == WRONG
    assert {verdict.bug for verdict in found.values()} == {None}


# each does in some check, or on small inputs, what a known bug does, or raises what one raises
LOOKALIKES = [
    ("weight_decay", "p *= 1 - self.lr * self.wd", "p *= 1 - self.lr * self.wd * (p.ndim == 2)"),
    (
        "lsuv_layer",
        "bias -= hook.mean\n                weight /= hook.std",
        "bias = weight_module.bias = nn.Parameter(bias - hook.mean)\n"
        "                weight = weight_module.weight = nn.Parameter(weight / hook.std)",
    ),
    ("append_stats", "output = output.detach()", "output = output.detach_()"),
    ("relu", "return x.clamp(min=0)", "with torch.no_grad():\n        return x.clamp(min=0)"),
    ("layer_norm", "dims = tuple(range(1, x.ndim))", "dims = (1, 2)"),
    ("layer_norm", "mean = x.mean(dims, keepdim=True)", "mean = x.mean(dims)"),
]


@pytest.mark.parametrize(("exercise", "find", "put"), LOOKALIKES)
def test_a_mistake_that_looks_like_a_known_one_here_and_there_is_not_named(
    course: Course, exercise: str, find: str, put: str
) -> None:
    reference = read_sources(course, ROOT / "solutions")
    sources = with_bug(course, reference, Bug(exercise, "unknown", "Not in the bank.", find, put, ()))
    for seed in (1, 2):
        judge = Judge(course, sources, reference, seed, diagnosis_seconds=UNHURRIED_SECONDS)
        found = list(judge.judge([course.exercises[exercise]], slow=False))
        judge.close()
        assert WRONG in {verdict.verdict for verdict in found}
        assert {verdict.bug for verdict in found} == {None}


def test_a_bug_that_explains_one_check_is_tried_where_there_is_no_time_for_all(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "variance.py"
    path.write_text("def variance(t):\n    return t.var()\n")
    judge = Judge(course, read_sources(course, path), read_sources(course, ROOT / "solutions"), 1)
    example, value = (judge.check_named("u1_statistics", f"variance_{name}") for name in ("example", "value"))
    diagnoses, too_little = judge.diagnoses, 1e-9
    assert diagnoses is not None
    diagnoses.seconds = too_little
    assert judge.run(value).verdict == WRONG
    assert judge.verdicts.pop(value.name).bug is None
    diagnoses.seconds = UNHURRIED_SECONDS
    assert judge.run(example).bug == "sample variance"
    diagnoses.seconds = too_little
    assert judge.run(value).bug == "sample variance"
    judge.close()


def test_the_next_hint_comes_with_the_diagnosis(course: Course, tmp_path: Path) -> None:
    path = tmp_path / "variance.py"
    path.write_text("def variance(t):\n    return t.var()\n")
    hints = course.exercises["variance"].hints
    for given, expected in enumerate([*hints, None]):
        sources, reference = read_sources(course, path), read_sources(course, ROOT / "solutions")
        how = {"hints": {"variance": given}, "diagnosis_seconds": UNHURRIED_SECONDS}
        judge = Judge(course, sources, reference, 1, **how)
        verdict = judge.run(judge.check_named("u1_statistics", "variance_example"))
        judge.close()
        assert verdict.bug
        shown = [hint for hint in hints if hint in verdict.details]
        assert shown == ([expected] if expected else [])
