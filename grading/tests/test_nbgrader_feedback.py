"""The page that a student gets back, from nbgrader's own commands and buttons."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from grading.nbgrader._feedback import harmless

from .handing_in import MEAN, UNIT, Class, Notebook, appended, cell

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:Object of type <Submitted")]

SAMPLE = "def variance(t):\n    return ((t - mean(t)) ** 2).sum() / (t.numel() - 1)\n"
EVIL = '<script>alert(1)</script><img src=x onerror=alert(1)><a href="javascript:alert(1)">here</a>'
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9]);"
STUDENTS = ("ana", "ben", "cleo")


class Page(HTMLParser):
    """A page's elements, and its text by itself."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.html = path.read_text(encoding="utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def written(notebook: Notebook) -> None:
    one = cell(notebook, "u1-outlier")
    picture = {"image/png": base64.b64encode(b"\x89PNG").decode()}
    one["source"] = f"The *squares* grow. {EVIL} ![drawn](attachment:mine.png)"
    one["attachments"] = {"mine.png": picture}


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Class:
    """A class with feedback: a late answer was graded by hand, and two were handed in through the exchange."""
    group = Class(tmp_path_factory.mktemp("feedback"), "notebook_seconds = 60\n\n[nbgrader.late]\npercent_per_day = 50")
    group.hand_in("ana", written, appended(PLOT, "1 / 0"), answers={"mean": MEAN, "variance": SAMPLE})
    group.hand_in(
        "ben", lambda notebook: notebook["cells"].remove(cell(notebook, "check-mean")), answers={"mean": MEAN}
    )
    group.hand_in("cleo", written, answers={})
    for student in ("ana", "ben"):
        folder = group.root / "submitted" / student / UNIT
        (folder / "submission_secret.txt").write_text(f"secret of {student}")
    for student, when in (("ana", "2026-01-02 03:04:05 UTC"), ("cleo", "2026-01-03 12:00:00 UTC")):
        (group.root / "submitted" / student / UNIT / "timestamp.txt").write_text(when)
    with group.nbgrader.api.gradebook as book:
        book.find_assignment(UNIT).duedate = datetime(2026, 1, 3)
        book.db.commit()
    done = group.nbgrade("autograde", UNIT)
    assert done.returncode == 0, done.stderr
    with group.nbgrader.api.gradebook as book:
        grade = book.find_grade("u1-outlier", UNIT, UNIT, "cleo")
        grade.manual_score, grade.needs_manual_grade = 1.5, False
        book.find_comment("u1-outlier", UNIT, UNIT, "cleo").manual_comment = f"Nearly. {EVIL}"
        book.db.commit()
    done = group.nbgrade("generate_feedback", UNIT)
    assert done.returncode == 0, done.stderr
    return group


def page(group: Class, student: str) -> Page:
    return Page(group.root / "feedback" / student / UNIT / f"{UNIT}.html")


def parts(page: Page) -> dict[str, tuple[str, str]]:
    """What the table at the top says: state and points by name."""
    rows = re.findall(r'<tr class="[^"]*"><td class="mark">.*?</tr>', page.html, re.S)
    found = {}
    for row in rows:
        name, state, points = re.findall(r"<td[^>]*>(?:<a[^>]*>)?([^<]*)(?:</a>)?</td>", row)[1:]
        found[name] = state, points
    return found


def test_the_page_begins_with_what_there_is_and_what_it_is_worth(group: Class) -> None:
    found = parts(page(group, "ana"))
    assert found["mean"] == ("passed", "1 / 1")
    assert found["variance"] == ("wrong", "0 / 1")
    assert found["covariance"] == ("not started", "0 / 2")
    assert found["u1-outlier"] == ("waits", "\u2013 / 2")
    assert found["u1-parabola"] == ("no answer", "0 / 2")
    graded = group.grades("ana")
    assert len(found) == len(graded)
    assert "Statistics ana · u1_statistics 1 of " in page(group, "ana").text
    assert "1 of the answers below is still to be graded" in page(group, "ana").text


def test_verdicts_come_with_reasons_and_a_diagnosis(group: Class) -> None:
    text = page(group, "ana").text
    assert "came back" in text and "expected" in text and "n - 1" in text
    assert "not started" in text
    # the check's own call is replaced by what it found
    assert 'check("variance")' not in text.replace('check("variance", seed', "")


def test_the_students_own_pictures_are_in_the_page(group: Class) -> None:
    pictures = [image["src"] or "" for image in page(group, "ana").all("img")]
    drawn = [picture for picture in pictures if picture.startswith("data:image/png;base64,")]
    sizes = [len(base64.b64decode(picture.partition(",")[2])) for picture in drawn]
    assert max(sizes) > 5000
    # what was dropped into a written answer, too
    assert 4 in sizes
    assert "ZeroDivisionError" in page(group, "ana").text


