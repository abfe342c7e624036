"""`python -m grading.bench._cost COMMAND ...` runs a command, and prints what it and all below it have cost as JSON.

This process adopts whatever the command leaves behind, so that each process below it is waited for by the one above it
or by this one: getrusage then counts the CPU seconds of all, also of kernels and workers that were killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Cost:
    """CPU seconds of user and system together, wall seconds, how the command ended and the end of what it said."""

    cpu: float
    wall: float
    status: int
    said: str


def cost_of(command: list[str], cwd: Path) -> Cost:
    """Runs a command in a folder."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, *command], cwd=cwd, capture_output=True, text=True, check=False
    )
    return Cost(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    start = time.perf_counter()
    done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    wall = time.perf_counter() - start
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    said = done.stdout.strip()[-1000:]
    cost = {"cpu": used.ru_utime + used.ru_stime, "wall": wall, "status": done.returncode, "said": said}
    print(json.dumps(cost))


if __name__ == "__main__":
    main()
