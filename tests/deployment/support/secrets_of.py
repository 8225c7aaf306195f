"""What must not be found where it doesn't belong, and the places to look."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl
import psutil

CANARY_TEXT = "zqcanaryreviewzq"
CANARY_USER = "zqcanaryuserzq"
_MOST_MAPPED = 1 << 28


def plant(site: Path) -> None:
    """Put a review with canaries into a site's data."""
    path = next(path for path in site.glob("reviews.*"))
    read, write = {
        ".csv": (pl.read_csv, pl.DataFrame.write_csv),
        ".jsonl": (pl.read_ndjson, pl.DataFrame.write_ndjson),
        ".parquet": (pl.read_parquet, pl.DataFrame.write_parquet),
    }[path.suffix]
    table = read(path)
    first = table.head(1).with_columns(
        review_id=pl.lit("zqcanaryid"), user_id=pl.lit(CANARY_USER), text=pl.lit(f"good {CANARY_TEXT} indeed")
    )
    write(pl.concat([table, first.select(table.columns)]), path)  # type: ignore[operator]
    assert CANARY_TEXT.encode() in path.read_bytes() or path.suffix == ".parquet"


def keys_of(private: Path) -> dict[str, bytes]:
    """Byte strings of the private keys in a kit's folder, in each form in which they could turn up."""
    found: dict[str, bytes] = {}
    for path in sorted(private.iterdir()):
        if path.name == "keys.json":
            for name, value in json.loads(path.read_text()).items():
                if name == "rsa":
                    found["rsa"] = value.splitlines()[5].encode()
                elif name != "rsa_public":
                    found[name], found[f"{name} raw"] = value.encode(), bytes.fromhex(value)
        elif path.suffix == ".key":
            found[path.name] = path.read_text().splitlines()[2].encode()
        elif path.name == "worker.secret":
            found[path.name] = path.read_bytes()
    assert found
    return found


def league_key(out: Path) -> bytes:
    """Forty-eight bytes from the middle of the league's secret key at a site."""
    data = next((out / "private").glob("league-*.key")).read_bytes()
    return data[len(data) // 2 : len(data) // 2 + 48]


def model_windows(checkpoint: Path) -> list[bytes]:
    """Pieces of a site's model of one round; the header of safetensors is passed over."""
    data = checkpoint.read_bytes()
    places = (len(data) * part // 10 // 4 * 4 for part in (3, 5, 7, 9))
    pieces = [data[place : place + 64] for place in places]
    return [piece for piece in pieces if piece.count(b"\x00") < 16]


def files_below(*folders: Path, but: Iterable[str] = ()) -> Iterator[tuple[Path, bytes]]:
    """All files below some folders, without those whose path holds one of the words."""
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not any(word in str(path.relative_to(folder)) for word in but):
                yield path, path.read_bytes()


def processes_below(*roots: int) -> list[psutil.Process]:
    """These processes and all that they started."""
    found = []
    for root in roots:
        process = psutil.Process(root)
        found += [process, *process.children(recursive=True)]
    return found


def told_by(process: psutil.Process) -> bytes:
    """Arguments and environment, which others on the machine or a crash report may see; nothing if it has ended."""
    folder = Path("/proc") / str(process.pid)
    try:
        return (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def memory_of(process: psutil.Process) -> Iterator[bytes]:
    """What a process holds in memory that it may write to; nothing if it has ended."""
    folder = Path("/proc") / str(process.pid)
    try:
        memory, lines = (folder / "mem").open("rb", 0), (folder / "maps").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return
    with memory:
        for line in lines:
            span, rights, *_ = line.split()
            start, end = (int(part, 16) for part in span.split("-"))
            if rights.startswith("rw") and end - start <= _MOST_MAPPED:
                try:
                    memory.seek(start)
                    yield memory.read(end - start)
                except (OSError, ValueError, OverflowError):
                    continue
