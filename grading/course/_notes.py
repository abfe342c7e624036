"""What the kit remembers about a student's course, in the folder `.goodinit` beside course.toml."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import Course

NOTES = ".goodinit"


def hints_given(course: Course) -> dict[str, int]:
    """How many hints have been given for each exercise; what cannot be read counts as none."""
    try:
        notes = json.loads((course.root / NOTES / "hints.json").read_text(encoding="utf-8"))
        return {str(name): int(many) for name, many in notes.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
