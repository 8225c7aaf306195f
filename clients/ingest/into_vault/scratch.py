"""Temporary storage for rows while a table larger than memory is sorted, encrypted under a key that stays in memory.

Invariant: the file has no name (`O_TMPFILE`), so nothing is left if the process is killed. Each block is encrypted by
AES-256-GCM with the process's own random key and a counted nonce, so the disk never holds plaintext.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.errors import MachineError


class Scratch:
    """Encrypted blocks by bucket: written in any order, read back bucket by bucket.

    Parameters
    ----------
    folder : the disk of this folder is used; by default that of the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._cipher = AESGCM(secrets.token_bytes(32))
        self._places: dict[int, list[tuple[int, int, bytes]]] = {}
        self._count = self._end = 0
        try:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115 closed by __exit__
        except OSError as fault:
            raise _no_room(fault) from None

    def put(self, bucket: int, block: bytes) -> None:
        """Encrypt and store a block.

        Raises
        ------
        MachineError : the disk is full, or can't be written.
        """
        nonce = self._count.to_bytes(12, "big")
        sealed = memoryview(self._cipher.encrypt(nonce, block, None))
        self._places.setdefault(bucket, []).append((self._end, len(sealed), nonce))
        self._count += 1
        try:
            while sealed:
                written = os.pwrite(self._file.fileno(), sealed, self._end)
                self._end, sealed = self._end + written, sealed[written:]
        except OSError as fault:
            raise _no_room(fault) from None

    def buckets(self) -> list[int]:
        """All buckets that hold a block, in order."""
        return sorted(self._places)

    def take(self, bucket: int) -> Iterator[bytes]:
        """The blocks of a bucket in the order in which they were stored.

        Raises
        ------
        MachineError : the disk returns other bytes than were written.
        """
        for start, length, nonce in self._places.pop(bucket, []):
            try:
                yield self._cipher.decrypt(nonce, os.pread(self._file.fileno(), length, start), None)
            except (InvalidTag, OSError) as fault:
                raise _no_room(fault) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _no_room(fault: Exception) -> MachineError:
    why = str(fault.strerror) if isinstance(fault, OSError) else "it gave back other bytes than were written"
    return MachineError(
        "rows can't be put aside on the disk", why=why, next_step="make room there, and ingest again"
    )
