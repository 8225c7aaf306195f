"""Reviews about another product than their own: draw some reviews, judge them, and quote the mismatches.

Invariant: a quote is masked and cut short, since more people may read the report than the reviews.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.alignment.reviews import FEWEST_REVIEWS, ProductVectors, ReviewPairing, judge_reviews
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
    """A review about another product than the one under which it was written. `quote` is masked and cut."""

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
class ReviewAlignment:
    """Reviews by meaning: `fits` is the chance that a review fits its own product better than another.

    `fits_plain` is the same for the third of the reviews that are most plainly about something. Both are NaN if there
    are too few reviews.
    """

    reviews: int = 0
    fits: float = float("nan")
    fits_plain: float = float("nan")
    mismatches: tuple[ReviewMismatch, ...] = ()


def align_reviews(
    data: SiteData, pictured: pl.DataFrame, images: NDArray[np.float32], features: Features, seed: int
) -> ReviewAlignment:
    """Judge at most `MOST_REVIEWS` reviews, drawn by the seed, of at most `MOST_PRODUCTS` products.

    Parameters
    ----------
    pictured : products whose picture can be read; `images` are the vectors of these, row by row.
    """
    products = _candidates(data, pictured, seed)
    reviews = data.reviews.filter(
        pl.col("text").is_not_null() & pl.col("item_id").is_in(products["item_id"].implode())
    )
    if reviews.height > MOST_REVIEWS:
        reviews = reviews.sample(MOST_REVIEWS, seed=seed).sort("review_id")
    if reviews.height < FEWEST_REVIEWS or len(set(variants(products))) < FEWEST_PRODUCTS:
        return ReviewAlignment(reviews.height)
    row = {item: at for at, item in enumerate(products["item_id"])}
    catalogue = ProductVectors(
        texts=text_vectors(products["item_text"].to_list(), features),
        images=images,
        shown=np.array([row[item] for item in pictured["item_id"]], np.int64),
        products=variants(products),
    )
    own = np.array([row[item] for item in reviews["item_id"]], np.int64)
    pairing = judge_reviews(text_vectors(reviews["text"].to_list(), features), own, catalogue, seed)
    return ReviewAlignment(
        reviews.height, pairing.fits, pairing.fits_plain, _mismatches(reviews, products, own, pairing)
    )


def _candidates(data: SiteData, pictured: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Products that a review may be about: those with a text; all those with a picture, then others at random."""
    described = data.products.with_columns(pl.Series("item_text", item_texts(data.products))).filter(
        pl.col("item_text") != ""
    )
    has_picture = pl.col("item_id").is_in(pictured["item_id"].implode())
    others = described.filter(~has_picture)
    room = max(0, MOST_PRODUCTS - pictured.height)
    return pl.concat(
        [described.filter(has_picture), others.sample(min(room, others.height), seed=seed)]
    ).sort("item_id")


def _mismatches(
    reviews: pl.DataFrame, products: pl.DataFrame, own: NDArray[np.int64], pairing: ReviewPairing
) -> tuple[ReviewMismatch, ...]:
    titles, pictures = products["title"].fill_null("").to_list(), products["image"].to_list()
    ids, review_ids, texts = (
        products["item_id"].to_list(),
        reviews["review_id"].to_list(),
        reviews["text"].to_list(),
    )
    mismatches = []
    for row in pairing.mismatched:
        own_row, nearest = int(own[row]), int(pairing.nearest[row])
        mismatches.append(
            ReviewMismatch(
                review_ids[row], quote(texts[row]), ids[own_row], titles[own_row], pictures[own_row],
                float(pairing.beaten[row]), float(pairing.lead[row]), ids[nearest], titles[nearest], pictures[nearest],
            )
        )  # fmt: skip
    return tuple(mismatches)


def quote(text: str) -> str:
    """A text without direct identifiers, short enough for a table."""
    masked = mask(text)[0]
    return masked if len(masked) <= QUOTED else masked[: QUOTED - 1] + "…"
