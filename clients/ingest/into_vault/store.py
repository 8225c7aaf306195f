"""The part of a vault's interface that ingest needs, so that tests can use a plain folder instead."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Protocol

Report = Callable[[str, float], None]
"""Called with the name of a phase and the share of it that is done."""


class ObjectReader(Protocol):
    """The reading half of a vault."""

    def read(self, kind: str, name: str) -> bytes: ...


class ObjectStore(ObjectReader, Protocol):
    """A vault; `write` is atomic."""

    def write(self, kind: str, name: str, data: bytes) -> object: ...
    def names(self, kind: str) -> Iterable[str]: ...
    def delete(self, kind: str, name: str) -> object: ...


def keyed_name(key: bytes, kind: str, *parts: bytes) -> str:
    """An object's name: a keyed digest of its content, which reveals nothing to anybody without the key."""
    mac = hmac.new(key, kind.encode(), hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part)
    return mac.hexdigest()[:32]
