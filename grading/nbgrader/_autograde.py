"""What `nbgrader autograde` and the formgrader's button run instead of nbgrader's own: the judge, behind the wall.

All of it is put in place by nbgrader_config.py: an exporter that mends what was handed in, a preprocessor that runs the
cells and judges the exercises elsewhere, and one that knows which points a person must confirm.
"""

from __future__ import annotations

import atexit
import io
import json
import logging
import os
import shutil
import stat
import tempfile
import threading
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader import utils
from nbgrader.api import Gradebook
from nbgrader.converters import Autograde, NbGraderException, base
from nbgrader.preprocessors import Execute, SaveAutoGrades
from traitlets import Bool, Unicode
from traitlets import Integer as Number

from grading.classroom import LOST, GradeError, Options, Result, kit_errors
from grading.course import Course, find_root, load

from ._cells import exercise_of, settled, show
from ._desk import Desk, Submission, read, read_seed, seed_file
from ._guard import watch
from ._mend import MendError, given_cells, mend

# after so long without a submission a judge is ended; the formgrader's server runs for days
IDLE_SECONDS = 120.0
# where nbgrader_config.py cannot be read at all, nothing else of ours is loaded
watch()

SETTLED, REVIEW = "goodinit_settled", "goodinit_review"


class NotGraded(Exception):
    """One sentence on why one student's notebook could not be graded; nbgrader goes on with the next."""


class MendingExporter(NotebookExporter):
    """Reads notebooks as they were handed in, and mends them on the way."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)  # type: ignore[no-untyped-call]
        # what was mended, and what each code cell showed when it was handed in, by student and notebook
        self.notes: dict[tuple[str, str], list[str]] = {}
        self.saved: dict[tuple[str, str], list[Any]] = {}
        if isinstance(self.parent, Autograde):
            self._check_seed(self.parent)
            self.begin = self.parent.init_assignment
            self.parent.init_assignment = self.begin_safely

    def _check_seed(self, converter: Any) -> None:
        """Ends the command before nbgrader takes away what it has graded, where nobody could be judged anew."""
        coursedir = converter.coursedir
        path = seed_file(coursedir, coursedir.assignment_id)
        if path.exists() and Judged(config=converter.config).seed is None:
            try:
                read_seed(path)
            except GradeError as error:
                self.log.error("%s", error)
                raise NbGraderException(str(error)) from None

    def begin_safely(self, assignment: str, student: str) -> None:
        """What nbgrader does before it reads the notebooks: it copies the other files, and gives 0 for what is missing.

        It would follow links to wherever they lead, and what it copies goes out with the feedback.
        """
        converter: Any = self.parent
        folder = Path(converter._format_source(assignment, student))
        problem = _no_submission(folder, converter.coursedir)
        if problem:
            raise _not_graded(self.log, f"{student}'s {problem}")
        left_out: list[str] = []

        def files(path: str, exclude: list[str] | None = None) -> list[str]:
            found: list[str] = utils.find_all_files(path, exclude)
            plain = [file for file in found if _is_plain(file)]
            left_out.extend(os.path.relpath(file, path) for file in found if file not in plain)
            return plain

        with patch.object(base, "find_all_files", files):
            self.begin(assignment, student)
        for notebook in converter.notebooks:
            notes = self.notes.setdefault((student, Path(notebook).stem), [])
            notes.extend(f"{name} is a link or no file, and was left out" for name in left_out)

    def from_filename(self, filename: str, resources: Any = None, **more: Any) -> Any:
        who = resources["nbgrader"]
        converter: Any = self.parent
        coursedir = converter.coursedir
        source = coursedir.format_path(coursedir.source_directory, ".", who["assignment"])
        with Gradebook(who["db_url"], coursedir.course_id) as book:
            given = given_cells(book, who["notebook"], who["assignment"], Path(source) / f"{who['notebook']}.ipynb")
        try:
            mended = mend(read(Path(filename)), given)
        except MendError as error:
            raise _not_graded(self.log, f"{who['student']}'s {who['notebook']}.ipynb {error}") from None
        for note in mended.notes:
            self.log.warning("%s's %s.ipynb: %s", who["student"], who["notebook"], note)
        # nbgrader reads what it has written once more
        key = who["student"], who["notebook"]
        self.notes.setdefault(key, []).extend(mended.notes)
        code = [cell for cell in mended.notebook.cells if cell.cell_type == "code"]
        self.saved.setdefault(key, [cell.outputs for cell in code])
        text = nbformat.writes(mended.notebook)  # type: ignore[no-untyped-call]
        return self.from_file(io.StringIO(text), resources=resources, **more)


class Judged(Execute):  # type: ignore[misc]
    """Runs the cells in a confined process and has the exercises judged, instead of running tests in the notebook.

    `--Execute.timeout` bounds each cell; with `--no-execute` the cells are not run, and are judged all the same.
    """

    course = Unicode("", help="The folder of course.toml, relative to the course's; found from there unless given").tag(
        config=True
    )
    hidden = Unicode("", help="A folder of private suites, relative to that of course.toml; they never ship").tag(
        config=True
    )
    data = Unicode("", help="A folder with the Fashion-MNIST IDX files, or 'synthetic', for the capstone").tag(
        config=True
    )
    slow = Bool(True, help="Whether the checks that train are judged").tag(config=True)
    seed = Number(None, allow_none=True, help="Fixes what is drawn; kept for each assignment unless given").tag(
        config=True
    )

    def __call__(self, nb: NotebookNode, resources: Any) -> Any:
        return self.preprocess(nb, resources)

    def preprocess(self, nb: NotebookNode, resources: Any = None, km: Any = None) -> Any:
        who = resources["nbgrader"]
        name = f"{who['student']}'s {who['notebook']}.ipynb"
        try:
            desk = self.desk(self.parent.parent.coursedir, who["notebook"])
            submission = desk.submission(who["student"], nb)
            record = desk.kept(submission) or desk.keep(submission, _bench(desk).judge(submission))
        except GradeError as error:
            raise _not_graded(self.log, f"{name} could not be judged: {error}") from None
        if record["problem"]:
            if record["problem"].startswith(LOST):
                raise _not_graded(self.log, f"{name} {record['problem']}")
            self.log.warning("%s: %s", name, record["problem"])
        for sentence in kit_errors([record]):
            self.log.warning("%s: %s", name, sentence)
        key = who["student"], who["notebook"]
        notes = [*self.parent.notes.pop(key, ()), *filter(None, [record["problem"]])]
        show(nb, record, desk.unit.title, notes, self.parent.saved.pop(key, ()))
        resources[SETTLED], resources[REVIEW] = settled(record)
        return nb, resources

    def desk(self, coursedir: Any, unit: str) -> Desk:
        """Where the submissions of a unit are judged, by these settings."""
        root = Path(coursedir.root).resolve()
        place = (root / self.course).resolve() if self.course else find_root(root)
        course = _course(place, (place / "course.toml").stat().st_mtime_ns)
        cells = course.limits.of_cells(float(self.timeout) if self.timeout and self.timeout > 0 else None)
        hidden = self.hidden or course.nbgrader.hidden
        options = Options(
            exercises=course.by_unit[unit].exercises,
            seed=self.seed,
            jobs=1,
            slow=self.slow,
            hints=False,
            data=self.data or None,
            hidden=str((course.root / hidden).resolve()) if hidden else None,
            cells=cells if self.enabled else None,
        )
        return Desk(course, course.by_unit[unit], coursedir, options)


class SaveGrades(SaveAutoGrades):  # type: ignore[misc]
    """Saves the points as nbgrader does, and leaves to a person what only a person may decide."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> Any:
        self.settled, self.review = resources.get(SETTLED, ()), resources.get(REVIEW, ())
        return super().preprocess(nb, resources)

    def _add_score(self, cell: NotebookNode, resources: Any) -> None:
        exercise = exercise_of(cell)
        by_judge = exercise in self.settled
        if by_judge or utils.is_solution(cell) or cell.cell_type != "code":
            super()._add_score(cell, resources)
            if exercise not in self.review:
                return
        grade = self.gradebook.find_grade(
            cell.metadata.nbgrader.grade_id, self.notebook_id, self.assignment_id, self.student_id
        )
        if not by_judge:
            # a cell that the judge has not judged, or could not: what the student's process says is no grade
            grade.auto_score = None
        grade.needs_manual_grade = True
        self.gradebook.db.commit()


