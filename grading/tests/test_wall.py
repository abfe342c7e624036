"""Behind the wall: objects in a worker act as in this process, and a worker that misbehaves costs its own verdict."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from grading.bugs import UNHURRIED_SECONDS, Variant, load_bugs, load_variants, with_bug
from grading.course import Course
from grading.judge import Check, Drawn, Judge, fresh_seed
from grading.judge._inputs import identity, simplify
from grading.sandbox import RemoteSubject, Sandbox, SandboxError, outer_wall
from grading.sandbox._outer import ROOMS
from grading.subject import Questions, Sources, SubjectDied, TimeExpired, read_sources
from grading.verdict import DELEGATED, NOT_STARTED, PASSED, WRONG, Verdict

from .conftest import ROOT
from .test_subject import spoil_unit_4

Reach = Callable[[str, str], Any]
Graded = Callable[..., dict[str, Verdict]]

SPECIMEN = """
import os, sys, time
import torch
from torch import nn

class Known(ValueError):
    pass

class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.mult = nn.Parameter(torch.ones(3))
        self.register_buffer("seen", torch.zeros(2))
        self.notes = {"a": [1, (2.5, None)], "b": "text"}
        self.eps = eps

    def forward(self, x):
        if self.training:
            self.seen += 1
        return x * self.mult + self.eps

    def several(self, x):
        return {"twice": x * 2, "pair": (x + 1, 3)}

    def fail(self, how):
        if how == "known":
            raise Known("as asked")
        if how == "exit":
            sys.exit(0)
        if how == "end":
            os._exit(0)
        if how == "loop":
            while True:
                pass
        if how == "memory":
            torch.ones(10**10)
        if how == "huge":
            return torch.zeros(10**8)
        if how == "deep":
            found = []
            for _ in range(1000):
                found = [found]
            return found
        class Odd(BaseException):
            pass
        raise Odd("strange")

    def change(self, x, y):
        y += x
        return y.sum()

    def items(self):
        yield from range(3)

    def helper(self):
        return lambda x: x + self.eps
