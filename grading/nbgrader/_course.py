"""Makes an nbgrader course of ours: configuration, a source notebook per unit, and entries in the gradebook."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grading.build import back_up, edited_by_hand, header_text, notebook_text, pictures, replace, was_derived
from grading.course import NOTES, Course, Unit

from ._config import (
    FILE,
    HEADER,
    SQLITE,
    NbgraderError,
    config_text,
    configured,
    derived_config,
    present_text,
    read_config,
    sqlite,
)
from ._guard import FALLBACK, FALLBACK_TEXT


@dataclass
class Built:
    """What a build has done: files written and kept, and sentences to read.

    `changed` are the assignments whose notebooks changed; `refused` are those that nbgrader will not generate.
    """

    written: list[Path] = field(default_factory=list)
    kept: list[Path] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build_course(course: Course, root: Path, *, db_url: str | None = None, force: bool = False) -> Built:
    """Makes or renews the nbgrader course in the folder `root`; grades that the gradebook holds stay as they are.

    A notebook that was edited by hand stays as well, unless told `force`, which keeps a copy.
    """
    files = {root / HEADER: header_text()}
    files |= {root / "source" / unit.id / f"{unit.id}.ipynb": notebook_text(course, unit) for unit in course.units}
    shown = {unit.id: pictures(course, unit) for unit in course.units}
    if root.exists() and not root.is_dir():
        raise NbgraderError(f"{root} is no folder: give one that the nbgrader course may be made in")
    edited = [path for path, text in files.items() if not _same(path, text) and _edited(path)]
    built = Built(kept=[] if force else edited)
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NbgraderError(f"{root} cannot be made: {error.strerror}; give a folder that may be written to") from None
    config, where = _config(course, root, db_url, built)
    with _opened(*where) as book:
        # the gradebook first: where it refuses, nothing has been written that the next build would take for done
        for unit in course.units:
            _enter(book, unit, built)
            path = root / "source" / unit.id / f"{unit.id}.ipynb"
            if path not in built.kept:
                _compare(book, unit, files[path], built)
        _name_what_is_gone(book, course, root, built)
        if config is not None:
            _write(root, root / FILE, config, built)
        _write(root, root / FALLBACK, FALLBACK_TEXT, built)
        for path in edited if force else ():
            # not beside it: what lies there is handed out with it
            copy = back_up(root, path, str(path.relative_to(root)))
            built.notes.append(f"{path} was edited by hand; what it was is kept in {copy}")
        for path, text in files.items():
            if path in built.kept:
                built.notes.append(
                    f"{path} was edited by hand and stays as it is; --force would overwrite it, and keep a copy"
                )
            elif _write(root, path, text, built) and path.parent.name in shown:
                built.changed.append(path.parent.name)
        for unit in course.units:
            for name, picture in shown[unit.id].items():
                _copy(root, picture, root / "source" / unit.id / name, built)
    hidden = (course.root / course.nbgrader.hidden).resolve()
    if course.nbgrader.hidden and not hidden.is_dir():
        built.notes.append(
            f"there is no folder {hidden} with hidden checks, which [nbgrader] in course.toml names; "
            "autograding needs it"
        )
    return built


@contextmanager
def gradebook(root: Path) -> Iterator[Any]:
    """The gradebook of the course in `root`, by nbgrader's own API, made where there is none yet.

    Raises NbgraderError where it cannot be reached or written to, or is not such a gradebook as this nbgrader makes.
    """
    with _opened(*_configured(root)) as book:
        yield book


def gradebook_missing(root: Path) -> Path | None:
    """The file that the gradebook of the course in `root` should be, where it is one and not there."""
    url, _ = _configured(root)
    file = url.removeprefix(SQLITE)
    return Path(file) if file != url and not Path(file).is_file() else None


def _configured(root: Path) -> tuple[str, str]:
    """The address of the gradebook and the id of the course that the configuration in `root` gives."""
    config = read_config(root)
    return configured(config, "db_url") or sqlite(root), configured(config, "course_id") or "default_course"


@contextmanager
def _opened(url: str, course_id: str) -> Iterator[Any]:
    from nbgrader.api import Gradebook, InvalidEntry
    from sqlalchemy.exc import DatabaseError, IntegrityError, SQLAlchemyError

    try:
        with _commands_found(), _no_tracebacks():
            book = Gradebook(url, course_id)
    except ModuleNotFoundError as error:
        need = "pip install 'goodinit[postgresql]'" if url.startswith("postgresql") else "install it"
        raise NbgraderError(f"the gradebook {_shown(url)} needs the package {error.name}: {need}") from None
    except (SQLAlchemyError, ValueError) as error:
        raise NbgraderError(f"the gradebook {_shown(url)} cannot be reached: {cause(error)}{_remedy(error)}") from None
    with book, _no_tracebacks():
        try:
            yield book
        except (DatabaseError, InvalidEntry) as error:
            # nbgrader takes whatever a database says for an entry that is wrong
            said = error.__context__ if isinstance(error, InvalidEntry) else error
            if not isinstance(said, DatabaseError) or (said is not error and isinstance(said, IntegrityError)):
                raise
            remedy = _remedy(said) or "; one that an older nbgrader has made is renewed by `nbgrader db upgrade`"
            raise NbgraderError(f"the gradebook {_shown(url)} cannot be used: {cause(said)}{remedy}") from None


def cause(error: Exception) -> str:
    """What a database says of an error, in one line, without what SQLAlchemy and nbgrader add to it."""
    said = getattr(error, "orig", None) or getattr(error.__context__, "orig", None) or error
    return " ".join(str(said).split())


# by words of what databases say
REMEDIES = {
    "locked": "somebody else is writing to it; run it again when they have done",
    "readonly": "take the right to write to the file and its folder, and run it again",
    "read-only": "give it back to those who write, and run it again",
    "permission denied": "let your account write to it, and run it again",
    "disk is full": "make room, and run it again",
}


def _remedy(error: Exception) -> str:
    return next((f"; {remedy}" for words, remedy in REMEDIES.items() if words in cause(error)), "")


@contextmanager
def _no_tracebacks() -> Iterator[None]:
    """Has nbgrader log no error of the database, which it raises as well."""
    log = logging.getLogger("tornado.application")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


@contextmanager
def _commands_found() -> Iterator[None]:
    """A new gradebook asks the command `alembic`, which lies beside a Python that nobody has activated."""
    before = os.environ.get("PATH")
    os.environ["PATH"] = os.pathsep.join([before or os.defpath, str(Path(sys.executable).parent)])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PATH"]
        else:
            os.environ["PATH"] = before


def _shown(url: str) -> str:
    """A gradebook's address without the password in it."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url).render_as_string()
    except (ArgumentError, ValueError):
        return repr(url)