class _Bench:
    """A judge that waits for the next submission of one desk: started once for all students of a command."""

    def __init__(self, desk: Desk) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="goodinit-"))
        self.queue = desk.judges(self.folder)
        self.desk = desk
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None
        # why no judge can be started: that is the same for the next student
        self.problem: GradeError | None = None
        atexit.register(self.close)

    def judge(self, submission: Submission) -> Result:
        with self.lock:
            if self.timer is not None:
                self.timer.cancel()
            try:
                if self.problem is not None:
                    raise self.problem
                results: list[Result] = list(self.queue.run([self.desk.job(submission)]))
            except BaseException as error:
                # what it was doing is not what the next one asks for
                self.queue.__exit__()
                self.problem = error if isinstance(error, GradeError) else None
                raise
            finally:
                self.timer = threading.Timer(IDLE_SECONDS, self._rest)
                self.timer.daemon = True
                self.timer.start()
            return results[0]

    def _rest(self) -> None:
        with self.lock:
            self.problem = None
            self.queue.__exit__()

    def close(self) -> None:
        self.queue.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)


def _bench(desk: Desk) -> _Bench:
    key = json.dumps([str(desk.folder), desk.seed, desk.kit, desk.options.public(), desk.options.hidden])
    if key not in _benches():
        _benches()[key] = _Bench(desk)
    return _benches()[key]


@cache
def _benches() -> dict[str, _Bench]:
    return {}


@cache
def _course(root: Path, changed: int) -> Course:
    """The course as it is since it was changed last."""
    return load(root)


def _no_submission(folder: Path, coursedir: Any) -> str:
    """Why a folder holds nothing that can be graded as one student's work; empty where it may."""
    for place in (folder, folder.parent):
        if place.is_symlink():
            return f"folder {place} is a link, perhaps to what another student has handed in; the files are needed"
    for notebook in folder.glob("*.ipynb"):
        if not _is_plain(notebook):
            return f"{notebook.name} cannot be read: it is a link or no file; the notebook itself is needed"
    timestamp = folder / "timestamp.txt"
    if os.path.lexists(timestamp):
        if not _is_plain(timestamp):
            return "timestamp.txt is no file; remove it"
        try:
            coursedir.get_existing_timestamp(str(folder))
        except (Exception, SystemExit):
            return "timestamp.txt holds no date such as 2026-01-31 12:00:00 UTC; mend it or remove it"
    return ""


def _is_plain(path: str | Path) -> bool:
    """Whether this is a file, and no link to one."""
    return stat.S_ISREG(os.lstat(path).st_mode)


def _not_graded(log: Any, sentence: str) -> NotGraded:
    """The exception that makes nbgrader go on with the next student, and print its sentence without a traceback."""

    def shorten(record: logging.LogRecord) -> bool:
        if sentence in record.getMessage() and "Traceback" in record.getMessage():
            record.msg, record.args = sentence, ()
            log.removeFilter(shorten)
        return True

    log.addFilter(shorten)
    return NotGraded(sentence)
