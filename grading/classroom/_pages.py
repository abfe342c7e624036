"""One page per submission and one that links them all: plain HTML, nothing in it that runs."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2

from grading.course import Course
from grading.verdict import (
    BLOCKED,
    KIT_ERROR,
    NOT_FINISHED,
    NOT_STARTED,
    PASSED,
    VERDICTS,
    Verdict,
    exercise_state,
    number,
)
from grading.verdict.render import MARK, sentence

from ._entries import Entry
from ._output import INDEX, PAGES

FOLDER = Path(__file__).parent / "pages"
EXPLAINED = {
    NOT_STARTED: "still as it was given, or not there",
    NOT_FINISHED: "a part of it is still as it was given",
    BLOCKED: "waits for exercises of the student's own that have not passed",
    KIT_ERROR: "a fault of the kit, never the student's; please report it",
}


def page(course: Course, record: dict[str, Any]) -> str:
    """The page of one submission."""
    by_exercise: dict[str, list[Verdict]] = {}
    for found in record["verdicts"]:
        by_exercise.setdefault(found["exercise"], []).append(Verdict.from_dict(found))
    units = []
    for unit in course.units:
        exercises = [
            {
                "id": exercise.id,
                **record["exercises"][exercise.id],
                "state": exercise_state(by_exercise[exercise.id]),
                "checks": by_exercise[exercise.id],
                "review": record["review"].get(exercise.id, []),
                "borrowed": by_exercise[exercise.id][0].borrowed,
            }
            for exercise in unit.exercises
            if exercise.id in by_exercise
        ]
        if exercises:
            untouched = not any(entry["review"] for entry in exercises) and all(
                verdict.verdict == NOT_STARTED for entry in exercises for verdict in entry["checks"]
            )
            head = {"title": unit.title, "id": unit.id, "untouched": untouched, **record["units"][unit.id]}
            units.append({**head, "exercises": exercises})
    counts = Counter(found["verdict"] for found in record["verdicts"])
    return _render(
        "page.html",
        record=record,
        units=units,
        counts=[(verdict, counts[verdict]) for verdict in reversed(VERDICTS) if counts[verdict]],
        up=f"../{INDEX}",
        reviews=sum(map(len, record["review"].values())),
    )


def index(course: Course, records: Sequence[tuple[Entry, dict[str, Any]]]) -> str:
    """The page of the class."""
    units = [unit for unit in course.units if records and unit.id in records[0][1]["units"]]
    rows = [
        {
            **record,
            "href": f"{PAGES}/{quote(entry.slug)}.html",
            "units": [record["units"][unit.id] for unit in units],
            "reviews": sum(map(len, record["review"].values())),
            "kit_errors": sum(found["verdict"] == KIT_ERROR for found in record["verdicts"]),
        }
        for entry, record in records
    ]
    return _render("index.html", course=course, units=units, rows=rows)


def _render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment.globals.update(
        # the kit's own text, whose hash is the only thing that the policy lets in
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
        mark=MARK,
        explained=EXPLAINED,
        PASSED=PASSED,
        NOT_STARTED=NOT_STARTED,
    )
    environment.filters.update(number=number, sentence=sentence)
    return environment
