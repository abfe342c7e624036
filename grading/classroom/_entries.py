"""What lies in a folder of submissions, taken without trusting a name in it and without following a link."""

from __future__ import annotations

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from grading import ipynb
from grading.course import Course
from grading.verdict import clean

# what the reader of submissions takes of a script at most; to ask it would import torch, which takes seconds
MAX_BYTES = 4_000_000
SUFFIXES = (".py", ".ipynb")
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
# file names end at 255 bytes, and a percent sign and two digits may stand for one
LONGEST = 100
LEFT_OVERS = ("__pycache__",)


@dataclass(frozen=True)
class Entry:
    """One submission: its name as the file system has it, whether it is a folder, and the name of its results.

    `called` is what its student is called where others would be called the same.
    """

    raw: str
    is_folder: bool
    slug: str
    called: str = ""

    @property
    def student(self) -> str:
        return _student(self.raw, self.is_folder)

    @property
    def suffix(self) -> str:
        return "" if self.is_folder else os.path.splitext(self.raw)[1]

    @property
    def shown(self) -> str:
        return readable(self.raw) or self.slug

    @property
    def shown_student(self) -> str:
        return self.called or readable(self.student) or self.slug


@dataclass(frozen=True)
class Taken:
    """What of a submission is judged, in memory; `problem` says what is not, and why."""

    files: dict[str, bytes] = field(default_factory=dict)
    problem: str = ""

    @property
    def digest(self) -> str:
        """Equal for equal files."""
        digest = hashlib.sha256()
        for name, data in sorted(self.files.items()):
            digest.update(f"{name}\0{len(data)}\0".encode())
            digest.update(data)
        digest.update(self.problem.encode())
        return digest.hexdigest()


class _Refused(Exception):
    """Why a file is not read; the sentence goes on from its name."""


def find(folder: Path) -> list[Entry]:
    """Everything directly under `folder` that somebody may have handed in; hidden files are not."""
    with os.scandir(folder) as found:
        kinds = {entry.name: entry.is_dir(follow_symlinks=False) for entry in found}
    names = sorted((name for name in kinds if not name.startswith(".") and name not in LEFT_OVERS), key=os.fsencode)
    slugs = _slugs((name, _student(name, kinds[name])) for name in names)
    entries = [Entry(name, kinds[name], slugs[name]) for name in names]
    # `ada.py` and `ada.ipynb` by their files' names, `ada` and `ada ` not even by those
    for attribute in ("shown", "slug"):
        many = Counter(entry.shown_student for entry in entries)
        entries = [
            replace(entry, called=getattr(entry, attribute)) if many[entry.shown_student] > 1 else entry
            for entry in entries
        ]
    return entries


def take(course: Course, folder: Path, entry: Entry) -> Taken:
    """Reads the files of one submission that have to do with the course."""
    try:
        here = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            return _take_folder(course, entry, here) if entry.is_folder else _take_file(entry, here)
        finally:
            os.close(here)
    except _Refused as refused:
        return Taken(problem=f"{entry.shown} {refused}")
    except OSError as error:
        return Taken(problem=f"{entry.shown} cannot be read: {error.strerror}")


def readable(name: str) -> str:
    """A file name on one line, for people: without controls, and with � for what is no text."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return " ".join(clean(text.replace("\n", " ").replace("\t", " ")).split())


def _student(raw: str, is_folder: bool) -> str:
    return raw if is_folder else os.path.splitext(raw)[0]


def _take_file(entry: Entry, folder: int) -> Taken:
    data = _read(entry.raw, folder, wanted=entry.suffix in SUFFIXES)
    return Taken({entry.slug + entry.suffix: data})


def _take_folder(course: Course, entry: Entry, folder: int) -> Taken:
    files: dict[str, bytes] = {}
    problems: list[str] = []
    inside = os.open(entry.raw, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    try:
        present = set(os.listdir(inside))
        for unit in course.units:
            for name in (unit.id + suffix for suffix in SUFFIXES):
                if name in present:
                    try:
                        files[f"{entry.slug}/{name}"] = _read(name, inside)
                    except _Refused as refused:
                        problems.append(f"{name} {refused}")
                    except OSError as error:
                        problems.append(f"{name} cannot be read: {error.strerror}")
    finally:
        os.close(inside)
    if not files and not problems:
        example = course.units[0].file
        raise _Refused(f"holds no file of this course: expected {example} and its like, or notebooks so named")
    return Taken(files, "; ".join(problems))


def _read(name: str, folder: int, *, wanted: bool = True) -> bytes:
    """The bytes of a regular file of bearable size, of a notebook without its outputs; nothing else is opened."""
    _regular(os.lstat(name, dir_fd=folder))
    if not wanted:
        raise _Refused("is neither a folder nor a .py file nor a notebook (.ipynb)")
    # the file may have been exchanged since
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    with open(file, "rb") as opened:
        _regular(os.fstat(file))
        data = opened.read((ipynb.MAX_BYTES if name.endswith(".ipynb") else MAX_BYTES) + 1)
    if name.endswith(".ipynb"):
        try:
            return ipynb.text_of(data).encode(errors="surrogatepass")
        except ValueError as error:
            raise _Refused(f"cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise _Refused(f"is larger than {MAX_BYTES // 1_000_000} MB")
    return data


def _regular(status: os.stat_result) -> None:
    if stat.S_ISLNK(status.st_mode):
        raise _Refused("is a link")
    if not stat.S_ISREG(status.st_mode):
        raise _Refused("is no regular file")


def _slugs(names: Iterable[tuple[str, str]]) -> dict[str, str]:
    """A file name for each entry from its student, unlike the others also where upper and lower case are one."""
    taken: set[str] = set()
    slugs = {}
    for raw, student in names:
        slug = file_name(student)
        if slug.casefold() in taken:
            slug = f"{slug}~{_short_hash(raw)}"
        taken.add(slug.casefold())
        slugs[raw] = slug
    return slugs


def file_name(name: str) -> str:
    """`name` with every byte percent-encoded that could mean something somewhere; a long one ends in its hash."""
    data = os.fsencode(name)
    slug = "".join(
        chr(byte) if byte in PLAIN and (index or byte not in b".-") else f"%{byte:02X}"
        for index, byte in enumerate(data)
    )
    return slug if len(slug) <= LONGEST else f"{slug[: LONGEST - 20]}~{_short_hash(name)}"


def _short_hash(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
