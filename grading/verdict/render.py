"""How verdicts look in a terminal; pytest and the command line print the same text."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ._record import (
    BLOCKED,
    DELEGATED,
    KIT_ERROR,
    NOT_FINISHED,
    NOT_STARTED,
    PASSED,
    WRONG,
    Verdict,
    exercise_state,
)
from ._text import clean, number

STYLE = {
    PASSED: "green",
    WRONG: "red",
    NOT_STARTED: "bright_black",
    NOT_FINISHED: "yellow",
    BLOCKED: "yellow",
    DELEGATED: "yellow",
    KIT_ERROR: "magenta",
}

MARK = {PASSED: "✓", WRONG: "✗", NOT_STARTED: "·", NOT_FINISHED: "·", BLOCKED: "…", DELEGATED: "?", KIT_ERROR: "!"}


class ExerciseLike(Protocol):
    @property
    def id(self) -> str: ...


class UnitLike(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def points(self) -> int: ...
    @property
    def exercises(self) -> Iterable[ExerciseLike]: ...


class CourseLike(Protocol):
    @property
    def units(self) -> Iterable[UnitLike]: ...


def render(verdict: Verdict, width: int = 100) -> str:
    """One verdict in full: the sentence, then what was called, what came back and what was expected."""
    if verdict.verdict == PASSED:
        return f"{verdict.exercise}: {verdict.message}"
    lines = textwrap.wrap(f"{verdict.exercise}: {sentence(verdict)}", width)
    if verdict.details:
        lines += ["", *("  " + line for line in verdict.details.splitlines())]
    if verdict.borrowed:
        lines += ["", *textwrap.wrap(f"(judged with {lent(verdict.borrowed)})", width)]
    return "\n".join(lines)


def lent(names: Sequence[str]) -> str:
    """What of the reference stands beside an exercise: all that it needs and has not passed, or shares its class."""
    return f"the reference's {', '.join(names)}, so that a mistake there costs nothing here"


def sentence(verdict: Verdict) -> str:
    """The message without what the details repeat."""
    if not verdict.details or verdict.verdict != WRONG:
        return verdict.message
    for mark in (" It raised ", f" {verdict.exercise} did not finish"):
        if mark in verdict.message:
            return verdict.message.partition(mark)[0]
    call = next((line for line in verdict.details.splitlines() if line.startswith("called")), "")
    return verdict.message.partition(" " + call.removeprefix("called").strip() + ":")[0] if call else verdict.message


def summary(
    course: CourseLike,
    verdicts: Iterable[Verdict],
    where: Mapping[str, str],
    reviews: Mapping[str, Sequence[str]],
    *,
    width: int = 80,
    color: bool = False,
) -> str:
    """A table with a row per unit, the points, and the next exercise with its file and line.

    `reviews` has what a person will look at where the work is graded, by exercise.
    """
    by_exercise: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_exercise.setdefault(verdict.exercise, []).append(verdict)
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("unit", no_wrap=True)
    table.add_column("exercises")
    table.add_column("points", justify="right", no_wrap=True)
    following = ""
    total = possible = 0.0
    for unit in course.units:
        mine = [exercise.id for exercise in unit.exercises if exercise.id in by_exercise]
        if not mine:
            continue
        text = Text()
        points = most = 0.0
        for name in mine:
            state = exercise_state(by_exercise[name])
            text.append(name, style=STYLE[state])
            text.append("" if state == PASSED else f" ({state})", style=STYLE[state])
            text.append("" if name == mine[-1] else ", ")
            points += sum(verdict.points for verdict in by_exercise[name])
            most += sum(verdict.max_points for verdict in by_exercise[name])
            if state != PASSED and not following:
                following = name
        table.add_row(unit.id, _shorten(text, by_exercise, mine), f"{number(points)}/{number(most)}")
        total, possible = total + points, possible + most
    console = Console(
        file=io.StringIO(),
        width=max(width, 40),
        force_terminal=color,
        no_color=not color,
        highlight=False,
        legacy_windows=False,
    )
    console.print(table)
    console.print(f"{number(total)} of {number(possible)} points.", end=" ")
    if following:
        state = exercise_state(by_exercise[following])
        place = escape(where.get(following, ""))
        console.print(f"Next: [bold]{following}[/bold] ({state}), {place}", soft_wrap=True)
    else:
        console.print("Every check passed.")
    for name in by_exercise:
        for sentence in reviews.get(name, ()):
            console.print(f"Where {name} is graded, a person will look at this: {clean(sentence)}", markup=False)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def _shorten(text: Text, by_exercise: Mapping[str, list[Verdict]], names: list[str]) -> Text:
    """`all 7 passed` or `all 7 not started` where a unit's exercises agree."""
    states = {exercise_state(by_exercise[name]) for name in names}
    if len(states) == 1 and len(names) > 1:
        state = states.pop()
        return Text(f"all {len(names)} {state}", style=STYLE[state])
    return text
