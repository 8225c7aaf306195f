"""A worker's heartbeat: a file that it touches regularly, so that a hung worker can be distinguished from a busy one.

Invariant: a thread of the worker touches the file, so a worker with long work isn't taken for hung; a process that is
stopped, or whose interpreter is stuck, is.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path

FILE = "worker.alive"
_EVERY_S = 2.0
_HUNG_S = 90.0


def show_life(path: Path) -> None:
    """Touch the file every two seconds as long as this process runs."""

    def touch() -> None:
        while True:
            path.touch()
            time.sleep(_EVERY_S)

    threading.Thread(target=touch, daemon=True, name="sign of life").start()


def is_hung(path: Path, *, since: float, hung_s: float = _HUNG_S) -> bool:
    """Whether a worker that was started at `since` (Unix time) hasn't touched its file for too long."""
    try:
        last_sign = path.stat().st_mtime
    except FileNotFoundError:
        last_sign = 0.0
    return time.time() - max(last_sign, since) > hung_s