"""


@pytest.fixture
def subject(course: Course, sandbox: Sandbox, tmp_path: Path) -> Iterator[RemoteSubject]:
    path = tmp_path / "specimen.py"
    path.write_text(SPECIMEN)
    found = RemoteSubject(course, read_sources(course, path), reference_of(course), sandbox)
    yield found
    found.close()


@pytest.fixture
def layer(course: Course, subject: RemoteSubject) -> Any:
    return subject.exercise(course.exercises["layer_norm"])(eps=0.5)


def reference_of(course: Course) -> Sources:
    return read_sources(course, ROOT / "solutions")


def test_modules_have_modes_parameters_buffers_and_state(layer: Any) -> None:
    x = torch.randn(2, 3)
    assert torch.allclose(layer(x), x + 0.5)
    assert torch.equal(layer.seen, torch.ones(2))
    layer.eval()
    assert layer.training is False
    layer(x)
    assert torch.equal(layer.seen, torch.ones(2))
    state = dict(layer.state_dict())
    assert sorted(state) == ["mult", "seen"]
    state["mult"] = torch.tensor([2.0, 3.0, 4.0])
    layer.load_state_dict(state)
    assert torch.equal(layer.mult, torch.tensor([2.0, 3.0, 4.0]))
    assert layer.double().mult.dtype == torch.float64
    assert [tuple(p.shape) for p in layer.parameters()] == [(3,)]
    assert [name for name, _ in layer.named_buffers()] == ["seen"]
    layer.to(torch.float32)
    assert layer.mult.dtype == torch.float32


def test_attributes_are_read_and_set(layer: Any) -> None:
    assert layer.notes == {"a": [1, (2.5, None)], "b": "text"}
    layer.eps = 7.0
    assert layer.eps == 7.0
    with pytest.raises(AttributeError):
        _ = layer.nothing
    assert layer.helper()(torch.ones(1)).item() == 8.0
    assert list(layer.items()) == [0, 1, 2]
    assert type(layer.items()).__name__ == "generator"


def test_gradients_pass_through(layer: Any) -> None:
    x = torch.randn(4, 3, requires_grad=True)
    upstream = torch.randn(4, 3)
    layer(x).backward(upstream)
    assert torch.allclose(x.grad, upstream)
    assert torch.allclose(layer.mult.grad, (x.detach() * upstream).sum(0), atol=1e-6)
    layer.zero_grad()
    assert layer.mult.grad is None
    plain = torch.randn(2, 3)
    layer(plain).sum().backward()
    assert torch.allclose(layer.mult.grad, plain.sum(0), atol=1e-6)
    with torch.no_grad():
        assert not layer(x).requires_grad
    found = layer.several(x)
    (found["twice"].sum() + found["pair"][0].sum()).backward()
    assert found["pair"][1] == 3
    assert torch.allclose(x.grad, upstream + 3)


def test_gradcheck_works(course: Course, subject: RemoteSubject) -> None:
    layer = subject.exercise(course.exercises["layer_norm"])()
    layer.double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (x,))


def test_changed_arguments_are_seen(layer: Any) -> None:
    x, y = torch.ones(2), torch.zeros(2)
    assert layer.change(x, y).item() == 2
    assert torch.equal(x, torch.ones(2))
    assert torch.equal(y, torch.ones(2))


def test_exceptions_keep_their_kind_and_their_place(layer: Any, subject: RemoteSubject) -> None:
    with pytest.raises(ValueError, match="as asked") as raised:
        layer.fail("known")
    assert type(raised.value) is ValueError
    (frame,) = subject.student_frames(raised.value)
    assert frame.name == "fail"
    assert 'raise Known("as asked")' in subject.explain(raised.value)
    assert subject.raised_by_student(raised.value)


@pytest.mark.parametrize("how", ["exit", "end", "huge", "strange"])
def test_a_death_is_no_exception_that_a_check_could_expect(layer: Any, how: str) -> None:
    with pytest.raises(SubjectDied):
        layer.fail(how)
    with pytest.raises(SubjectDied, match="ended before"):
        layer(torch.ones(3))


def test_code_that_closes_its_connection_used_up_nothing(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "mean.py"
    path.write_text("import os, time\ndef mean(t):\n    os.close(3)\n    time.sleep(60)\n")
    sources = read_sources(course, path)
    found = verdicts(course, sources, "mean", 1, sandbox)
    assert "The code closed its connection." in found["mean_value"].message


def test_too_much_memory_is_an_error_of_the_code(layer: Any) -> None:
    with pytest.raises((RuntimeError, MemoryError)):
        layer.fail("memory")
    assert torch.equal(layer(torch.zeros(3)), torch.full((3,), 0.5))


def test_a_result_that_cannot_cross_is_an_error_of_the_code(layer: Any) -> None:
    with pytest.raises(RecursionError):
        layer.fail("deep")
    assert torch.equal(layer(torch.zeros(3)), torch.full((3,), 0.5))


def test_a_loop_meets_its_deadline(layer: Any) -> None:
    layer._worker.seconds = 0.5
    start = time.monotonic()
    with pytest.raises(TimeExpired):
        layer.fail("loop")
    assert time.monotonic() - start < 5


def test_a_new_worker_takes_over(course: Course, subject: RemoteSubject) -> None:
    exercise = course.exercises["layer_norm"]
    layer = subject.exercise(exercise)()
    with pytest.raises(SubjectDied):
        layer.fail("end")
    assert torch.equal(subject.exercise(exercise)(eps=0.0)(torch.ones(3)), torch.ones(3))


def _added(pieces: Any, *, x: torch.Tensor, eps: float) -> Any:
    if eps < 0:
        pieces.LayerNorm().fail("known")
    return {"y": pieces.LayerNorm(eps=eps)(x), "drawn": torch.rand(2)}


def test_questions_that_are_asked_at_once_are_answered_as_each_by_itself(
    course: Course, subject: RemoteSubject
) -> None:
    exercise = course.exercises["layer_norm"]
    values = [{"x": torch.randn(2, 3), "eps": eps} for eps in (0.5, -1.0, 2.0)]
    answers = subject.ahead(exercise, [], Questions(tuple((_added, one) for one in values)), 7)
    for one, answer in zip(values, answers.each, strict=True):
        subject.seed(7)
        if one["eps"] < 0:
            for ask in (answer, lambda one=one: subject.beside(exercise)(_added, **one)):
                with pytest.raises(ValueError, match="as asked") as raised:
                    ask()
                assert subject.frames(raised.value)[-1].filename.endswith("specimen.py")
        else:
            got, alone = answer(), subject.beside(exercise)(_added, **one)
            assert torch.equal(got["y"], alone["y"])
            assert torch.equal(got["drawn"], alone["drawn"])


def test_as_many_answers_as_questions_are_taken(course: Course, subject: RemoteSubject, layer: Any) -> None:
    layer._worker.exchange = lambda *request, **fields: ({"answers": [{"value": None}] * 2}, None, None)
    with pytest.raises(SubjectDied, match="as many answers as questions"):
        asked = Questions(((_added, {"x": torch.ones(1), "eps": 1.0}),))
        subject.ahead(course.exercises["layer_norm"], [], asked, 7)


def test_the_input_is_found_with_which_code_ends_its_process(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    text = (ROOT / "solutions/u7_normalization.py").read_text(encoding="utf-8")
    where = "        dims = tuple(range(1, x.ndim))\n"
    assert where in text
    path = tmp_path / "u7_normalization.py"
    path.write_text(text.replace(where, f"        if len(x) > 1:\n            __import__('os')._exit(0)\n{where}", 1))
    found = verdicts(course, read_sources(course, tmp_path), "layer_norm", fresh_seed(), sandbox)["layer_norm_value"]
    assert found.verdict == WRONG
    assert "ended its process" in found.message
    assert "with         x = tensor" in found.details


def test_no_worker_is_left(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "specimen.py"
    path.write_text(SPECIMEN)
    subject = RemoteSubject(course, read_sources(course, path), reference_of(course), sandbox)
    pid = subject.exercise(course.exercises["layer_norm"])._worker.pid
    os.kill(pid, 0)
    subject.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def verdicts(course: Course, sources: Sources, exercise: str, seed: int, sandbox: Sandbox | None) -> dict[str, Verdict]:
    reference = reference_of(course)
    subject = RemoteSubject(course, sources, reference, sandbox) if sandbox else None
    judge = Judge(course, sources, reference, seed, subject=subject, diagnosis_seconds=UNHURRIED_SECONDS)
    found = {check.name: judge.run(check) for check in judge.checks(exercise) if not check.slow}
    judge.close()
    return found


def test_one_of_each_gets_the_same_verdicts_on_both_sides(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    """A sample, another one each time; `python -m grading.trust --parity` compares all of them."""
    seed = fresh_seed()
    chance = random.Random(seed)
    reference = reference_of(course)
    answers: list[Variant] = load_variants(course)
    for name in chance.sample(list(course.exercises), 3):
        samples = [reference]
        samples += [with_bug(course, reference, bug) for bug in chance.sample(load_bugs(course)[name], 1)]
        for answer in chance.sample([one for one in answers if one.exercise == name], 1):
            path = tmp_path / f"{name}.py"
            path.write_text(answer.text)
            samples.append(read_sources(course, path))
        for sources in samples:
            here = verdicts(course, sources, name, seed, None)
            there = verdicts(course, sources, name, seed, sandbox)
            for check, verdict in here.items():
                other = there[check]
                assert (other.verdict, other.points, other.bug) == (verdict.verdict, verdict.points, verdict.bug), (
                    f"seed {seed}: {check}: {other.message}"
                )


TWICE = """
class LRFinder(Callback):
    def __init__(self, gamma=1.3, max_mult=3):
        self.gamma, self.max_mult = gamma, max_mult
    def before_fit(self):
        self.mode = self.model.trainnig
        self.state = self.model.state_dict()
    def cleanup_fit(self):
        HOW
