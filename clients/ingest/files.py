"""From files to raw tables: CSV, JSON lines and Parquet become polars frames whose values aren't checked yet.

Invariants: a file is read batch by batch, so memory doesn't grow with it. Each row keeps the number that a person sees
in the file. Of a row that can't be read, only that row is lost. CSV is read with the standard library's strict reader
(RFC 4180), because no other one says which row has a wrong number of cells.
"""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import polars as pl

from clients.ingest.complaints import ComplaintBook
from clients.ingest.parquet.read import plain_batches
from common.errors import InputError
from common.schema import SUFFIXES, Table, did_you_mean

BATCH_ROWS = 50_000
BATCH_LETTERS = 32_000_000
MAX_LINE = 4_000_000
Cell = str | None


@dataclass(frozen=True)
class RawTable:
    """A batch of a table as it's in the file: `frame` holds known columns only, `rows` the number of each row.

    `share` is the part of the file that was read when the batch was full.
    """

    file: str
    frame: pl.DataFrame
    rows: pl.Series
    share: float = 1.0


def find_table(folder: Path, table: Table) -> Path | None:
    """The one file of a table in the folder, or None if an optional table is absent.

    Raises
    ------
    InputError : two files claim to be the table, or a required one is missing.
    """
    paths = [path for suffix in SUFFIXES if (path := folder / f"{table.name}{suffix}").exists()]
    if len(paths) > 1:
        names = " and ".join(path.name for path in paths)
        raise InputError(
            f"two files claim to be the table '{table.name}': {names}",
            where=str(folder),
            why="it is not said which of them counts",
            next_step="keep one and move the other out of the folder",
        )
    if not paths and table.required:
        present = ", ".join(sorted(path.name for path in folder.iterdir())[:10]) or "nothing"
        raise InputError(
            f"no {table.name} file",
            where=str(folder),
            why=f"a site needs its {table.name}; the folder holds {present}",
            next_step=f"add {table.name}.csv, {table.name}.jsonl or {table.name}.parquet",
        )
    return paths[0] if paths else None


def table_batches(path: Path, table: Table, encoding: str, book: ComplaintBook) -> Iterator[RawTable]:
    """Read one file by its suffix, at most `BATCH_ROWS` rows at a time; at least one batch. Bad rows go to the book.

    Raises
    ------
    InputError : the file can't be read, is empty, isn't in `encoding`, or lacks a required column.
    """
    try:
        if not path.is_file():
            raise InputError(
                f"'{path.name}' is not a file", where=str(path), next_step="put a file in its place"
            )
        if path.stat().st_size == 0:
            raise InputError(
                f"'{path.name}' is empty",
                where=str(path),
                why="not even column names are there",
                next_step="export it again, or remove it where the table is optional",
            )
        if path.suffix == ".parquet":
            yield from _read_parquet(path, table, book)
            return
        reader = _read_csv if path.suffix == ".csv" else _read_jsonl
        with _open_text(path, encoding) as stream:
            yield from reader(stream, path, table, book)
    except OSError as fault:
        raise InputError(
            f"'{path.name}' can't be read",
            where=str(path),
            why=str(fault),
            next_step="check the file and its rights",
        ) from None


@contextmanager
def _open_text(path: Path, encoding: str) -> Iterator[IO[str]]:
    codec = "utf-8-sig" if encoding == "utf-8" else encoding
    try:
        with path.open(encoding=codec, newline="") as stream:
            yield stream
    except UnicodeDecodeError:
        raise _wrong_encoding(path, encoding) from None


def _lines(stream: IO[str], path: Path) -> Iterator[str]:
    """The lines of a file; a line that is too long is an error, so that it can't fill the memory."""
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        if len(line) >= MAX_LINE:
            raise InputError(
                f"a line has more than {MAX_LINE // 10**6} million letters",
                where=f"{path}, line {number}",
                why="a table has a row a line",
                next_step="export it again",
            )
        yield line


def _wrong_encoding(path: Path, encoding: str) -> InputError:
    line, byte = _first_fault(path, encoding) or (1, 0)
    with path.open("rb") as file:
        mark = file.read(2)
    step = "save it again as UTF-8"
    if mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        step = "it looks like UTF-16: save it again as UTF-8"
    elif encoding == "utf-8" and _first_fault(path, "gb18030") is None:
        step = (
            f"it looks like GBK: convert it with `iconv -f GBK -t UTF-8 {path.name}`, "
            'or write encoding = "gbk" in site.toml'
        )
    return InputError(
        f"'{path.name}' is not {encoding.upper()} text",
        where=f"{path}, line {line}, byte {byte}",
        why="its letters can't be told",
        next_step=step,
    )


def _first_fault(path: Path, encoding: str) -> tuple[int, int] | None:
    """Line and position of the first byte that is invalid in the encoding; reads the file block by block."""
    decoder = codecs.getincrementaldecoder(encoding)()
    line, at = 1, 0
    with path.open("rb") as file:
        while True:
            block = file.read(1 << 20)
            try:
                decoder.decode(block, final=not block)
            except UnicodeDecodeError as fault:
                # The decoder may have held back the first bytes of a letter from the block before.
                inside = fault.start - max(0, len(fault.object) - len(block))
                return line + block.count(b"\n", 0, max(0, inside)), at + inside
            if not block:
                return None
            line, at = line + block.count(b"\n"), at + len(block)


def _share(stream: IO[str], path: Path) -> float:
    return min(1.0, stream.buffer.tell() / max(1, path.stat().st_size))  # type: ignore[attr-defined]


