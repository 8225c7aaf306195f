"""Signals of a customer's own history and the catalogue. No other customer is read here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from clients.data.dataset import KINDS, Floats, Ints
from clients.data.facts import ItemFacts
from clients.signals.names import USUAL_LENGTH

WANTS: Floats = np.array([kind in ("cart", "purchase") for kind in KINDS], np.float32)


class History:
    """The histories (b, h) of b rows, latest event last, as pairs of row and item: only what is there is computed."""

    def __init__(self, items: Ints, kinds: Ints, valid: NDArray[np.bool_]) -> None:
        self.items, self.valid = items, valid
        self.row, place = np.nonzero(valid)
        self.item, self.wants = items[self.row, place], WANTS[kinds[self.row, place]]
        self.count = valid.sum(1)
        self.starts = np.concatenate([[0], np.cumsum(self.count)[:-1]]).astype(np.int64)
        self.last = np.where(self.count > 0, items[:, -1], -1)
        self.length = (np.log1p(self.count) - USUAL_LENGTH).astype(np.float32)[:, None]

    def __len__(self) -> int:
        return len(self.items)

    def pooled(self, vectors: Floats, weights: Floats | None = None) -> Floats:
        """Weighted sums (b, width) of the histories' item vectors."""
        pooled = np.zeros((len(self), vectors.shape[1]), np.float32)
        chosen = vectors[self.item]
        np.add.at(pooled, self.row, chosen if weights is None else chosen * weights[:, None])
        return pooled

    def shares(self, code_of_item: Ints, n_codes: int) -> Floats:
        """Share of each code in each history (b, codes); items without a code count in the length alone."""
        codes = code_of_item[self.item]
        known = codes >= 0
        flat = np.bincount(self.row[known] * n_codes + codes[known], minlength=len(self) * n_codes)
        return (flat.reshape(len(self), n_codes) / np.maximum(self.count, 1)[:, None]).astype(np.float32)


def likeness(history: History, raw: Floats) -> Iterator[Floats]:
    """The signals (b, items) of `names.LIKENESS`; the first half of ``raw`` is the text's."""
    mean = _unit(history.pooled(raw))
    text = raw.shape[1] // 2
    of_text = mean[:, :text] @ raw[:, :text].T
    whole = of_text + mean[:, text:] @ raw[:, text:].T
    yield whole
    yield _nearest(history, raw) - whole
    last = np.zeros_like(whole)
    has = history.last >= 0
    last[has] = raw[history.last[has]] @ raw.T - whole[has]
    yield last
    yield whole * (history.count == 1)[:, None]
    yield whole * history.length
    yield 2 * of_text - whole
    wanted = _unit(history.pooled(raw, history.wants))
    yield np.where(wanted.any(1, keepdims=True), wanted @ raw.T - whole, np.float32(0))


def _unit(vectors: Floats) -> Floats:
    unit: Floats = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
    return unit


def _nearest(history: History, raw: Floats) -> Floats:
    best = np.zeros((len(history), len(raw)), np.float32)
    order = history.starts
    for place in range(int(history.count.max(initial=0))):
        has = history.count > place
        cosines = raw[history.item[order[has] + place]] @ raw.T
        best[has] = cosines if place == 0 else np.maximum(best[has], cosines)
    return best


def facts_in_common(history: History, facts: ItemFacts) -> Iterator[Floats]:
    """The signals (b, items) of `names.FACTS`."""
    level = _price_level(history, facts.log_price)
    near = -np.abs(level)
    yield near
    yield near * history.length
    yield level
    category = _share_of(history, facts.category)
    yield category
    last = np.where(history.last >= 0, facts.category[history.last], -1)
    yield ((last[:, None] == facts.category) & (last >= 0)[:, None]) - category
    yield category * history.length
    yield _share_of(history, facts.brand)
    attributes = _attributes(history, facts)
    yield attributes
    yield attributes * history.length
    yield (_share_of(history, facts.title) > 0).astype(np.float32)
    yield (_share_of(history, facts.product_code) > 0).astype(np.float32)


def _attributes(history: History, facts: ItemFacts) -> Floats:
    has = facts.attributes.astype(bool).astype(np.float32)
    chosen = sp.csr_matrix(
        (np.ones(len(history.item), np.float32), (history.row, history.item)),
        shape=(len(history), has.shape[0]),
    )
    profile = (chosen @ has).multiply(1.0 / np.maximum(history.count, 1)[:, None]).tocsr()
    shares: Floats = np.asarray((profile @ facts.attributes.T).todense(), np.float32)
    return shares


def _share_of(history: History, codes: Ints) -> Floats:
    n_codes = int(codes.max(initial=0)) + 1
    shares = history.shares(codes, n_codes)
    return np.where(codes >= 0, shares[:, np.maximum(codes, 0)], np.float32(0))


def _price_level(history: History, log_price: Floats) -> Floats:
    """Log price minus the mean of the history's log prices; 0 where either isn't known."""
    prices = log_price[history.item]
    known = np.isfinite(prices)
    total = np.bincount(history.row[known], prices[known], len(history))
    count = np.bincount(history.row[known], minlength=len(history))
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
    return np.nan_to_num(log_price[None, :] - mean[:, None], nan=0.0)