"""
CLEANUPS = {
    "an error": ("self.model.load_state_dict(self.state)", True),
    "a raise": ("raise ValueError('no state')", True),
    "a raise from none": ("raise ValueError('no state') from None", False),
    "many": (
        "self.again(100)\n    def again(self, n):\n        try: self.late\n        finally: n and self.again(n - 1)",
        True,
    ),
}


@pytest.mark.parametrize("how", CLEANUPS)
def test_the_first_of_two_exceptions_is_shown_on_both_sides(
    course: Course, sandbox: Sandbox, tmp_path: Path, how: str
) -> None:
    """What fails while an exception passes by hides it, and most often comes of it."""
    text, both = CLEANUPS[how]
    path = tmp_path / "handed_in.py"
    path.write_text(TWICE.replace("HOW", text))
    sources = read_sources(course, path)
    here, there = (verdicts(course, sources, "lr_finder", 1, side) for side in (None, sandbox))
    assert here == there
    for verdict in here.values():
        lines = [line.strip() for line in verdict.details.splitlines()]
        first = next(number for number, line in enumerate(lines) if line.startswith("raised"))
        assert verdict.bug is None
        assert any(line.startswith("then ") for line in lines) is both
        if both:
            assert lines[first].endswith("in before_fit: self.mode = self.model.trainnig")
            assert "has no attribute 'trainnig', then " in verdict.message


@pytest.mark.parametrize("call", ["torch.save(t, '/tmp/t.pth')", "open('t.txt', 'w')", "open('/etc/passwd')"])
def test_that_there_are_no_files_is_said(course: Course, sandbox: Sandbox, tmp_path: Path, call: str) -> None:
    path = tmp_path / "handed_in.py"
    path.write_text(f"import torch\ndef mean(t):\n    {call}\n    return t.sum() / t.numel()\n")
    found = verdicts(course, read_sources(course, path), "mean", 1, sandbox)["mean_value"]
    assert "Permission denied" in found.message
    assert "likely       Code that is graded has neither files nor network" in found.details


@pytest.mark.parametrize("name", ["group_norm", "clip_grad_norm"])
def test_answers_known_to_be_right_need_no_second_look(
    course: Course, sandbox: Sandbox, tmp_path: Path, name: str
) -> None:
    seed, reference = fresh_seed(), reference_of(course)
    remote = RemoteSubject(course, reference, reference, sandbox)
    first = Judge(course, reference, reference, seed, subject=remote)
    checks = [check for check in first.checks(name) if not check.slow]
    known = first.drawn_for_many(checks)
    first.close()
    assert all(known[check.name].right for check in checks)

    def judged(sources: Sources, inputs: dict[str, Drawn]) -> Judge:
        subject = RemoteSubject(course, sources, reference, sandbox)
        judge = Judge(
            course, sources, reference, seed, subject=subject, inputs=inputs, diagnosis_seconds=UNHURRIED_SECONDS
        )
        for check in checks:
            judge.run(check)
        judge.close()
        return judge

    copy = tmp_path / "copy"
    shutil.copytree(reference.path, copy)
    right = judged(read_sources(course, copy), known)
    assert {right.verdicts[check.name].verdict for check in checks} == {PASSED}
    assert not any(right.draws[check.name] for check in checks)
    bug = random.Random(seed).choice(load_bugs(course)[name])
    for sources in (read_sources(course, copy), with_bug(course, reference, bug)):
        as_usual = judged(sources, {check: dataclasses.replace(drawn, right=None) for check, drawn in known.items()})
        assert as_usual.verdicts == judged(sources, known).verdicts, f"seed {seed}: {bug.name}"
        assert all(as_usual.draws[check.name] for check in checks)


def test_behind_the_wall_one_failure_of_an_exercise_is_simplified(
    course: Course, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed, reference = fresh_seed(), reference_of(course)
    [bug] = [bug for bug in load_bugs(course)["group_norm"] if bug.name == "size taken for number"]
    sources = with_bug(course, reference, bug)
    simplified: list[str] = []

    def counted(check: Check, *how: Any) -> None:
        simplified.append(check.name)
        simplify(check, *how)

    monkeypatch.setattr("grading.judge._judge.simplify", counted)
    subject = RemoteSubject(course, sources, reference, sandbox)
    judge = Judge(course, sources, reference, seed, subject=subject, diagnosis_seconds=0.0)
    checks = [check for check in judge.checks("group_norm") if not check.slow]
    known = judge.inputs = {check.name: judge.drawn(check, questions=True) for check in checks}
    wrong = [check.name for check in checks if judge.run(check).verdict == WRONG]
    judge.close()
    assert len(wrong) > 2, f"seed {seed}"
    assert simplified == wrong[:1], f"seed {seed}"
    for name in wrong[1:]:
        shown = identity(judge._runs[name].drawn)
        assert shown in {identity(one.given) for one in known[name].inputs}, f"seed {seed}: {name}"


def test_an_exception_is_the_same_answer_wherever_it_came_by_and_no_other_one(
    course: Course, subject: RemoteSubject
) -> None:
    exercise = course.exercises["layer_norm"]

    def answer(scenario: Callable[..., Any], **values: Any) -> bytes:
        return subject.ahead(exercise, [], Questions(((scenario, values),)), 7).identity()

    assert answer(_refused, how="known") == answer(_refused_elsewhere, how="known")
    assert answer(_refused, how="known") != answer(_refused, how="loudly")
    assert answer(_added, x=torch.ones(1), eps=1.0) != answer(_added, x=torch.ones(1), eps=2.0)


def _refused(pieces: Any, *, how: str) -> Any:
    pieces.LayerNorm().fail(how)


def _refused_elsewhere(pieces: Any, *, how: str) -> Any:
    layer = pieces.LayerNorm()
    layer.fail(how)


def test_a_second_call_behind_the_wall_draws_other_random_numbers(course: Course, sandbox: Sandbox) -> None:
    reference = reference_of(course)
    [bug] = [bug for bug in load_bugs(course)["kaiming_normal"] if bug.name == "generator ignored"]
    sources = with_bug(course, reference, bug)
    for seed in (1, 2):
        for place in (None, sandbox):
            assert verdicts(course, sources, "kaiming_normal", seed, place)["kaiming_normal_generator"].verdict == WRONG


def test_workers_of_another_installation_are_refused(course: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("grading.startup.installation", lambda: "/elsewhere/grading")
    with Sandbox(course) as one, pytest.raises(SandboxError, match=r"workers would .* in /elsewhere: run `goodinit`"):
        one.fork()


COMPILED = """
import torch

