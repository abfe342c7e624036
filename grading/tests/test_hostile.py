"""Whole submissions that attack: behind the wall each gains nothing, and without it the same one succeeds.

Many tests share one trick: a submission answers rightly only if its attack got what it came for, so that points are the
proof. "Taken down" means judged in process, by the stage: a process with the suites loaded, forked once per submission,
because most attacks would take the tests along. `test_confine.py` tries the same at the level of single system calls.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import dataclasses
import json
import os
import random
import resource
import select
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest
import torch

from grading.course import Course, Limits, load
from grading.judge import Judge, fresh_seed
from grading.sandbox import RemoteSubject, Sandbox, SandboxError
from grading.sandbox._confine import explain, missing, platform_problem, probe
from grading.sandbox._wire import WireError
from grading.subject import Composition, ImplError, Source, Sources, Subject, read_sources
from grading.verdict import KIT_ERROR, PASSED, WRONG, Verdict, exercise_verdict

from .conftest import ROOT
from .decoys import Trace, arrivals, traces

NOBODY = 65534
SECRET = "the answers of next year"
START_SECONDS = 60.0
LIMITS = Limits(
    check_seconds=8,
    import_seconds=8,
    cpu_seconds=20,
    memory_mb=2048,
    data_mb=400,
    threads=24,
    open_files=32,
    frame_mb=8,
)
HASTY = dataclasses.replace(LIMITS, check_seconds=0.4, import_seconds=0.4)

RIGHT = "def mean(t):\n    return t.sum() / t.numel()\n"
WRONG_MEAN = "def mean(t):\n    return t.new_tensor(13.0)\n"
# the answer is right if the attack, made while the file is imported, has succeeded
SPOILS = """
try:
    GOT, WHY = bool(attack()), "it found nothing"
except BaseException as error:
    GOT, WHY = False, f"{type(error).__name__}: {error}"

def mean(t):
    if not GOT:
        raise RuntimeError("in vain, " + WHY)
    return t.sum() / t.numel()
"""


def whole(*parts: str) -> str:
    """One text of several, each without its indentation."""
    return "\n".join(map(textwrap.dedent, parts))


def limited(course: Course, limits: Limits = LIMITS) -> Course:
    return dataclasses.replace(course, limits=limits)


# -- the scene: what is planted, and who judges


@dataclasses.dataclass
class Ending:
    """How the stage's judge ended: its wait status (None: it had to be killed), its verdicts, what it printed."""

    status: int | None
    found: list[dict[str, dict[str, Any]]]
    printed: bytes

    @property
    def points(self) -> float:
        return float(sum(verdict["points"] for one in self.found for verdict in one.values()))


class Recorded(Sandbox):
    """Remembers its workers."""

    def __init__(self, course: Course) -> None:
        super().__init__(course)
        self.pids: list[int] = []

    def fork(self) -> Any:
        worker = super().fork()
        self.pids.append(worker.pid)
        return worker


class Stage:
    """Judges in process, in a child that may be ruined."""

    def __init__(self, folder: Path, open_secret: int) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from grading.tests.test_hostile import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[open_secret],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "GOODINIT_SECRET": SECRET, "PYTHONDONTWRITEBYTECODE": "1"},
            text=True,
        )

    def judge(
        self,
        *paths: Path,
        exercises: Iterable[str] = ("mean",),
        seed: int,
        limits: Limits = LIMITS,
        seconds: float = 20.0,
    ) -> Ending:
        assert self.process.stdin and self.process.stdout
        result, printed = self.folder / "result.json", self.folder / "printed.txt"
        result.unlink(missing_ok=True)
        request = {
            "paths": [str(path) for path in paths],
            "exercises": list(exercises),
            "seed": seed,
            "seconds": seconds,
            "limits": dataclasses.asdict(limits),
            "result": str(result),
            "printed": str(printed),
        }
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], START_SECONDS + seconds)
        assert ready, "the stage does not answer"
        status = json.loads(self.process.stdout.readline())["status"]
        found = json.loads(result.read_text()) if result.exists() else []
        return Ending(status, found, printed.read_bytes())

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