def _config(course: Course, root: Path, db_url: str | None, built: Built) -> tuple[str | None, tuple[str, str]]:
    """The text for nbgrader_config.py, the gradebook and the course's id.

    No text where the instructor has changed the file: it stays as it is, and what it lacks is said.
    """
    path = root / FILE
    # SQLAlchemy would ask for a driver that does not come with goodinit[postgresql]
    db_url = db_url and re.sub("^postgres(ql)?://", "postgresql+psycopg2://", db_url)
    present = present_text(root)
    derived = derived_config(present)
    if not present or derived:
        db_url = db_url or (derived and derived["db_url"])
        return config_text(root, course, db_url), (db_url or sqlite(root), course.nbgrader.course_id)
    where = _configured(root)
    if "configure(" not in present:
        wanted = config_text(root, course, db_url)
        built.notes.append(f"{path} is yours and stays as it is; for the course to work, it must begin with\n{wanted}")
    elif db_url and db_url != where[0]:
        built.notes.append(f"{path} is yours and stays as it is, with the gradebook {_shown(where[0])}")
    return None, where


def _enter(book: Any, unit: Unit, built: Built) -> None:
    """Enters an assignment; a due date that course.toml does not give stays as the instructor has set it."""
    assignment = book.update_or_create_assignment(unit.id)
    if unit.due is not None:
        before = assignment.duedate
        assignment = book.update_or_create_assignment(unit.id, duedate=unit.due.isoformat())
        if assignment.duedate != before:
            built.notes.append(f"{unit.id} is due {assignment.duedate:%Y-%m-%d %H:%M} UTC")


