"""The wall around a process: every attack is a real attempt, which must work without the wall and fail behind it.

A scene has three processes: pytest, which planted something; the stage, forked from it, which stands for the judge that
is to be attacked; and the actor, forked from the stage, which attacks. A stage is root's, or an ordinary user's.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import mmap
import os
import platform
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from grading.sandbox import _confine
from grading.sandbox._confine import Limits, Wall, confine, explain, missing, platform_problem, probe, readable_paths

from .conftest import ROOT
from .decoys import Trace, arrivals, traces

NOBODY = 65534
WORKER = 61_234
SECONDS = 60
MIB = 1 << 20
TIGHT = Limits(memory_mb=2048, data_mb=1024, cpu_seconds=20, threads=20, output_mb=1, open_files=24)
SECRET = "the answers"

linux_only = pytest.mark.skipif(bool(platform_problem()), reason=platform_problem() or "Linux")


# -- scenes


@dataclass
class Scene:
    """What pytest planted, where an attack finds it, and what reached the listeners."""

    folder: Path
    stage_uid: int
    worker_uid: int | None
    memory: ctypes.Array[ctypes.c_char]
    listeners: dict[str, socket.socket] = field(default_factory=dict)
    open_secret: int = -1

    @property
    def secret(self) -> Path:
        return self.folder / "secret.txt"

    def traces(self) -> dict[str, Trace]:
        return traces(self.folder)

    def arrivals(self) -> list[str]:
        return arrivals(self.listeners)


@dataclass
class Ending:
    """How an actor ended: what it returned, or the error it met; its wait status; the signals that the stage heard."""

    value: object = None
    error: str = ""
    number: int | None = None
    status: int = 0
    heard: int = 0
    layers: dict[str, str] = field(default_factory=dict)

    @property
    def killed_by(self) -> int:
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else 0


Act = Callable[[Scene], object]


def play(
    scene: Scene,
    act: Act,
    *,
    wall: bool,
    limits: Limits = TIGHT,
    keep: tuple[int, ...] = (),
    readable: list[str] | None = None,
) -> Ending:
    """Runs the act in a child of a child, behind the wall or not."""
    built = Wall(readable_paths() if readable is None else readable) if wall else None
    reading, writing = os.pipe()
    stage = os.fork()
    if stage == 0:
        try:
            os.setpgid(0, 0)
            ending = _on_stage(scene, act, built, limits, keep)
            os.write(writing, json.dumps(vars(ending)).encode() + b"\n")
        finally:
            os._exit(0)
    os.close(writing)
    if built:
        built.close()
    text = b""
    try:
        while not text.endswith(b"\n") and select.select([reading], [], [], SECONDS)[0]:
            piece = os.read(reading, 65536)
            if not piece:
                break
            text += piece
    finally:
        os.close(reading)
        os.kill(stage, signal.SIGKILL)
        os.waitpid(stage, 0)
    assert text, "the stage ended without a word"
    return Ending(**json.loads(text))


def _on_stage(scene: Scene, act: Act, wall: Wall | None, limits: Limits, keep: tuple[int, ...]) -> Ending:
    heard: list[int] = []
    signal.signal(signal.SIGURG, lambda number, frame: heard.append(number))
    os.environ["GOODINIT_SECRET"] = SECRET
    _become_the_stage(scene.stage_uid)
    reading, writing = os.pipe()
    stage, actor = os.getpid(), os.fork()
    if actor == 0:
        try:
            ending = _act(scene, act, wall, limits, {writing, *keep}, stage)
            os.write(writing, json.dumps(vars(ending), default=repr).encode())
        finally:
            os._exit(0)
    os.close(writing)
    _, status = os.waitpid(actor, 0)
    text = os.read(reading, 65536) if select.select([reading], [], [], 0)[0] else b""
    ending = Ending(**json.loads(text)) if text else Ending()
    ending.status, ending.heard = status, len(heard)
    return ending


def _become_the_stage(uid: int) -> None:
    if os.geteuid() == 0 and uid != 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None)
    # as open to its children as any process of the same user: where Yama is on, only by permission
    libc.prctl(_confine.PR_SET_DUMPABLE, 1, 0, 0, 0)
    libc.prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)


def _act(scene: Scene, act: Act, wall: Wall | None, limits: Limits, keep: set[int], stage: int) -> Ending:
    ending = Ending()
    if wall:
        ending.layers = confine(keep, wall, limits, parent=stage, uid=scene.worker_uid)
    try:
        ending.value = act(scene)
    except BaseException as error:
        ending.error = f"{type(error).__name__}: {error}"
        ending.number = error.errno if isinstance(error, OSError) else None
    return ending


@pytest.fixture(params=["root", "ordinary user"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    if request.param == "root" and os.geteuid() != 0:
        pytest.skip("layer uid: only root can give a process a user of its own")
    stage_uid = 0 if request.param == "root" else (os.geteuid() or NOBODY)
    worker_uid = WORKER if request.param == "root" else None
    folder = Path(tempfile.mkdtemp(prefix="goodinit-wall-"))
    scene = Scene(folder, stage_uid, worker_uid, ctypes.create_string_buffer(SECRET.encode()))
    scene.secret.write_text(SECRET)
    (folder / "grades.csv").write_text("student,points\nada,100\n")
    for kind, family, address in [
        ("stream", socket.AF_INET, ("127.0.0.1", 0)),
        ("dgram", socket.AF_INET, ("127.0.0.1", 0)),
        ("stream", socket.AF_UNIX, str(folder / "judge.sock")),
        ("dgram", socket.AF_UNIX, f"\0{folder.name}"),
    ]:
        listener = socket.socket(family, socket.SOCK_STREAM if kind == "stream" else socket.SOCK_DGRAM)
        listener.bind(address)
        if kind == "stream":
            listener.listen()
        scene.listeners[f"{family.name} {kind}"] = listener
    for path in [folder, *folder.iterdir()]:
        os.chown(path, stage_uid, -1)
    scene.open_secret = os.open(scene.secret, os.O_RDONLY)
    yield scene
    os.close(scene.open_secret)
    for listener in scene.listeners.values():
        listener.close()
    shutil.rmtree(folder)


@pytest.fixture(scope="module", autouse=True)
def wall() -> None:
    if not platform_problem():
        absent = missing(probe())
        if absent:
            pytest.skip(f"layers {', '.join(absent)}: {explain(absent)}")


def call(number: int, *arguments: object) -> int:
    """A system call by its number, as an attacker makes it who does not ask libc."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def libc_call(name: str, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


