"""`goodinit doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import argparse
import ctypes
import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

from grading.course import Course
from grading.data import DataError, find_source

PACKAGES = ("torch", "pytest", "hypothesis", "datasets", "matplotlib", "jupytext", "nbgrader", "pytest-xdist")
LANDLOCK_CREATE_RULESET = 444
LANDLOCK_VERSION_FLAG = 1


def doctor(course: Course, args: argparse.Namespace) -> int:
    """Prints one row per capability; returns 0, for a missing one is no failure."""
    console = Console(file=sys.stdout)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, finding in [
        ("course", f"{course.title}: {len(course.units)} units, {len(course.exercises)} exercises, in {course.root}"),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        *((package, _version(package)) for package in PACKAGES),
        ("device", _device()),
        ("dataset", _dataset()),
        *_sandbox(),
    ]:
        table.add_row(name, finding)
    console.print(table, highlight=False, markup=False)
    return 0


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        extra = "instructor" if package == "nbgrader" else "dev"
        return f"not installed (pip install -e '.[{extra}]')"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"cuda: {torch.cuda.get_device_name()}"
    if torch.backends.mps.is_available():
        return "mps: Apple GPU"
    return "cpu (no GPU found; the capstone takes well under a minute on two cores)"


def _dataset() -> str:
    try:
        return find_source(None).label
    except DataError as error:
        return str(error)


def _sandbox() -> list[tuple[str, str]]:
    """The kernel's layers that confine a submission."""
    if sys.platform != "linux":
        return [("sandbox", "needs Linux; self-check works here, and is no security boundary")]
    landlock = ctypes.CDLL(None, use_errno=True).syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION_FLAG)
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    spaces = Path("/proc/sys/user/max_user_namespaces")
    many = int(spaces.read_text()) if spaces.is_file() else 0
    bubblewrap = shutil.which("bwrap")
    return [
        ("landlock", f"version {landlock}" if landlock > 0 else "not in this kernel (Linux 5.13 or later has it)"),
        ("seccomp", "available" if "Seccomp:" in status else "not in this kernel"),
        ("user namespaces", "available" if many else "switched off (a bonus, not needed)"),
        ("bubblewrap", bubblewrap or "not installed (a bonus, not needed)"),
    ]