@torch.compile(dynamic=True)
def mean(t):
    return t.sum() / t.numel()

@torch.jit.script
def variance(t: torch.Tensor) -> torch.Tensor:
    return (t - t.mean()).pow(2).mean()

class Deviation(torch.nn.Module):
    def forward(self, t):
        return variance(t).sqrt()

def standard_deviation(t):
    module = Deviation()
    module.compile()
    return torch.compile(module)(t)
"""


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_compiled_answers_are_judged_like_others(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "u1_statistics.py").write_text(COMPILED, encoding="utf-8")
    sources, compiling = read_sources(course, tmp_path), torch.compile
    for place in (None, sandbox):
        for name in ("mean", "variance", "standard_deviation"):
            found = verdicts(course, sources, name, 1, place)
            assert {verdict.verdict for verdict in found.values()} == {PASSED}, found
    assert torch.compile is compiling


@pytest.mark.parametrize("how", ["a crash", "a loop", "a name taken away", "a given class left out"])
def test_a_spoilt_unit_costs_the_next_one_nothing(course: Course, sandbox: Sandbox, tmp_path: Path, how: str) -> None:
    spoil_unit_4(tmp_path, how)
    quick = dataclasses.replace(course, limits=dataclasses.replace(course.limits, import_seconds=3))
    sources, reference = read_sources(quick, tmp_path), read_sources(quick, ROOT / "solutions")
    judge = Judge(quick, sources, reference, 1, subject=RemoteSubject(quick, sources, reference, sandbox))
    verdicts = list(judge.judge([course.exercises["hook"], course.exercises["hooks_callback"]], slow=False))
    judge.close()
    assert {verdict.verdict for verdict in verdicts} == {PASSED}


TAMPERING = """
import gc
import grading.sandbox._worker as w
for one in gc.get_objects():
    if type(one) is w.Worker:
        one.operations["begin"] = lambda message, read: [][0]
