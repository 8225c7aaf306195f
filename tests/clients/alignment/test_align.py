"""Alignment is held against what was planted: swapped pictures, pictures side by side, events before a review."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.alignment import align, write_alignment
from clients.alignment.align import _pairs
from clients.alignment.meaning import fit, judge_pairs
from clients.alignment.regions import attention
from clients.alignment.times import align_by_time, time_figures
from clients.alignment.vectors import SIDE, Features, image_vectors, readable, text_vectors
from clients.encoders import encode_regions
from clients.ingest import SiteData
from common.schema import EVENTS, PRODUCTS, REVIEWS
from simulations.cli import main

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def swapped(data: SiteData, count: int) -> tuple[SiteData, set[str]]:
    """The pictures of some products given to others of another category."""
    products = data.products.sample(fraction=1.0, shuffle=True, seed=4).with_row_index("n")
    chosen = products.unique("category", keep="first", maintain_order=True)
    rest = products.filter(~pl.col("n").is_in(chosen["n"].implode()))
    rows = pl.concat([chosen, rest]).head(count)
    given_ = dict(zip(rows["item_id"], [*rows["image"][1:], rows["image"][0]], strict=True))
    image = pl.col("item_id").replace_strict(given_, default=pl.col("image")).alias("image")
    kinds = dict(zip(data.products["image"], data.products["category"], strict=True))
    moved = data.products.with_columns(image)
    wrong = {
        item
        for item, picture, category in moved.select("item_id", "image", "category").iter_rows()
        if item in given_ and kinds[picture] != category
    }
    return dataclasses.replace(data, products=moved), wrong


def test_swapped_pictures_are_told_from_right_ones(site: SiteData, features: Features) -> None:
    whole = align(site, features)
    assert whole.pairs == site.products.height
    assert whole.fits > 0.7
    planted, wrong = swapped(site, 24)
    texts, shown = _pairs(planted, 0)
    pixels, _ = readable(planted.images, shown["image"].to_list(), lambda done, total: None)
    judged = judge_pairs(
        image_vectors(pixels, features), text_vectors(texts, features), shown["item_id"].to_list()
    )
    bad = shown["item_id"].is_in(list(wrong)).to_numpy()
    told = (judged.margin[bad][:, None] < judged.margin[~bad][None]).mean()
    assert told > 0.78, told
    listed = {each.item for each in align(planted, features).mismatches}
    before = {each.item for each in whole.mismatches}
    assert len(listed & wrong) >= 0.45 * len(wrong), (
        "a picture thrown in suits a text at random half the time"
    )
    assert len(before) <= 0.15 * site.products.height


def test_a_text_points_at_its_own_half_of_two_pictures(site: SiteData, features: Features) -> None:
    texts, shown = _pairs(site, 0)
    pixels, _ = readable(site.images, shown["image"].to_list(), lambda done, total: None)
    vectors = text_vectors(texts, features)
    draw = np.random.default_rng(0)
    held = draw.permutation(len(texts))[:48]
    learned = np.setdiff1d(np.arange(len(texts)), held)
    mapped = fit(image_vectors(pixels, features)[learned], vectors[learned])
    kinds, hits = shown["category"].to_list(), []
    for left in held:
        right = next(int(r) for r in draw.permutation(held) if kinds[r] != kinds[left])
        regions = encode_regions(np.concatenate([pixels[left], pixels[right]], axis=1)[None])[0]
        weights = attention(mapped, regions, vectors[[left, right]])
        assert weights.shape == (2, SIDE // 32, 2 * SIDE // 32)
        on_left = weights[:, :, : SIDE // 32].sum((1, 2))
        hits += [on_left[0] > 0.5, on_left[1] < 0.5]
    assert np.mean(hits) > 0.7, np.mean(hits)


@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_attention_is_a_distribution(seed: int, height: int, width: int) -> None:
    draw = np.random.default_rng(seed)
    mapped = fit(draw.normal(size=(30, 8)), draw.normal(size=(30, 6)))
    weights = attention(mapped, draw.normal(size=(height, width, 8)) * 50, draw.normal(size=(3, 6)))
    assert np.allclose(weights.sum((1, 2)), 1)
    assert (weights >= 0).all()


def test_pairs_without_a_relation_are_judged_as_chance() -> None:
    draw = np.random.default_rng(3)
    judged = judge_pairs(
        draw.normal(size=(400, 20)), draw.normal(size=(400, 16)), [str(n) for n in range(400)]
    )
    assert abs(judged.beaten.mean() - 0.5) < 0.05


def test_variants_of_a_product_never_learn_from_each_other() -> None:
    draw = np.random.default_rng(3)
    images, texts = draw.normal(size=(200, 20)), draw.normal(size=(200, 16))
    double = judge_pairs(np.repeat(images, 2, 0), np.repeat(texts, 2, 0), [str(n // 2) for n in range(400)])
    assert abs(double.beaten.mean() - 0.5) < 0.06, "a copy in another fold would give the answer away"


def _table(schema: dict[str, pl.DataType], rows: list[dict[str, object]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema_overrides=schema).select(
        pl.col(name) if name in rows[0] else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in schema.items()
    )


def test_reviews_follow_the_last_event_and_the_picture_that_it_showed() -> None:
    def seen(item: str, event: str, minutes: int) -> dict[str, object]:
        return {"user_id": "u", "item_id": item, "event": event, "at": NOON + timedelta(minutes=minutes)}

    log = [seen("i", "view", 0), seen("i", "purchase", 5), seen("i", "view", 60), seen("j", "view", 90)]
    written = {"user_id": "u", "created_at": NOON + timedelta(minutes=35)}
    both = [written | {"review_id": "r", "item_id": "i"}, written | {"review_id": "s", "item_id": "j"}]
    events, reviews = _table(EVENTS.polars_schema, log), _table(REVIEWS.polars_schema, both)
    products = _table(
        PRODUCTS.polars_schema, [{"item_id": "i", "image": "i.jpg"}, {"item_id": "j", "image": "j.jpg"}]
    )
    aligned = align_by_time(events, reviews, products)
    first = aligned.row(0, named=True)
    assert (first["event"], first["shown"], first["after"]) == ("purchase", "i.jpg", timedelta(minutes=30))
    figures = time_figures(aligned)
    assert (figures.dated, figures.with_event, figures.median_hours, figures.alone) == (2, 0.5, 0.5, ("s",))


def test_a_site_of_few_pictures_says_so(site: SiteData, features: Features, tmp_path: Path) -> None:
    few = dataclasses.replace(site, products=site.products.head(10), title="<script>alert(1)</script>")
    alignment = align(few, features)
    assert (alignment.pairs, alignment.maps, alignment.mismatches) == (10, (), ())
    page = write_alignment(alignment, few.images, tmp_path)[0].read_text()
    assert "Too few products" in page
    assert "<script>alert" not in page


def test_the_command_writes_maps_and_mismatches(
    folder: Path,
    cache: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HANSA_CACHE", str(cache))
    main(["quality", str(folder), "--out", str(tmp_path), "--alignment", "--quiet", "--format", "json"])
    assert "alignment.html" in capsys.readouterr().err
    twin = json.loads((tmp_path / "alignment.json").read_text())
    assert twin["time"]["after_purchase"] > 0.5
    assert twin["meaning"]["found"] == len(twin["meaning"]["mismatches"])
    assert {len(each["weights"]) for each in twin["regions"]} == {7}
    page = (tmp_path / "alignment.html").read_text()
    assert page.count("data:image/jpeg") >= len(twin["regions"])
    assert "按区域" in page
