"""`goodinit build --nbgrader` and `goodinit students`: a course that nbgrader's own commands and pages work on."""

from __future__ import annotations

import argparse
from pathlib import Path

from grading.course import Course
from grading.nbgrader import NbgraderError, build_course, enter_students, gradebook, read_students


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
    if built.changed:
        print(f"Next, in {root}: nbgrader generate_assignment --force NAME, for each of {', '.join(built.changed)}")
    else:
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
