"""Ranking, classification and catalogue metrics as pure functions of arrays.

Rankings are always *full*: every item of the catalogue is ranked, which avoids the bias of sampled metrics (Krichene &
Rendle 2020). Ties are broken by item row, lowest first. Undefined values are NaN, never 0.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float32]
Bools = NDArray[np.bool_]


def top_k(scores: Scores, k: int) -> NDArray[np.int64]:
    """Rows' best ``k`` columns, best first; (n, min(k, items)) int64. Ties go to the lower column."""
    k = min(k, scores.shape[1])
    order = np.argsort(-scores, axis=1, kind="stable") if scores.shape[1] <= 4 * k else _partial(scores, k)
    return order[:, :k].astype(np.int64)


def _partial(scores: Scores, k: int) -> NDArray[np.int64]:
    border = -np.partition(-scores, k - 1, axis=1)[:, k - 1 : k]
    best = np.empty((len(scores), k), np.int64)
    for row, (values, least) in enumerate(zip(scores, border[:, 0], strict=True)):
        columns = np.flatnonzero(values >= least)
        best[row] = columns[np.argsort(-values[columns], kind="stable")][:k]
    return best


def ranking_metrics(
    top: NDArray[np.int64], truth: Bools, ks: tuple[int, ...] = (10, 20)
) -> dict[str, NDArray[np.float64]]:
    """Per-row NDCG, recall, capped recall and hit rate at each k, and reciprocal rank at the first k.

    Recall is the share of all wanted items that are among the first k, hits / relevant. Where more than k are wanted it
    can't reach 1; capped recall can: hits / min(relevant, k).

    Parameters
    ----------
    top : (n, >= max(ks)) recommended columns, best first; fewer if the catalogue is smaller.
    truth : (n, items) which items are relevant for each row; each row has at least one.

    Source: Järvelin & Kekäläinen 2002 for NDCG; the ideal ranking has min(k, relevant) hits.
    """
    hits = np.take_along_axis(truth, top, axis=1).astype(np.float64)
    relevant = truth.sum(1)
    metrics: dict[str, NDArray[np.float64]] = {}
    discount = 1.0 / np.log2(np.arange(2, hits.shape[1] + 2))
    for k in ks:
        h = hits[:, :k]
        best = np.cumsum(1.0 / np.log2(np.arange(2, k + 2)))[np.minimum(relevant, k) - 1]
        metrics[f"ndcg@{k}"] = (h * discount[: h.shape[1]]).sum(1) / best
        metrics[f"recall@{k}"] = h.sum(1) / relevant
        metrics[f"capped_recall@{k}"] = h.sum(1) / np.minimum(relevant, k)
        metrics[f"hr@{k}"] = (h.sum(1) > 0).astype(np.float64)
    first = hits[:, : ks[0]]
    metrics[f"mrr@{ks[0]}"] = np.where(first.any(1), 1.0 / (np.argmax(first, axis=1) + 1), 0.0)
    return metrics


def coverage(top: NDArray[np.int64], n_items: int) -> float:
    """Share of the catalogue that is recommended to anyone."""
    return float(len(np.unique(top)) / n_items) if n_items else float("nan")


def diversity(top: NDArray[np.int64], vectors: NDArray[np.float32]) -> float:
    """Mean of 1 − cosine over the pairs within each list (n, k); unit ``vectors`` (items, d)."""
    k = top.shape[1]
    if k < 2 or not len(top):
        return float("nan")
    summed = vectors[top].sum(1)
    norms = (vectors[top] ** 2).sum((1, 2))
    within = ((summed**2).sum(1) - norms) / (k * (k - 1))
    return float(1.0 - within.mean())


def auc(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Area under the ROC curve by ranks, ties counted half; NaN where a class is absent."""
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return float("nan")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = (ends - (counts - 1) / 2.0)[inverse]
    return float((ranks[labels == 1].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def group_auc(scores: NDArray[np.float64], labels: NDArray[np.int64], groups: NDArray[np.int64]) -> float:
    """AUC within each group, weighted by group size; groups with one class only are left out (Zhou et al. 2018)."""
    total, weight = 0.0, 0
    order = np.argsort(groups, kind="stable")
    bounds = np.flatnonzero(np.diff(groups[order])) + 1
    for rows in np.split(order, bounds):
        if 0 < labels[rows].sum() < len(rows):
            total += auc(scores[rows], labels[rows]) * len(rows)
            weight += len(rows)
    return total / weight if weight else float("nan")


def log_loss(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Mean negative log likelihood in nats; probabilities are kept 1e-7 away from 0 and 1."""
    if not len(labels):
        return float("nan")
    p = np.clip(probabilities, 1e-7, 1 - 1e-7)
    return float(-(labels * np.log(p) + (1 - labels) * np.log(1 - p)).mean())


def bootstrap_interval(
    difference: NDArray[np.float64], seed: int, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of paired per-row differences (Efron 1979); (NaN, NaN) without rows."""
    if not len(difference):
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, len(difference), (draws, len(difference)))
    means = difference[rows].mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
