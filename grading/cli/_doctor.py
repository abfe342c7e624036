"""`goodinit doctor`: what this machine can do, and what to install for the rest."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from importlib import metadata

from rich.console import Console
from rich.table import Table

from grading.course import Course
from grading.data import DataError, find_source
from grading.sandbox import explain, missing, outer_wall, probe

PACKAGES = ("torch", "pytest", "hypothesis", "datasets", "matplotlib", "jupytext", "nbgrader", "pytest-xdist")


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
    return "cpu (no GPU found; the capstone takes about a minute on two cores)"


def _dataset() -> str:
    try:
        return find_source(None).label
    except DataError as error:
        return str(error)


def _sandbox() -> list[tuple[str, str]]:
    """Whether submissions can be graded behind the wall here, and by which layers."""
    layers = probe()
    lacking = missing(layers)
    can = f"no: {explain(lacking)}" if lacking else "yes"
    return [
        ("behind the wall", f"{can}; self-check works without, and is no security boundary"),
        *((f"  {name}", state) for name, state in layers.items()),
        ("  bubblewrap", "on" if outer_wall() else "unavailable: not installed, or it cannot run here (a bonus)"),
    ]
