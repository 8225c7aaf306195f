"""What ingest needs of a vault, so that it can be held against a plain folder too."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable
from typing import Protocol

Report = Callable[[str, float], None]
"""Hears of a phase, and which share of it is done."""


class Reader(Protocol):
    """The reading half of a vault."""

    def read(self, kind: str, name: str) -> bytes: ...


class Store(Reader, Protocol):
    """A vault; `write` is atomic."""

    def write(self, kind: str, name: str, data: bytes) -> object: ...
    def names(self, kind: str) -> Iterable[str]: ...
    def delete(self, kind: str, name: str) -> object: ...


def keyed_name(key: bytes, kind: str, *parts: bytes) -> str:
    """A name for an object that says what it was made of to nobody but who has the key."""
    mac = hmac.new(key, kind.encode(), hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part)
    return mac.hexdigest()[:32]
