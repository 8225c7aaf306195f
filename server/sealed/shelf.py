"""Sealed shares between upload and reveal: on the disk, so that the coordinator's memory doesn't grow with the sites.

Invariant: the file has no name and goes with the sum that it belongs to.
"""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Sequence

from common.crypto.cipher import Buffer

Places = list[tuple[int, int]]


class Shelf:
    """Bytes put away, and found again by where they lie."""

    def __init__(self) -> None:
        file = tempfile.TemporaryFile(prefix="hansa-shares-")  # noqa: SIM115 - closed with the shelf
        weakref.finalize(self, file.close)
        self._fd, self._end = file.fileno(), 0

    def put(self, parts: Sequence[Buffer]) -> Places:
        """Put parts away; where each lies."""
        places = []
        for part in parts:
            os.pwrite(self._fd, part, self._end)
            places.append((self._end, len(part)))
            self._end += len(part)
        return places

    def get(self, place: tuple[int, int]) -> bytes:
        """One part."""
        return os.pread(self._fd, place[1], place[0])
