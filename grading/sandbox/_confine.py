"""What a freshly forked process takes away from itself before it runs a line that a student wrote.

Each layer closes what the others leave open: a user of its own and namespaces (other processes, the network), limits
(memory, time, output), Landlock (files), seccomp (everything else that the kernel offers). Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import json
import os
import platform
import re
import select
import signal
import struct
import sys
import sysconfig
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import fcntl
    import resource

REQUIRED = ("no_new_privs", "rlimits", "landlock", "seccomp")
LAYERS = ("descriptors", "namespaces", "uid", "capabilities", "undumpable", *REQUIRED)

ON = "on"
NOBODY = 65534
MIB = 1 << 20
ORPHANED = 98
PROBE_SECONDS = 20.0

# <linux/prctl.h>
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_GET_NAME = 16
PR_SET_NO_NEW_PRIVS = 38

# <linux/sched.h>
CLONE_THREAD = 0x00010000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CLONE_ANY_NAMESPACE = 0x7E020000

# <linux/capability.h>
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_READ_SEARCH = 1 << 2

# <linux/landlock.h>; the call numbers are the same on every machine
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_ADD_RULE = 445
LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_GIVE_VERSION = 1
LANDLOCK_PATH_BENEATH = 1
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
# (first version that knows it, rights to take away): what reaches files, TCP ports, abstract sockets and signals
FILE_RIGHTS = ((1, (1 << 13) - 1), (2, 1 << 13), (3, 1 << 14), (5, 1 << 15))
PORT_RIGHTS = ((4, 0b11),)
SCOPES = ((6, 0b11),)

# <linux/seccomp.h>, <linux/filter.h>, <linux/audit.h>
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
LOAD, AND, JUMP_IF_EQUAL, JUMP_IF_AT_LEAST, JUMP_IF_ANY_BIT, RETURN = 0x20, 0x54, 0x15, 0x35, 0x45, 0x06
OFFSET_NUMBER, OFFSET_MACHINE, OFFSET_ARGUMENTS = 0, 4, 16
KILL_PROCESS, ERRNO, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
X32_BIT = 0x40000000
AUDIT_MACHINE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
O_TRUNC = 0x200
ACCESS_MODE = 0b11

# Calls that do no harm whatever their arguments, with their numbers on x86_64 and aarch64 (None: not there). None of
# them changes a file, makes a socket or a process, or can name another process.
HARMLESS: dict[str, tuple[int, int | None]] = {
    # descriptors that are open, and names; what can be opened is Landlock's part
    "read": (0, 63),
    "write": (1, 64),
    "readv": (19, 65),
    "writev": (20, 66),
    "pread64": (17, 67),
    "pwrite64": (18, 68),
    "lseek": (8, 62),
    "close": (3, 57),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "select": (23, None),
    "pselect6": (270, 72),
    "stat": (4, None),
    "lstat": (6, None),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "statx": (332, 291),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    # the socket to the judge: receiving, and closing one direction
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    # memory
    "brk": (12, 214),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mremap": (25, 216),
    "mprotect": (10, 226),
    "madvise": (28, 233),
    "mincore": (27, 232),
    # threads, and signals to oneself
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "membarrier": (324, 283),
    "sched_yield": (24, 124),
    "getcpu": (309, 168),
    "gettid": (186, 178),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "rt_sigtimedwait": (128, 137),
    "sigaltstack": (131, 132),
    "restart_syscall": (219, 128),
    "arch_prctl": (158, None),
    "exit": (60, 93),
    "exit_group": (231, 94),
    # clocks and timers
    "time": (201, None),
    "gettimeofday": (96, 169),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "alarm": (37, None),
    "getitimer": (36, 102),
    "setitimer": (38, 103),
    "times": (100, 153),
    # asking who and where one is
    "getpid": (39, 172),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "sysinfo": (99, 179),
    "uname": (63, 160),
    "getrandom": (318, 278),
}
# Calls whose arguments decide.
GUARDED: dict[str, tuple[int, int | None]] = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "kill": (62, 129),
    "tgkill": (234, 131),
    "sched_getaffinity": (204, 123),
    "get_robust_list": (274, 100),
    "prlimit64": (302, 261),
    "prctl": (157, 167),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "open": (2, None),
    "openat": (257, 56),
    "sendto": (44, 206),
}
SECCOMP = {"x86_64": 317, "aarch64": 277}
CAPSET = {"x86_64": 126, "aarch64": 91}

# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC. Not F_SETOWN: it makes the kernel send signals for us.
FCNTL_ASKED = (0, 1, 2, 3, 4, 1030)
# TCGETS (isatty), TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX. Not TIOCSTI: it types into the teacher's terminal.
IOCTL_ASKED = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)

Instruction = tuple[int, int, int, int]
# a confined process is given its other descriptors by number, below this one
OUT_OF_THE_WAY = 100
# stands in a filter for the process that it will hold; no process has this number, and no instruction these four bytes
ANY_PID = 0x7E57_AB1E


@dataclass(frozen=True)
class Limits:
    """What one confined process may use. `threads` counts the first one too, and holds where the process has a user or
    a user namespace of its own; elsewhere memory bounds the threads, by their stacks."""

    memory_mb: int = 3072
    """Address space, in MiB, beyond what is mapped when the process is confined: torch's libraries are not counted, of
    which a build for CUDA maps several GiB."""
    data_mb: int = 2048
    """Heap and private writable mappings, in MiB, likewise beyond what is there already."""
    cpu_seconds: int = 120
    """Processor time of all threads together, in seconds; SIGXCPU at the limit, SIGKILL one second later."""
    threads: int = 64
    """Threads alive at a time."""
    output_mb: int = 1
    """Size in MiB up to which a file can be written. A pipe is not bounded by it: its reader counts."""
    open_files: int = 64
    """Descriptors open at a time."""


def platform_problem() -> str:
    """Why this machine cannot confine a process, in one sentence; empty on Linux on a machine whose calls are known."""
    if sys.platform == "linux" and platform.machine() in AUDIT_MACHINE:
        return ""
    return (
        f"grading behind the wall needs a Linux machine or container with an {' or '.join(AUDIT_MACHINE)} processor, "
        f"and this is {platform.system() or sys.platform} on {platform.machine() or 'an unknown processor'}"
    )


def missing(layers: Mapping[str, str]) -> list[str]:
    """The required layers that are not on. Whoever calls `confine` ends the process if there is one."""
    return [layer for layer in REQUIRED if layers.get(layer) != ON]


def explain(missing: Iterable[str]) -> str:
    """What to install, switch on or use instead: one sentence for each missing layer."""
    problem = platform_problem()
    if problem:
        return f"{problem[0].upper()}{problem[1:]}."
    advice = {
        "no_new_privs": "no_new_privs could not be set: use Linux 3.5 or later, outside of an emulator.",
        "rlimits": "The resource limits could not be set: allow prlimit64 in the container's seccomp profile.",
        "landlock": (
            "Landlock is missing: use Linux 5.13 or later, built with CONFIG_SECURITY_LANDLOCK, with landlock in the "
            "boot option lsm= (/sys/kernel/security/lsm lists what is on), and in a container a runtime whose seccomp "
            "profile knows the Landlock calls (Docker 20.10.10 or later)."
        ),
        "seccomp": (
            "seccomp filters are missing: use a kernel built with CONFIG_SECCOMP_FILTER, and in a container a runtime "
            "that lets a process add filters (gVisor and some emulators do not)."
        ),
    }
    return " ".join(advice.get(layer, f"The layer {layer} is missing.") for layer in missing)


def readable_paths() -> list[str]:
    """The files and folders that Python and torch load from while they run, and no folder of a course."""
    # a virtual environment often lies in the course's own folder: its site-packages are granted, never its root
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    scheme = sysconfig.get_paths()
    wanted = [
        *(scheme[name] for name in ("stdlib", "purelib", "platlib")),
        sysconfig.get_path("platstdlib", vars={"platbase": sys.base_exec_prefix}),
        *packages,
        f"{sys.base_prefix}/lib",
        "/usr/lib",
        "/lib",
        "/lib64",
        "/etc/ld.so.cache",
        "/usr/share/zoneinfo",
        "/dev/null",
        "/dev/urandom",
        "/proc/cpuinfo",
        "/proc/meminfo",
    ]
    return list(dict.fromkeys(os.path.realpath(path) for path in wanted if os.path.exists(path)))


class Wall:
    """What is the same for all processes that are confined: rules for files and a filter for calls, both made once.

    `readable` are absolute paths (a folder with all in it, but never this package or the course around it); what is not
    there yet can be read by none of them. Where Landlock is missing, `problem` says why.
    """

    def __init__(self, readable: Iterable[str]) -> None:
        self.paths = list(readable)
        self.rules: int | None = None
        self.filter = b""
        self.problem = platform_problem()
        if self.problem:
            return
        self.filter = b"".join(struct.pack("=HBBI", *one) for one in _filter(platform.machine(), ANY_PID))
        try:
            rules = _ruleset(self.paths)
        except OSError as problem:
            self.problem = str(problem)
        else:
            self.rules = fcntl.fcntl(rules, fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)
            os.close(rules)

    def restrict(self) -> None:
        """Holds the calling process to the rules for good, and closes its copy of them."""
        if self.rules is None:
            raise OSError(self.problem)
        try:
            _syscall("landlock", LANDLOCK_RESTRICT_SELF, self.rules, 0)
        finally:
            self.close()

    def close(self) -> None:
        """Closes this process's copy of the rules."""
        if self.rules is not None:
            os.close(self.rules)
            self.rules = None


