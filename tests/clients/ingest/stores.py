"""A store with a vault's manners and no cipher, for tests that look at what is sealed."""

from __future__ import annotations

import os
from pathlib import Path


class FolderStore:
    """Objects as files under a folder; each appears whole or not at all."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.writes = 0

    def write(self, kind: str, name: str, data: bytes) -> None:
        target = self.root / kind / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.root / f"temp-{os.getpid()}"
        temporary.write_bytes(data)
        temporary.replace(target)
        self.writes += 1

    def read(self, kind: str, name: str) -> bytes:
        return (self.root / kind / name).read_bytes()

    def names(self, kind: str) -> list[str]:
        folder = self.root / kind
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def delete(self, kind: str, name: str) -> None:
        (self.root / kind / name).unlink()

    def content(self) -> dict[str, bytes]:
        """Every object but the manifest, whose file times may differ."""
        return {
            f"{path.parent.name}/{path.name}": path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.name != "manifest" and path.parent != self.root
        }
