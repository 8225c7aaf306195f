"""One sealed file: AES-256-GCM segments behind a header of RSA-OAEP slots, one per role that may read it.

Invariants: a file is there whole or not at all (a temporary name, fsync, rename). Only ciphertext is ever written.
Whatever is wrong with a file, opening it raises the same `EnvelopeError`. Rotation rewrites only the header.

>>> seal(path, [b"five stars"], recipients={"owner": public}, context=b"reviews")   # doctest: +SKIP
>>> with open_sealed(path, private, context=b"reviews") as sealed: sealed.read()     # doctest: +SKIP
b'five stars'
"""

from __future__ import annotations

import mmap
import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from common.crypto.header import (
    DATA_KEY_BYTES,
    HEADER_BYTES,
    OBJECT_ID_BYTES,
    EnvelopeError,
    EnvelopeHeader,
    fingerprint,
    key_check,
    payload_key,
    unwrap,
    wrap,
)
from common.crypto.segments import Data, Segments, seal_segments
from common.files import sync_folder, write_whole

__all__ = ["EnvelopeError", "SealedFile", "Written", "open_sealed", "reslot", "seal", "slots_of"]
_LARGE = 4 << 20


@dataclass(frozen=True)
class Written:
    """What an index notes of a sealed file: the bytes of plaintext, and the check value of its key (hex)."""

    size: int
    check: str


class SealedFile(Segments):
    """A sealed file that is open: `read`, `into`, `stream` and `range` return verified plaintext only."""

    def __init__(self, handle: int, data_key: bytes, object_id: bytes, context: bytes) -> None:
        super().__init__(handle, payload_key(data_key, object_id, context))
        self.written = Written(self.size, key_check(data_key, object_id, context).hex())

    def read(self) -> bytes:
        """The whole plaintext."""
        return bytes(self.view())

    def view(self) -> memoryview:
        """The whole plaintext without a copy; a large one lies in memory pages of its own."""
        if self.size < _LARGE:
            target = memoryview(bytearray(self.size))
        else:
            # Private pages can be huge pages, which avoids most page faults.
            pages = mmap.mmap(-1, self.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            pages.madvise(mmap.MADV_HUGEPAGE)
            target = memoryview(pages)
        self.into(target)
        return target


def seal(
    path: Path, chunks: Data | Iterable[Data], *, recipients: Mapping[str, RSAPublicKey], context: bytes,
    durable: bool = True,
) -> Written:  # fmt: skip
    """Seal bytes, or chunks of any size, into a new file.

    Parameters
    ----------
    recipients : role → public key of at least 3072 bits; only these roles can open the file.
    context : associated data, which isn't stored; the file opens only with the same context.
    durable : False leaves out the fsync, for content that can be made again.
    """
    object_id, data_key = secrets.token_bytes(OBJECT_ID_BYTES), secrets.token_bytes(DATA_KEY_BYTES)
    header = EnvelopeHeader(object_id, wrap(data_key, object_id, recipients)).sealed(data_key, context)
    parts = [chunks] if isinstance(chunks, (bytes, bytearray, memoryview)) else chunks
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, header)
        size = seal_segments(handle, payload_key(data_key, object_id, context), parts)
        if durable:
            os.fsync(handle)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    if durable:
        sync_folder(path.parent)
    return Written(size, key_check(data_key, object_id, context).hex())


@contextmanager
def open_sealed(path: Path, key: RSAPrivateKey, *, context: bytes) -> Iterator[SealedFile]:
    """Open a sealed file with a role's private key.

    Raises
    ------
    EnvelopeError : the file is missing, damaged, edited or not for this key.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        raise EnvelopeError from None
    try:
        header, data_key = unwrap(_header(path, handle), key, fingerprint(key.public_key()), context)
        yield SealedFile(handle, data_key, header.object_id, context)
    finally:
        os.close(handle)


def reslot(path: Path, key: RSAPrivateKey, recipients: Mapping[str, RSAPublicKey], *, context: bytes) -> None:
    """Wrap the same data key for other recipients: the 4096 bytes of the header change, no segment does.

    The new header is first written to a side file, so a crash during the write in place loses nothing. A role that is
    left out here may have kept the data key and could still read the file: to revoke its access, seal the content anew.

    Raises
    ------
    EnvelopeError : the file can't be opened with `key`.
    """
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        raise EnvelopeError from None
    try:
        header, data_key = unwrap(_header(path, handle), key, fingerprint(key.public_key()), context)
        new = EnvelopeHeader(header.object_id, wrap(data_key, header.object_id, recipients)).sealed(
            data_key, context
        )
        write_whole(_side(path), new)
        os.pwrite(handle, new, 0)
        os.fsync(handle)
    finally:
        os.close(handle)
    _side(path).unlink()
    sync_folder(path.parent)


def slots_of(path: Path) -> dict[str, bytes]:
    """Role → fingerprint of the slots in a file's header, which isn't authenticated here.

    Raises
    ------
    EnvelopeError : the file isn't a sealed object.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        raise EnvelopeError from None
    try:
        return {slot.role: slot.fingerprint for slot in EnvelopeHeader.parse(_header(path, handle)).slots}
    finally:
        os.close(handle)


def _side(path: Path) -> Path:
    return path.with_name(path.name + ".head")


def _header(path: Path, handle: int) -> bytes:
    try:
        return _side(path).read_bytes()
    except OSError:
        return os.pread(handle, HEADER_BYTES, 0)
