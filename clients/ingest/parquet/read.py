"""From Parquet files to polars, batch by batch, for files that may be damaged or hostile.

Invariants: only plain types, with names of our own choice, are passed from Arrow to polars. Everything that a file can
invent, such as nested types, time zones and field names, isn't passed on: polars panics on some of it. The sizes that a
file claims are checked before anything is unpacked, and the size of dictionary text is computed before it's expanded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt

from clients.ingest.parquet.pages import Chunk, check_pages, read_chunks
from common.errors import InputError

# A row of a real export takes some bytes; a row of a decompression bomb takes almost none.
ROWS_PER_BYTE = 100
FREE_ROWS = 1_000_000
UNPACKED_RATIO = 200
FREE_BYTES = 256 << 20
MAX_CELL = 4_000_000
_BUFFER = 1 << 20
_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError, pl.exceptions.PolarsError)


def plain_batches(
    path: Path, choose: Callable[[list[str]], Mapping[str, int]], rows: int
) -> Iterator[tuple[pl.DataFrame, float]]:
    """The columns that `choose` picks from the file's column names, in its order, `rows` at a time.

    Yields
    ------
    A frame, and the share of all rows that were read so far; at least one frame.

    Raises
    ------
    InputError : the file is damaged, unpacks to far more than its own size, or a column has an impossible type.
    """
    try:
        with path.open("rb") as raw:
            chunks = read_chunks(raw)
        _check_sizes(chunks, path)
        with pq.ParquetFile(path) as file:
            names, total = file.schema_arrow.names, file.metadata.num_rows
            keep = list(choose(names))
            if total > ROWS_PER_BYTE * path.stat().st_size + FREE_ROWS:
                raise _bomb(path, f"{total} rows in {path.stat().st_size} bytes")
            with path.open("rb") as raw:
                check_pages(raw, chunks, file.metadata.created_by)
            packed = [name for name in keep if _is_text(file.schema_arrow.field(name).type)]
        rows_read = 0
        with pq.ParquetFile(path, buffer_size=_BUFFER, pre_buffer=False, read_dictionary=packed) as file:
            for batch in file.iter_batches(min(rows, max(1, total)), columns=keep, use_threads=False):
                batch.validate(full=True)
                rows_read += batch.num_rows
                yield (
                    pl.DataFrame([_plain(batch.column(name), name, path) for name in keep]),
                    rows_read / max(1, total),
                )
            if not rows_read:
                empty = file.schema_arrow.empty_table()
                yield pl.DataFrame([_plain(empty.column(name), name, path) for name in keep]), 1.0
    except _DAMAGE as fault:
        raise _damaged(path, fault) from None


def claimed_rows(path: Path) -> int:
    """How many rows a file says it has.

    Raises
    ------
    InputError : the file is damaged.
    """
    try:
        return int(pq.read_metadata(path).num_rows)
    except _DAMAGE as fault:
        raise _damaged(path, fault) from None


def _damaged(path: Path, fault: Exception) -> InputError:
    return InputError(
        f"'{path.name}' is not a whole Parquet file",
        where=str(path),
        why=str(fault).splitlines()[0][:200] if str(fault) else type(fault).__name__,
        next_step="copy or export it again",
    )


def _check_sizes(chunks: list[Chunk], path: Path) -> None:
    for chunk in chunks:
        if chunk.unpacked > FREE_BYTES and (
            chunk.unpacked > UNPACKED_RATIO * chunk.packed or chunk.unpacked > MAX_CELL * chunk.values
        ):
            raise _bomb(path, f"{chunk.packed} bytes unpack to {chunk.unpacked}")


def _bomb(path: Path, why: str) -> InputError:
    return InputError(
        f"'{path.name}' unpacks to far more than it is", where=str(path), why=why, next_step="export it again"
    )


def _is_text(kind: pa.DataType) -> bool:
    return pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind)


def _plain(column: pa.Array | pa.ChunkedArray, name: str, path: Path) -> pl.Series:
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks else pa.array([], column.type)
    if pt.is_dictionary(column.type):
        column = _written_out(column, path)
    kind = column.type
    if _is_text(kind):
        column = column.cast(pa.large_string())
    elif pt.is_timestamp(kind) or pt.is_date(kind):
        # Arrow keeps instants with a zone in UTC, so the zone's name isn't needed; nanoseconds are cut off.
        cut = pt.is_timestamp(kind) and kind.unit == "ns"
        column = column.cast(pa.timestamp(kind.unit), safe=True) if cut else column
        column = column.cast(pa.timestamp("us"), safe=not cut)
    elif pt.is_integer(kind):
        column = column.cast(pa.int64())
    elif pt.is_floating(kind) or pt.is_decimal(kind):
        column = column.cast(pa.float64())
    elif pt.is_null(kind):
        column = column.cast(pa.large_string())
    else:
        raise InputError(
            f"the column '{name}' has the type {kind}",
            where=str(path),
            why="it should hold text, numbers or dates",
            next_step="convert the column before exporting",
        )
    return pl.Series(name, pl.from_arrow(column))


def _written_out(column: pa.DictionaryArray, path: Path) -> pa.Array:
    """Expand a dictionary's values into rows, unless that would fill the memory."""
    if _is_text(column.type.value_type):
        size = pc.sum(pc.binary_length(column.dictionary).take(column.indices)).as_py() or 0
        if size > FREE_BYTES:
            raise _bomb(path, f"{len(column)} rows of it hold {size} bytes of text")
    return column.cast(column.type.value_type)