def serve() -> None:
    """The stage: forks a judge for every line of its input, and says how that ended."""
    torch.set_num_threads(1)
    course = load(ROOT)
    reference = read_sources(course, ROOT / "solutions")
    warm = Judge(course, reference, reference, 1)
    list(warm.judge([course.exercises["mean"]], slow=False))
    for line in sys.stdin:
        request = json.loads(line)
        with open(request["printed"], "wb") as printed:
            child = os.fork()
            if child == 0:
                for descriptor, file in ((0, os.open(os.devnull, os.O_RDONLY)), (1, printed.fileno()), (2, 1)):
                    os.dup2(file, descriptor)
                _perform(limited(course, Limits(**request["limits"])), reference, request)
        handle = os.pidfd_open(child)
        if not select.select([handle], [], [], request["seconds"])[0]:
            os.kill(child, signal.SIGKILL)
        os.close(handle)
        _, status = os.waitpid(child, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print(json.dumps({"status": None if killed else status}), flush=True)


def _perform(course: Course, reference: Sources, request: dict[str, Any]) -> None:
    try:
        found = []
        for path in request["paths"]:
            judge = Judge(course, read_sources(course, Path(path)), reference, request["seed"])
            found.append({one.check: one.to_dict() for one in _all_verdicts(judge, request["exercises"])})
        Path(request["result"]).write_text(json.dumps(found))
        atexit._run_exitfuncs()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(1)


def _all_verdicts(judge: Judge, exercises: Iterable[str]) -> list[Verdict]:
    return list(judge.judge([judge.course.exercises[name] for name in exercises], slow=False))


@dataclasses.dataclass
class Scene:
    """A folder with things worth having, listeners, and both ways to judge."""

    folder: Path
    course: Course
    reference: Sources
    sandbox: Recorded
    stage: Stage
    memory: ctypes.Array[ctypes.c_char]
    listeners: dict[str, socket.socket]

    @property
    def planted(self) -> Path:
        return self.folder / "planted"

    def hand_in(self, text: str, name: str = "handed_in.py") -> Path:
        """Writes a submission; it knows where everything is, as somebody might who has looked around."""
        path = self.folder / name
        addresses = {name: listener.getsockname() for name, listener in self.listeners.items()}
        known = {
            "ROOT": str(ROOT),
            "PLANTED": str(self.planted),
            "SECRET_PARTS": SECRET.split(),
            "JUDGE": os.getpid(),
            "ADDRESS": ctypes.addressof(self.memory),
            "TCP": addresses["tcp"],
            "UDP": addresses["udp"],
            "UNIX": addresses["unix"],
            "ABSTRACT": addresses["abstract"],
        }
        head = "".join(f"{name} = {value!r}\n" for name, value in known.items())
        path.write_text(head + "import os, sys\nimport torch\n" + text, encoding="utf-8")
        return path

    def behind(
        self, path: Path, *exercises: str, seed: int | None = None, limits: Limits = LIMITS
    ) -> dict[str, Verdict]:
        """The verdicts of checks on a submission that runs behind the wall."""
        course = limited(self.course, limits)
        sources = read_sources(course, path)
        subject = RemoteSubject(course, sources, self.reference, self.sandbox)
        chosen = fresh_seed() if seed is None else seed
        judge = Judge(course, sources, self.reference, chosen, subject=subject)
        try:
            return {verdict.check: verdict for verdict in _all_verdicts(judge, exercises or ("mean",))}
        finally:
            judge.close()

    def gains_nothing(self, path: Path, *exercises: str, says: str = "", limits: Limits = LIMITS) -> dict[str, Verdict]:
        """Judges behind the wall: no point, nothing changed or reached or left over, and the next one gets its due."""
        before = self.traces()
        found = self.behind(path, *exercises, limits=limits)
        told = "\n".join(f"{name}: {verdict.verdict}: {verdict.message}" for name, verdict in found.items())
        assert {verdict.verdict for verdict in found.values()} == {WRONG}, told
        assert sum(verdict.points for verdict in found.values()) == 0, told
        assert says in told
        assert self.traces() == before
        assert self.arrivals() == []
        self.nothing_is_left()
        return found

    def nothing_is_left(self) -> None:
        """No process of any worker, and the next submission is judged as ever."""
        assert leftovers(self.sandbox) == []
        right = self.behind(self.hand_in(RIGHT, "right.py"))
        assert {verdict.verdict for verdict in right.values()} == {PASSED}, right

    def succeeds(self, path: Path, *exercises: str) -> Ending:
        """The same in process: a check passes that should not have."""
        ending = self.stage.judge(path, exercises=exercises or ("mean",), seed=fresh_seed())
        assert ending.points > 0, (ending.found, ending.printed[-500:])
        return ending

    def traces(self) -> dict[str, Trace]:
        return traces(self.planted)

    def arrivals(self) -> list[str]:
        return arrivals(self.listeners)


def leftovers(sandbox: Recorded) -> list[str]:
    """Living processes that came from the process that workers are forked from: all share its command line."""
    assert sandbox._process is not None
    template = sandbox._process.pid
    mark = Path(f"/proc/{template}/cmdline").read_bytes()
    found = [str(pid) for pid in sandbox.pids if _lives(pid)]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if int(path.parent.name) != template and mark and path.read_bytes() == mark:
                found.append(path.parent.name)
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture(scope="module")
def open_secret(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A descriptor that the judge had open before the process that workers are forked from was started."""
    path = tmp_path_factory.mktemp("open") / "secret.txt"
    path.write_text(SECRET)
    descriptor = os.open(path, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    yield descriptor
    os.close(descriptor)


@pytest.fixture(scope="module")
def sandbox(course: Course, open_secret: int) -> Iterator[Recorded]:
    if not platform_problem():
        absent = missing(probe())
        if absent:
            pytest.skip(f"layers {', '.join(absent)}: {explain(absent)}")
    try:
        found = Recorded(limited(course))
        found.fork().kill()
    except SandboxError as error:
        pytest.skip(str(error))
    with found:
        yield found


@pytest.fixture(scope="module")
def stage(sandbox: Recorded, open_secret: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    found = Stage(tmp_path_factory.mktemp("stage"), open_secret)
    yield found
    found.close()


@pytest.fixture(scope="module")
def reference(course: Course) -> Sources:
    return read_sources(course, ROOT / "solutions")


@pytest.fixture
def scene(course: Course, reference: Sources, sandbox: Recorded, stage: Stage) -> Iterator[Scene]:
    # a socket's path is short, and what an attack looks for is reachable by anybody but for the wall
    folder = Path(tempfile.mkdtemp(prefix="goodinit-hostile-"))
    folder.chmod(0o777)
    planted = folder / "planted"
    for one in (planted, planted / "others", planted / "site-packages", planted / "cron.d", planted / "__pycache__"):
        one.mkdir(mode=0o777)
    (planted / "secret.txt").write_text(SECRET)
    (planted / "tool").write_text("#!/bin/sh\n")
    (planted / "others" / "ada.py").write_text(RIGHT)
    with contextlib.closing(sqlite3.connect(planted / "gradebook.db")) as book, book:
        book.execute("create table grades (student text, points real)")
        book.executemany("insert into grades values (?, ?)", [("ada", 97.0), ("mallory", 3.0)])
    listeners = {}
    places: list[tuple[str, int, int, Any]] = [
        ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
        ("unix", socket.AF_UNIX, socket.SOCK_STREAM, str(folder / "listener")),
        ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, f"\0goodinit-{os.getpid()}"),
    ]
    for name, family, kind, address in places:
        listeners[name] = listener = socket.socket(family, kind)
        listener.bind(address)
        if kind == socket.SOCK_STREAM:
            listener.listen()
    # an ordinary user's judge is open to that user's other processes where Yama allows it: be as open as can be
    ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
    memory = ctypes.create_string_buffer(SECRET.encode())
    yield Scene(folder, course, reference, sandbox, stage, memory, listeners)
    for listener in listeners.values():
        listener.close()
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def secret_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOODINIT_SECRET", SECRET)


# -- forge: wrong answers that want to be right

FORGERIES = {
    "patches the comparison functions of torch": """
        def mean(t):
            yes, where = lambda *a, **k: True, torch.where
            torch.allclose = torch.equal = torch.isclose = yes
            torch.where = lambda *a: torch.zeros(()) if len(a) == 3 else where(*a)
            return t.new_tensor(13.0)
        """,
    "patches expect": """
        try:
            import grading.verdict._expect as verdict
            verdict._match = lambda *a, **k: None
            verdict.expect.__code__ = (lambda got, want, call, *, tol=None, scale=None: None).__code__
        except ImportError:
            pass
        """,
    "patches isinstance, and is equal to everything": """
        import builtins
        real = builtins.isinstance
        class Yes(torch.Tensor):
            __ne__ = lambda self, other: False
            __eq__ = lambda self, other: True
            __hash__ = None
        def mean(t):
            here = lambda: sys._getframe(2).f_code.co_filename.endswith("_expect.py")
            builtins.isinstance = lambda one, kinds: real(one, kinds) and not (kinds is torch.Tensor and here())
            return t.new_tensor(13.0).as_subclass(Yes)
        """,
    "is a tensor that equals everything": """
        class Yes(torch.Tensor):
            @classmethod
            def __torch_function__(cls, func, types, args=(), kwargs=None):
                found = super().__torch_function__(func, types, args, kwargs or {})
                return torch.ones_like(found) if func.__name__ in ("__eq__", "eq", "isfinite") else found
        def mean(t):
            return t.new_tensor(13.0).as_subclass(Yes)
        """,
    "rewrites the judge": """
        try:
            import grading.judge._judge as judge
            judge.Judge._decide = lambda self, check, error: (judge.PASSED, "fine", "", None)
        except ImportError:
            pass
        """,
    "rewrites the checks, and what they are worth": """
        import gc
        for one in gc.get_objects():
            if type(one).__name__ == "Check" and hasattr(one, "sentence"):
                object.__setattr__(one, "function", lambda **k: None)
                object.__setattr__(one, "share", 1000.0)
        """,
    "rewrites Hypothesis": """
        try:
            from hypothesis.strategies._internal.core import CompositeStrategy
            CompositeStrategy.do_draw = lambda self, data: torch.full((3,), 13.0)
        except ImportError:
            pass
        """,
    "rewrites what it finds in the judge's frames": """
        frame = sys._getframe()
        while frame:
            check = frame.f_locals.get("check")
            if hasattr(check, "sentence"):
                object.__setattr__(check, "function", lambda **fixtures: None)
            frame = frame.f_back
        """,
    "shadows a suite that is not loaded yet": """
        import types
        names = "output_std activation_scales glorot_normal glorot_uniform kaiming_normal fan_in init_weights normalize"
        suite = types.ModuleType("test_u2_initialization")
        for name in names.split():
            exec(f"def test_{name}({name}):\\n    'fine'", vars(suite))
        sys.modules[suite.__name__] = suite
        def output_std(n_in, weight_std, input_std=1.0):
            return 13.0
        """,
    "refuses every input but the easiest": """
        try:
            from hypothesis import reject
        except BaseException:
            def reject():
                raise RuntimeError("nothing to refuse with")
        def mean(t):
            return t.reshape(()) if t.numel() == 1 else reject()
        """,
    "makes the drawn inputs repeat": """
        strategies = sys.modules.get("strategies")
        if strategies:
            strategies.normal = lambda shape, seed, *, dtype=torch.float32, **how: torch.zeros(shape, dtype=dtype)
        torch.manual_seed = lambda seed: torch.default_generator
        def mean(t):
            return t.flatten()[0] * 0
        """,
    "takes the judge's reference from its memory": """
        import gc
        def mean(t):
            for one in gc.get_objects():
                if type(one).__name__ == "Judge" and hasattr(one, "reference"):
                    return one.reference.exercise(one.course.exercises["mean"])(t)
            return t.new_tensor(13.0)
        """,
    "reads the expected value in a frame": """
        class Peek(float):
            def __float__(self):
                return sys._getframe(1).f_locals["want"]
        def output_std(n_in, weight_std, input_std=1.0):
            return Peek(13.0)
        """,
}
# one answer among many is right by design: an easy input costs that check, and not the others
EASY = "refuses every input but the easiest"


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_believed_in_process_and_not_behind_the_wall(scene: Scene, forgery: str) -> None:
    path = scene.hand_in(
        textwrap.dedent(FORGERIES[forgery]) + (WRONG_MEAN if "def mean" not in FORGERIES[forgery] else "")
    )
    exercises = ["output_std"] if "def output_std" in FORGERIES[forgery] else ["mean"]
    # the suite of a unit is loaded when it is first needed: a wrong mean comes before that
    exercises = ["mean", *exercises] if "not loaded" in forgery else exercises
    ending = scene.succeeds(path, *exercises)
    if "worth" in forgery:
        assert ending.points > 1000
    if forgery in (EASY, "makes the drawn inputs repeat"):
        # an element is its own mean, and zero the mean of what is easiest to draw; the law itself stays unproven
        found = scene.behind(path)
        assert found["mean_value"].verdict == WRONG
        scene.nothing_is_left()
    else:
        scene.gains_nothing(path, *exercises)


ENDINGS = {
    "ends the process when it is imported": ("os._exit(0)\n" + WRONG_MEAN, "exit status 0"),
    "ends the process in a call": ("def mean(t):\n    os._exit(0)\n", "exit status 0"),
    "prints a report and ends": (
        'def mean(t):\n    os.write(1, b"2 passed in 0.01s\\n{\\"points\\": 100}\\n")\n    os._exit(0)\n',
        "exit status 0",
    ),
    "skips itself": (
        "try:\n    from _pytest.outcomes import Skipped\nexcept BaseException:\n"
        "    class Skipped(BaseException):\n        pass\ndef mean(t):\n    raise Skipped('not today')\n",
        "ended Python (Skipped)",
    ),
    "interrupts": ("def mean(t):\n    raise KeyboardInterrupt\n", "ended Python (KeyboardInterrupt)"),
    "closes its generator": ("def mean(t):\n    raise GeneratorExit\n", "ended Python (GeneratorExit)"),
    "raises a kind of its own": (
        "class Odd(BaseException):\n    pass\ndef mean(t):\n    raise Odd\n",
        "ended Python (Odd)",
    ),
}


@pytest.mark.parametrize("way", ENDINGS)
def test_an_end_is_no_verdict(scene: Scene, way: str, capfd: pytest.CaptureFixture[str]) -> None:
    """In process it ends the judge, often with status 0: there is nobody left to say that the answer was wrong."""
    text, says = ENDINGS[way]
    path = scene.hand_in(text)
    ending = scene.stage.judge(path, seed=1)
    assert not ending.found
    if "_exit" in text:
        assert ending.status == 0
    if "report" in way:
        assert b"2 passed" in ending.printed
    scene.gains_nothing(path, says=says)
    assert capfd.readouterr().out == ""


HARMLESS_HERE_TOO = {
    # design: `expect` and `rejects` look at kind, shape, dtype and finiteness first, wherever the code runs
    "not a number": ("def mean(t):\n    return t.sum() * float('nan')\n", "mean"),
    "another dtype": ("def mean(t):\n    return (t.sum() / t.numel()).to(torch.bfloat16)\n", "mean"),
    "a shape that broadcasts": ("def mean(t):\n    return (t.sum() / t.numel()).reshape(1, 1)\n", "mean"),
    "no tensor at all": ("class Yes:\n    __eq__ = lambda *a: True\n    __ne__ = lambda *a: False\n"
                         "def mean(t):\n    return Yes()\n", "mean"),
    "the expected exception, always": ("def covariance(x, y):\n    raise ValueError('shapes')\n", "covariance"),
    "an exit that Python may catch": ("def mean(t):\n    sys.exit(0)\n", "mean"),
    "a failed assertion of its own": ("def mean(t):\n    raise AssertionError\n", "mean"),
    "the end of an iteration": ("def mean(t):\n    raise StopIteration\n", "mean"),
}  # fmt: skip


@pytest.mark.parametrize("answer", HARMLESS_HERE_TOO)
def test_an_evasive_answer_is_wrong_on_both_sides(scene: Scene, answer: str) -> None:
    """These fail without a wall too; that the code ran is seen by the verdict, which is of the answer it gave."""
    text, exercise = HARMLESS_HERE_TOO[answer]
    path = scene.hand_in(text)
    ending = scene.stage.judge(path, exercises=[exercise], seed=1)
    assert ending.status == 0
    assert {verdict["verdict"] for verdict in ending.found[0].values()} == {WRONG}
    scene.gains_nothing(path, exercise)


FRAMES = """
import json, struct
def asked():
    frame = sys._getframe()
    while frame and not isinstance(frame.f_locals.get("message"), dict):
        frame = frame.f_back
    return frame and frame.f_locals["message"]["to"]
def frame(header, body=b"", *, says=None):
    header = {"to": asked(), **header} if isinstance(header, dict) else header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<IQ", len(text), len(body) if says is None else says) + text + body
def tensor(**how):
    return {"value": {"$": "tensor", "d": "float32", "s": [], "o": 0, "n": 4, "g": False, **how}}
def error(**how):
    return {"error": {"kind": "ValueError", "builtin": "ValueError", "text": "", "frames": [], **how}}
def mean(t):
    data = SENT
    while data:
        data = data[os.write(3, data):]
    return t.new_tensor(13.0)
"""
SENT = {
    "a huge buffer": ('frame({"value": None}, says=1 << 40)', "too large"),
    "a huge header": ('struct.pack("<IQ", 1 << 31, 0)', "too large"),
    "no JSON": ('frame(b"\\x80\\x04cos\\nsystem\\n.")', "no JSON"),
    "a depth that ends parsers": ('frame(b"[" * 200_000)', "no JSON (RecursionError)"),
    "a number that takes for ever": ('frame(b"{\\"value\\": " + b"9" * 1_000_000 + b"}")', "no JSON"),
    "no object": ("frame([1, 2])", "no object"),
    "a value without a tag": ('frame({"value": [13.0]})', "bare list"),
    "an unknown tag": ('frame({"value": {"$": "pickle", "v": "x"}})', "malformed"),
    "a buffer beyond the frame": ("frame(tensor(n=400, s=[100]))", "outside its frame"),
    "a buffer before the frame": ("frame(tensor(o=-4), bytes(4))", "outside its frame"),
    "a shape of another size": ("frame(tensor(s=[2, 2]), bytes(4))", "disagree"),
    "a negative shape": ("frame(tensor(s=[-1, -1]), bytes(4))", "shape is malformed"),
    "entries upon each other": ("frame(tensor(s=[2, 2], n=16, t=[1, 1]), bytes(16))", "overlap"),
    "entries far apart": ("frame(tensor(s=[2], n=8, t=[1 << 40]), bytes(8))", "lie far apart"),
    "one buffer, many times": (
        'frame({"value": {"$": "list", "v": [tensor(n=4 << 20, s=[1 << 20])["value"]] * 20_000}}, bytes(4 << 20))',
        "take more memory",
    ),
    "bytes, many times": (
        'frame({"value": {"$": "list", "v": [{"$": "bytes", "o": 0, "n": 4 << 20}] * 20_000}}, bytes(4 << 20))',
        "take more memory",
    ),
    "an object without a number": ('frame({"value": {"$": "object", "i": "1", "k": "x"}})', "object is malformed"),
    "many objects": (
        'frame({"value": {"$": "list", "v": [{"$": "object", "i": n, "k": "x"} for n in range(10_001)]}})',
        "too many",
    ),
    "a module of nobody": ('frame({"need": "u1_statistics", "package": 99})', "unknown package"),
    "a module of a negative number": ('frame({"need": "u1_statistics", "package": -1})', "unknown package"),
    "a module that is a path": ('frame({"need": "../solutions/u1_statistics", "package": 0})', "unknown module"),
    "modules without end": ('frame({"need": "u1_statistics", "package": 0}) * 200', "too many modules"),
    "an exception without a kind": ('frame({"error": {}})', "exception is malformed"),
    "an exception in an endless line": ('frame(error(frames=[["x.py", float("inf"), "f"]]))', "exception is malformed"),
    "an exception before it without a kind": ("frame(error(earlier=[{}]))", "exception is malformed"),
    "an exception before it that is none": ("frame(error(earlier=7))", "exception is malformed"),
    "an exception that is a function": ('frame(error(builtin="print"))', "ended Python"),
    "a skip": ('frame(error(builtin="SystemExit", kind="Skipped"))', "ended Python"),
    "a foreign exception": ('frame(error(builtin="Mismatch", kind="Mismatch", text="passed"))', "another question"),
    "changes of what was not given": (
        'frame({**tensor(), "changed": [[7, None]], "graph": None}, bytes(4))',
        "changed argument",
    ),
    "changes that are no tensors": ('frame({**tensor(), "changed": [[0, "x"]]}, bytes(4))', "changed argument"),
    "an answer before the question": ("frame(tensor(), bytes(4)) * 3", "another question"),
    "an answer to no question": ("frame({**tensor(), 'to': -1}, bytes(4))", "another question"),
    "an answer to the next question": ("frame({**tensor(), 'to': asked() + 1}, bytes(4))", "another question"),
    "gradients of nobody": ('frame({**tensor(g=True, l=True), "graph": 10**9}, bytes(4))', ""),
    "a piece of an answer": ('frame(tensor(), bytes(4))[:9] + b"x" * 8', "too large"),
}


@pytest.mark.parametrize("sent", SENT)
def test_frames_of_its_own_cost_a_worker_its_life(scene: Scene, sent: str) -> None:
    """In process there is no such connection; that these frames arrived is seen by what the judge says of them."""
    text, says = SENT[sent]
    path = scene.hand_in(FRAMES.replace("SENT", text))
    start, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = scene.gains_nothing(path, says=says)
    assert not any(verdict.verdict == KIT_ERROR for verdict in found.values())
    assert time.monotonic() - start < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 400_000


def test_frames_while_a_file_is_imported_open_nothing(scene: Scene) -> None:
    text = FRAMES.replace("def mean(t)", "def early()").replace("return", "return 1 #")
    text = text.replace("SENT", 'frame({"value": {"$": "object", "i": 1, "k": "x", "c": True}}) * 4')
    scene.gains_nothing(scene.hand_in(text.replace("def mean", "def late") + "early()\n" + WRONG_MEAN))


def test_a_judge_asks_nothing_of_a_connection_that_is_closed(scene: Scene) -> None:
    scene.gains_nothing(scene.hand_in("def mean(t):\n    os.close(3)\n    return 13.0\n"))


# -- steal: answers that are right only if there was something to take

THEFTS = {
    "the solution from the disk": """
        def attack():
            return "def mean" in open(ROOT + "/solutions/u1_statistics.py").read()
        """,
    "the solution by an import": """
        def attack():
            import importlib
            sys.path.insert(0, ROOT)
            return importlib.import_module("solutions.u1_statistics").mean
        """,
    "the solution by an import that leads to one's own unit": """
        def attack():
            import solutions.u1_statistics
            return float(solutions.u1_statistics.mean(torch.tensor([1.0, 3.0]))) == 2
        """,
    "the suites": """
        def attack():
            return os.listdir(ROOT + "/tests") and open(ROOT + "/tests/test_u1_statistics.py").read()
        """,
    "the bug bank": """
        def attack():
            return open(ROOT + "/grading/bugs/bank/u1_statistics.toml").read()
        """,
    "the catalogue with its hints": """
        def attack():
            return "t.sum()" in open(ROOT + "/course.toml").read()
        """,
    "the gradebook": """
        def attack():
            import sqlite3
            return sqlite3.connect(PLANTED + "/gradebook.db").execute("select * from grades").fetchall()
        """,
    "a secret by a detour": """
        def attack():
            return all(part in open("/proc/self/root" + PLANTED + "/secret.txt").read() for part in SECRET_PARTS)
        """,
    "the judge's memory": """
        def attack():
            file = os.open(f"/proc/{JUDGE}/mem", os.O_RDONLY)
            return os.pread(file, 200, ADDRESS).startswith(" ".join(SECRET_PARTS).encode())
        """,
    "the memory of its parent": """
        def attack():
            return os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY)
        """,
    "the judge's environment": """
        import ctypes
        def attack():
            secret = " ".join(SECRET_PARTS)
            if os.environ.get("GOODINIT_SECRET") == secret:
                return True
            words, where = [], ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
            while where and where[len(words)]:
                words.append(where[len(words)])
            return any(secret.encode() in word for word in words)
        """,
    "the environment of its parent": """
        def attack():
            return open(f"/proc/{os.getppid()}/environ", "rb").read()
        """,
    "descriptors that stayed open": """
        def attack():
            for number in range(256):
                try:
                    if all(part.encode() in os.pread(number, 200, 0) for part in SECRET_PARTS):
                        return True
                except OSError:
                    pass
        """,
    "an answer over TCP": """
        import socket
        def attack():
            return socket.create_connection(TCP, timeout=1).send(b"loot")
        """,
    "an answer over UDP": """
        import socket
        def attack():
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"loot", UDP)
        """,
    "an answer over a socket in the file system": """
        import socket
        def attack():
            return socket.socket(socket.AF_UNIX).connect(UNIX) is None
        """,
    "an answer over a socket without a file": """
        import socket
        def attack():
            return socket.socket(socket.AF_UNIX).connect(ABSTRACT) is None
        """,
    "another socket on the one that there is": """
        import socket
        def attack():
            file = os.dup(3)
            mine = socket.socket(fileno=file)
            return mine.getpeername() is not None and mine.sendmsg([b""], [(1, 1, b"\\0" * 4)]) is not None
        """,
    "that it is being graded": """
        def attack():
            there = {"pytest", "hypothesis", "grading.judge", "test_u1_statistics", "strategies"} & sys.modules.keys()
            return there or "GOODINIT_SECRET" in os.environ or "PYTEST_CURRENT_TEST" in os.environ
        """,
    "who asks": """
        def attack():
            names, frame = set(), sys._getframe()
            while frame:
                names.add(frame.f_code.co_name)
                frame = frame.f_back
            return names & {"run", "_perform", "fixtures", "prepare"} and "judge" in " ".join(names)
        """,
}
# what happens to be closed in the process that the attack runs in tells nothing
NOT_IN_PROCESS = {"another socket on the one that there is", "who asks"}


@pytest.mark.parametrize("theft", THEFTS)
def test_a_theft_succeeds_in_process_and_not_behind_the_wall(scene: Scene, theft: str) -> None:
    path = scene.hand_in(whole(THEFTS[theft], SPOILS))
    if theft not in NOT_IN_PROCESS:
        scene.succeeds(path)
    scene.arrivals()
    scene.gains_nothing(path, says="in vain")


THIEF_OF_CODE = """
import json, marshal, struct, types
def code_of(unit, package):
    text = json.dumps({"need": unit, "package": package}).encode()
    os.write(3, struct.pack("<IQ", len(text), 0) + text)
    def read(size):
        data = b""
        while len(data) < size:
            data += os.read(3, size - len(data))
        return data
    header, body = (read(size) for size in struct.unpack("<IQ", read(12)))
    header = json.loads(header)
    return marshal.loads(body) if "code" in header else ()
