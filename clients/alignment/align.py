"""A site's alignment as a whole: by time, by meaning and by region.

Invariant: a pair is judged by a map that was learned without it. If a site lacks a modality, or has too few pairs to
learn from, that part is empty and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image

from clients.alignment.meaning import FEWEST, FOLDS, Pairing, PictureToText, fit, judge_pairs
from clients.alignment.regions import attention, peak
from clients.alignment.review_mismatches import ReviewAlignment, align_reviews
from clients.alignment.times import TimeFigures, align_by_time, time_figures
from clients.alignment.vectors import Features, image_vectors, readable, text_vectors, variants
from clients.data.arrays import item_texts
from clients.encoders import encode_regions, encode_texts
from clients.ingest import ImageStore, SiteData, decode_image
from clients.ingest.text import words

REGION_SIDE = 224
MOST = 3000
MAPPED_ITEMS = 6
MAPPED_WORDS = 3


@dataclass(frozen=True)
class Mismatch:
    """A picture that doesn't fit its own product's text, and the product whose text fits it best."""

    item: str
    title: str
    image: str
    beaten: float
    margin: float
    nearest: str
    nearest_title: str


@dataclass(frozen=True)
class RegionMap:
    """Which regions of a picture one text, or one word of it, is about: weights (height, width) that sum to 1."""

    item: str
    text: str
    image: str
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """All three alignments. `fits` is the chance that a picture fits its own text better than another (0.5: random)."""

    site: str
    title: str
    time: TimeFigures
    pairs: int
    fits: float
    mismatches: tuple[Mismatch, ...]
    reviews: ReviewAlignment
    maps: tuple[RegionMap, ...]


def align(
    data: SiteData,
    features: Features,
    say: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
) -> Alignment:
    """Align a site's data, for at most `MOST` products, which are drawn by the seed.

    Parameters
    ----------
    features : the cache of an encoder's vectors, by its name.
    """
    time = time_figures(align_by_time(data.events, data.reviews, data.products))
    texts, pictured = _pairs(data, seed)
    pixels, readable_rows = readable(data.images, pictured["image"].to_list(), say)
    pictured, texts = pictured[readable_rows], [texts[at] for at in readable_rows]
    images, vectors = image_vectors(pixels, features), text_vectors(texts, features)
    code = variants(pictured)
    reviews = align_reviews(data, pictured, images, features, seed)
    if len(texts) < FEWEST or len(set(code)) < FOLDS:
        return Alignment(data.name, data.title, time, len(texts), float("nan"), (), reviews, ())
    pairing = judge_pairs(images, vectors, code, seed)
    maps = _maps(data, pictured, texts, pairing, fit(images, vectors))
    fits = float(1 - pairing.beaten.mean())
    return Alignment(
        data.name, data.title, time, len(texts), fits, _mismatches(pictured, pairing), reviews, maps
    )


def _pairs(data: SiteData, seed: int) -> tuple[list[str], pl.DataFrame]:
    described = data.products.with_columns(pl.Series("item_text", item_texts(data.products)))
    pictured = described.filter((pl.col("item_text") != "") & pl.col("image").is_not_null())
    if pictured.height > MOST:
        pictured = pictured.sample(MOST, seed=seed).sort("item_id")
    return pictured["item_text"].to_list(), pictured


def _mismatches(pictured: pl.DataFrame, pairing: Pairing) -> tuple[Mismatch, ...]:
    ids, pictures = pictured["item_id"].to_list(), pictured["image"].to_list()
    titles = pictured["title"].fill_null("").to_list()
    return tuple(
        Mismatch(
            ids[row], titles[row], pictures[row], float(pairing.beaten[row]), float(pairing.margin[row]),
            ids[near := int(pairing.nearest[row])], titles[near],
        )
        for row in pairing.mismatched
    )  # fmt: skip


def _maps(
    data: SiteData, pictured: pl.DataFrame, texts: list[str], pairing: Pairing, mapped: PictureToText
) -> tuple[RegionMap, ...]:
    """Maps for the pairs that fit best: one for the text, and one for each of the words with the sharpest maps."""
    maps: list[RegionMap] = []
    for row in np.argsort(-pairing.margin, kind="stable")[:MAPPED_ITEMS]:
        item, name = pictured["item_id"][int(row)], pictured["image"][int(row)]
        picture = decode_image(data.images.read(name), (REGION_SIDE, REGION_SIDE))
        regions = encode_regions(np.asarray(picture, np.uint8)[None])[0]
        title = pictured["title"][int(row)] or texts[row]
        candidates = list(
            dict.fromkeys(
                w for w in words(title, data.language, stem=False) if len(w) > 1 and not w.isdigit()
            )
        )
        weights = attention(mapped, regions, encode_texts([texts[row], *candidates]))
        best = 1 + np.argsort(-peak(weights[1:]), kind="stable")[:MAPPED_WORDS]
        for at in [0, *best]:
            maps.append(RegionMap(item, title if at == 0 else candidates[at - 1], name, weights[at]))
    return tuple(maps)


def picture_of(images: ImageStore, name: str) -> Image.Image:
    """A picture in the size and crop of the maps."""
    return decode_image(images.read(name), (REGION_SIDE, REGION_SIDE))
