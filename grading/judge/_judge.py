"""One judge per run: resolves prerequisites, runs checks with seeds that replay, and decides each verdict."""

from __future__ import annotations

import hashlib
import random
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from hypothesis.errors import FlakyFailure, HypothesisException, UnsatisfiedAssumption

from grading.bugs import DIAGNOSIS_SECONDS, Run
from grading.course import Course, Exercise
from grading.subject import (
    Answers,
    Delegated,
    KitFailure,
    Questions,
    Sources,
    Subject,
    SubjectDied,
    SubjectError,
    TimeExpired,
    copied,
    earlier,
    preserved_state,
    same_tensor,
    tensors_in,
    time_limit,
)
from grading.verdict import (
    BLOCKED,
    DELEGATED,
    KIT_ERROR,
    NOT_STARTED,
    PASSED,
    WRONG,
    Mismatch,
    Verdict,
    apart,
    clean,
    exercise_verdict,
    show,
)

from ._body import Running, Sink, StubReached, begin, recording, seed_everything
from ._checks import Check, SuiteError, checks_of, load_hidden_suite, load_suite
from ._diagnoses import Diagnoses, Replays
from ._inputs import Drawn, Input, draw, first_question, simplify
from ._meanings import meaning_of

# after so many checks of an exercise that met their time limit, its others would most likely meet it too
EXPIRED_CHECKS = 2
# what a verdict says at most: most of it is written by the code under test, and read in pages of a whole class
MESSAGE_CHARACTERS, DETAILS_CHARACTERS = 2_000, 10_000
UNSTEADY = "the same input passed: does something of an earlier call, or a random number, get into the result?"


class NotStarted(Exception):
    """The exercise under judgement is still a stub, or is not defined at all."""


class _DiedAhead(Exception):
    """Code has ended its process while many questions were asked at once; at which one, single runs find out."""


class Blocked(Exception):
    """The exercise needs others of the student's own that have not passed."""


def fresh_seed() -> int:
    """A seed that nobody chose; whoever prints it can replay the run."""
    return random.SystemRandom().randrange(2**31)