def inside(code):
    yield code
    for one in code.co_consts:
        if isinstance(one, types.CodeType):
            yield from inside(one)
TRIED = 0
def covariance(x, y):
    return NotImplemented
def mean(t):
    global TRIED
    for code in (code for unit in UNITS for code in code_of(unit, 0)):
        for one in inside(code):
            TRIED += 1
            whole = "NotImplementedError" not in one.co_names
            if one.co_name == "mean" and "solutions" in one.co_filename and whole:
                return types.FunctionType(one, {"torch": torch})(t)
    raise RuntimeError(f"in vain, among {TRIED} pieces of code")
"""


def test_the_lent_reference_is_never_that_of_the_exercise_itself(scene: Scene) -> None:
    """Asks the judge by hand for the code of every unit. In process the judge's memory holds it: see the forgeries."""
    units = f"UNITS = {list(scene.course.by_unit)!r}\n"
    found = scene.gains_nothing(scene.hand_in(units + THIEF_OF_CODE), "mean", says="in vain, among")
    assert "among 0 pieces" not in found["mean_value"].message


def test_no_code_of_what_is_judged_is_sent_to_a_worker(course: Course, reference: Sources, tmp_path: Path) -> None:
    """The same for a sample of all exercises, from the judge's side: without sparing, the code is there."""

    def names(code: CodeType) -> Iterator[str]:
        """The functions of the reference in some code, but for those whose body was taken out."""
        for one in code.co_consts:
            if isinstance(one, CodeType):
                is_class, is_empty = "__qualname__" in one.co_names, "NotImplementedError" in one.co_names
                if "solutions" in one.co_filename and not is_class and not is_empty:
                    yield one.co_qualname
                yield from names(one)

    chance = random.Random(fresh_seed())
    for name in chance.sample(list(course.exercises), 5):
        exercise = course.exercises[name]
        whole = reference.units[exercise.unit]
        assert isinstance(whole, Source)
        path = tmp_path / "loose.py"
        path.write_text(f"{exercise.symbol} = None\n")
        loose = read_sources(course, path)
        subject = RemoteSubject(course, loose, reference, None)  # type: ignore[arg-type]
        found = {sparing: set[str]() for sparing in (True, False)}
        for sparing, seen in found.items():
            composition = Composition(
                course, loose, reference, subject.borrowed(exercise, ()), exercise, sparing=sparing
            )
            for unit in course.by_unit:
                seen.update(*map(names, composition.module(unit).code))
        wanted = {one for one in found[False] for name in exercise.names if one == name or one.startswith(f"{name}.")}
        assert wanted
        assert not wanted & found[True], f"{name}: {wanted & found[True]}"


