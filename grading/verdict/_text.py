"""Takes out of a text whatever would act on a terminal or a reader instead of being read."""

from __future__ import annotations

import re

# whole sequences first, so that no `[31m` is left standing: with parameters, with a string, and the short ones
ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)
# C0 and C1 controls, marks and overrides of the writing direction, line and paragraph separators, lone surrogates
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def number(value: float) -> str:
    """Points as a person writes them."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def clean(text: str) -> str:
    """`text` without terminal escapes, control characters but newline and tab, bidi overrides and lone surrogates."""
    return CONTROLS.sub("", ESCAPES.sub("", text))
