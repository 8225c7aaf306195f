"""The manifest of a sealed site: which objects were made from which files, so the next ingest reads only what is new.

Invariant: it's written after everything that it names. A table is read again if its file, `site.toml`, or the ids of
products or names of pictures with which it's compared have changed; a pack of pictures if one of its members has.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from clients.ingest.files import find_table
from clients.ingest.into_vault.store import ObjectStore
from common.schema import TABLES

# Raise it when the same folder shall give other content than before.
FORM = 2
# The role that trains needs the manifest.
MANIFEST = ("products", "manifest")


@dataclass
class TableFacts:
    """What ingest found in one table: only counts, never a value."""

    rows: int = 0
    masked: dict[str, int] = field(default_factory=dict)
    repeats: int = 0
    clocks_mended: int = 0
    complaints: int = 0

    def count_masked(self, counts: dict[str, int]) -> None:
        """Add masked identifiers by kind."""
        for kind, count in counts.items():
            self.masked[kind] = self.masked.get(kind, 0) + count


@dataclass
class IngestReport:
    """What an ingest did: only counts, never a value."""

    rows: dict[str, int] = field(default_factory=dict)
    pictures: int = 0
    pictures_refused: int = 0
    masked: dict[str, int] = field(default_factory=dict)
    repeats: int = 0
    clocks_mended: int = 0
    complaints: int = 0
    written: int = 0
    reread: list[str] = field(default_factory=list)
    unchanged: bool = False
    digest: str = ""

    def add(self, name: str, facts: TableFacts) -> None:
        """Add one table's figures."""
        self.rows[name] = facts.rows
        self.repeats += facts.repeats
        self.clocks_mended += facts.clocks_mended
        self.complaints += facts.complaints
        for kind, count in facts.masked.items():
            self.masked[kind] = self.masked.get(kind, 0) + count


def read_manifest(store: ObjectStore) -> dict[str, Any] | None:
    """The manifest of the last complete ingest, or None if there is none."""
    if MANIFEST[1] not in set(store.names(MANIFEST[0])):
        return None
    manifest: dict[str, Any] = json.loads(store.read(*MANIFEST))
    return manifest


def quick_looks(folder: Path, images: Path, settings: object, erased: Iterable[str]) -> str:
    """A digest of all sources' names, sizes and times, and of the erased: if it's equal, nothing needs to be read."""
    tables = [path for table in TABLES if (path := find_table(folder, table))]
    files = sorted(path for path in images.rglob("*") if path.is_file()) if images.is_dir() else [images]
    stats = _stats([*tables, folder / "site.toml", *(path for path in files if path.exists())])
    return digest_of([FORM, asdict(settings), str(images.resolve()), stats, sorted(erased)])  # type: ignore[call-overload]


def file_looks(*paths: Path | None) -> list[list[Any]]:
    """Name, size and time of files that are there."""
    return _stats([path for path in paths if path is not None])


def digest_of(value: object) -> str:
    """SHA-256 of the value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def names_digest(names: Iterable[str]) -> str:
    """SHA-256 of a set of names."""
    mac = hashlib.sha256()
    for name in sorted(names):
        mac.update(name.encode() + b"\0")
    return mac.hexdigest()


def _stats(paths: list[Path]) -> list[list[Any]]:
    return [[path.name, (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths]
