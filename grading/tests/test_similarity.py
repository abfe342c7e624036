"""`goodinit similar`: what two students share and the course does not is found and shown, and nothing in it runs."""

from __future__ import annotations

import contextlib
import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("copydetect", reason="comparing takes copydetect, which is not installed")

from grading.build import STUBS
from grading.cli import main
from grading.course import Course
from grading.nbgrader import _similarity
from grading.nbgrader._similarity import COMMON, Document, Report, compare

from .conftest import ROOT

# one's own way to do what others do otherwise
OWN = """\
def variance(t):
    total, squares, many = 0.0, 0.0, t.numel()
    for value in t.flatten().tolist():
        total += value
        squares += value * value
    centre = total / many
    return squares / many - centre ** 2
"""
COPIED = """\
# my very own work
def variance(numbers):
    s, q, n = 0.0, 0.0, numbers.numel()
    for v in numbers.flatten().tolist():
        s += v  # add
        q += v * v
    m = s / n

    return q / n - m ** 2
"""
OTHERS = [
    """\
def variance(t):
    d = t - t.sum() / t.numel()
    return (d @ d.T).trace() / len(d) if d.dim() == 2 else d.dot(d) / len(d)
""",
    """\
def variance(t):
    rows = [float(x) for x in t.reshape(-1)]
    mid = sum(rows) / len(rows)
    return torch.tensor(sum(abs(x - mid) ** 2 for x in rows) / len(rows))
""",
    """\
def variance(t):
    a = numpy.asarray(t, dtype="float64").ravel()
    a -= a.mean()
    return torch.as_tensor((a * a).sum() / a.size)
""",
    "variance = lambda t: (t.square().sum() - t.sum().square() / t.numel()).div(t.numel()).clamp_min(0.0)\n",
]


def hand_in(folder: Path, texts: dict[str, str], unit: str = "u1_statistics") -> Path:
    for student, text in texts.items():
        (folder / student).mkdir(parents=True)
        (folder / student / f"{unit}.py").write_text(text, encoding="utf-8")
    return folder


