"""A site's alignment as a whole: by time, by meaning and by region.

Invariant: what is said of a pair was learned without it; where a site lacks a modality, or has too few pairs to learn
from, that part is empty and says so.
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
from clients.alignment.spoken import Spoken, align_reviews
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
    """A picture that its own text doesn't speak of, and the product whose text fits it best."""

    item: str
    title: str
    image: str
    beaten: float
    margin: float
    nearest: str
    nearest_title: str


@dataclass(frozen=True)
class RegionMap:
    """Where one text, or one word of it, lies in one picture: weights (height, width) that sum to 1."""

    item: str
    text: str
    image: str
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """All three. `fits` is the chance that a picture's own text suits it better than another's (0.5: no relation)."""

    site: str
    title: str
    time: TimeFigures
    pairs: int
    fits: float
    mismatches: tuple[Mismatch, ...]
    spoken: Spoken
    maps: tuple[RegionMap, ...]


def align(
    data: SiteData,
    features: Features,
    say: Callable[[int, int], None] = lambda done, total: None,
    seed: int = 0,
) -> Alignment:
    """Align what a site has; at most `MOST` products, drawn by the seed.

    Parameters
    ----------
    features : the cache of an encoder's vectors, by its name.
    """
    time = time_figures(align_by_time(data.events, data.reviews, data.products))
    texts, shown = _pairs(data, seed)
    pixels, found = readable(data.images, shown["image"].to_list(), say)
    shown, texts = shown[found], [texts[at] for at in found]
    images, vectors = image_vectors(pixels, features), text_vectors(texts, features)
    code = variants(shown)
    spoken = align_reviews(data, shown, images, features, seed)
    if len(texts) < FEWEST or len(set(code)) < FOLDS:
        return Alignment(data.name, data.title, time, len(texts), float("nan"), (), spoken, ())
    pairing = judge_pairs(images, vectors, code, seed)
    maps = _maps(data, shown, texts, pairing, fit(images, vectors))
    fits = float(1 - pairing.beaten.mean())
    return Alignment(data.name, data.title, time, len(texts), fits, _mismatches(shown, pairing), spoken, maps)


def _pairs(data: SiteData, seed: int) -> tuple[list[str], pl.DataFrame]:
    told = data.products.with_columns(pl.Series("told", item_texts(data.products)))
    both = told.filter((pl.col("told") != "") & pl.col("image").is_not_null())
    if both.height > MOST:
        both = both.sample(MOST, seed=seed).sort("item_id")
    return both["told"].to_list(), both


def _mismatches(shown: pl.DataFrame, pairing: Pairing) -> tuple[Mismatch, ...]:
    ids, pictures = shown["item_id"].to_list(), shown["image"].to_list()
    titles = shown["title"].fill_null("").to_list()
    return tuple(
        Mismatch(
            ids[row], titles[row], pictures[row], float(pairing.beaten[row]), float(pairing.margin[row]),
            ids[near := int(pairing.nearest[row])], titles[near],
        )
        for row in pairing.mismatched
    )  # fmt: skip


def _maps(
    data: SiteData, shown: pl.DataFrame, texts: list[str], pairing: Pairing, mapped: PictureToText
) -> tuple[RegionMap, ...]:
    """Maps of the texts and the most pointed words of the pairs that fit best."""
    made: list[RegionMap] = []
    for row in np.argsort(-pairing.margin, kind="stable")[:MAPPED_ITEMS]:
        item, name = shown["item_id"][int(row)], shown["image"][int(row)]
        picture = decode_image(data.images.read(name), (REGION_SIDE, REGION_SIDE))
        regions = encode_regions(np.asarray(picture, np.uint8)[None])[0]
        title = shown["title"][int(row)] or texts[row]
        told = list(
            dict.fromkeys(
                w for w in words(title, data.language, stem=False) if len(w) > 1 and not w.isdigit()
            )
        )
        weights = attention(mapped, regions, encode_texts([texts[row], *told]))
        best = 1 + np.argsort(-peak(weights[1:]), kind="stable")[:MAPPED_WORDS]
        for at in [0, *best]:
            made.append(RegionMap(item, title if at == 0 else told[at - 1], name, weights[at]))
    return tuple(made)


def picture_of(images: ImageStore, name: str) -> Image.Image:
    """A picture as the maps lie on it."""
    return decode_image(images.read(name), (REGION_SIDE, REGION_SIDE))
