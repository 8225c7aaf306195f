"""JSON documents and JSON lines on the disk: written whole or not at all, and flushed before anything depends on them.

Invariant: a crash at any moment leaves either the old or the new content. In a file of lines it can tear only the last
line, and a torn line is read as absent.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from common.canonical import line, readable
from common.errors import RunError

PROJECT = Path(__file__).resolve().parents[1]
"""The folder that the rooms lie in, for processes that are started from it."""


def read_json(path: Path) -> Any:
    """Any JSON document.

    Raises
    ------
    RunError : the file is missing or isn't JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise RunError("a file of the run can't be read", where=str(path), why=str(fault.strerror)) from None
    except ValueError:
        raise RunError(
            "a file of the run is damaged", where=str(path), next_step="start the run anew"
        ) from None


def write_json(path: Path, data: Any) -> None:
    """Write a JSON document whole or not at all."""
    write_whole(path, (readable(data, sort_keys=True) + "\n").encode())


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that a crash at any moment leaves either the old or the new content, never a part.

    From the moment it exists, the file can be read only by those who may read its folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    mode = 0o666 & path.parent.stat().st_mode
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Append one JSON line and flush it to the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(line(record))
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """All whole JSON lines up to the first torn one; a crash can only tear the last."""
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    for whole in path.read_bytes().split(b"\n")[:-1]:
        try:
            record = json.loads(whole)
        except ValueError:
            break
        records.append(record)
    return records


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
