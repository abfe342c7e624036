"""What one run of pytest judges, and what it found: only where there is a course, and so only there torch is loaded."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from grading.startup import importing

with importing():
    from grading.course import Course, CourseError, hints_given, load
    from grading.judge import FIXTURES, Check, Judge, SuiteError, fresh_seed
    from grading.subject import ImplError, impl_path, read_sources, reviewed
    from grading.verdict import BLOCKED, NOT_STARTED, PASSED, Verdict
    from grading.verdict.render import render, summary

KEY = "goodinit"
STASH = pytest.StashKey["Session"]()
CHECK = pytest.StashKey[Check]()
OUTPUT_LINES = 12


def begin(config: pytest.Config) -> None:
    """Makes the run of pytest one that judges the course in its root folder."""
    if config.option.seed is None:
        config.option.seed = fresh_seed()
    try:
        course = load(config.rootpath)
    except CourseError as error:
        raise pytest.UsageError(str(error)) from None
    # where CI is set, as on GitHub, pytest would print each verdict a second time, whole, below the points
    config.option.force_short_summary = True
    session = Session(config, course)
    if config.option.impl is not None:
        try:
            read_sources(course, session.impl)
        except ImplError as error:
            raise pytest.UsageError(str(error)) from None
    config.stash[STASH] = session
    config.pluginmanager.register(_fixtures(course), "goodinit-fixtures")
    config.pluginmanager.register(session, "goodinit-session")


def _fixtures(course: Course) -> ModuleType:
    """A module that holds one fixture per exercise, named like it, and those that scenarios and the capstone use."""

    def provide(name: str) -> Any:
        @pytest.fixture(name=name)
        def fixture(request: pytest.FixtureRequest) -> Any:
            check = request.node.stash.get(CHECK, None)
            if check is None:
                pytest.fail(f"the fixture {name!r} is for the suites in tests/", pytrace=False)
            return request.config.stash[STASH].judge.fixture(check, name)

        return fixture

    holder = ModuleType("goodinit_fixtures")
    for name in (*course.exercises, *FIXTURES):
        setattr(holder, f"provide_{name}", provide(name))
    return holder


class Session:
    """What one pytest run judges, and what it found."""

    def __init__(self, config: pytest.Config, course: Course) -> None:
        self.config = config
        self.course = course
        self.suites = {course.suite_file(unit).resolve(): unit for unit in course.units}
        self.found: list[Verdict] = []
        self.left_out = 0
        self._judge: Judge | None = None

    @property
    def judge(self) -> Judge:
        if self._judge is None:
            from grading.data import garments

            debugging = self.config.option.usepdb or self.config.option.trace
            self._judge = Judge(
                self.course,
                read_sources(self.course, self.impl),
                read_sources(self.course, self.course.root / "solutions"),
                self.config.option.seed,
                garments=lambda: garments(self.config.option.data),
                seconds=not debugging,
                hints=hints_given(self.course),
                impl=self.config.option.impl,
                data=self.config.option.data,
            )
        return self._judge

    @property
    def impl(self) -> Path:
        """The path whose code is judged: a word like `solutions` is a folder here, or one of the course's."""
        return impl_path(self.course, self.config.option.impl, self.config.invocation_params.dir)

    def pytest_report_header(self) -> str | None:
        return f"goodinit: judging {self.impl}, seed {self.config.option.seed}"

    @pytest.hookimpl(wrapper=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Iterator[None]:
        try:
            for item in items:
                unit = self.suites.get(item.path.resolve())
                if unit and isinstance(item, pytest.Function):
                    check = self.judge.check_named(unit.id, item.name)
                    item.stash[CHECK] = check
                    # pytest would parse the suite anew for each failure, and show what the verdict replaces
                    item.repr_failure = _nothing  # type: ignore[method-assign]
                    item.extra_keyword_matches.update((check.exercise, check.unit))
        except (SuiteError, ImplError) as error:
            raise pytest.UsageError(str(error)) from None
        order = list(self.course.exercises)
        places = {item: order.index(item.stash[CHECK].exercise) if CHECK in item.stash else -1 for item in items}
        items.sort(key=lambda item: places[item])
        # only of those that -k and the like have chosen any are left out
        yield
        self._leave_out_slow(config, items)

    def _leave_out_slow(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        asked = config.option.slow or config.option.markexpr or any("::" in str(arg) for arg in config.args)
        slow = [item for item in items if CHECK in item.stash and item.stash[CHECK].slow]
        if slow and not asked:
            items[:] = [item for item in items if item not in slow]
            config.hook.pytest_deselected(items=slow)
            self.left_out = len(slow)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        check = item.stash.get(CHECK, None)
        if check is None:
            return (yield)
        with self.judge.running(check):
            return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        check = pyfuncitem.stash.get(CHECK, None)
        if check is None:
            return None
        self.judge.execute(check, {name: pyfuncitem.funcargs[name] for name in check.fixtures})
        return True

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        check = item.stash.get(CHECK, None)
        if check is not None and (call.when == "call" or (call.when == "setup" and call.excinfo)):
            error = call.excinfo.value if call.excinfo else None
            if error is None or not isinstance(error, pytest.exit.Exception | pytest.skip.Exception):
                verdict = self.judge.settle(check, error)
                report.user_properties.append((KEY, verdict.to_dict()))
                self._dress(report, item, verdict)
        return report

    def _dress(self, report: Any, item: pytest.Item, verdict: Verdict) -> None:
        """Makes pytest's report say what the verdict says, in the words of the exercise."""
        report.sections = [(title, _last_lines(text)) for title, text in report.sections]
        if verdict.verdict == PASSED:
            report.outcome, report.longrepr = "passed", None
        elif verdict.verdict in (NOT_STARTED, BLOCKED):
            report.outcome = "skipped"
            path, line, _ = item.location
            report.longrepr = (path, (line or 0) + 1, f"{verdict.exercise}: {verdict.message}")
        else:
            report.outcome = "failed"
            report.longrepr = render(verdict)

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        verdict = _verdict_of(report)
        if verdict is None or verdict.verdict == PASSED:
            return None
        if verdict.verdict in (NOT_STARTED, BLOCKED):
            letter = "-" if verdict.verdict == NOT_STARTED else "b"
            return verdict.verdict, letter, (verdict.verdict.upper(), {"yellow": True})
        return "failed", "F", (verdict.verdict.upper(), {"red": True})

    def pytest_sessionfinish(self) -> None:
        # of pytest-xdist's workers, each of which collects all
        output = getattr(self.config, "workeroutput", None)
        if output is not None:
            output[KEY] = self.left_out

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        self.left_out = max(self.left_out, getattr(node, "workeroutput", {}).get(KEY, 0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        verdict = _verdict_of(report)
        if verdict is not None:
            self.found.append(verdict)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not (self.found or self.left_out):
            return
        terminalreporter.section("goodinit")
        if self.found:
            self._write_points(terminalreporter)
        if self.left_out:
            terminalreporter.write_line(f"{self.left_out} slow check(s) left out; `pytest --slow` runs them.")
        if self.found:
            terminalreporter.write_line(f"Same numbers again: {self.judge.again}")

    def _write_points(self, terminalreporter: Any) -> None:
        where = {name: self.judge.place(exercise) for name, exercise in self.course.exercises.items()}
        reviews = reviewed(self.course, (verdict.exercise for verdict in self.found), self.judge.subject.sources)
        writer = terminalreporter._tw
        text = summary(self.course, self.found, where, reviews, width=writer.fullwidth, color=writer.hasmarkup)
        terminalreporter.write_line(text.rstrip())

    def pytest_unconfigure(self) -> None:
        if self._judge is not None:
            self._judge.close()


def _verdict_of(report: Any) -> Verdict | None:
    properties = dict(getattr(report, "user_properties", ()))
    return Verdict.from_dict(properties[KEY]) if KEY in properties else None


def _last_lines(text: str) -> str:
    """The end of what a check printed: ten thousand lines hide the one that matters."""
    lines = [line[:200] for line in text.splitlines()]
    if len(lines) <= OUTPUT_LINES:
        return "\n".join(lines)
    left_out = f"({len(lines) - OUTPUT_LINES} lines left out)"
    return "\n".join([left_out, *lines[-OUTPUT_LINES:]])


def _nothing(excinfo: object) -> str:
    return ""
