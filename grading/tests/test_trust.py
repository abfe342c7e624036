"""The proofs about the suites see what they are there to see."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest

from grading.bugs import load_bugs, load_variants
from grading.course import Course
from grading.subject import read_sources
from grading.trust import _jobs

from .conftest import ROOT


@pytest.fixture
def worker(course: Course) -> _jobs._Worker:
    return _jobs._Worker(course, read_sources(course, ROOT / "solutions"))


def test_a_check_that_sees_a_bug_by_luck_is_told(worker: _jobs._Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    bug = next(bug for bug in load_bugs(worker.course)["mean"] if bug.name == "mean of magnitudes")
    monkeypatch.setattr(_jobs, "load_bugs", lambda course: {"mean": [replace(bug, caught_by=("mean_value",))]})

    def finding() -> _jobs.Finding:
        return _jobs._chance(worker, _jobs.Job("chance", "mean", bug.name, seed=1, seeds=4))

    assert finding().good
    turns = count()
    monkeypatch.setattr(_jobs, "_fails", lambda *what: next(turns) % 10 == 0)
    found = finding()
    assert not found.good and found.note == "mean_value misses it in 7.18% of its runs (10 of 100 inputs show it)"


def test_a_right_answer_is_judged_on_what_is_drawn_for_all(worker: _jobs._Worker) -> None:
    variant = next(one for one in load_variants(worker.course) if one.exercise == "group_norm")
    job = _jobs.Job("variant", "group_norm", variant, seed=5, seeds=2)
    assert _jobs._variant(worker, job).good
    wrong = replace(variant, text=variant.text.replace("eps", "ups").replace("ups=1e-5", "eps=1e-2"))
    found = _jobs._variant(worker, replace(job, what=wrong))
    assert not found.good and "seed 5" in found.note