class Judge:
    """Judges one Subject by the suites of a course.

    `seed` fixes every number that is drawn. `garments` makes what the fixture of that name hands to the checks that
    train. `hints` counts those already given by exercise.
    `subject` is where the code of `sources` runs: in this process unless given. `inputs` are what `drawn` gave for
    checks with the same seed, where many subjects are judged, and `replays` keeps for them what the known bugs did with
    inputs that come again. `hidden` is a folder of private suites. A failing check may be diagnosed for
    `diagnosis_seconds`, and is not with 0. `impl` is what the code was named by, where it is not the exercises, and
    `data` the folder of the data, where one was named.
    """

    def __init__(
        self,
        course: Course,
        sources: Sources,
        reference: Sources | None,
        seed: int,
        *,
        garments: Callable[[], Any] | None = None,
        seconds: bool = True,
        hints: Mapping[str, int] | None = None,
        subject: Subject | None = None,
        inputs: Mapping[str, Drawn] | None = None,
        replays: Replays | None = None,
        hidden: Path | None = None,
        diagnosis_seconds: float = DIAGNOSIS_SECONDS,
        impl: str | None = None,
        data: str | None = None,
    ) -> None:
        self.course = course
        self.seed = seed
        self.impl, self.data = impl, data
        self.subject = subject or Subject(course, sources, reference)
        self.reference = Subject(course, reference) if reference else None
        self.is_reference = reference is not None and reference.path == sources.path
        self.garments = garments
        self.seconds = seconds
        self.hints = hints or {}
        self.inputs = {} if inputs is None else inputs
        self.hidden = hidden
        self.diagnoses = (
            Diagnoses(self, reference, {} if replays is None else replays, diagnosis_seconds)
            if reference is not None and diagnosis_seconds
            else None
        )
        self.verdicts: dict[str, Verdict] = {}
        self._checks: dict[str, list[Check]] = {}
        # the latest of each check, and the latest that failed
        self._runs: dict[str, Run] = {}
        self._failed: dict[str, Run] = {}
        # how many checks of each exercise have run out of time
        self._expired: Counter[str] = Counter()
        # the exercises of which the simplest input is known on which a check fails
        self._simplified: set[str] = set()
        # how often the body of each check has run
        self.draws: Counter[str] = Counter()
        # of the reference: what identifies the answers on which a check has passed, where it asks nothing else
        self.right: dict[str, bytes] = {}

    def checks(self, exercise: str) -> list[Check]:
        """All checks of one exercise."""
        unit = self.course.unit_of(exercise)
        if unit.id not in self._checks:
            hidden = load_hidden_suite(self.hidden, unit) if self.hidden else None
            found = checks_of(self.course, unit, load_suite(self.course, unit), hidden)
            self._refuse_taken_names(found)
            self._checks[unit.id] = found
        return [check for check in self._checks[unit.id] if check.exercise == exercise]

    def _refuse_taken_names(self, checks: Iterable[Check]) -> None:
        """A verdict is known by the name of its check."""
        taken = {check.name: check.unit for known in self._checks.values() for check in known}
        for check in checks:
            if check.name in taken:
                raise SuiteError(
                    f"{taken[check.name]} and {check.unit} both have a check test_{check.name}: "
                    "each check of a course needs a name of its own"
                )

    def check_named(self, unit: str, name: str) -> Check:
        self.checks(self.course.by_unit[unit].exercises[0].id)
        for check in self._checks[unit]:
            if check.name == name.removeprefix("test_"):
                return check
        raise SuiteError(f"{name} is no check of {unit}: a suite's checks are functions of the module, in no class")

    # -- judging without pytest

    def judge(self, exercises: Iterable[Exercise], *, slow: bool = True) -> Iterable[Verdict]:
        """The verdict of every check of `exercises`, one by one as they come."""
        for exercise in exercises:
            for check in self.checks(exercise.id):
                if slow or not check.slow:
                    yield self.run(check)

    def run(self, check: Check) -> Verdict:
        """Runs one check now; what the code under test prints is dropped."""
        if check.name not in self.verdicts:
            sink = Sink()
            error: BaseException | None = None
            with redirect_stdout(sink), redirect_stderr(sink):
                try:
                    try:
                        self._attempt(check, ahead=self.subject.answers_ahead)
                    except _DiedAhead:
                        self._attempt(check, ahead=False)
                except (Exception, SystemExit, TimeExpired, SubjectDied, StubReached) as raised:
                    error = raised
                self.settle(check, error)
        return self.verdicts[check.name]

    def _attempt(self, check: Check, *, ahead: bool) -> None:
        fixtures = self.fixtures(check)
        with self.running(check):
            self.execute(check, fixtures, ahead=ahead)

    def drawn(self, check: Check, *, questions: bool = False) -> Drawn:
        """The inputs of a drawn check, on request with what its body asks first with each of them.

        Both follow from the seed alone, and are the same for whatever is judged.
        """
        seed = self.seed_of(check)
        inputs, asked = list(draw(check, seed)), []
        if questions and "beside" in check.fixtures:
            for one in inputs:
                seed_everything(seed)
                question = first_question(check, one.given)
                if question is None:
                    break
                asked.append(question)
        return Drawn(inputs, Questions(tuple(asked)) if len(asked) == len(inputs) else None)

    def drawn_for_many(self, checks: Sequence[Check]) -> dict[str, Drawn]:
        """The inputs of those of `checks` that are drawn, for judges of many subjects with this seed.

        Where this one judges the reference in a process of its own, also what identifies right answers.
        """
        found = {check.name: self.drawn(check, questions=self.subject.answers_ahead) for check in checks if check.drawn}
        self.inputs = found
        for check in checks:
            if check.name in found and found[check.name].questions and not check.slow:
                self.run(check)
        return {name: replace(drawn, right=self.right.get(name)) for name, drawn in found.items()}

    def place(self, exercise: Exercise) -> str:
        """Where an exercise stands, and where its file cannot be read, why."""
        place, problem = self.subject.locate(exercise), self.subject.sources.unreadable(exercise)
        return f"{place}: {problem}" if problem else place

    def passed(self, exercise: str) -> bool:
        """Whether the public checks of an exercise that do not train all pass; they are run if that is not known."""
        for check in self.checks(exercise):
            if not check.slow and not check.hidden:
                self.resolve(check)
                if self.run(check).verdict != PASSED:
                    return False
        return True

    # -- the parts of a run, which the pytest plugin calls one by one

    def resolve(self, check: Check) -> None:
        """Finds out which prerequisites of a check's exercise have passed; the reference needs nothing of itself."""
        exercise = self.course.exercises[check.exercise]
        for name in () if self.is_reference else self.subject.builds_on(exercise):
            self.passed(name)

    def fixtures(self, check: Check) -> dict[str, Any]:
        """The arguments of a check that the judge provides."""
        return {name: self.fixture(check, name) for name in check.fixtures}

    def fixture(self, check: Check, name: str) -> Any:
        self.prepare(check)
        return self._fixture(check, name)

    def _fixture(self, check: Check, name: str) -> Any:
        if name == check.exercise:
            return self._reach(check, self.subject)
        if name == "beside":
            return self._beside(check, self.subject)
        return self._garments(check)

    def prepare(self, check: Check) -> None:
        """Raises NotStarted or Blocked where a check cannot run yet."""
        exercise = self.course.exercises[check.exercise]
        try:
            self.subject.defined(exercise)
        except SubjectError as error:
            if not error.started:
                raise NotStarted(str(error)) from None
            raise
        if self._expired[exercise.id] >= EXPIRED_CHECKS:
            raise SubjectError(f"not run: {EXPIRED_CHECKS} checks of {exercise.id} before this one did not finish")
        if exercise.own_pieces and not self.subject.sources.started(exercise):
            raise NotStarted(f"{self.subject.locate(exercise)} is still a stub")
        self.resolve(check)
        waiting = self._waiting(exercise)
        if waiting:
            raise Blocked(f"waits for {', '.join(waiting)}")

    def running(self, check: Check) -> Running:
        """The context in which a check's body runs: bounded in time, without traces, and on record."""
        judging = self.subject.judging(self.course.exercises[check.exercise], slow=check.slow)
        contexts = [judging, time_limit(self._seconds(check))]
        # a drawn check runs its body many times, and records each run by itself
        if not check.drawn:
            self.subject.seed(self.seed_of(check))
            contexts.append(recording(self._new_run(check, {})))
        return Running(self.seed_of(check), contexts, slow=check.slow)

    def execute(self, check: Check, fixtures: dict[str, Any], *, ahead: bool = False) -> None:
        """Runs a check's body, on all of its inputs if it is a drawn one; where it fails, also on simpler inputs.

        `ahead` has the first questions of all runs asked at once.
        """
        place = self.subject.untouched(self.course.exercises[check.exercise])
        if place:
            # what a scenario imports and sets up before it comes upon the stub takes longer than all the rest
            raise StubReached(place)
        if not check.drawn:
            check.function(**fixtures)
            return
        seed = self.seed_of(check)

        def run(given: dict[str, Any], answer: Callable[[], Any] | None = None) -> None:
            seed_everything(seed)
            # the first question has been answered from this seed: what a second draws must differ from what it drew
            self.subject.seed(seed if answer is None else seed + 1)
            taken = copied(given)
            provided = {**fixtures, "beside": _answered(answer, fixtures["beside"])} if answer else fixtures
            record = self._new_run(check, given)
            with recording(record):
                try:
                    check.inner(**provided, **taken)
                    _expect_untouched(taken, given)
                except NotImplementedError as error:
                    if self.subject.raised_by_student(error):
                        raise StubReached(self.subject.explain(error)) from None
                    raise
                except Exception:
                    self._failed[check.name] = record
                    raise

        known = self.inputs.get(check.name)
        answers = None
        if ahead:
            known = known or self.drawn(check, questions=True)
            answers = self._answers(check, known, seed)
            if answers and known.right and known.right == answers.identity():
                # bit for bit those of the reference, on which the body has been run and asked nothing else
                return
        requests = self.subject.requests

        def fails(number: int, one: Input) -> Exception | None:
            """What a run on one of the inputs raises, if anything."""
            try:
                run(one.given, answers.each[number] if answers else None)
            except UnsatisfiedAssumption:
                pass
            except Exception as failure:
                return failure
            return None

        inputs: Iterable[Input] = known.inputs if known else draw(check, seed)
        for number, found in enumerate(inputs):
            failure = fails(number, found)
            if failure is None:
                continue
            if known:
                simpler = sorted((one.size, place) for place, one in enumerate(known.inputs) if place > number)
                places = (place for size, place in simpler if size < found.size)
                found = next((known.inputs[place] for place in places if fails(place, known.inputs[place])), found)
            if self.subject.answers_ahead and check.exercise in self._simplified:
                # the search takes longer than all the rest, and whoever is told of one failure begins with that
                run(found.given)
            else:
                self._simplified.add(check.exercise)
                simplify(check, found, run)
            raise FlakyFailure("a check that failed has passed", [failure]) from None
        if answers and self.is_reference and requests == self.subject.requests:
            self.right[check.name] = answers.identity()

    def _answers(self, check: Check, drawn: Drawn, seed: int) -> Answers | None:
        """What comes of the first question of each run, asked all at once; None where a run asks something else."""
        if drawn.questions is None:
            return None
        exercise = self.course.exercises[check.exercise]
        try:
            return self.subject.ahead(exercise, self._passed_prerequisites(exercise), drawn.questions, seed)
        except SubjectDied as death:
            raise _DiedAhead from death

    def _seconds(self, check: Check) -> float:
        limits = self.course.limits
        return (limits.slow_check_seconds if check.slow else limits.check_seconds) if self.seconds else 0.0

    def settle(self, check: Check, error: BaseException | None) -> Verdict:
        """Decides and records the verdict of a check from how its run ended."""
        exercise = self.course.exercises[check.exercise]
        verdict, message, details, bug = self._decide(check, error)
        fault = ""
        if check.hidden:
            fault = message if verdict == KIT_ERROR else ""
            # inputs and tracebacks of a hidden check would tell what it does
            message, details, bug = check.title, "", None
        record = Verdict(
            unit=check.unit,
            exercise=check.exercise,
            check=check.name,
            verdict=verdict,
            message=_readable(message, MESSAGE_CHARACTERS),
            bug=bug,
            points=check.share if verdict == PASSED else 0.0,
            max_points=check.share,
            details=_readable(details, DETAILS_CHARACTERS),
            borrowed=self.subject.borrowed(exercise, self._passed_prerequisites(exercise)),
            seed=self.seed,
            hidden=check.hidden,
            fault=_readable(fault, MESSAGE_CHARACTERS),
        )
        self.verdicts[check.name] = record
        return record

    def seed_of(self, check: Check) -> int:
        """The seed of one check: it does not depend on which other checks run."""
        digest = hashlib.sha256(f"{self.seed}/{check.unit}/{check.name}".encode()).digest()
        return int.from_bytes(digest[:4], "big") >> 1

    def close(self) -> None:
        self.subject.close()
        if self.reference:
            self.reference.close()

    # -- inside

    def _passed_prerequisites(self, exercise: Exercise) -> list[str]:
        return [name for name in self.subject.builds_on(exercise) if self.is_reference or self.passed(name)]

    def _waiting(self, exercise: Exercise) -> list[str]:
        """The prerequisites that an exercise must wait for: it takes own pieces only, or nothing can stand in."""
        if self.is_reference or (self.reference is not None and not exercise.own_pieces):
            return []
        return [name for name in self.subject.builds_on(exercise) if not self.passed(name)]

    def _reach(self, check: Check, subject: Subject) -> Any:
        exercise = self.course.exercises[check.exercise]
        try:
            return subject.exercise(exercise, self._passed_prerequisites(exercise))
        except SubjectError as error:
            if not error.started:
                raise NotStarted(str(error)) from None
            raise

    def _beside(self, check: Check, subject: Subject) -> Callable[..., Any]:
        exercise = self.course.exercises[check.exercise]
        return subject.beside(exercise, self._passed_prerequisites(exercise))

    def _garments(self, check: Check) -> Any:
        if self.garments is None:
            raise KitFailure("no data for the capstone was given to this run")
        try:
            return self.garments()
        except Exception as error:
            # whatever is wrong with the data, the code under test has no part in it
            raise KitFailure(str(error) or type(error).__name__) from error

    def _new_run(self, check: Check, given: dict[str, Any]) -> Run:
        """A record for the next run of a check's body, which is given copies; the latest one is kept."""
        self.draws[check.name] += 1
        self._runs[check.name] = Run(given)
        return self._runs[check.name]

    def _decide(self, check: Check, error: BaseException | None) -> tuple[str, str, str, str | None]:
        """Verdict, message, details and the bug's name from the exception that ended a check, if one did."""
        unsteady = None
        if isinstance(error, FlakyFailure):
            error = error.exceptions[0]
            self._runs[check.name] = self._failed[check.name]
            unsteady = ("again", UNSTEADY)
        if error is None:
            return PASSED, check.sentence, "", None
        if isinstance(error, NotStarted | StubReached):
            return NOT_STARTED, "not started", str(error), None
        if isinstance(error, NotImplementedError) and self.subject.raised_by_student(error):
            return NOT_STARTED, "not started", self.subject.explain(error), None
        if isinstance(error, Blocked):
            return BLOCKED, str(error), "", None
        if isinstance(error, KitFailure):
            return KIT_ERROR, f"this check could not be run: {error}", "", None
        if isinstance(error, SubjectError):
            return WRONG, str(error), "", None
        replay = self._replay_line(check)
        given = self._given_lines(check, error.call if isinstance(error, Mismatch) else "")
        lesson = ("remember", check.lesson) if check.lesson else None
        if isinstance(error, TimeExpired):
            self._expired[check.exercise] += 1
            late = f"did not finish within {error.args[0]:g} s; is there a loop that never ends?"
            return WRONG, f"{check.sentence} {check.exercise} {late}", _lines(given, ("stopped", late), replay), None
        if isinstance(error, SubjectDied):
            return WRONG, f"{check.sentence} The code {error}.", _lines(given, ("stopped", str(error)), replay), None
        if isinstance(error, RuntimeError) and getattr(error, "kind", type(error).__name__) == Delegated.__name__:
            return DELEGATED, str(error), _lines(given, ("called", self.subject.explain(error)), replay), None
        if isinstance(error, HypothesisException) or self._reference_fails_too(check, error):
            whose = "" if check.hidden else " of the kit"
            what = f"this check{whose} failed by itself ({type(error).__name__}: {error})"
            return KIT_ERROR, what, _lines(given, ("please", "report it; your code is not at fault"), replay), None
        found, run = None, self._runs.get(check.name)
        first = None if isinstance(error, Mismatch) else self._first_raised(check, error)
        # what comes of an error tells no mistake, unless the code raises it by a statement: then it is its own word
        tells = first is None or self.subject.raised_by_student(error)
        if self.diagnoses and run and tells and not (check.slow or check.hidden):
            found = self.diagnoses.of(check, run)
        if isinstance(error, Mismatch):
            message = f"{check.sentence} {error}"
            # some scenarios return what was raised, to look at what is left afterwards
            meant = meaning_of(error.got) if isinstance(error.got, str) else None
            seen = [("called", error.call), given, *_evidence(error)]
        else:
            raised = self.subject.explain(error)
            message = f"{check.sentence} It raised {raised.splitlines()[-1]}"
            meant = meaning_of(raised)
            seen = [given, ("raised", raised)]
            if first is not None:
                cause = self.subject.explain(first)
                message = f"{check.sentence} It raised {cause.splitlines()[-1]}, then {raised.splitlines()[-1]}"
                meant = meaning_of(cause) or meant
                seen = [given, ("raised", cause), ("then", raised)]
        if found:
            message, meant = f"{message} {found.sentence}", found.sentence
        likely = ("likely", meant) if meant else None
        hint = self._next_hint(check.exercise) if found else None
        details = _lines(*seen, unsteady, likely, lesson, hint, replay)
        return WRONG, message, details, found.bug.name if found else None

    def _first_raised(self, check: Check, error: BaseException) -> BaseException | None:
        """The earliest exception of the student's code, if `error` was raised while that was dealt with.

        Not what a suite has raised on purpose, nor what this program was dealing with.
        """
        ours = self.reference.files if self.reference else {}
        suite = check.inner.__code__.co_filename
        for one in earlier(error):
            files = [frame.filename for frame in self.subject.frames(one)]
            told = [file for file in files if file in self.subject.files or file == suite]
            if files and (files[0] in self.subject.files or files[0] in ours) and told and told[-1] != suite:
                return one
        return None

    def _next_hint(self, name: str) -> tuple[str, str] | None:
        """The hint that `goodinit hint` would give next; none once all have been given."""
        left = self.course.exercises[name].hints[self.hints.get(name, 0) :]
        return ("hint", left[0]) if left else None

    def _given_lines(self, check: Check, called: str = "") -> tuple[str, str] | None:
        """The values drawn for a check, but for those that the call says: it may have been made with others."""
        run = self._runs.get(check.name)
        drawn = run.drawn if run else {}
        told = {name for name in drawn if re.search(rf"\b{name}(=| \[)", called)}
        lines = [f"{name} = {show(value)}{_layout(value)}" for name, value in drawn.items() if name not in told]
        return ("with", "\n".join(lines)) if lines else None

    @property
    def again(self) -> str:
        """The command that draws the same numbers again, for the same implementation."""
        options = {"--impl": self.impl, "--data": self.data, "--seed": str(self.seed)}
        return shlex.join(["pytest", *(word for option, value in options.items() if value for word in (option, value))])

    def _replay_line(self, check: Check) -> tuple[str, str]:
        return "replay", f"{self.again}{' --slow' if check.slow else ''} -k {check.name}"

    def _reference_fails_too(self, check: Check, error: BaseException) -> bool:
        """Whether the reference fails on the very inputs on which the student's code failed: then it is our fault."""
        run = self._runs.get(check.name)
        if check.drawn and (not run or run.finished):
            # the inputs could not even be drawn, unless the student's code reaches for what runs it
            return not self.subject.student_frames(error)
        if self.reference is None or check.slow:
            return False
        try:
            self.replay(check, self.reference, run.drawn if run else {})
        except (Exception, SystemExit, TimeExpired):
            return True
        return False

    def replay(self, check: Check, subject: Subject, drawn: dict[str, Any]) -> None:
        """Runs a check's body once, on inputs that are known, against any Subject."""
        with preserved_state():
            self.replay_ours(check, subject, drawn)

    def replay_ours(self, check: Check, subject: Subject, drawn: dict[str, Any]) -> None:
        """The same for code of ours, many times in a row: whoever asks puts back what it may change after the last."""
        exercise = self.course.exercises[check.exercise]
        fixtures: dict[str, Any] = {}
        for name in check.fixtures:
            if name == check.exercise:
                fixtures[name] = subject.exercise(exercise)
            elif name == "beside":
                fixtures[name] = self._beside(check, subject)
            else:
                fixtures[name] = self._garments(check)
        sink, seconds = Sink(), time_limit(self._seconds(check))
        # a bug that switches gradients off must not do so for those that are tried after it
        with redirect_stdout(sink), redirect_stderr(sink), seconds, torch.enable_grad():
            begin(self.seed_of(check), slow=check.slow)
            check.inner(**fixtures, **copied(drawn))

    def progress(self, exercise: str) -> str:
        """The verdict of an exercise so far."""
        return exercise_verdict(v for v in self.verdicts.values() if v.exercise == exercise)