def mean(t):
    return "x" * 1_000_000
"""


def test_a_fault_of_the_kit_cannot_be_forged(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "u1_statistics.py").write_text(TAMPERING, encoding="utf-8")
    found = verdicts(course, read_sources(course, tmp_path), "mean", 5, sandbox)
    assert {verdict.verdict for verdict in found.values()} == {WRONG}
    assert "IndexError" in found["mean_value"].message


def test_a_verdict_is_no_longer_than_anybody_reads(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    text = """
import grading.sandbox._worker as w
w._described = lambda error: {"kind": "Delegated", "builtin": "RuntimeError", "text": "y" * 1_000_000, "frames": []}
def mean(t):
    raise RuntimeError
"""
    (tmp_path / "u1_statistics.py").write_text(text, encoding="utf-8")
    found = verdicts(course, read_sources(course, tmp_path), "mean", 5, sandbox)
    assert all(len(verdict.message) + len(verdict.details) < 20_000 for verdict in found.values())
    assert all(verdict.points == 0 for verdict in found.values())


def test_stubs_are_not_started(course: Course, sandbox: Sandbox) -> None:
    sources = read_sources(course, ROOT / "exercises")
    for name in ("mean", "batch_norm", "momentum"):
        found = verdicts(course, sources, name, 1, sandbox)
        assert {verdict.verdict for verdict in found.values()} == {NOT_STARTED}


def test_what_was_lent_is_not_there_to_be_handed_in(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    """Judging covariance lends the reference of mean; nothing of it may serve as the answer to mean."""
    path = tmp_path / "thief.py"
    path.write_text(
        "import gc, sys, types\n"
        "def covariance(x, y):\n"
        "    mx, my = mean(x), mean(y)\n"
        "    return ((x - mx) * (y - my)).sum() / x.numel()\n"
        "def mean(t):\n"
        "    for module in list(sys.modules.values()):\n"
        "        found = getattr(module, 'mean', None)\n"
        "        if isinstance(found, types.FunctionType) and 'solutions' in found.__code__.co_filename:\n"
        "            return found(t)\n"
        "    raise RuntimeError('nothing to steal')\n"
    )
    found = verdicts(course, read_sources(course, path), "mean", 1, sandbox)
    assert {verdict.verdict for verdict in found.values()} == {WRONG}
    assert all(verdict.points == 0 for verdict in found.values())


def test_passed_is_passed(course: Course, sandbox: Sandbox) -> None:
    found = verdicts(course, reference_of(course), "batch_norm", 1, sandbox)
    assert {verdict.verdict for verdict in found.values()} == {PASSED}


DELEGATING = """
import torch
import torch.nn.functional as F
from torch import nn