# -- attacks: each returns something true when it has got what it came for


def reads_a_secret(scene: Scene) -> object:
    return scene.secret.read_text() == SECRET


def reads_a_secret_by_a_detour(scene: Scene) -> object:
    return Path(f"/proc/self/root{scene.secret}").read_text() == SECRET


def reads_what_the_judge_has_open(scene: Scene) -> object:
    return os.read(scene.open_secret, 100)


def reads_the_users_of_the_machine(scene: Scene) -> object:
    return Path("/etc/passwd").read_text()


def lists_a_folder(scene: Scene) -> object:
    return os.listdir(scene.folder)


def writes_a_file(scene: Scene) -> object:
    return (scene.folder / "left_behind.py").write_text("import os")


def appends_a_grade(scene: Scene) -> object:
    with (scene.folder / "grades.csv").open("a") as file:
        return file.write("me,100\n")


def empties_a_file(scene: Scene) -> object:
    os.truncate(scene.folder / "grades.csv", 0)
    return True


def empties_a_file_by_opening_it(scene: Scene) -> object:
    return os.open(scene.folder / "grades.csv", os.O_RDONLY | os.O_TRUNC) >= 0


def empties_a_file_by_opening_it_for_nothing(scene: Scene) -> object:
    return os.open(scene.folder / "grades.csv", os.O_ACCMODE | os.O_TRUNC) >= 0


def deletes_a_file(scene: Scene) -> object:
    (scene.folder / "grades.csv").unlink()
    return True


def renames_a_file(scene: Scene) -> object:
    return (scene.folder / "grades.csv").rename(scene.folder / "old.csv").name


def links_a_file(scene: Scene) -> object:
    os.link(scene.folder / "grades.csv", scene.folder / "link.csv")
    return True


def plants_a_symlink(scene: Scene) -> object:
    (scene.folder / "symlink").symlink_to(scene.secret)
    return True


def makes_a_folder(scene: Scene) -> object:
    (scene.folder / "__pycache__").mkdir()
    return True


def makes_a_pipe_with_a_name(scene: Scene) -> object:
    os.mkfifo(scene.folder / "fifo")
    (scene.folder / "fifo").unlink()
    return True


def changes_a_mode(scene: Scene) -> object:
    scene.secret.chmod(0o666)
    return True


def changes_a_mode_of_something_open(scene: Scene) -> object:
    os.fchmod(scene.open_secret, 0o640)
    return True


def changes_a_time(scene: Scene) -> object:
    os.utime(scene.secret, (0, 0))
    return True


