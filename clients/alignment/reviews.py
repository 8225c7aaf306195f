"""Reviews by meaning: which product a review's text speaks of, and reviews that speak of another than their own.

A review is held against every product twice: against its text, as the encoder sees both once what all reviews and all
products share is taken away; and against its picture, by the map of `meaning`, learned without the review's own
product. The two likenesses are brought to one scale and added.

Invariant: a review that names nothing ("fast delivery, thanks") is alike to all products, so it leads to none and is
never listed. Variants of a review's product aren't held against it.
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
    beaten : the share of other products that the review suits better than its own.
    lead : by how much the product that it suits best is ahead of its own, in standard deviations of all likeness.
    plain : how far the likenesses of one review spread: near 0 where it speaks of nothing.
    nearest : row of the product that it suits best.
    """

    beaten: Matrix
    lead: Matrix
    plain: Matrix
    nearest: NDArray[np.int64]

    @property
    def mismatched(self) -> NDArray[np.int64]:
        """Rows that suit another product far better, and a fifth of all better than their own; worst first."""
        order = np.argsort(-self.lead, kind="stable")
        return order[(self.beaten[order] > BEATEN) & (self.lead[order] > LEAD)]

    @property
    def fits(self) -> float:
        """The chance that a review suits its own product better than another."""
        return float(1 - self.beaten.mean())

    @property
    def fits_plain(self) -> float:
        """The same of the third that speaks most plainly of something."""
        bound = np.quantile(self.plain, 1 - PLAIN_SHARE)
        return float(1 - self.beaten[self.plain >= bound].mean())


@dataclass(frozen=True)
class Catalogue:
    """Products as vectors: texts (m, e), pictures (k, d) of the rows `shown`, and which rows are one product."""

    texts: NDArray[np.floating]
    images: NDArray[np.floating]
    shown: NDArray[np.int64]
    products: list[str]


def judge_reviews(
    reviews: NDArray[np.floating], own: NDArray[np.int64], catalogue: Catalogue, seed: int = 0
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
    asked, told = reviews.astype(np.float32), texts.astype(np.float64)
    among = unit(told - told.mean(0)).astype(np.float32)
    made: NDArray[np.float32] = (asked - asked.mean(0)) @ among.T
    return made


def _by_picture(
    reviews: NDArray[np.floating], own: NDArray[np.int64], catalogue: Catalogue, seed: int
) -> NDArray[np.float32]:
    """Likeness (n, k) to the pictures; the map never saw the review's own product."""
    fold = fold_of(catalogue.products, seed)
    asked = reviews.astype(np.float64)
    asked -= asked.mean(0)
    shown, texts = fold[catalogue.shown], catalogue.texts[catalogue.shown]
    made = np.zeros((len(reviews), len(catalogue.shown)), np.float32)
    for part in range(FOLDS):
        rows = fold[own] == part
        if not rows.any():
            continue
        mapped = fit(catalogue.images[shown != part], texts[shown != part])
        made[rows] = (asked[rows] @ mapped.text_basis) @ mapped.of_images(catalogue.images).T
    return made


def _scaled(likeness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Without what a review is to all products alike. The unit is a deviation over all reviews: quiet rows stay so."""
    centred = likeness - likeness.mean(1, keepdims=True)
    made: NDArray[np.float32] = centred / max(float(centred.std()), 1e-9)
    return made
