"""How the verdict on one exercise looks below a cell of a notebook: HTML that runs nothing, and text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

from ._record import BLOCKED, KIT_ERROR, NOT_STARTED, PASSED, Verdict, exercise_state, exercise_verdict
from .render import MARK, lent, render, sentence

HERE = Path(__file__).parent
# what is told in words, not in code
PROSE = ("likely", "remember", "problem", "stopped", "please", "again")
# a notebook has its own ways for these
LEFT_OUT = ("replay", "hint")
JUDGED = "judged with"
LABELLED = re.compile(r"(\S.*?)(?:\s{2,}(.*))?")


def fragment(verdicts: Sequence[Verdict], hints: Sequence[str] = (), note: str = "", *, public: bool = True) -> str:
    """The HTML of one exercise's verdicts; `hints` fold out one after the other where it has not passed.

    It needs no script and no style of its surroundings, and is readable where a page takes its style away.
    """
    state = exercise_verdict(verdicts)
    return _template().render(
        style=_style(),
        exercise=verdicts[0].exercise,
        state=state,
        headline=headline(verdicts, public=public),
        failed=[verdict for verdict in verdicts if verdict.verdict not in (PASSED, NOT_STARTED)],
        passed=[verdict for verdict in verdicts if verdict.verdict == PASSED],
        hints=() if state in (PASSED, BLOCKED, KIT_ERROR) else hints,
        notes=_notes(verdicts, note),
        mark=MARK,
        PROSE=PROSE,
    )


def plain(verdicts: Sequence[Verdict], note: str = "", *, public: bool = True) -> str:
    """The same as text: the first check that did not pass in full, for mending it often mends the others."""
    lines = [f"{MARK[exercise_verdict(verdicts)]} {verdicts[0].exercise}: {headline(verdicts, public=public)}"]
    failed = [verdict for verdict in verdicts if verdict.verdict not in (PASSED, NOT_STARTED)]
    lines += [render(replace(verdict, details=_details(verdict))) for verdict in failed[:1]]
    lines += [f"{MARK[verdict.verdict]} {sentence(verdict)}" for verdict in failed[1:]]
    below = _notes(verdicts, note)
    # what was borrowed has been said with the first failure
    return "\n".join([*lines, *(below if not failed else [line for line in below if not line.startswith(JUDGED)])])


def headline(verdicts: Sequence[Verdict], *, public: bool = True) -> str:
    """`public checks passed (13)`: what can be said without knowing what else will be judged."""
    state, checks = exercise_state(verdicts), "public checks" if public else "checks"
    passed = sum(verdict.verdict == PASSED for verdict in verdicts)
    if state == PASSED:
        return f"{checks} passed ({passed})"
    if state == NOT_STARTED:
        return "not started: still a stub, or its cell has not been run"
    return f"{state}: {passed} of {len(verdicts)} {checks} passed"


def facts(verdict: Verdict) -> list[tuple[str, str]]:
    """The details of a verdict, a label and its value each: `called`, `came back`, `expected`."""
    found: list[tuple[str, list[str]]] = []
    for line in _details(verdict).splitlines():
        labelled = LABELLED.fullmatch(line)
        if labelled:
            found.append((labelled[1], [labelled[2] or ""]))
        elif found:
            found[-1][1].append(line.strip())
    return [(label, "\n".join(lines)) for label, lines in found]


def _details(verdict: Verdict) -> str:
    """The lines below a verdict without those whose place a notebook has something else for."""
    lines, kept = [], True
    for line in verdict.details.splitlines():
        kept = line.partition(" ")[0] not in LEFT_OUT if line[:1].strip() else kept
        lines += [line] if kept else []
    return "\n".join(lines)


def _notes(verdicts: Sequence[Verdict], note: str) -> list[str]:
    notes = [note] if note else []
    state = exercise_verdict(verdicts)
    borrowed = verdicts[0].borrowed
    if borrowed and state not in (PASSED, NOT_STARTED):
        notes.append(f"{JUDGED} {lent(borrowed)}")
    if state not in (PASSED, NOT_STARTED, BLOCKED):
        notes.append(f'same numbers again: check("{verdicts[0].exercise}", seed={verdicts[0].seed})')
    return notes


def _code(text: str) -> Markup:
    """The text as HTML, with what stands between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


@cache
def _style() -> str:
    return (HERE / "cell.css").read_text(encoding="utf-8")


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(sentence=sentence, facts=facts, code=_code)
    return environment.from_string((HERE / "cell.html").read_text(encoding="utf-8"))