def confine(
    keep: Collection[int], wall: Wall, limits: Limits, *, parent: int, uid: int | None = None
) -> dict[str, str]:
    """Confines the calling process for good; it must be freshly forked and have one thread.

    `keep` are the descriptors that stay open, `wall` what all of them share, `parent` the process whose end
    ends this one, `uid` a user that nothing else runs as, taken where the process is root's. The result says of each
    layer "on" or "unavailable: " and the reason; no layer raises, so the caller asks `missing` and goes no further if
    it names one.
    """
    problem = platform_problem()
    if problem:
        return dict.fromkeys(LAYERS, f"unavailable: {problem}")
    layers: dict[str, str] = {}

    def layer(name: str, step: Callable[[], None]) -> bool:
        try:
            step()
        except (OSError, ValueError, MemoryError) as problem:
            layers[name] = f"unavailable: {problem}"
        else:
            layers[name] = ON
        return layers[name] == ON

    end_with(parent)
    with contextlib.suppress(PermissionError):  # it leads a session already
        os.setsid()
    rules = () if wall.rules is None else (wall.rules,)
    layer("descriptors", lambda: _close_all_but({*keep, *rules}))
    os.chdir("/")
    os.environ.clear()

    if uid is not None and os.geteuid() == 0:
        layer("namespaces", lambda: _unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS))
        own_count = layer("uid", lambda: _become(uid))
        # an interpreter below /root is closed to every other user; Landlock keeps this capability to the paths granted
        capability = CAP_DAC_READ_SEARCH if own_count and any(map(_is_closed, wall.paths)) else 0
    else:
        reason = "none was asked for" if uid is None else "only root can give a process a user of its own"
        layers["uid"] = f"unavailable: {reason}"
        # before Linux 5.14 threads are counted per user over the whole machine, and a limit would hit the innocent
        own_count = layer("namespaces", _enter_user_namespace) and _kernel() >= (5, 14)
        capability = 0
    layer("capabilities", lambda: _keep_capabilities(capability))
    # changing the user makes the kernel forget what ends with what
    end_with(parent)

    layer("no_new_privs", lambda: _prctl(PR_SET_NO_NEW_PRIVS, 1))
    layer("undumpable", lambda: _prctl(PR_SET_DUMPABLE, 0))
    layer("rlimits", lambda: _limit(limits, count_threads=own_count))
    layer("landlock", wall.restrict)
    layer("seccomp", lambda: _seccomp(wall.filter))
    return layers


