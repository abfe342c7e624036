"""The record of one submission: what was handed in, how it was judged, and what was found; nothing of when or where."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from grading.course import Course, Exercise
from grading.verdict import KIT_ERROR, Verdict, exercise_verdict

from ._entries import Entry, Taken
from ._queue import FOLDER, LOST, Result

KINDS = (".py", ".toml", ".html", ".css")
# the rooms of the machinery that no verdict comes by
APART = [("grading", room) for room in ("tests", "trust", "bench", "cli")]
# of a unit and its exercises; whatever else course.toml says of them may matter
FOR_READERS = ("title", "summary", "papers", "due")
FAULT_CHARACTERS = 300
FAULT = "no student is at fault; please report it"
HIDDEN_FAULT = "mend the suite and run the same command again, which judges everybody again then"
# where an object lies in memory, which differs from process to process
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")


def course_files(course: Course) -> list[Path]:
    """What a judge needs of the course: its description, its suites and its reference."""
    return [course.root / "course.toml", *_files(course.root / "tests"), *_files(course.root / "solutions")]


def kit_version(course: Course) -> str:
    """The version, and a hash of everything that a verdict follows from: course, suites, reference, kit."""
    machinery = Path(__file__).parents[1]
    files = {path.relative_to(course.root): path for path in course_files(course) if path.parent != course.root}
    files |= {path.relative_to(machinery.parent): path for path in _files(machinery)}
    digest = hashlib.sha256(_rules(course).encode())
    for name, path in sorted(files.items()):
        if name.parts[:2] not in APART:
            digest.update(f"{name.as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    for package in ("torch", "hypothesis"):
        digest.update(metadata.version(package).encode())
    return f"{metadata.version('goodinit')}+{digest.hexdigest()[:12]}"


def _rules(course: Course) -> str:
    """What of course.toml judges go by: not what is for readers alone, nor when and for how much less work is taken."""
    units = [{key: value for key, value in asdict(unit).items() if key not in FOR_READERS} for unit in course.units]
    for unit in units:
        unit["exercises"] = [
            {key: value for key, value in exercise.items() if key not in FOR_READERS} for exercise in unit["exercises"]
        ]
    return json.dumps({"units": units, "limits": asdict(course.limits)}, sort_keys=True)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in KINDS and path.is_file()]


def head(entry: Entry, taken: Taken, seed: int, kit: str, options: dict[str, Any]) -> dict[str, Any]:
    """The part of a record that is known before anything is judged."""
    return {
        "student": entry.shown_student,
        "submission": entry.shown,
        "digest": taken.digest,
        "seed": seed,
        "kit": kit,
        "options": options,
    }


def still_holds(record: dict[str, Any] | None, head: dict[str, Any]) -> bool:
    """Whether a record of an earlier run is what judging again would find."""
    if record is None or str(record.get("problem", LOST)).startswith(LOST):
        return False
    return {key: record.get(key) for key in head} == head


def make(head: dict[str, Any], exercises: Iterable[Exercise], result: Result) -> dict[str, Any]:
    """The whole record."""
    exercises = list(exercises)
    places = f"{FOLDER}/{result.job.entry.slug}"

    def told(text: str) -> str:
        """Without where the judge had the files, and where it had its objects."""
        return ADDRESS.sub("0x…", text.replace(places, result.job.entry.slug))

    found = [{key: told(v) if isinstance(v, str) else v for key, v in verdict.items()} for verdict in result.verdicts]
    verdicts = [Verdict.from_dict(verdict) for verdict in found]
    by_exercise = {}
    by_unit: dict[str, dict[str, Any]] = {}
    for exercise in exercises:
        mine = [verdict for verdict in verdicts if verdict.exercise == exercise.id]
        by_exercise[exercise.id] = {
            "verdict": exercise_verdict(mine) if mine else None,
            **_points((verdict.points for verdict in mine), [result.max_points[exercise.id]]),
        }
    for unit in dict.fromkeys(exercise.unit for exercise in exercises):
        inside = [by_exercise[exercise.id] for exercise in exercises if exercise.unit == unit]
        by_unit[unit] = _sum(inside)
    return {
        **head,
        "problem": "; ".join(told(problem) for problem in (result.taken.problem, result.problem) if problem),
        **_sum(by_unit.values()),
        "units": by_unit,
        "exercises": by_exercise,
        "review": {name: [told(line) for line in lines] for name, lines in result.review.items()},
        "verdicts": [verdict.to_dict() for verdict in verdicts],
    }


def kit_errors(records: Iterable[dict[str, Any]]) -> list[str]:
    """A sentence for each check that failed by itself: for how many, why, and what to do."""
    failed: dict[tuple[str, str], list[Verdict]] = {}
    for record in records:
        for found in record["verdicts"]:
            if found["verdict"] == KIT_ERROR:
                failed.setdefault((found["exercise"], found["check"]), []).append(Verdict.from_dict(found))
    sentences = []
    for (exercise, check), verdicts in failed.items():
        first = verdicts[0]
        many = f"{len(verdicts)} submission{'' if len(verdicts) == 1 else 's'}"
        place = f"the{' hidden' if first.hidden else ''} check test_{check} of {exercise}"
        why = " ".join((first.fault or first.message).split())[:FAULT_CHARACTERS]
        what = HIDDEN_FAULT if first.hidden else FAULT
        sentences.append(f"{many} ended in a kit error in {place}: {why}; {what}")
    return sentences


def _sum(entries: Iterable[dict[str, Any]]) -> dict[str, float]:
    entries = list(entries)
    return _points((entry["points"] for entry in entries), (entry["max_points"] for entry in entries))


def _points(points: Iterable[float], max_points: Iterable[float]) -> dict[str, float]:
    return {"points": round(math.fsum(points), 6), "max_points": round(math.fsum(max_points), 6)}
