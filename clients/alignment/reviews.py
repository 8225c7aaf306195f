"""Reviews by meaning: which product a review's text is about, and whether that is another one than its own.

A review is compared with every product twice: with its text, after subtracting the means of all reviews and of all
products from the vectors; and with its picture, by the map of `meaning`, learned without the review's own product. The
two likenesses are scaled to the same deviation and added.

Invariant: a review that names nothing ("fast delivery, thanks") is equally like all products, so no product is ahead
and it's never listed. Variants of a review's product don't count as other products.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.alignment.meaning import FEWEST, FOLDS, Matrix, fit, fold_of, share_ahead, unit

LEAD = 4.5
BEATEN = 0.2
PLAIN_SHARE = 1 / 3
FEWEST_REVIEWS = 40


@dataclass(frozen=True)
class ReviewPairing:
    """Judgement of each review.

    Parameters
    ----------
    beaten : the share of other products that the review fits better than its own.
    lead : how far the best fitting product is ahead of the review's own, in standard deviations of all likenesses.
    plain : the spread of the review's likenesses: near 0 if the review is about nothing in particular.
    nearest : row of the best fitting product.
    """

    beaten: Matrix
    lead: Matrix
    plain: Matrix
    nearest: NDArray[np.int64]

    @property
    def mismatched(self) -> NDArray[np.int64]:
        """Rows that fit one other product far better than their own, and a fifth of all others better; worst first."""
        order = np.argsort(-self.lead, kind="stable")
        return order[(self.beaten[order] > BEATEN) & (self.lead[order] > LEAD)]

    @property
    def fits(self) -> float:
        """The chance that a review fits its own product better than another."""
        return float(1 - self.beaten.mean())

    @property
    def fits_plain(self) -> float:
        """The same chance, for the third of the reviews that are most plainly about something."""
        bound = np.quantile(self.plain, 1 - PLAIN_SHARE)
        return float(1 - self.beaten[self.plain >= bound].mean())


@dataclass(frozen=True)
class ProductVectors:
    """Products as vectors: texts (m, e), pictures (k, d) of the rows `shown`, and which rows are one product."""

    texts: NDArray[np.floating]
    images: NDArray[np.floating]
    shown: NDArray[np.int64]
    products: list[str]


def judge_reviews(
    reviews: NDArray[np.floating], own: NDArray[np.int64], catalogue: ProductVectors, seed: int = 0
) -> ReviewPairing:
    """Judge reviews (n, e), each of which was written under the product of row `own`."""
    likeness = _scaled(_by_text(reviews, catalogue.texts))
    if len(catalogue.shown) >= FEWEST:
        pictured = _by_picture(reviews, own, catalogue, seed)
        likeness[:, catalogue.shown] += _scaled(pictured)
        likeness -= likeness.mean(1, keepdims=True)
    _, number = np.unique(np.asarray(catalogue.products), return_inverse=True)
    spread = max(float(likeness.std()), 1e-9)
    beaten, lead = np.zeros(len(reviews)), np.zeros(len(reviews))
    nearest = np.argmax(likeness, axis=1)
    for row, at in enumerate(own):
        others = likeness[row, number != number[at]]
        beaten[row] = share_ahead(others, likeness[row, at])
        lead[row] = (likeness[row, nearest[row]] - likeness[row, at]) / spread
    return ReviewPairing(beaten, lead, likeness.std(1).astype(np.float64), nearest)


def _by_text(reviews: NDArray[np.floating], texts: NDArray[np.floating]) -> NDArray[np.float32]:
    centred_reviews, item_texts = reviews.astype(np.float32), texts.astype(np.float64)
    directions = unit(item_texts - item_texts.mean(0)).astype(np.float32)
    likeness: NDArray[np.float32] = (centred_reviews - centred_reviews.mean(0)) @ directions.T
    return likeness


def _by_picture(
    reviews: NDArray[np.floating], own: NDArray[np.int64], catalogue: ProductVectors, seed: int
) -> NDArray[np.float32]:
    """Likeness (n, k) to the pictures; the map never saw the review's own product."""
    fold = fold_of(catalogue.products, seed)
    centred_reviews = reviews.astype(np.float64)
    centred_reviews -= centred_reviews.mean(0)
    picture_folds, texts = fold[catalogue.shown], catalogue.texts[catalogue.shown]
    likeness = np.zeros((len(reviews), len(catalogue.shown)), np.float32)
    for part in range(FOLDS):
        rows = fold[own] == part
        if not rows.any():
            continue
        mapped = fit(catalogue.images[picture_folds != part], texts[picture_folds != part])
        likeness[rows] = (centred_reviews[rows] @ mapped.text_basis) @ mapped.of_images(catalogue.images).T
    return likeness


def _scaled(likeness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Centre each review's likenesses and divide all by one deviation, so a review about nothing keeps small ones."""
    centred = likeness - likeness.mean(1, keepdims=True)
    scaled: NDArray[np.float32] = centred / max(float(centred.std()), 1e-9)
    return scaled
