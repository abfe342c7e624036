"""The page that a student gets back: points, verdicts with their reasons, the own pictures, and comments."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import bleach
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from nbgrader.api import Gradebook
from nbgrader.exchange.default import ExchangeReleaseFeedback
from nbgrader.preprocessors import GetGrades

from grading.verdict import PASSED, number
from grading.verdict.render import MARK

from ._guard import watch

TEMPLATES = Path(__file__).parent / "templates"
STYLE = TEMPLATES / "goodinit" / "style.css"
TIMESTAMP, SECRET = "timestamp.txt", "submission_secret.txt"
# of a notebook only what is the student's own matters here
LEFT_OUT = ("header", "setup")
TAGS = {
    *("a", "b", "blockquote", "br", "code", "dd", "del", "div", "dl", "dt", "em", "hr", "i", "img", "li", "ol", "p"),
    *("pre", "s", "span", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul"),
    *(f"h{level}" for level in range(1, 7)),
}
ATTRIBUTES = {"a": ("href", "title"), "img": ("alt", "title", "width", "height"), "span": ("class",), "div": ("class",)}
PICTURES = tuple(f"data:image/{kind};base64," for kind in ("png", "jpeg", "gif"))
PROTOCOLS = {"http", "https", "mailto", "data"}
# where nbgrader_config.py cannot be read at all, nothing else of ours is loaded
watch()

WAITS, GRADED, EMPTY = "waits", "graded", "no answer"


class FeedbackExporter(HTMLExporter):
    """Writes the page; nothing that a student has put into a notebook runs in it."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)  # type: ignore[no-untyped-call]
        # nbgrader sets its own template wherever its button is pressed
        self.template_name = "goodinit"
        self.extra_template_basedirs = [str(TEMPLATES)]
        self.exclude_anchor_links = True
        self.template_paths = self._template_paths()

    def default_filters(self) -> Any:
        yield from super().default_filters()  # type: ignore[no-untyped-call]
        yield from (("points", points), ("harmless", harmless))


class Parts(GetGrades):  # type: ignore[misc]
    """Collects what the top of the page says: each graded cell, its verdict, its points, and what still waits."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> Any:
        nb, resources = super().preprocess(nb, resources)
        who = resources["nbgrader"]
        parts = {}
        with Gradebook(who["db_url"]) as book:
            submitted = book.find_submission_notebook(who["notebook"], who["assignment"], who["student"])
            grades = {grade.name: grade for grade in submitted.grades}
            for cell in nb.cells:
                metadata = cell.metadata.get("nbgrader", {})
                if metadata.get("grade") and metadata.get("grade_id") in grades:
                    parts[cell.id] = _part(cell, grades[metadata["grade_id"]])
        about = nb.metadata.get("goodinit", {})
        resources["goodinit"] = {
            "title": about.get("title", who["notebook"]),
            "notes": about.get("notes", []),
            "style": STYLE.read_text(encoding="utf-8"),
            "parts": list(parts.values()),
            "by_cell": parts,
            "waits": sum(part["waits"] for part in parts.values()),
            "left_out": LEFT_OUT,
        }
        return nb, resources


def _part(cell: NotebookNode, grade: Any) -> dict[str, Any]:
    name = cell.metadata.nbgrader.grade_id
    verdict = cell.metadata.get("goodinit", {}).get("verdict")
    waits = grade.auto_score is None and grade.manual_score is None
    if waits:
        state, mark = WAITS, "…"
    elif verdict:
        state, mark = verdict, MARK[verdict]
    else:
        state, mark = (EMPTY, "·") if grade.manual_score is None else (GRADED, MARK[PASSED])
    return {
        "name": name,
        "title": name.removeprefix("check-"),
        "kind": "check" if verdict else "written",
        "state": state,
        "mark": mark,
        "score": grade.score,
        "points": grade.max_score,
        "waits": waits,
        "comment": cell.metadata.nbgrader.get("comment"),
    }


def points(value: Any) -> str:
    """Points as a person writes them; none are 0."""
    return number(float(value or 0.0))


def harmless(html: str) -> str:
    """What markdown has become, without anything that runs, loads from elsewhere or looks like another page."""
    cleaned: str = bleach.clean(html, TAGS, _allowed, PROTOCOLS, strip=True)
    return cleaned


def _allowed(tag: str, name: str, value: str) -> bool:
    # as a browser reads an address
    address = re.sub(r"[\x00-\x20]", "", unescape(value))
    if tag == "img" and name == "src":
        return address.startswith(PICTURES) or not re.match(r"[a-z][a-z0-9+.-]*:|[/\\]{2}", address, re.I)
    # a page of its own, which may look like one of ours
    is_page = name == "href" and address.lower().startswith("data:")
    return name in ATTRIBUTES.get(tag, ()) and not is_page


class ReleaseFeedback(ExchangeReleaseFeedback):  # type: ignore[misc]
    """Releases what can be fetched, and names the others: without handing in through the exchange there is no key."""

    def copy_files(self) -> None:
        step, assignment = self.coursedir.feedback_directory, self.coursedir.assignment_id
        student = self.coursedir.student_id or "*"
        excluded = [name for name in self.coursedir.student_id_exclude.split(",") if name]
        for folder in sorted(Path("/").glob(self.coursedir.format_path(step, student, assignment).lstrip("/"))):
            name = folder.parent.name
            if not (folder / SECRET).is_file():
                self.log.warning(
                    "%s has not handed in through the exchange, and cannot fetch feedback from it: send %s",
                    name,
                    folder,
                )
                excluded.append(name)
            elif not (folder / TIMESTAMP).is_file():
                # nbgrader reads it to say when
                (folder / TIMESTAMP).touch()
        before = self.coursedir.student_id_exclude
        self.coursedir.student_id_exclude = ",".join(excluded)
        try:
            super().copy_files()
        finally:
            self.coursedir.student_id_exclude = before
