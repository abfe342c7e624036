"""`goodinit build --nbgrader` and `goodinit students`: a course that nbgrader's own commands and pages work on."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from grading.course import Course, find_above, find_root, load
from grading.nbgrader import (
    NbgraderError,
    build_course,
    course_folder,
    enter_students,
    gradebook,
    read_students,
)


def course_for(root: Path) -> Course:
    """The course above the current folder, else the one that the nbgrader course in `root` is configured for.

    Raises NbgraderError where these are two.
    """
    above, named = find_above(Path.cwd()), course_folder(root)
    if named is None or (above and above.resolve() == named):
        return load(above or find_root(Path.cwd()))
    config = root / "nbgrader_config.py"
    gone = not os.path.lexists(named / "course.toml")
    if above is None:
        if gone:
            raise NbgraderError(
                f"{config} names the course in {named}, which has no course.toml; where the course has moved, "
                f"run goodinit build --nbgrader {root.resolve()} in its folder"
            )
        return load(named)
    if gone:
        return load(above)
    moved = os.path.relpath(above.resolve(), root.resolve())
    raise NbgraderError(
        f"{root} is configured for the course in {named}, and this folder belongs to the one in {above}: run this in "
        f"{named}, or write course={moved!r} into the call in {config} to change over"
    )


def build(course: Course, args: argparse.Namespace) -> int:
    """Makes or renews the nbgrader course, and says what has changed."""
    root = Path(args.nbgrader)
    if args.check:
        raise NbgraderError("--check is for exercises/; an nbgrader course is renewed by building it again")
    built = build_course(course, root, db_url=args.db, force=args.force)
    for path in built.written:
        print(f"wrote {path}")
    for note in built.notes:
        print(note)
    changed = [name for name in built.changed if name not in built.refused]
    if changed:
        print(f"Next, in {root}: nbgrader generate_assignment --force NAME, for each of {', '.join(changed)}")
    elif not built.kept and not built.refused:
        print(f"{root} is in step with the course")
    return 0


def students(course: Course, args: argparse.Namespace) -> int:
    """Enters the students of a CSV file into the gradebook of an nbgrader course."""
    root = Path(args.nbgrader)
    if not (root / "nbgrader_config.py").is_file():
        raise NbgraderError(f"{root} holds no nbgrader course: goodinit build --nbgrader {root} makes one")
    found = read_students(Path(args.csv))
    with gradebook(root) as book:
        entered = enter_students(book, found)
    many = f"{entered.students} student{'' if entered.students == 1 else 's'}"
    print(f"{many}: {entered.added} added, {entered.changed} changed")
    return 0
