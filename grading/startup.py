"""Imports that make a great many objects which stay: torch is some hundreds of thousands of them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing() -> Iterator[None]:
    """Imports in this block are not interrupted to look for garbage, and what they make is never looked through again.

    A fifth of what it takes to import torch is such looking, and so is a good part of what it takes to end.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
