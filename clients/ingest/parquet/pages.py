"""What a Parquet file says about its columns and pages, checked before Arrow reads it.

Arrow allocates as many bytes as a page header claims, and pyarrow's own reader of a column's metadata ends the process
(`std::terminate`) if the metadata are inconsistent; so both are read here. A column's chunk is a sequence of pages,
each a header and its bytes. Format: parquet-format, `src/main/thrift/parquet.thrift`.

Invariants: after `check_pages` no page claims to be larger than its chunk, packed or unpacked. No page claims more
values than its column has or, if it's a dictionary, than its own bytes can hold. No chunk lies outside its file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import BinaryIO

from clients.ingest.parquet.thrift import I32, I64, Struct, read_struct

MAGIC = b"PAR1"
MAX_FOOTER = 16 << 20
_ROW_GROUPS, _COLUMNS, _META = 4, 1, 3
_N_VALUES, _UNPACKED, _PACKED, _DATA_AT, _DICTIONARY_AT = 5, 6, 7, 9, 11
_PAGE_UNPACKED, _PAGE_PACKED, _DATA, _DICTIONARY, _DATA_2 = 2, 3, 5, 7, 8
_PAGE_VALUES = 1
_VERSION = re.compile(r"version (\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_HEADER_BYTES = (4096, 1 << 20)


@dataclass(frozen=True)
class Chunk:
    """One column of one row group: the position of its first page, its bytes packed and unpacked, its values."""

    at: int
    packed: int
    unpacked: int
    values: int


def read_chunks(file: BinaryIO) -> list[Chunk]:
    """All chunks that the footer names.

    Raises
    ------
    ValueError : the file has no footer, or a chunk lies outside it.
    """
    end = file.seek(0, 2)
    file.seek(max(0, end - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if end < 12 or tail[4:] != MAGIC or length > end - 12:
        raise ValueError("it has no Parquet footer")
    if length > MAX_FOOTER:
        raise ValueError("its footer is too large")
    file.seek(end - 8 - length)
    try:
        footer, _ = read_struct(file.read(length))
    except IndexError:
        raise ValueError("its footer is cut off") from None
    return [
        _chunk(column.struct(_META), end)
        for group in footer.structs(_ROW_GROUPS)
        for column in group.structs(_COLUMNS)
    ]


def _chunk(meta: Struct, end: int) -> Chunk:
    values, unpacked, packed, at = (meta.number(n, I64) for n in (_N_VALUES, _UNPACKED, _PACKED, _DATA_AT))
    if values is None or unpacked is None or packed is None or at is None:
        raise ValueError("a column lacks its figures")
    dictionary = meta.number(_DICTIONARY_AT, I64)
    if dictionary is not None and 0 < dictionary < at:
        at = dictionary
    if min(values, unpacked, packed, at) < 0 or at + packed > end:
        raise ValueError("a column lies outside the file")
    return Chunk(at, packed, unpacked, values)


def check_pages(file: BinaryIO, chunks: list[Chunk], created_by: str | None) -> None:
    """Check all page headers of all chunks.

    Raises
    ------
    ValueError : a page claims more than its chunk holds, or has no valid header.
    """
    if _reads_past_chunks(created_by or ""):
        raise ValueError("it was written by parquet-mr before 1.2.9, which counts its columns' bytes wrongly")
    for chunk in chunks:
        # Arrow reads no page of a column without values.
        if chunk.values:
            _check_chunk(file, chunk)


def _reads_past_chunks(created_by: str) -> bool:
    """Whether Arrow reads past a chunk's end for files of this writer (PARQUET-816)."""
    writer = created_by.lower().split()
    if "parquet-mr" not in writer[:1]:
        return False
    version = _VERSION.search(created_by)
    return version is None or tuple(map(int, version.groups())) < (1, 2, 9)


def _check_chunk(file: BinaryIO, chunk: Chunk) -> None:
    at, stop = chunk.at, chunk.at + chunk.packed
    while at < stop:
        page, header = read_header(file, at, stop)
        packed, unpacked = page.number(_PAGE_PACKED, I32), page.number(_PAGE_UNPACKED, I32)
        if packed is None or unpacked is None:
            raise ValueError("a page doesn't say how large it is")
        at += header + packed
        if packed < 0 or at > stop or not 0 <= unpacked <= chunk.unpacked:
            raise ValueError("a page claims to be larger than its column")
        most = {_DATA: chunk.values, _DATA_2: chunk.values, _DICTIONARY: unpacked}
        if any((page.struct(kind).number(_PAGE_VALUES, I32) or 0) > bound for kind, bound in most.items()):
            raise ValueError("a page claims to hold more values than there are")


def read_header(file: BinaryIO, at: int, stop: int) -> tuple[Struct, int]:
    """The header of the page at a position, and the header's length in bytes.

    Raises
    ------
    ValueError : there is none.
    """
    for most in _HEADER_BYTES:
        file.seek(at)
        try:
            return read_struct(file.read(min(most, stop - at)))
        except IndexError:
            continue
    raise ValueError("a page has no header")
