"""Headers of Parquet pages, read before Arrow sees them: Arrow makes room for as many bytes as a header claims.

A column's chunk is a row of pages, each a header (Thrift's compact protocol) and its bytes. Of a header are read the
fields 2 (bytes once unpacked), 3 (bytes as they lie there) and, in 5, 7 and 8 (kinds of pages), field 1 (values); all
else is stepped over. Formats: parquet-format, `src/main/thrift/parquet.thrift`; thrift,
`doc/specs/thrift-compact-protocol.md`.

Invariant: after `check_pages` no page of the columns claims to be larger than its chunk, packed or unpacked, or to hold
more values than its column or, if it is a dictionary, its own bytes can hold; and no chunk lies outside its file.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow.parquet as pq

UNPACKED, PACKED, DATA, DICTIONARY, DATA_2 = 2, 3, 5, 7, 8
_VALUES = 1
_VERSION = re.compile(r"version (\d{1,9})\.(\d{1,9})\.(\d{1,9})")
_HEADER_BYTES = (4096, 1 << 20)
_DEEPEST = 8
_BOOLS, _BYTE, _INTEGERS, _I32, _DOUBLE = (1, 2), 3, (4, 5, 6), 5, 7
_BINARY, _LISTS, _MAP, _STRUCT = 8, (9, 10), 11, 12


def check_pages(file: BinaryIO, metadata: pq.FileMetaData, columns: Collection[str]) -> None:
    """Look at every page header of the columns, in every row group.

    Raises
    ------
    ValueError : a page claims more than its chunk holds, or isn't one.
    """
    if _reads_past_chunks(metadata.created_by or ""):
        raise ValueError("it was written by parquet-mr before 1.2.9, which counts its columns' bytes wrongly")
    end = file.seek(0, 2)
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for place in range(metadata.num_columns):
            column = row_group.column(place)
            # Of a column without values no page is read.
            if column.num_values and column.path_in_schema.partition(".")[0] in columns:
                _check_chunk(file, column, end)


def _reads_past_chunks(created_by: str) -> bool:
    """Whether Arrow allows a chunk of that writer some bytes more than it has (PARQUET-816)."""
    writer = created_by.lower().split()
    if "parquet-mr" not in writer[:1]:
        return False
    version = _VERSION.search(created_by)
    return version is None or tuple(map(int, version.groups())) < (1, 2, 9)


def _check_chunk(file: BinaryIO, column: pq.ColumnChunkMetaData, end: int) -> None:
    at, length = column.data_page_offset, column.total_compressed_size
    if column.dictionary_page_offset is not None and 0 < column.dictionary_page_offset < at:
        at = column.dictionary_page_offset
    stop = at + length
    if at < 0 or length < 0 or stop > end:
        raise ValueError("a column lies outside the file")
    while at < stop:
        page, header = _header(file, at, stop)
        packed, unpacked = page.numbers.get(PACKED, -1), page.numbers.get(UNPACKED, -1)
        at += header + packed
        if packed < 0 or at > stop or not 0 <= unpacked <= column.total_uncompressed_size:
            raise ValueError("a page claims to be larger than its column")
        most = {DATA: column.num_values, DATA_2: column.num_values, DICTIONARY: unpacked}
        if any(page.inner(kind).numbers.get(_VALUES, 0) > bound for kind, bound in most.items()):
            raise ValueError("a page claims to hold more values than there are")


@dataclass
class Fields:
    """What is kept of a struct: 32-bit numbers and structs, by the number of their field."""

    numbers: dict[int, int] = field(default_factory=dict)
    structs: dict[int, Fields] = field(default_factory=dict)

    def inner(self, number: int) -> Fields:
        """The struct in a field, or an empty one."""
        return self.structs.get(number) or Fields()


def _header(file: BinaryIO, at: int, stop: int) -> tuple[Fields, int]:
    """The header of the page at a place, and its bytes."""
    for most in _HEADER_BYTES:
        file.seek(at)
        data = file.read(min(most, stop - at))
        try:
            return _struct(data, 0, 0)
        except IndexError:
            continue
    raise ValueError("a page has no header")


def _struct(data: bytes, at: int, depth: int) -> tuple[Fields, int]:
    """The fields of a struct, and where it ends.

    Raises
    ------
    IndexError : it goes on past the data.
    ValueError : it is none.
    """
    if depth > _DEEPEST:
        raise ValueError("a page's header is nested too deep")
    found, number = Fields(), 0
    while head := data[at]:
        at += 1
        number += head >> 4
        if not head >> 4:
            number, at = _signed(data, at)
        kind = head & 15
        if kind == _I32:
            found.numbers[number], at = _signed(data, at)
        elif kind == _STRUCT:
            found.structs[number], at = _struct(data, at, depth + 1)
        else:
            at = _skip(data, at, kind, depth)
    return found, at + 1


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where a value of a kind ends. A bool that is a field stands in its header."""
    if kind in _BOOLS:
        return at
    if kind in _INTEGERS:
        return _varint(data, at)[1]
    if kind in (_BYTE, _DOUBLE):
        return at + (1 if kind == _BYTE else 8)
    if kind == _BINARY:
        length, at = _varint(data, at)
        return _within(data, at + length)
    if kind == _STRUCT:
        return _struct(data, at, depth + 1)[1]
    if kind in _LISTS:
        head, at = data[at], at + 1
        count, at = (head >> 4, at) if head >> 4 < 15 else _varint(data, at)
        return _elements(data, at, count, (head & 15,), depth + 1)
    if kind == _MAP:
        count, at = _varint(data, at)
        kinds = (data[at] >> 4, data[at] & 15) if count else ()
        return _elements(data, at + bool(count), count, kinds, depth + 1)
    raise ValueError(f"a page's header holds a value of kind {kind}")


def _elements(data: bytes, at: int, count: int, kinds: tuple[int, ...], depth: int) -> int:
    if depth > _DEEPEST:
        raise ValueError("a page's header is nested too deep")
    _within(data, at + count * len(kinds))
    for _ in range(count):
        for kind in kinds:
            # In a list a bool is a byte.
            at = at + 1 if kind in _BOOLS else _skip(data, at, kind, depth)
    return at


def _within(data: bytes, at: int) -> int:
    if at > len(data):
        raise IndexError
    return at


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, at = _varint(data, at)
    value &= 0xFFFFFFFF
    return (value >> 1) ^ -(value & 1), at


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a page's header holds a number without an end")
