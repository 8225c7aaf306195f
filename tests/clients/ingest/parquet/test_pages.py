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

from clients.ingest import ingest_site, read_site
from clients.ingest.parquet.pages import _reads_past_chunks, check_pages, read_chunks, read_header
from clients.ingest.parquet.thrift import I32, read_struct
from common.errors import InputError
from tests.clients.ingest.stores import FolderStore

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
        chunks, told = read_chunks(file), pq.read_metadata(file)
        assert len(chunks) == told.num_row_groups * told.num_columns
        for number, chunk in enumerate(chunks):
            column = told.row_group(number // told.num_columns).column(number % told.num_columns)
            assert (chunk.packed, chunk.unpacked, chunk.values) == (
                column.total_compressed_size, column.total_uncompressed_size, column.num_values
            )  # fmt: skip
        check_pages(file, chunks, told.created_by)


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
        _, header = read_header(file, at, column.data_page_offset)
    path.write_bytes(data[:at] + forged + data[at + header :])
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(InputError, match="not a whole Parquet file"):
        read_site(tmp_path)
    assert pa.default_memory_pool().max_memory() - before < 64 << 20


@pytest.mark.parametrize("column", ["item_id", "title"])
def test_a_footer_that_contradicts_itself_is_refused(tmp_path: Path, column: str) -> None:
    """One bit, "may be null" turned into "never null", made pyarrow's metadata end the whole process."""
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    path = tmp_path / "products.parquet"
    pq.write_table(pa.table({"item_id": ["abc"], "title": ["Bag"]}), path, write_statistics=False)
    name = bytes([len(column)]) + column.encode()
    optional, required = b"\x25\x02\x18" + name, b"\x25\x00\x18" + name
    assert path.read_bytes().count(optional) == 1
    path.write_bytes(path.read_bytes().replace(optional, required))
    with pytest.raises(InputError, match="not a whole Parquet file"):
        read_site(tmp_path)


@pytest.mark.parametrize(
    "data",
    [b"", b"PAR1", b"PAR1PAR1", b"PAR1\0\0\0\0PAR1", b"PAR1" + b"\0" * 9 + b"\xff\xff\xff\x7fPAR1", b"x" * 40,
     b"PAR1\x15\x02\x05\x02\x02\x00\x06\0\0\0PAR1"],
)  # fmt: skip
def test_what_has_no_footer_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    (tmp_path / "products.parquet").write_bytes(data)
    with pytest.raises(InputError):
        read_site(tmp_path)


@pytest.mark.parametrize("table", ["reviews", "events"])
def test_a_damaged_file_is_refused_on_its_way_into_the_vault_too(tmp_path: Path, table: str) -> None:
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    (tmp_path / "products.csv").write_text("item_id,title\ni,Bag\n")
    (tmp_path / f"{table}.parquet").write_bytes(
        b"PAR1 is how it begins, and then comes nothing of the kind PAR1"
    )
    with pytest.raises(InputError, match="not a whole Parquet file"):
        ingest_site(tmp_path, FolderStore(tmp_path / "store"))


def test_a_field_that_stands_twice_is_refused() -> None:
    assert read_struct(b"\x15\x02\x15\x04\x00")[0].number(2, I32) == 2
    with pytest.raises(ValueError, match="twice"):
        read_struct(b"\x15\x02\x05\x02\x04\x00")
    assert read_struct(b"\x16\x02\x00")[0].number(1, I32) is None, "another kind than was asked for"


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_header_or_refused(data: bytes) -> None:
    try:
        _, header = read_header(io.BytesIO(data), 0, len(data))
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
