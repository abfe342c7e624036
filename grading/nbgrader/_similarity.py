"""Finds passages that two submissions share and the course does not: something to look at, and no verdict.

Text is taken apart into tokens, names made equal, and compared by its passages of K characters, by copydetect. Passages
of the reference, of the stub and of a large part of the class are discounted: what is left is a student's own.
"""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.util
import io
import itertools
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import nbformat
import numpy as np

from grading.build import STUBS
from grading.classroom import TEMPLATES, Entry, find, take
from grading.course import Course, Exercise, Unit
from grading.subject import definitions
from grading.verdict import clean

from ._config import FILE

# characters of a passage once it is taken apart: `def F(V):return V.V(V)` has about 20
K = 25
# what so many have written is how one writes it
COMMON, COMMON_SHARE = 10, 0.2
# a pair is worth a look from this share of the smaller one's own text on, and from so many characters of it
LEAST_SHARE, LEAST_LENGTH = 0.3, 2 * K
MOST_PAIRS, CANDIDATES = 100, 400
MOST_BYTES = 100_000
# passages compared at once
BLOCK = 20_000
# lines shown around a shared passage, and lines shown at most
AROUND, MOST_LINES = 1, 60
LIMITS = (
    "Names, comments and layout do not count. What the course gives or shows to everybody does not count either, "
    f"nor does what more than {COMMON} students and {COMMON_SHARE:.0%} of the class have written. "
    "Shared text is a reason to look at two submissions, and never says why they are alike: few ways lead to some "
    "answers, and students may have learnt from the same page, from a tutor or together. Text may also be rewritten so "
    "far that nothing is found here."
)
LOOSE = "one file for all units"
PROSE = re.compile(r"^#.*$", re.MULTILINE)


class SimilarityError(Exception):
    """One sentence on why submissions cannot be compared."""


@dataclass(frozen=True)
class Document:
    """What one student has handed in for one unit or exercise."""

    student: str
    target: str
    text: str


@dataclass(frozen=True)
class Line:
    """A line of an excerpt: its number, 0 where lines were left out, and its pieces, each shared or not."""

    number: int
    pieces: tuple[tuple[str, bool], ...] = ()


@dataclass(frozen=True)
class Match:
    """What two submissions share in a unit or exercise: the share of each one's own text, its length, and where."""

    target: str
    shares: tuple[float, float]
    length: int
    texts: tuple[str, str]
    places: tuple[Any, Any]

    @property
    def weight(self) -> float:
        return max(self.shares) * self.length

    @property
    def excerpts(self) -> list[tuple[Line, ...]]:
        return [_excerpt(text, places) for text, places in zip(self.texts, self.places, strict=True)]


@dataclass
class Pair:
    """Two students who share text, and where they do."""

    students: tuple[str, str]
    matches: list[Match] = field(default_factory=list)

    @property
    def weight(self) -> float:
        """Much shared text, and text that is most of what one of them has written of their own, comes first."""
        return sum(match.weight for match in self.matches)


@dataclass
class Report:
    """All pairs worth a look, the most alike first, and sentences on what could not be compared."""

    pairs: list[Pair]
    students: int
    notes: list[str] = field(default_factory=list)


def compare(course: Course, folder: Path, exercises: Sequence[Exercise], *, by_exercise: bool = False) -> Report:
    """Compares everything in `folder`, a class as `goodinit grade` or nbgrader keeps it, unit by unit.

    Raises SimilarityError where there is nothing to compare.
    """
    if importlib.util.find_spec("copydetect") is None:
        raise SimilarityError("comparing submissions needs copydetect: pip install 'goodinit[instructor]'")
    if not folder.is_dir():
        raise SimilarityError(f"there is no folder {folder}" if not folder.exists() else f"{folder} is no folder")
    if (folder / FILE).is_file():
        folder /= "submitted"
    report = Report([], 0)
    units = [unit for unit in course.units if any(exercise.unit == unit.id for exercise in exercises)]
    chosen = exercises if by_exercise else None
    found = [
        document
        for student, target, text in _submitted(course, folder, units, report)
        for document in _documents(student, target, text, chosen, report)
    ]
    report.students = len({document.student for document in found})
    if report.students < 2:
        raise SimilarityError(f"{folder} holds no two submissions that can be compared")
    given = _given(course, units, chosen)
    pairs: dict[tuple[str, str], Pair] = {}
    for target in dict.fromkeys(document.target for document in found):
        alike = [document for document in found if document.target == target]
        for students, match in _matches(alike, given.get(target) or [t for texts in given.values() for t in texts]):
            pairs.setdefault(students, Pair(students)).matches.append(match)
    report.pairs = sorted(pairs.values(), key=lambda pair: -pair.weight)
    if len(report.pairs) > MOST_PAIRS:
        report.notes.append(f"of further pairs, which share less, {len(report.pairs) - MOST_PAIRS} are not shown")
        del report.pairs[MOST_PAIRS:]
    return report


