"""`goodinit grade`: a class of the right, the wrong and the hostile, graded, stopped, and graded again."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from grading.classroom import _entries, _queue, kit_version, recorded
from grading.classroom._entries import Entry, Taken, find, take
from grading.classroom._output import Output, OutputError, as_csv
from grading.classroom._progress import Progress
from grading.classroom._queue import LOST, Job, Queue
from grading.cli import main
from grading.course import Course, load
from grading.sandbox import Sandbox
from grading.subject import _sources
from grading.verdict import clean

from .conftest import ROOT

SCRIPT = "<script>alert(1)</script>"
EVIL = f"\\x1b[31m{SCRIPT}\\x1b]0;title\\x07\\u202egnp.exe \\r\\x9b2J"
MEAN = "def mean(t):\n    return t.sum() / t.numel()\n"
VARIANCE = "def variance(t):\n    return mean((t - mean(t)) ** 2)\n"
TARGETS = ("--unit", "mean", "variance")


def notebook(*cells: str) -> str:
    entries = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "outputs": [], "execution_count": None, "source": cell}
        for n, cell in enumerate(cells)
    ]
    return json.dumps({"cells": entries, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


TEXTS: dict[str | bytes, str | bytes] = {
    "right.py": MEAN + VARIANCE,
    "wrong.py": MEAN + "def variance(t):\n    return ((t - mean(t)) ** 2).sum() / (t.numel() - 1)\n",
    "partly.py": MEAN,
    "empty.py": "",
    "crashing.py": "def mean(t):\n    return t.no_such_thing()\n" + VARIANCE,
    "syntax.py": "def mean(t:\n    return 0\n",
    "delegating.py": MEAN + "import torch\ndef variance(t):\n    return torch.var(t, correction=0)\n",
    "looping_at_import.py": "while True: pass\n",
    "looping.py": "def mean(t):\n    while True: pass\n",
    "exiting.py": "import os\ndef mean(t):\n    os._exit(0)\n" + VARIANCE,
    "exiting_at_import.py": "import os\nos._exit(0)\n",
    "hostile.py": f'def mean(t):\n    raise ValueError("{EVIL}")\ndef variance(t):\n    return "{EVIL}"\n',
    "notebook.ipynb": notebook("%matplotlib inline\n" + MEAN, VARIANCE),
    "damaged.ipynb": '{"cells": [',
    "twenty.py": b"x = 1  \n" * 2_500_000,
    "report.pdf": "no submission",
    # another one's name, in the same letters and in others
    "right.ipynb": notebook(MEAN),
    "RIGHT.py": "",
    # names
    f"{SCRIPT.replace('/', '')}.py": MEAN,
    '=HYPERLINK("evil").py': MEAN,
    "a%2Fb..c.py": MEAN,
    "tab\tand\nline\x1b[31m.py": MEAN,
    b"\xff\xfe.py": MEAN,
    "x" * 240 + ".py": MEAN,
    # modules that a judge might import from beside a submission
    "torch.py": "raise SystemExit\n",
    "nbformat.py": "raise SystemExit\n",
}


def hand_in(folder: Path) -> None:
    folder.mkdir()
    for name, text in TEXTS.items():
        data = text.encode() if isinstance(text, str) else text
        (folder / os.fsdecode(name)).write_bytes(data)
    (folder / "outside.py").symlink_to("/etc/passwd")
    (folder / "neighbour.py").symlink_to("right.py")
    (folder / "elsewhere").symlink_to("/etc")
    os.mkfifo(folder / "pipe.py")
    (folder / "nothing").mkdir()
    mixed = folder / "Folder of Zoë"
    mixed.mkdir()
    (mixed / "u1_statistics.py").write_text(MEAN + VARIANCE)
    (mixed / "u3_activations.py").symlink_to(ROOT / "solutions" / "u3_activations.py")
    (mixed / "torch.py").write_text("raise SystemExit")
    (folder / ".hidden.py").write_text(MEAN)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Path:
    """A copy of the course in which time is short."""
    root = tmp_path_factory.mktemp("course")
    for name in ("solutions", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "course.toml").read_text(encoding="utf-8")
    text = text.replace("import_seconds = 10", "import_seconds = 2").replace(
        "\ncheck_seconds = 30", "\ncheck_seconds = 2"
    )
    (root / "course.toml").write_text(text, encoding="utf-8")
    hand_in(root / "handed_in")
    return root


def goodinit(root: Path, *words: str) -> int:
    with contextlib.chdir(root):
        return main(list(words))


def grade(root: Path, out: str, *words: str) -> int:
    return goodinit(root, "grade", "handed_in", "--out", out, "--seed", "3", *TARGETS, *words)


@pytest.fixture(scope="module")
def graded(checkout: Path) -> Path:
    """The folder of a run that nothing disturbed."""
    assert grade(checkout, "out", "--jobs", "2") == 1
    return checkout / "out"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def records(folder: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "records").iterdir()]
    return {record["submission"]: record for record in found}


def points(record: dict[str, Any]) -> list[float]:
    return [record["exercises"][name]["points"] for name in ("mean", "variance")]


# -- what is found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("right.py", [1, 1]),
        ("partly.py", [1, 0]),
        ("empty.py", [0, 0]),
        ("delegating.py", [1, 0]),
        ("notebook.ipynb", [1, 1]),
        ("right.ipynb", [1, 0]),
        ("RIGHT.py", [0, 0]),
        ("Folder of Zoë", [1, 1]),
        ("exiting_at_import.py", [0, 0]),
        ("looping_at_import.py", [0, 0]),
    ],
)
def test_everybody_gets_their_points(graded: Path, name: str, expected: list[float]) -> None:
    assert points(records(graded)[name]) == expected


@pytest.mark.parametrize("name", ["crashing.py", "exiting.py", "looping.py", "hostile.py"])
def test_one_broken_exercise_does_not_cost_the_other(graded: Path, name: str) -> None:
    record = records(graded)[name]
    assert points(record) == [0, 0 if name in ("hostile.py", "looping.py") else 1]
    assert record["exercises"]["mean"]["verdict"] == "wrong"
    assert not record["problem"]


def test_a_known_misunderstanding_is_named(graded: Path) -> None:
    record = records(graded)["wrong.py"]
    assert points(record)[0] == 1 and 0 <= points(record)[1] < 1
    assert any(verdict["bug"] for verdict in record["verdicts"])


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("syntax.py", "SyntaxError"),
        ("damaged.ipynb", "cannot be read"),
        ("twenty.py", "is larger than 4 MB"),
        ("report.pdf", "is neither a folder nor"),
        ("outside.py", "is a link"),
        ("neighbour.py", "is a link"),
        ("elsewhere", "is a link"),
        ("pipe.py", "is no regular file"),
        ("nothing", "holds no file of this course"),
        ("Folder of Zoë", "u3_activations.py is a link"),
    ],
)
def test_what_cannot_be_read_is_recorded_with_the_reason(graded: Path, name: str, reason: str) -> None:
    assert reason in records(graded)[name]["problem"]


def test_delegation_is_for_a_person_to_review(graded: Path) -> None:
    found = records(graded)
    assert "torch.var" in str(found["delegating.py"]["review"]["variance"])
    assert not found["right.py"]["review"]
    assert "Please review" in (graded / "pages" / "delegating.html").read_text(encoding="utf-8")


def test_a_record_says_what_it_is_of(graded: Path) -> None:
    record = records(graded)["right.py"]
    assert record["student"] == "right.py" and record["kit"].startswith("0.") and len(record["digest"]) == 64
    assert (record["points"], record["max_points"]) == (2, 2)
    assert record["seed"] == records(graded)["wrong.py"]["seed"]
    assert set(record["options"]) == {"exercises", "slow", "hints", "data"}


# -- names and what reaches people


def test_everything_handed_in_has_a_record_a_page_and_a_row(graded: Path, checkout: Path) -> None:
    visible = [name for name in os.listdir(checkout / "handed_in") if not name.startswith(".")]
    assert len(records(graded)) == len(visible)
    assert len(list((graded / "pages").iterdir())) == len(visible)
    rows = list(csv.reader((graded / "grades.csv").read_text(encoding="utf-8").splitlines()))
    assert rows[0] == ["student", "points", "max", "u1_statistics", "problem"]
    assert len(rows) == len(visible) + 1
    assert ["right.py", "2", "2", "2", ""] in rows


def test_file_names_are_plain_and_unique_in_any_case(graded: Path) -> None:
    names = [path.name for path in (graded / "records").iterdir()]
    assert all(name.isascii() and len(name) < 120 and not set(name) & set("<>=\"'\\\n\t\x1b ") for name in names)
    assert len({name.casefold() for name in names}) == len(names)


def test_nothing_that_acts_reaches_any_file(graded: Path) -> None:
    assert {"", ".json", ".html", ".csv"} >= {path.suffix for path in graded.rglob("*")}
    for name, data in files(graded).items():
        text = data.decode()
        assert text == clean(text), name
        assert "�" not in name


class Elements(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_pages_hold_no_script_and_forbid_it(graded: Path) -> None:
    for path in (*(graded / "pages").iterdir(), graded / "index.html"):
        elements = Elements(path.read_text(encoding="utf-8")).found
        assert not {tag for tag, _ in elements} & {"script", "iframe", "object", "img", "form", "link", "base", "b1"}
        assert not any(name.startswith("on") for _, attributes in elements for name in attributes)
        policy = next(a["content"] or "" for _, a in elements if a.get("http-equiv") == "Content-Security-Policy")
        assert "default-src 'none'" in policy and "unsafe" not in policy
    hostile = (graded / "pages" / "hostile.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in hostile


def test_the_index_links_every_page(graded: Path) -> None:
    from urllib.parse import unquote

    links = [a["href"] or "" for tag, a in Elements((graded / "index.html").read_text()).found if tag == "a"]
    assert sorted(unquote(link) for link in links) == sorted(f"pages/{p.name}" for p in (graded / "pages").iterdir())


def test_no_cell_of_the_table_is_a_formula(graded: Path) -> None:
    rows = list(csv.reader((graded / "grades.csv").read_text(encoding="utf-8").splitlines()))
    assert not any(cell.startswith(tuple("=+-@\t\r")) for row in rows for cell in row)
    assert as_csv([["=1", " =1", "+1", "-1", "@x", "＝1", "a=1"]]).strip() == "'=1,' =1,'+1,'-1,'@x,'＝1,a=1"  # noqa: RUF001


def test_no_record_names_a_place_on_this_machine(graded: Path, checkout: Path) -> None:
    for name, data in files(graded).items():
        assert str(checkout).encode() not in data and b"/judge-" not in data, name


def test_clean_takes_out_what_acts() -> None:
    text = "a\x1b[1;31mb\x1b]8;;http://x\x1b\\c\x9b2Jd\x00\x7f\x85e\u202ef\u2066g\ud800h\r\n\ti\x1bM"
    assert clean(text) == "abcdefgh\n\ti"
    assert clean("naïve ∑ 漢字 ✓") == "naïve ∑ 漢字 ✓"


def test_submissions_that_read_the_same_are_told_apart(tmp_path: Path) -> None:
    for name in ("ada", "ada ", "ada.py", "emmy.py"):
        (tmp_path / name).mkdir()
    for name in ("ada.py", "emmy.py"):
        (tmp_path / name).rmdir()
        (tmp_path / name).touch()
    shown = {entry.raw: entry.shown_student for entry in find(tmp_path)}
    assert len(set(shown.values())) == len(shown) == 4
    assert shown["emmy.py"] == "emmy" and shown["ada.py"] == "ada.py" and shown["ada "] == "ada%20"


def test_links_and_pipes_are_never_opened(course: Course, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "u1_statistics.py").write_text("secret")
    folder = tmp_path / "handed_in"
    (folder / "anna").mkdir(parents=True)
    (folder / "anna" / "u1_statistics.py").symlink_to(secret / "u1_statistics.py")
    (folder / "berta").symlink_to(secret)
    os.mkfifo(folder / "anna" / "u2_initialization.py")
    taken = {entry.raw: take(course, folder, entry) for entry in find(folder)}
    assert not taken["anna"].files and not taken["berta"].files
    assert taken["anna"].problem == "u1_statistics.py is a link; u2_initialization.py is no regular file"
    # exchanged after it was listed
    entry = next(entry for entry in find(folder) if entry.raw == "anna")
    shutil.rmtree(folder / "anna")
    (folder / "anna").symlink_to(secret)
    assert not take(course, folder, entry).files


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_notebook_is_taken_whatever_its_encoding_and_without_its_outputs(
    course: Course, tmp_path: Path, encoding: str
) -> None:
    output = {"output_type": "stream", "name": "stdout", "text": "x" * 10_000_000}
    cell = {"cell_type": "code", "source": "def mean(t): ...", "outputs": [output], "metadata": {}}
    (tmp_path / "ada.ipynb").write_bytes(json.dumps({"cells": [cell]}).encode(encoding))
    (entry,) = find(tmp_path)
    (data,) = take(course, tmp_path, entry).files.values()
    assert json.loads(data) == {"cells": [{**cell, "outputs": []}]}
    (tmp_path / "ada.ipynb").write_bytes(b"x" * 50_000_001)
    assert take(course, tmp_path, entry).problem == (
        "ada.ipynb cannot be read: it is larger than 50 MB; clear its outputs and save it again"
    )


def test_scripts_are_taken_as_far_as_they_are_read() -> None:
    assert _entries.MAX_BYTES == _sources.MAX_BYTES


# -- again


def test_killed_and_started_again_it_ends_as_if_nothing_had_been(graded: Path, checkout: Path) -> None:
    words = ["grade", "handed_in", "--out", "again", "--seed", "3", *TARGETS, "--jobs", "1"]
    run = subprocess.Popen(
        [sys.executable, "-m", "grading.cli", *words], cwd=checkout, stderr=subprocess.PIPE, env={**os.environ}
    )
    kept = checkout / "again" / "records"
    wait_for(lambda: run.poll() is not None or (kept.is_dir() and len(list(kept.iterdir())) >= 5))
    run.kill()
    assert run.wait() == -signal.SIGKILL
    judges = (checkout / "again" / ".work").resolve()
    wait_for(lambda: not any(_cwd(pid).startswith(str(judges)) for pid in os.listdir("/proc") if pid.isdigit()))
    assert (checkout / "again" / ".lock").exists()
    before = {path: path.stat().st_mtime_ns for path in kept.iterdir()}
    (checkout / "again" / "records" / "wrong.json").write_text('{"half')
    assert grade(checkout, "again", "--jobs", "1") == 1
    assert files(checkout / "again") == files(graded)
    untouched = [path for path, time in before.items() if path.stat().st_mtime_ns == time]
    assert len(untouched) >= len(before) - 1


def _cwd(pid: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd")
    return ""


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_only_what_has_changed_is_graded_again(
    graded: Path, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = checkout / "changing"
    shutil.copytree(graded, out)
    for path in list((checkout / "handed_in").iterdir()):
        if path.name not in ("wrong.py", "partly.py", "outside.py", "Folder of Zoë"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    capsys.readouterr()
    assert grade(checkout, "changing") == 1
    assert "4 graded, 4 of them before" in capsys.readouterr().out
    (checkout / "handed_in" / "outside.py").unlink()
    (checkout / "handed_in" / "Folder of Zoë" / "u3_activations.py").unlink()
    (checkout / "handed_in" / "Folder of Zoë" / "notes.txt").write_text("read by nobody")
    (checkout / "handed_in" / "partly.py").write_text(MEAN + VARIANCE)
    before = files(out / "records")
    assert grade(checkout, "changing") == 0
    captured = capsys.readouterr()
    assert "3 graded, 1 of them before" in captured.out
    assert "2 of 2 graded" in captured.err
    after = files(out / "records")
    assert {name for name in after if after[name] != before[name]} == {"partly.json", "Folder%20of%20Zo%C3%AB.json"}
    assert points(records(out)["partly.py"]) == [1, 1]


@pytest.mark.parametrize(
    ("pattern", "replacement", "holds"),
    [
        (r"\Z", "\n# a word to whoever reads this\n", True),
        (r"^title = .*", 'title = "Another course"', True),
        (r"^summary = .*", 'summary = "What it is about."\ndue = 2027-03-01T23:59:00Z', True),
        (r"^papers = .*", 'papers = ["another one"]', True),
        (r"\Z", '\n[nbgrader]\ncourse_id = "spring"\nlate = { percent_per_day = 10 }\n', True),
        (r"^check_seconds = .*", "check_seconds = 4", False),
        (r'^requires = \["mean"\]', "requires = []", False),
        (r"^    \"return t.sum.*", '    "Divide.",', False),
        (r'"torch.mean", ', "", False),
        (r'^id = "variance"\n(.*)\npoints = 1', 'id = "variance"\n\\1\npoints = 2', False),
    ],
)
def test_a_record_holds_until_something_changes_that_a_verdict_follows_from(
    tmp_path: Path, pattern: str, replacement: str, holds: bool
) -> None:
    for name in ("tests", "solutions"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "course.toml"
    before = re.sub(r"(?ms)^\[nbgrader\b.*?(?=^\[|\Z)", "", (ROOT / "course.toml").read_text(encoding="utf-8"))
    after, changes = re.subn(pattern, replacement, before, count=1, flags=re.MULTILINE)
    if "points" in pattern:
        # they add up to 100
        after = re.sub("points = [3-9]", lambda found: f"points = {int(found[0][-1]) - 1}", after, count=1)
    kits = []
    for text in (before, after):
        path.write_text(text, encoding="utf-8")
        kits.append(kit_version(load(tmp_path)))
    assert changes and before != after
    assert (kits[0] == kits[1]) is holds
    with open(tmp_path / "tests" / "test_u1_statistics.py", "a", encoding="utf-8") as suite:
        suite.write("\n")
    assert kit_version(load(tmp_path)) not in kits


def test_a_judge_that_dies_or_hangs_is_replaced(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its submission is tried once more, then recorded; the next one is judged, by a new bench where that has died."""
    monkeypatch.setattr(_queue, "READ_SECONDS", 2.0)
    (tmp_path / "in").mkdir()
    for name in ("bad.py", "good.py", "unlucky.py"):
        (tmp_path / "in" / name).write_text(MEAN)
    course = load(checkout)
    setup = {"root": str(checkout), "exercises": ["mean"], "slow": False, "hints": True, "data": None}
    queue = Queue(setup, tmp_path / "work", 1, 60.0)
    benches = set()

    def kill(*, bench: bool, by: int = signal.SIGKILL) -> None:
        assert queue.bench is not None
        if bench:
            benches.add(queue.bench)
        os.kill(queue.bench.process.pid if bench else queue.judges[0].pid, by)

    misfortunes = {
        "bad.py": [partial(kill, bench=False), partial(kill, bench=False, by=signal.SIGSTOP)],
        "unlucky.py": [partial(kill, bench=True)],
    }

    def taking(entry: Entry) -> Taken:
        if misfortunes.get(entry.raw):
            misfortunes[entry.raw].pop(0)()
        return take(course, tmp_path / "in", entry)

    with queue:
        jobs = [Job(entry, 1, partial(taking, entry)) for entry in find(tmp_path / "in")]
        results = {result.job.entry.raw: result for result in queue.run(jobs)}
        assert queue.bench not in benches
    assert len(benches) == 1
    assert results["bad.py"].problem == f"{LOST}: it took too long to read or to judge"
    for name in ("good.py", "unlucky.py"):
        assert not results[name].problem
        assert {verdict["verdict"] for verdict in results[name].verdicts} == {"passed"}
    assert not list((tmp_path / "work").iterdir())


