"""File locks (flock) between processes, taken here and nowhere else.

Invariant: the kernel frees a lock when its file is closed or its process ends, however it ends; a file that is left
behind holds nobody up. Whoever took a lock in this process and opens the same file anew waits like any other.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from common.errors import RunError


@contextmanager
def locked(path: Path, flags: int = 0) -> Iterator[int]:
    """Wait for a file's lock and hold it; yields the open file.

    Parameters
    ----------
    path : made where it is missing, for its owner alone.
    flags : how the file is opened, beyond reading and writing (`os.O_APPEND`).
    """
    handle = os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def only_one(path: Path, what: str) -> IO[str]:
    """Hold a lock file until this process ends; the caller keeps what is returned.

    Raises
    ------
    RunError : another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+", encoding="utf-8")
    if not _taken(file):
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise RunError(
            f"{what} runs already", where=path.parent.parent.name, why=f"process {holder or '?'} holds it",
            next_step="use the one that runs, or stop it first",
        )  # fmt: skip
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def is_held(path: Path) -> bool:
    """Whether a process holds the lock of `only_one`."""
    if not path.exists():
        return False
    with path.open("a", encoding="utf-8") as file:
        return not _taken(file)


def _taken(file: IO[str]) -> bool:
    """Take an open file's lock if nobody has it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
