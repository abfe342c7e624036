"""What attacks are lured to: planted files and listeners, and how to see that nobody has been there."""

from __future__ import annotations

import select
import socket
from collections.abc import Mapping
from pathlib import Path

Trace = tuple[int, int, bytes]


def traces(folder: Path) -> dict[str, Trace]:
    """Mode, time of change and contents of everything in a folder."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


def arrivals(listeners: Mapping[str, socket.socket]) -> list[str]:
    """The listeners that something has reached since the last call."""
    reached = []
    for name, listener in listeners.items():
        while select.select([listener], [], [], 0)[0]:
            reached.append(name)
            if listener.type == socket.SOCK_DGRAM:
                listener.recv(100)
            else:
                listener.accept()[0].close()
    return reached
