"""Autogrades a whole class at once: judges side by side, and a single writer to the gradebook.

The judges leave a record of each submission where nbgrader's own autograde looks for it; that runs meanwhile, for one
student after another in one thread, finds the record and has only to write. A run that was stopped, by kill -9 at any
moment, is continued by the next: what was judged is not judged again, and what was not written as a whole is written.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import re
import shutil
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from nbgrader.api import Assignment, BaseCell, Grade, Gradebook, SubmittedAssignment, SubmittedNotebook
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import capture_log
from sqlalchemy.exc import SAWarning

from grading.classroom import LOST, Entry, Job, Progress, Taken, as_json, file_name, kit_errors, locked
from grading.course import Unit
from grading.verdict import KIT_ERROR

from ._autograde import Judged
from ._config import FILE, NbgraderError, read_config
from ._course import gradebook, gradebook_missing
from ._desk import Desk, Submission
from ._mend import Given, MendError

WORK, LOCK = ".work", ".lock"
# how nbgrader begins what it logs
FAILED = "There was an error processing assignment:"
UNREACHABLE = "There was an error accessing the nbgrader database"


@dataclass(frozen=True)
class Autograded:
    """How a run ended: how many it has done, how many an earlier one had, and how many an interruption has left.

    `problems` has a sentence for each student whose submission could not be graded, and `kit_errors` one for each check
    that failed by itself.
    """

    done: int
    kept: int
    left: int
    problems: dict[str, str]
    kit_errors: list[str]


def autograde(
    root: Path,
    unit: Unit,
    *,
    jobs: int | None = None,
    scheduler: Any = None,
    force: bool = False,
    hidden: str | None = None,
) -> Autograded:
    """Grades what was handed in for `unit` in the nbgrader course `root`, and goes on where a run was stopped.

    `hidden` is a folder of private suites, that of the configuration unless given.
    Raises NbgraderError, GradeError or OutputError, each with one sentence, where that cannot be done.
    """
    if not (root / FILE).is_file():
        raise NbgraderError(f"{root} holds no nbgrader course: goodinit build --nbgrader {root} makes one")
    config = read_config(root)
    config.CourseDirectory.root = str(root.resolve())
    if hidden:
        config.Judged.hidden = str(Path(hidden).resolve())
    one = _Class(config, unit, root)
    one.desk.options = replace(one.desk.options, jobs=jobs, scheduler=scheduler)
    one.desk.folder.mkdir(parents=True, exist_ok=True)
    with locked(one.desk.folder / LOCK), warnings.catch_warnings():
        # nbgrader's own, of no consequence
        warnings.simplefilter("ignore", SAWarning)
        return one.grade(force)


class _Class:
    """The submissions of one unit, and how far each is."""

    def __init__(self, config: Any, unit: Unit, root: Path) -> None:
        self.config, self.unit, self.root = config, unit, root
        self.coursedir = CourseDirectory(config=config)
        self.desk: Desk = Judged(config=config).desk(self.coursedir, unit.id)
        self.policy = _late_policy(config)
        self.given = self._given()
        self.students = self._students()
        self.taken: dict[Entry, Submission] = {}
        # of each record, the checks that failed by themselves
        self.failed: dict[str, dict[str, Any]] = {}
        # why nothing can be read of what they have handed in
        self.unreadable: dict[str, str] = {}

    def _given(self) -> list[Given]:
        missing = gradebook_missing(self.root)
        if missing:
            raise NbgraderError(
                f"there is no {missing}: put it back from a copy, or begin anew with "
                f"goodinit build --nbgrader {self.root} and nbgrader generate_assignment {self.unit.id}"
            )
        with gradebook(self.root) as book:
            if not any(entry.name == self.unit.id and entry.notebooks for entry in book.assignments):
                raise NbgraderError(
                    f"the gradebook of {self.root} has no cells of {self.unit.id} yet: "
                    f"run nbgrader generate_assignment {self.unit.id} in {self.root}"
                )
        return self.desk.given()

    def _students(self) -> list[str]:
        """Everybody who has a folder of this assignment, where nbgrader looks for it."""
        pattern = self._folder(self.coursedir.submitted_directory, "*")
        place = Path(pattern).parts.index("*")
        found = sorted(path.parts[place] for path in map(Path, glob.glob(pattern)) if path.is_dir())
        if not found:
            raise NbgraderError(f"nobody has handed in {self.unit.id}: {pattern} is expected")
        return found

    def _folder(self, step: str, student: str) -> str:
        return str(self.coursedir.format_path(step, student, self.unit.id))

    def grade(self, force: bool) -> Autograded:
        jobs, judged = [], []
        entered = self._entered()
        # neither nbgrader nor a page can take in such a name
        odd = [student for student in self.students if not student.isprintable()]
        for student in self.students:
            if student in odd:
                continue
            submission = self._submission(student)
            if submission is None:
                judged.append(student)
                continue
            record = None if force else self.desk.kept(submission)
            if record is None:
                self._mark(student).unlink(missing_ok=True)
                jobs.append(Job(submission.entry, self.desk.seed, partial(self._take, submission.entry)))
                continue
            self._note(student, record)
            if not self._is_written(student, entered.get(student, {})):
                judged.append(student)
        todo = len(odd) + len(jobs) + len(judged)
        with _Writer(self._write, todo) as writer:
            for student in odd:
                writer.put(
                    student, f"the folder {student!r} has characters in its name that cannot be shown: rename it"
                )
            for student in judged:
                writer.put(student)
            for student, problem in self._judge(jobs):
                writer.put(student, problem)
        kept = len(self.students) - todo
        return Autograded(writer.done, kept, todo - writer.done, writer.problems, kit_errors(self.failed.values()))

    def _note(self, student: str, record: dict[str, Any]) -> None:
        self.failed[student] = {"verdicts": [one for one in record["verdicts"] if one["verdict"] == KIT_ERROR]}

    def _judge(self, jobs: list[Job]) -> Iterator[tuple[str, str]]:
        """Keeps what the judges find; yields each student, and the reason where they could find nothing."""
        if not jobs:
            return
        work = self.desk.folder / WORK
        # what a run left that was ended in the middle of it
        shutil.rmtree(work, ignore_errors=True)
        try:
            with self.desk.judges(work) as judges:
                for result in judges.run(jobs):
                    submission = self.taken.pop(result.job.entry, None)
                    problem = ""
                    if submission:
                        record = self.desk.keep(submission, result)
                        self._note(submission.student, record)
                        problem = record["problem"]
                    yield result.job.entry.raw, problem if problem.startswith(LOST) else ""
        finally:
            shutil.rmtree(work, ignore_errors=True)

    def _take(self, entry: Entry) -> Taken:
        submission = self._submission(entry.raw)
        if submission is None:
            return Taken()
        self.taken[entry] = submission
        return submission.taken

    def _submission(self, student: str) -> Submission | None:
        """What a student has handed in; None where that is no notebook, and then it is noted why."""
        try:
            return self.desk.submission(student, self.desk.handed_in(student, self.given).notebook)
        except MendError as error:
            self.unreadable[student] = f"{student}'s {self.unit.id}.ipynb {error}"
            return None

    def _write(self, student: str) -> str:
        """Lets nbgrader write the grades of one student; returns a sentence where it could not."""
        mark = self._mark(student)
        mark.unlink(missing_ok=True)
        self.coursedir.assignment_id, self.coursedir.student_id = self.unit.id, glob.escape(student)
        converter = Autograde(coursedir=self.coursedir, config=self.config)
        converter.force = True
        problem = self.unreadable.get(student, "")
        if problem and Path(self._folder(self.coursedir.autograded_directory, student)).exists():
            # nbgrader would take away what it has of an earlier one
            return f"{problem}; what was graded before stays"
        result = capture_log(converter)
        if not result["success"]:
            return problem or _reason(result)
        new = mark.with_suffix(".new")
        new.write_text(as_json(self._state(student, self._entered(student)[student])), encoding="utf-8")
        os.replace(new, mark)
        return ""

    def _is_written(self, student: str, entered: dict[str, Any]) -> bool:
        """Whether the gradebook and the autograded folder hold what an earlier run has written."""
        try:
            return bool(json.loads(self._mark(student).read_text(encoding="utf-8")) == self._state(student, entered))
        except (OSError, ValueError):
            return False

    def _state(self, student: str, entered: dict[str, Any]) -> dict[str, Any]:
        """What must not have changed for a student to be left alone."""
        submitted = Path(self._folder(self.coursedir.submitted_directory, student))
        autograded = Path(self._folder(self.coursedir.autograded_directory, student)) / f"{self.unit.id}.ipynb"
        timestamp = submitted / "timestamp.txt"
        return {
            "record": hashlib.sha256(self._mark(student).with_suffix(".json").read_bytes()).hexdigest(),
            "timestamp": timestamp.read_text(errors="replace") if timestamp.is_file() else None,
            "autograded": hashlib.sha256(autograded.read_bytes()).hexdigest(),
            **entered,
        }

    def _mark(self, student: str) -> Path:
        return self.desk.folder / f"{file_name(student)}.written"

    def _entered(self, student: str | None = None) -> dict[str, dict[str, Any]]:
        """What the gradebook has from judges, and what else it follows from there, by student; of one or of all."""
        with Gradebook(self.coursedir.db_url, self.coursedir.course_id) as book:
            submitted = (
                book.db.query(SubmittedAssignment)
                .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
                .filter(Assignment.name == self.unit.id)
            )
            graded = (
                book.db.query(SubmittedAssignment.student_id, BaseCell.name, Grade.auto_score, Grade.max_score)
                .join(Assignment, Assignment.id == SubmittedAssignment.assignment_id)
                .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
                .join(Grade, Grade.notebook_id == SubmittedNotebook.id)
                .join(BaseCell, BaseCell.id == Grade.cell_id)
                .filter(Assignment.name == self.unit.id)
            )
            if student:
                submitted, graded = (
                    query.filter(SubmittedAssignment.student_id == student) for query in (submitted, graded)
                )
            scores: dict[str, dict[str, Any]] = {}
            for who, cell, points, max_points in graded:
                scores.setdefault(who, {})[cell] = [points, max_points]
            return {
                one.student_id: {"late": self._late(one.total_seconds_late), "scores": scores.get(one.student_id, {})}
                for one in submitted
            }

    def _late(self, seconds: float) -> list[Any] | None:
        """What the penalty of a submission follows from beside its points; nothing where it is in time.

        The due date and an extension count as far as they change that: a grade that stays is not to be confirmed again.
        """
        return [seconds, self.policy] if seconds > 0 else None


class _Writer:
    """Writes in a thread what it is given, one after another; an interruption lets it finish the one it is at."""

    def __init__(self, write: Callable[[str], str], total: int) -> None:
        self.write, self.total = write, total
        self.waiting: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self._run)
        self.stopped = False
        self.error: BaseException | None = None
        self.done = 0
        self.problems: dict[str, str] = {}

    def put(self, student: str, problem: str = "") -> None:
        if self.error is not None:
            raise self.error
        self.waiting.put((student, problem))

    def __enter__(self) -> _Writer:
        self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *more: object) -> bool:
        self.stopped = kind is not None
        self.waiting.put(None)
        try:
            self.thread.join()
        except KeyboardInterrupt:
            self.stopped, kind = True, KeyboardInterrupt
            self.thread.join()
        if self.error is not None and kind is None:
            raise self.error
        return kind is KeyboardInterrupt

    def _run(self) -> None:
        try:
            with Progress(self.total) as progress:
                while not self.stopped and (next := self.waiting.get()) is not None:
                    student, problem = next
                    problem = problem or self.write(student)
                    if problem:
                        self.problems[student] = problem
                    self.done += 1
                    progress.step()
        except BaseException as error:
            self.error = error


def _late_policy(config: Any) -> str:
    """All that is configured of what late submissions lose, also where a plugin of the instructor's own decides."""
    plugin = str(config.AssignLatePenalties.get("plugin_class", ""))
    names = sorted({"AssignLatePenalties", "LateSubmissionPlugin", plugin.rpartition(".")[2]} & set(config))
    return json.dumps({name: dict(config[name]) for name in names}, sort_keys=True, default=repr)


def _reason(result: dict[str, str]) -> str:
    """The sentence in what nbgrader has logged on a student whose submission it could not grade."""
    lines = [line.strip() for line in re.split(r"^\[ERROR\] ", result.get("log", ""), flags=re.MULTILINE)]
    if any(line.startswith(UNREACHABLE) for line in lines):
        reason = next((line.splitlines()[0] for line in result["error"].splitlines() if "OperationalError" in line), "")
        raise NbgraderError(f"the gradebook cannot be written to: {reason}; what is judged is kept")
    after = [second for first, second in itertools.pairwise(lines) if first.startswith(FAILED)]
    said = (after or lines or [""])[0 if after else -1] or result["error"].strip()
    return said.splitlines()[-1]
