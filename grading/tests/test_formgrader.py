"""nbgrader's pages and a student's notebook, in a real browser, from a server that the test starts and stops.

GOODINIT_SCREENSHOT=grading/pictures pytest grading/tests/test_formgrader.py takes the pictures of INSTRUCTORS.md anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytest.importorskip("nbgrader", reason="its pages take nbgrader, which is not installed")
pytest.importorskip("jupyterlab", reason="nbgrader's pages take JupyterLab, which is not installed")
pytest.importorskip("playwright", reason="a browser is driven by Playwright, which is not installed")

from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect, sync_playwright

from grading.cli import main
from grading.nbgrader import gradebook

from .conftest import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    # nbgrader's own queries
    pytest.mark.filterwarnings("ignore:Object of type <Submitted"),
]

UNIT = "u1_statistics"
# a machine may be slow: nothing here depends on how long a page takes, only on that it comes
PATIENCE = 120_000
ARGUMENTS = [
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-quic"),
]
# whatever a page asks of the network is answered at once, and the same on every machine
OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    # cells out of sight stay in the page, where they can be looked at
    "notebook-extension/tracker": {"windowingMode": "none"},
}

SUM = "def mean(t):\n    return t.sum()\n"
SAMPLE = "def variance(t):\n    return ((t - mean(t)) ** 2).sum() / (t.numel() - 1)\n"
POPULATION = "def variance(t):\n    return ((t - mean(t)) ** 2).sum() / t.numel()\n"
UNCHECKED = "def covariance(x, y):\n    return mean((x - mean(x)) * (y - mean(y)))\n"
SAMPLE_NAMED = "Your variance divides by n - 1, as for a sample; a population's divides by n."
ANSWER = "The standard deviation, because it squares the far element."
COMMENT = "Right, and what does that say about X and Y?"
# the parts of the notebook that are shown in the picture
QUESTIONED = "check-covariance", "u1-parabola"
CODE_POINTS, POINTS = 9, 13


@dataclass(frozen=True)
class Class:
    """A course folder with three submissions to unit 1, and the address of a server above it."""

    folder: Path
    url: str
    token: str

    def at(self, path: str) -> str:
        return f"{self.url}{path}?token={self.token}"

    def scores(self) -> dict[str, tuple[float, float]]:
        """The points for code and for all, by student, as the gradebook has them."""
        with gradebook(self.folder) as book:
            submissions = [book.find_submission(UNIT, student) for student in ("ada", "emmy", "bob")]
            return {one.student.id: (one.code_score, one.score) for one in submissions}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formgrader")


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    """A course folder in which unit 1 has been generated and handed in: right, partly right and wrong."""
    folder = root / "work" / "class"
    students = root / "students.csv"
    students.write_text("id,first_name,last_name\nada,Ada,Lovelace\nemmy,Emmy,Noether\nbob,Bob,Example\n")
    with contextlib.chdir(ROOT):
        assert main(["build", "--nbgrader", str(folder)]) == 0
        assert main(["students", str(students), "--nbgrader", str(folder)]) == 0
    with (folder / "nbgrader_config.py").open("a", encoding="utf-8") as config:
        config.write(f"get_config().Exchange.root = {str(root / 'exchange')!r}\n")
    (root / "exchange").mkdir(mode=0o777)
    (root / "exchange").chmod(0o777)
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "generate_assignment", UNIT], cwd=folder, check=True, env=environment(root)
    )
    right = {
        cell.id: re.sub(r" *### (BEGIN|END) SOLUTION\n?", "", cell.source)
        for cell in nbformat.read(folder / "source" / UNIT / f"{UNIT}.ipynb", 4).cells
        if cell.metadata.get("nbgrader", {}).get("solution") and cell.cell_type == "code"
    }
    written = {"u1-outlier": ANSWER, "u1-parabola": "It is 0."}
    hand_in(folder, "ada", right | written)
    hand_in(folder, "emmy", right | written | {"variance": SAMPLE, "covariance": UNCHECKED})
    hand_in(folder, "bob", {"mean": SUM})
    return folder


def hand_in(folder: Path, student: str, answers: dict[str, str]) -> None:
    """Puts a submission where `nbgrader collect` would."""
    notebook = nbformat.read(folder / "release" / UNIT / f"{UNIT}.ipynb", 4)
    for cell in notebook.cells:
        cell.source = answers.get(cell.id, cell.source)
    place = folder / "submitted" / student / UNIT
    place.mkdir(parents=True)
    nbformat.write(notebook, place / f"{UNIT}.ipynb")
    (place / "timestamp.txt").write_text("2027-02-01 12:00:00 UTC")
    (place / "submission_secret.txt").write_text(f"the key to {student}'s feedback")


def environment(root: Path) -> dict[str, str]:
    """The environment of a person who has never used Jupyter."""
    own = {"HOME": "", "JUPYTER_CONFIG_DIR": "config", "JUPYTER_DATA_DIR": "data", "JUPYTER_RUNTIME_DIR": "run"}
    return os.environ | {name: str(root / "home" / folder) for name, folder in own.items()}


@pytest.fixture(scope="module")
def graded(root: Path, folder: Path) -> Iterator[Class]:
    """A JupyterLab for the instructor, started in the course folder; nothing of it is left afterwards."""
    for name, settings in SETTINGS.items():
        path = root / "home" / "config" / "lab" / "user-settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(settings))
    token = "a-token-of-the-test"
    words = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1", f"--ServerApp.root_dir={folder.parent}"]
    words += [f"--IdentityProvider.token={token}", "--ServerApp.terminals_enabled=False"]
    with (root / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *words],
            cwd=folder,
            env=environment(root),
            stdout=log,
            stderr=log,
        )
    try:
        found = root / "home" / "run" / f"jpserver-{server.pid}.json"
        wait_for(lambda: found.exists() or server.poll() is not None)
        assert server.poll() is None, (root / "server.log").read_text()
        yield Class(folder, json.loads(found.read_text())["url"], token)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(PATIENCE / 1000)
    wait_for(lambda: not left_running(root))


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until something holds that nothing tells us of."""
    until = time.monotonic() + PATIENCE / 1000
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.05)


