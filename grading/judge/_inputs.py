"""Draws the inputs of a check from its strategies, and looks for the simplest of those on which it fails.

Hypothesis's engine costs several times what a check does with small tensors: it looks for novel inputs and times each
step. The strategies alone are quick, and the choices that they make are all that the engine needs to simplify an input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import hypothesis
import torch
from hypothesis import HealthCheck, Phase
from hypothesis.control import BuildContext
from hypothesis.database import InMemoryExampleDatabase, choices_to_bytes
from hypothesis.errors import StopTest, Unsatisfiable, UnsatisfiedAssumption
from hypothesis.internal.conjecture.choice import ChoiceTemplate
from hypothesis.internal.conjecture.data import ConjectureData
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider
from hypothesis.internal.constants_ast import Constants
from hypothesis.strategies import SearchStrategy
from hypothesis.strategies._internal.lazy import unwrap_strategies

from grading.subject import Question, Questions, copied, tensors_in

from ._checks import Check

EXAMPLES = 25
# how many inputs are tried for a simpler one on which a check fails: a count, for a seed must give the same one again
SHRINK_RUNS = 100
# how many inputs in a row that a filter refuses, or that have come before, tell that there are no others
VAIN_DRAWS = 50

# inputs follow from the seed alone: no database of earlier failures, no explicit deadline on noisy machines
PROFILE = "goodinit"
hypothesis.settings.register_profile(
    PROFILE,
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    print_blob=False,
    report_multiple_bugs=False,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
    suppress_health_check=list(HealthCheck),
)
hypothesis.settings.load_profile(PROFILE)


class _FromTheSeedAlone(HypothesisProvider):
    """Draws as Hypothesis does, but takes no constants from whatever modules happen to be loaded.

    Those would make the numbers that a seed gives depend on which checks ran, or whose code was loaded, before.
    """

    _local_constants = Constants()


class _Choices(ConjectureData):
    """Draws without keeping which choices belong together, which takes longer than to choose.

    Who simplifies an input makes its choices again, in data of their own that do keep it.
    """

    def draw(self, strategy: SearchStrategy[Any], label: int | None = None, observe_as: str | None = None) -> Any:
        strategy.validate()
        if strategy.is_empty:
            self.mark_invalid(f"{strategy!r} has no values")
        return unwrap_strategies(strategy).do_draw(self)  # type: ignore[no-untyped-call]

    def start_span(self, label: int) -> None:
        self.depth += 1

    def stop_span(self, *, discard: bool = False) -> None:
        self.depth -= 1


# the engine that simplifies an input draws from it, too
AVAILABLE_PROVIDERS["hypothesis"] = _FromTheSeedAlone


def is_costly(check: Check) -> bool:
    """Whether a drawn check asks for fewer inputs than usual, for each takes it long."""
    return check.count < EXAMPLES


@dataclass(frozen=True)
class Input:
    """The values that one run of a check is given, by name, and the choices by which strategies made them, if any."""

    given: dict[str, Any]
    choices: tuple[Any, ...] | None

    @property
    def numbers(self) -> int:
        """How many numbers its tensors have."""
        return sum(tensor.numel() for tensor in tensors_in(self.given))

    @property
    def size(self) -> tuple[int, int]:
        """Smaller for a simpler one."""
        return len(self.choices or ()), self.numbers


@dataclass(frozen=True)
class Drawn:
    """The inputs of a check, and what its body asks first with each of them, where it does so with all.

    `right` is what answers share with which the check is known to pass without another question.
    """

    inputs: list[Input]
    questions: Questions | None = None
    right: bytes | None = None


class _Asked(BaseException):
    """A check's body has come to its first question. Not an Exception: no body may catch it."""


def first_question(check: Check, given: dict[str, Any]) -> Question | None:
    """The scenario that a check's body sends first with these values; None where it asks something else before."""

    def ask(scenario: Callable[..., Any], /, **values: Any) -> None:
        raise _Asked((scenario, values))

    # nothing that can be asked: whatever a body does with it fails
    fixtures = {name: ask if name == "beside" else None for name in check.fixtures}
    try:
        check.inner(**fixtures, **copied(given))
    except _Asked as asked:
        question: Question = asked.args[0]
        return question
    except Exception:
        return None
    return None


def draw(check: Check, seed: int, count: int | None = None) -> Iterator[Input]:
    """The inputs that a check names, then as many different ones as it asks for: the simplest, the others at random.

    With `count` as many, and none that is named. Raises `hypothesis.errors.Unsatisfiable` where there is none.
    """
    function: Any = check.function
    if count is None:
        yield from (Input(given, None) for given in check.examples)
        count = check.count
    random = Random(seed)
    prefix: tuple[Any, ...] = (ChoiceTemplate("simplest", count=None),)
    seen: set[tuple[Any, ...]] = set()
    vain = 0
    while len(seen) < count and vain < VAIN_DRAWS:
        data = _Choices(random=random, provider=_FromTheSeedAlone, prefix=prefix)
        prefix = ()
        try:
            with BuildContext(data, wrapped_test=function):
                given = {name: data.draw(strategy) for name, strategy in check.strategies.items()}
        except (StopTest, UnsatisfiedAssumption):
            vain += 1
            continue
        choices = tuple(data.choices)
        if choices in seen:
            vain += 1
            continue
        vain = 0
        seen.add(choices)
        yield Input(given, choices)
    if not seen:
        raise Unsatisfiable("no input could be drawn")


def simplify(check: Check, found: Input, run: Callable[[dict[str, Any]], None]) -> None:
    """Calls `run` with an input on which it fails, then with simpler ones; the last is the simplest on which it fails.

    Raises what the last call raises. Returns where `run` does not fail again on the input found; raises
    `hypothesis.errors.FlakyFailure` where it does not on a simpler one.
    """
    function: Any = check.function
    if found.choices is None or Phase.shrink not in function._hypothesis_internal_use_settings.phases:
        run(found.given)
        return
    shrinking = _Shrinking()

    def again(**given: Any) -> None:
        if shrinking.over(given):
            return
        try:
            run(given)
        except Exception:
            shrinking.failed(given)
            raise

    database, key = InMemoryExampleDatabase(), b"found"
    # what lies in the second corpus of a key counts as not yet simplified
    database.save(key + b".secondary", choices_to_bytes(found.choices))
    simpler: Any = hypothesis.given(**check.strategies)(again)
    simpler._hypothesis_internal_database_key = key
    # in this order: a seed takes away the database
    hypothesis.seed(0)(simpler)
    hypothesis.settings(database=database, phases=(Phase.reuse, Phase.shrink))(simpler)()


class _Shrinking:
    """Ends the search for a simpler failing input after a while: then only inputs known to fail still fail."""

    def __init__(self) -> None:
        self.left: int | None = None
        self.known: set[str] = set()

    def failed(self, given: dict[str, Any]) -> None:
        if self.left is None:
            self.left = SHRINK_RUNS
        self.known.add(identity(given))

    def over(self, given: dict[str, Any]) -> bool:
        """Whether the search has ended, and `given` is not among the inputs that it may return to."""
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0 and identity(given) not in self.known


def identity(value: Any) -> str:
    """A text that equal drawn values share; pickles of equal tensors differ."""
    if isinstance(value, torch.Tensor):
        return f"{value.dtype}{tuple(value.shape)}{value.tolist()}"
    if isinstance(value, list | tuple):
        return f"({','.join(map(identity, value))})"
    if isinstance(value, dict):
        return ",".join(f"{name}={identity(item)}" for name, item in value.items())
    return repr(value)
