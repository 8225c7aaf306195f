"""Full-ranking evaluation at one site: scores of a model for rows, and the ranking's figures chunk by chunk."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.dataset import Floats, Ints, SiteDataset
from clients.data.rows import TestRows
from common.metrics import coverage, diversity, ranking_metrics, top_k
from common.models.model import HansaModel

CHUNK, BLOCK = 512, 4_000_000
CUTOFFS = (10, 20)


def model_scores(
    model: HansaModel, site: SiteDataset, rows: TestRows, chunk: slice, vectors: torch.Tensor
) -> Floats:
    """Scores (rows, items) in logits, without popularity; ``vectors`` from `catalogue_vectors`."""
    with torch.inference_mode():
        learned, untrained = model.user_vectors(rows.inputs(chunk), vectors, site.items.raw)
        scores: Floats = model.scores(learned, untrained, vectors, site.items.raw)[:, 0].numpy()
    return scores


def catalogue_vectors(model: HansaModel, site: SiteDataset, chunk: int = 1024) -> torch.Tensor:
    """Unit vectors (items, dim) of a site's whole catalogue."""
    model.eval()
    with torch.inference_mode():
        parts = [
            model.item_vectors(site.items.take(torch.arange(at, min(at + chunk, site.n_items))))[0]
            for at in range(0, site.n_items, chunk)
        ]
        return torch.cat(parts)


def cosine_scores(site: SiteDataset, rows: TestRows, chunk: slice) -> Floats:
    """Untrained scores (rows, items): cosine of the mean history with each item, in frozen features."""
    valid = rows.valid[chunk].astype(np.float32)
    raw = site.items.raw.numpy()
    pooled = np.einsum("bh,bhd->bd", valid, raw[np.maximum(rows.items[chunk], 0)])
    pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)
    cosines: Floats = (pooled @ raw.T).astype(np.float32)
    return cosines


def chunks(n: int, n_items: int = 1) -> list[slice]:
    """Slices of at most CHUNK rows, and fewer where so many items would make too large a block of scores."""
    size = max(1, min(CHUNK, BLOCK // max(n_items, 1)))
    return [slice(at, min(at + size, n)) for at in range(0, n, size)]


class Ranking:
    """Collects recommendations and per-row metrics chunk by chunk."""

    def __init__(self, site: SiteDataset, rows: TestRows) -> None:
        self.site, self.rows = site, rows
        self.top: list[Ints] = []
        self.metrics: list[dict[str, NDArray[np.float64]]] = []

    def add(self, chunk: slice, scores: Floats) -> None:
        """Rank one chunk; ``scores`` (rows, items) is overwritten at barred items."""
        scores[self.rows.mask(self.rows.barred, chunk, self.site.n_items)] = -np.inf
        top = top_k(scores, max(CUTOFFS))
        self.top.append(top)
        self.metrics.append(
            ranking_metrics(top, self.rows.mask(self.rows.wanted, chunk, self.site.n_items), CUTOFFS)
        )

    def per_row(self) -> dict[str, NDArray[np.float64]]:
        """Metric → value of each row."""
        if not self.metrics:
            return {}
        return {name: np.concatenate([m[name] for m in self.metrics]) for name in self.metrics[0]}

    def summary(self) -> dict[str, float]:
        """Mean of each metric, coverage and diversity; empty without rows."""
        if not self.metrics:
            return {}
        figures = {name: float(values.mean()) for name, values in self.per_row().items()}
        top = np.concatenate(self.top)
        figures["coverage@20"] = coverage(top, self.site.n_items)
        figures["diversity@20"] = diversity(top, self.site.items.raw.numpy())
        return figures
