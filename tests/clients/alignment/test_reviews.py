"""Reviews that were put under another product are told from those under their own, and what says nothing is let be."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from clients.alignment import align, write_alignment
from clients.alignment.review_mismatches import QUOTED, align_reviews, quote
from clients.alignment.reviews import ProductVectors, judge_reviews
from clients.alignment.vectors import Features, image_vectors, readable, text_vectors
from clients.data.arrays import item_texts
from clients.ingest import SiteData, read_site
from simulations.bazaar import BazaarConfig, write_league
from simulations.bazaar.lexicon import LEXICONS
from simulations.bazaar.texts import write_review


def _written(site: SiteData, count: int, seed: int = 0) -> SiteData:
    """The site with so many reviews, as the bazaar writes them."""
    draw, lexicon = np.random.default_rng(seed), LEXICONS[site.language]
    number = {names[0]: at for at, names in enumerate(lexicon.categories)}
    kinds = [number[each] for each in site.products["category"]]
    at = draw.integers(0, len(kinds), count)
    ratings = draw.integers(1, 6, count).astype(float)
    texts = [write_review(draw, site.language, kinds[i], r, 0.9) for i, r in zip(at, ratings, strict=True)]
    rows = {
        "review_id": [f"r{n:05}" for n in range(count)], "user_id": [f"u{n}" for n in range(count)],
        "item_id": site.products["item_id"].gather(at), "rating": ratings, "text": texts,
    }  # fmt: skip
    schema = site.reviews.schema
    made = pl.DataFrame(rows).select(
        (pl.col(name) if name in rows else pl.lit(None)).cast(kind).alias(name)
        for name, kind in schema.items()
    )
    return dataclasses.replace(site, reviews=made)


def _moved(site: SiteData, share: float, seed: int = 1) -> tuple[SiteData, set[str]]:
    """Some reviews put under a product of another category."""
    draw, ids = np.random.default_rng(seed), site.products["item_id"].to_list()
    kinds = dict(zip(ids, site.products["category"], strict=True))
    wrong, items = set(), []
    for review, item in site.reviews.select("review_id", "item_id").iter_rows():
        if draw.random() < share:
            wrong.add(review)
            item = next(each for each in draw.permutation(ids) if kinds[each] != kinds[item])
        items.append(item)
    return dataclasses.replace(
        site, reviews=site.reviews.with_columns(pl.Series("item_id", items, dtype=pl.String))
    ), wrong


def _told(site: SiteData, features: Features, wrong: set[str]) -> tuple[float, float]:
    """AUC of `beaten` for moved against right reviews: of all, and of those that name a thing."""
    pixels, found = readable(site.images, site.products["image"].to_list(), lambda done, total: None)
    texts = text_vectors(item_texts(site.products), features)
    catalogue = ProductVectors(
        texts, image_vectors(pixels, features), np.array(found), site.products["item_id"].to_list()
    )
    row = {item: at for at, item in enumerate(catalogue.products)}
    own = np.array([row[item] for item in site.reviews["item_id"]])
    judged = judge_reviews(text_vectors(site.reviews["text"].to_list(), features), own, catalogue)
    bad = site.reviews["review_id"].is_in(list(wrong)).to_numpy()
    things = [thing for names in LEXICONS[site.language].categories for thing in names]
    names = np.array([any(thing in text.lower() for thing in things) for text in site.reviews["text"]])

    def auc(among: np.ndarray) -> float:
        ahead = judged.beaten[bad & among][:, None] > judged.beaten[~bad & among][None]
        return float(ahead.mean())

    return auc(np.ones_like(bad)), auc(names)


def test_reviews_of_another_product_are_told_from_right_ones(site: SiteData, features: Features) -> None:
    planted, wrong = _moved(_written(site, 260), 0.15)
    of_all, of_plain = _told(planted, features, wrong)
    assert of_all > 0.6, of_all  # about half of them name nothing, so 0.75 is the most there can be
    assert of_plain > 0.85, of_plain


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_planted_reviews_are_listed_in_both_languages(
    tmp_path: Path, features: Features, number: int
) -> None:
    config = BazaarConfig(n_sites=2, held_out=0, users_per_site=40, items_per_site=240)
    shop = _written(read_site(write_league(tmp_path, config)[number]), 1000)
    planted, wrong = _moved(shop, 0.1)
    of_all, of_plain = _told(planted, features, wrong)
    listed = [each.review for each in align(planted, features).reviews.mismatches]
    before = align(shop, features).reviews
    assert before.fits > 0.62, before.fits
    assert before.fits_plain > 0.85, before.fits_plain
    assert len(before.mismatches) <= 0.05 * shop.reviews.height
    assert of_all > 0.65, of_all
    assert of_plain > 0.85, of_plain
    # Half of the moved ones name nothing and can't be listed.
    assert len(wrong & set(listed)) >= 0.12 * len(wrong), (len(wrong & set(listed)), len(wrong), len(listed))


def _random(count: int) -> tuple[ProductVectors, np.random.Generator, np.ndarray]:
    draw = np.random.default_rng(3)
    texts, images = draw.normal(size=(120, 16)), draw.normal(size=(60, 20))
    catalogue = ProductVectors(texts, images, np.arange(0, 120, 2), [str(n // 3) for n in range(120)])
    return catalogue, draw, draw.integers(0, 120, count)


def test_reviews_without_a_relation_are_judged_as_chance() -> None:
    catalogue, draw, own = _random(400)
    judged = judge_reviews(draw.normal(size=(400, 16)), own, catalogue)
    assert judged.fits == pytest.approx(0.5, abs=0.05)
    same = judge_reviews(np.ones((400, 16)), own, catalogue)
    assert same.fits == 0.5
    assert len(same.mismatched) == 0


def test_the_review_that_copies_another_product_comes_first() -> None:
    catalogue, draw, own = _random(400)
    reviews = 0.05 * draw.normal(size=(400, 16))
    reviews[7] = catalogue.texts[(own[7] + 60) % 120]
    reviews[8] = catalogue.texts[own[8]]
    judged = judge_reviews(reviews, own, catalogue)
    assert judged.mismatched[0] == 7
    assert 8 not in judged.mismatched
    assert judged.plain[7] > np.quantile(judged.plain, 0.99)


def test_a_site_of_few_reviews_says_so(site: SiteData, features: Features, tmp_path: Path) -> None:
    few = _written(site, 12)
    spoken = align_reviews(few, few.products.head(0), np.zeros((0, 0), np.float32), features, 0)
    assert (spoken.reviews, spoken.mismatches) == (12, ())
    assert np.isnan(spoken.fits)
    # And without pictures the texts of the products must do.
    many = _written(site, 60)
    assert align_reviews(many, many.products.head(0), np.zeros((0, 0), np.float32), features, 0).fits > 0.5


def test_quotes_name_nobody_and_are_short() -> None:
    assert quote("write to eve@example.com, 电话13812345678") == "write to [email], 电话[phone]"
    assert len(quote("so good " * 100)) == QUOTED


def test_the_page_lists_reviews_with_both_products(
    site: SiteData, features: Features, tmp_path: Path
) -> None:
    shop = _written(site, 60)
    first = shop.products.row(0, named=True)
    other = next(row for row in shop.products.iter_rows(named=True) if row["category"] != first["category"])
    planted = pl.col("review_id").is_in(["r00000", "r00001"])
    text = (
        f"{item_texts(shop.products.filter(pl.col('item_id') == other['item_id']))[0]} <b>eve@example.com</b>"
    )
    reviews = shop.reviews.with_columns(
        pl.when(planted).then(pl.lit(first["item_id"])).otherwise("item_id").alias("item_id"),
        pl.when(planted).then(pl.lit(text)).otherwise("text").alias("text"),
    )
    found = align(dataclasses.replace(shop, reviews=reviews), features)
    assert {"r00000", "r00001"} <= {each.review for each in found.reviews.mismatches}
    page, twin = (file.read_text() for file in write_alignment(found, shop.images, tmp_path))
    assert "r00000" in page
    assert "eve@" not in page + twin
    assert "<b>" not in page.split("By meaning: reviews and products")[1].split("By region")[0].replace(
        "<b>%", ""
    )
