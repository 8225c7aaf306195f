"""Parquet files to polars, for files that may be damaged or hostile.

Invariant: only plain types with names of our own choice cross from Arrow to polars. Everything that a file can
make up, such as nested types, time zones and field names, stays behind: polars panics on some of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pt

from common.errors import InputError

_DAMAGE = (pa.ArrowException, OSError, ValueError, OverflowError, pl.exceptions.PolarsError)


def read_plain(path: Path, choose: Callable[[list[str]], Mapping[str, int]]) -> pl.DataFrame:
    """Read the columns that `choose` picks from the file's column names, in its order.

    Raises
    ------
    InputError : the file is damaged, or a column has a type that no column of a site can have.
    """
    try:
        with pq.ParquetFile(path) as file:
            keep = list(choose(file.schema_arrow.names))
            table = file.read(columns=keep)
            table.validate(full=True)
            return pl.DataFrame([_plain(table.column(name), name, path) for name in keep])
    except _DAMAGE as fault:
        raise InputError(
            f"'{path.name}' is not a whole Parquet file",
            where=str(path),
            why=str(fault).splitlines()[0][:200] if str(fault) else type(fault).__name__,
            next_step="copy or export it again",
        ) from None


def _plain(column: pa.ChunkedArray, name: str, path: Path) -> pl.Series:
    kind = column.type
    if pt.is_dictionary(kind):
        kind = kind.value_type
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind):
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
    return pl.Series(name, pl.from_arrow(column.combine_chunks()))
