"""Runs the course with nbgrader: a course folder from course.toml, and grading by the judge, by configuration alone."""

from ._config import NbgraderError, configure, course_folder
from ._course import Built, build_course, gradebook
from ._students import Entered, enter_students, read_students

__all__ = [
    "Built",
    "Entered",
    "NbgraderError",
    "build_course",
    "configure",
    "course_folder",
    "enter_students",
    "gradebook",
    "read_students",
]
