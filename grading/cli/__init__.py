"""The command `goodinit`: what pytest cannot do for students and instructors."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

from grading.course import Course, CourseError, did_you_mean, find_root, load
from grading.startup import importing

USAGE_ERROR = 2

Run = Callable[[Course, argparse.Namespace], int]


class _Parser(argparse.ArgumentParser):
    """Answers a wrong command with one sentence and the nearest right word."""

    def error(self, message: str) -> None:  # type: ignore[override]
        if "argument COMMAND: invalid choice: " in message:
            word = message.partition("invalid choice: ")[2].partition(" (")[0].strip("'\"")
            near = did_you_mean(word, COMMANDS)
            message = f"there is no command {word!r}{near}; `goodinit --help` lists them all"
        self.exit(USAGE_ERROR, f"goodinit: {message}\n")


def main(argv: list[str] | None = None) -> int:
    """Runs one command. Exit status: 0 all is well, 1 not everything passed, 2 the command could not be carried out."""
    _open_streams()
    if os.environ.get("COLUMNS", "").strip("0") == "":
        os.environ.pop("COLUMNS", None)  # rich would take 0 for a width, and show nothing
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without ✓ shows ? instead of failing
    words = sys.argv[1:] if argv is None else argv
    try:
        try:
            status = _carry_out(words)
        finally:
            # here and not when Python ends, which has no sentence for it
            sys.stdout.flush()
    except BrokenPipeError:
        # the reader of a pipe has gone, which is its right; keep Python from complaining at exit
        _leave(sys.stdout)
        return 1
    except OSError as error:
        _leave(sys.stdout)
        return _fail(f"standard output cannot be written to: {_reason(error)}")
    return status


def _carry_out(words: list[str]) -> int:
    args = _parser().parse_args(words or ["status"])
    args.words = words
    if getattr(args, "data", None) == "":  # a variable of the shell that is not set
        args.data = None
    try:
        course = _course(args)
        return COMMANDS[args.command].run(course, args)
    except KeyboardInterrupt:
        print("\ngoodinit: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except FileNotFoundError as error:
        if error.filename is None:
            return _fail("the folder this was started in is gone; change to one that exists")
        return _fail(f"{error.filename}: {error.strerror}")
    except OSError as error:
        if error.filename is not None:
            return _fail(f"{error.filename}: {_reason(error)}; nothing was changed there")
        sys.stdout.flush()  # where that is what failed, it fails again, and the caller knows
        room = "; make room on the disk, and run it again" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return _fail(f"`goodinit {args.command}` could not be finished: {_reason(error)}{room}")
    except Exception as error:
        if isinstance(error, CourseError) or type(error).__name__ in SENTENCES:
            return _fail(str(error))
        raise


def _course(args: argparse.Namespace) -> Course:
    """The course that a command is about."""
    folder = getattr(args, "nbgrader", None)
    if args.command == "similar" and (Path(args.folder).parent / "nbgrader_config.py").is_file():
        folder = Path(args.folder).parent
    if folder is None:
        return load(find_root(Path.cwd()))
    with importing():
        from ._nbgrader import course_for

    return course_for(Path(folder))


# the rooms' errors whose text is one sentence for a person; by name, because their rooms import torch
SENTENCES = {
    "ImplError", "SuiteError", "BuildError", "DataError", "EditError", "TrainError", "SubjectError",
    "SandboxError", "GradeError", "OutputError", "NbgraderError", "ExportError", "SimilarityError",
}  # fmt: skip


def _fail(sentence: str) -> int:
    try:
        print(f"goodinit: {sentence}", file=sys.stderr)
    except OSError:
        _leave(sys.stderr)
    return USAGE_ERROR


def _open_streams() -> None:
    """Has a stream that is closed go nowhere; else the next file would take its place, and what is meant for it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)
            setattr(sys, name, stream)