def _submitted(course: Course, folder: Path, units: list[Unit], report: Report) -> Iterator[tuple[str, str, str]]:
    """The text of every file that was handed in: whose it is, and its unit."""
    for entry in find(folder):
        taken = {"": take(course, folder, entry)}
        if entry.is_folder and not taken[""].files:
            # as nbgrader keeps it: a folder for each assignment
            inside = [unit.id for unit in units if os.path.lexists(folder / entry.raw / unit.id)]
            taken = {unit: take(course, folder / entry.raw, Entry(unit, True, unit)) for unit in inside} or taken
        for there in taken.values():
            if there.problem:
                named = there.problem.startswith(entry.shown)
                report.notes.append(there.problem if named else f"{entry.shown}: {there.problem}")
            for name, data in there.files.items():
                stem = Path(name).stem
                target = stem if stem in course.by_unit else LOOSE
                if target == LOOSE or course.by_unit[target] in units:
                    try:
                        yield entry.shown, target, _code(data, name)
                    except ValueError as error:
                        report.notes.append(f"{entry.shown}: {Path(name).name} cannot be read: {error}")


def _code(data: bytes, name: str) -> str:
    """The code of a script or notebook, without the cells of a notebook that are given; ValueError for what is none."""
    text = data.decode("utf-8-sig")
    if name.endswith(".ipynb"):
        try:
            cells = nbformat.reads(text, as_version=4).cells  # type: ignore[no-untyped-call]
            sources = [
                c.source for c in cells if c.cell_type == "code" and not c.metadata.get("nbgrader", {}).get("locked")
            ]
            text = "\n\n".join(sources)
        except Exception as error:  # what damaged notebooks raise is of no one kind
            raise ValueError(f"it is no notebook ({type(error).__name__})") from None
    if len(text) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES // 1000} kB of code")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _documents(
    student: str, target: str, text: str, chosen: Sequence[Exercise] | None, report: Report
) -> Iterator[Document]:
    """A file as one document, or as one for each of the chosen exercises that it defines."""
    if chosen is None:
        yield Document(student, target, text)
        return
    try:
        passages = _passages(text, chosen)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        report.notes.append(f"{student}: {target} cannot be taken apart into exercises: {clean(str(error))}")
        return
    for exercise, passage in passages.items():
        yield Document(student, exercise, passage)


def _passages(text: str, chosen: Sequence[Exercise]) -> dict[str, str]:
    """The text of each exercise that a file defines."""
    code = re.sub(r"^(\s*)[%!].*$", r"\1pass", text, flags=re.MULTILINE)
    found = definitions(ast.parse(code))
    passages = {}
    for exercise in chosen:
        parts = [ast.get_source_segment(code, found[part]) for part in exercise.names if part in found]
        if parts:
            passages[exercise.id] = "\n\n".join(part or "" for part in parts)
    return passages


def _given(course: Course, units: Iterable[Unit], chosen: Sequence[Exercise] | None) -> dict[str, list[str]]:
    """What everybody was given, or may be shown: the reference and the stub, by what is compared."""
    given: dict[str, list[str]] = {}
    for unit in units:
        for path in (course.solution_file(unit), STUBS / unit.file):
            text = path.read_text(encoding="utf-8") if path.is_file() else ""
            texts = {unit.id: text} if chosen is None else _passages(text, chosen)
            for target, passage in texts.items():
                given.setdefault(target, []).append(passage)
    return given


class _Fingerprint:
    """A document's passages as copydetect sees them, without those that are given or common."""

    def __init__(self, document: Document) -> None:
        from copydetect import CodeFingerprint

        self.document = document
        # prose is no code, and takes long to be taken apart
        bare = PROSE.sub(lambda found: " " * len(found[0]), document.text)
        self.whole: Any = CodeFingerprint(document.student, K, 1, fp=io.StringIO(bare), language="python")
        # copydetect 0.5.0 notes the place of a class's name wrongly, and no place lies before an earlier one
        if len(self.whole.offsets):
            self.whole.offsets[:, 1] = np.maximum.accumulate(self.whole.offsets[:, 1])

    def discount(self, others: set[int]) -> None:
        """Takes passages out; copydetect's own way to do so also takes those that a text repeats."""
        from copydetect.utils import get_token_coverage

        self.whole.hashes -= others
        self.whole.hash_idx = {found: places for found, places in self.whole.hash_idx.items() if found not in others}
        self.whole.token_coverage = get_token_coverage(self.whole.hash_idx, K, len(self.whole.filtered_code))


