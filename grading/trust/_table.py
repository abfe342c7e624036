"""`make trust`: all proofs, and the one table that they are published in."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from grading.bugs import load_bugs, load_variants
from grading.course import Course, find_root, load
from grading.judge import checks_of, fresh_seed, load_suite
from grading.subject import Sources, read_sources

from ._equivalent import EQUIVALENT
from ._jobs import Finding, Job, run_jobs
from ._liveness import argument_names
from ._mutants import mutants

# a seed of few inputs instead of one seed of many: other shapes, types and hyper-parameters each time
VARIANT_SEEDS, VARIANT_EXAMPLES = 200, 2
REWRITTEN = Path(__file__).parent.parent / "tests" / "rewritten"


def trust(argv: list[str] | None = None) -> int:
    """Runs the proofs and prints the table; returns 0 when every one of them holds."""
    parser = argparse.ArgumentParser(prog="python -m grading.trust", description=trust.__doc__)
    parser.add_argument("--quick", action="store_true", help="bugs, rewritten bugs and variants, each once")
    parser.add_argument("--only", metavar="EXERCISE", action="append", help="prove this exercise alone")
    parser.add_argument("--seed", type=int, default=None, help="draw the same numbers as an earlier run")
    parser.add_argument("--json", metavar="FILE", help="write every finding there, one JSON object per line")
    args = parser.parse_args(argv)
    seed = fresh_seed() if args.seed is None else args.seed
    course = load(find_root(Path.cwd()))
    reference = read_sources(course, course.root / "solutions")
    names = args.only or list(course.exercises)
    print(f"seed {seed}", flush=True)
    findings = _all(course, reference, names, seed, quick=args.quick)
    if args.json:
        Path(args.json).write_text(
            "".join(json.dumps(_record(finding)) + "\n" for finding in findings), encoding="utf-8"
        )
    bad = [finding for finding in findings if not finding.good]
    Console(file=sys.stdout).print(_table(course, names, findings))
    for finding in bad:
        print(f"{finding.job.kind} of {finding.job.exercise}: {_name(finding.job)}: {finding.note}")
    print(f"{len(findings) - len(bad)} of {len(findings)} proofs hold")
    return 1 if bad else 0


def _all(course: Course, reference: Sources, names: list[str], seed: int, *, quick: bool) -> list[Finding]:
    bugs = load_bugs(course)
    variants = [variant for variant in load_variants(course) if variant.exercise in names]
    rewritten = [variant for variant in load_variants(course, REWRITTEN) if variant.exercise in names]
    jobs = [Job("bug", name, bug.name, seed) for name in names for bug in bugs[name]]
    jobs += [Job("rewritten", variant.exercise, variant, seed) for variant in rewritten]
    jobs += [Job("variant", variant.exercise, variant, seed) for variant in variants]
    if not quick:
        for name in names:
            jobs += [Job("argument", name, argument, seed) for argument in argument_names(course, reference, name)]
            equivalent = EQUIVALENT.get(name, {})
            jobs += [
                Job("mutant", name, mutant, seed)
                for mutant in mutants(course, reference, name)
                if f"{mutant.line} -> {mutant.change}" not in equivalent
            ]
    findings = list(_shown(run_jobs(course.root, jobs), len(jobs), "proofs"))
    if not quick:
        many = [Job("variant", variant.exercise, variant, seed + 1, VARIANT_SEEDS) for variant in variants]
        findings += _shown(run_jobs(course.root, many, examples=VARIANT_EXAMPLES), len(many), "variants, 200 seeds")
    return findings


def _shown(findings: Iterable[Finding], total: int, title: str) -> Iterable[Finding]:
    bar: Iterable[Finding] = tqdm(findings, total=total, desc=title, disable=not sys.stderr.isatty())
    return bar


def _table(course: Course, names: list[str], findings: list[Finding]) -> Table:
    table = Table(title="What the suites are known to see", box=None, pad_edge=False)
    for column in ("exercise", "checks", "bugs", "rewritten", "variants", "arguments", "mutants", "right/wrong/silent"):
        table.add_column(column, justify="left" if column == "exercise" else "right")
    for name in names:
        mine = [finding for finding in findings if finding.job.exercise == name]
        unit = course.unit_of(name)
        checks = sum(check.exercise == name for check in checks_of(course, unit, load_suite(course, unit)))
        kinds = [_share(mine, kind) for kind in ("bug", "rewritten", "variant", "argument", "mutant")]
        told = [finding.numbers["diagnosis"] for finding in mine if "diagnosis" in finding.numbers]
        table.add_row(
            name, str(checks), *kinds, "/".join(str(told.count(word)) for word in ("right", "wrong", "silent"))
        )
    return table


def _share(findings: list[Finding], kind: str) -> str:
    mine = [finding for finding in findings if finding.job.kind == kind]
    return f"{sum(finding.good for finding in mine)}/{len(mine)}" if mine else ""


def _name(job: Job) -> str:
    what: Any = job.what
    if job.kind == "mutant":
        return f"{what.line} -> {what.change}"
    return what if isinstance(what, str) else str(what.name)


def _record(finding: Finding) -> dict[str, Any]:
    numbers = {key: None if value == math.inf else value for key, value in finding.numbers.items()}
    job = finding.job
    return {"kind": job.kind, "exercise": job.exercise, "what": _name(job), "good": finding.good, **numbers}