def probe() -> dict[str, str]:
    """The layers that this machine offers, as a child that confines itself finds them."""
    problem = platform_problem()
    if problem:
        return dict.fromkeys(LAYERS, f"unavailable: {problem}")
    wall, parent = Wall(readable_paths()), os.getpid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            layers = confine({writing}, wall, Limits(), parent=parent, uid=NOBODY)
            os.write(writing, json.dumps(layers).encode())
        finally:
            os._exit(0)
    wall.close()
    os.close(writing)
    answer = _read_all(reading, PROBE_SECONDS)
    os.close(reading)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    try:
        return dict(json.loads(answer))
    except ValueError:
        return dict.fromkeys(LAYERS, "unavailable: the process that tried it did not answer")


def _read_all(descriptor: int, seconds: float) -> bytes:
    deadline, pieces = time.monotonic() + seconds, []
    while select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
        piece = os.read(descriptor, 65536)
        if not piece:
            break
        pieces.append(piece)
    return b"".join(pieces)


# -- asking the kernel


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(what: str, number: int, *arguments: int | bytes | None) -> int:
    # without a prototype ctypes would pass an int as 32 bits
    converted = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    return _checked(_libc().syscall(ctypes.c_long(number), *converted), what)


def _prctl(option: int, argument: int) -> None:
    _checked(_libc().prctl(ctypes.c_int(option), *map(ctypes.c_ulong, (argument, 0, 0, 0))), f"prctl {option}")


