"""`goodinit build`: the derived files, kept in step with solutions/."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from grading.build import STUBS, BuildError, Derived, derive, edited, write
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
    _check_stubs(course, files)
    stale = [file.path for file in files if not file.in_step]
    if args.check:
        for path in stale:
            print(f"{_shown(course, path)} is out of step with solutions/; run goodinit build", file=sys.stderr)
        return 1 if stale else 0
    work = [path for path in edited(course) if path in stale]
    if work and not args.force:
        names = ", ".join(str(path.relative_to(course.root)) for path in work)
        raise BuildError(f"{names} holds work that a build would overwrite; move it away, or say --force")
    for path in write(files):
        print(f"wrote {_shown(course, path)}")
    print(f"{len(files)} derived files are in step with solutions/")
    return 0


def _check_stubs(course: Course, files: list[Derived]) -> None:
    """The stubs belong to the kit, whose own solutions they are derived from; another course must not change them."""
    foreign = [file for file in files if file.path.parent == STUBS and not file.in_step]
    if foreign and not STUBS.resolve().is_relative_to(course.root.resolve()):
        names = ", ".join(file.path.name for file in foreign)
        raise BuildError(
            f"{names} in {STUBS} would change with {course.root / 'solutions'}, and belongs to the installed kit; "
            "build in a copy of the whole kit, after pip install -e '.[instructor]' there"
        )


def _shown(course: Course, path: Path) -> Path:
    return path.relative_to(course.root) if path.is_relative_to(course.root) else path
