"""Signals of a customer's own history and the catalogue. No other customer is read here."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Floats, Ints
from clients.data.facts import ItemFacts


class History:
    """The histories (b, h) of b rows, latest event last, as pairs of row and item: only what is there is computed."""

    def __init__(self, items: Ints, valid: NDArray[np.bool_]) -> None:
        self.items, self.valid = items, valid
        self.row, place = np.nonzero(valid)
        self.item = items[self.row, place]
        self.count = valid.sum(1)
        self.starts = np.concatenate([[0], np.cumsum(self.count)[:-1]]).astype(np.int64)
        self.last = np.where(self.count > 0, items[:, -1], -1)
        self.log_length = np.log1p(self.count).astype(np.float32)[:, None]

    def __len__(self) -> int:
        return len(self.items)

    def shares(self, code_of_item: Ints, n_codes: int) -> Floats:
        """Share of each code in each history (b, codes); items without a code count in the length alone."""
        codes = code_of_item[self.item]
        known = codes >= 0
        flat = np.bincount(self.row[known] * n_codes + codes[known], minlength=len(self) * n_codes)
        return (flat.reshape(len(self), n_codes) / np.maximum(self.count, 1)[:, None]).astype(np.float32)


def likeness(history: History, raw: Floats) -> Iterator[Floats]:
    """Cosine signals (b, items) in the order of `names.SIGNALS`: mean, nearest, last, single, by length."""
    b, n = len(history), len(raw)
    pooled = np.zeros((b, raw.shape[1]), np.float32)
    np.add.at(pooled, history.row, raw[history.item])
    pooled /= np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-9)
    mean = pooled @ raw.T
    yield mean
    yield _nearest(history, raw)
    last = np.zeros((b, n), np.float32)
    has = history.last >= 0
    last[has] = raw[history.last[has]] @ raw.T
    yield last
    yield mean * (history.count == 1)[:, None]
    yield mean * history.log_length


def _nearest(history: History, raw: Floats) -> Floats:
    best = np.zeros((len(history), len(raw)), np.float32)
    order = history.starts
    for place in range(int(history.count.max(initial=0))):
        has = history.count > place
        cosines = raw[history.item[order[has] + place]] @ raw.T
        best[has] = cosines if place == 0 else np.maximum(best[has], cosines)
    return best


def facts_in_common(history: History, facts: ItemFacts) -> Iterator[Floats]:
    """Price, category, attributes, title and product code (b, items), in the order of `names.SIGNALS`."""
    yield _price(history, facts.log_price)
    yield _share_of(history, facts.category)
    profile = np.zeros((len(history), facts.attributes.shape[1]), np.float32)
    binary = facts.attributes.astype(bool).astype(np.float32)
    rows = binary[history.item].tocoo()
    np.add.at(profile, (history.row[rows.row], rows.col), 1.0)
    profile /= np.maximum(history.count, 1)[:, None]
    yield np.asarray(facts.attributes @ profile.T, np.float32).T
    yield (_share_of(history, facts.title) > 0).astype(np.float32)
    yield (_share_of(history, facts.product_code) > 0).astype(np.float32)


def _share_of(history: History, codes: Ints) -> Floats:
    n_codes = int(codes.max(initial=0)) + 1
    shares = history.shares(codes, n_codes)
    return np.where(codes >= 0, shares[:, np.maximum(codes, 0)], np.float32(0))


def _price(history: History, log_price: Floats) -> Floats:
    """−|log price − mean of the history's log prices|; 0 where either isn't known."""
    prices = log_price[history.item]
    known = np.isfinite(prices)
    total = np.bincount(history.row[known], prices[known], len(history))
    count = np.bincount(history.row[known], minlength=len(history))
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)
    away: Floats = -np.abs(log_price[None, :] - mean[:, None])
    return np.nan_to_num(away, nan=0.0)