def _kernel() -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", os.uname().release)[:2]))


# -- the process


def end_with(parent: int) -> None:
    """Has the kernel kill this process when the thread that forked it ends, and ends it at once if that is past."""
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except OSError:
        os._exit(ORPHANED)
    if os.getppid() != parent:
        os._exit(ORPHANED)


def _close_all_but(keep: Collection[int]) -> None:
    lowest = 0
    for descriptor in [*sorted(set(keep)), 1 << 20]:
        # an empty range would close all descriptors from `lowest` on
        if lowest < descriptor:
            os.closerange(lowest, descriptor)
        lowest = descriptor + 1


def _unshare(namespaces: int) -> None:
    _checked(_libc().unshare(ctypes.c_int(namespaces)), "unshare")


def _become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    # kept until _keep_capabilities says which
    _prctl(PR_SET_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    _prctl(PR_SET_KEEPCAPS, 0)


def _is_closed(path: str) -> bool:
    """Whether this user may not pass one of the folders on the way to the path."""
    try:
        os.stat(path)
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def _enter_user_namespace() -> None:
    # the maps of a process that cannot be dumped belong to root
    _prctl(PR_SET_DUMPABLE, 1)
    maps = {"setgroups": "deny", "uid_map": f"{NOBODY} {os.geteuid()} 1", "gid_map": f"{NOBODY} {os.getegid()} 1"}
    _unshare(CLONE_NEWUSER)
    for name, text in maps.items():
        Path("/proc/self", name).write_text(text)
    _unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS)


def _keep_capabilities(kept: int) -> None:
    """Gives up all capabilities but those in the bit set `kept` (of the first 32)."""
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = struct.pack("=6I", kept, kept, 0, 0, 0, 0)
    _syscall("capset", CAPSET[platform.machine()], header, effective_permitted_inheritable)


