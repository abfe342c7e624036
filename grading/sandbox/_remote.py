"""A Subject whose code runs behind the wall: the suites judge it from this side, word for word as in one process."""

from __future__ import annotations

import dis
import marshal
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from grading.course import Course, Exercise
from grading.subject import Answers, Composition, Gone, Opening, Parameter, Questions, Sources, Subject, SubjectDied

from ._processes import Sandbox, Worker, no_object
from ._stand_ins import Remote, RemoteCallable
from ._wire import Encoder

# compositions that stay alive at once; each is a process
MAX_WORKERS = 3


class RemoteOpening:
    """One imported module of a composition in a worker."""

    def __init__(self, worker: Worker, handle: Remote) -> None:
        self.worker, self.handle = worker, handle

    def reach(self, symbol: str, wanted: Sequence[Parameter] | None) -> tuple[Any, str]:
        encode = self.worker.encoder()
        parameters = encode(None if wanted is None else [list(pair) for pair in wanted])
        found = self.worker.ask("reach", encode, object=self.handle._number, symbol=symbol, wanted=parameters)
        match found:
            case None:
                raise Gone(symbol)
            case [RemoteCallable() as value, ""]:
                return value, ""
            case [_, str(problem)] if problem:
                return None, problem
        raise SubjectDied("broke the rules of its connection (no function or class)")

    def beside(self, scenario: Callable[..., Any], values: dict[str, Any]) -> Any:
        encode = self.worker.encoder()
        shipped = encode(_shipped(scenario))
        return self.worker.ask("beside", encode, object=self.handle._number, scenario=shipped, values=encode(values))

    def ahead(self, questions: Questions, seed: int) -> Answers:
        if questions not in _encoded:
            _encoded[questions] = _Encoded(questions)
        sent = _encoded[questions]
        number = self.handle._number
        return self.worker.ask_many(
            sent.encode, object=number, scenarios=sent.scenarios, questions=sent.questions, seed=seed
        )


class _Encoded:
    """Many questions as they are sent: the same for all who are asked them."""

    def __init__(self, questions: Questions) -> None:
        self.encode = Encoder(no_object)
        scenarios = list(dict.fromkeys(scenario for scenario, _ in questions.asked))
        self.questions = [[scenarios.index(scenario), self.encode(values)] for scenario, values in questions.asked]
        self.scenarios = [self.encode(_shipped(scenario)) for scenario in scenarios]


_encoded: WeakKeyDictionary[Questions, _Encoded] = WeakKeyDictionary()


@cache
def _shipped(scenario: Callable[..., Any]) -> dict[str, Any]:
    """A scenario as data: its code, and what of its suite it names: functions, imports and plain values."""
    functions: dict[str, Any] = {}
    imports: dict[str, list[str]] = {}
    values: dict[str, Any] = {}
    todo: list[Any] = [scenario]
    while todo:
        function = todo.pop()
        code, known = function.__code__, function.__globals__
        functions[function.__name__] = [marshal.dumps(code), function.__defaults__, function.__kwdefaults__]
        for name in (_names(code) & known.keys()) - functions.keys():
            value = known[name]
            if isinstance(value, types.ModuleType):
                imports[name] = [value.__name__, ""]
            elif isinstance(value, types.FunctionType) and value.__module__ == function.__module__:
                todo.append(value)
            elif callable(value) and not isinstance(value, types.FunctionType):
                imports[name] = [value.__module__, value.__name__]
            else:
                values[name] = value
    return {"name": scenario.__name__, "functions": functions, "imports": imports, "values": values}


def _names(code: types.CodeType) -> set[str]:
    """The global names that a function and the functions inside it read."""
    inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    own = {step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*map(_names, inner))


class RemoteSubject(Subject):
    """An implementation behind the wall: the same suites, word for word, judge it through stand-ins."""

    sparing = True
    answers_ahead = True

    def __init__(self, course: Course, sources: Sources, reference: Sources | None, sandbox: Sandbox) -> None:
        super().__init__(course, sources, reference)
        self.sandbox = sandbox
        self._workers: dict[tuple[str, ...], Worker] = {}
        self._current: Worker | None = None
        # CPU seconds of the workers that have ended
        self.seconds_used = 0.0

    def _open(self, key: tuple[str, ...], composition: Composition, module: str) -> RemoteOpening:
        worker = self._worker(key)
        self._current = worker
        worker.seconds = self.course.limits.import_seconds
        worker.compositions.append(composition)
        package = len(worker.compositions) - 1
        handle = worker.ask(
            "open", package=package, names=sorted(composition.names), homes=composition.homes, module=module
        )
        if not isinstance(handle, Remote):
            raise SubjectDied("broke the rules of its connection (no module)")
        worker.seconds = self.course.limits.check_seconds
        return RemoteOpening(worker, handle)

    def _opening(self, exercise: Exercise, source: Any, passed: Sequence[str]) -> Opening:
        for key, opening in list(self._openings.items()):
            if isinstance(opening, RemoteOpening) and opening.worker.ended is not None:
                del self._openings[key]
        opening = super()._opening(exercise, source, passed)
        assert isinstance(opening, RemoteOpening), "everything opens behind the wall"
        self._current = opening.worker
        return opening

    def ahead(self, exercise: Exercise, passed: Sequence[str], questions: Questions, seed: int) -> Answers:
        opening = self._opening(exercise, self.defined(exercise), passed)
        assert isinstance(opening, RemoteOpening), "everything opens behind the wall"
        return opening.ahead(questions, seed)

    @property
    def requests(self) -> int:
        return self._current.requests if self._current else 0

    def _worker(self, key: tuple[str, ...]) -> Worker:
        """The worker of one composition: what it lends is never what it judges, and no other worker's memory."""
        worker = self._workers.get(key)
        if worker is None or worker.ended is not None:
            if worker is not None:
                self._end(self._workers.pop(key))
            while len(self._workers) >= MAX_WORKERS:
                self._end(self._workers.pop(next(iter(self._workers))))
            worker = self._workers[key] = self.sandbox.fork()
        return worker

    @contextmanager
    def judging(self, exercise: Exercise, *, slow: bool) -> Iterator[None]:
        worker = self._current
        if worker is None or worker.ended is not None:
            yield
            return
        limits = self.course.limits
        worker.seconds = limits.slow_check_seconds if slow else limits.check_seconds
        worker.ask("begin", unavailable=list(exercise.delegation))
        try:
            yield
        finally:
            worker.check_ended = True

    def seed(self, seed: int) -> None:
        if self._current is not None:
            self._current.seed = seed

    def frames(self, error: BaseException) -> list[traceback.FrameSummary]:
        frames = getattr(error, "frames", None)
        return super().frames(error) if frames is None else frames

    def close(self) -> None:
        super().close()
        for worker in self._workers.values():
            self._end(worker)
        self._workers.clear()

    def _end(self, worker: Worker) -> None:
        self.seconds_used += worker.kill().get("seconds", 0.0)
