"""Where in a TOML file a table or a key stands; tomllib forgets it, and an error message needs it."""

from __future__ import annotations

import re

HEADER = re.compile(r"^\s*\[\[?\s*([\w.]+)\s*\]\]?")
KEY = re.compile(r"^\s*([\w\"'-]+)\s*=")


class Places:
    """Line numbers by place: `("unit", 2, "exercise", 0)` is the first exercise of the third unit."""

    def __init__(self, text: str) -> None:
        self._tables: dict[tuple[str | int, ...], int] = {(): 1}
        self._keys: dict[tuple[tuple[str | int, ...], str], int] = {}
        unit, exercise = -1, -1
        place: tuple[str | int, ...] = ()
        for number, line in enumerate(text.splitlines(), start=1):
            if header := HEADER.match(line):
                if header[1] == "unit":
                    unit, exercise = unit + 1, -1
                    place = ("unit", unit)
                elif header[1] == "unit.exercise":
                    exercise += 1
                    place = ("unit", unit, "exercise", exercise)
                else:
                    place = tuple(header[1].split("."))
                self._tables[place] = number
            elif key := KEY.match(line):
                self._keys.setdefault((place, key[1].strip("\"'")), number)

    def line(self, place: tuple[str | int, ...], key: str | None = None) -> int:
        """The line of `key` in the table at `place`, or of the table itself when the key is not found."""
        if place and place not in self._tables:
            return self.line(place[:-1], str(place[-1]))  # a table in braces is where its key is
        fallback = self._tables.get(place, 1)
        return fallback if key is None else self._keys.get((place, key), self._tables.get((*place, key), fallback))
