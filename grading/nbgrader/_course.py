"""Makes an nbgrader course of ours: configuration, a source notebook per unit, and entries in the gradebook."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grading.build import header_text, notebook_text, pictures
from grading.course import Course, Unit

from ._config import FILE, HEADER, config_text, configured, read_config, sqlite


class NbgraderError(Exception):
    """One sentence on what an nbgrader course cannot be made from, or what stands in the way."""


@dataclass
class Built:
    """What a build has done: files written, due dates set, and sentences for the instructor."""

    written: list[Path] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build_course(course: Course, root: Path, *, db_url: str | None = None) -> Built:
    """Makes or renews the nbgrader course in the folder `root`; grades that the gradebook holds stay as they are."""
    texts = {unit.id: notebook_text(course, unit) for unit in course.units}
    shown = {unit.id: pictures(course, unit) for unit in course.units}
    built = Built()
    root.mkdir(parents=True, exist_ok=True)
    _write_config(course, root, db_url, built)
    _write(root / HEADER, header_text(), built)
    for unit in course.units:
        folder = root / "source" / unit.id
        if _write(folder / f"{unit.id}.ipynb", texts[unit.id], built):
            built.changed.append(unit.id)
        for name, picture in shown[unit.id].items():
            _copy(picture, folder / name, built)
    with gradebook(root) as book:
        for unit in course.units:
            _enter(book, unit, built)
    return built


@contextmanager
def gradebook(root: Path) -> Iterator[Any]:
    """The gradebook of the course in `root`, nbgrader's own API, made where there is none yet."""
    from nbgrader.api import Gradebook
    from nbgrader.utils import setenv

    config = read_config(root)
    url = configured(config, "db_url") or sqlite(root)
    # a new gradebook asks the command `alembic`, which lies beside a Python that nobody has activated
    commands = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    with setenv(PATH=commands):
        book = Gradebook(url, configured(config, "course_id") or "default_course")
    with book:
        yield book


def _write_config(course: Course, root: Path, db_url: str | None, built: Built) -> None:
    """Writes nbgrader_config.py where there is none; one that is there may be the instructor's own, and stays."""
    path, text = root / FILE, config_text(root, course, db_url)
    if not path.is_file():
        _write(path, text, built)
    elif path.read_text(encoding="utf-8") != text:
        built.notes.append(f"{path} is there already and was left as it is; a new one would read:\n{text}")


def _enter(book: Any, unit: Unit, built: Built) -> None:
    """Enters an assignment; a due date that course.toml does not give is left as the instructor set it."""
    assignment = book.update_or_create_assignment(unit.id)
    if unit.due is not None:
        before = assignment.duedate
        assignment = book.update_or_create_assignment(unit.id, duedate=unit.due.isoformat())
        if assignment.duedate != before:
            built.notes.append(f"{unit.id} is due {assignment.duedate} UTC")


def _write(path: Path, text: str, built: Built) -> bool:
    """Writes a derived file; returns whether that changed it."""
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    built.written.append(path)
    return True


def _copy(source: Path, target: Path, built: Built) -> None:
    if not target.is_file() or target.read_bytes() != source.read_bytes():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        built.written.append(target)