class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()
        self.mult, self.add = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.tensor(0.0))
        self.eps = eps

    def forward(self, x):
        return F.layer_norm(x, x.shape[1:], eps=self.eps) * self.mult + self.add
"""


def test_the_finished_thing_is_not_at_hand(course: Course, sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "delegating.py"
    path.write_text(DELEGATING)
    found = verdicts(course, read_sources(course, path), "layer_norm", 1, sandbox)
    told = [verdict for verdict in found.values() if verdict.verdict == DELEGATED]
    assert told
    assert all("layer_norm" in verdict.message and verdict.points == 0 for verdict in told)


def test_bubblewrap_is_put_around_the_template(course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in that only notes how it was called: the real one may not be installed."""
    program, notes = tmp_path / "bwrap", tmp_path / "notes"
    program.write_text(f'#!/bin/sh\necho "$@" >> {notes}\nwhile [ "$1" != -- ]; do shift; done\nshift\nexec "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    outer_wall.cache_clear()
    try:
        with Sandbox(course) as found:
            found.fork().kill()
    finally:
        monkeypatch.undo()
        outer_wall.cache_clear()
    trial, started = notes.read_text().splitlines()
    assert f"--tmpfs {ROOT}" in started
    assert "--unshare-net" in started
    assert "solutions" not in started
    assert trial.endswith("import grading.sandbox._template")


def test_bubblewrap_leaves_the_template_all_that_it_loads() -> None:
    """Also where the package lies in a checkout, of which nothing else is there."""
    program = "import grading.sandbox._template, grading.sandbox._cells, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = [name.split(".")[1] for name in done.stdout.split() if name.startswith("grading.")]
    assert {"sandbox", "startup", "subject"} <= set(loaded) <= {room.removesuffix(".py") for room in ROOMS}
    assert not {"bugs", "judge", "kit", "tests"} & {room.removesuffix(".py") for room in ROOMS}


def test_time_that_runs_out_leaves_no_answer_for_the_next_request(course: Course) -> None:
    def ring(number: int, frame: object) -> None:
        raise TimeExpired(0.0)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        with Sandbox(course) as found:
            found.fork().kill()
            for _ in range(30):
                with suppress(TimeExpired):
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(0.0001, 0.02))
                    found.fork().kill()
                    # if it has not rung yet
                    time.sleep(0.03)
                report = found.fork().kill()
                assert os.WTERMSIG(report["status"]) == signal.SIGKILL
                assert report["seconds"] > 0
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_template_that_does_not_start_is_one_sentence(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grading.sandbox._processes.outer_wall", lambda: ("sh", "-c", "echo lost >&2; exit 3", "--"))
    with Sandbox(course) as found, pytest.raises(SandboxError, match="did not start: lost"):
        found.fork()


def test_a_bubblewrap_that_cannot_run_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bwrap"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    outer_wall.cache_clear()
    assert outer_wall() == ()
    outer_wall.cache_clear()
