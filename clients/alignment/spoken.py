"""Reviews and the products that they speak of: draw some, judge them, and quote those that speak of another.

Invariant: a quote is masked and cut short, for the report may be read by more people than the reviews.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.alignment.reviews import FEWEST_REVIEWS, Catalogue, ReviewPairing, judge_reviews
from clients.alignment.vectors import Features, text_vectors, variants
from clients.anonymise import mask
from clients.data.arrays import item_texts
from clients.ingest import SiteData

MOST_REVIEWS = 2000
MOST_PRODUCTS = 3000
FEWEST_PRODUCTS = 10
QUOTED = 160


@dataclass(frozen=True)
class ReviewMismatch:
    """A review that speaks of another product than the one that it was written under. `quote` is masked and cut."""

    review: str
    quote: str
    item: str
    title: str
    image: str | None
    beaten: float
    lead: float
    nearest: str
    nearest_title: str
    nearest_image: str | None


@dataclass(frozen=True)
class Spoken:
    """Reviews by meaning: `fits` is the chance that a review suits its own product better than another.

    `fits_plain` is the same of the third that speaks most plainly of something; not a number where too few were there.
    """

    reviews: int = 0
    fits: float = float("nan")
    fits_plain: float = float("nan")
    mismatches: tuple[ReviewMismatch, ...] = ()


def align_reviews(
    data: SiteData, shown: pl.DataFrame, images: NDArray[np.float32], features: Features, seed: int
) -> Spoken:
    """Judge at most `MOST_REVIEWS` reviews, drawn by the seed, of at most `MOST_PRODUCTS` products.

    Parameters
    ----------
    shown : products whose picture can be read; `images` are the vectors of these, row by row.
    """
    products = _candidates(data, shown, seed)
    written = data.reviews.filter(
        pl.col("text").is_not_null() & pl.col("item_id").is_in(products["item_id"].implode())
    )
    if written.height > MOST_REVIEWS:
        written = written.sample(MOST_REVIEWS, seed=seed).sort("review_id")
    if written.height < FEWEST_REVIEWS or len(set(variants(products))) < FEWEST_PRODUCTS:
        return Spoken(written.height)
    row = {item: at for at, item in enumerate(products["item_id"])}
    catalogue = Catalogue(
        texts=text_vectors(products["told"].to_list(), features),
        images=images,
        shown=np.array([row[item] for item in shown["item_id"]], np.int64),
        products=variants(products),
    )
    own = np.array([row[item] for item in written["item_id"]], np.int64)
    judged = judge_reviews(text_vectors(written["text"].to_list(), features), own, catalogue, seed)
    return Spoken(written.height, judged.fits, judged.fits_plain, _mismatches(written, products, own, judged))


def _candidates(data: SiteData, shown: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Products that a review may speak of: those with a text; such whose picture is known come first."""
    told = data.products.with_columns(pl.Series("told", item_texts(data.products))).filter(
        pl.col("told") != ""
    )
    known = pl.col("item_id").is_in(shown["item_id"].implode())
    rest = told.filter(~known)
    room = max(0, MOST_PRODUCTS - shown.height)
    return pl.concat([told.filter(known), rest.sample(min(room, rest.height), seed=seed)]).sort("item_id")


def _mismatches(
    written: pl.DataFrame, products: pl.DataFrame, own: NDArray[np.int64], judged: ReviewPairing
) -> tuple[ReviewMismatch, ...]:
    titles, pictures = products["title"].fill_null("").to_list(), products["image"].to_list()
    ids, reviews, texts = (
        products["item_id"].to_list(),
        written["review_id"].to_list(),
        written["text"].to_list(),
    )
    found = []
    for row in judged.mismatched:
        mine, other = int(own[row]), int(judged.nearest[row])
        found.append(
            ReviewMismatch(
                reviews[row], quote(texts[row]), ids[mine], titles[mine], pictures[mine],
                float(judged.beaten[row]), float(judged.lead[row]), ids[other], titles[other], pictures[other],
            )
        )  # fmt: skip
    return tuple(found)


def quote(text: str) -> str:
    """A text without direct identifiers, short enough for a table."""
    masked = mask(text)[0]
    return masked if len(masked) <= QUOTED else masked[: QUOTED - 1] + "…"
