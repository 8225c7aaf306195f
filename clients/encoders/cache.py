"""Features by content hash, so that nothing is encoded twice in the runs, rounds and sites of one machine.

A cache is a set of immutable shards per encoder (safetensors: ``keys`` (n, 16) uint8 and ``vectors`` (n, d)
float16), kept in a folder or in a site's vault. Invariant: a shard is written whole or not at all; a damaged one is
moved aside and its content encoded again. Any number of processes may share a cache: each writes shards of its own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

Half = NDArray[np.float16]


def content_key(content: bytes) -> bytes:
    """The first 16 bytes of the content's SHA-256."""
    return hashlib.sha256(content).digest()[:16]


def default_cache_folder() -> Path:
    """``HANSA_CACHE``, else ``~/.cache/hansa``."""
    return Path(os.environ.get("HANSA_CACHE") or Path.home() / ".cache" / "hansa")


class Shards(Protocol):
    """Storage for the shards of one encoder; `write` is atomic, and `read` returns one of a shard's two arrays."""

    def names(self) -> list[str]: ...
    def read(self, name: str, array: str) -> NDArray[Any]: ...
    def write(self, name: str, data: bytes) -> None: ...
    def set_aside(self, name: str) -> None: ...


class FolderShards:
    """Shards as files in a folder, for features that needn't be secret, and for sites without a vault."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.safetensors"))

    def read(self, name: str, array: str) -> NDArray[Any]:
        with safe_open(self.folder / name, framework="numpy") as shard:
            return shard.get_tensor(array)

    def write(self, name: str, data: bytes) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f".{name}.tmp"
        temporary.write_bytes(data)
        temporary.rename(self.folder / name)

    def set_aside(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            (self.folder / name).rename((self.folder / name).with_suffix(".damaged"))


class FeatureCache:
    """Vectors of one encoder by content key; of a shard, the vectors are read only if needed."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._place: dict[bytes, tuple[str, int]] = {}
        self._vectors: dict[bytes, Half] = {}
        for name in shards.names():
            keys = self._read(name, "keys")
            if keys is not None:
                packed = keys.tobytes()
                self._place |= {packed[16 * row : 16 * row + 16]: (name, row) for row in range(len(keys))}

    def get(self, keys: Sequence[bytes], encode: Callable[[list[int]], Half], block: int = 512) -> Half:
        """Vectors (n, d) of all keys; ``encode`` is called with the positions that aren't cached, block by block."""
        self._fetch(keys)
        first: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key not in self._vectors:
                first.setdefault(key, position)
        missing = list(first.values())
        for at in range(0, len(missing), block):
            part = missing[at : at + block]
            self._add([keys[p] for p in part], encode(part))
        return np.stack([self._vectors[key] for key in keys]) if keys else np.zeros((0, 0), np.float16)

    def _fetch(self, keys: Sequence[bytes]) -> None:
        """Read the vectors of the keys that are in a shard."""
        by_shard: dict[str, dict[bytes, int]] = {}
        for key in keys:
            if key in self._place and key not in self._vectors:
                name, row = self._place[key]
                by_shard.setdefault(name, {})[key] = row
        for name, rows in by_shard.items():
            vectors = self._read(name, "vectors")
            if vectors is not None:
                self._vectors.update(zip(rows, vectors[list(rows.values())], strict=True))

    def _add(self, keys: list[bytes], vectors: Half) -> None:
        packed = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
        shard = save({"keys": packed, "vectors": np.ascontiguousarray(vectors)})
        self._shards.write(f"{secrets.token_hex(8)}.safetensors", shard)
        self._vectors.update(zip(keys, vectors, strict=True))

    def _read(self, name: str, array: str) -> NDArray[Any] | None:
        try:
            return self._shards.read(name, array)
        except (SafetensorError, KeyError, OSError):
            self._shards.set_aside(name)
            self._place = {key: place for key, place in self._place.items() if place[0] != name}
            return None
