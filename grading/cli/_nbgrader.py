"""`goodinit build --nbgrader`: a course that nbgrader's own commands and pages work on."""

from __future__ import annotations

import argparse
from pathlib import Path

from grading.course import Course
from grading.nbgrader import build_course


def build(course: Course, args: argparse.Namespace) -> int:
    """Makes or renews the nbgrader course, and says what has changed."""
    root = Path(args.nbgrader)
    built = build_course(course, root, db_url=args.db)
    for path in built.written:
        print(f"wrote {path}")
    for note in built.notes:
        print(note)
    if built.changed:
        print(f"Next, in {root}: nbgrader generate_assignment {built.changed[0]} --force")
    else:
        print(f"{root} is in step with the course")
    return 0
