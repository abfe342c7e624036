"""Says on standard error how far a run is and how long it may still take."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

LINES = 10


class Progress:
    """A bar on a terminal; elsewhere, where nobody watches it move, a line for every tenth.

    Where standard error is closed, nothing is shown.
    """

    def __init__(self, total: int) -> None:
        self.total, self.done, self.lines = total, 0, 0
        self.began = time.monotonic()
        watched = sys.stderr is not None and sys.stderr.isatty()
        self.bar: Any = tqdm(total=total, unit=" submissions", file=sys.stderr) if watched else None

    def step(self) -> None:
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        elif sys.stderr is not None and self.done * LINES // self.total > self.lines:
            self.lines = self.done * LINES // self.total
            seconds = (time.monotonic() - self.began) / self.done * (self.total - self.done)
            left = f", about {max(1, round(seconds / 60))} min left" if self.done < self.total else ""
            print(f"goodinit: {self.done} of {self.total} graded{left}", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
