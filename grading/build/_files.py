"""Writes files as a whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path

from grading.course import NOTES


def replace(path: Path, content: str | bytes, folder: Path | None = None) -> None:
    """Puts `content` into a file, which until then is as it was; an OSError names that file.

    It is written in `folder`, on the same disk; beside that file unless given.
    """
    beside = (folder or path.parent) / f".{path.name}.{os.getpid()}"
    try:
        if isinstance(content, str):
            beside.write_text(content, encoding="utf-8")
        else:
            beside.write_bytes(content)
        if path.exists():  # a course folder may be shared by a group
            shutil.copymode(path, beside)
        os.replace(beside, path)
    except OSError as error:
        if error.filename in (None, str(beside)):
            error.filename = str(path)
        raise
    finally:
        with suppress(OSError):  # what kept it from being written is what there is to say
            beside.unlink(missing_ok=True)


def back_up(root: Path, path: Path, name: str) -> Path:
    """Copies a file to a folder of the time in the notes of `root`, under a name that it has not there yet."""
    first = folder = root / NOTES / "backups" / time.strftime("%Y%m%d-%H%M%S")
    number = 0
    while (folder / name).exists():
        number += 1
        folder = first.with_name(f"{first.name}.{number}")
    copy = folder / name
    copy.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(path, copy)
    return copy
