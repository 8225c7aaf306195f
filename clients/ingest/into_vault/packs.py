"""Picture packs: some hundreds of pictures as one object, with an index at its start.

    "HPK1" | length of index, 4 bytes big-endian | index, JSON {name: [offset, length]} | pictures one after another

Invariant: offsets are checked against the pack's length before use.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from clients.ingest.images import ImageStore
from clients.ingest.into_vault.manifest import FORM, digest_of
from clients.ingest.into_vault.store import ObjectReader, keyed_name
from clients.ingest.into_vault.tables import IngestContext
from clients.ingest.pictures import PictureSettings, tidy_picture
from common.canonical import canonical
from common.errors import InputError

MAGIC = b"HPK1"
KEPT_PACKS = 4
PACK_PICTURES = 256
ERASED_PICTURE = "erased-picture/"


def pack(pictures: Mapping[str, bytes]) -> bytes:
    """Pack pictures into one object; their order makes no difference to the bytes."""
    index, offset = {}, 0
    for name in sorted(pictures):
        index[name] = [offset, len(pictures[name])]
        offset += len(pictures[name])
    head = canonical(index)
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
        body, pictures = memoryview(data)[start:], {}
        for name, (offset, length) in json.loads(data[8:start]).items():
            if not (
                isinstance(offset, int)
                and isinstance(length, int)
                and 0 <= offset <= offset + length <= len(body)
            ):
                raise ValueError
            pictures[name] = body[offset : offset + length]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InputError("a picture pack is damaged", next_step="run hansa ingest again") from None
    return pictures


class PackedImages(ImageStore):
    """The pictures of a vault, with the interface of `ImageStore`; a few packs stay in memory. Safe for threads."""

    def __init__(self, vault: ObjectReader, packs: Iterable[str]) -> None:
        self.root = Path("vault")
        self._vault, self._guard = vault, threading.Lock()
        self._open: OrderedDict[str, dict[str, memoryview]] = OrderedDict()
        self._where = {name: packed for packed in packs for name in self._pack(packed)}
        self._names = frozenset(self._where)

    def problem(self, name: str) -> str:
        """Why a name can't be read; empty if it can."""
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


def seal_pictures(
    images: ImageStore, context: IngestContext, settings: PictureSettings, old: Mapping[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Seal all pictures in packs; a pack whose members haven't changed is kept and not read.

    Parameters
    ----------
    old : the packs of the last ingest, as this returned them.
    """
    buckets: dict[int, list[str]] = {}
    names = [
        name
        for name in sorted(images.names())
        if context.names.of(name, "image") not in context.erased_pictures
    ]
    count = max(1, 1 << max(0, (len(names) // PACK_PICTURES).bit_length()))
    for name in names:
        buckets.setdefault(int(context.names.of(name, "bucket"), 16) % count, []).append(name)
    stored, packs, sealed = set(context.store.names("images")), {}, 0
    summary = context.summary
    with ThreadPoolExecutor(2) as pool:
        packer = _Packer(images, context, settings, stored, pool)
        for number, members in sorted(buckets.items()):
            looks = digest_of([FORM, asdict(settings), [(name, images.look(name)) for name in members]])
            entry = old.get(str(number))
            if entry is None or entry["looks"] != looks or entry["pack"] not in stored:
                name, kept = packer.seal(number, members)
                entry = {
                    "looks": looks,
                    "pack": name,
                    "members": len(members),
                    "refused": len(members) - kept,
                }
                if "images" not in summary.reread:
                    summary.reread.append("images")
            packs[str(number)] = entry
            sealed += len(members)
            context.say("images", sealed / len(names))
    summary.pictures = sum(entry["members"] for entry in packs.values())
    summary.pictures_refused = sum(entry["refused"] for entry in packs.values())
    return packs


@dataclass(frozen=True)
class _Packer:
    """Seals packs; those whose names are in `stored` are sealed already."""

    images: ImageStore
    context: IngestContext
    settings: PictureSettings
    stored: Collection[str]
    pool: ThreadPoolExecutor

    def seal(self, number: int, members: list[str]) -> tuple[str, int]:
        """A pack's name and number of pictures. To save memory, pictures are read twice instead of kept."""
        images, context = self.images, self.context
        digests = b"".join(
            hashlib.sha256(name.encode() + b"\0" + _read(images, name)).digest() for name in members
        )
        form = json.dumps([FORM, asdict(self.settings)]).encode()
        packed = f"{number:05d}-{keyed_name(context.key, 'images', form, digests)}"
        if packed in self.stored:
            return packed, len(unpack(context.store.read("images", packed)))
        tidy = self.pool.map(lambda name: _tidy(_read(images, name), self.settings), members)
        pictures = {
            context.names.of(name, "image"): data for name, data in zip(members, tidy, strict=True) if data
        }
        context.store.write("images", packed, pack(pictures))
        context.summary.written += 1
        return packed, len(pictures)


def _read(images: ImageStore, name: str) -> bytes:
    try:
        return images.read(name)
    except InputError:
        return b""


def _tidy(data: bytes, settings: PictureSettings) -> bytes:
    try:
        return tidy_picture(data, settings) if data else b""
    except InputError:
        return b""
