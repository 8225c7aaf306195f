"""Signals of what other customers did before an instant: neighbours, a linear autoencoder, popularity, age.

Sources: item-kNN with shrinkage, Deshpande & Karypis 2004; EASE, Steck 2019 (arXiv:1905.03375). Invariant: nothing at
or after the instant is read, and nothing of customers who don't teach (`SiteDataset.learning_log`). No dense matrix
has more than `EASE_ITEMS` rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse as sp

from clients.data.dataset import DAY_S, PURCHASE, Floats, Ints, Log
from clients.signals.history import History
from clients.signals.names import HALF_LIVES_D
from clients.signals.neighbours import ItemNeighbours, popularity

SHRINKAGE = 3.0
EASE_ITEMS, EASE_RIDGE = 1500, 20.0
RECENCY = 0.9
WEEK = HALF_LIVES_D.index(7.0)


@dataclass(frozen=True)
class Others:
    """What others did before an instant, at one site of n items.

    Parameters
    ----------
    similarity, bought : (n, n) sparse cosines of the sets of customers who touched, and who bought, each item.
    ease_items, ease : the items that the autoencoder knows, and its weights among them.
    popularity : (half-lives, n) centred log shares.
    in_category : (n,) the weekly one minus that of the item's category.
    age : (n,) log1p of days since an item was first touched; 0 for never.
    never : (n,) 1 where nobody touched it.
    """

    similarity: sp.csr_matrix
    bought: sp.csr_matrix
    ease_items: Ints
    ease: Floats
    popularity: Floats
    in_category: Floats
    age: Floats
    never: Floats

    @classmethod
    def fit(cls, log: Log, category: Ints, at_s: int) -> Others:
        """From the item events of those who teach; what comes at the instant or later is left out here."""
        past, n_items = log.before(at_s), len(category)
        first = np.full(n_items, np.iinfo(np.int64).max)
        np.minimum.at(first, past.item, past.time)
        never = first > at_s
        age = np.log1p(np.where(never, 0, at_s - np.minimum(first, at_s)) / DAY_S)
        shares = np.stack([popularity(log, n_items, at_s, half_life) for half_life in HALF_LIVES_D])
        return cls(
            ItemNeighbours.fit(log, n_items, at_s, SHRINKAGE).similarity,
            ItemNeighbours.fit(log.where(log.kind == PURCHASE), n_items, at_s, SHRINKAGE).similarity,
            *_ease(past, n_items),
            shares,
            shares[WEEK] - _mean_by(category, shares[WEEK]),
            age.astype(np.float32),
            never.astype(np.float32),
        )

    def signals(self, history: History) -> Iterator[Floats]:
        """The signals of `names.OTHERS`: (b, items), or (1, items) where it's the same for every row."""
        recency = _recency(history)
        together = _summed(history, self.similarity, history.row, history.item, recency)
        yield together
        has = np.flatnonzero(history.last >= 0)
        yield _summed(history, self.similarity, has, history.last[has], np.ones(len(has), np.float32))
        yield _summed(history, self.bought, history.row, history.item, recency)
        yield (together > 0).astype(np.float32)
        yield together * history.length
        yield self.expected(history)
        weekly = self.popularity[WEEK]
        yield weekly[None]
        for place, shares in enumerate(self.popularity):
            if place != WEEK:
                yield (shares - weekly)[None]
        yield weekly[None] * history.length
        yield self.in_category[None]
        taste = history.pooled(weekly[:, None]) / np.maximum(history.count, 1)[:, None]
        yield taste.astype(np.float32) * weekly[None]
        yield self.age[None]
        yield self.never[None]

    def expected(self, history: History) -> Floats:
        """What the linear autoencoder expects (b, items); 0 for items that it doesn't know."""
        scores = np.zeros((len(history), self.similarity.shape[0]), np.float32)
        place = np.full(self.similarity.shape[0], -1)
        place[self.ease_items] = np.arange(len(self.ease_items))
        known = place[history.item] >= 0
        chosen = np.zeros((len(history), len(self.ease_items)), np.float32)
        chosen[history.row[known], place[history.item[known]]] = 1.0
        scores[:, self.ease_items] = chosen @ self.ease
        return scores


def _summed(history: History, similarity: sp.csr_matrix, row: Ints, item: Ints, weight: Floats) -> Floats:
    chosen = sp.csr_matrix((weight, (row, item)), shape=(len(history), similarity.shape[0]))
    return np.log1p(10.0 * np.asarray((chosen @ similarity).todense(), dtype=np.float32))


def _mean_by(code: Ints, values: Floats) -> Floats:
    """Each item's mean over the items of its code; over all for those without one."""
    counts = np.bincount(code + 1)
    means = np.bincount(code + 1, values) / np.maximum(counts, 1)
    means[0] = values.mean() if len(values) else 0.0
    found: Floats = means[code + 1].astype(np.float32)
    return found


def _recency(history: History) -> Floats:
    """0.9 to the power of how many events came after."""
    after = history.count[history.row] - 1 - (np.arange(len(history.row)) - history.starts[history.row])
    return (RECENCY**after).astype(np.float32)


def _ease(past: Log, n_items: int) -> tuple[Ints, Floats]:
    """The closed form over the items that most customers touched, up to `EASE_ITEMS` of them."""
    touched = sp.csr_matrix(
        (np.ones(len(past), np.float32), (past.user, past.item)), shape=(past.n_users, n_items)
    )
    touched.data[:] = 1.0
    counts = np.asarray(touched.sum(0)).ravel()
    items = np.sort(np.argsort(-counts, kind="stable")[:EASE_ITEMS])
    items = items[counts[items] > 0].astype(np.int64)
    if not len(items):
        return items, np.zeros((0, 0), np.float32)
    chosen = touched[:, items]
    gram = np.asarray((chosen.T @ chosen).todense(), np.float64)
    gram[np.diag_indices_from(gram)] += EASE_RIDGE
    inverse = scipy.linalg.inv(gram, overwrite_a=True, check_finite=False)
    weights = inverse / -np.diag(inverse)
    np.fill_diagonal(weights, 0.0)
    return items, weights.astype(np.float32)