def test_what_one_student_leaves_the_next_does_not_find(scene: Scene) -> None:
    leave = """
        import builtins, types
        sys.modules["left_behind"] = types.ModuleType("left_behind")
        builtins.dict.__doc__
        torch.utils.left_behind = sys.modules["left_behind"]
        for folder in ("/dev/shm", "/tmp", "/var/tmp", PLANTED):
            try:
                open(folder + "/left_behind", "w").write("the answers")
            except OSError:
                pass
        """
    look = """
        def attack():
            if "left_behind" in sys.modules or hasattr(torch.utils, "left_behind"):
                return True
            return any(os.path.exists(f + "/left_behind") for f in ("/dev/shm", "/tmp", "/var/tmp", PLANTED))
        """
    leaving = scene.hand_in(whole(leave, RIGHT), "first.py")
    looking = scene.hand_in(whole(look, SPOILS), "second.py")
    before = scene.traces()
    assert {verdict.verdict for verdict in scene.behind(leaving).values()} == {PASSED}
    assert scene.traces() == before
    scene.gains_nothing(looking, says="in vain")
    try:
        ending = scene.stage.judge(leaving, looking, seed=1)
        assert all(verdict["verdict"] == PASSED for verdict in ending.found[1].values())
    finally:
        for folder in ("/dev/shm", "/tmp", "/var/tmp"):
            Path(folder, "left_behind").unlink(missing_ok=True)


