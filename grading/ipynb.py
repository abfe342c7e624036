"""The text of a notebook's file: in any encoding that JSON may have, and without what its cells have shown."""

from __future__ import annotations

import json
import re

# of a file, pictures and all; of the strings and brackets in its outputs; and of what is left of it
MAX_BYTES, MAX_PIECES, MAX_CHARACTERS = 50_000_000, 2_000_000, 4_000_000
AGAIN = "clear its outputs and save it again"
# where outputs begin, and pictures in prose and the state of widgets: inside a string the quotes have backslashes
SHOWN = re.compile(r'"(?:outputs|attachments|widgets)"\s*+:\s*+(?=[\[{])')
# a string, whole or cut off, or a bracket; possessive, so that what somebody has made up is gone through only once
PIECE = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{}]', re.S)


def text_of(data: bytes) -> str:
    """What is to be read of a notebook; raises ValueError with the reason why it is not to be."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES // 1_000_000} MB; {AGAIN}")
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass")
    except UnicodeDecodeError:
        raise ValueError("it is in none of the encodings that a notebook may have; save it again, as UTF-8") from None
    text = _without_outputs(text)
    if len(text) > MAX_CHARACTERS:
        most = MAX_CHARACTERS // 1_000_000
        raise ValueError(f"it is larger than {most} MB even without outputs; {AGAIN}, and take out pictures and data")
    return text


def _without_outputs(text: str) -> str:
    """The same JSON with nothing in the lists and objects that hold outputs; one that is cut off there ends there."""
    kept, start, pieces = [], 0, 0
    while shown := SHOWN.search(text, start):
        depth = 0
        kept.append(text[start : shown.end()])
        for piece in PIECE.finditer(text, shown.end()):
            pieces += 1
            if pieces > MAX_PIECES:
                raise ValueError(f"its outputs have more than {MAX_PIECES // 1_000_000} million parts; {AGAIN}")
            sign = text[piece.start()]
            depth += (sign in "[{") - (sign in "]}")
            if not depth:
                kept.append("[]" if sign == "]" else "{}")
                start = piece.end()
                break
        else:
            return "".join(kept)
    return "".join([*kept, text[start:]])
