"""One check, one verdict: the same record for the terminal, JSON, pages and gradebooks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

PASSED = "passed"
WRONG = "wrong"
NOT_STARTED = "not started"
BLOCKED = "blocked"
DELEGATED = "delegated"
KIT_ERROR = "kit error"
# of an exercise alone, for people: some of its checks have passed, and others met what is still a stub
NOT_FINISHED = "not finished"

# from the one that settles an exercise first to the one that all its checks must share
VERDICTS = (KIT_ERROR, WRONG, BLOCKED, NOT_STARTED, DELEGATED, PASSED)


@dataclass(frozen=True)
class Verdict:
    """What one check found.

    `message` is the sentence a person reads first; `details` are the lines below it (what was called, what came
    back, what was expected, how to replay). `bug` names the known misunderstanding, where one matches.
    `points` and `max_points` are this check's share of its exercise's points. Of a `hidden` check, the message is its
    title, and there are no details; why it failed by itself is its `fault`, for the instructor alone.
    """

    unit: str
    exercise: str
    check: str
    verdict: str
    message: str = ""
    bug: str | None = None
    points: float = 0.0
    max_points: float = 0.0
    details: str = ""
    borrowed: tuple[str, ...] = ()
    seed: int = 0
    hidden: bool = False
    fault: str = ""

    def public(self) -> dict[str, Any]:
        """The fields of one line of `goodinit check --json`."""
        keys = ("unit", "exercise", "check", "verdict", "message", "bug", "points", "max_points")
        record = asdict(self)
        return {key: record[key] for key in keys}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Verdict:
        return cls(**{**record, "borrowed": tuple(record["borrowed"])})


def exercise_verdict(verdicts: Iterable[Verdict]) -> str:
    """The verdict of an exercise from those of its checks: the gravest one."""
    found = {verdict.verdict for verdict in verdicts}
    return next((verdict for verdict in VERDICTS if verdict in found), NOT_STARTED)


def exercise_state(verdicts: Iterable[Verdict]) -> str:
    """What a person is told of an exercise: its verdict, or that it is not finished, where it has been started."""
    verdicts = list(verdicts)
    state = exercise_verdict(verdicts)
    started = any(verdict.verdict != NOT_STARTED for verdict in verdicts)
    return NOT_FINISHED if state == NOT_STARTED and started else state