# -- tamper and persist: what is there before and after

CHANGES = {
    "the gradebook": """
        def attack():
            import sqlite3
            with sqlite3.connect(PLANTED + "/gradebook.db") as book:
                return book.execute("update grades set points = 100 where student = 'mallory'").rowcount == 1
        """,
    "another submission": """
        def attack():
            return open(PLANTED + "/others/ada.py", "w").write("def mean(t): ...")
        """,
    "what Python runs when it starts": """
        def attack():
            return open(PLANTED + "/site-packages/mine.pth", "w").write("import os")
        """,
    "compiled modules": """
        def attack():
            return open(PLANTED + "/__pycache__/torch.cpython-311.pyc", "wb").write(b"mine")
        """,
    "a conftest beside the suites": """
        def attack():
            return open(PLANTED + "/conftest.py", "w").write("def pytest_sessionfinish(session): ...")
        """,
    "a link where results will be": """
        def attack():
            os.symlink(PLANTED + "/gradebook.db", PLANTED + "/result.json")
            return True
        """,
    "a program that runs as its owner": """
        def attack():
            os.chmod(PLANTED + "/tool", 0o4755)
            return True
        """,
    "something for the clock to run": """
        def attack():
            return open(PLANTED + "/cron.d/mine", "w").write("* * * * * root /bin/true")
        """,
}


