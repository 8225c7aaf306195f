"""Laws of reading: the format doesn't matter, and no bytes can raise anything but an error for people."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from clients.ingest import SiteData, read_site
from common.errors import HansaError
from common.schema import EVENT_KINDS, EVENTS, PRODUCTS, REVIEWS, TABLES, Table

TODAY = date(2024, 6, 1)
Row = dict[str, Any]

letters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.none() | st.text(letters, max_size=12).filter(lambda text: text.strip()[:1] not in "=+-@")
ids = st.text(st.sampled_from("ab1é椅-_"), min_size=1, max_size=3)
prices = st.none() | st.floats(0, 1e9)
instants = st.datetimes(datetime(1970, 1, 1), datetime(2024, 6, 2)).map(lambda at: at.replace(tzinfo=UTC))
products = st.lists(
    st.fixed_dictionaries(
        {
            "item_id": ids,
            "title": texts,
            "description": texts,
            "price": prices,
            "listed_at": st.none() | instants,
        }
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row["item_id"],
)


@st.composite
def sites(draw: st.DrawFn) -> dict[str, list[Row]]:
    catalogue = draw(products)
    item = st.sampled_from([row["item_id"] for row in catalogue])
    review = {
        "review_id": ids,
        "user_id": ids,
        "item_id": item,
        "rating": st.none() | st.floats(1, 5),
        "text": texts,
        "created_at": st.none() | instants,
    }
    event = {
        "user_id": ids,
        "item_id": item,
        "event": st.sampled_from(EVENT_KINDS),
        "at": instants,
        "query": texts,
        "quantity": st.none() | st.integers(1, 10**6),
        "price": prices,
    }
    return {
        "products": catalogue,
        "reviews": draw(
            st.lists(st.fixed_dictionaries(review), max_size=5, unique_by=lambda row: row["review_id"])
        ),
        "events": draw(st.lists(st.fixed_dictionaries(event), max_size=5)),
    }


def as_text(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value


def write_csv(path: Path, names: list[str], rows: list[Row]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        # repr keeps every digit of a float.
        writer.writerows(
            [repr(v) if isinstance(v := as_text(row[name]), float) else v for name in names] for row in rows
        )


def write_jsonl(path: Path, names: list[str], rows: list[Row]) -> None:
    records = (json.dumps({name: as_text(row[name]) for name in names}) for row in rows)
    path.write_text("".join(record + "\n" for record in records), encoding="utf-8")


def write_parquet(path: Path, names: list[str], rows: list[Row], table: Table) -> None:
    schema = {name: table.polars_schema[name] for name in names}
    pl.DataFrame(rows, schema=schema).write_parquet(path)


def write_site(folder: Path, tables: dict[str, list[Row]], suffix: str) -> None:
    folder.mkdir()
    (folder / "site.toml").write_text('name = "alder"\n')
    for table in TABLES:
        rows = tables[table.name]
        if not rows:
            continue
        path = folder / f"{table.name}{suffix}"
        match suffix:
            case ".csv":
                write_csv(path, list(rows[0]), rows)
            case ".jsonl":
                write_jsonl(path, list(rows[0]), rows)
            case _:
                write_parquet(path, list(rows[0]), rows, table)


def is_valid(data: SiteData) -> None:
    for table in TABLES:
        frame: pl.DataFrame = getattr(data, table.name)
        assert dict(frame.schema) == table.polars_schema
        for column in table.columns:
            values = frame[column.name]
            assert not (column.required and values.null_count())
            assert not (column.unique and values.n_unique() != frame.height)
            assert column.minimum is None or (values.drop_nulls() >= column.minimum).all()
            assert column.maximum is None or (values.drop_nulls() <= column.maximum).all()
            assert not column.choices or values.is_in(list(column.choices)).all()
    items = data.products["item_id"].implode()
    assert data.reviews["item_id"].is_in(items).all()
    assert data.events["item_id"].drop_nulls().is_in(items).all()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables=sites())
def test_all_formats_give_the_same_site(tables: dict[str, list[Row]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        read = []
        for suffix in (".csv", ".jsonl", ".parquet"):
            write_site(Path(root) / suffix, tables, suffix)
            read.append(read_site(Path(root) / suffix, today=TODAY))
    for data in read:
        assert data.complaints == ()
        is_valid(data)
        for table in (PRODUCTS, REVIEWS, EVENTS):
            frame = getattr(data, table.name)
            assert frame.height == len(tables[table.name])
            assert_frame_equal(frame, getattr(read[0], table.name), check_exact=True)
    by_id = {row["item_id"]: row for row in tables["products"]}
    for row in read[0].products.iter_rows(named=True):
        truth = by_id[row["item_id"]]
        assert row["price"] == truth["price"]
        assert row["listed_at"] == truth["listed_at"]


Edit = tuple[int, int, bytes]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("originals")
    start = datetime(2024, 1, 1, tzinfo=UTC)
    tables: dict[str, list[Row]] = {
        "products": [
            {"item_id": f"i{n}", "title": f"椅子 {n}", "price": n / 4, "listed_at": start} for n in range(9)
        ],
        "reviews": [{"review_id": f"r{n}", "user_id": "u", "item_id": "i1", "rating": 4.0} for n in range(3)],
        "events": [
            {
                "user_id": "u",
                "item_id": f"i{n}",
                "event": "view",
                "at": start + timedelta(hours=n),
                "quantity": 1,
            }
            for n in range(9)
        ],
    }
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_site(root / suffix, tables, suffix)
    return lambda suffix: root / suffix


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    file=st.sampled_from(
        [f"{t}{s}" for t in ("products", "events") for s in (".csv", ".jsonl", ".parquet")] + ["site.toml"]
    ),
    edits=st.lists(
        st.tuples(
            st.integers(0, 10**5),
            st.integers(0, 12),
            st.binary(max_size=6) | st.sampled_from([b'"', b"\n", b","]),
        ),
        min_size=1,
        max_size=6,
    ),
)
@example(file="products.csv", edits=[(0, 10**5, b"")])
@example(file="events.parquet", edits=[(4, 0, b"\xff" * 6)])
def test_mutated_bytes_raise_nothing_but_our_errors(
    originals: Callable[[str], Path], file: str, edits: list[Edit]
) -> None:
    suffix = Path(file).suffix if file != "site.toml" else ".csv"
    with tempfile.TemporaryDirectory() as root:
        folder = Path(shutil.copytree(originals(suffix), Path(root) / "site"))
        data = bytearray((folder / file).read_bytes())
        for place, gone, new in edits:
            at = place % (len(data) + 1)
            data[at : at + gone] = new
        (folder / file).write_bytes(data)
        try:
            site = read_site(folder, today=TODAY)
        except HansaError:
            return
    is_valid(site)
