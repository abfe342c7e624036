"""The judge's side of the wall: the process that workers are forked from, and workers."""

from __future__ import annotations

import builtins
import contextlib
import copy
import json
import marshal
import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from hashlib import blake2b
from itertools import count, pairwise
from typing import Any, Self, TypeVar

import torch

from grading.course import Course
from grading.startup import another_installation
from grading.subject import MOST_EARLIER, Answers, Composition, KitFailure, SubjectDied, TimeExpired, tensors_in

from ._confine import Limits, explain, platform_problem
from ._outer import outer_wall
from ._stand_ins import Objects, Remote, linked
from ._wire import MEGABYTE, Closed, Decoder, Encoder, Late, WireError, as_json, bounded, receive, send

REPLY_BYTES = 65_536
# a module can need others, and no more than there are
MAX_NEEDS = 100
# the first of the user ids that workers get when the judge is root, one each, so that no two can signal each other
FIRST_UID, UIDS = 2_000_000_000, 1_000_000
START_SECONDS = 60.0
# within which a process has ended whose connections are closed
END_SECONDS = 2.0

Found = TypeVar("Found")

RAISED: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        ArithmeticError,
        AssertionError,
        AttributeError,
        ImportError,
        IndexError,
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
# in the worker the key has been quoted already, and a plain KeyError would quote it once more
RAISED["KeyError"] = type("KeyError", (KeyError,), {"__str__": Exception.__str__})


class SandboxError(KitFailure):
    """One sentence on why nothing can be graded behind the wall on this machine."""


class StudentError(Exception):
    """An exception of a kind that does not cross the wall."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Time that runs out in the block, and Ctrl-C, wait until it is over.

    An answer of the template's that nobody has waited for would be taken for the answer to the next request, and that
    one may be about another submission. A worker with much memory takes its time to end.
    """
    if threading.current_thread() is not threading.main_thread():
        # only the main thread is interrupted
        yield
        return
    # their handlers, for blocking them in this thread does not keep other threads from taking them in
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
    # one that is not Python's own cannot be put back
    before = {number: handler for number, handler in handlers.items() if handler is not None}
    missed: list[int] = []
    try:
        for number in before:
            signal.signal(number, lambda which, frame: missed.append(which))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    for which in missed:
        signal.raise_signal(which)


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
        # so that two judges of one machine hardly ever begin at the same user
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
                control = self._started()
                with undisturbed():
                    return request(control)
            except (OSError, ValueError, LookupError) as error:
                self.close()
                if attempt == 2:
                    raise SandboxError(f"the process that workers are forked from does not answer ({error})") from None
        raise AssertionError("unreachable")

    def _started(self) -> socket.socket:
        if self._control is None:
            self.begin()
            assert self._begun is not None and self._process is not None, "it was begun"
            try:
                answer = self._begun.recv(REPLY_BYTES).decode()
            except TimeoutError:
                answer = ""
            if not answer:
                self._process.kill()
                _, words = self._process.communicate()
                self._process = None
                self.close()
                last = (words.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
                raise SandboxError(f"the process that workers are forked from did not start: {last}")
            other = another_installation(answer, "workers")
            if other:
                self.close()
                raise SandboxError(other)
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
        return worker

    def reap(self, pid: int) -> dict[str, Any]:
        """Waits for the end of a worker that was killed: its status and CPU seconds."""
        control = self._control
        if control is None:
            return {}
        try:
            with undisturbed():
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
        self.compositions: list[Composition] = []
        self.forgotten: list[int] = []
        self.seed: int | None = None
        # whether a check has ended, of which the worker is told with the next request
        self.check_ended = False
        self.requests = 0
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
            self.requests = number = self.requests + 1
            send(self.connection, {"do": do, "to": number, **fields}, encode.buffers if encode else (), deadline)
            header, buffers = self._answer(deadline)
            if header.get("to") != number:
                raise WireError("an answer to another question")
            if "error" in header:
                raise self._raised(header["error"])
            read = Decoder(buffers, Objects(self))
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

    def ask_many(self, encode: Encoder, **fields: Any) -> Answers:
        """Sends many questions in one request."""
        header, _, read = self.exchange("ahead", encode, **fields)
        found = header.get("answers")
        if not isinstance(found, list) or len(found) != len(fields["questions"]):
            self.kill()
            raise SubjectDied("broke the rules of its connection (as many answers as questions were expected)")
        return Answers([partial(self._one_of_many, one, read) for one in found], partial(_identity, found, read))

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
        encode = Encoder(no_object)
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
            "text": encode(module.text.encode(errors="surrogatepass")),
        }
        send(self.connection, answer, encode.buffers, deadline)

    def _raised(self, error: Any) -> BaseException:
        """The exception of the student's code, as one of the builtin kinds that may cross."""
        try:
            raised: BaseException
            raised, builtin = _rebuilt(error)
            earlier = [_rebuilt(one)[0] for one in error.get("earlier", [])[:MOST_EARLIER]]
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as problem:
            raise WireError(f"an exception is malformed ({type(problem).__name__})") from None
        found = getattr(builtins, builtin, Exception)
        if not isinstance(found, type) or not issubclass(found, Exception):
            self.kill()
            return SubjectDied(f"ended Python ({str(error['kind'])[:80]})")
        for before, after in pairwise([*earlier, raised]):
            after.__context__ = before
        return raised

    def _why_it_ended(self) -> str:
        # a moment, for its connection is closed before it has ended; one that goes on has closed that itself
        gone = self.ended is not None or _has_ended(self.pidfd, END_SECONDS)
        usage = self.kill()
        if not gone:
            return "closed its connection"
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
        with undisturbed():
            if self.ended is None:
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
        return no_object(value)

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
        return linked(self, graph, value, read.live, inputs)

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


def _has_ended(pidfd: int, seconds: float) -> bool:
    """Whether a process ends within that time."""
    waiting = select.poll()
    waiting.register(pidfd, select.POLLIN)
    return bool(waiting.poll(1000 * seconds))


def _identity(answers: list[Any], read: Decoder) -> bytes:
    """A digest of answers as they came over the wire, but for where exceptions came by."""
    plain = [_without_frames(one) if isinstance(one, dict) else one for one in answers]
    try:
        return blake2b(as_json(plain).encode() + read.buffers).digest()
    except RecursionError:
        # nested so deeply that they will be refused
        return b""


def _without_frames(answer: dict[str, Any]) -> dict[str, Any]:
    error = answer.get("error")
    return {**answer, "error": {**error, "frames": None, "earlier": None}} if isinstance(error, dict) else answer


def _rebuilt(error: dict[str, Any]) -> tuple[Any, str]:
    """One exception of the student's code, and the name of its builtin kind; raises where it is malformed."""
    kind, builtin, text = str(error["kind"])[:80], str(error["builtin"]), str(error["text"])
    raised: Any = RAISED.get(builtin, StudentError)(text)
    raised.kind = kind
    raised.frames = [
        traceback.FrameSummary(str(file), int(line), str(name), lookup_line=False)
        for file, line, name in error["frames"]
    ]
    return raised, builtin


def no_object(value: Any) -> dict[str, Any]:
    raise KitFailure(f"a {type(value).__name__} cannot be sent to the code under test")
