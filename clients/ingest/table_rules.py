"""The rules that a table must keep: within a row, between rows, and between tables.

Invariants: a rule is applied to a batch of rows and needs only the ids of all other rows. A fault costs only its own
value or its own row. The remaining rows keep all rules of `common.schema`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from clients.ingest.complaints import ComplaintBook
from clients.ingest.files import RawTable
from clients.ingest.images import ImageStore
from clients.ingest.unique_ids import SeenIds
from clients.ingest.values import convert
from common.schema import Action, Column, Table

ROW = "row in file"


def typed(raw: RawTable, table: Table, before: datetime, book: ComplaintBook) -> pl.DataFrame:
    """All columns of the table in canonical types, and the column `ROW`, without rows that break a rule.

    Raises
    ------
    InputError : a whole column has an impossible type.
    """
    drop = pl.repeat(False, raw.frame.height, eager=True)
    columns: list[pl.Series] = []
    for column in table.columns:
        if column.name not in raw.frame.columns:
            columns.append(pl.Series(column.name, [None] * raw.frame.height, dtype=column.dtype))
            continue
        values, dropped = _column(raw, column, before, book)
        drop |= dropped
        columns.append(values.alias(column.name))
    return pl.DataFrame([*columns, raw.rows.alias(ROW)]).filter(~drop)


@dataclass(frozen=True)
class _Cells:
    """One column of a batch as it stood in the file, and the book in which its faults are noted."""

    raw: RawTable
    column: str
    book: ComplaintBook

    def note(self, mask: pl.Series, fault: str, action: Action, *, show: bool = True) -> None:
        """Complain of the rows that a mask names."""
        if mask.any():
            rows = self.raw.rows.filter(mask).to_list()
            shown = self.raw.frame[self.column].filter(mask)
            cells = _showable(shown) if show else [None] * len(rows)
            self.book.add_rows(self.raw.file, rows, self.column, fault, action, cells)


def _column(
    raw: RawTable, column: Column, before: datetime, book: ComplaintBook
) -> tuple[pl.Series, pl.Series]:
    cells = raw.frame[column.name]
    values, faults = convert(cells, column, raw.file, before)
    noted, skips = _Cells(raw, column.name, book), column.on_bad == "skip"
    drop = pl.repeat(False, len(cells), eager=True)
    if column.kind == "text":
        nul = values.str.contains("\0", literal=True).fill_null(False)
        noted.note(nul, "holds a NUL byte", "row skipped")
        drop |= nul
    for mask, fault in faults:
        noted.note(mask, fault, "row skipped" if skips else "value cleared")
        values = values.set(mask, None)
        drop |= mask if skips else False
    if column.required:
        absent = values.is_null() & ~drop
        noted.note(absent, "missing", "row skipped", show=False)
        drop |= absent
    return values, drop


def _showable(cells: pl.Series) -> list[object]:
    if isinstance(cells.dtype, pl.Datetime):
        # A column's calendar has more years than Python's.
        cells = cells.set(~cells.is_between(datetime.min, datetime.max), None)
    return cells.to_list()


def first_of_each(
    frame: pl.DataFrame, column: str, seen: SeenIds, file: str, book: ComplaintBook
) -> pl.DataFrame:
    """Drop rows whose id is that of an earlier row of the file."""
    return _skip(frame, ~seen.new(frame[column]), column, "stands in an earlier row already", file, book)


def known_items(frame: pl.DataFrame, items: pl.Series, file: str, book: ComplaintBook) -> pl.DataFrame:
    """Drop rows that name an unknown item, and events that need an item but name none."""
    unknown = (~frame["item_id"].is_in(items.implode())).fill_null(False)
    frame = _skip(frame, unknown, "item_id", "no product has this id", file, book)
    if "event" in frame.columns:
        frame = _skip(
            frame,
            frame["item_id"].is_null() & (frame["event"] != "search"),
            "item_id",
            "missing; only a search may lack it",
            file,
            book,
        )
    return frame


def known_images(frame: pl.DataFrame, images: ImageStore, file: str, book: ComplaintBook) -> pl.DataFrame:
    """Clear names of pictures that the store doesn't have or must not open."""
    named = frame.select("image", ROW).drop_nulls()
    stored = images.names()
    faulty = named.filter(pl.Series([name not in stored for name in named["image"]], dtype=pl.Boolean))
    if faulty.is_empty():
        return frame
    for name, row in faulty.iter_rows():
        book.add(file, row, "image", images.problem(name), "value cleared", name)
    return frame.with_columns(
        pl.when(pl.col(ROW).is_in(faulty[ROW].implode())).then(None).otherwise(pl.col("image")).alias("image")
    )


def _skip(
    frame: pl.DataFrame, mask: pl.Series, column: str, fault: str, file: str, book: ComplaintBook
) -> pl.DataFrame:
    if not mask.any():
        return frame
    bad = frame.filter(mask)
    book.add_rows(file, bad[ROW].to_list(), column, fault, "row skipped", bad[column].to_list())
    return frame.filter(~mask)
