"""The judge's side of the wall: workers, and stand-ins for the objects that live in them."""

from __future__ import annotations

import builtins
import contextlib
import copy
import dis
import json
import marshal
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, lru_cache, partial
from itertools import count
from typing import Any, Self, TypeVar

import torch

from grading.course import Course, Exercise
from grading.subject import (
    Composition,
    Gone,
    KitFailure,
    Opening,
    Parameter,
    Question,
    Sources,
    Subject,
    SubjectDied,
    TimeExpired,
    tensors_in,
)

from ._confine import Limits, explain, platform_problem
from ._outer import outer_wall
from ._wire import MEGABYTE, Closed, Decoder, Encoder, Late, WireError, bounded, receive, send

REPLY_BYTES = 65_536
# a module can need others, and no more than there are
MAX_NEEDS = 100
MAX_OBJECTS = 10_000
# compositions that stay alive at once; each is a process
MAX_WORKERS = 3
# the first of the user ids that workers get when the judge is root, one each, so that no two can signal each other
FIRST_UID, UIDS = 2_000_000_000, 1_000_000
START_SECONDS = 60.0

Found = TypeVar("Found")

RAISED = {
    kind.__name__: kind
    for kind in (
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        IndexError,
        KeyError,
        LookupError,
        MemoryError,
        ModuleNotFoundError,
        NameError,
        NotImplementedError,
        OSError,
        OverflowError,
        RecursionError,
        RuntimeError,
        StopIteration,
        SyntaxError,
        TypeError,
        UnboundLocalError,
        ValueError,
        ZeroDivisionError,
    )
}


# what Hypothesis looks for in every argument
PROBED = {
    "_repr_pretty_", "hypothesis_internal_is_this_a_mock_check", "setup_example", "execute_example", "teardown_example",
}  # fmt: skip
# methods that every module has: they need not be fetched before they are called
MODULE_METHODS = frozenset(
    name for name in dir(torch.nn.Module) if not name.startswith("_") and callable(getattr(torch.nn.Module, name))
)


class SandboxError(KitFailure):
    """One sentence on why nothing can be graded behind the wall on this machine."""


class StudentError(Exception):
    """An exception of a kind that does not cross the wall."""


