"""Mutants that change no behaviour the catalogue speaks of, each with the reason: `line -> changed line`."""

from __future__ import annotations

EQUIVALENT: dict[str, dict[str, str]] = {}
