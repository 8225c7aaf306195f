"""Faults of each kind planted into bazaar merchants are found, and little else is suspected."""

from __future__ import annotations

import dataclasses
import json
import shutil
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageFilter

from clients.encoders import FeatureCache, FolderShards
from clients.ingest import SiteData, ingest_site, read_site, read_vault
from clients.quality import assess, embedding_spread, write_quality
from common.schema import QualitySection
from simulations.bazaar import BazaarConfig, write_league
from simulations.cli import main
from tests.clients.ingest.stores import FolderStore

SETTINGS = QualitySection()


@pytest.fixture(scope="module")
def league(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("league")
    write_league(
        out,
        BazaarConfig(n_sites=2, held_out=0, users_per_site=60, items_per_site=60, days=40, fake_reviews=0.0),
    )
    return sorted(path.parent for path in out.rglob("site.toml"))


@pytest.fixture(scope="module", params=[0, 1])
def site(request: pytest.FixtureRequest, league: list[Path]) -> SiteData:
    return read_site(league[request.param])


def found(data: SiteData, name: str) -> set[str]:
    return {found for check in assess(data, SETTINGS).checks if check.name == name for found in check.found}


def _add(data: SiteData, rows: list[dict[str, object]]) -> SiteData:
    more = pl.DataFrame(rows, schema=data.reviews.schema)
    return dataclasses.replace(data, reviews=pl.concat([data.reviews, more]))


def _row(data: SiteData, number: int, **kept: object) -> dict[str, object]:
    base = data.reviews.row(number % data.reviews.height, named=True)
    return base | {"review_id": f"planted{number}"} | kept


def _judge(data: SiteData, planted: SiteData, name: str, wanted: set[str], of: int) -> None:
    seen, before = found(planted, name), found(data, name)
    assert len(seen & wanted) >= 0.95 * len(wanted), (name, len(seen & wanted), len(wanted))
    assert len(before) <= 0.02 * of, (name, len(before), of)
    assert len(seen - wanted - before) <= 0.02 * of, (name, len(seen - wanted - before), of)


def test_reviews_written_twice(site: SiteData) -> None:
    long = site.reviews.with_row_index("n").filter(pl.col("text").str.len_chars() > 24)["n"].to_list()[:20]
    rows = [_row(site, n, created_at=site.reviews["created_at"][n] + timedelta(days=1)) for n in long]
    wanted = {str(row["review_id"]) for row in rows}
    _judge(site, _add(site, rows), "duplicate_reviews", wanted, site.reviews.height)


def test_one_text_under_many_names(site: SiteData) -> None:
    text = "This item number {} is simply the very thing that everybody on earth should own today 必须人手一件的宝贝"
    rows = [_row(site, n, user_id=f"stranger{n}", text=text.format(n)) for n in range(20)]
    _judge(
        site, _add(site, rows), "templated_reviews", {str(r["review_id"]) for r in rows}, site.reviews.height
    )


def test_a_burst_of_praise(site: SiteData) -> None:
    day = site.reviews["created_at"].drop_nulls()[0]
    rows = [
        _row(
            site,
            n,
            item_id=site.products["item_id"][0],
            rating=5.0,
            created_at=day + timedelta(minutes=n),
            text=f"t{n}",
        )
        for n in range(20)
    ]
    _judge(site, _add(site, rows), "burst_reviews", {str(r["review_id"]) for r in rows}, site.reviews.height)


def test_stars_at_odds_with_the_words(site: SiteData) -> None:
    bad = (
        "Terrible, it broke on day one. Complete waste, I want a refund."
        if site.language == "en"
        else "质量差，用一天就坏了，太差了，退货！"
    )
    good = "Excellent, I love it and recommend it." if site.language == "en" else "非常好，很喜欢，推荐！"
    rows = [_row(site, n, rating=5.0, text=f"{bad} {n}") for n in range(10)] + [
        _row(site, n, rating=1.0, text=f"{good} {n}") for n in range(10, 20)
    ]
    _judge(
        site,
        _add(site, rows),
        "rating_text_mismatch",
        {str(r["review_id"]) for r in rows},
        site.reviews.height,
    )


def test_accounts_that_only_praise(site: SiteData) -> None:
    rows = [_row(site, 8 * n + k, user_id=f"shill{n}", rating=5.0) for n in range(20) for k in range(8)]
    _judge(
        site,
        _add(site, rows),
        "suspicious_accounts",
        {f"shill{n}" for n in range(20)},
        site.reviews["user_id"].n_unique(),
    )


def _log(data: SiteData, extra: pl.DataFrame) -> SiteData:
    return dataclasses.replace(data, events=pl.concat([data.events, extra.select(data.events.columns)]))


def test_faults_in_logs(site: SiteData) -> None:
    events, height = site.events, site.events.height
    again = events.sample(30, seed=1)
    _judge(site, _log(site, again), "repeated_events", {str(height + n) for n in range(30)}, height)
    start = events["at"][0]
    paced = pl.Series("at", [start + timedelta(milliseconds=300 * n) for n in range(200)]).dt.cast_time_unit(
        "us"
    )
    machines = [events.head(200).with_columns(pl.lit(f"bot{n}").alias("user_id"), paced) for n in range(20)]
    _judge(
        site,
        _log(site, pl.concat(machines)),
        "bots",
        {f"bot{n}" for n in range(20)},
        events["user_id"].n_unique(),
    )
    looked = events.filter(pl.col("event") == "view").drop_nulls("session_id").head(30)
    early = looked.with_columns(
        pl.lit("purchase").alias("event"),
        (pl.col("at") - timedelta(days=2)).alias("at"),
        pl.lit("odd").alias("session_id"),
        ("odd" + pl.int_range(pl.len()).cast(pl.String)).alias("user_id"),
    )
    late = early.with_columns(
        pl.lit("view").alias("event"), (pl.col("at") + timedelta(minutes=5)).alias("at")
    )
    _judge(
        site,
        _log(site, pl.concat([early, late])),
        "impossible_order",
        {str(height + n) for n in range(30)},
        height,
    )
    days = sorted(set(events["at"].dt.date().to_list()))[5:25]
    holed = dataclasses.replace(site, events=events.filter(~pl.col("at").dt.date().is_in(days)))
    _judge(site, holed, "days_without_events", {str(day) for day in days}, 40)


def test_faults_in_pictures(site: SiteData, tmp_path: Path) -> None:
    names, count, draw = sorted(site.images.names()), 20, np.random.default_rng(0)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(site.images.read(name))
    kinds = ("unreadable_pictures", "blurred_pictures", "noisy_pictures", "bad_exposure", "alike_pictures")
    planted: dict[str, set[str]] = {kind: {f"z{kind}{n}.png" for n in range(count)} for kind in kinds}
    for n in range(count):
        with Image.open(tmp_path / names[n]) as opened:
            picture = opened.convert("RGB")
        (tmp_path / f"zunreadable_pictures{n}.png").write_bytes((tmp_path / names[n]).read_bytes()[:60])
        picture.filter(ImageFilter.GaussianBlur(3)).save(tmp_path / f"zblurred_pictures{n}.png")
        grain = np.asarray(picture, np.float32) + draw.normal(0, 25, (*picture.size[::-1], 3))
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(tmp_path / f"znoisy_pictures{n}.png")
        flat = n if n % 2 else 255 - n // 8
        Image.fromarray(np.full((90, 90, 3), flat, np.uint8)).save(tmp_path / f"zbad_exposure{n}.png")
        picture.save(tmp_path / f"zalike_pictures{n}.png")
    from clients.ingest import ImageStore

    dirty = assess(dataclasses.replace(site, images=ImageStore(tmp_path)), SETTINGS)
    clean = assess(site, SETTINGS)
    for kind, wanted in planted.items():
        seen, before = (
            next(set(c.found) for c in judged.checks if c.name == kind) for judged in (dirty, clean)
        )
        assert len(seen & wanted) >= 0.95 * count, (kind, wanted - seen)
        assert len(before) <= 0.02 * len(names), (kind, len(before), len(names))
        # A blurred or noisy copy is a copy too, and whichever of two is met second counts as the other's twin.
        others = {name for name in seen if not name.startswith("z")}
        assert len(others) <= 0.02 * len(names), (kind, others)


def test_rows_that_lack_what_matters(site: SiteData) -> None:
    gone = set(site.products["item_id"].sample(20, seed=1))
    holed = pl.when(pl.col("item_id").is_in(list(gone))).then(None).otherwise(pl.col("title")).alias("title")
    rows = [_row(site, n, text=None, rating=None) for n in range(20)]
    planted = _add(dataclasses.replace(site, products=site.products.with_columns(holed)), rows)
    wanted = gone | {str(row["review_id"]) for row in rows}
    _judge(site, planted, "incomplete_rows", wanted, site.products.height + site.reviews.height)
    empty = dataclasses.replace(
        site, reviews=site.reviews.with_columns(pl.lit(None, pl.String).alias("text"))
    )
    assert found(empty, "empty_columns") == {"reviews.text"}


def test_rows_that_break_the_schema(league: list[Path], tmp_path: Path) -> None:
    for number, folder in enumerate(league):
        site = tmp_path / str(number)
        shutil.copytree(folder, site, ignore=shutil.ignore_patterns("reviews.*"))
        reviews = read_site(folder).reviews
        item = reviews["item_id"][0]
        bad = [f"b{n},u,{item},{9 + n},t,2026-03-09" for n in range(10)]
        bad += [f"c{n},u,unheard-{n},5,t,2026-03-09" for n in range(10)] + [
            f"d{n},,{item},5,t," for n in range(10)
        ]
        fine = [f"f{n},u{n},{item},5,t{n},2026-03-09" for n in range(100)]
        (site / "reviews.csv").write_text(
            "review_id,user_id,item_id,rating,text,created_at\n" + "\n".join(fine + bad) + "\n"
        )
        seen = {sentence.partition(", column")[0] for sentence in found(read_site(site), "refused_reviews")}
        assert seen == {f"reviews.csv, row {row}" for row in range(101, 131)}
        assert not found(read_site(folder), "refused_reviews")


def test_faults_are_counted_where_they_are_too_many_to_name(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    (tmp_path / "products.csv").write_text("item_id,title\ni,Bag\n")
    reviews = [f"r{n},u,i,{9 if n < 700 else 5}" for n in range(1000)]
    (tmp_path / "reviews.csv").write_text("review_id,user_id,item_id,rating\n" + "\n".join(reviews) + "\n")
    events = [f"u,i,view,2026-03-{n % 28 + 1:02}T10:{n // 60 % 60:02}:{n % 60:02}Z" for n in range(50_000)]
    (tmp_path / "events.csv").write_text("user_id,item_id,event,at\n" + "\n".join(events) + "\n")
    data = read_site(tmp_path)
    plain = next(c for c in assess(data, SETTINGS).checks if c.name == "refused_reviews")
    assert (plain.count, plain.of, plain.share, plain.passed) == (700, 1000, 0.7, False)
    assert len(plain.found) == 100
    store = FolderStore(tmp_path / "store")
    assert ingest_site(tmp_path, store).complaints == 700
    sealed = next(c for c in assess(read_vault(store), SETTINGS).checks if c.name == "refused_reviews")
    assert (sealed.count, sealed.of, sealed.passed) == (700, 1000, False)


def test_a_site_of_one_picture_and_one_text_has_no_spread(site: SiteData, tmp_path: Path) -> None:
    features = lambda encoder: FeatureCache(FolderShards(tmp_path / encoder))  # noqa: E731
    whole = embedding_spread(site, features)
    first = pl.col("image", "title", "description", "brand", "attributes").first()
    same = embedding_spread(dataclasses.replace(site, products=site.products.with_columns(first)), features)
    assert whole["text_spread"] > 0.2
    assert whole["image_spread"] > 0.05
    assert same["text_spread"] == pytest.approx(0, abs=1e-3)
    assert same["image_spread"] == pytest.approx(0, abs=1e-3)


def test_the_report_is_written_in_both_languages_and_escapes(site: SiteData, tmp_path: Path) -> None:
    hostile = dataclasses.replace(site, title="<script>alert(1)</script>")
    html, twin = write_quality(assess(hostile, SETTINGS), site.images, tmp_path)
    page = html.read_text()
    assert "<script>alert" not in page
    assert "数据质量" in page
    assert "Data quality" in page
    assert json.loads(twin.read_text())["site"] == site.name


def test_the_command_ends_with_one_when_a_limit_is_passed(
    league: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = league[0]
    assert main(["quality", str(folder), "--out", str(tmp_path), "--quiet", "--format", "json"]) == 0
    text = (folder / "site.toml").read_text()
    (folder / "site.toml").write_text(text + "\n[quality]\nmax_blur = 0.0\n")
    try:
        assert main(["quality", str(folder), "--out", str(tmp_path), "--quiet"]) == 1
    finally:
        (folder / "site.toml").write_text(text)
