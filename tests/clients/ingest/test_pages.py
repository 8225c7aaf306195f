"""Page headers of Parquet files: those of real writers pass, claims of gigabytes are refused before room is made."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime
from itertools import product
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.ingest import read_site
from clients.ingest.pages import _header, _reads_past_chunks, check_pages
from common.errors import InputError

TABLE = pa.table(
    {
        "text": [f"x{n}" for n in range(900)],
        "same": ["y"] * 900,
        "number": [1.5, None, 2.5] * 300,
        "list": [[1, 2], None, []] * 300,
        "inner": [{"yes": True, "s": "q"}] * 900,
        "at": [datetime(2024, 1, 1)] * 900,
        "long": [b"x" * 300] * 900,
    }
)


def _files() -> Iterator[io.BytesIO]:
    for codec, version, size, plain in product(
        ("NONE", "SNAPPY", "GZIP", "ZSTD", "LZ4"), ("1.0", "2.0"), (512, 1 << 20), (True, False)
    ):
        file = io.BytesIO()
        pq.write_table(
            TABLE, file, compression=codec, data_page_version=version, data_page_size=size,
            use_dictionary=not plain, write_page_index=plain, write_page_checksum=plain, row_group_size=400,
        )  # fmt: skip
        yield file
    for size in (None, 1000):
        file = io.BytesIO()
        polars = pl.from_arrow(TABLE)
        assert isinstance(polars, pl.DataFrame)
        polars.write_parquet(file, data_page_size=size)
        yield file
    empty = io.BytesIO()
    pq.write_table(TABLE.slice(0, 0), empty)
    yield empty


def test_files_of_real_writers_pass() -> None:
    for file in _files():
        check_pages(file, pq.read_metadata(file), TABLE.column_names)


def _number(value: int) -> bytes:
    left, made = (value << 1) ^ (value >> 31), b""
    while left > 0x7F:
        made, left = made + bytes([left & 0x7F | 0x80]), left >> 7
    return made + bytes([left])


def _dictionary(packed: int, unpacked: int, values: int) -> bytes:
    """A page header: kind 2, sizes, and in field 7 the values and their encoding."""
    return (
        b"\x15\x04\x15" + _number(unpacked) + b"\x15" + _number(packed)
        + b"\x4c\x15" + _number(values) + b"\x15\x00\x00\x00"
    )  # fmt: skip


@pytest.mark.parametrize(
    "forged",
    [
        _dictionary(900_000_000, 26, 3),
        _dictionary(26, 900_000_000, 3),
        _dictionary(26, 26, 900_000_000),
        _dictionary(-5, 26, 3),
        _dictionary(26, -5, 3),
        b"\x15\x04\x00",
        b"\x15" + b"\xff" * 12,
        b"\x0c" * 60,
        b"\x19\xfc\xff\xff\xff\x0f",
        b"\x1b\xff\xff\xff\xff\x0f\xcc",
    ],
)
def test_a_page_that_claims_more_than_there_is_costs_no_memory(tmp_path: Path, forged: bytes) -> None:
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    path = tmp_path / "products.parquet"
    pq.write_table(pa.table({"item_id": ["abc", "def", "ghi"]}), path, compression="none")
    data, column = path.read_bytes(), pq.read_metadata(path).row_group(0).column(0)
    at = column.dictionary_page_offset
    with path.open("rb") as file:
        _, header = _header(file, at, column.data_page_offset)
    path.write_bytes(data[:at] + forged + data[at + header :])
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(InputError, match="not a whole Parquet file"):
        read_site(tmp_path)
    assert pa.default_memory_pool().max_memory() - before < 64 << 20


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    try:
        _, header = _header(io.BytesIO(data), 0, len(data))
    except ValueError:
        return
    assert 0 < header <= len(data)


@pytest.mark.parametrize(
    ("writer", "wrong"),
    [
        ("parquet-mr version 1.2.8 (build x)", True),
        ("parquet-mr version 1.10.1 (build x)", False),
        ("parquet-mr", True),
        ("Polars (python) version 0.1.0", False),
        ("", False),
    ],
)
def test_writers_that_count_their_bytes_wrongly_are_known(writer: str, wrong: bool) -> None:
    assert _reads_past_chunks(writer) is wrong