def left_running(root: Path) -> list[str]:
    """The processes that were started by the server: kernels and judges."""
    mark = f"JUPYTER_RUNTIME_DIR={root / 'run'}".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append(process.name)
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*ARGUMENTS, OFFLINE])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield context.new_page()
    context.close()


# -- the instructor's pages


def test_a_class_is_graded_in_formgrader(graded: Class, page: Page) -> None:
    page.goto(graded.at("lab"))
    page.get_by_role("menuitem", name="Nbgrader").click()
    page.locator(".lm-Menu").get_by_text("Formgrader", exact=True).click()
    pages = page.frame_locator("iframe")

    units = pages.locator("#main-table td.name")
    expect(units).to_have_count(9)
    assert units.all_inner_texts() == sorted(path.parent.name for path in graded.folder.glob("source/*/*.ipynb"))
    expect(row(pages, UNIT).locator(".num-submissions")).to_have_text("3")

    row(pages, UNIT).locator(".num-submissions a").click()
    for student in ("ada", "emmy", "bob"):
        expect(row(pages, student).locator(".status")).to_have_text("needs autograding")
        press(pages, student, "autograde", f"Successfully autograded '{UNIT}' for student '{student}'.")
    expect(row(pages, "ada").locator(".score")).to_have_text(f"{CODE_POINTS} / {POINTS}")
    expect(row(pages, "emmy").locator(".score")).to_have_text(f"7.5 / {POINTS}")
    expect(row(pages, "bob").locator(".score")).to_have_text(f"0.33 / {POINTS}")
    expect(row(pages, "emmy").locator(".status")).to_have_text("needs manual grading")
    expect(row(pages, "bob").locator(".status")).to_have_text("graded")
    assert graded.scores() == {"ada": (9, 9), "emmy": (7.5, 7.5), "bob": (0.333333, 0.333333)}

    pages.get_by_role("link", name="Manual Grading").click()
    pages.locator(f'a[href$="/gradebook/{UNIT}"]').click()
    pages.locator(f'a[href$="/gradebook/{UNIT}/{UNIT}"]').click()
    expect(row(pages, "Noether").locator(".written-score")).to_have_text("0 / 4")
    pages.get_by_role("button", name="Show All Names").click()
    row(pages, "Noether").get_by_role("link", name="Noether, Emmy").click()

    variance = judged(pages, "variance")
    expect(variance).to_contain_text("wrong: 0 of 3 checks passed")
    expect(variance).to_contain_text(SAMPLE_NAMED)
    expect(judged(pages, "covariance")).to_contain_text("wrong: 2 of 3 checks passed")
    expect(pages.locator("#check-covariance")).to_have_attribute("placeholder", "1.5")
    expect(pages.get_by_text(ANSWER)).to_be_visible()
    grade_by_hand(page, pages, "u1-outlier", "2")
    grade_by_hand(page, pages, "u1-parabola", "1.5", COMMENT)
    assert graded.scores()["emmy"] == (7.5, 11)
    with gradebook(graded.folder) as book:
        assert book.find_comment("u1-parabola", UNIT, UNIT, "emmy").manual_comment == COMMENT
    alone = page.context.new_page()
    alone.goto(page.frames[-1].url)
    judgement, answer = (alone.locator(".cell").filter(has=alone.locator(f"#{name}")) for name in QUESTIONED)
    expect(answer.locator("textarea")).to_have_value(COMMENT)
    photograph(alone, "formgrader.png", judgement, answer)
    alone.close()

    pages.locator(f'a[href$="/gradebook/{UNIT}/{UNIT}"]').click()
    expect(row(pages, "Noether").locator(".score")).to_have_text(f"11 / {POINTS}")
    expect(row(pages, "Noether").locator(".needs-manual-grade .glyphicon-ok")).to_have_count(0)
    expect(row(pages, "Lovelace").locator(".needs-manual-grade .glyphicon-ok")).to_have_count(1)

    pages.get_by_role("link", name="Manage Assignments").click()
    row(pages, UNIT).locator(".num-submissions a").click()
    press(pages, "emmy", "generate-feedback", f"Successfully generated feedback for '{UNIT}' for student 'emmy'.")
    press(pages, "emmy", "release-feedback", f"Successfully released feedback for '{UNIT}' for student 'emmy'.")

    page.goto(graded.at(f"files/class/feedback/emmy/{UNIT}/{UNIT}.html"))
    expect(page.locator(".total")).to_have_text(f"11 of {POINTS} points")
    for part, points in {"variance": "0 / 1", "covariance": "1.5 / 2", "u1-parabola": "1.5 / 2"}.items():
        line = page.locator(".parts tr").filter(has=page.get_by_role("link", name=part, exact=True))
        expect(line.locator(".points")).to_have_text(points)
    page.get_by_role("link", name="variance", exact=True).click()
    expect(judged(page, "variance").get_by_text(SAMPLE_NAMED).first).to_be_in_viewport()
    expect(page.get_by_text(COMMENT)).to_be_visible()
    released = list((graded.folder.parents[1] / "exchange").rglob("*.html"))
    assert [path.read_bytes() for path in released] == [
        (graded.folder / "feedback" / "emmy" / UNIT / f"{UNIT}.html").read_bytes()
    ]