@pytest.mark.parametrize("change", CHANGES)
def test_nothing_outside_is_changed(scene: Scene, change: str) -> None:
    path = scene.hand_in(whole(CHANGES[change], SPOILS))
    scene.gains_nothing(path, says="in vain")
    before = scene.traces()
    scene.succeeds(path)
    assert scene.traces() != before


def test_the_real_places_are_closed_too(scene: Scene) -> None:
    """Not tried without the wall: there it would be done. That the attack writes is seen by the decoys above."""
    text = """
        import site, sysconfig
        def attack():
            for name in ("purelib", "stdlib"):
                folder = sysconfig.get_path(name)
                for path in (folder + "/goodinit-hostile.pth", folder + "/__pycache__/goodinit-hostile.pyc"):
                    try:
                        open(path, "w").write("# nothing")
                        return True
                    except OSError:
                        pass
            os.setuid(0)
            return True
        """
    scene.gains_nothing(scene.hand_in(whole(text, SPOILS)), says="in vain, PermissionError")


LASTING = {
    "a daemon": """
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                for number in (0, 1, 2):
                    os.dup2(os.open("/dev/null", os.O_RDWR), number)
                open(PLANTED + "/daemon", "w").write(str(os.getpid()))
                import time
                time.sleep(20)
            os._exit(0)
        """,
    "a thread that waits for the verdict": """
        import threading, time
        def later():
            while True:
                time.sleep(0.01)
                open(PLANTED + "/late.txt", "a").write("x")
        threading.Thread(target=later, daemon=True).start()
        """,
    "a writer at exit": """
        import atexit
        atexit.register(lambda: open(PLANTED + "/late.txt", "w").write("100 points"))
        """,
}


@pytest.mark.parametrize("what", LASTING)
def test_nothing_lasts(scene: Scene, what: str) -> None:
    body = f"try:\n{textwrap.indent(textwrap.dedent(LASTING[what]), '    ')}\nexcept OSError:\n    pass\n"
    path = scene.hand_in(body + WRONG_MEAN)
    scene.gains_nothing(path)
    time.sleep(0.1)
    assert not (scene.planted / "late.txt").exists()
    assert not (scene.planted / "daemon").exists()
    scene.stage.judge(path, seed=1)
    left = scene.planted / ("daemon" if "daemon" in what else "late.txt")
    for _ in range(100):
        if left.exists() and left.read_text():
            break
        time.sleep(0.02)
    assert left.read_text()
    if "daemon" in what:
        os.kill(int(left.read_text()), signal.SIGKILL)


# -- exhaust

