"""How to have the numbers of a run drawn once more."""

from __future__ import annotations

import argparse
import itertools
import shlex


def again(args: argparse.Namespace, seed: int) -> str:
    """The command that was given, with the seed that was drawn for it."""
    words = [
        word
        for before, word in itertools.pairwise(["", *args.words])
        if before != "--seed" and word.partition("=")[0] != "--seed"
    ]
    return f"Same numbers again: goodinit {shlex.join(words)} --seed {seed}"
