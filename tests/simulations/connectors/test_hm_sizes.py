"""Which departments of the fashion house become sites: those with `min_users` customers or more, by hand."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from clients.ingest import read_site
from common.errors import InputError
from simulations.connectors import connector

CUSTOMERS = {"Divided": 2, "Kids": 3, "Ladies": 4, "Menswear": 0}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Departments with two, three, four and no customers, each of whom buys twice."""
    folder = tmp_path / "hm"
    folder.mkdir()
    told = ("product_type_name", "graphical_appearance_name", "colour_group_name", "section_name")
    articles = [
        {
            "article_id": f"010000000{number}", "product_code": "0100000", "prod_name": title,
            "product_group_name": "Garment", "index_name": title, "detail_desc": "A top.", **dict.fromkeys(told, "x"),
        }
        for number, title in enumerate(CUSTOMERS)
    ]  # fmt: skip
    pl.DataFrame(articles).write_csv(folder / "articles.csv")
    rows = [
        (f"2020-09-{day:02}", f"c{customer}", f"010000000{number}", 0.5)
        for number, count in enumerate(CUSTOMERS.values())
        for customer in range(count)
        for day in (20, 22)
    ]
    pl.DataFrame(rows, schema=["t_dat", "customer_id", "article_id", "price"], orient="row").write_csv(
        folder / "transactions_train.csv"
    )
    return folder


@pytest.mark.parametrize(
    ("least", "kept"),
    [
        (1, ["divided", "kids", "ladies"]),
        (2, ["divided", "kids", "ladies"]),
        (3, ["kids", "ladies"]),
        (4, ["ladies"]),
    ],
)
def test_a_site_of_exactly_as_many_customers_as_asked_for_is_kept(
    least: int, kept: list[str], house: Path, tmp_path: Path
) -> None:
    refs = connector("hm").write_sites(house, tmp_path / "out", "", {"min_users": least})
    assert [ref.name for ref in refs] == kept
    for ref in refs:
        events = read_site(ref.folder).events
        assert events["user_id"].n_unique() == CUSTOMERS[ref.title]
        assert events.height == 2 * CUSTOMERS[ref.title]


def test_customers_count_before_some_are_drawn(house: Path, tmp_path: Path) -> None:
    refs = connector("hm").write_sites(house, tmp_path / "out", "", {"min_users": 3, "users_per_site": 1})
    assert [ref.name for ref in refs] == ["kids", "ladies"]
    assert [read_site(ref.folder).events["user_id"].n_unique() for ref in refs] == [1, 1]


def test_more_customers_than_any_department_has_leave_no_site(house: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no site is left"):
        connector("hm").write_sites(house, tmp_path / "out", "", {"min_users": 5})
