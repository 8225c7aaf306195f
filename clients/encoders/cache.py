"""Features by content hash, so that nothing is encoded twice — across runs, rounds and sites of one house.

A cache is a folder of immutable shards per encoder (safetensors: ``keys`` (n, 16) uint8 and ``vectors`` (n, d)
float16). Invariant: a shard appears whole or not at all; a damaged one is set aside and its content encoded again.
Any number of processes may share a cache: each writes shards of its own.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

Half = NDArray[np.float16]


def content_key(content: bytes) -> bytes:
    """The first 16 bytes of the content's SHA-256."""
    return hashlib.sha256(content).digest()[:16]


def default_cache_folder() -> Path:
    """``HANSA_CACHE``, else ``~/.cache/hansa``."""
    return Path(os.environ.get("HANSA_CACHE") or Path.home() / ".cache" / "hansa")


class FeatureCache:
    """Vectors of one encoder by content key."""

    def __init__(self, folder: Path, encoder: str) -> None:
        self.folder = folder / encoder
        self._vectors: dict[bytes, Half] = {}
        for shard in sorted(self.folder.glob("*.safetensors")):
            self._read(shard)

    def get(self, keys: Sequence[bytes], encode: Callable[[list[int]], Half], block: int = 512) -> Half:
        """Vectors (n, d) of all keys; ``encode`` gets the positions whose vectors aren't known yet, block by block."""
        first: dict[bytes, int] = {}
        for position, key in enumerate(keys):
            if key not in self._vectors:
                first.setdefault(key, position)
        missing = list(first.values())
        for at in range(0, len(missing), block):
            part = missing[at : at + block]
            self._add([keys[p] for p in part], encode(part))
        return np.stack([self._vectors[key] for key in keys]) if keys else np.zeros((0, 0), np.float16)

    def _add(self, keys: list[bytes], vectors: Half) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        packed = np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)
        name = secrets.token_hex(8)
        temporary = self.folder / f".{name}.tmp"
        save_file({"keys": packed, "vectors": np.ascontiguousarray(vectors)}, temporary)
        temporary.rename(self.folder / f"{name}.safetensors")
        self._vectors.update(zip(keys, vectors, strict=True))

    def _read(self, shard: Path) -> None:
        try:
            arrays = load_file(shard)
            keys, vectors = arrays["keys"], arrays["vectors"]
        except (SafetensorError, KeyError, OSError):
            shard.rename(shard.with_suffix(".damaged"))
            return
        for key, vector in zip(keys, vectors, strict=True):
            self._vectors[key.tobytes()] = vector
