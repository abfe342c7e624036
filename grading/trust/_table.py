"""`make trust`: all proofs, and the tables that they are published in."""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from grading.bugs import load_bugs, load_variants
from grading.course import Course, find_root, load
from grading.judge import checks_of, fresh_seed, load_suite
from grading.subject import Sources, read_sources

from ._equivalent import EQUIVALENT, UNSEEN
from ._jobs import Finding, Job, Pool
from ._liveness import argument_names
from ._mutants import mutants
from ._statistics import Sampled

# times 25 inputs of each check are 200 draws
VARIANT_SEEDS = 8
REWRITTEN_SAMPLE = 64
RUNS_AT_ONCE = 50
CHANCE_SEEDS = 6
DIAGNOSES = ("right", "wrong", "silent")
REWRITTEN = Path(__file__).parent.parent / "tests" / "rewritten"


def trust(argv: list[str] | None = None) -> int:
    """Runs the proofs and prints the tables; returns 0 when every one of them holds."""
    parser = argparse.ArgumentParser(prog="python -m grading.trust", description=trust.__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--quick", action="store_true", help="each bug once, by one check, and some rewritten bugs")
    what.add_argument(
        "--parity", action="store_true", help="only that verdicts and names behind the wall are those of this process"
    )
    what.add_argument(
        "--statistics", action="store_true", help="only the checks that judge random draws, 10,000 draws each"
    )
    what.add_argument("--chance", action="store_true", help="only how often a check misses a bug for want of luck")
    parser.add_argument("--only", metavar="EXERCISE", action="append", help="prove this exercise alone")
    parser.add_argument("--seed", type=int, default=None, help="draw the same numbers as an earlier run")
    parser.add_argument("--json", metavar="FILE", help="write every finding there, one JSON object per line")
    parser.add_argument("--report", metavar="FILE", help="write the tables there, in Markdown")
    args = parser.parse_args(argv)
    course = load(find_root(Path.cwd()))
    unknown = [name for name in args.only or [] if name not in course.exercises]
    if unknown:
        parser.error(f"there is no exercise {unknown[0]!r}")
    seed = fresh_seed() if args.seed is None else args.seed
    print(f"seed {seed}", flush=True)
    reference, tables = read_sources(course, course.root / "solutions"), []
    with Pool(course.root) as pool:
        proofs = Proofs(course, reference, args.only or list(course.exercises), seed, pool)
        if args.parity:
            proofs.compare()
        elif args.chance:
            proofs.weigh()
        elif args.statistics:
            proofs.sample(10_000, power_seeds=20)
            tables.append(proofs.statistics_table())
        else:
            proofs.prove(quick=args.quick)
            tables.append(proofs.table())
            if not args.quick:
                proofs.sample(500, power_seeds=10)
                tables += [proofs.statistics_table(), proofs.arguments_table()]
    for table in tables:
        Console(file=sys.stdout).print(table.for_terminal())
    findings = proofs.findings
    if args.json:
        records = "".join(json.dumps(_record(finding)) + "\n" for finding in findings)
        Path(args.json).write_text(records, encoding="utf-8")
    if args.report:
        text = "\n\n".join(table.as_markdown() for table in tables)
        Path(args.report).write_text(f"Made by `make trust`, seed {seed}.\n\n{text}\n", encoding="utf-8")
    bad = [finding for finding in findings if not finding.good]
    for finding in bad:
        print(f"{finding.job.kind} of {finding.job.exercise}: {_name(finding.job)}: {finding.note}")
    print(f"{len(findings) - len(bad)} of {len(findings)} proofs hold")
    return 1 if bad else 0


@dataclass(frozen=True)
class Rows:
    """One table to publish: a title, the columns, and the text of its cells."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def for_terminal(self) -> Table:
        table = Table(title=self.title, box=None, pad_edge=False)
        for index, column in enumerate(self.columns):
            table.add_column(column, justify="right" if index else "left")
        for row in self.rows:
            table.add_row(*row)
        return table

    def as_markdown(self) -> str:
        ruler = ["---", *["--:"] * (len(self.columns) - 1)]
        lines = [" | ".join(cells) for cells in (self.columns, ruler, *self.rows)]
        return f"## {self.title}\n\n" + "\n".join(f"| {line} |" for line in lines)


class Proofs:
    """The findings about some exercises, and the tables that they are published in."""

    def __init__(self, course: Course, reference: Sources, names: list[str], seed: int, pool: Pool) -> None:
        self.course, self.reference, self.names, self.seed, self.pool = course, reference, names, seed, pool
        self.bugs = load_bugs(course)
        self.findings: list[Finding] = []

    def prove(self, *, quick: bool) -> None:
        """Bugs, each once, and some rewritten ones; unless `quick`, all of it: variants, arguments and mutants too."""
        variants = [variant for variant in load_variants(self.course) if variant.exercise in self.names]
        rewritten = [answer for answer in load_variants(self.course, REWRITTEN) if answer.exercise in self.names]
        if quick:
            # others each time, of every exercise one at least
            random.Random(self.seed).shuffle(rewritten)
            first = {answer.exercise: answer for answer in reversed(rewritten)}
            rewritten.sort(key=lambda answer: answer is not first[answer.exercise])
            del rewritten[REWRITTEN_SAMPLE:]
        jobs = [
            Job("bug", name, bug.name, self.seed, one_check=quick) for name in self.names for bug in self.bugs[name]
        ]
        jobs += [Job("rewritten", answer.exercise, answer, self.seed) for answer in rewritten]
        if not quick:
            jobs += [Job("variant", variant.exercise, variant, self.seed, VARIANT_SEEDS) for variant in variants]
            for name in self.names:
                jobs += self._deep_jobs(name)
        # all of an exercise in a row, for they share what is drawn; the longest, the capstone's, come first
        self._run(sorted(jobs, key=lambda job: -self.names.index(job.exercise)), "proofs")

    def _deep_jobs(self, name: str) -> Iterable[Job]:
        for argument in argument_names(self.course, self.reference, name):
            if (name, argument) in UNSEEN:
                continue
            yield Job("argument", name, argument, self.seed)
        equivalent = EQUIVALENT.get(name, {})
        for mutant in mutants(self.course, self.reference, name):
            if f"{mutant.line} -> {mutant.change}" not in equivalent:
                yield Job("mutant", name, mutant, self.seed)

    def compare(self) -> None:
        """The reference, every bug and every variant, in this process and behind the wall."""
        answers = [*load_variants(self.course), *load_variants(self.course, REWRITTEN)]
        jobs = [Job("parity", name, None, self.seed) for name in self.names]
        jobs += [Job("parity", name, bug, self.seed) for name in self.names for bug in self.bugs[name]]
        jobs += [Job("parity", one.exercise, one, self.seed) for one in answers if one.exercise in self.names]
        self._run(jobs, "parity")

    def weigh(self) -> None:
        """How many of the inputs that a check draws show each bug that it is said to catch."""
        jobs = [
            Job("chance", name, bug.name, self.seed, CHANCE_SEEDS) for name in self.names for bug in self.bugs[name]
        ]
        self._run(jobs, "chance")

    def sample(self, draws: int, power_seeds: int) -> None:
        """Measures the checks that judge random draws: `draws` of each, and so many runs on each of their bugs."""
        checks = [
            check
            for unit in self.course.units
            if hasattr(suite := load_suite(self.course, unit), "expect_statistic")
            for check in checks_of(self.course, unit, suite)
            if check.exercise in self.names and not check.slow
        ]
        first = self._run([Job("sample", c.exercise, c.name, self.seed) for c in checks], "statistics", keep=False)
        statistical = [finding for finding in first if finding.numbers["sampled"].comparisons]
        jobs, powers = [], []
        for number, finding in enumerate(statistical):
            job, each = finding.job, max(finding.numbers["sampled"].draws, 1)
            runs = math.ceil(draws / each)
            starts = range(0, runs, RUNS_AT_ONCE)
            base = self.seed + 1_000_000 * number
            jobs += [
                Job("sample", job.exercise, job.what, base + start, min(RUNS_AT_ONCE, runs - start)) for start in starts
            ]
            powers += [
                Job("power", job.exercise, (job.what, bug), self.seed, power_seeds)
                for bug in self.bugs[job.exercise]
                if job.what in bug.caught_by
            ]
        self._run(jobs, f"statistics, {draws} draws")
        self._run(powers, "power")

    def _run(self, jobs: list[Job], title: str, *, keep: bool = True) -> list[Finding]:
        results = self.pool.run(jobs)
        found = list(tqdm(results, total=len(jobs), desc=title, mininterval=0.2 if sys.stderr.isatty() else 20))
        if keep:
            self.findings += found
        return found

    def table(self) -> Rows:
        columns = ("exercise", "checks", "bugs", "rewritten", "variants", "arguments", "mutants", "right/wrong/silent")
        rows = []
        for name in self.names:
            mine = [finding for finding in self.findings if finding.job.exercise == name]
            unit = self.course.unit_of(name)
            many = sum(check.exercise == name for check in checks_of(self.course, unit, load_suite(self.course, unit)))
            kinds = [_share(mine, kind) for kind in ("bug", "rewritten", "variant", "argument", "mutant")]
            told = [finding.numbers["diagnosis"] for finding in mine if "diagnosis" in finding.numbers]
            rows.append((name, str(many), *kinds, "/".join(str(told.count(word)) for word in DIAGNOSES)))
        return Rows("What the suites are known to see", columns, rows)

    def arguments_table(self) -> Rows:
        columns = ("exercise", "argument", "seen at, in tolerances", "checks that crash")
        rows = [
            (
                finding.job.exercise,
                finding.job.what,
                _amount(finding.numbers["excess"]),
                str(finding.numbers["crashed"]),
            )
            for finding in self.findings
            if finding.job.kind == "argument"
        ]
        return Rows("What a changed argument is off by", columns, rows)

    def statistics_table(self) -> Rows:
        columns = (
            "check",
            "draws",
            "stated rate",
            "false alarms",
            "spread",
            "largest error",
            "nearest bug",
            "caught in",
            "at",
        )
        totals: dict[str, Sampled] = {}
        powers: dict[str, list[Finding]] = {}
        for finding in self.findings:
            if finding.job.kind == "sample":
                name, sampled = finding.job.what, finding.numbers["sampled"]
                totals[name] = totals[name] + sampled if name in totals else sampled
            elif finding.job.kind == "power":
                powers.setdefault(finding.job.what[0], []).append(finding)
        rows = []
        for name, total in totals.items():
            nearest = min(powers.get(name, []), key=lambda f: (f.numbers["power"], f.numbers["error"]), default=None)
            least = (
                (nearest.job.what[1].name, f"{nearest.numbers['power']:.0%}", f"{nearest.numbers['error']:.0f} s.e.")
                if nearest
                else ("", "", "")
            )
            measured = (f"{total.stated:.0e}", str(total.alarms), f"{total.spread:.2f}", f"{total.largest:.1f} s.e.")
            rows.append((name, str(total.draws), *measured, *least))
        return Rows("Checks that judge random draws", columns, rows)


def _share(findings: list[Finding], kind: str) -> str:
    mine = [finding for finding in findings if finding.job.kind == kind]
    return f"{sum(finding.good for finding in mine)}/{len(mine)}" if mine else ""


def _amount(excess: float) -> str:
    return "beyond measure" if excess == math.inf else f"{excess:.3g}"


def _name(job: Job) -> str:
    what: Any = job.what
    if job.kind == "mutant":
        return f"{what.line} -> {what.change}"
    if job.kind == "power":
        return f"{what[1].name}, by {what[0]}"
    return what if isinstance(what, str) else str(what.name) if what else "the reference"


def _record(finding: Finding) -> dict[str, Any]:
    numbers = {key: None if value == math.inf else value for key, value in finding.numbers.items()}
    if "sampled" in finding.numbers:
        numbers = asdict(finding.numbers["sampled"])
    job = finding.job
    return {"kind": job.kind, "exercise": job.exercise, "what": _name(job), "good": finding.good, **numbers}
