"""`python -m grading.bench` measures and prints; there is no verdict in it, for machines differ."""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from grading.course import find_root
from grading.sandbox import SandboxError

from ._class import class_lines
from ._nbgrader import nbgrader_lines, scale_lines
from ._suites import Row, suite_rows
from ._wall import wall_rows
from ._whole import whole_lines

RUNS, SUBMISSIONS, SIZES, STUDENTS = 5, 300, (100, 300, 1000), 30
PARTS = ("suites", "wall", "class", "nbgrader", "scale", "whole")
COLUMNS = ("what", "median", "least", "most", "compared to")


def main() -> int:
    """Measures, prints, and returns 0."""
    parser = argparse.ArgumentParser(prog="python -m grading.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="repetitions; the median of them is printed")
    parser.add_argument("--submissions", type=int, default=SUBMISSIONS, help="how large a class is graded")
    parser.add_argument("--only", choices=PARTS, action="append", help="a part of it")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="of the classes that nbgrader has")
    parser.add_argument("--students", type=int, default=STUDENTS, help="who go through the whole course")
    args = parser.parse_args()
    root, parts = find_root(Path.cwd()), args.only or PARTS
    console = Console(file=sys.stdout, width=130)
    if "suites" in parts:
        console.print(_table(f"medians of {args.runs} runs, seconds", suite_rows(root, args.runs)))
    try:
        if "wall" in parts:
            console.print(_table(f"behind the wall, medians of {args.runs} runs", wall_rows(root, args.runs)))
        lines = {
            "class": lambda: class_lines(root, args.submissions),
            "nbgrader": lambda: nbgrader_lines(root),
            "scale": lambda: scale_lines(root, args.sizes),
            "whole": lambda: whole_lines(root, args.students),
        }
        for part in parts:
            for line in lines[part]() if part in lines else ():
                console.print(line, highlight=False)
    except SandboxError as error:
        print(f"the wall was not measured: {error}")
    return 0


def _table(title: str, rows: list[Row]) -> Table:
    table = Table(title=title, box=None, pad_edge=False)
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in (COLUMNS[0], COLUMNS[-1]) else "right")
    for what, seconds, other in rows:
        table.add_row(what, *(f"{f(seconds):.4f}" for f in (statistics.median, min, max)), other)
    return table


if __name__ == "__main__":
    sys.exit(main())
