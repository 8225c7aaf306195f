"""Finished cells of a table, stored one per line, so that a benchmark that was stopped continues where it was.

Invariant: a cell's key holds everything that determines its result, except the code, so a file of cells is valid for
one version of the code. Cells of several processes can be merged, and none is counted twice.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.files import append_line

Cell = dict[str, Any]


def kept_cells(
    keys: Sequence[dict[str, Any]],
    make: Callable[[dict[str, Any]], Cell],
    file: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
    others: Sequence[Path] = (),
) -> list[Cell]:
    """The cells of all keys, in their order; cells that are in a file aren't made again.

    Parameters
    ----------
    make : a cell's figures, without its key.
    file : JSON lines to which each finished cell is added at once.
    others : further files of finished cells, only read.
    """
    stored = [cell for path in (file, *others) if path is not None for cell in read_cells(path)]
    finished = {_text(cell["key"]): cell for cell in stored}
    cells = []
    for place, cell_key in enumerate(keys, 1):
        key = _text(cell_key)
        if key not in finished:
            began = time.monotonic()
            figures = make(cell_key)
            finished[key] = {"key": cell_key, "seconds": round(time.monotonic() - began, 1), **figures}
            if file is not None:
                _add(file, finished[key])
        tell(f"{place}/{len(keys)} {key}")
        cells.append(finished[key])
    return cells


def read_cells(path: Path) -> list[Cell]:
    """Finished cells of a file; none if it doesn't exist. A torn last line is ignored, so its cell is run again."""
    cells = []
    for line in path.read_bytes().split(b"\n") if path.exists() else ():
        with contextlib.suppress(ValueError):
            cells.append(json.loads(line))
    return cells


def _add(path: Path, cell: Cell) -> None:
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")
    append_line(path, cell)


def _text(key: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(key.items()) if value not in ("", []))
