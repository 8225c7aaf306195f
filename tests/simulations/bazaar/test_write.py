"""What the bazaar promises: determinism, valid tables, and knobs that do what they say."""

from __future__ import annotations

import hashlib
import json
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import ConfigError, InputError, MachineError
from simulations.bazaar import BazaarConfig, load_bazaar_config, write_league
from simulations.engines.forkserver import ForkServer

TINY = BazaarConfig(seed=3, n_sites=3, users_per_site=25, items_per_site=24)
EVENTS = {"view", "click", "cart", "purchase", "search"}


def read(folder: Path, table: str) -> pl.DataFrame:
    path = next(folder.glob(f"{table}.*"))
    frame = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[path.suffix](path)
    instants = [name for name in ("at", "created_at", "listed_at") if name in frame.columns]
    if path.suffix == ".parquet":
        return frame
    return frame.with_columns(
        pl.col(instants).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC")
    )


def fingerprint(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def check_folder(folder: Path) -> None:
    products, events = read(folder, "products"), read(folder, "events")
    known = set(products["item_id"])
    assert len(known) == products.height
    assert products["price"].min() >= 0
    assert set(events["event"].unique()) <= EVENTS
    assert events["at"].is_sorted()
    assert events["at"].null_count() == 0
    shopped = events.filter(pl.col("event") != "search")
    assert set(shopped["item_id"]) <= known
    assert shopped["item_id"].null_count() == 0
    listed = shopped.join(products.select("item_id", "listed_at"), on="item_id")
    assert (listed["at"] >= listed["listed_at"]).all()
    # Nobody does two things in the same second, and a purchase follows a view of the same thing.
    assert not events.select("user_id", "at").is_duplicated().any()
    first = shopped.group_by("user_id", "item_id").agg(
        seen=pl.col("at").filter(pl.col("event") == "view").min(),
        bought=pl.col("at").filter(pl.col("event") == "purchase").min(),
    )
    assert first["seen"].null_count() == 0
    assert (first["seen"] < first["bought"]).fill_null(True).all()
    if any(folder.glob("reviews.*")):
        reviews = read(folder, "reviews")
        assert set(reviews["item_id"]) <= known
        assert reviews["rating"].is_between(1, 5).all()
        assert reviews["review_id"].is_unique().all()
        assert reviews["created_at"].is_sorted()


@pytest.fixture(scope="module")
def league(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bazaar") / "league"
    write_league(out, TINY)
    return out


def test_same_configuration_gives_the_same_bytes(league: Path, tmp_path: Path) -> None:
    write_league(tmp_path / "again", TINY)
    write_league(tmp_path / "again", TINY)  # replaces its own work
    assert fingerprint(tmp_path / "again") == fingerprint(league)


def test_another_seed_gives_other_customers(league: Path, tmp_path: Path) -> None:
    write_league(tmp_path / "other", TINY.model_copy(update={"seed": 4}))
    assert (
        fingerprint(tmp_path / "other")["lubeck/events.parquet"]
        != fingerprint(league)["lubeck/events.parquet"]
    )


def test_every_folder_holds_valid_tables(league: Path) -> None:
    described = json.loads((league / "league.json").read_text(encoding="utf-8"))
    assert [site["held_out"] for site in described] == [False, False, False, True]
    assert {site["language"] for site in described} == {"en", "zh"}
    for site in described:
        folder = league / site["folder"]
        check_folder(folder)
        card = tomllib.loads((folder / "site.toml").read_text(encoding="utf-8"))
        assert card["name"] == site["name"]
        assert card["split"]["validation_from"] < card["split"]["test_from"]
        products = read(folder, "products")
        pictures = {path.name for path in (folder / "images").iterdir()}
        assert pictures == set(products["image"])
        with Image.open(folder / "images" / products["image"][0]) as picture:
            assert picture.size == (64, 64)


def test_all_file_formats_occur(league: Path) -> None:
    assert {path.suffix for path in league.glob("*/*.*")} >= {".parquet", ".csv", ".jsonl"}
    assert {path.suffix for path in league.glob("*/images/*")} == {".png", ".jpg"}


def test_missing_modalities_are_missing(tmp_path: Path) -> None:
    config = BazaarConfig(n_sites=3, held_out=0, users_per_site=10, items_per_site=8, missing_modalities=1.0)
    without_image, without_reviews, without_text = write_league(tmp_path / "l", config)
    assert not (without_image / "images").exists()
    assert "image" not in read(without_image, "products").columns
    assert not list(without_reviews.glob("reviews.*"))
    assert "title" not in read(without_text, "products").columns
    assert (
        tomllib.loads((without_text / "site.toml").read_text(encoding="utf-8"))["modalities"]["text"] is False
    )


def test_fake_reviews_come_in_the_share_asked_for(tmp_path: Path) -> None:
    sizes = {"n_sites": 1, "held_out": 0, "users_per_site": 120, "items_per_site": 30}
    for share in (0.0, 0.5):
        (folder,) = write_league(
            tmp_path / str(share), BazaarConfig.model_validate({**sizes, "fake_reviews": share})
        )
        buyers = set(read(folder, "events")["user_id"])
        strangers = read(folder, "reviews")["user_id"].is_in(buyers).not_().mean()
        assert strangers == pytest.approx(share, abs=0.02)


def test_ratings_and_conversion_make_sense(tmp_path: Path) -> None:
    config = BazaarConfig(n_sites=1, held_out=0, users_per_site=250, items_per_site=60)
    (folder,) = write_league(tmp_path / "l", config)
    events = read(folder, "events")
    counts = dict(events["event"].value_counts().iter_rows())
    assert counts["view"] > counts["cart"] > 0.5 * counts["purchase"] > 0
    assert 0.03 < counts["purchase"] / counts["view"] < 0.25
    hours = events["at"].dt.hour()
    assert (hours.is_between(18, 22)).mean() > 3 * (hours.is_between(1, 5)).mean()
    assert np.std(read(folder, "reviews")["rating"].to_numpy()) > 0.5


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="not empty"):
        write_league(tmp_path, TINY)
    assert (tmp_path / "thesis.txt").read_text(encoding="utf-8") == "mine"


def test_unknown_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"sites.*known settings: .*n_sites"):
        load_bazaar_config({"sites": 3})
    assert load_bazaar_config({"preset": "rich", "n_sites": 2}).users_per_site == 1500


