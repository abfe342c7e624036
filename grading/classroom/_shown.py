"""The code cells of a notebook, and what they have shown as a person may read it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from grading.verdict import clean

# where Python and its packages lie on this machine
PLACES = re.compile(r"/[^\s:\"']*/(?:site-packages|python3\.\d+)/")
# what a bar that redraws itself has overwritten
OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n)")


def code_cells(notebook: Path) -> list[str]:
    """The sources of the code cells; none where the file is no notebook."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []


def readable(output: dict[str, Any]) -> dict[str, Any]:
    """An output whose texts hold nothing that acts on a reader, nor where this machine has its files."""
    if "data" in output:
        data = {kind: text if kind.startswith("image/") else _text(text) for kind, text in output["data"].items()}
        return {**output, "data": data}
    texts: dict[str, Any] = {key: _text(value) for key, value in output.items() if key in ("text", "ename", "evalue")}
    if "traceback" in output:
        texts["traceback"] = _text("\n".join(output["traceback"])).splitlines()
    return {**output, **texts}


def _text(text: str) -> str:
    return PLACES.sub("", clean(OVERWRITTEN.sub("", text)))