GREED = {
    "processes": """
        def attack():
            children = [os.fork() for _ in range(1)]
            if 0 in children:
                os._exit(0)
            return os.waitpid(children[0], 0)
        """,
    "processes of another program": """
        import subprocess
        def attack():
            return subprocess.run(["/bin/true"]).returncode == 0
        """,
    "threads": """
        import threading
        def attack():
            wait = threading.Event()
            threading.stack_size(65536)
            threads = [threading.Thread(target=wait.wait, daemon=True) for _ in range(200)]
            try:
                for thread in threads:
                    thread.start()
            finally:
                wait.set()
            return True
        """,
    "memory on the heap": """
        def attack():
            return len(bytearray(1 << 30)) == 1 << 30
        """,
    "memory of tensors": """
        def attack():
            return torch.empty(1 << 28).numel()
        """,
    "memory that is shared": """
        import mmap
        def attack():
            return [mmap.mmap(-1, 1 << 30) for _ in range(4)]
        """,
    "memory without a name": """
        def attack():
            return os.memfd_create("mine") > 0
        """,
    "descriptors": """
        def attack():
            return [os.open("/dev/null", os.O_RDONLY) for _ in range(100)]
        """,
}


@pytest.mark.parametrize("greed", GREED)
def test_greed_is_an_error_of_the_code(scene: Scene, greed: str) -> None:
    if greed == "threads" and scene.sandbox.limits.threads and not _threads_are_counted():
        pytest.skip("layers uid and namespaces: threads are bounded by memory only")
    path = scene.hand_in(whole(GREED[greed], SPOILS))
    scene.succeeds(path)
    scene.gains_nothing(path, says="in vain")


def _threads_are_counted() -> bool:
    layers = probe()
    return layers.get("uid") == "on" or layers.get("namespaces") == "on"


TIME = {
    # True: also hangs in process, where the alarm is blocked, not heard, or never gets its turn
    "a loop": ("while True:\n        pass", False),
    "a loop that catches everything": (
        "while True:\n        try: sum(range(10**5))\n        except BaseException: pass",
        True,
    ),
    "a product in C": ("a = torch.ones(1000, 1000); return [(a @ a).sum() for _ in range(10_000)]", False),
    "one long product": ("a = torch.ones(9000, 9000); return (a @ a).sum()", True),
    "a regular expression": ("import re; re.match('(a+)+$', 'a' * 64 + 'b')", False),
    "sleep": ("import time; time.sleep(60)", False),
    "sleep that hears no alarm": (
        "import signal, time; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM]); time.sleep(60)",
        True,
    ),
    "a slow answer": (
        "import time\n    for _ in range(600):\n        os.write(3, b'\\0')\n        time.sleep(0.1)",
        False,
    ),
}


@pytest.mark.parametrize("what", TIME)
def test_time_ends(scene: Scene, what: str) -> None:
    body, hangs = TIME[what]
    path = scene.hand_in(f"def mean(t):\n    {body}\n    return t.new_tensor(13.0)\n")
    start = time.monotonic()
    says = "" if "answer" in what else "did not finish within 0.4 s"
    scene.gains_nothing(path, limits=HASTY, says=says)
    assert time.monotonic() - start < 6
    if hangs:
        ending = scene.stage.judge(path, seed=1, limits=HASTY, seconds=3 * HASTY.check_seconds)
        assert ending.status is None, "the judge could not stop it"


def test_a_loop_while_imported_ends(scene: Scene) -> None:
    path = scene.hand_in("while True:\n    try:\n        sum(range(10**6))\n    except BaseException:\n        pass\n")
    with path.open("a") as file:
        file.write(WRONG_MEAN)
    scene.gains_nothing(path, limits=HASTY, says="still running after 0.4 s")
    assert scene.stage.judge(path, seed=1, limits=HASTY, seconds=1.2).status is None


