"""The code cells of a notebook, and what they have shown as a person may read it."""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any

from grading.verdict import clean

PICTURE = "image/png"
# a path as people write it, and in one from its first slash on where Python and its packages lie on this machine
PATH = re.compile(r"[^\s:\"']+")
PLACE = re.compile(r"/.*/(?:site-packages|python3\.\d+)/")

SIGNATURE = b"\x89PNG\r\n\x1a\n"
# what a picture is drawn from; text, times, profiles and animations are left out
DRAWN = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
MAX_SIDE, MAX_PIXELS = 8_000, 16_000_000


def code_cells(notebook: Path) -> list[str]:
    """The sources of the code cells; none where the file is no notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def readable(output: dict[str, Any]) -> dict[str, Any]:
    """An output whose texts hold nothing that acts on a reader, nor where this machine has its files; pictures are."""
    if "data" in output:
        shown = {kind: _picture(text) if kind == PICTURE else _text(text) for kind, text in output["data"].items()}
        return {**output, "data": {kind: text for kind, text in shown.items() if text is not None}}
    texts: dict[str, Any] = {key: _text(value) for key, value in output.items() if key in ("text", "ename", "evalue")}
    if "traceback" in output:
        texts["traceback"] = _text("\n".join(output["traceback"])).splitlines()
    return {**output, **texts}


def _text(text: str) -> str:
    # of a line that a bar has drawn over itself, what it drew last
    lines = (line.rpartition("\r")[2] for line in text.replace("\r\n", "\n").split("\n"))
    return PATH.sub(_without_place, clean("\n".join(lines)))


def _without_place(path: re.Match[str]) -> str:
    text, start = path[0], path[0].find("/")
    # looked for in one place only: a search would begin anew at every slash
    place = PLACE.match(text, start) if start >= 0 else None
    return text[:start] + text[place.end() :] if place else text


def _picture(text: str) -> str | None:
    """A picture as notebooks hold it, checked; None where it is none."""
    try:
        drawn = png(base64.b64decode(text))
    except ValueError:
        return None
    return base64.b64encode(drawn).decode() if drawn else None


def png(data: bytes) -> bytes | None:
    """The picture with nothing in it but what it is drawn from; None where it is no PNG, or one too large."""
    if not data.startswith(SIGNATURE):
        return None
    kept, place, names = [SIGNATURE], len(SIGNATURE), []
    while place + 12 <= len(data):
        (size,), name = struct.unpack_from(">I", data, place), data[place + 4 : place + 8]
        end = place + 12 + size
        chunk = data[place:end]
        if end > len(data) or struct.unpack(">I", chunk[-4:])[0] != zlib.crc32(chunk[4:-4]):
            return None
        if name in DRAWN:
            names.append(name)
            kept.append(chunk)
        place = end
        if name == b"IEND":
            break
    if data[8:16] != b"\0\0\0\rIHDR" or names[-1:] != [b"IEND"] or names.count(b"IHDR") != 1 or b"IDAT" not in names:
        return None
    width, height = struct.unpack_from(">II", data, len(SIGNATURE) + 8)
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE and width * height <= MAX_PIXELS):
        return None
    return b"".join(kept)
