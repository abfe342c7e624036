"""Keeps nbgrader from working on a course of ours without the configuration of it.

nbgrader logs an error in a configuration file, and goes on without that file: it would run what students have written
in a kernel of its own, beside the gradebook, and believe what comes back.
"""

from __future__ import annotations

import json
from functools import cache, wraps
from pathlib import Path
from typing import Any

from traitlets.config import Config

FILE, FALLBACK = "nbgrader_config.py", "nbgrader_config.json"
OURS, FEEDBACK = "grading.nbgrader._autograde", "grading.nbgrader._feedback"
# what judges behind the wall instead of running cells
JUDGED = f"{OURS}.Judged"
# what is ours of nbgrader's own parts, by the section of its configuration
PARTS = {
    "Autograde": {"exporter_class": f"{OURS}.MendingExporter"},
    "GenerateFeedback": {"exporter_class": f"{FEEDBACK}.FeedbackExporter"},
    "ExchangeFactory": {"release_feedback": f"{FEEDBACK}.ReleaseFeedback"},
}
# nbgrader reads it beside the other, also where Python cannot, and what it names brings `watch` in
FALLBACK_TEXT = json.dumps(PARTS, indent=1) + "\n"

# why the configuration of a folder has set nothing up
problems: dict[Path, str] = {}


@cache
def watch() -> None:
    """From now on every command and step of nbgrader ends with a sentence where a course's configuration is missing."""
    from nbgrader.apps.baseapp import NbGrader
    from nbgrader.converters.base import BaseConverter, NbGraderException

    run, convert = NbGrader.start, BaseConverter.start

    @wraps(run)
    def watched_run(self: Any) -> Any:
        problem = self.coursedir and missing(Path(self.coursedir.root), self.config)
        if problem:
            self.fail(problem)
        return run(self)

    @wraps(convert)
    def watched_convert(self: Any) -> Any:
        problem = missing(Path(self.coursedir.root), self.config)
        if problem:
            self.log.error(problem)
            raise NbGraderException(problem)
        return convert(self)

    NbGrader.start, BaseConverter.start = watched_run, watched_convert


def missing(root: Path, config: Config) -> str | None:
    """Why nothing may be done with the course in `root`, where that is one of ours and the configuration lacks it."""
    path = root.resolve() / FILE
    problem = problems.get(path.parent)
    if not problem:
        try:
            ours = "grading.nbgrader" in path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            ours = False
        if not ours or JUDGED in config.Autograde.get("autograde_preprocessors", ()):
            return None
        problem = "an error ended it, which is shown above, or what judges is not among the preprocessors"
    return f"{path} has not taken effect ({problem}); nothing was done, for cells would run outside the wall"