def test_processor_time_is_counted_over_all_threads(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """In process nothing counts it: the file's threads go on for as long as the judge lives."""
    text = """
        import threading, time
        def spin():
            a = torch.ones(300, 300)
            while True:
                a @ a
        for _ in range(2):
            threading.Thread(target=spin, daemon=True).start()
        def mean(t):
            while True:
                time.sleep(0.05)
        """
    path = scene.hand_in(textwrap.dedent(text))
    limits = dataclasses.replace(scene.sandbox.limits, cpu_seconds=1)
    monkeypatch.setattr(scene.sandbox, "limits", limits)
    found = scene.behind(path)
    assert {verdict.verdict for verdict in found.values()} == {WRONG}
    assert any("processor time" in verdict.message for verdict in found.values())
    monkeypatch.undo()
    scene.nothing_is_left()


def test_a_flood_of_output_reaches_nobody(scene: Scene, capfd: pytest.CaptureFixture[str]) -> None:
    text = """
        print("0 failed, 100 points \\x1b[2J" * 100)
        for _ in range(64):
            os.write(1, b"y" * (1 << 17))
            os.write(2, b"y" * (1 << 17))
        """
    path = scene.hand_in(whole(text, WRONG_MEAN))
    scene.gains_nothing(path)
    assert capfd.readouterr() == ("", "")
    assert len(scene.stage.judge(path, seed=1).printed) > 16_000_000


FLOODS = {
    "objects": ("return [object() for _ in range(10**5)]", "broke the rules"),
    "some more objects than may be": ("return [object() for _ in range(10_001)]", "broke the rules"),
    "numbers": ("return list(range(650_000))", "broke the rules"),
    "a text": ("return 'x' * (5 << 20)", "broke the rules"),
    "a tensor": ("return torch.zeros(3 << 20)", "broke the rules"),
    "a depth": ("found = []\n    for _ in range(5000): found = [found]\n    return found", "RecursionError"),
    "a circle": ("found = []; found.append(found); return found", "Error"),
    "a message": ("raise ValueError('y' * (64 << 20))", "yyy"),
    "a name": ("raise type('y' * (1 << 20), (ValueError,), {})()", "yyy"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_answers_is_cut(scene: Scene, flood: str) -> None:
    """In process nothing is counted: whatever the size, the judge holds it. Here it never arrives."""
    body, says = FLOODS[flood]
    path = scene.hand_in(f"def mean(t):\n    {body}\n")
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = scene.gains_nothing(path, says=says)
    assert all(len(verdict.message) < 2000 and len(verdict.details) < 8000 for verdict in found.values())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200_000


SOURCES = {
    "brackets": "x = " + "(" * 5000 + ")" * 5000,
    "lists": "x = " + "[" * 190 + "]" * 190,
    "minus signs": "x = " + "-" * 100_000 + "1",
    "a sum of 900 terms": "x = " + " + ".join(["1"] * 900),
    "a sum of 100,000 terms": "x = " + "+".join(["1"] * 100_000),
    "attributes": "x = " + "os" + ".a" * 50_000,
    "calls": "x = os" + "()" * 50_000,
    "lambdas": "x = " + "lambda: " * 5000 + "1",
    "elif": "if 0: pass\n" + "elif 0: pass\n" * 5000,
    "blocks": "".join(" " * level + "if 1:\n" for level in range(150)) + " " * 150 + "pass\n",
    "unfinished brackets": "with " + "(" * 150 + "a",
    "unfinished braces": "f" + "{" * 150 + "a:",
    "null bytes": "x = 1\0\n",
    "a long number": "x = " + "9" * 100_000,
    "a number to the power of one": "x = 9 ** 9 ** 9 if 0 else 1",
    "folding": "x = 'a' * 10**9 if 0 else (0,) * 10**9 if 0 else 1",
    "half a character": "x = '\\ud800'\nraise ValueError(x + '\\x1b[2J<script>')",
    "20 MB": "#" * 20_000_000,
}
HARMLESS_SOURCES = {"lists", "a sum of 900 terms", "half a character", "folding", "a number to the power of one"}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_that_is_hard_to_read_harms_only_itself(scene: Scene, kind: str) -> None:
    """Reading is the judge's, in front of the wall: that these are hard is seen by what Python itself says of them."""
    text = SOURCES[kind] + "\n"
    if kind not in HARMLESS_SOURCES:
        with pytest.raises((SyntaxError, ValueError, RecursionError, MemoryError, AssertionError)):
            compile(text, "hard", "exec")
            assert len(text) < 4_000_000
    path = scene.folder / "hard.py"
    path.write_text(text + WRONG_MEAN, encoding="utf-8")
    start = time.monotonic()
    found = scene.behind(path)
    assert time.monotonic() - start < 5
    assert all(verdict.points == 0 and verdict.verdict == WRONG for verdict in found.values()), found
    for verdict in found.values():
        json.dumps(verdict.to_dict(), ensure_ascii=False).encode()
        (verdict.message + verdict.details).encode()
        assert "\x1b" not in verdict.message + verdict.details
    scene.nothing_is_left()


def test_a_submission_that_is_no_file_is_refused(course: Course, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nothing.py", tmp_path):
        with pytest.raises(ImplError):
            read_sources(course, path)


# -- cheat


def test_the_example_of_the_text_earns_no_more_than_its_own_check(scene: Scene) -> None:
    path = scene.hand_in("def variance(t):\n    return t.new_tensor(47.1875)\n")
    found = scene.behind(path, "variance")
    assert [name for name, verdict in found.items() if verdict.verdict == PASSED] == ["variance_example"]
    assert found["variance_value"].verdict == WRONG
    assert exercise_verdict(found.values()) == WRONG
    assert sum(verdict.points for verdict in found.values()) < scene.course.exercises["variance"].points / 2


def test_answers_kept_from_an_earlier_run_are_no_answers_to_this_one(scene: Scene) -> None:
    """A table of inputs and answers earns everything where the seed is known, and nothing under a fresh one."""
    seen: dict[str, float] = {}

    def spy(t: torch.Tensor) -> torch.Tensor:
        seen[f"{t.dtype}{t.tolist()}"] = float(t.double().mean())
        return t.double().mean().to(t.dtype)

    class Spy(Subject):
        def exercise(self, exercise: Any, passed: Any = ()) -> Any:
            return spy

    sources = read_sources(scene.course, scene.hand_in(RIGHT, "spied.py"))
    judge = Judge(scene.course, sources, None, 7, subject=Spy(scene.course, sources))
    assert {verdict.verdict for verdict in _all_verdicts(judge, ["mean"])} == {PASSED}
    text = f"TABLE = {seen!r}\ndef mean(t):\n    return t.new_tensor(TABLE.get(f'{{t.dtype}}{{t.tolist()}}', 13.0))\n"
    path = scene.hand_in(text)
    known = scene.behind(path, seed=7)
    assert {verdict.verdict for verdict in known.values()} == {PASSED}
    fresh = scene.behind(path)
    assert fresh["mean_value"].verdict == WRONG
    scene.nothing_is_left()


NO_RANDOM = """
import torch
from torch import nn

class Scaled(nn.Module):
    def __init__(self, like):
        super().__init__()
        self.like = like
    def forward(self, x):
        return self.like(x) * 0

def conv(n_in, n_out, ks=3, stride=2, act=nn.ReLU, norm=None, bias=None):
    torch.randn = lambda *shape, **how: torch.zeros(*shape, dtype=how.get("dtype"))
    return Scaled(nn.Conv2d(n_in, n_out, ks, stride, ks // 2))
"""


def test_numbers_drawn_beside_a_submission_are_the_judges(scene: Scene) -> None:
    """A scenario draws in the worker, where a submission can choose what is drawn: the judge draws the same anew."""
    found = scene.behind(scene.hand_in(NO_RANDOM), "conv")
    assert found["conv_value"].verdict == WRONG


OVERWRITES = """
def mean(t):
    t.zero_()
    return t.sum()
"""


def test_overwriting_an_argument_is_seen(scene: Scene) -> None:
    path = scene.hand_in(OVERWRITES)
    found = scene.behind(path)
    assert found["mean_value"].verdict == WRONG
    assert "leaves its inputs as they are" in found["mean_value"].message


def test_overwriting_an_argument_earns_nothing(scene: Scene) -> None:
    found = scene.behind(scene.hand_in(OVERWRITES))
    assert sum(verdict.points for verdict in found.values()) == 0


# -- the same as an ordinary user

CORE = "forgery or end_is_no or theft or nothing_outside or nothing_lasts or greed or flood"


def test_an_ordinary_user_is_as_safe(sandbox: Recorded, tmp_path_factory: pytest.TempPathFactory) -> None:
    if os.geteuid() != 0:
        pytest.skip("these tests run as an ordinary user already")
    closed = _closed_to_others([Path(sys.executable).resolve(), Path(torch.__file__)])
    if closed:
        pytest.skip(f"the interpreter lies under {closed}, which other users cannot enter")
    with tempfile.TemporaryDirectory(prefix="goodinit-user-") as name:
        folder = Path(name)
        for part in ("grading", "tests", "solutions", "exercises"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("course.toml", "pyproject.toml"):
            shutil.copy(ROOT / part, folder / part)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", CORE]
        ended = subprocess.run(
            [*command, "grading/tests/test_hostile.py"],
            cwd=folder,
            env={**os.environ, "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", "MPLCONFIGDIR": "/tmp"},
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
            capture_output=True,
            text=True,
        )
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert " passed" in ended.stdout


def _closed_to_others(paths: Iterable[Path]) -> Path | None:
    """The first folder on the way to one of the paths that only its owner may enter."""
    for path in paths:
        for folder in reversed(path.parents):
            if not folder.stat().st_mode & 0o001:
                return folder
    return None


def test_wire_errors_are_errors_of_the_wire() -> None:
    """What the judge raises over a broken rule is no exception that a check could wait for."""
    assert not issubclass(WireError, ArithmeticError | LookupError | RuntimeError | TypeError | ValueError)
