"""A class of mixed submissions through `goodinit grade`: how many a minute, in how much memory, and is one lost?"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory

from grading.bugs import load_bugs
from grading.course import Course, load

from ._notebooks import GOODINIT

UNIT, JOBS = "u7_normalization", 2
# loops shall cost seconds here, not the half minute that a student is given
LIMITS = "check_seconds = {0}\nimport_seconds = {0}\nslow_check_seconds = 60\n"
KINDS = ("right",) * 20 + ("wrong",) * 20 + ("empty",) * 4 + ("crashing",) * 3 + ("looping",) + ("hostile",) * 2

CRASHING = "raise RuntimeError('at import')\n"
LOOPING = """
from torch import nn

class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()

    def forward(self, x):
        while True:
            pass
"""
HOSTILE = """
import os, socket, sys
from torch import nn

def lerp(start, end, weight):
    os.write(3, b"\\xff" * 64)
    return start

class LayerNorm(nn.Module):
    def __init__(self, n_filters=None, eps=1e-5):
        super().__init__()

    def forward(self, x):
        for attempt in (os.fork, lambda: open("/etc/passwd", "a"), lambda: os.kill(os.getppid(), 9)):
            try:
                attempt()
            except OSError:
                pass
        os._exit(0)
"""


def class_lines(root: Path, many: int) -> Iterator[str]:
    """Grades `many` generated submissions of one unit with two workers, then again with a kill -9 in the middle.

    Yields the findings as sentences.
    """
    with TemporaryDirectory() as folder:
        home, handed_in = Path(folder, "course"), Path(folder, "handed_in")
        short_course(root, home)
        kinds = _hand_in(load(root), handed_in, many)
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        seconds, peak, problem = _graded(home, handed_in, whole)
        counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(KINDS))
        yield f"{many} submissions of {UNIT} ({counted}), {JOBS} workers: {60 * many / seconds:.1f} a minute"
        records = _records(whole)
        yield f"peak memory of the whole tree: {peak / 2**20:.0f} MB; records: {len(records)} of {many}"
        _graded(home, handed_in, killed, until=many // 2)
        kept = _records(killed)
        _, _, problem_then = _graded(home, handed_in, killed)
        resumed = _records(killed)
        differing = [name for name, record in records.items() if resumed.get(name) != record]
        yield (
            f"ended with kill -9 when there were {len(kept)} records, and started again: "
            f"{len(records) - len(differing)} of {many} records are byte for byte those of the undisturbed run"
        )
        for name in differing:
            yield f"{name}: {_difference(records[name], resumed.get(name, b''))}"
        yield from filter(None, (problem, problem_then))


def _graded(home: Path, handed_in: Path, out: Path, until: int | None = None) -> tuple[float, int, str]:
    """Seconds and peak memory of `goodinit grade`, and what it said if it failed; killed at `until` records."""
    command = [*GOODINIT, "grade", str(handed_in), "--out", str(out)]
    command += ["--jobs", str(JOBS), "--unit", UNIT, "--fast", "--seed", "1"]
    start, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        peak = max(peak, memory(process.pid))
        if until is not None and len(_records(out)) >= until:
            process.kill()
        time.sleep(0.5)
    seconds = time.perf_counter() - start
    words = process.stderr.read().decode() if process.stderr else ""
    failed = until is None and process.returncode not in (0, 1)
    return seconds, peak, f"grading ended with status {process.returncode}: {words.strip()[-300:]}" if failed else ""


def _records(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "records").glob("*.json")}


def _difference(one: bytes, other: bytes) -> str:
    """The first line of two records that is not the same."""
    pairs = zip_longest(one.decode().splitlines(), other.decode().splitlines(), fillvalue="")
    return next((f"{first.strip()[:300]} / {second.strip()[:300]}" for first, second in pairs if first != second), "")


def short_course(root: Path, home: Path, seconds: int = 2) -> None:
    """A copy of the course in which a check and an import are given so many seconds."""
    for name in ("solutions", "tests", "exercises"):
        shutil.copytree(root / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    text = (root / "course.toml").read_text(encoding="utf-8")
    before, _, after = text.partition("[limits]\n")
    rest = after[after.index("\n[[unit]]") :]
    (home / "course.toml").write_text(f"{before}[limits]\n{LIMITS.format(seconds)}{rest}", encoding="utf-8")


def _hand_in(course: Course, folder: Path, many: int) -> list[str]:
    """Writes one folder per student, and says what each holds."""
    right = course.solution_file(course.by_unit[UNIT]).read_text(encoding="utf-8")
    stub = course.exercise_file(course.by_unit[UNIT]).read_text(encoding="utf-8")
    bugs = [bug for exercise in course.by_unit[UNIT].exercises for bug in load_bugs(course)[exercise.id]]
    kinds = [KINDS[number * 7 % len(KINDS)] for number in range(many)]
    for number, kind in enumerate(kinds):
        bug = bugs[number % len(bugs)]
        texts = {
            "right": right,
            "wrong": right.replace(bug.find, bug.put, 1),
            "empty": stub,
            "crashing": CRASHING,
            "looping": LOOPING,
            "hostile": HOSTILE,
        }
        path = folder / f"student{number:03}"
        path.mkdir(parents=True)
        (path / f"{UNIT}.py").write_text(texts[kind], encoding="utf-8")
    return kinds


def memory(pid: int) -> int:
    """Bytes that a process and all below it hold, what they share counted once."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(path.parent.name))
        except (OSError, ValueError):
            continue
    total, todo = 0, [pid]
    while todo:
        process = todo.pop()
        todo += children.get(process, [])
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total
