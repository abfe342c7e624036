"""`goodinit build`: the derived files, kept in step with solutions/."""

from __future__ import annotations

import argparse
import importlib.util
import sys

from grading.build import BuildError, derive, edited, write
from grading.course import Course


def build(course: Course, args: argparse.Namespace) -> int:
    """Derives exercises/; refuses to overwrite work unless told to."""
    if importlib.util.find_spec("nbgrader") is None:
        raise BuildError("building needs nbgrader, which clears the solutions: pip install -e '.[instructor]'")
    if args.db and args.nbgrader is None:
        raise BuildError("--db is the gradebook of an nbgrader course: say --nbgrader DIR with it")
    if args.nbgrader is not None:
        from ._nbgrader import build as build_nbgrader

        return build_nbgrader(course, args)
    files = derive(course)
    stale = [file.path for file in files if not file.in_step]
    if args.check:
        for path in stale:
            print(
                f"{path.relative_to(course.root)} is out of step with solutions/; run goodinit build", file=sys.stderr
            )
        return 1 if stale else 0
    work = [path for path in edited(course) if path in stale]
    if work and not args.force:
        names = ", ".join(str(path.relative_to(course.root)) for path in work)
        raise BuildError(f"{names} holds work that a build would overwrite; move it away, or say --force")
    for path in write(files):
        print(f"wrote {path.relative_to(course.root)}")
    print(f"{len(files)} derived files are in step with solutions/")
    return 0
