"""Blends of scores whose weights are chosen by ranking quality on a site's validation rows.

For the methods that need neither training nor a league. The search begins at public constants and takes only what ranks
better, so a blend never ranks the validation rows worse than its constants. Few rows choose for both kinds together.
Invariant: the test window is never read here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Floats
from clients.data.rows import TestRows
from common.metrics import ranking_metrics, top_k

Scorer = Callable[[TestRows, slice], Floats]
MAX_ROWS = 300
MAX_NUMBERS = 12_000_000
ENOUGH_ROWS = 100
FACTORS = (0.0, 0.25, 0.5, 0.7, 1.4, 2.0, 4.0)
PASSES = 2

Weights = NDArray[np.float64]
Scored = tuple[Floats, NDArray[np.bool_]]
"""Scores (scorers, rows, items), and which items are wanted (rows, items)."""


def blend(scorers: Sequence[Scorer], weights: Weights) -> Scorer:
    """The weighted sum of scorers as one scorer."""

    def scores(rows: TestRows, chunk: slice) -> Floats:
        total = np.zeros((chunk.stop - chunk.start, 1), np.float32)
        for weight, scorer in zip(weights, scorers, strict=True):
            if weight:
                total = total + np.float32(weight) * scorer(rows, chunk)
        return total

    return scores


def choose_weights(
    scorers: Sequence[Scorer], kinds: Sequence[TestRows], n_items: int, start: Sequence[float], seed: int
) -> list[Weights]:
    """For each kind of rows the weights of the best NDCG@20 that a search from ``start`` finds.

    What is found has to beat where the search began by a standard error: on a few rows the best of many tries is the
    best by luck.

    Parameters
    ----------
    kinds : validation rows of each kind; at most MAX_ROWS of each are read, drawn by ``seed``. A kind with fewer than
        ENOUGH_ROWS takes what is best for all kinds together.
    """
    scored = [_scored(scorers, rows, n_items, seed) for rows in kinds]
    together = _search(scored, np.asarray(start, np.float64))
    return [_search([part], together) if len(part[1]) >= ENOUGH_ROWS else together for part in scored]


def _search(parts: Sequence[Scored], start: Weights) -> Weights:
    """Coordinate by coordinate, the factors tried on each."""
    weights, first = start, _quality(parts, start)
    best = first
    for _ in range(PASSES):
        for place in range(len(weights)):
            for factor in FACTORS:
                tried = weights.copy()
                tried[place] *= factor
                quality = _quality(parts, tried)
                if quality.sum() > best.sum():
                    best, found = quality, tried
                    weights = found
    gain = best - first
    return weights if len(gain) and gain.sum() > gain.std() * len(gain) ** 0.5 else start


def _quality(parts: Sequence[Scored], weights: Weights) -> NDArray[np.float64]:
    """NDCG@20 of each row."""
    values = [np.zeros(0)]
    for scores, wanted in parts:
        if len(wanted):
            total = np.tensordot(weights.astype(np.float32), scores, axes=1)
            values.append(ranking_metrics(top_k(total, 20), wanted)["ndcg@20"])
    return np.concatenate(values)


def _scored(scorers: Sequence[Scorer], rows: TestRows, n_items: int, seed: int) -> Scored:
    picked = rows.sample(min(MAX_ROWS, MAX_NUMBERS // max(n_items * len(scorers), 1) + 1), seed)
    whole = slice(0, len(picked))
    shape = (len(picked), n_items)
    stacked = np.stack([np.broadcast_to(s(picked, whole), shape) for s in scorers]).astype(np.float32)
    # Far below any blend of scores, and finite: a weight of 0 would make NaN of infinity.
    stacked[:, picked.mask(picked.barred, whole, n_items)] = -1e6
    return stacked, picked.mask(picked.wanted, whole, n_items)
