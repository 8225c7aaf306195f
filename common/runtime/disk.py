"""Full disks, told as what they are.

Invariant: only what the operating system says about space becomes this error; any other fault stays itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from common.errors import MachineError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_RESERVE, _RESERVE_BYTES = ".reserve", 1 << 14


def full_disk(fault: BaseException, whose: str) -> MachineError | None:
    """The error to tell where a disk is full; None for other faults.

    Parameters
    ----------
    whose : party whose disk it is, such as "the coordinator".
    """
    if not isinstance(fault, OSError) or fault.errno not in _FULL:
        return None
    name = Path(str(fault.filename)).name if fault.filename else "a file"
    return MachineError(
        f"the disk of {whose} is full", where=name, why=os.strerror(fault.errno),
        next_step="make room; what was written before is whole, so resume the run then",
    )  # fmt: skip


def set_aside(folder: Path) -> None:
    """Hold a little room in a folder, so that a failure can still be written down when the disk is full."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _RESERVE
    if not path.exists() or path.stat().st_size < _RESERVE_BYTES:
        with contextlib.suppress(OSError):
            path.write_bytes(bytes(_RESERVE_BYTES))


def use_what_was_set_aside(folder: Path) -> None:
    """Give that room free."""
    (folder / _RESERVE).unlink(missing_ok=True)
