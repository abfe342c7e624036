"""What nbgrader is told: one call in nbgrader_config.py, read several times for each of its commands."""

from __future__ import annotations

import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from traitlets.config import Config
from traitlets.config.loader import ConfigFileNotFound, PyFileConfigLoader

from grading.course import Course, CourseError, find_root, load

from ._guard import FEEDBACK, JUDGED, OURS, PARTS, problems, watch
from ._guard import FILE as FILE

SQLITE = "sqlite:///"
HEADER = "source/header.ipynb"
STUB = 'raise NotImplementedError("replace this line with your own")'
TEXT = """\
\"\"\"Derived by `goodinit build --nbgrader`; your own settings go below the call, and stay.\"\"\"

try:
    from grading.nbgrader import configure
except ImportError as error:
    # nbgrader would go on without this file, and run what students have written outside the wall
    raise SystemExit(f"nbgrader needs goodinit for this course ({error}): pip install 'goodinit[instructor]'") from None

configure(get_config(), __file__{arguments})  # noqa: F821
"""
DERIVED = re.compile(
    re.escape(TEXT).replace(re.escape("{arguments}"), r"(?:, course='[^']*')?(?:, db_url='(?P<db_url>[^']*)')?")
)


class NbgraderError(Exception):
    """One sentence on what an nbgrader course cannot be made from, or what stands in the way."""


# nbgrader's own list, with mark schemes cleared before the gradebook takes a copy: it puts that copy where a student
# has deleted an answer, and compares answers with its checksum to tell those that nobody has written
GENERATE_PREPROCESSORS = [
    f"nbgrader.preprocessors.{name}"
    for name in (
        "IncludeHeaderFooter", "InstantiateTests", "LockCells", "ClearSolutions", "ClearMarkScheme", "ClearOutput",
        "CheckCellMetadata", "ComputeChecksums", "SaveCells", "ClearHiddenTests", "ComputeChecksums",
        "CheckCellMetadata",
    )
]  # fmt: skip

# what `nbgrader autograde` and the formgrader's button run, in their order, instead of nbgrader's own lists
SANITIZE_PREPROCESSORS = [
    f"nbgrader.preprocessors.{name}"
    for name in ("ClearOutput", "OverwriteKernelspec", "OverwriteCells", "CheckCellMetadata")
]
AUTOGRADE_PREPROCESSORS = [
    JUDGED,
    "nbgrader.preprocessors.IgnorePattern",
    "nbconvert.preprocessors.ClearMetadataPreprocessor",
    "nbgrader.preprocessors.LimitOutput",
    f"{OURS}.SaveGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]

FEEDBACK_PREPROCESSORS = [
    # once more, for a person may have given points since
    "nbgrader.preprocessors.AssignLatePenalties",
    f"{FEEDBACK}.Parts",
    "nbconvert.preprocessors.CSSHTMLHeaderPreprocessor",
]


def configure(config: Config, file: str, *, course: str | None = None, db_url: str | None = None) -> None:
    """Sets up nbgrader for the course folder that `file` lies in; calling it again changes nothing.

    `course` is the folder of course.toml, relative to that folder, where it is not found from there. `db_url` is the
    gradebook, DIR/gradebook.db unless given. Where the course cannot be read, nbgrader refuses to do anything.
    """
    watch()
    root = Path(file).resolve().parent
    problems.pop(root, None)
    try:
        found = course_of(root, course)
    except CourseError as error:
        problems[root] = str(error)
        return
    config.CourseDirectory.root = str(root)
    config.CourseDirectory.course_id = found.nbgrader.course_id
    config.CourseDirectory.db_url = db_url or sqlite(root)
    config.IncludeHeaderFooter.header = HEADER
    config.ClearSolutions.code_stub = {"python": STUB}
    config.ClearSolutions.text_stub = "Your answer here."
    # nbgrader would have mark schemes in task cells only, which take no answer
    config.ClearMarkScheme.enforce_metadata = False
    config.GenerateAssignment.preprocessors = list(GENERATE_PREPROCESSORS)
    config.AssignLatePenalties.plugin_class = "grading.nbgrader._late.LatePolicy"
    config.LatePolicy.update(asdict(found.nbgrader.late))
    config.Autograde.sanitize_preprocessors = list(SANITIZE_PREPROCESSORS)
    config.Autograde.autograde_preprocessors = list(AUTOGRADE_PREPROCESSORS)
    if course:
        config.Judged.course = course
    config.GenerateFeedback.preprocessors = list(FEEDBACK_PREPROCESSORS)
    for section, settings in PARTS.items():
        config[section].update(settings)


def course_of(root: Path, course: str | None = None) -> Course:
    """The course that an nbgrader folder was built from."""
    return load((root / course).resolve() if course else find_root(root))


def course_folder(root: Path) -> Path | None:
    """The folder of the course that DIR/nbgrader_config.py is for, which may be gone; None where it is for none.

    Raises NbgraderError where the file fails.
    """
    text = present_text(root)
    if "configure(" not in text:
        return None
    if derived_config(text):
        # as it stands there: to run it would fail where that course has moved
        named = re.search(r", course='([^']*)'", text)
        course = named[1] if named else ""
    else:
        config = read_config(root)
        course = str(config.Judged.get("course", "")) if "Judged" in config else ""
    return (root / course).resolve() if course else find_root(root.resolve())


def present_text(root: Path) -> str:
    """The text of DIR/nbgrader_config.py; empty where there is none."""
    path = root / FILE
    # in another encoding, it is the instructor's, and stays: Python, which knows how to read it, is asked what it says
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def sqlite(root: Path) -> str:
    """The address of the gradebook that nbgrader itself would take."""
    return f"{SQLITE}{root.resolve() / 'gradebook.db'}"


def read_config(root: Path) -> Config:
    """What DIR/nbgrader_config.py says; empty where there is none.

    Raises NbgraderError where it fails.
    """
    try:
        config = PyFileConfigLoader(FILE, path=str(root)).load_config()
    except ConfigFileNotFound:
        return Config()
    except (Exception, SystemExit) as error:
        utf8 = "; save it in UTF-8" if isinstance(error, SyntaxError) and "codec can't decode" in str(error) else ""
        said = " ".join(str(error).split())
        raise NbgraderError(f"{root / FILE} cannot be read: {type(error).__name__}: {said}{utf8}") from None
    problem = problems.get(root.resolve())
    if problem:
        raise NbgraderError(f"the course that {root / FILE} is for cannot be used: {problem}")
    return config


def derived_config(text: str) -> re.Match[str] | None:
    """Whether an nbgrader_config.py is as it was derived; the group `db_url` is the gradebook that it names."""
    return DERIVED.fullmatch(text)


def config_text(root: Path, course: Course, db_url: str | None) -> str:
    """The text of DIR/nbgrader_config.py."""
    arguments = ""
    # as it is asked later, from whatever folder: above a relative path lies only the folder that this was started in
    if find_root(root.resolve()).resolve() != course.root.resolve():
        arguments += f", course={os.path.relpath(course.root.resolve(), root.resolve())!r}"
    if db_url:
        arguments += f", db_url={db_url!r}"
    return TEXT.replace("{arguments}", arguments)


def configured(config: Config, key: str) -> Any:
    """A setting of the course folder, None where the configuration has none."""
    return config.CourseDirectory.get(key) if "CourseDirectory" in config else None
