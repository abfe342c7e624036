"""Runs the course with nbgrader: a course folder from course.toml, and grading by the judge, by configuration alone."""

from ._config import configure
from ._course import Built, NbgraderError, build_course, gradebook

__all__ = ["Built", "NbgraderError", "build_course", "configure", "gradebook"]
