"""Private baselines of a site: recency popularity and item-to-item neighbours, both from its own log.

They need no training and no other site. So a shared model has to be better than they are, and they are part of the
deployed method.
Source: item-kNN with shrinkage, Deshpande & Karypis 2004.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from clients.data.dataset import DAY_S, Floats, Log
from clients.data.rows import TestRows
from clients.training.samples import TARGET_WEIGHTS

HALF_LIVES_D = (1.0, 3.0, 7.0, 30.0, 3650.0)
SHRINKAGES = (0.0, 3.0, 20.0)
MAX_EVENTS_PER_USER = 500


def popularity(log: Log, n_items: int, at_s: int, half_life_d: float) -> Floats:
    """Log of each item's decayed event weight before an instant, centred; (items,) float32."""
    past = log.before(at_s)
    age_d = (at_s - past.time) / DAY_S
    weight = TARGET_WEIGHTS[past.kind] * 0.5 ** (age_d / half_life_d)
    total = np.bincount(past.item, weights=weight, minlength=n_items)
    scaled = total * (len(past) / max(total.sum(), 1e-9))
    smooth = np.log(scaled + 0.5)
    centred: Floats = (smooth - smooth.mean()).astype(np.float32)
    return centred


@dataclass(frozen=True)
class ItemNeighbours:
    """Item-to-item similarity (items, items), sparse, from users who touched both."""

    similarity: sp.csr_matrix

    @classmethod
    def fit(cls, log: Log, n_items: int, at_s: int, shrinkage: float) -> ItemNeighbours:
        """Cosine of the items' user sets before an instant, shrunk: overlap / (√(n_i n_j) + shrinkage)."""
        past = log.before(at_s)
        late = np.arange(len(past)) >= past.offsets[1:][past.user] - MAX_EVENTS_PER_USER
        user, item = past.user[late], past.item[late]
        touched = sp.csr_matrix((np.ones(len(user), np.float32), (user, item)), shape=(log.n_users, n_items))
        touched.data[:] = 1.0
        overlap = (touched.T @ touched).tocoo()
        counts = np.asarray(touched.sum(0)).ravel()
        overlap.data = overlap.data / (np.sqrt(counts[overlap.row] * counts[overlap.col]) + shrinkage)
        return cls(overlap.tocsr())

    def scores(self, rows: TestRows, chunk: slice) -> Floats:
        """Scores (rows, items): log of one plus the summed similarity to the history, recent events first."""
        items, valid = rows.items[chunk], rows.valid[chunk]
        length = items.shape[1]
        recency = 0.9 ** np.arange(length)[::-1]
        row = np.repeat(np.arange(len(items)), length)[valid.ravel()]
        weight = np.tile(recency, len(items))[valid.ravel()]
        history = sp.csr_matrix(
            (weight, (row, items.ravel()[valid.ravel()])), shape=(len(items), self.similarity.shape[0])
        )
        summed: Floats = np.log1p(10.0 * np.asarray((history @ self.similarity).todense(), dtype=np.float32))
        return summed