@pytest.mark.parametrize("student", STUDENTS)
def test_nothing_of_a_student_runs_in_it(group: Class, student: str) -> None:
    found = page(group, student)
    assert "alert" not in str(found.all("script"))
    assert not re.search(r"<script>alert", found.html)
    for tag, attributes in found.found:
        assert not [name for name in attributes if name.startswith("on")], (tag, attributes)
        assert not str(attributes.get("href") or "").startswith("javascript:")
    assert not found.all("iframe") and not found.all("object") and not found.all("form")


def test_a_person_has_graded(group: Class) -> None:
    found = page(group, "cleo")
    assert parts(found)["u1-outlier"] == ("graded", "1.5 / 2")
    assert "Nearly." in found.text and "still to be graded" not in found.text


def test_what_was_mended_is_said(group: Class) -> None:
    assert "the cell check-mean was gone, and is back where it was" in page(group, "ben").text
    assert parts(page(group, "ben"))["mean"] == ("passed", "1 / 1")


def test_late_points_by_hand_lose_their_share_too(group: Class) -> None:
    with group.nbgrader.api.gradebook as book:
        assert book.find_submission_notebook(UNIT, UNIT, "cleo").late_submission_penalty == 0.75
    assert "0.75 points are taken off" in page(group, "cleo").text
    assert "0.75 of " in page(group, "cleo").text
    assert "taken off" not in page(group, "ana").text


def test_the_formgraders_button_gives_the_same_page(group: Class) -> None:
    before = page(group, "ana").html
    assert group.nbgrader.api.generate_feedback(UNIT, "ana")["success"]
    assert page(group, "ana").html == before


def test_feedback_is_released_to_all_who_can_fetch_it(group: Class, tmp_path: Path) -> None:
    exchange = tmp_path / "exchange"
    exchange.mkdir()
    exchange.chmod(0o777)
    done = group.nbgrade("release_feedback", UNIT, f"--Exchange.root={exchange}")
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    released = [path.read_text() for path in exchange.rglob("*.html")]
    # ben's notebook came without a time, which is nobody's loss
    assert len(released) == 2 and any("ana" in text for text in released) and any("ben" in text for text in released)
    [line] = [line for line in done.stderr.splitlines() if "cleo" in line and "WARNING" in line]
    assert "has not handed in through the exchange" in line and str(group.root / "feedback" / "cleo") in line
    one = group.nbgrade("release_feedback", UNIT, "--student", "cleo", f"--Exchange.root={exchange}")
    assert one.returncode == 0 and len(list(exchange.rglob("*.html"))) == 2


@pytest.mark.parametrize(
    ("html", "kept"),
    [
        ("<p>a <b>b</b></p>", "<p>a <b>b</b></p>"),
        ('<img src="pictures/a.png" alt="a">', '<img src="pictures/a.png" alt="a">'),
        ('<img src="data:image/png;base64,AA==">', '<img src="data:image/png;base64,AA==">'),
        ('<img src="data:image/svg+xml;base64,AA==">', "<img>"),
        ('<img src="https://elsewhere/pixel.png">', "<img>"),
        ('<img src="//elsewhere/pixel.png">', "<img>"),
        ('<img src=" javascript:alert(1)">', "<img>"),
        ('<img src="ht&#9;tps://elsewhere/pixel.png">', "<img>"),
        ('<a href="javascript:alert(1)">a</a>', "<a>a</a>"),
        ('<a href="data:text/html,x">a</a>', "<a>a</a>"),
        ('<a href="da&#9;ta:text/html,x">a</a>', "<a>a</a>"),
        ('<a href="https://arxiv.org">a</a>', '<a href="https://arxiv.org">a</a>'),
        ("<iframe src=x></iframe><form><input></form>", ""),
        ('<p style="position:fixed" class="note" onclick="x()">a</p>', "<p>a</p>"),
    ],
)
def test_of_markdown_only_what_is_harmless_is_kept(html: str, kept: str) -> None:
    assert harmless(html).strip() == kept


def test_the_notebook_says_no_more_than_the_page(group: Class) -> None:
    """nbgrader keeps the notebook that the page is made of, and a grader opens it."""
    notebook: dict[str, Any] = group.autograded("ana")
    kinds = {kind for one in notebook["cells"] for output in one.get("outputs", ()) for kind in output.get("data", {})}
    assert kinds <= {"text/plain", "text/html", "image/png"}
    for one in notebook["cells"]:
        own = not one["metadata"].get("nbgrader", {}).get("grade")
        assert not (own and "text/html" in json.dumps(one.get("outputs", ())))
