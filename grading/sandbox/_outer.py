"""bubblewrap around the template process, where it is installed: a wall that others keep, outside our own.

It adds to the confinement of each worker and replaces none of it; where it is missing or cannot run, all stays as is.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# what the template imports of this package; suites, solutions and the bug bank are not among it
ROOMS = ("__init__.py", "course", "ipynb.py", "sandbox", "startup.py", "subject")
TRIAL_SECONDS = 20.0


@cache
def outer_wall() -> tuple[str, ...]:
    """The command to put before the template's own; empty without a bubblewrap that works here."""
    program = shutil.which("bwrap")
    if program is None:
        return ()
    root = PACKAGE.parent
    command = [program, "--die-with-parent", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    if os.geteuid() == 0:
        # each worker gets a user of its own
        command += ["--cap-add", "ALL"]
    command += ["--ro-bind", "/", "/", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", str(root)]
    for path in (Path(sys.prefix), Path(sys.base_prefix), *(PACKAGE / room for room in ROOMS)):
        if path.is_relative_to(root) or path.is_relative_to("/tmp"):
            command += ["--ro-bind", str(path), str(path)]
    command.append("--")
    trial = [*command, sys.executable, "-P", "-c", "import grading.sandbox._template"]
    try:
        works = subprocess.run(trial, capture_output=True, timeout=TRIAL_SECONDS, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(command) if works else ()
