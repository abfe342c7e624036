"""`goodinit check` and the bare `goodinit`: verdicts without pytest around them."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console

from grading.course import Course, Exercise, hints_given
from grading.data import garments
from grading.judge import Judge, fresh_seed
from grading.sandbox import RemoteSubject, Sandbox
from grading.subject import Sources, Subject, impl_path, read_sources, reviewed
from grading.verdict import NOT_FINISHED, NOT_STARTED, PASSED, Verdict, exercise_state, exercise_verdict
from grading.verdict.render import MARK, STYLE, render, summary

from ._again import again


def check(course: Course, args: argparse.Namespace) -> int:
    """Judges the targets, prints what was found, and returns 0 only when every check passed."""
    named = {exercise.id: exercise for target in args.targets for exercise in course.resolve(target)}
    with judging(course, args) as judge:
        verdicts = judge.judge((named or course.exercises).values(), slow=not args.fast)
        found = _as_json(verdicts) if args.json else _as_text(judge, course, verdicts, args)
    return 0 if found and all(verdict.verdict == PASSED for verdict in found) else 1


def status(course: Course, args: argparse.Namespace) -> int:
    """Prints progress per unit and the next exercise; having more to do is no failure."""
    console = _console()
    with judging(course, args) as judge:
        found = list(_with_spinner(judge.judge(course.exercises.values(), slow=False)))
        console.print(f"[bold]{course.title}[/bold]")
        console.out(_summary(course, judge, found, console), end="", highlight=False)
        _print_left_out(console, judge, found)
        following = _following(course, found)
    if following:
        unit = course.unit_of(following)
        console.print(f"{unit.title}: {unit.summary}", highlight=False)
        console.print(f"Stuck? goodinit hint {following}. Done with it? goodinit check {following}", highlight=False)
    return 0


@contextmanager
def judging(course: Course, args: argparse.Namespace) -> Iterator[Judge]:
    """A judge of the implementation that `--impl` names, with the seed that `--seed` gives."""
    sources = read_sources(course, impl_path(course, args.impl))
    reference = read_sources(course, course.root / "solutions")
    with _place(course, sources, reference, sandbox=getattr(args, "sandbox", False)) as subject:
        judge = Judge(
            course,
            sources,
            reference,
            fresh_seed() if args.seed is None else args.seed,
            garments=lambda: garments(args.data),
            hints=hints_given(course),
            subject=subject,
            impl=args.impl,
            data=args.data,
        )
        try:
            yield judge
        finally:
            judge.close()


@contextmanager
def _place(course: Course, sources: Sources, reference: Sources, *, sandbox: bool) -> Iterator[Subject | None]:
    """Where the code runs: behind the wall, or in this process."""
    if not sandbox:
        yield None
        return
    with Sandbox(course) as wall:
        # where the machine has none that holds, that is what is to be said, not that the code failed
        wall.fork().kill()
        yield RemoteSubject(course, sources, reference, wall)


def _as_json(verdicts: Iterable[Verdict]) -> list[Verdict]:
    found = []
    for verdict in verdicts:
        print(json.dumps(verdict.public(), ensure_ascii=False), flush=True)
        found.append(verdict)
    return found


def _as_text(judge: Judge, course: Course, verdicts: Iterable[Verdict], args: argparse.Namespace) -> list[Verdict]:
    console = _console()
    found: list[Verdict] = []
    mine: list[Verdict] = []
    for verdict in _with_spinner(verdicts):
        if mine and mine[-1].exercise != verdict.exercise:
            _print_exercise(console, judge, course.exercises[mine[-1].exercise], mine, args.verbose)
            mine = []
        mine.append(verdict)
        found.append(verdict)
    if mine:
        _print_exercise(console, judge, course.exercises[mine[-1].exercise], mine, args.verbose)
    console.out(_summary(course, judge, found, console), end="", highlight=False)
    if args.fast:
        _print_left_out(console, judge, found)
    console.print(again(args, judge.seed), highlight=False, markup=False, soft_wrap=True)
    return found


def _print_exercise(console: Console, judge: Judge, exercise: Exercise, verdicts: list[Verdict], verbose: bool) -> None:
    """A line for the exercise, and the first check that failed in full: mending it often mends the others."""
    state = exercise_state(verdicts)
    passed = sum(verdict.verdict == PASSED for verdict in verdicts)
    console.print(
        f"{MARK[state]} {exercise.id}: {state}"
        + ("" if state == NOT_STARTED else f", {passed} of {len(verdicts)} checks")
        + ("" if state == PASSED else f"  ({judge.subject.locate(exercise)})"),
        style=STYLE[state],
        highlight=False,
        markup=False,
    )
    shown = False
    for verdict in verdicts:
        # what is missing of an exercise that has been started is said where nothing of it is wrong
        failed = verdict.verdict != PASSED if state == NOT_FINISHED else verdict.verdict not in (PASSED, NOT_STARTED)
        if failed and (verbose or not shown):
            console.print(
                render(verdict, width=min(console.width, 100) - 4), highlight=False, markup=False, soft_wrap=True
            )
            console.print()
            shown = True
        elif verbose or failed:
            console.print(f"    {MARK[verdict.verdict]} {verdict.check}", style=STYLE[verdict.verdict], highlight=False)


def _summary(course: Course, judge: Judge, found: list[Verdict], console: Console) -> str:
    where = {name: judge.place(exercise) for name, exercise in course.exercises.items()}
    color = console.color_system is not None and not console.no_color
    reviews = reviewed(course, (verdict.exercise for verdict in found), judge.subject.sources)
    return summary(course, found, where, reviews, width=console.width, color=color)


def _print_left_out(console: Console, judge: Judge, found: list[Verdict]) -> None:
    """Which slow checks of exercises that have been started were not run, and the points that are missing for that."""
    started = dict.fromkeys(verdict.exercise for verdict in found if verdict.verdict != NOT_STARTED)
    for name in started:
        points = sum(check.share for check in judge.checks(name) if check.slow)
        if points:
            command = shlex.join(["goodinit", "check", name, *(["--impl", judge.impl] if judge.impl else [])])
            text = f"Without the slow check of {name}, {points:.3g} points: `{command}` runs it."
            console.print(text, highlight=False, markup=False)


def _following(course: Course, found: list[Verdict]) -> str | None:
    for name in course.exercises:
        mine = [verdict for verdict in found if verdict.exercise == name]
        if mine and exercise_verdict(mine) != PASSED:
            return name
    return None


def _with_spinner(verdicts: Iterable[Verdict]) -> Iterator[Verdict]:
    """Shows on a terminal's standard error which exercise was judged last."""
    with Console(stderr=True).status("judging") as spinner:
        for verdict in verdicts:
            spinner.update(f"judging: {verdict.unit}, {verdict.exercise}")
            yield verdict


def _console() -> Console:
    return Console(file=sys.stdout, soft_wrap=False)
