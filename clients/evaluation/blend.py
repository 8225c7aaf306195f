"""Blends scores with weights fitted at the site, by maximum likelihood on its validation rows.

The likelihood is a softmax over the whole catalogue and convex in the few weights, so the fit is deterministic and
needs no search over settings. A Gaussian prior keeps a site with few rows near the league's public defaults. Invariant:
the test window is never read here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from clients.data.dataset import Floats
from clients.evaluation.rows import TestRows

Scorer = Callable[[TestRows, slice], Floats]
MAX_ROWS = 768
PRIOR_STRENGTH = 4.0

Weights = NDArray[np.float64]


def blend(scorers: Sequence[Scorer], weights: Weights) -> Scorer:
    """The weighted sum of scorers as one scorer."""

    def scores(rows: TestRows, chunk: slice) -> Floats:
        total = np.zeros((chunk.stop - chunk.start, 1), np.float32)
        for weight, scorer in zip(weights, scorers, strict=True):
            total = total + np.float32(weight) * scorer(rows, chunk)
        return total

    return scores


def fit_weights(
    scorers: Sequence[Scorer], samples: Sequence[TestRows], n_items: int, prior: Sequence[float], seed: int
) -> Weights:
    """The weights under which the wanted items are most likely.

    Parameters
    ----------
    samples : validation rows of each kind; at most MAX_ROWS of each are read, drawn by ``seed``.
    prior : weights to stay near; returned unchanged if there are no rows.
    """
    anchor = np.asarray(prior, np.float64)
    parts = [_features(scorers, rows, n_items, seed) for rows in samples if len(rows)]
    if not parts:
        return anchor
    features = np.concatenate([p[0] for p in parts])
    wanted_shares = np.concatenate([p[1] for p in parts])
    barred = np.concatenate([p[2] for p in parts])

    def loss(weights: Weights) -> tuple[float, Weights]:
        logits = features @ weights.astype(np.float32)
        logits[barred] = -1e9
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        p /= p.sum(1, keepdims=True)
        value = -(wanted_shares * np.log(np.maximum(p, 1e-12))).sum()
        gradient = np.einsum("ri,rim->m", p - wanted_shares, features, optimize=True)
        away = weights - anchor
        scale = PRIOR_STRENGTH / np.maximum(anchor**2, 0.05)
        return float(value + 0.5 * (scale * away**2).sum()), gradient.astype(np.float64) + scale * away

    bounds = [(0.0, None)] * len(anchor)
    fit = minimize(loss, anchor, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 40})
    best: Weights = fit.x
    return best


def _features(
    scorers: Sequence[Scorer], rows: TestRows, n_items: int, seed: int
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    picked = rows.sample(min(MAX_ROWS, 12_000_000 // max(n_items * len(scorers), 1) + 1), seed)
    whole = slice(0, len(picked))
    stacked = np.stack([np.broadcast_to(s(picked, whole), (len(picked), n_items)) for s in scorers], axis=2)
    wanted_shares = picked.mask(picked.wanted, whole, n_items).astype(np.float32)
    wanted_shares /= wanted_shares.sum(1, keepdims=True)
    return stacked.astype(np.float32), wanted_shares, picked.mask(picked.barred, whole, n_items)