def _matches(documents: list[Document], given: Iterable[str]) -> Iterator[tuple[tuple[str, str], Match]]:
    """What each two students share of documents for the same unit or exercise."""
    prints = [_Fingerprint(document) for document in documents]
    discounted: set[int] = set()
    for text in given:
        discounted |= _Fingerprint(Document("", "", text)).whole.hashes
    counts = Counter(passage for mine in prints for passage in mine.whole.hashes)
    common = max(COMMON, COMMON_SHARE * len(prints))
    discounted |= {passage for passage, count in counts.items() if count > common}
    for mine in prints:
        mine.discount(discounted)
    shared = sorted(passage for passage, count in counts.items() if count > 1 and passage not in discounted)
    for first, second in _candidates(prints, shared):
        students = documents[first].student, documents[second].student
        match = _match(prints[first], prints[second])
        if match and students[0] != students[1]:
            yield students, match


def _candidates(prints: list[_Fingerprint], shared: list[int]) -> Iterator[tuple[int, int]]:
    """The pairs that share enough passages, by one product of matrices for each block of passages."""
    number = {passage: index for index, passage in enumerate(shared)}
    together = np.zeros((len(prints), len(prints)), dtype=np.float32)
    for start in range(0, len(shared), BLOCK):
        block = np.zeros((len(prints), min(BLOCK, len(shared) - start)), dtype=np.float32)
        for row, mine in enumerate(prints):
            places = [number[passage] - start for passage in mine.whole.hashes if passage in number]
            block[row, [place for place in places if 0 <= place < block.shape[1]]] = 1
        together += block @ block.T
    own = np.array([max(1, len(mine.whole.hashes)) for mine in prints], dtype=np.float32)
    alike = together / np.minimum(own[:, None], own[None, :])
    rows, columns = np.nonzero(np.triu((alike >= LEAST_SHARE / 2) & (together >= K / 2), 1))
    best = np.argsort(-(alike * together)[rows, columns], kind="stable")[:CANDIDATES]
    yield from zip(rows[best].tolist(), columns[best].tolist(), strict=True)


def _match(first: _Fingerprint, second: _Fingerprint) -> Match | None:
    from copydetect import compare_files

    length, shares, places = compare_files(first.whole, second.whole)
    if length < LEAST_LENGTH or max(shares) < LEAST_SHARE:
        return None
    texts = first.document.text, second.document.text
    return Match(first.document.target, (float(shares[0]), float(shares[1])), int(length), texts, places)


def _excerpt(text: str, places: Any) -> tuple[Line, ...]:
    """The lines in which the places lie, with some around them; of what lies between, one empty line."""
    marked = np.zeros(len(text) + 1, dtype=bool)
    for start, end in places.T.astype(int):
        marked[start:end] = True
    for prose in PROSE.finditer(text):
        marked[prose.start() : prose.end()] = False
    lines, at = [], 0
    for text_line in text.split("\n"):
        lines.append((at, text_line))
        at += len(text_line) + 1
    shared = [index for index, (at, line) in enumerate(lines) if marked[at : at + len(line)].any()]
    shown = sorted(
        {near for index in shared for near in range(index - AROUND, index + AROUND + 1)} & set(range(len(lines)))
    )
    excerpt: list[Line] = []
    for index in shown[:MOST_LINES]:
        if excerpt and excerpt[-1].number != index:
            excerpt.append(Line(0))
        at, line = lines[index]
        excerpt.append(Line(index + 1, tuple(_pieces(line, marked[at : at + len(line)]))))
    return (*excerpt, Line(0)) if len(shown) > MOST_LINES else tuple(excerpt)


def _pieces(line: str, marked: Any) -> Iterator[tuple[str, bool]]:
    cuts = [0, *(np.nonzero(np.diff(marked))[0] + 1).tolist(), len(line)]
    for start, end in itertools.pairwise(cuts):
        if start < end:
            yield clean(line[start:end]), bool(marked[start])


PAGES = Path(__file__).parent / "pages"


def page(course: Course, report: Report) -> str:
    """The pairs with their shared passages side by side, as one page in which nothing runs."""
    style = "".join((folder / "style.css").read_text(encoding="utf-8") for folder in (TEMPLATES, PAGES))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([PAGES, TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["percent"] = "{:.0%}".format
    return environment.get_template("similar.html").render(
        course=course,
        report=report,
        limits=LIMITS,
        style=style,
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
    )