def _compare(book: Any, unit: Unit, text: str, built: Built) -> None:
    """Says where nbgrader will not take a notebook, because work on another set of cells has been graded."""
    import nbformat
    from nbgrader.api import MissingEntry

    try:
        notebook = book.find_notebook(unit.id, unit.id)
    except MissingEntry:
        return
    before = {cell.name for cell in notebook.source_cells}
    cells = nbformat.reads(text, as_version=4).cells  # type: ignore[no-untyped-call]
    now = {cell.metadata.nbgrader.grade_id for cell in cells if "nbgrader" in cell.metadata}
    if notebook.submissions and before != now:
        names = ", ".join([*(f"{name} (new)" for name in now - before), *(f"{name} (gone)" for name in before - now)])
        built.refused.append(unit.id)
        built.notes.append(
            f"{unit.id} has graded submissions, and nbgrader adds and removes no cells then: {names}; do not generate "
            "it, which would fail and take its release away, but undo that change and build again, or give up its "
            f"grades, those by hand too: nbgrader db assignment remove --force {unit.id}, then build, generate and "
            "autograde it again"
        )


def _name_what_is_gone(book: Any, course: Course, root: Path, built: Built) -> None:
    """Says which units live on that course.toml has no more; assignments of the instructor's own are none."""
    sources = {path.parent.name: path for path in (root / "source").glob("*/*.ipynb") if path.stem == path.parent.name}
    entries = {entry.name: entry for entry in book.assignments}
    for name in sorted({*sources, *entries} - set(course.by_unit)):
        source, entry = sources.get(name), entries.get(name)
        ours = source is not None and was_derived(source.read_text(encoding="utf-8", errors="replace"))
        if source is None and entry is not None:
            cells = [cell.name for notebook in entry.notebooks for cell in notebook.grade_cells]
            ours = not (root / "source" / name).exists() and (
                not cells or any(cell.startswith("check-") for cell in cells)
            )
        if not ours:
            continue
        folders = [f"{step}/{name}" for step in ("source", "release") if (root / step / name).exists()]
        ways = [f"remove {' and '.join(folders)}"] if folders else []
        if entry is not None:
            graded = " --force" if entry.submissions else ""
            ways.append(f"nbgrader db assignment remove{graded} {name}{', with all its grades' if graded else ''}")
        built.notes.append(
            f"{name} is no unit of course.toml any more, and stays as it is; to be rid of it: {', and '.join(ways)}"
        )


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text


def _edited(path: Path) -> bool:
    return path.is_file() and edited_by_hand(path.read_text(encoding="utf-8", errors="replace"))


def _write(root: Path, path: Path, text: str, built: Built) -> bool:
    """Writes a derived file; returns whether that changed it."""
    if _same(path, text):
        return False
    _put(root, path, text, built)
    return True


def _copy(root: Path, source: Path, target: Path, built: Built) -> None:
    content = source.read_bytes()
    if not target.is_file() or target.read_bytes() != content:
        _put(root, target, content, built)


def _put(root: Path, path: Path, content: str | bytes, built: Built) -> None:
    """Writes a whole file or none, and where nbgrader does not look: a part of it would be handed out with the rest."""
    for folder in (path.parent, root / NOTES):
        folder.mkdir(parents=True, exist_ok=True)
    replace(path, content, root / NOTES)
    built.written.append(path)