def _leave(stream: TextIO) -> None:
    """Has what cannot be written go nowhere, so that Python does not try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _reason(error: OSError) -> str:
    return error.strerror or " ".join(str(error).split()) or type(error).__name__


class Command:
    """One subcommand: its help line, its arguments, and the function that carries it out."""

    def __init__(self, help: str, configure: Callable[[argparse.ArgumentParser], None], run: Run) -> None:
        self.help, self.configure, self.run = help, configure, run


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="goodinit", description="Where am I? Shows progress per unit and the next exercise.")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    for name, command in COMMANDS.items():
        command.configure(subparsers.add_parser(name, help=command.help, description=command.help))
    return parser


def _named(text: str) -> str:
    """A path; that of nothing would be the folder this was started in."""
    if not text:
        raise argparse.ArgumentTypeError("takes a name, not ''; is a variable of the shell not set?")
    return text


def _targets(parser: argparse.ArgumentParser, *, many: bool = True) -> None:
    help = "a unit or an exercise: u7, u7_normalization, batch_norm or u7::batch_norm"
    if many:
        parser.add_argument("targets", metavar="TARGET", nargs="*", help=help + "; all when left out")
    else:
        parser.add_argument("target", metavar="TARGET", help=help)


def _judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--impl", metavar="PATH", help="a folder, .py file or notebook; exercises/ unless given")
    parser.add_argument("--data", metavar="DIR", help="folder with the Fashion-MNIST IDX files, for the capstone")
    parser.add_argument("--seed", type=int, help="draw the same numbers as an earlier run")


def _check(parser: argparse.ArgumentParser) -> None:
    _targets(parser)
    _judging(parser)
    parser.add_argument("--json", action="store_true", help="one JSON object per check, one per line")
    parser.add_argument("--fast", action="store_true", help="leave out the checks that train")
    parser.add_argument("--sandbox", action="store_true", help="run the code behind the wall, as `goodinit grade` does")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every check, also those that passed")


def _status(parser: argparse.ArgumentParser) -> None:
    _judging(parser)


def _hint(parser: argparse.ArgumentParser) -> None:
    _targets(parser, many=False)
    parser.add_argument("--again", action="store_true", help="repeat the hints already given")


def _solution(parser: argparse.ArgumentParser) -> None:
    _targets(parser, many=False)


def _build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--check", action="store_true", help="change nothing; fail where a derived file is out of step")
    parser.add_argument("--force", action="store_true", help="also overwrite what was edited by hand")
    parser.add_argument(
        "--nbgrader", metavar="DIR", type=_named, help="make or renew an nbgrader course in DIR instead"
    )
    parser.add_argument("--db", metavar="URL", help="the course's gradebook; DIR/gradebook.db unless given")


def _train(parser: argparse.ArgumentParser) -> None:
    from ._train import configure

    configure(parser)


def _grade(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", type=_named, help="a folder, .py file or notebook per student directly in it"
    )
    parser.add_argument(
        "--out", metavar="OUT", type=_named, required=True, help="where records, pages and grades.csv are written"
    )
    _side_by_side(parser)
    parser.add_argument("--seed", type=int, help="draw the same numbers as an earlier run")
    parser.add_argument(
        "--unit", metavar="TARGET", nargs="+", action="extend", help="these units or exercises only; all when left out"
    )
    parser.add_argument("--fast", action="store_true", help="leave out the checks that train")
    parser.add_argument("--data", metavar="DIR", help="folder with the Fashion-MNIST IDX files, for the capstone")
    parser.add_argument("--hints", choices=("yes", "no"), default="yes", help="whether pages give a next hint")


def _autograde(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("target", metavar="UNIT", help="the unit that the assignment is: u7 or u7_normalization")
    parser.add_argument(
        "--nbgrader", metavar="DIR", type=_named, required=True, help="the nbgrader course, of `goodinit build`"
    )
    _side_by_side(parser)
    parser.add_argument("--force", action="store_true", help="judge again what an earlier run has judged")
    parser.add_argument(
        "--hidden", metavar="DIR", help="private suites; as [nbgrader] in course.toml says unless given"
    )


def _side_by_side(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        help="submissions at once; else as many as cores, or as a cluster can do",
    )
    parser.add_argument(
        "--scheduler", metavar="ADDRESS", help="grade on this Dask cluster: tcp://HOST:8786, or gateway:NAME"
    )


def _grades(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--nbgrader", metavar="DIR", type=_named, help="the nbgrader course whose gradebook is read")
    source.add_argument(
        "--records", metavar="OUT", type=_named, help="a folder that `goodinit grade` has written, instead"
    )
    formats = ("csv", "canvas", "moodle", "gradescope-json")
    parser.add_argument("--format", choices=formats, required=True, help="the system that is to import them")
    parser.add_argument(
        "--out", metavar="FILE", type=_named, help="where they are written; a folder for gradescope-json"
    )
    parser.add_argument("--unit", metavar="UNIT", nargs="+", action="extend", help="these units only")
    parser.add_argument(
        "--roster", metavar="FILE", type=_named, help="a list that the system has exported, to write its own ids"
    )


def _students(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "csv", metavar="CSV", type=_named, help="a table with the columns id, first_name, last_name, email"
    )
    parser.add_argument(
        "--nbgrader", metavar="DIR", type=_named, required=True, help="the nbgrader course that they take"
    )


def _similar(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", type=_named, help="a class as `goodinit grade` takes it, or nbgrader's submitted/"
    )
    parser.add_argument("--out", metavar="FILE", type=_named, help="a page with the shared passages side by side")
    parser.add_argument("--unit", metavar="TARGET", nargs="+", action="extend", help="these units or exercises only")
    parser.add_argument("--by", choices=("unit", "exercise"), default="unit", help="what is compared with what")


def _run_check(course: Course, args: argparse.Namespace) -> int:
    with importing():
        from ._check import check

    return check(course, args)


def _run_status(course: Course, args: argparse.Namespace) -> int:
    with importing():
        from ._check import status

    return status(course, args)


def _run_hint(course: Course, args: argparse.Namespace) -> int:
    from ._edit import hint

    return hint(course, args)


def _run_solution(course: Course, args: argparse.Namespace) -> int:
    from ._edit import solution

    return solution(course, args)


def _run_reset(course: Course, args: argparse.Namespace) -> int:
    from ._edit import reset

    return reset(course, args)


def _run_build(course: Course, args: argparse.Namespace) -> int:
    with importing():
        from ._build import build

    return build(course, args)


def _run_train(course: Course, args: argparse.Namespace) -> int:
    with importing():
        from ._train import run

    return run(course, args)


def _run_grade(course: Course, args: argparse.Namespace) -> int:
    from ._grade import run

    return run(course, args)


def _run_autograde(course: Course, args: argparse.Namespace) -> int:
    from ._autograde import autograde

    return autograde(course, args)


def _run_grades(course: Course, args: argparse.Namespace) -> int:
    from ._grades import grades

    return grades(course, args)


def _run_students(course: Course, args: argparse.Namespace) -> int:
    from ._nbgrader import students

    return students(course, args)


def _run_similar(course: Course, args: argparse.Namespace) -> int:
    from ._grades import similar

    return similar(course, args)


def _run_demo(course: Course, args: argparse.Namespace) -> int:
    from ._demo import demo

    return demo(course, args)


def _run_doctor(course: Course, args: argparse.Namespace) -> int:
    from ._doctor import doctor

    return doctor(course, args)


COMMANDS: dict[str, Command] = {
    "status": Command("where am I: progress per unit, and the next exercise (the default)", _status, _run_status),
    "check": Command("verdicts for a unit, an exercise or all; exit status 0 only when all passed", _check, _run_check),
    "hint": Command("the next hint for an exercise", _hint, _run_hint),
    "solution": Command("your code beside the reference", _solution, _run_solution),
    "reset": Command("back to the stub; your work is kept in a backup", _solution, _run_reset),
    "train": Command("the capstone and the lesson's table, on your code or the reference", _train, _run_train),
    "build": Command("derive exercises/ from solutions/", _build, _run_build),
    "grade": Command("a folder of submissions, graded behind the wall", _grade, _run_grade),
    "autograde": Command("a class of an nbgrader course, judged side by side", _autograde, _run_autograde),
    "grades": Command("grades for Canvas, Moodle, Gradescope or a spreadsheet", _grades, _run_grades),
    "students": Command("enter the students of a CSV file into a gradebook", _students, _run_students),
    "similar": Command("passages that submissions share, for review", _similar, _run_similar),
    "demo": Command("the whole way in a few minutes, on the reference", lambda parser: None, _run_demo),
    "doctor": Command("what this machine can do", lambda parser: None, _run_doctor),
}
