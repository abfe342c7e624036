"""The folder that results are written to: whole files only, by one run at a time."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ._entries import Entry

RECORDS, PAGES, WORK = "records", "pages", ".work"
TABLE, INDEX, RUN, LOCK = "grades.csv", "index.html", "run.json", ".lock"


class OutputError(Exception):
    """One sentence on why results cannot be written to a folder."""


class Output:
    """The results in one folder; holds its lock between `with` and its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.work = folder / WORK
        self.lock = contextlib.ExitStack()

    def __enter__(self) -> Output:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            foreign = [name for name in (TABLE, INDEX) if (self.folder / name).exists()]
            if foreign and not (self.folder / RUN).exists():
                raise OutputError(
                    f"{self.folder} holds a {foreign[0]} that no grading has written; choose another --out"
                )
            self.lock.enter_context(locked(self.folder / LOCK))
            # what a run left that was ended in the middle of it
            shutil.rmtree(self.work, ignore_errors=True)
            for name in (RECORDS, PAGES, WORK):
                (self.folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise OutputError(f"{self.folder} cannot be written to: {error.strerror}") from None
        return self

    def __exit__(self, *error: object) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.lock.close()

    def put(self, name: str, text: str) -> None:
        """Writes a file as a whole or not at all."""
        path = self.folder / name
        data = text.encode()
        try:
            if path.read_bytes() == data:
                return
        except OSError:
            pass
        new = self.work / "new"
        new.write_bytes(data)
        os.replace(new, path)

    def put_record(self, entry: Entry, record: dict[str, Any]) -> None:
        self.put(f"{RECORDS}/{entry.slug}.json", as_json(record))

    def record(self, entry: Entry) -> dict[str, Any] | None:
        """What an earlier run found; None where there is nothing that can be read."""
        return _json(self.folder / RECORDS / f"{entry.slug}.json")

    @property
    def seed(self) -> int | None:
        """The seed of an earlier run."""
        found = (_json(self.folder / RUN) or {}).get("seed")
        return found if type(found) is int else None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds the lock file at `path`, with the id of this process in it; a dead owner's lock is none."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(file, 20).decode(errors="replace").strip()
            os.close(file)
            raise OutputError(f"another run (process {owner}) is writing to {path.parent}; wait for it") from None
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            break
        os.close(file)
    os.ftruncate(file, 0)
    os.write(file, f"{os.getpid()}\n".encode())
    try:
        yield
    finally:
        # while it is still held: whoever waits for it sees that it is gone and takes a new one
        path.unlink(missing_ok=True)
        os.close(file)


def recorded(folder: Path) -> list[Path]:
    """The records in a folder of results, but for those of submissions that its latest run did not find any more."""
    names = (_json(folder / RUN) or {}).get("records")
    found = sorted((folder / RECORDS).glob("*.json"))
    return [path for path in found if path.stem in names] if isinstance(names, list) else found


def as_json(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False, indent=1) + "\n"


def _json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def as_csv(rows: Iterable[Iterable[str]]) -> str:
    """A table for a gradebook, in which no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([no_formula(cell) for cell in row] for row in rows)
    return text.getvalue()


def no_formula(cell: str) -> str:
    """Spreadsheets take a cell for a formula that begins like one, also in full-width characters."""
    return f"'{cell}" if cell[:1] in ("\t", "\r") or cell.lstrip()[:1] in tuple("=+-@＝＋－＠") else cell  # noqa: RUF001
