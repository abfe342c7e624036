"""What was being dealt with when an exception was raised: often the mistake, of which that one only comes."""

from __future__ import annotations

# how many are kept, and how many are looked at: a call that tries again in its `except` has one for each time
MOST, LONGEST = 4, 1_000


def earlier(error: BaseException) -> list[BaseException]:
    """The exceptions in whose handling `error` was raised, the earliest first; none beyond a `raise ... from`."""
    found: list[BaseException] = []
    while len(found) < LONGEST and not error.__suppress_context__ and error.__context__ is not None:
        error = error.__context__
        found.append(error)
    return found[::-1][:MOST]
