"""Picture packs: some hundred pictures as one object, with an index in front.

    "HPK1" | length of index, 4 bytes big-endian | index, JSON {name: [offset, length]} | pictures one after another

Invariant: offsets are checked against the pack's length before use.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from clients.ingest.images import ImageStore
from common.errors import InputError

MAGIC = b"HPK1"
KEPT_PACKS = 4


class Reader(Protocol):
    """The reading half of a vault."""

    def read(self, kind: str, name: str) -> bytes: ...


def pack(pictures: Mapping[str, bytes]) -> bytes:
    """Pictures by name as one object, the same bytes whatever their order."""
    index, offset = {}, 0
    for name in sorted(pictures):
        index[name] = [offset, len(pictures[name])]
        offset += len(pictures[name])
    head = json.dumps(index, separators=(",", ":")).encode()
    return MAGIC + len(head).to_bytes(4, "big") + head + b"".join(pictures[name] for name in sorted(pictures))


def unpack(data: bytes) -> dict[str, memoryview]:
    """The pictures of a pack.

    Raises
    ------
    InputError : it is no pack, or its index is wrong.
    """
    try:
        start = 8 + int.from_bytes(data[4:8], "big")
        if data[:4] != MAGIC or start > len(data):
            raise ValueError
        body, found = memoryview(data)[start:], {}
        for name, (offset, length) in json.loads(data[8:start]).items():
            if not (
                isinstance(offset, int)
                and isinstance(length, int)
                and 0 <= offset <= offset + length <= len(body)
            ):
                raise ValueError
            found[name] = body[offset : offset + length]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError("a picture pack is damaged", next_step="run hansa ingest again") from None
    return found


class PackedImages(ImageStore):
    """The pictures of a vault under the face of an `ImageStore`; a few packs stay in memory. Safe for threads."""

    def __init__(self, vault: Reader, packs: Iterable[str]) -> None:
        self.root = Path("vault")
        self._vault, self._guard = vault, threading.Lock()
        self._open: OrderedDict[str, dict[str, memoryview]] = OrderedDict()
        self._where = {name: packed for packed in packs for name in self._pack(packed)}
        self._names = frozenset(self._where)

    def problem(self, name: str) -> str:
        """Why a name can't be read; empty where it can."""
        return "" if name in self._where else "no such picture"

    def read(self, name: str) -> bytes:
        """The bytes of one picture.

        Raises
        ------
        InputError : there is no such picture, or its pack is damaged.
        """
        if name not in self._where:
            raise InputError("no such picture", where="vault", next_step="correct the image column")
        with self._guard:
            return bytes(self._pack(self._where[name])[name])

    def _pack(self, name: str) -> dict[str, memoryview]:
        if name not in self._open:
            self._open[name] = unpack(self._vault.read("images", name))
            while len(self._open) > KEPT_PACKS:
                self._open.popitem(last=False)
        self._open.move_to_end(name)
        return self._open[name]