class Sandbox:
    """Forks a confined worker per request, from one process that has torch loaded and warm.

    Raises SandboxError where the machine cannot confine: nothing runs unconfined instead.
    """

    def __init__(self, course: Course) -> None:
        problem = platform_problem()
        if problem:
            raise SandboxError(problem)
        limits = course.limits
        self.limits = Limits(
            memory_mb=limits.memory_mb,
            data_mb=limits.data_mb,
            cpu_seconds=limits.cpu_seconds,
            threads=limits.threads,
            open_files=limits.open_files,
        )
        self.frame_bytes = limits.frame_mb * MEGABYTE
        finished = {name.partition(".")[0] for exercise in course.exercises.values() for name in exercise.delegation}
        # to close what is in them a worker needs them, and a submission may leave it no descriptor to import them with
        self._modules = sorted(finished & sys.stdlib_module_names)
        # no two judges of one machine begin at the same user
        self._numbers = count(secrets.randbelow(UIDS))
        self._process: subprocess.Popen[bytes] | None = None
        # to a template that is starting, and to one that is ready
        self._begun: socket.socket | None = None
        self._control: socket.socket | None = None

    def begin(self) -> None:
        """Starts the template without waiting for it: importing torch there and here can go side by side."""
        if self._begun is not None or self._control is not None:
            return
        self._begun, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._begun.settimeout(START_SECONDS)
        # every process that comes from this template carries the same command line, and no other one does
        mark = secrets.token_hex(8)
        environment = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        # the order of a set must not differ from one grading to the next
        environment["PYTHONHASHSEED"] = "0"
        # where libraries keep their caches, for the template alone
        environment |= {name: os.environ[name] for name in ("HOME", "MPLCONFIGDIR") if name in os.environ}
        with theirs:
            command = [sys.executable, "-P", "-m", f"{__package__}._template", str(theirs.fileno()), mark]
            self._process = subprocess.Popen(
                [*outer_wall(), *command, *self._modules],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=environment,
            )

    def branch(self) -> Self:
        """A sandbox for a process that is forked from this one: its template is a copy of this one's, made at once."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(START_SECONDS)
        with theirs:
            self._tried(lambda control: self._asked(control, {"do": "branch"}, theirs))
        found = copy.copy(self)
        found._numbers, found._process, found._control = count(secrets.randbelow(UIDS)), None, ours
        return found

    def fork(self) -> Worker:
        """A new confined worker, which knows of nothing yet."""
        return self._tried(self._fork)

    def _tried(self, request: Callable[[socket.socket], Found]) -> Found:
        """What the template answers; where it has died, what a new one answers, once."""
        for attempt in (1, 2):
            try:
                return request(self._started())
            except (OSError, ValueError) as error:
                self.close()
                if attempt == 2:
                    raise SandboxError(f"the process that workers are forked from does not answer ({error})") from None
        raise AssertionError("unreachable")

    def _started(self) -> socket.socket:
        if self._control is None:
            self.begin()
            assert self._begun is not None and self._process is not None, "it was begun"
            try:
                answer = self._begun.recv(64)
            except TimeoutError:
                answer = b""
            if not answer:
                self._process.kill()
                _, words = self._process.communicate()
                self._process = None
                self.close()
                last = (words.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
                raise SandboxError(f"the process that workers are forked from did not start: {last}")
            self._control, self._begun = self._begun, None
        return self._control

    @staticmethod
    def _asked(
        control: socket.socket, request: dict[str, Any], connection: socket.socket
    ) -> tuple[dict[str, Any], list[int]]:
        """What the template answers to a request that a connection goes with, and the descriptors that come back."""
        socket.send_fds(control, [json.dumps(request).encode()], [connection.fileno()])
        text, files, _, _ = socket.recv_fds(control, REPLY_BYTES, 1)
        answer: dict[str, Any] = json.loads(text)
        return answer, files

    def _fork(self, control: socket.socket) -> Worker:
        ours, theirs = socket.socketpair()
        uid = FIRST_UID + next(self._numbers) % UIDS if os.geteuid() == 0 else None
        request = {"do": "fork", "limits": asdict(self.limits), "uid": uid}
        with theirs:
            answer, files = self._asked(control, request, theirs)
        worker = Worker(self, bounded(ours), answer["pid"], files[0])
        try:
            hello, _ = receive(ours, MEGABYTE, time.monotonic() + START_SECONDS)
        except (Closed, Late, WireError) as error:
            worker.kill()
            raise SandboxError(f"a worker did not start ({error})") from None
        if hello["missing"]:
            worker.kill()
            raise SandboxError(explain(hello["missing"]))
        worker.layers = hello["layers"]
        return worker

    def reap(self, pid: int) -> dict[str, Any]:
        """Waits for the end of a worker that was killed: its status, CPU seconds and peak memory in kilobytes."""
        control = self._control
        if control is None:
            return {}
        try:
            control.send(json.dumps({"do": "reap", "pid": pid}).encode())
            report: dict[str, Any] = json.loads(control.recv(REPLY_BYTES))
            return report
        except (OSError, ValueError):
            self.close()
            return {}

    def close(self) -> None:
        """Ends the template, and with it every worker."""
        for connection in (self._begun, self._control):
            if connection is not None:
                connection.close()
        self._begun = self._control = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Worker:
    """One confined process and the connection to it; any rule that it breaks ends it."""

    def __init__(self, sandbox: Sandbox, connection: socket.socket, pid: int, pidfd: int) -> None:
        self.sandbox, self.connection, self.pid, self.pidfd = sandbox, connection, pid, pidfd
        self.layers: dict[str, str] = {}
        self.compositions: list[Composition] = []
        self.forgotten: list[int] = []
        self.seed: int | None = None
        # whether a check has ended, of which the worker is told with the next request
        self.check_ended = False
        self.questions = count(1)
        self.seconds = START_SECONDS
        self.ended: dict[str, Any] | None = None

    def ask(self, do: str, encode: Encoder | None = None, **fields: Any) -> Any:
        """Sends one request and returns the value that comes back, or raises what the student's code raised."""
        return self.exchange(do, encode, **fields)[1]

    def exchange(self, do: str, encode: Encoder | None = None, **fields: Any) -> tuple[dict[str, Any], Any, Decoder]:
        """The answer's header, its value, and the decoder that knows its tensors."""
        if self.ended is not None:
            raise SubjectDied("had ended before")
        deadline = time.monotonic() + self.seconds
        if self.forgotten:
            fields["forget"], self.forgotten = self.forgotten, []
        if self.seed is not None:
            fields["seed"], self.seed = self.seed, None
        if self.check_ended:
            fields["end"], self.check_ended = True, False
        try:
            question = next(self.questions)
            send(self.connection, {"do": do, "to": question, **fields}, encode.buffers if encode else (), deadline)
            header, buffers = self._answer(deadline)
            if header.get("to") != question:
                raise WireError("an answer to another question")
            if "error" in header:
                raise self._raised(header["error"])
            read = Decoder(buffers, _Objects(self))
            return header, read(header.get("value")), read
        except Late:
            self.kill()
            raise TimeExpired(self.seconds) from None
        except Closed:
            raise SubjectDied(self._why_it_ended()) from None
        except WireError as error:
            self.kill()
            raise SubjectDied(f"broke the rules of its connection ({error})") from None
        except (TimeExpired, KeyboardInterrupt):
            # an answer may still come, to a question that nobody remembers
            self.kill()
            raise

    def ask_many(self, encode: Encoder, **fields: Any) -> list[Callable[[], Any]]:
        """Sends many questions in one request; for each a function that returns or raises what came of it."""
        header, _, read = self.exchange("ahead", encode, **fields)
        found = header.get("answers")
        if not isinstance(found, list) or len(found) != len(fields["questions"]):
            self.kill()
            raise SubjectDied("broke the rules of its connection (as many answers as questions were expected)")
        return [partial(self._one_of_many, one, read) for one in found]

    def _one_of_many(self, found: Any, read: Decoder) -> Any:
        try:
            if not isinstance(found, dict):
                raise WireError("an answer is no object")
            if "error" in found:
                raise self._raised(found["error"])
            return read(found.get("value"))
        except WireError as error:
            self.kill()
            raise SubjectDied(f"broke the rules of its connection ({error})") from None

    def _answer(self, deadline: float) -> tuple[dict[str, Any], bytearray]:
        for _ in range(MAX_NEEDS):
            header, buffers = receive(self.connection, self.sandbox.frame_bytes, deadline)
            if "need" not in header:
                return header, buffers
            self._send_module(header, deadline)
        raise WireError("too many modules were asked for")

    def _send_module(self, header: dict[str, Any], deadline: float) -> None:
        name, number = header["need"], header.get("package")
        if type(number) is not int or not 0 <= number < len(self.compositions):
            raise WireError("a module of an unknown package was asked for")
        composition = self.compositions[number]
        if not isinstance(name, str) or name not in composition.names:
            raise WireError("an unknown module was asked for")
        encode = Encoder(_no_object)
        try:
            module = composition.module(name)
        except ModuleNotFoundError as error:
            send(self.connection, {"missing": str(error)}, (), deadline)
            return
        answer = {
            "code": encode(marshal.dumps(module.code)),
            "path": module.path,
            "seeded_from": module.seeded_from,
            "own": sorted(module.own),
        }
        send(self.connection, answer, encode.buffers, deadline)

    def _raised(self, error: Any) -> BaseException:
        """The exception of the student's code, as one of the builtin kinds that may cross."""
        try:
            kind, builtin, text = str(error["kind"])[:80], str(error["builtin"]), str(error["text"])
            frames = [
                traceback.FrameSummary(str(file), int(line), str(name), lookup_line=False)
                for file, line, name in error["frames"]
            ]
        except (ArithmeticError, KeyError, TypeError, ValueError) as problem:
            raise WireError(f"an exception is malformed ({type(problem).__name__})") from None
        found = getattr(builtins, builtin, Exception)
        if not isinstance(found, type) or not issubclass(found, Exception):
            self.kill()
            return SubjectDied(f"ended Python ({kind})")
        raised = RAISED.get(builtin, StudentError)(text)
        raised.kind, raised.frames = kind, frames  # type: ignore[union-attr]
        return raised

    def _why_it_ended(self) -> str:
        usage = self.kill()
        status = usage.get("status")
        if status is None:
            return "ended its process"
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            if number in (signal.SIGXCPU, signal.SIGKILL):
                seconds = self.sandbox.limits.cpu_seconds
                return f"was stopped: it used more than {seconds} s of processor time, or more memory than there is"
            return f"ended its process ({signal.Signals(number).name})"
        return f"ended its process (exit status {os.WEXITSTATUS(status)})"

    def kill(self) -> dict[str, Any]:
        """Ends the process at once, whatever it is doing; says how it ended and what it used."""
        if self.ended is None:
            # first, so that an interruption from here on does not leave a worker that seems to live
            self.ended = {}
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            self.ended = self.sandbox.reap(self.pid)
            os.close(self.pidfd)
            self.connection.close()
        return self.ended

    # -- operations on objects

    def encoder(self) -> Encoder:
        return Encoder(self._stand_in)

    def _stand_in(self, value: Any) -> dict[str, Any]:
        if isinstance(value, Remote) and value._worker is self:
            return {"$": "object", "i": value._number}
        raise KitFailure(f"a {type(value).__name__} cannot be sent to the code under test")

    def call(self, number: int, name: str | None, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Calls an object, or a method of it; tensors that come back remember how they were computed."""
        encode = self.encoder()
        given = list(tensors_in([list(args), kwargs]))
        grad = torch.is_grad_enabled()
        header, value, read = self.exchange(
            "call", encode, object=number, name=name, args=encode(list(args)), kwargs=encode(kwargs), grad=grad
        )
        try:
            self._write_back(header.get("changed"), given, read)
        except Exception as problem:
            self.kill()
            raise SubjectDied(f"broke the rules of its connection (a changed argument: {problem})") from None
        graph = header.get("graph")
        if not read.live or not grad:
            return value
        if type(graph) is not int:
            raise SubjectDied("broke the rules of its connection (a result without its graph)")
        inputs = [tensor for tensor in given if tensor.requires_grad]
        # the empty tensor makes the results require gradients also where no input does, but a parameter
        results = _Through.apply(  # type: ignore[no-untyped-call]
            self, _Held(self, graph), len(read.live), torch.empty(0, requires_grad=True), *read.live, *inputs
        )
        return _replaced(value, dict(zip(map(id, read.live), results, strict=True)))

    @staticmethod
    def _write_back(changed: Any, given: list[torch.Tensor], read: Decoder) -> None:
        """Arguments that the code has changed in place are changed here too, for a check to see."""
        for number, value in changed or ():
            now, tensor = read(value), given[number]
            with torch.no_grad():
                # in place where that is possible: what shares its memory has changed with it
                if now.shape == tensor.shape and now.dtype == tensor.dtype:
                    tensor.detach().copy_(now)
                else:
                    tensor.data = now.to(tensor.dtype)


class _Objects:
    """Makes stand-ins for the objects in one answer."""

    def __init__(self, worker: Worker) -> None:
        self.worker, self.many = worker, 0

    def __call__(self, value: dict[str, Any]) -> Any:
        number, kind = value["i"], value["k"]
        self.many += 1
        if value["$"] != "object" or type(number) is not int or self.many > MAX_OBJECTS:
            raise WireError("an object is malformed, or there are too many")
        name = kind if isinstance(kind, str) and kind.isidentifier() and len(kind) <= 80 else "object"
        return _stand_in(name, value.get("c") is True)(self.worker, number)


def _no_object(value: Any) -> dict[str, Any]:
    raise WireError(f"a {type(value).__name__} cannot cross")


class Remote:
    """Stands for an object in a worker."""

    __slots__ = ("_number", "_worker")

    _worker: Worker
    _number: int

    def __init__(self, worker: Worker, number: int) -> None:
        object.__setattr__(self, "_worker", worker)
        object.__setattr__(self, "_number", number)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in PROBED:
            raise AttributeError(name)
        if name in MODULE_METHODS:
            return _Method(self, name)
        return self._worker.ask("get", object=self._number, name=name)

    def __setattr__(self, name: str, value: Any) -> None:
        encode = self._worker.encoder()
        self._worker.ask("set", encode, object=self._number, name=name, value=encode(value))

    def __getitem__(self, key: Any) -> Any:
        encode = self._worker.encoder()
        return self._worker.ask("item", encode, object=self._number, key=encode(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        encode = self._worker.encoder()
        self._worker.ask("put", encode, object=self._number, key=encode(key), value=encode(value))

    def __len__(self) -> int:
        return int(self._worker.ask("length", object=self._number))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._worker.ask("list", object=self._number))

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __del__(self) -> None:
        self._worker.forgotten.append(self._number)


class RemoteCallable(Remote):
    """Stands for a function, a class, a method or a module."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._worker.call(self._number, None, args, kwargs)


@lru_cache(1000)
def _stand_in(name: str, is_callable: bool) -> type[Remote]:
    """A type named like what it stands for: messages say what came back by the name of its type."""
    return type(name, (RemoteCallable if is_callable else Remote,), {"__module__": "builtins", "__slots__": ()})


class _Method:
    """A method by its name: calling it is one request, and not two."""

    def __init__(self, owner: Remote, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.owner._worker.call(self.owner._number, self.name, args, kwargs)


class _Held:
    """Keeps the graph of one call alive in the worker for as long as a gradient may be asked of it."""

    def __init__(self, worker: Worker, number: int) -> None:
        self.worker, self.number = worker, number

    def __del__(self) -> None:
        self.worker.forgotten.append(self.number)


class _Through(torch.autograd.Function):
    """Sends gradients at the results of a call to the worker, and hands back those at its arguments."""

    @staticmethod
    def forward(
        ctx: Any, worker: Worker, graph: _Held, many: int, extra: torch.Tensor, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        ctx.worker, ctx.graph, ctx.many = worker, graph, many
        ctx.shapes = [tensor.shape for tensor in tensors[many:]]
        ctx.set_materialize_grads(False)
        return tuple(tensor.detach().clone() for tensor in tensors[:many])

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor | None) -> tuple[Any, ...]:
        encode = ctx.worker.encoder()
        found = ctx.worker.ask("backward", encode, object=ctx.graph.number, grads=encode(list(grads)))
        if not isinstance(found, list) or len(found) != len(ctx.shapes):
            raise SubjectDied("broke the rules of its connection (as many gradients as arguments were expected)")
        return (None, None, None, None, *[None] * ctx.many, *found)


def _replaced(value: Any, by: dict[int, torch.Tensor]) -> Any:
    """`value` with some of its tensors exchanged, by their identity."""
    if isinstance(value, torch.Tensor):
        return by.get(id(value), value)
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, by) for item in value)
    if isinstance(value, dict):
        return {key: _replaced(item, by) for key, item in value.items()}
    return value


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

    def ahead(self, questions: Sequence[Question], seed: int) -> list[Callable[[], Any]]:
        encode = self.worker.encoder()
        scenarios = list(dict.fromkeys(scenario for scenario, _ in questions))
        asked = [[scenarios.index(scenario), encode(values)] for scenario, values in questions]
        shipped = [encode(_shipped(scenario)) for scenario in scenarios]
        number = self.handle._number
        return self.worker.ask_many(encode, object=number, scenarios=shipped, questions=asked, seed=seed)


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

    def ahead(
        self, exercise: Exercise, passed: Sequence[str], questions: Sequence[Question], seed: int
    ) -> list[Callable[[], Any]]:
        opening = self._opening(exercise, self.defined(exercise), passed)
        assert isinstance(opening, RemoteOpening), "everything opens behind the wall"
        return opening.ahead(questions, seed)

    def _worker(self, key: tuple[str, ...]) -> Worker:
        """The worker of one composition: what it lends is never what it judges, and no other worker's memory."""
        worker = self._workers.get(key)
        if worker is None or worker.ended is not None:
            while len(self._workers) >= MAX_WORKERS:
                self._end(self._workers.pop(next(iter(self._workers))))
            if worker is not None:
                self._end(worker)
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
        threads = (os.cpu_count() or 1) if slow else 1
        worker.ask("begin", threads=threads, unavailable=list(exercise.delegation))
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
