"""The pieces that a training run is put together from, and a sentence for whatever in them does not work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from grading.course import Course, Exercise
from grading.data import DataError
from grading.subject import Broken, Source, Subject, SubjectError, impl_path, read_sources

from ._train import TrainError


class Workshop:
    """One implementation's own pieces. A folder is taken as it is; a single file is completed from the reference."""

    def __init__(self, course: Course, impl: str | None) -> None:
        self.course = course
        path = impl_path(course, impl)
        self.name = f"{path}"
        reference = None if path.is_dir() else read_sources(course, course.root / "solutions")
        sources = read_sources(course, path)
        source = sources.of(course.exercises["train"])
        if reference is not None and not isinstance(source, Broken) and not (source and "train" in source.definitions):
            raise TrainError(
                f"{path} is one file, without `train`; `goodinit train` takes a folder with the nine units"
            )
        self.subject = Subject(course, sources, reference)

    @cached_property
    def pieces(self) -> Any:
        """Everything by name: `pieces.TrainLearner`, `pieces.Adam`."""
        with self.student_code():
            return self.subject.pieces(self.course.exercises["train"])

    def check_written(self, targets: Iterable[str]) -> None:
        """Raises TrainError with the first exercise, of `targets` and what they build on, that is still a stub."""
        needed = {name for target in targets for name in (*self.course.prerequisites(target), target)}
        ordered = [self.course.exercises[name] for name in self.course.exercises if name in needed]
        missing = [exercise for exercise in ordered if self._is_missing(exercise)]
        if missing:
            more = f", nor {len(missing) - 1} more of the capstone's pieces" if missing[1:] else ""
            raise self._not_written(missing[0], more)

    @contextmanager
    def student_code(self) -> Iterator[None]:
        """Turns what the student's code raises into one sentence with its file and line."""
        try:
            yield
        except (TrainError, DataError):
            raise
        except SubjectError as error:
            raise TrainError(str(error)) from None
        except (Exception, SystemExit) as error:
            frames = self.subject.student_frames(error)
            if not frames:
                raise
            exercise = self._exercise_at(frames[-1].filename, frames[-1].lineno or 1)
            if isinstance(error, NotImplementedError) and exercise is not None:
                raise self._not_written(exercise) from None
            *_, place, raised = self.subject.explain(error).splitlines()
            raise TrainError(f"{place}: {raised}") from None

    @contextmanager
    def tolerated(self, say: Callable[[str], None]) -> Iterator[None]:
        """Hands the sentence on an error in the student's code to `say`, and goes on after the block."""
        try:
            with self.student_code():
                yield
        except (TrainError, AttributeError) as error:
            say(str(error))

    def _not_written(self, exercise: Exercise, more: str = "") -> TrainError:
        place = self.subject.locate(exercise)
        return TrainError(
            f"{exercise.id} is not written yet ({place}){more}; `goodinit hint {exercise.id}` helps", exercise.id
        )

    def _is_missing(self, exercise: Exercise) -> bool:
        """Whether the text of an exercise is a stub, or is not there and nobody lends it."""
        source = self.subject.sources.of(exercise)
        if isinstance(source, Broken):
            raise TrainError(f"{source.where}: {source.problem}")
        if source is None or not source.defines(exercise):
            return self.subject.reference is None
        return not self.subject.sources.started(exercise)

    def _exercise_at(self, filename: str, line: int) -> Exercise | None:
        for exercise in self.course.exercises.values():
            source = self.subject.sources.of(exercise)
            if isinstance(source, Source) and str(source.path) == filename:
                for name in exercise.names:
                    node = source.definitions.get(name)
                    if node is not None and node.lineno <= line <= (node.end_lineno or node.lineno):
                        return exercise
        return None
