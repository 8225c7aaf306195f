"""Errors of a full disk, turned into one clear error.

Invariant: only the operating system's errors about space are turned into it; any other fault stays as it is.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from common.errors import MachineError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RESERVE, _RESERVE_BYTES = ".reserve", 1 << 14


def full_disk(fault: BaseException, party: str) -> MachineError | None:
    """The error to report if the fault is a full disk; None for other faults.

    Parameters
    ----------
    party : the owner of the disk, such as "the coordinator".
    """
    if not isinstance(fault, OSError) or fault.errno not in _FULL:
        return None
    name = Path(str(fault.filename)).name if fault.filename else "a file"
    return MachineError(
        f"the disk of {party} is full", where=name, why=os.strerror(fault.errno),
        next_step="make room; what was written before is whole, so resume the run then",
    )  # fmt: skip


def set_aside(folder: Path) -> None:
    """Reserve a little space in a folder, so that a failure can still be written down when the disk is full."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _RESERVE
    if not path.exists() or path.stat().st_size < _RESERVE_BYTES:
        with contextlib.suppress(OSError):
            path.write_bytes(bytes(_RESERVE_BYTES))


def use_what_was_set_aside(folder: Path) -> None:
    """Free the reserved space."""
    (folder / _RESERVE).unlink(missing_ok=True)