def _read_csv(stream: IO[str], path: Path, table: Table, book: ComplaintBook) -> Iterator[RawTable]:
    reader = csv.reader(_lines(stream, path), strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
    except csv.Error as fault:
        raise InputError(
            f"the header can't be read: {fault}", where=str(path), next_step="export it again"
        ) from None
    keep = _known_columns(header, table, path, book)
    batch = _Batch(path.name, list(keep))
    row = 0
    while True:
        row += 1
        try:
            cells = next(reader)
        except StopIteration:
            break
        except csv.Error as fault:
            if "unexpected end of data" in str(fault):
                raise InputError(
                    "a quote is opened and never closed",
                    where=f"{path}, row {row}",
                    why="everything after it would be one cell",
                    next_step='close the quote, or write it as ""',
                ) from None
            book.add(path.name, row, "", "the row can't be read", "row skipped", fault)
            continue
        if len(cells) == len(header):
            batch.append(row, [cells[i] for i in keep.values()])
            if batch.full:
                yield batch.take(_share(stream, path))
        elif cells:
            fault_text = f"the row has {len(cells)} cells and the header has {len(header)}"
            book.add(path.name, row, "", fault_text, "row skipped")
    yield batch.take(1.0)


def _read_jsonl(stream: IO[str], path: Path, table: Table, book: ComplaintBook) -> Iterator[RawTable]:
    names = list(table.names)
    batch = _Batch(path.name, names)
    columns_seen: dict[str, None] = {}
    for row, line in enumerate(_lines(stream, path), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as fault:
            book.add(path.name, row, "", "not a line of JSON", "row skipped", fault)
            continue
        if not isinstance(record, dict):
            book.add(path.name, row, "", "not a JSON object", "row skipped")
            continue
        columns_seen.update(dict.fromkeys(record))
        batch.append(row, [_json_cell(record.get(name), name, row, path.name, book) for name in names])
        if batch.full:
            yield batch.take(_share(stream, path))
    if not columns_seen:
        raise InputError(
            f"'{path.name}' holds no record",
            where=str(path),
            why="no line of it is a JSON object",
            next_step="write one JSON object a line",
        )
    # Only the whole file shows which columns it has.
    _known_columns(list(columns_seen), table, path, book)
    yield batch.take(1.0)


def _json_cell(value: object, column: str, row: int, file: str, book: ComplaintBook) -> Cell:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        book.add(file, row, column, "neither text nor a number", "value cleared", value)
        return None
    # JSON can spell half a surrogate pair, which is no character and can't be stored.
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        book.add(file, row, column, "holds half a surrogate pair", "value cleared")
        return None
    return value


def _read_parquet(path: Path, table: Table, book: ComplaintBook) -> Iterator[RawTable]:
    rows_read = 0
    for frame, share in plain_batches(
        path, lambda names: _known_columns(names, table, path, book), BATCH_ROWS
    ):
        rows = pl.int_range(rows_read + 1, rows_read + frame.height + 1, dtype=pl.Int64, eager=True)
        yield RawTable(path.name, frame, rows, share)
        rows_read += frame.height


def _known_columns(header: list[str], table: Table, path: Path, book: ComplaintBook) -> dict[str, int]:
    """Known column → its place in the file. Unknown columns are noted, missing required ones refused."""
    if any("\0" in name for name in header):
        raise InputError(
            "the header holds NUL bytes",
            where=str(path),
            why="this is not UTF-8 text",
            next_step="save it as UTF-8",
        )
    twice = sorted({name for name in header if name in table.names and header.count(name) > 1})
    if twice:
        raise InputError(
            f"the column '{twice[0]}' stands twice in the header",
            where=str(path),
            next_step="rename one of them",
        )
    if len(header) == 1 and (mark := next((m for m in ";\t|" if m in header[0]), "")):
        raise InputError(
            f"the columns are separated by {mark!r}",
            where=str(path),
            next_step="export it with commas between cells",
        )
    unknown = [name for name in header if name not in table.names]
    for column in table.columns:
        if column.required and column.name not in header:
            near = did_you_mean(column.name, unknown) if unknown else ""
            raise InputError(
                f"the column '{column.name}' is missing",
                where=str(path),
                why=f"every row of {table.name} needs it",
                next_step="add it" + (f", or rename one: {near}" if near else ""),
            )
    for name in unknown:
        book.add(
            path.name, None, name, f"unknown column; {did_you_mean(name, table.names)}", "column ignored"
        )
    return {name: header.index(name) for name in table.names if name in header}


class _Batch:
    """Collects text rows until there are enough for a frame."""

    def __init__(self, file: str, names: list[str]) -> None:
        self._file, self._names = file, names
        self._cells: list[list[Cell]] = []
        self._rows: list[int] = []
        self._letters = 0

    @property
    def full(self) -> bool:
        """Whether the batch has the most rows or letters that are allowed."""
        return len(self._rows) >= BATCH_ROWS or self._letters >= BATCH_LETTERS

    def append(self, row: int, cells: list[Cell]) -> None:
        self._cells.append(cells)
        self._rows.append(row)
        self._letters += sum(len(cell) for cell in cells if cell is not None)

    def take(self, share: float) -> RawTable:
        """The collected rows as a frame; the batch is empty afterwards."""
        columns = zip(*self._cells, strict=True) if self._cells else ([] for _ in self._names)
        data = dict(zip(self._names, columns, strict=True))
        frame = pl.DataFrame(data, schema=dict.fromkeys(self._names, pl.String))
        table = RawTable(self._file, frame, pl.Series("row", self._rows, dtype=pl.Int64), share)
        self._cells, self._rows, self._letters = [], [], 0
        return table
