"""A worker's sign of life: a file that it touches while it can, so that a hung one is told from a busy one.

Invariant: a thread of the worker touches the file, so long work doesn't look like death; a process that is stopped, or
whose interpreter is stuck, does.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

FILE = "worker.alive"
_EVERY_S = 2.0
_HUNG_S = 90.0


def show_life(path: Path) -> None:
    """Touch the file every two seconds for as long as this process can."""

    def touch() -> None:
        while True:
            path.touch()
            time.sleep(_EVERY_S)

    threading.Thread(target=touch, daemon=True, name="sign of life").start()


def is_hung(path: Path, *, since: float, hung_s: float = _HUNG_S) -> bool:
    """Whether a worker that was started at `since` (Unix time) has shown no life for too long."""
    try:
        seen = path.stat().st_mtime
    except FileNotFoundError:
        seen = 0.0
    return time.time() - max(seen, since) > hung_s