def row(pages: FrameLocator, text: str) -> Locator:
    return pages.locator("#main-table tr", has_text=text)


def press(pages: FrameLocator, student: str, button: str, message: str) -> None:
    """Presses a button in a student's line, and waits until the page says that it is done."""
    row(pages, student).locator(f".{button} a").click()
    told = pages.locator(".modal-body")
    expect(told).to_contain_text(message)
    pages.get_by_role("button", name="OK").click()
    expect(told).to_have_count(0)


def judged(pages: FrameLocator | Page, exercise: str) -> Locator:
    """The table of an exercise's verdicts in the notebook."""
    return pages.locator(".goodinit").filter(has=pages.locator(".head b", has_text=re.compile(rf"\b{exercise}$")))


def grade_by_hand(page: Page, pages: FrameLocator, question: str, points: str, comment: str = "") -> None:
    """Types points and a comment; each is saved when the next field is entered."""

    def saved(response: Any) -> bool:
        return response.request.method == "PUT" and "/formgrader/api/" in response.url

    field = pages.locator(f"#{question}")
    field.fill(points)
    with page.expect_response(saved) as stored:
        field.press("Tab")
    assert stored.value.ok
    if comment:
        pages.locator(f"#{question}-comment").fill(comment)
        with page.expect_response(saved) as stored:
            field.focus()
        assert stored.value.ok


