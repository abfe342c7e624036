"""Says on standard error how far a run is and how long it may still take."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm

LINES = 10


class Progress:
    """A bar on a terminal; elsewhere, where nobody watches it move, a line for every tenth."""

    def __init__(self, total: int) -> None:
        self.total, self.done, self.lines = total, 0, 0
        self.began = time.monotonic()
        self.bar: Any = tqdm(total=total, unit=" submissions", file=sys.stderr) if sys.stderr.isatty() else None

    def step(self) -> None:
        self.done += 1
        if self.bar is not None:
            self.bar.update()
        elif self.done * LINES // self.total > self.lines:
            self.lines = self.done * LINES // self.total
            seconds = (time.monotonic() - self.began) / self.done * (self.total - self.done)
            left = f", about {max(1, round(seconds / 60))} min left" if self.done < self.total else ""
            print(f"goodinit: {self.done} of {self.total} graded{left}", file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar is not None:
            self.bar.close()
