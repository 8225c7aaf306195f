"""Messages between the pool and its workers, as length-checked frames instead of pickles.

A frame is a JSON line of facts, then the raw bytes of the arrays in the order in which the facts name them:

    [4 bytes: length of the facts, big-endian] [facts, UTF-8 JSON] [array bytes …]

Invariant: unpacking gives records equal to those packed; a frame with missing or spare bytes is refused. A
worker's frame is read by this process, so nothing in it is ever executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict

from common.errors import WireError

_LENGTH_BYTES = 4


def pack_frame(
    facts: dict[str, Any], content: RecordDict | None, *, lent: frozenset[str] = frozenset()
) -> bytes:
    """Pack JSON-able facts and, if given, a message's records into one frame.

    Parameters
    ----------
    lent : names of array records whose bytes the receiver still has from an earlier frame; they're left out here.
    """
    records: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for name, record in (content or {}).items():
        if isinstance(record, ArrayRecord):
            heads = [[key, a.dtype, list(a.shape), a.stype, len(a.data)] for key, a in record.items()]
            records.append({"kind": "array", "name": name, "arrays": heads, "lent": name in lent})
            blobs += [] if name in lent else [array.data for array in record.values()]
        else:
            kind = "config" if isinstance(record, ConfigRecord) else "metric"
            records.append({"kind": kind, "name": name, "values": dict(record)})
    head = json.dumps({**facts, "records": None if content is None else records}).encode()
    return b"".join([len(head).to_bytes(_LENGTH_BYTES, "big"), head, *blobs])


def unpack_frame(frame: bytes, *, lent: bytes = b"") -> tuple[dict[str, Any], RecordDict | None]:
    """The facts and records of a frame.

    Parameters
    ----------
    lent : the bytes that stayed out of the frame; at most one array may be lent.

    Raises
    ------
    WireError : the frame is damaged.
    """
    view = memoryview(frame)
    start = _LENGTH_BYTES + int.from_bytes(view[:_LENGTH_BYTES], "big")
    try:
        facts = json.loads(bytes(view[_LENGTH_BYTES:start]))
        heads = facts.pop("records")
        content = None if heads is None else _records(heads, _Cutter(view[start:]), lent)
    except (ValueError, KeyError, TypeError, IndexError):
        raise WireError("a frame between pool and worker is damaged", where="pool") from None
    return facts, content


class _Cutter:
    """Cuts the body of a frame into pieces of stated lengths."""

    def __init__(self, body: memoryview) -> None:
        self._body, self._at = body, 0

    def cut(self, length: int) -> bytes:
        piece = bytes(self._body[self._at : self._at + length])
        if len(piece) != length:
            raise ValueError("the frame is too short")
        self._at += length
        return piece

    def finish(self) -> None:
        if self._at != len(self._body):
            raise ValueError("the frame has spare bytes")


def _records(heads: list[dict[str, Any]], cutter: _Cutter, lent: bytes) -> RecordDict:
    content = RecordDict()
    for head in heads:
        if head["kind"] == "array":
            content[head["name"]] = ArrayRecord(dict(_arrays(head, cutter, lent)))
        elif head["kind"] == "config":
            content[head["name"]] = ConfigRecord(head["values"])
        else:
            content[head["name"]] = MetricRecord(head["values"])
    cutter.finish()
    return content


def _arrays(head: dict[str, Any], cutter: _Cutter, lent: bytes) -> Iterator[tuple[str, Array]]:
    for key, dtype, shape, stype, length in head["arrays"]:
        if head["lent"] and len(lent) != length:
            raise ValueError("the lent bytes have another length")
        data = lent if head["lent"] else cutter.cut(length)
        yield key, Array(dtype, tuple(shape), stype, data)