def photograph(page: Page, name: str, first: Locator, last: Locator) -> None:
    """Takes the picture of what lies between two elements, in the folder that GOODINIT_SCREENSHOT names."""
    folder = os.environ.get("GOODINIT_SCREENSHOT")
    if folder:
        top, bottom = first.bounding_box(), last.bounding_box()
        assert top and bottom
        height = bottom["y"] + bottom["height"] - top["y"]
        clip = {"x": top["x"] - 8, "y": top["y"] - 8, "width": top["width"] + 16, "height": height + 16}
        page.screenshot(path=Path(folder, name), full_page=True, clip=clip)


# -- the student's notebook


def test_a_notebook_shows_verdicts_and_hints(graded: Class, page: Page) -> None:
    place = graded.folder.parent / "student"
    place.mkdir()
    shutil.copy(graded.folder / "release" / UNIT / f"{UNIT}.ipynb", place)
    page.goto(graded.at(f"lab/tree/student/{UNIT}.ipynb"))
    run_all(page)
    expect(shown(page, "mean")).to_contain_text("not started")
    expect(shown(page, "variance_shortcut")).to_contain_text("not started")

    write(page, "def mean", "def mean(t):\n    return t.sum() / t.numel()\n")
    expect(shown(page, "mean")).to_contain_text("public checks passed (3)")
    write(page, "def variance", SAMPLE)
    expect(shown(page, "variance")).to_contain_text("wrong: 0 of 3 public checks passed")
    expect(shown(page, "variance")).to_contain_text(SAMPLE_NAMED)
    hint = shown(page, "variance").get_by_text("How far is each element from the mean?")
    expect(hint).to_be_hidden()
    shown(page, "variance").get_by_text("Hint", exact=True).click()
    expect(hint).to_be_visible()
    answer = page.locator(".jp-Notebook .jp-CodeCell", has_text="def variance").first
    answer.evaluate("cell => cell.scrollIntoView()")
    photograph(page, "notebook.png", answer, shown(page, "variance"))

    write(page, "def variance", POPULATION)
    expect(shown(page, "variance")).to_contain_text("public checks passed (3)")
    # all cells once more, in the same kernel: nothing that was right becomes wrong
    run_all(page)
    expect(shown(page, "standard_deviation")).to_contain_text("not started")
    expect(shown(page, "variance")).to_contain_text("public checks passed (3)")


def shown(page: Page, exercise: str) -> Locator:
    """What a check of an exercise shows in the notebook."""
    return page.locator(".jp-Notebook .jp-CodeCell", has_text=f'check("{exercise}")').locator(".goodinit")


def run_all(page: Page) -> None:
    """Runs all cells of the notebook in the kernel that it has."""
    idle = page.locator("#jp-bottom-panel").get_by_text("Python 3 (ipykernel) | Idle")
    expect(idle).to_be_visible()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.locator(".lm-Menu").get_by_text("Run All Cells", exact=True).click()
    expect(idle).to_be_hidden()
    expect(idle).to_be_visible()


def write(page: Page, line: str, text: str) -> None:
    """Types an answer over a cell's text, and runs it and the check below."""
    cell = page.locator(".jp-Notebook .jp-CodeCell", has_text=line).first
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