def _limit(limits: Limits, *, count_threads: bool) -> None:
    mapped, data = _in_use()
    wanted = {
        resource.RLIMIT_AS: mapped + limits.memory_mb * MIB,
        resource.RLIMIT_DATA: data + limits.data_mb * MIB,
        resource.RLIMIT_FSIZE: limits.output_mb * MIB,
        resource.RLIMIT_NOFILE: limits.open_files,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if count_threads:
        wanted[resource.RLIMIT_NPROC] = limits.threads
    for kind, value in wanted.items():
        value = _within(value, resource.getrlimit(kind)[1])
        resource.setrlimit(kind, (value, value))
    # one second between the signal that can be caught and the one that cannot
    hard = _within(limits.cpu_seconds + 1, resource.getrlimit(resource.RLIMIT_CPU)[1])
    resource.setrlimit(resource.RLIMIT_CPU, (min(limits.cpu_seconds, hard), hard))


def _in_use() -> tuple[int, int]:
    """The bytes of address space and of private writable memory that this process has mapped."""
    pages = Path("/proc/self/statm").read_text().split()
    return int(pages[0]) * resource.getpagesize(), int(pages[5]) * resource.getpagesize()


def _within(value: int, hard: int) -> int:
    """The value, or the hard limit that was inherited where that is lower (-1: there is none)."""
    return value if hard < 0 else min(value, hard)


# -- files


def _ruleset(readable: Iterable[str]) -> int:
    """The descriptor of rules under which nothing but these paths can be read, and nothing written."""
    version = _syscall("landlock", LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_GIVE_VERSION)
    files, ports, scopes = (
        sum(bits for first, bits in table if version >= first) for table in (FILE_RIGHTS, PORT_RIGHTS, SCOPES)
    )
    attributes = struct.pack("=QQQ", files, ports, scopes)
    ruleset = _syscall("landlock ruleset", LANDLOCK_CREATE_RULESET, attributes, len(attributes), 0)
    try:
        for path, rights in _grants(readable):
            _add_rule(ruleset, path, rights)
    except BaseException:
        os.close(ruleset)
        raise
    return ruleset


def _add_rule(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return  # what is not there, or closed to this user, needs no rule
    try:
        if not path.is_dir():
            rights &= READ_FILE | WRITE_FILE
        rule = struct.pack("=Qi", rights, descriptor)
        _syscall(f"landlock rule for {path}", LANDLOCK_ADD_RULE, ruleset, LANDLOCK_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _grants(readable: Iterable[str]) -> Iterator[tuple[Path, int]]:
    """Paths and what can be done with them. A rule holds for all that is below, and none can take away again: a folder
    that holds our own, as site-packages does where goodinit is installed, is granted piece by piece."""
    own = _own_folder()
    waiting = [Path(os.path.realpath(path)) for path in readable]
    while waiting:
        path = waiting.pop()
        if path == Path("/dev/null"):
            # to throw output away is common, and writes nothing
            yield path, READ_FILE | WRITE_FILE
        elif not own.is_relative_to(path):
            yield path, READ_FILE | READ_DIR
        elif path != own:
            # without the list of names nothing can be imported from here
            yield path, READ_DIR
            waiting.extend(child for child in path.iterdir() if not child.is_symlink())


def _own_folder() -> Path:
    """The course around this package, or the package where it is installed without one."""
    package = Path(__file__).resolve().parents[1]
    return package.parent if (package.parent / "course.toml").is_file() else package


# -- system calls


def _seccomp(program: bytes) -> None:
    # the process did not exist when the filter was made
    mine = ctypes.create_string_buffer(program.replace(struct.pack("=I", ANY_PID), struct.pack("=I", os.getpid())))
    header = struct.pack("=H6xQ", len(program) // struct.calcsize("=HBBI"), ctypes.addressof(mine))
    _syscall("seccomp", SECCOMP[platform.machine()], SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, header)


def _filter(machine: str, pid: int) -> list[Instruction]:
    """The program that the kernel runs on every system call of the process `pid`. What it does not allow fails with
    EPERM: a student's program then sees an OSError, where a signal would leave it without a message."""
    column = list(AUDIT_MACHINE).index(machine)
    bodies: dict[str, list[Instruction]] = {
        **{name: [_return(ALLOW)] for name in HARMLESS},
        "clone": _thread_only(),
        # its arguments lie in memory, where a filter cannot look; libc then falls back to clone
        "clone3": [_return(ERRNO | errno.ENOSYS)],
        "kill": _one_of(0, [pid]),
        "tgkill": _one_of(0, [pid]),
        # of others they would tell that they are there
        "sched_getaffinity": _one_of(0, [0, pid]),
        "get_robust_list": _one_of(0, [0]),
        "prlimit64": _own_limits_only_read(),
        "prctl": _one_of(0, [PR_SET_NAME, PR_GET_NAME]),
        "fcntl": _one_of(1, FCNTL_ASKED),
        "ioctl": _one_of(1, IOCTL_ASKED),
        "open": _truncates_only_what_it_writes(1),
        "openat": _truncates_only_what_it_writes(2),
        # to the other end of the socket only
        "sendto": _null(4),
    }
    program = [_load(OFFSET_MACHINE), (JUMP_IF_EQUAL, 1, 0, AUDIT_MACHINE[machine]), _return(KILL_PROCESS)]
    program.append(_load(OFFSET_NUMBER))
    if machine == "x86_64":
        program += [(JUMP_IF_AT_LEAST, 0, 1, X32_BIT), _return(KILL_PROCESS)]
    for name, body in bodies.items():
        number = {**HARMLESS, **GUARDED}[name][column]
        if number is not None:
            program += [(JUMP_IF_EQUAL, 0, len(body), number), *body]
    return [*program, _refuse()]


def _load(offset: int) -> Instruction:
    return LOAD, 0, 0, offset


def _return(action: int) -> Instruction:
    return RETURN, 0, 0, action


def _refuse() -> Instruction:
    return _return(ERRNO | errno.EPERM)


def _low(argument: int) -> Instruction:
    return _load(OFFSET_ARGUMENTS + 8 * argument)


def _high(argument: int) -> Instruction:
    return _load(OFFSET_ARGUMENTS + 8 * argument + 4)


# Every body below ends in a return on every path; a jump counts the instructions that it skips.


def _one_of(argument: int, values: Collection[int]) -> list[Instruction]:
    tests = [(JUMP_IF_EQUAL, len(values) - index, 0, value) for index, value in enumerate(values)]
    return [_low(argument), *tests, _refuse(), _return(ALLOW)]


def _null(argument: int) -> list[Instruction]:
    return [
        _low(argument),
        (JUMP_IF_EQUAL, 0, 3, 0),
        _high(argument),
        (JUMP_IF_EQUAL, 0, 1, 0),
        _return(ALLOW),
        _refuse(),
    ]


def _own_limits_only_read() -> list[Instruction]:
    return [_low(0), (JUMP_IF_EQUAL, 1, 0, 0), _refuse(), *_null(2)]


def _thread_only() -> list[Instruction]:
    return [
        _low(0),
        (JUMP_IF_ANY_BIT, 2, 0, CLONE_ANY_NAMESPACE),
        (JUMP_IF_ANY_BIT, 0, 1, CLONE_THREAD),
        _return(ALLOW),
        _refuse(),
    ]


def _truncates_only_what_it_writes(flags: int) -> list[Instruction]:
    # before its third version Landlock does not see a file emptied by opening it for anything but writing
    return [
        _low(flags),
        (AND, 0, 0, O_TRUNC | ACCESS_MODE),
        (JUMP_IF_EQUAL, 2, 0, O_TRUNC),
        (JUMP_IF_EQUAL, 1, 0, O_TRUNC | ACCESS_MODE),
        _return(ALLOW),
        _refuse(),
    ]
