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
from ._suites import Row, suite_rows
from ._wall import wall_rows

RUNS, SUBMISSIONS = 5, 300
COLUMNS = ("what", "median", "least", "most", "compared to")


def main() -> int:
    """Measures, prints, and returns 0."""
    parser = argparse.ArgumentParser(prog="python -m grading.bench", description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS, help="repetitions; the median of them is printed")
    parser.add_argument("--submissions", type=int, default=SUBMISSIONS, help="how large a class is graded")
    parser.add_argument("--only", choices=("suites", "wall", "class"), action="append", help="a part of it")
    args = parser.parse_args()
    root, parts = find_root(Path.cwd()), args.only or ("suites", "wall", "class")
    console = Console(file=sys.stdout, width=130)
    if "suites" in parts:
        console.print(_table(f"medians of {args.runs} runs, seconds", suite_rows(root, args.runs)))
    try:
        if "wall" in parts:
            console.print(_table(f"behind the wall, medians of {args.runs} runs", wall_rows(root, args.runs)))
        if "class" in parts:
            for line in class_lines(root, args.submissions):
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