@settings(max_examples=8, deadline=None)
@given(
    config=st.builds(
        BazaarConfig,
        seed=st.integers(0, 1000),
        n_sites=st.integers(1, 2),
        held_out=st.integers(0, 1),
        users_per_site=st.integers(2, 8),
        items_per_site=st.integers(4, 9),
        sessions_per_user=st.floats(0.2, 20),
        days=st.integers(10, 90),
        skew=st.floats(0, 1),
        text_signal=st.floats(0, 1),
        image_signal=st.floats(0, 1),
        fake_reviews=st.floats(0, 0.9),
        missing_modalities=st.floats(0, 1),
        languages=st.sampled_from(["mixed", "en", "zh"]),
    )
)
def test_any_small_league_is_valid(config: BazaarConfig) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for folder in write_league(Path(scratch) / "l", config):
            check_folder(folder)


def test_a_second_process_draws_the_same_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_league(tmp_path / "one", TINY)
    monkeypatch.setattr("simulations.bazaar.write._WORTH_A_PROCESS", 1)
    monkeypatch.setattr("simulations.bazaar.write.os.cpu_count", lambda: 2)
    folders = write_league(tmp_path / "two", TINY)
    assert all((folder / "site.toml").is_file() for folder in folders)
    assert fingerprint(tmp_path / "one") == fingerprint(tmp_path / "two")


def test_a_second_process_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("simulations.bazaar.write._WORTH_A_PROCESS", 1)
    monkeypatch.setattr("simulations.bazaar.write.os.cpu_count", lambda: 2)
    fork = ForkServer.fork
    monkeypatch.setattr(
        ForkServer,
        "fork",
        lambda server, job, order: fork(server, job, order | {"config": {"users_per_site": -1}}),
    )
    with pytest.raises(MachineError, match="half of the merchants"):
        write_league(tmp_path / "league", TINY)
    assert not (tmp_path / "league" / "league.json").exists()
