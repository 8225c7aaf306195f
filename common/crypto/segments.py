"""AES-256-GCM over 64 KiB segments: a stream that can't be cut, reordered or extended unnoticed.

Invariants: the nonce of segment i is i as 11 big-endian bytes, then 1 for the last segment and 0 for the others (the
STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, 2015). A payload key seals one object only, so no nonce
repeats. No byte of a segment is handed out before its tag is verified. An object has at least one segment; only the
segment of an empty object is empty.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.crypto.header import HEADER_BYTES, EnvelopeError

SEGMENT_BYTES = 64 * 1024
TAG_BYTES = 16
_STEP = SEGMENT_BYTES + TAG_BYTES
# Sixteen segments still fit the processor's cache between cipher and kernel, and keep system calls rare.
_BATCH = 16
Data = bytes | bytearray | memoryview


def seal_segments(handle: int, key: bytes, chunks: Iterable[Data]) -> int:
    """Write chunks of any size as sealed segments to an open file; returns the bytes of plaintext."""
    cipher, total, at, index = AESGCM(key), 0, 0, 0
    buffer = memoryview(bytearray(_BATCH * _STEP))
    for segment, last in _cut(chunks):
        end = at + len(segment) + TAG_BYTES
        cipher.encrypt_into(_nonce(index, last), segment, None, buffer[at:end])
        total, at, index = total + len(segment), end, index + 1
        if last or index % _BATCH == 0:
            _write(handle, buffer[:at])
            at = 0
    return total


class Segments:
    """The segments of one open file, read with its payload key.

    Raises
    ------
    EnvelopeError : the file's size can't be that of an object.
    """

    def __init__(self, handle: int, key: bytes) -> None:
        payload = os.fstat(handle).st_size - HEADER_BYTES
        self.count = -(-payload // _STEP)
        self.size = payload - self.count * TAG_BYTES
        last = payload - (self.count - 1) * _STEP
        if payload < TAG_BYTES or last < TAG_BYTES or (last == TAG_BYTES and self.count > 1):
            raise EnvelopeError
        self._handle, self._cipher = handle, AESGCM(key)

    def into(self, target: memoryview) -> None:
        """Open all segments into a buffer of exactly `size` bytes; after a failure the buffer is zeroed."""
        at = 0
        try:
            for index, sealed in self._sealed(0, self.count):
                end = at + len(sealed) - TAG_BYTES
                self._open(index, sealed, target[at:end])
                at = end
        except EnvelopeError:
            target[:at] = bytes(at)
            raise

    def stream(self) -> Iterator[memoryview]:
        """Verified segments in order, in constant memory; each is valid until the next one is read.

        Trust the segments only after the iterator has ended without an error: a cut file is noticed at its end.
        """
        plain = memoryview(bytearray(SEGMENT_BYTES))
        for index, sealed in self._sealed(0, self.count):
            part = plain[: len(sealed) - TAG_BYTES]
            self._open(index, sealed, part)
            yield part

    def range(self, start: int, length: int) -> bytes:
        """The plaintext's bytes start … start + length; only the segments that hold them are opened."""
        if not 0 <= start <= start + length <= self.size:
            raise EnvelopeError
        if length == 0:
            return b""
        first, end = start // SEGMENT_BYTES, (start + length - 1) // SEGMENT_BYTES + 1
        plain = memoryview(bytearray((end - first) * SEGMENT_BYTES))
        at = 0
        for index, sealed in self._sealed(first, end):
            self._open(index, sealed, plain[at : at + len(sealed) - TAG_BYTES])
            at += len(sealed) - TAG_BYTES
        skip = start - first * SEGMENT_BYTES
        return bytes(plain[skip : skip + length])

    def _open(self, index: int, sealed: memoryview, target: memoryview) -> None:
        try:
            self._cipher.decrypt_into(_nonce(index, index == self.count - 1), sealed, None, target)
        except InvalidTag:
            raise EnvelopeError from None

    def _sealed(self, first: int, end: int) -> Iterator[tuple[int, memoryview]]:
        buffer = memoryview(bytearray(min(_BATCH, end - first) * _STEP))
        for start in range(first, end, _BATCH):
            stop = min(start + _BATCH, end)
            stop_byte = min(stop * _STEP, self.size + self.count * TAG_BYTES)
            filled = buffer[: stop_byte - start * _STEP]
            _read(self._handle, filled, HEADER_BYTES + start * _STEP)
            for index in range(start, stop):
                at = (index - start) * _STEP
                yield index, filled[at : at + _STEP]


def _nonce(index: int, last: bool) -> bytes:
    return (index << 8 | last).to_bytes(12, "big")


def _cut(chunks: Iterable[Data]) -> Iterator[tuple[Data, bool]]:
    """Chunks of any size, cut into full segments and a last one; large chunks aren't copied."""
    pending = bytearray()
    for chunk in chunks:
        view, at = memoryview(chunk).cast("B"), 0
        if pending:
            at = min(SEGMENT_BYTES - len(pending), len(view))
            pending += view[:at]
            if at == len(view):
                continue
            yield pending, False
        while len(view) - at > SEGMENT_BYTES:
            yield view[at : at + SEGMENT_BYTES], False
            at += SEGMENT_BYTES
        pending = bytearray(view[at:])
    yield pending, True


def _write(handle: int, data: memoryview) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _read(handle: int, target: memoryview, offset: int) -> None:
    while target:
        count = os.preadv(handle, [target], offset)
        if count == 0:
            raise EnvelopeError
        target, offset = target[count:], offset + count