def _answered(answer: Callable[[], Any], beside: Callable[..., Any]) -> Callable[..., Any]:
    """Runs scenarios as `beside` does; the first has been run, and `answer` says with what result."""
    answers = [answer]

    def again(scenario: Callable[..., Any], /, **values: Any) -> Any:
        return answers.pop()() if answers else beside(scenario, **values)

    return again


def _readable(text: str, characters: int) -> str:
    text = clean(text)
    return text if len(text) <= characters else f"{text[:characters]} ..."


def _expect_untouched(given: dict[str, Any], before: dict[str, Any]) -> None:
    """No exercise may change what it is handed, also where a check computes what it expects from it afterwards."""
    for name, value in given.items():
        pairs = zip(tensors_in(value), tensors_in(before[name]), strict=True)
        if not all(same_tensor(one, other) for one, other in pairs):
            call = f"{name} after the call: an exercise leaves its inputs as they are;"
            raise Mismatch(call, value, before[name])


def _layout(value: Any) -> str:
    """How the tensors in a value lie in memory, where that is not as one would write them down."""
    odd = [f"strides {tensor.stride()}" for tensor in tensors_in(value) if not tensor.is_contiguous()]
    return f"  # not contiguous: {', '.join(odd)}" if odd else ""


def _evidence(error: Mismatch) -> list[tuple[str, str]]:
    """What came back beside what was expected."""
    if error.problem:
        return [("problem", error.problem)]
    return list(zip(("came back", "expected"), apart(error.got, error.want), strict=True))


def _lines(*pairs: tuple[str, str] | None) -> str:
    """Labelled lines, a value below another indented to its column."""
    width = 13
    text = []
    for pair in pairs:
        if pair:
            label, value = pair
            first, *rest = value.splitlines() or [""]
            text.append(f"{label:<{width}}{first}")
            text += [" " * width + line for line in rest]
    return "\n".join(text)
