"""Alignment by meaning: which text describes which picture, and products whose text and picture don't fit.

Frozen encoders of text and picture were never trained together, so their vectors can't be compared. A linear map from
picture to text space is learned from the site's own catalogue (ridge regression on whitened text features; after
Socher et al. 2013 and Frome et al. 2013), and every pair is judged by a map that was learned without it and without any
variant of its product.

Invariant: a pair's score is held out. `beaten` is the share of other products' texts that fit a picture better than its
own text: near 0 for a pair that fits, and uniform in [0, 1] for a random pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FOLDS = 5
RIDGE = 2.0
TEXT_DIRECTIONS = 128
MISMATCH = 0.5
FEWEST = 40
Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class PictureToText:
    """A linear map of picture features to directions of the site's texts."""

    image_mean: Matrix
    image_scale: Matrix
    text_mean: Matrix
    text_basis: Matrix
    weights: Matrix

    def of_images(self, features: NDArray[np.floating]) -> Matrix:
        """Pictures, or regions of them, in the space of the texts: unit vectors (..., directions)."""
        return unit(((features.astype(np.float64) - self.image_mean) / self.image_scale) @ self.weights)

    def of_texts(self, vectors: NDArray[np.floating]) -> Matrix:
        """Texts in the same space: unit vectors (n, directions)."""
        return unit((vectors.astype(np.float64) - self.text_mean) @ self.text_basis)


@dataclass(frozen=True)
class Pairing:
    """Held-out judgement of each product's pair: `beaten`, `margin` (in standard deviations), row of the best text."""

    beaten: Matrix
    margin: Matrix
    nearest: NDArray[np.int64]

    @property
    def mismatched(self) -> NDArray[np.int64]:
        """Rows whose own text fits the picture no better than a random text would, worst first."""
        order = np.argsort(self.margin, kind="stable")
        return order[self.beaten[order] > MISMATCH]


def fit(images: NDArray[np.floating], texts: NDArray[np.floating]) -> PictureToText:
    """Learn the map from matching rows: picture features (n, d) and text vectors (n, e)."""
    x, y = images.astype(np.float64), texts.astype(np.float64)
    image_mean, image_scale = x.mean(0), x.std(0) + 1e-3
    text_mean = y.mean(0)
    _, strength, directions = np.linalg.svd(y - text_mean, full_matrices=False)
    count = min(TEXT_DIRECTIONS, int((strength > 1e-3 * strength[0]).sum()))
    # Partly whitened: rare directions distinguish products better than the few in which all texts vary.
    basis = directions[:count].T / np.sqrt(strength[:count])
    a, b = (x - image_mean) / image_scale, (y - text_mean) @ basis
    penalty = RIDGE * np.sum(a * a) / min(a.shape)
    if len(a) < a.shape[1]:
        weights = a.T @ np.linalg.solve(a @ a.T + penalty * np.eye(len(a)), b)
    else:
        weights = np.linalg.solve(a.T @ a + penalty * np.eye(a.shape[1]), a.T @ b)
    return PictureToText(image_mean, image_scale, text_mean, basis, weights)


def judge_pairs(
    images: NDArray[np.floating], texts: NDArray[np.floating], products: Sequence[str], seed: int = 0
) -> Pairing:
    """Judge every pair by a map that was learned without its product.

    Parameters
    ----------
    products : the product of each row; its variants are in one fold, and aren't compared with each other.
    """
    _, number = np.unique(np.asarray(products), return_inverse=True)
    fold = fold_of(products, seed)
    beaten, margin = np.zeros(len(images)), np.zeros(len(images))
    nearest = np.zeros(len(images), np.int64)
    for part in range(FOLDS):
        inside = fold == part
        if not inside.any():
            continue
        mapped = fit(images[~inside], texts[~inside])
        among = mapped.of_texts(texts)
        for row in np.flatnonzero(inside):
            likeness = among @ mapped.of_images(images[row])
            others = likeness[number != number[row]]
            own = likeness[row]
            beaten[row] = share_ahead(others, own)
            margin[row] = (own - others.mean()) / max(float(others.std()), 1e-9)
            nearest[row] = int(np.argmax(likeness))
    return Pairing(beaten, margin, nearest)


def share_ahead(others: NDArray[np.floating], own: float) -> float:
    """The share of likenesses above one's own; equal ones count half, so that equal likenesses give 0.5."""
    return float((others > own).mean() + (others == own).mean() / 2) if len(others) else 0.0


def fold_of(products: Sequence[str], seed: int) -> NDArray[np.int64]:
    """The fold (of `FOLDS`) of each row; variants of a product are in the same fold."""
    _, number = np.unique(np.asarray(products), return_inverse=True)
    folds: NDArray[np.int64] = np.random.default_rng(seed).permutation(int(number.max()) + 1)[number] % FOLDS
    return folds


def unit(vectors: Matrix) -> Matrix:
    """Vectors (..., d) of length one."""
    units: Matrix = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return units
