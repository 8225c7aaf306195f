"""Which articles are candidates: those on sale before the test day, with nothing of theirs from that day."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from clients.ingest import read_site
from common.errors import InputError
from simulations.connectors import connector
from simulations.connectors.base import RECORD


@pytest.fixture
def novelties(tmp_path: Path) -> Path:
    """One department; article 3 is first sold on the test day, and article 1's price changes on that day."""
    folder = tmp_path / "hm"
    folder.mkdir()
    told = (
        "product_type_name",
        "graphical_appearance_name",
        "colour_group_name",
        "section_name",
        "index_name",
    )
    articles = [
        {
            "article_id": f"010000000{n}", "product_code": "0100000", "prod_name": "Top",
            "product_group_name": "Top", "detail_desc": "A top.", **dict.fromkeys(told, "x"),
        }
        for n in (1, 2, 3)
    ]  # fmt: skip
    pl.DataFrame(articles).write_csv(folder / "articles.csv")
    rows = [
        ("2020-09-16", "a", 1, 0.2), ("2020-09-17", "b", 1, 0.3), ("2020-09-18", "a", 1, 0.4),
        ("2020-09-19", "b", 2, 0.5),
        ("2020-09-20", "a", 1, 0.9), ("2020-09-20", "a", 3, 0.7), ("2020-09-20", "c", 3, 0.7),
        ("2020-09-20", "c", 2, 0.5),
        ("2020-09-20", "d", 3, 0.7), ("2020-09-22", "a", 2, 0.1),
    ]  # fmt: skip
    named = [(day, user, f"010000000{n}", price) for day, user, n, price in rows]
    pl.DataFrame(named, schema=["t_dat", "customer_id", "article_id", "price"], orient="row").write_csv(
        folder / "transactions_train.csv"
    )
    return folder


def test_candidates_are_what_was_on_sale_before_the_test_day(novelties: Path, tmp_path: Path) -> None:
    (ref,) = connector("hm").write_sites(novelties, tmp_path / "out", "", {"test_day": "2020-09-20"})
    data = read_site(ref.folder)
    assert data.complaints == ()
    assert data.products["item_id"].to_list() == ["0100000001", "0100000002"]
    assert data.products["price"].to_list() == pytest.approx([0.3, 0.5]), (
        "the test day's price tells the future"
    )
    assert data.products["listed_at"].dt.day().to_list() == [16, 19]
    assert set(data.events["item_id"]) == {"0100000001", "0100000002"}
    assert data.events.height == 6
    assert set(data.events["user_id"]) == {"a", "b", "c"}
    (recorded,) = json.loads((tmp_path / "out" / RECORD).read_text())["sites"]
    assert (ref.left_out, recorded["left_out"]) == (3, 3)


def test_novelties_of_the_test_day_stay_where_they_are_asked_for(novelties: Path, tmp_path: Path) -> None:
    options = {"test_day": "2020-09-20", "candidates": "all"}
    (ref,) = connector("hm").write_sites(novelties, tmp_path / "out", "", options)
    data = read_site(ref.folder)
    assert data.products["listed_at"].dt.day().to_list() == [16, 19, 20]
    assert data.products["price"].to_list() == [pytest.approx(0.3), 0.5, None]
    assert (data.events.height, ref.left_out) == (9, 0)


def test_customers_of_novelties_alone_dont_make_a_site_large_enough(novelties: Path, tmp_path: Path) -> None:
    source, options = connector("hm"), {"test_day": "2020-09-20", "min_users": 4}
    with pytest.raises(InputError, match="no site is left"):
        source.write_sites(novelties, tmp_path / "out", "", options)
    assert source.write_sites(novelties, tmp_path / "out", "", options | {"candidates": "all"})
