"""The data contract keeps its promises to whoever writes or reads a site folder."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from common.errors import ConfigError
from common.schema import (
    EVENTS,
    PRODUCTS,
    REVIEWS,
    TABLES,
    Complaint,
    SiteInfo,
    SplitDates,
    did_you_mean,
    end_of_tomorrow,
    parse_site_info,
)


@pytest.mark.parametrize(
    ("table", "names", "required"),
    [
        (
            PRODUCTS,
            "item_id title description category brand price attributes image listed_at product_code",
            "item_id",
        ),
        (
            REVIEWS,
            "review_id user_id item_id rating text created_at image",
            "review_id user_id item_id",
        ),
        (EVENTS, "user_id item_id event at session_id query quantity price", "user_id event at"),
    ],
    ids=["products", "reviews", "events"],
)
def test_tables_have_the_columns_of_the_contract(table: Any, names: str, required: str) -> None:
    assert table.names == tuple(names.split())
    assert [column.name for column in table.columns if column.required] == required.split()


def test_dtypes_are_canonical_and_empty_tables_carry_them() -> None:
    assert EVENTS.empty().schema["at"] == pl.Datetime("us", "UTC")
    assert EVENTS.empty().schema["quantity"] == pl.Int64
    assert PRODUCTS.empty().schema["price"] == pl.Float64
    for table in TABLES:
        assert dict(table.empty().schema) == table.polars_schema
        assert set(table.sort_by) <= set(table.names)
        # A row without a required value can't be kept, so a bad one must cost the row.
        assert all(column.on_bad == "skip" for column in table.columns if column.required)


def test_unknown_column_name_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        PRODUCTS.column("prise")


def test_complaint_sentence_names_file_row_column_problem_and_action() -> None:
    whole = Complaint("events.csv", 7, "at", "in the future: '2999'", "row skipped")
    assert whole.sentence() == "events.csv, row 7, column 'at': in the future: '2999' (row skipped)"
    assert Complaint("events.csv", None, "", "odd", "row kept").sentence() == "events.csv: odd (row kept)"


def test_site_info_defaults() -> None:
    info = parse_site_info({"name": "alder"})
    assert (info.title, info.language, info.region, info.encoding) == ("alder", "en", "", "utf-8")
    assert info.images.path == "images"
    assert info.split.dates() is None
    assert info.policy.on_bad_rows == "skip"
    assert info == SiteInfo(name="alder", title="alder")


def test_split_dates_are_utc_instants_however_they_are_written() -> None:
    info = parse_site_info(
        {
            "name": "a",
            "split": {
                "validation_from": "2020-09-20",
                "test_from": date(2020, 9, 21),
                "test_until": "2020-09-22T02:00:00+02:00",
            },
        }
    )
    days = [datetime(2020, 9, day, tzinfo=UTC) for day in (20, 21, 22)]
    assert info.split.dates() == SplitDates(*days)


@pytest.mark.parametrize(
    ("data", "needle"),
    [
        ({"name": "a", "lang": "en"}, "did you mean 'language'?"),
        ({"name": "a", "images": {"pth": "x"}}, "did you mean 'path'?"),
        ({"name": "a", "policy": {"on_bad_row": "skip"}}, "did you mean 'on_bad_rows'?"),
        ({}, "'name' is missing"),
        ({"name": "A shop"}, "'name' has a value"),
        ({"name": "a\n"}, "'name' has a value"),
        ({"name": "../up"}, "'name' has a value"),
        ({"name": 3}, "'name' has a value"),
        ({"name": "a", "policy": {"on_bad_rows": "maybe"}}, "'policy.on_bad_rows'"),
        ({"name": "a", "images": "here"}, "'images' has a value"),
        ({"name": "a", "split": {"test_from": "2020-01-01"}}, "or none of them"),
        (
            {
                "name": "a",
                "split": {
                    "validation_from": "2020-01-03",
                    "test_from": "2020-01-02",
                    "test_until": "2020-01-04",
                },
            },
            "follow one another",
        ),
    ],
)
def test_bad_site_info_names_the_key_and_the_nearest_known(data: dict[str, Any], needle: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_site_info(data, where="shop/site.toml")
    assert needle in caught.value.sentence()
    assert "shop/site.toml" in caught.value.sentence()


def test_did_you_mean_lists_all_where_none_is_near() -> None:
    assert did_you_mean("zzz", ["price", "title"]) == "known are price, title"


def test_the_future_begins_after_tomorrow() -> None:
    assert end_of_tomorrow(date(2024, 2, 28)) == datetime(2024, 3, 1, tzinfo=UTC)