def sets_an_attribute(scene: Scene) -> object:
    os.setxattr(scene.secret, "user.seen", b"yes")
    return True


def connects_over_tcp(scene: Scene) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sender:
        sender.connect(scene.listeners["AF_INET stream"].getsockname())
        return True


def sends_over_udp(scene: Scene) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"answers", scene.listeners["AF_INET dgram"].getsockname())


def connects_to_a_unix_socket(scene: Scene) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sender:
        sender.connect(scene.listeners["AF_UNIX stream"].getsockname())
        return True


def sends_to_an_abstract_unix_socket(scene: Scene) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"answers", scene.listeners["AF_UNIX dgram"].getsockname())


def listens(scene: Scene) -> object:
    with socket.create_server(("127.0.0.1", 0)):
        return True


def asks_the_kernel_by_netlink(scene: Scene) -> object:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as asking:
        return asking.fileno() >= 0


def forks(scene: Scene) -> object:
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def leaves_a_daemon(scene: Scene) -> object:
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            (scene.folder / "daemon").write_text("still here")
        os._exit(0)
    os.wait()
    while not (scene.folder / "daemon").exists():
        time.sleep(0.01)
    return True


def starts_a_program(scene: Scene) -> object:
    return os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1]) == 0


def becomes_a_program(scene: Scene) -> object:
    # true ends at once with 0, and says nothing: the pipe that closes at exec is how the test sees it
    os.execv("/bin/true", ["true"])


def signals_the_parent(scene: Scene) -> object:
    os.kill(os.getppid(), signal.SIGURG)
    return True


def signals_the_parent_by_a_descriptor(scene: Scene) -> object:
    signal.pidfd_send_signal(os.pidfd_open(os.getppid()), signal.SIGURG)
    return True


def has_the_kernel_signal_the_parent(scene: Scene) -> object:
    reading, writing = os.pipe()
    fcntl.fcntl(reading, fcntl.F_SETOWN, os.getppid())
    fcntl.fcntl(reading, fcntl.F_SETSIG, signal.SIGURG)
    fcntl.fcntl(reading, fcntl.F_SETFL, os.O_ASYNC)
    return os.write(writing, b"now")


def traces_the_parent(scene: Scene) -> object:
    seize = 0x4206
    libc_call("ptrace", ctypes.c_long(seize), ctypes.c_long(os.getppid()), None, None)
    return True


def reads_the_parents_memory(scene: Scene) -> object:
    with open(f"/proc/{os.getppid()}/mem", "rb") as memory:
        memory.seek(ctypes.addressof(scene.memory))
        return memory.read(len(SECRET)) == SECRET.encode()


def copies_the_parents_memory(scene: Scene) -> object:
    found = ctypes.create_string_buffer(len(SECRET))
    here = struct.pack("QQ", ctypes.addressof(found), len(SECRET))
    there = struct.pack("QQ", ctypes.addressof(scene.memory), len(SECRET))
    parent = ctypes.c_int(os.getppid())
    libc_call("process_vm_readv", parent, here, ctypes.c_ulong(1), there, ctypes.c_ulong(1), ctypes.c_ulong(0))
    return found.raw == SECRET.encode()


def writes_the_parents_memory(scene: Scene) -> object:
    here = struct.pack("QQ", ctypes.addressof(scene.memory), 1)
    parent = ctypes.c_int(os.getppid())
    return libc_call("process_vm_writev", parent, here, ctypes.c_ulong(1), here, ctypes.c_ulong(1), ctypes.c_ulong(0))


def reads_the_parents_environment(scene: Scene) -> object:
    return Path(f"/proc/{os.getppid()}/environ").read_bytes()


def reads_its_own_environment(scene: Scene) -> object:
    return os.environ.get("GOODINIT_SECRET")


def reads_its_own_environment_in_c(scene: Scene) -> object:
    libc = ctypes.CDLL(None)
    libc.getenv.restype = ctypes.c_char_p
    return libc.getenv(b"GOODINIT_SECRET") is not None


def sees_the_parents_descriptors(scene: Scene) -> object:
    return os.listdir(f"/proc/{os.getppid()}/fd")


def takes_a_descriptor_of_the_parent(scene: Scene) -> object:
    pidfd_getfd = 438
    taken = call(pidfd_getfd, ctypes.c_long(os.pidfd_open(os.getppid())), ctypes.c_long(scene.open_secret), 0)
    return os.pread(taken, 100, 0)


def slows_the_parent_down(scene: Scene) -> object:
    os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)
    return True