def notebook(*cells: str, locked: str = "") -> str:
    entries = [(text, {}) for text in cells] + [(locked, {"nbgrader": {"locked": True}})]
    return json.dumps(
        {
            "cells": [
                {"cell_type": "code", "id": f"c{n}", "metadata": m, "outputs": [], "execution_count": None, "source": t}
                for n, (t, m) in enumerate(entries)
            ],
            "metadata": {},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


def compared(course: Course, folder: Path, *targets: str, by_exercise: bool = False) -> Report:
    exercises = [exercise for target in targets or ("u1",) for exercise in course.resolve(target)]
    return compare(course, folder, exercises, by_exercise=by_exercise)


def goodinit(*words: object) -> int:
    with contextlib.chdir(ROOT):
        return main([str(word) for word in words])


@pytest.mark.parametrize("by_exercise", [False, True])
def test_a_copy_with_other_names_and_comments_is_found(course: Course, tmp_path: Path, by_exercise: bool) -> None:
    texts = {f"other-{n}": text for n, text in enumerate(OTHERS)}
    found = compared(course, hand_in(tmp_path, {**texts, "ada": OWN, "eve": COPIED}), by_exercise=by_exercise)
    assert [pair.students for pair in found.pairs] == [("ada", "eve")]
    (match,) = found.pairs[0].matches
    assert match.target == ("variance" if by_exercise else "u1_statistics")
    assert match.shares == (1, 1)
    assert found.students == len(OTHERS) + 2


def test_a_passage_within_other_work_is_found(course: Course, tmp_path: Path) -> None:
    more = OTHERS[1].replace("variance", "helper") + OTHERS[2].replace("variance", "another")
    found = compared(course, hand_in(tmp_path, {"ada": OWN, "eve": more + COPIED, "joe": OTHERS[3]}))
    (pair,) = found.pairs
    assert pair.students == ("ada", "eve")
    assert pair.matches[0].shares[0] > 0.9 > pair.matches[0].shares[1]


def test_reference_and_stub_are_nobodys_own(course: Course, tmp_path: Path) -> None:
    texts = {}
    for name, folder in (("reference", ROOT / "solutions"), ("stub", STUBS)):
        texts |= {f"{name}-{n}": (folder / "u7_normalization.py").read_text(encoding="utf-8") for n in range(3)}
    assert compared(course, hand_in(tmp_path, texts, "u7_normalization"), "u7").pairs == []


def test_work_within_the_stub_is_compared(course: Course, tmp_path: Path) -> None:
    stub = (STUBS / "u1_statistics.py").read_text(encoding="utf-8")
    texts = {name: f"{stub}\n\n{text}" for name, text in (("ada", OWN), ("eve", COPIED), ("joe", OTHERS[1]))}
    assert [pair.students for pair in compared(course, hand_in(tmp_path, texts)).pairs] == [("ada", "eve")]


def test_what_many_have_written_is_how_one_writes_it(course: Course, tmp_path: Path) -> None:
    folder = hand_in(tmp_path, {f"s{n:02}": f"{OWN}\nx = {n}\n" for n in range(COMMON)})
    assert len(compared(course, folder).pairs) == COMMON * (COMMON - 1) // 2
    hand_in(folder, {"one more": OWN})
    assert compared(course, folder).pairs == []


def test_text_that_repeats_itself_is_not_lost(course: Course, tmp_path: Path) -> None:
    twice = OWN + OWN.replace("variance", "again") + OWN.replace("variance", "once_more")
    found = compared(course, hand_in(tmp_path, {"ada": twice, "eve": twice, "joe": OTHERS[1]}))
    assert [(pair.students, pair.matches[0].shares) for pair in found.pairs] == [(("ada", "eve"), (1, 1))]


def test_much_shared_text_comes_first(course: Course, tmp_path: Path) -> None:
    texts = {"ada": OWN + OTHERS[1], "eve": COPIED + OTHERS[1], "joe": OTHERS[0] + OTHERS[1].replace("t", "q")}
    found = compared(course, hand_in(tmp_path, texts))
    assert found.pairs[0].students == ("ada", "eve")
    assert [pair.weight for pair in found.pairs] == sorted((pair.weight for pair in found.pairs), reverse=True)


def test_notebooks_and_scripts_are_one_language(course: Course, tmp_path: Path) -> None:
    folder = hand_in(tmp_path, {"ada": OWN, "joe": OTHERS[0]})
    (folder / "eve").mkdir()
    (folder / "eve" / "u1_statistics.ipynb").write_text(notebook("%matplotlib inline\n!ls", COPIED))
    assert [pair.students for pair in compared(course, folder).pairs] == [("ada", "eve")]
    assert [pair.students for pair in compared(course, folder, by_exercise=True).pairs] == [("ada", "eve")]


def test_cells_that_are_given_do_not_count(course: Course, tmp_path: Path) -> None:
    for name, text in (("ada", OTHERS[0]), ("eve", OTHERS[1])):
        (tmp_path / f"{name}.ipynb").write_text(notebook(text, locked=OWN))
    assert compared(course, tmp_path).pairs == []


def test_a_course_of_nbgraders_is_read_as_it_is(course: Course, tmp_path: Path) -> None:
    (tmp_path / "nbgrader_config.py").write_text("raise SystemExit")
    for student, text in (("ada", OWN), ("eve", COPIED), ("joe", OTHERS[1])):
        for unit in ("u1_statistics", "u7_normalization"):
            folder = tmp_path / "submitted" / student / unit
            folder.mkdir(parents=True)
            (folder / f"{unit}.ipynb").write_text(notebook(text if unit == "u1_statistics" else ""))
    for folder in (tmp_path, tmp_path / "submitted"):
        found = compared(course, folder, "u1", "u7")
        assert [(pair.students, [match.target for match in pair.matches]) for pair in found.pairs] == [
            (("ada", "eve"), ["u1_statistics"])
        ]
        assert found.notes == []


def test_what_cannot_be_read_is_named_and_the_others_are_compared(course: Course, tmp_path: Path) -> None:
    hand_in(tmp_path, {"ada": OWN, "eve": COPIED, "broken": "def variance(t:\n" + OTHERS[1]})
    for name, data in {
        "damaged.ipynb": b'{"cells": [',
        "binary.py": b"\xff\xfe\x00",
        "long.py": b"x = 1\n" * 50_000,
        "report.pdf": b"no code",
        "null.ipynb": b"null",
    }.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "link.py").symlink_to("/etc/passwd")
    (tmp_path / "nothing").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    found = compared(course, tmp_path)
    assert [pair.students for pair in found.pairs] == [("ada", "eve")]
    for name in ("damaged.ipynb", "binary.py", "long.py", "report.pdf", "null.ipynb", "link.py", "nothing", "pipe.py"):
        assert sum(note.startswith(name) for note in found.notes) == 1
    assert all("\n" not in note for note in found.notes)
    by_exercise = compared(course, tmp_path, by_exercise=True)
    assert any(note.startswith("broken: u1_statistics cannot be taken apart") for note in by_exercise.notes)
    assert [pair.students for pair in by_exercise.pairs] == [("ada", "eve")]


def test_nothing_that_was_handed_in_runs(course: Course, tmp_path: Path) -> None:
    trap = f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit\n"
    compared(course, hand_in(tmp_path / "class", {"ada": trap + OWN, "eve": trap + COPIED}), by_exercise=True)
    compared(course, tmp_path / "class")
    assert not (tmp_path / "ran").exists()


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.marked: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.inside = tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.inside == "mark":
            self.marked.append(data)
            self.inside = ""

    inside = ""


def test_a_page_shows_passages_and_runs_nothing(course: Course, tmp_path: Path) -> None:
    evil = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"
    odd = OWN.replace("centre = total / many", f"centre = total / many  # {evil} \x1b[31m\u202egnp")
    hostile = f'{odd}x = """{evil}"""\n'
    name = evil.replace("/", "")
    out = tmp_path / "page.html"
    folder = hand_in(tmp_path / "class", {name: hostile, "eve": COPIED + f"y = '''{evil}'''\n", "joe": OTHERS[1]})
    assert goodinit("similar", folder, "--unit", "u1", "--out", out) == 0
    text = out.read_text(encoding="utf-8")
    shown = _Page(text)
    assert not shown.tags & {"script", "img", "iframe", "object", "link", "form"}
    assert {name for name in shown.attributes if name.startswith("on")} == set()
    assert "default-src 'none'" in html.unescape(text)
    assert evil in shown.text
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "For review, not a verdict." in shown.text
    assert any("q += v * v" in passage for passage in shown.marked)
    assert not any("my very own work" in passage for passage in shown.marked)


def test_the_command_says_what_it_is_and_is_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert goodinit("similar", hand_in(tmp_path, {"ada": OWN, "eve": COPIED}), "--unit", "u1") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "ada, eve: u1_statistics 100%/100%" in said
    assert "never says why they are alike" in said
    assert not re.search("plagiar|cheat|fraud", said, re.IGNORECASE)


texts = st.text(st.sampled_from("ab #\n'é(\t"), max_size=120)


@given(texts, st.data())
def test_an_excerpt_shows_the_text_itself(text: str, data: st.DataObject) -> None:
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    places = np.array([ends[: len(ends) // 2 * 2 : 2], ends[1::2]])
    lines = text.split("\n")
    excerpt = _similarity._excerpt(text, places)
    for line in excerpt:
        if line.number:
            assert "".join(piece for piece, _ in line.pieces) == lines[line.number - 1]
    marked = "".join(piece for line in excerpt for piece, shared in line.pieces if shared)
    chosen = [i for i in range(len(text)) if any(start <= i < end for start, end in places.T)]
    prose = [i for found in _similarity.PROSE.finditer(text) for i in range(found.start(), found.end())]
    assert marked == "".join(text[i] for i in chosen if text[i] != "\n" and i not in prose)


@given(st.text(max_size=200))
def test_any_text_can_be_taken_apart(text: str) -> None:
    mine = _similarity._Fingerprint(Document("ada", "u1_statistics", text))
    mine.discount(set(list(mine.whole.hashes)[::2]))
    assert mine.whole.token_coverage >= len(mine.whole.hashes)


def test_no_more_pairs_are_looked_at_closely_than_is_bearable(
    course: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closely = []
    match = _similarity._match
    monkeypatch.setattr(_similarity, "_match", lambda *pair: closely.append(pair) or match(*pair))
    monkeypatch.setattr(_similarity, "CANDIDATES", 7)
    monkeypatch.setattr(_similarity, "BLOCK", 11)
    found = compared(course, hand_in(tmp_path, {f"s{n}": OWN for n in range(COMMON)}))
    assert len(closely) == len(found.pairs) == 7


@pytest.mark.slow
def test_a_report_is_the_same_each_time(course: Course, tmp_path: Path) -> None:
    """copydetect hashes as Python does, which is salted; what is found must not depend on it."""
    texts = {f"s{n}": text + other for n, text in enumerate((OWN, COPIED)) for other in OTHERS[n : n + 2]}
    hand_in(tmp_path / "class", {**texts, **{f"other-{n}": text for n, text in enumerate(OTHERS)}})
    words = ("similar", str(tmp_path / "class"), "--unit", "u1", "--out")
    assert goodinit(*words, tmp_path / "here.html") == 0
    for salt in {"1", "2"} - {os.environ.get("PYTHONHASHSEED", "2")}:
        there = [sys.executable, "-m", "grading.cli", *words, str(tmp_path / "there.html")]
        subprocess.run(there, check=True, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True)
        assert (tmp_path / "here.html").read_bytes() == (tmp_path / "there.html").read_bytes()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere", "there is no folder"),
        ("ada/u1_statistics.py", "is no folder"),
        ("empty", "holds no two submissions that can be compared"),
        ("alone", "holds no two submissions that can be compared"),
    ],
)
def test_bad_words_give_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, sentence: str
) -> None:
    hand_in(tmp_path, {"ada": OWN})
    hand_in(tmp_path / "alone", {"ada": OWN})
    (tmp_path / "empty").mkdir()
    assert goodinit("similar", tmp_path / name) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = hand_in(tmp_path / "class", {"ada": OWN, "eve": COPIED}), tmp_path / "file" / "page.html"
    page.parent.write_text("")
    assert goodinit("similar", folder, "--out", page) == 2
    assert capsys.readouterr().err == f"goodinit: {page} cannot be written: Not a directory\n"


def test_a_page_overwrites_nothing_but_an_earlier_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, page = hand_in(tmp_path / "class", {"ada": OWN, "eve": COPIED}), tmp_path / "page.html"
    theirs = folder / "ada" / "u1_statistics.py"
    assert goodinit("similar", folder, "--out", theirs) == 2
    sentence = "holds something else; --out takes a new file, or a page that `goodinit similar` has written"
    assert capsys.readouterr().err == f"goodinit: {theirs} {sentence}\n"
    assert theirs.read_text(encoding="utf-8") == OWN
    page.touch()
    assert goodinit("similar", folder, "--unit", "u1", "--out", page) == 0
    assert goodinit("similar", folder, "--unit", "u1", "--out", page) == 0


def test_without_copydetect_there_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "copydetect", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert goodinit("similar", hand_in(tmp_path, {"ada": OWN, "eve": COPIED})) == 2
    assert capsys.readouterr().err == (
        "goodinit: comparing submissions needs copydetect: pip install 'goodinit[instructor]'\n"
    )