def test_one_run_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").write_text("1\n")  # left by a run that has died
    with (
        Output(tmp_path / "out"),
        pytest.raises(OutputError, match=f"process {os.getpid()}"),
        Output(tmp_path / "out"),
    ):
        raise AssertionError("two runs wrote to one folder")
    assert not (tmp_path / "out" / ".lock").exists()


# -- the command


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere", "--out", "o"], "there is no folder nowhere"),
        (["course.toml", "--out", "o"], "course.toml is no folder"),
        (["tests", "--out", "tests/o"], "among the submissions"),
        (["tests", "--out", "tests"], "among the submissions"),
        (["tests", "--out", "course.toml"], "course.toml is a file"),
        (["tests", "--out", "o", "--jobs", "0"], "--jobs takes a whole number of 1 or more, not 0"),
        (["tests", "--out", "o", "--unit", "u77"], "there is no unit or exercise 'u77'"),
        (["tests", "--out", "o", "--hints", "some"], "invalid choice: 'some'"),
        (["bare", "--out", "o"], "holds no submissions"),
        (["tests", "--out", "full"], "holds a grades.csv that no grading has written"),
    ],
)
def test_wrong_arguments_get_one_sentence(
    checkout: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (checkout / "bare").mkdir(exist_ok=True)
    (checkout / "full").mkdir(exist_ok=True)
    (checkout / "full" / "grades.csv").write_text("mine")
    try:
        assert goodinit(checkout, "grade", *words) == 2
    except SystemExit as error:
        assert error.code == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1
    assert not (checkout / "o").exists()


def test_without_a_wall_nothing_is_graded(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grading.sandbox._processes.platform_problem", lambda: "no wall here")
    monkeypatch.setattr("sys.platform", "darwin")
    assert goodinit(checkout, "grade", "tests", "--out", "o") == 2
    assert capsys.readouterr().err == "goodinit: no wall here\n"
    assert goodinit(checkout, "check", "mean", "--impl", "solutions", "--sandbox") == 2
    assert capsys.readouterr().err == "goodinit: no wall here\n"


def test_judges_of_another_installation_are_refused(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkout / "handed").mkdir()
    (checkout / "handed" / "ada.py").write_text(MEAN)
    monkeypatch.setattr("grading.startup.installation", lambda: "/elsewhere/grading")
    assert goodinit(checkout, "grade", "handed", "--out", "o", "--unit", "u1") == 2
    assert "judges would run the goodinit in" in capsys.readouterr().err


def test_check_behind_the_wall(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "right.py").write_text("import os\n" + MEAN + "os.environ.clear()\n")
    assert goodinit(checkout, "check", "mean", "--impl", "right.py", "--sandbox") == 0
    assert "✓ mean: passed" in capsys.readouterr().out
    assert os.environ
    (checkout / "dying.py").write_text("import os\ndef mean(t):\n    os._exit(0)\n")
    assert goodinit(checkout, "check", "mean", "--impl", "dying.py", "--sandbox") == 1
    assert "ended its process" in capsys.readouterr().out


def test_interrupted_it_says_how_to_go_on(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(60):
        (folder / f"s{number}.py").write_text(MEAN)
    words = ["grade", str(folder), "--out", str(tmp_path / "out"), "--unit", "mean", "--jobs", "1"]
    run = subprocess.Popen(
        [sys.executable, "-m", "grading.cli", *words], cwd=checkout, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: run.poll() is not None or len(list((tmp_path / "out").glob("records/*"))) > 2)
    run.send_signal(signal.SIGINT)
    _, said = run.communicate(timeout=60)
    assert run.returncode == 130
    assert said.splitlines()[-1].endswith("of 60 are graded, and the same command goes on from there")
    assert not (tmp_path / "out" / ".work").exists() and not (tmp_path / "out" / ".lock").exists()


def test_without_standard_error_no_progress_is_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    with Progress(2) as progress:
        progress.step()
        progress.step()
    assert capsys.readouterr().out == ""


PARTLY = """
class Callback:
    order = 0
    forward_to_learner = ("model", "opt", "batch", "epoch")
    def __getattr__(self, name):
        if name in type(self).forward_to_learner and "learn" in self.__dict__:
            return getattr(self.learn, name)
        raise AttributeError(name)
    @property
    def training(self):
        raise NotImplementedError("callback")
"""


def test_a_page_says_of_what_is_partly_done_that_it_is_not_finished(tmp_path: Path, checkout: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.py").write_text(PARTLY)
    words = ("grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--unit", "callback", "--jobs", "1")
    assert goodinit(checkout, *words) == 0
    text = (tmp_path / "out" / "pages" / "ada.html").read_text()
    assert '<span class="verdict not-finished">not finished</span>' in text
    assert text.count('<tr class="check passed">') > text.count('<tr class="check not-started">') > 0


def test_who_is_gone_is_not_exported(tmp_path: Path, checkout: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("ada", "withdrawn"):
        (folder / f"{name}.py").write_text(MEAN)
    words = ("grade", str(folder), "--out", str(out), "--fast", "--jobs", "1")
    assert goodinit(checkout, *words, "--unit", "mean") == 0
    (folder / "withdrawn.py").unlink()
    assert goodinit(checkout, *words, "--unit", "variance") == 0
    assert [path.stem for path in recorded(out)] == ["ada"]


def test_interrupted_after_the_last_record_all_is_written(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(queue: Queue, *error: object) -> None:
        end(queue, *error)
        raise KeyboardInterrupt

    end = Queue.__exit__
    monkeypatch.setattr(Queue, "__exit__", leave)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "ada.py").write_text(MEAN)
    words = ("grade", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--unit", "mean", "--jobs", "1")
    assert goodinit(checkout, *words) == 0
    assert (tmp_path / "out" / "grades.csv").is_file()
    assert (tmp_path / "out" / "index.html").is_file()


def test_a_check_that_fails_by_itself_is_told(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "course"
    shutil.copytree(checkout, root, ignore=shutil.ignore_patterns("handed_in", "out*", ".*"))
    with open(root / "tests" / "test_u1_statistics.py", "a", encoding="utf-8") as suite:
        suite.write('\n\ndef test_mean_of_none(mean):\n    """The mean of nothing."""\n    torch.tensr(mean)\n')
    for name in ("in/ada.py", "in/emmy.py"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(MEAN)
    assert goodinit(root, "grade", "in", "--out", "out", "--unit", "mean", "--jobs", "1") == 1
    [sentence] = [line for line in capsys.readouterr().err.splitlines() if "kit error" in line]
    assert "2 submissions ended in a kit error in the check test_mean_of_none of mean: " in sentence
    assert "no attribute 'tensr'); no student is at fault; please report it" in sentence