def ties_the_parent_to_a_core(scene: Scene) -> object:
    os.sched_setaffinity(os.getppid(), os.sched_getaffinity(0))
    return True


def limits_the_parent(scene: Scene) -> object:
    resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0))
    return True


def lowers_a_limit(scene: Scene) -> object:
    """Setting any limit is refused, so that raising one is."""
    resource.setrlimit(resource.RLIMIT_CPU, (15, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    return True


def outlives_the_parent(scene: Scene) -> object:
    libc_call("prctl", _confine.PR_SET_PDEATHSIG, 0, 0, 0, 0)
    return True


def shares_memory_by_a_file(scene: Scene) -> object:
    path = Path(f"/dev/shm/goodinit-{os.getpid()}")
    path.write_text("for the next one")
    path.unlink()
    return True


def shares_memory_by_a_key(scene: Scene) -> object:
    create, remove = 0o1600, 0
    segment = libc_call("shmget", ctypes.c_int(0), ctypes.c_size_t(4096), ctypes.c_int(create))
    libc_call("shmctl", ctypes.c_int(segment), ctypes.c_int(remove), None)
    return True


def makes_a_file_in_memory(scene: Scene) -> object:
    return os.memfd_create("code") >= 0


def keeps_a_key_in_the_kernel(scene: Scene) -> object:
    process_keyring = ctypes.c_long(-2)
    add_key = {"x86_64": 248, "aarch64": 217}[os.uname().machine]
    return call(add_key, b"user", b"goodinit", b"answers", ctypes.c_long(7), process_keyring)


def opens_a_ring_of_calls(scene: Scene) -> object:
    io_uring_setup = 425
    return call(io_uring_setup, ctypes.c_long(1), ctypes.create_string_buffer(120)) >= 0


def opens_a_user_namespace(scene: Scene) -> object:
    libc_call("unshare", ctypes.c_int(_confine.CLONE_NEWUSER))
    return True


def becomes_root(scene: Scene) -> object:
    os.setresuid(0, 0, 0)
    return os.geteuid() == 0


def becomes_someone_else(scene: Scene) -> object:
    os.setresuid(1, 1, 1)
    return True


def mounts_over_a_folder(scene: Scene) -> object:
    own_mounts, private = 0x20000, 0x44000
    libc_call("unshare", ctypes.c_int(own_mounts))
    libc_call("mount", None, b"/", None, ctypes.c_ulong(private), None)
    libc_call("mount", b"tmpfs", str(scene.folder).encode(), b"tmpfs", ctypes.c_ulong(0), None)
    return not scene.secret.exists()


def changes_the_root(scene: Scene) -> object:
    os.chroot(scene.folder)
    return True


ATTACKS: list[Act] = [
    reads_a_secret,
    reads_a_secret_by_a_detour,
    reads_what_the_judge_has_open,
    reads_the_users_of_the_machine,
    lists_a_folder,
    writes_a_file,
    appends_a_grade,
    empties_a_file,
    empties_a_file_by_opening_it,
    empties_a_file_by_opening_it_for_nothing,
    deletes_a_file,
    renames_a_file,
    links_a_file,
    plants_a_symlink,
    makes_a_folder,
    makes_a_pipe_with_a_name,
    changes_a_mode,
    changes_a_mode_of_something_open,
    changes_a_time,
    sets_an_attribute,
    connects_over_tcp,
    sends_over_udp,
    connects_to_a_unix_socket,
    sends_to_an_abstract_unix_socket,
    listens,
    asks_the_kernel_by_netlink,
    forks,
    leaves_a_daemon,
    starts_a_program,
    signals_the_parent,
    signals_the_parent_by_a_descriptor,
    has_the_kernel_signal_the_parent,
    traces_the_parent,
    reads_the_parents_memory,
    copies_the_parents_memory,
    writes_the_parents_memory,
    reads_the_parents_environment,
    reads_its_own_environment,
    reads_its_own_environment_in_c,
    sees_the_parents_descriptors,
    takes_a_descriptor_of_the_parent,
    slows_the_parent_down,
    ties_the_parent_to_a_core,
    limits_the_parent,
    lowers_a_limit,
    outlives_the_parent,
    shares_memory_by_a_file,
    shares_memory_by_a_key,
    makes_a_file_in_memory,
    keeps_a_key_in_the_kernel,
    opens_a_ring_of_calls,
    opens_a_user_namespace,
]
ATTACKS_OF_ROOT: list[Act] = [becomes_root, becomes_someone_else, mounts_over_a_folder, changes_the_root]
# what kernels, their settings and containers may refuse to everybody
OFTEN_FORBIDDEN: list[Act] = [
    sets_an_attribute,
    traces_the_parent,
    copies_the_parents_memory,
    writes_the_parents_memory,
    takes_a_descriptor_of_the_parent,
    shares_memory_by_a_key,
    keeps_a_key_in_the_kernel,
    opens_a_ring_of_calls,
    opens_a_user_namespace,
    mounts_over_a_folder,
]


def by_name(act: Act) -> str:
    return act.__name__


def fails_behind_the_wall(scene: Scene, attack: Act) -> None:
    before = scene.traces()
    ending = play(scene, attack, wall=True)
    assert missing(ending.layers) == []
    assert not ending.value
    assert scene.traces() == before
    assert scene.arrivals() == []
    assert ending.heard == 0


def works_without_it(scene: Scene, attack: Act) -> None:
    ending = play(scene, attack, wall=False)
    if attack in OFTEN_FORBIDDEN and ending.number in (errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
        pytest.skip(f"nobody can do this on this machine, wall or not: {ending.error}")
    assert ending.value, ending.error


@linux_only
@pytest.mark.parametrize("attack", ATTACKS, ids=by_name)
def test_an_attack_works_without_the_wall_and_fails_behind_it(scene: Scene, attack: Act) -> None:
    fails_behind_the_wall(scene, attack)
    works_without_it(scene, attack)


@linux_only
@pytest.mark.parametrize("scene", ["root"], indirect=True)
@pytest.mark.parametrize("attack", ATTACKS_OF_ROOT, ids=by_name)
def test_an_attack_of_root_fails_behind_the_wall(scene: Scene, attack: Act) -> None:
    fails_behind_the_wall(scene, attack)
    works_without_it(scene, attack)


@linux_only
def test_what_an_attack_did_can_be_seen(scene: Scene) -> None:
    # the looking glass of fails_behind_the_wall: it would see a change, a message and a signal
    before = scene.traces()
    play(scene, appends_a_grade, wall=False)
    assert scene.traces() != before
    play(scene, sends_over_udp, wall=False)
    play(scene, connects_over_tcp, wall=False)
    assert sorted(scene.arrivals()) == ["AF_INET dgram", "AF_INET stream"]
    assert play(scene, has_the_kernel_signal_the_parent, wall=False).heard >= 1


@linux_only
def test_no_program_takes_the_place_of_a_worker(scene: Scene) -> None:
    # a program that took its place would end with 0 and could not report
    assert play(scene, becomes_a_program, wall=True).error.startswith("PermissionError")
    assert play(scene, becomes_a_program, wall=False) == Ending(status=0)


@linux_only
def test_a_worker_ends_with_its_judge(scene: Scene) -> None:
    assert outlived(scene, wall=False)
    assert not outlived(scene, wall=True)


def outlived(scene: Scene, *, wall: bool) -> bool:
    """Whether the actor is still there some time after its stage was killed."""
    reading, writing = os.pipe()
    built = Wall(readable_paths())
    stage = os.fork()
    if stage == 0:
        try:
            _become_the_stage(scene.stage_uid)
            parent = os.getpid()
            if os.fork() == 0:
                pid = os.getpid()
                if wall:
                    confine({writing}, built, TIGHT, parent=parent, uid=scene.worker_uid)
                os.write(writing, struct.pack("i", pid))
                time.sleep(SECONDS)
            signal.pause()
        finally:
            os._exit(0)
    os.close(writing)
    built.close()
    actor = struct.unpack("i", os.read(reading, 4))[0]
    os.kill(stage, signal.SIGKILL)
    os.waitpid(stage, 0)
    # the pipe is at its end when the last process that holds it has gone
    lives = not select.select([reading], [], [], 5 if wall else 0.5)[0]
    os.close(reading)
    if lives:
        os.kill(actor, signal.SIGKILL)
    return lives


# -- the course


@linux_only
@pytest.mark.parametrize("readable", [None, [str(ROOT)], [str(ROOT.parent)]], ids=["usual", "course", "parent"])
def test_the_course_cannot_be_read(scene: Scene, readable: list[str] | None) -> None:
    places = [ROOT / "course.toml", *(ROOT / "solutions").glob("*.py"), *(ROOT / "tests").glob("*.py"), Path(__file__)]

    def reads_the_course(scene: Scene) -> object:
        found = []
        for place in places:
            try:
                found.append(len(place.read_bytes()))
            except OSError:
                continue
        return found

    assert play(scene, reads_the_course, wall=True, readable=readable).value == []
    found = play(scene, reads_the_course, wall=False).value
    if found == []:
        pytest.skip("the folder of the course is closed to an ordinary user anyway")
    assert len(found) == len(places)


def test_what_python_needs_is_readable_and_the_course_is_not() -> None:
    readable = [Path(path) for path in readable_paths()]
    torch = Path(sys.modules["torch"].__file__ or "")
    for needed in (torch, Path(os.__file__)):
        assert any(needed.resolve().is_relative_to(path) for path in readable)
    for hidden in (ROOT / "course.toml", ROOT / "solutions", ROOT / "tests", ROOT / "grading", Path.home()):
        assert not any(hidden.resolve().is_relative_to(path) for path in readable)
    for path in readable:
        assert path.exists()
        assert path.name == "site-packages" or not path.is_relative_to(ROOT)


def test_where_goodinit_is_installed_its_neighbours_stay_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("torch", "grading"):
        (tmp_path / "lib" / "site-packages" / package).mkdir(parents=True)
    packages = tmp_path.resolve() / "lib" / "site-packages"
    monkeypatch.setattr(_confine, "_own_folder", lambda: packages / "grading")
    grants = dict(_confine._grants([str(tmp_path / "lib")]))
    assert grants == {
        tmp_path.resolve() / "lib": _confine.READ_DIR,
        packages: _confine.READ_DIR,
        packages / "torch": _confine.READ_DIR | _confine.READ_FILE,
    }


# -- limits


def takes_the_heap(scene: Scene) -> object:
    return len(bytearray(1500 * MIB))


def maps_memory(scene: Scene) -> object:
    return len(mmap.mmap(-1, 3000 * MIB))


def starts_threads(scene: Scene) -> object:
    end = threading.Event()
    threads = [threading.Thread(target=end.wait, daemon=True) for _ in range(40)]
    try:
        for thread in threads:
            thread.start()
        return True
    finally:
        end.set()


def opens_files(scene: Scene) -> object:
    return len([os.open("/dev/null", os.O_RDONLY) for _ in range(60)])


def makes_pipes(scene: Scene) -> object:
    return len([os.pipe() for _ in range(60)])


@linux_only
@pytest.mark.parametrize(
    ("greedy", "error"),
    [
        (takes_the_heap, "MemoryError"),
        (maps_memory, "OSError: [Errno 12]"),
        (starts_threads, "RuntimeError: can't start new thread"),
        (opens_files, "OSError: [Errno 24]"),
        (makes_pipes, "OSError: [Errno 24]"),
    ],
)
def test_a_limit_is_an_error_that_a_program_can_report(scene: Scene, greedy: Act, error: str) -> None:
    ending = play(scene, greedy, wall=True)
    if greedy is starts_threads and ending.layers["namespaces"] != "on" and ending.layers["uid"] != "on":
        pytest.skip("layers uid and namespaces: without either only memory bounds the threads")
    assert ending.error.startswith(error)
    assert play(scene, greedy, wall=False).value


def burns(scene: Scene) -> object:
    while time.process_time() < 2.5:
        sum(range(10_000))
    return True


def burns_and_will_not_listen(scene: Scene) -> object:
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    return burns(scene)


@linux_only
def test_processor_time_ends(scene: Scene) -> None:
    quick = Limits(cpu_seconds=1)
    assert play(scene, burns, wall=True, limits=quick).killed_by == signal.SIGXCPU
    assert play(scene, burns_and_will_not_listen, wall=True, limits=quick).killed_by == signal.SIGKILL
    assert play(scene, burns_and_will_not_listen, wall=False).value


@linux_only
def test_output_to_a_file_ends(scene: Scene) -> None:
    with tempfile.TemporaryFile() as file:

        def floods(scene: Scene) -> object:
            for _ in range(30):
                os.write(file.fileno(), b"x" * (MIB // 10))
            return True

        ending = play(scene, floods, wall=True, keep=(file.fileno(),))
        assert ending.error.startswith("OSError: [Errno 27]")
        assert os.fstat(file.fileno()).st_size == MIB
        assert play(scene, floods, wall=False).value


# -- what stays possible


@linux_only
def test_every_required_layer_is_on_and_a_missing_one_has_a_reason(scene: Scene) -> None:
    layers = play(scene, lambda scene: None, wall=True).layers
    assert list(dict.fromkeys([*layers, *_confine.LAYERS])) == list(layers)
    assert missing(layers) == []
    assert all(state == "on" or len(state) > len("unavailable: ") for state in layers.values())


@linux_only
def test_a_worker_may_compute_and_sleep_and_start_threads(scene: Scene) -> None:
    def works(scene: Scene) -> object:
        results: list[int] = []
        threads = [threading.Thread(target=lambda: results.append(sum(range(1000)))) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(0.01)
        with open(os.devnull, "w") as nowhere:
            nowhere.write("thrown away")
        return [results == [499_500] * 5, len(os.urandom(4)), os.getcwd(), dict(os.environ)]

    assert play(scene, works, wall=True).value == [True, 4, "/", {}]


@linux_only
def test_a_worker_imports_what_nobody_imported_before(scene: Scene) -> None:
    def imports(scene: Scene) -> object:
        sys.modules.pop("colorsys", None)
        import colorsys

        return colorsys.rgb_to_hsv(0.5, 0.5, 0.5)

    if not play(scene, imports, wall=False).value:
        pytest.skip("this interpreter lies in a folder that is closed to an ordinary user")
    ending = play(scene, imports, wall=True)
    assert ending.value == [0.0, 0.0, 0.5], ending.error


TORCH = """
    import json, os, sys
    import torch
    import torch.nn.functional as F
    from grading.sandbox._confine import Limits, Wall, confine, readable_paths

    def work(seed):
        torch.manual_seed(seed)
        images = torch.randn(4, 3, 9, 9, requires_grad=True)
        weight = torch.randn(5, 3, 3, 3, requires_grad=True)
        maps = F.batch_norm(F.conv2d(images, weight).relu(), None, None, training=True)
        loss = F.cross_entropy(maps.flatten(1) @ torch.randn(245, 10), torch.tensor([1, 2, 3, 4]))
        loss.backward()
        optimizer = torch.optim.Adam([weight])
        optimizer.step()
        return [loss.item(), weight.sum().item(), images.grad.norm().item(), maps.flatten().sort().values[7].item(),
                torch.linalg.svdvals(torch.randn(6, 6))[0].item()]

    # one thread before any work: a pool of threads would not follow into the child, and work there would wait for it
    torch.set_num_threads(1)
    expected = work(0)
    stage_uid, worker_uid = json.loads(sys.argv[1])
    wall = Wall(readable_paths())
    if os.geteuid() == 0 and stage_uid:
        os.setgroups([])
        os.setresgid(stage_uid, stage_uid, stage_uid)
        os.setresuid(stage_uid, stage_uid, stage_uid)
    stage = os.getpid()
    if os.fork() == 0:
        try:
            confine({1, 2}, wall, Limits(), parent=stage, uid=worker_uid)
            answer = json.dumps([work(0), expected])
            print(answer, flush=True)
        finally:
            os._exit(0)
    os.wait()
"""


@linux_only
def test_torch_computes_behind_the_wall_what_it_computes_outside(scene: Scene) -> None:
    command = [sys.executable, "-c", textwrap.dedent(TORCH), json.dumps([scene.stage_uid, scene.worker_uid])]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ended.stdout, ended.stderr
    inside, outside = json.loads(ended.stdout)
    assert inside == outside


# -- machines


def test_probe_names_every_layer() -> None:
    assert set(probe()) == set(_confine.LAYERS)


def test_a_missing_layer_is_named_and_explained() -> None:
    layers = dict.fromkeys(_confine.LAYERS, "on") | {"landlock": "unavailable: no such call", "uid": "unavailable: no"}
    assert missing(layers) == ["landlock"]
    assert missing({}) == list(_confine.REQUIRED)
    if not platform_problem():
        assert "Linux 5.13" in explain(["landlock"])
        assert "CONFIG_SECCOMP_FILTER" in explain(["seccomp"])
        assert explain([]) == ""


def test_another_system_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert "needs a Linux machine or container" in platform_problem()
    assert missing(probe()) == list(_confine.REQUIRED)
    assert missing(confine((), Wall(()), Limits(), parent=0)) == list(_confine.REQUIRED)
    assert "needs a Linux machine or container" in explain(_confine.REQUIRED)


def test_the_module_loads_where_there_is_no_linux() -> None:
    absent = "import runpy, sys; sys.platform = 'win32'; sys.modules['resource'] = sys.modules['fcntl'] = None; "
    subprocess.run([sys.executable, "-c", f"{absent}runpy.run_path({_confine.__file__!r})"], check=True)


# -- the filter, on machines that this one is not

REFUSED = _confine.ERRNO | errno.EPERM
OTHER = {"x86_64": "aarch64", "aarch64": "x86_64"}
# numbers of calls that must be refused, in the order of the tables
FORBIDDEN = {"socket": (41, 198), "execve": (59, 221), "ptrace": (101, 117), "unshare": (272, 97), "mount": (165, 40)}


def decide(machine: str, name: str, *arguments: int, audit: str | None = None, bits: int = 0) -> int:
    """What the filter answers to a call of process 77: the few instructions of the kernel's machine that it uses."""
    column = list(_confine.AUDIT_MACHINE).index(machine)
    number = {**_confine.HARMLESS, **_confine.GUARDED, **FORBIDDEN}[name][column]
    assert number is not None
    words = [number | bits, _confine.AUDIT_MACHINE[audit or machine], 0, 0]
    for argument in (*arguments, *[0] * (6 - len(arguments))):
        words += [argument & 0xFFFFFFFF, argument >> 32]
    program = _confine._filter(machine, 77)
    register = at = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == _confine.LOAD:
            register = words[value // 4]
        elif code == _confine.AND:
            register &= value
        elif code == _confine.RETURN:
            return value
        else:
            holds = {
                _confine.JUMP_IF_EQUAL: register == value,
                _confine.JUMP_IF_AT_LEAST: register >= value,
                _confine.JUMP_IF_ANY_BIT: register & value != 0,
            }
            at += if_true if holds[code] else if_false


@pytest.mark.parametrize("machine", _confine.AUDIT_MACHINE)
def test_the_filter_decides_by_arguments(machine: str) -> None:
    thread, network = _confine.CLONE_THREAD, _confine.CLONE_NEWNET
    trunc, pointer, high_pointer = os.O_TRUNC, 0x7F001000, 0x7F << 32
    for name, allowed, refused in [
        ("clone", [(thread,)], [(0,), (signal.SIGCHLD,), (thread | network,)]),
        ("kill", [(77, 9)], [(76, 9), (0, 9), (0xFFFFFFFF, 9)]),
        ("tgkill", [(77, 78, 6)], [(1, 1, 9)]),
        ("prlimit64", [(0, 7, 0, pointer)], [(0, 7, pointer), (0, 7, high_pointer), (5, 7, 0, pointer)]),
        ("prctl", [(15, pointer), (16, pointer)], [(1, 0), (4, 1), (8, 1), (38, 1)]),
        ("fcntl", [(3, command) for command in (0, 1, 2, 3, 4, 1030)], [(3, fcntl.F_SETOWN), (3, 1033)]),
        ("ioctl", [(1, 0x5401)], [(0, 0x5412), (3, 0x8901)]),
        ("openat", [(0, 0, 0), (0, 0, 2), (0, 0, 1 | trunc), (0, 0, 2 | trunc)], [(0, 0, trunc), (0, 0, 3 | trunc)]),
        ("sendto", [(3, pointer, 8, 0, 0)], [(3, pointer, 8, 0, pointer), (3, pointer, 8, 0, high_pointer)]),
    ]:
        assert [decide(machine, name, *arguments) for arguments in allowed] == [_confine.ALLOW] * len(allowed)
        assert [decide(machine, name, *arguments) for arguments in refused] == [REFUSED] * len(refused)


@linux_only
@pytest.mark.parametrize("machine", _confine.AUDIT_MACHINE)
def test_a_filter_that_was_made_before_holds_whoever_takes_it_on(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken_on: list[bytes] = []

    def kernel(what: str, number: int, mode: int, flags: int, header: bytes) -> None:
        instructions, address = struct.unpack("=H6xQ", header)
        taken_on.append(ctypes.string_at(address, 8 * instructions))

    monkeypatch.setattr(platform, "machine", lambda: machine)
    wall = Wall(())
    wall.close()
    monkeypatch.setattr(_confine, "_syscall", kernel)
    _confine._seccomp(wall.filter)
    mine = _confine._filter(machine, os.getpid())
    assert taken_on == [b"".join(struct.pack("=HBBI", *one) for one in mine)]


@pytest.mark.parametrize("machine", _confine.AUDIT_MACHINE)
def test_the_filter_knows_its_machine(machine: str) -> None:
    assert {decide(machine, name) for name in FORBIDDEN} == {REFUSED}
    assert decide(machine, "read") == _confine.ALLOW
    assert decide(machine, "clone3") == _confine.ERRNO | errno.ENOSYS
    assert decide(machine, "read", audit=OTHER[machine]) == _confine.KILL_PROCESS
    if machine == "x86_64":
        assert decide(machine, "read", bits=_confine.X32_BIT) == _confine.KILL_PROCESS
