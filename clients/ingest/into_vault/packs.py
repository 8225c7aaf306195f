"""Picture packs: some hundred pictures as one object, with an index in front.

    "HPK1" | length of index, 4 bytes big-endian | index, JSON {name: [offset, length]} | pictures one after another

Invariant: offsets are checked against the pack's length before use.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from clients.ingest.images import ImageStore
from clients.ingest.into_vault.manifest import FORM, IngestReport, digest_of
from clients.ingest.into_vault.store import Reader, Report, keyed_name
from clients.ingest.into_vault.tables import Bench
from clients.ingest.pictures import PictureSettings, tidy_picture
from common.canonical import canonical
from common.errors import InputError

MAGIC = b"HPK1"
KEPT_PACKS = 4
PACK_PICTURES = 256
ERASED_PICTURE = "erased-picture/"


def pack(pictures: Mapping[str, bytes]) -> bytes:
    """Pictures by name as one object, the same bytes whatever their order."""
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


def seal_pictures(
    images: ImageStore, bench: Bench, settings: PictureSettings, old: Mapping[str, dict[str, Any]],
    made: IngestReport, say: Report,
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Seal every picture in packs; a pack whose members look as they did is taken over unread.

    Parameters
    ----------
    old : the packs of the last ingest, as this returned them.
    """
    buckets: dict[int, list[str]] = {}
    wanted = [
        name for name in sorted(images.names()) if bench.names.of(name, "image") not in bench.gone_pictures
    ]
    count = max(1, 1 << max(0, (len(wanted) // PACK_PICTURES).bit_length()))
    for name in wanted:
        buckets.setdefault(int(bench.names.of(name, "bucket"), 16) % count, []).append(name)
    there, packs, done = set(bench.store.names("images")), {}, 0
    with ThreadPoolExecutor(2) as pool:
        for number, members in sorted(buckets.items()):
            looks = digest_of([FORM, asdict(settings), [(name, images.look(name)) for name in members]])
            entry = old.get(str(number))
            if entry is None or entry["looks"] != looks or entry["pack"] not in there:
                name, kept = _seal_pack(number, members, images, bench, settings, there, made, pool)
                entry = {
                    "looks": looks,
                    "pack": name,
                    "members": len(members),
                    "refused": len(members) - kept,
                }
                if "images" not in made.reread:
                    made.reread.append("images")
            packs[str(number)] = entry
            done += len(members)
            say("images", done / len(wanted))
    made.pictures = sum(entry["members"] for entry in packs.values())
    made.pictures_refused = sum(entry["refused"] for entry in packs.values())
    return packs


def _seal_pack(
    number: int, members: list[str], images: ImageStore, bench: Bench, settings: PictureSettings, there: set[str],
    made: IngestReport, pool: ThreadPoolExecutor,
) -> tuple[str, int]:  # fmt: skip
    """The name of a pack that is sealed now, and how many pictures it holds. Pictures are read twice and never held."""
    digests = b"".join(
        hashlib.sha256(name.encode() + b"\0" + _read(images, name)).digest() for name in members
    )
    form = json.dumps([FORM, asdict(settings)]).encode()
    packed = f"{number:05d}-{keyed_name(bench.key, 'images', form, digests)}"
    if packed in there:
        return packed, len(unpack(bench.store.read("images", packed)))
    tidy = pool.map(lambda name: _tidy(_read(images, name), settings), members)
    kept = {bench.names.of(name, "image"): data for name, data in zip(members, tidy, strict=True) if data}
    bench.store.write("images", packed, pack(kept))
    made.written += 1
    return packed, len(kept)


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
