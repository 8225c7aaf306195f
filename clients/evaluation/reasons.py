"""Why an item is recommended, from the parts of its real score.

The score is a sum of signals times weights. A part counts by how far it lifts the item above the mean of the catalogue
for the same customer, so what lifts every item alike explains nothing. Invariant: the shares that are told are of the
parts that lift the item, and the history item that is named is the one nearest in the strongest of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Floats, Ints
from clients.data.rows import TestRows
from clients.signals.names import FIRST, N_SIGNALS, PAIR_OF, PAIR_SCALE, SECOND, SIGNALS, bent
from clients.signals.ranker import Vector
from clients.signals.table import SignalTable

FAMILIES: dict[str, tuple[str, str]] = {
    "likeness": ("looks and reads alike", "外观和文字相近"),
    "facts": ("same kind and price", "同类同价"),
    "together": ("bought together", "常被一起购买"),
    "demand": ("in demand", "近期热销"),
    "novelty": ("its time in the shop", "上架时间"),
}
_PLACE = {family: place for place, family in enumerate(FAMILIES)}
_WORDS = tuple(FAMILIES.values())
_FAMILY = [_PLACE[signal.family] for signal in SIGNALS]


class Reasons:
    """Words and the history item for items (rows, k)."""

    def __init__(self, table: SignalTable, weights: Vector, language: str) -> None:
        self.table, self.weights, self.chinese = table, weights, language == "zh"

    def of(self, rows: TestRows, chunk: slice, items: Ints) -> tuple[list[str], Ints]:
        """A phrase for each item, row by row, and the items of the history (rows, k) that are named."""
        lifts = family_lifts(self.table, self.weights, rows, chunk, items)
        strongest = lifts.argmax(2)
        history, valid = np.maximum(rows.items[chunk], 0), rows.valid[chunk]
        raw, similarity = self.table.raw, self.table.others.similarity
        likeness = np.einsum("bkd,bhd->bkh", raw[items], raw[history])
        together = np.zeros_like(likeness)
        for row, (mine, chosen) in enumerate(zip(history, items, strict=True)):
            together[row] = similarity[mine][:, chosen].todense().T
        near = np.where((strongest == _PLACE["together"])[..., None], together, likeness)
        named = np.where(valid[:, None, :], near, -9.0).argmax(2)
        return [self._phrase(lift) for lift in lifts.reshape(-1, len(FAMILIES))], np.take_along_axis(
            history, named, 1
        )

    def _phrase(self, lift: NDArray[np.float64]) -> str:
        positive = np.maximum(lift, 0.0)
        if not positive.sum():
            return "没有突出的理由" if self.chinese else "nothing speaks for it in particular"
        shares = positive / positive.sum()
        best = [g for g in np.argsort(-shares, kind="stable")[:2] if shares[g] >= 0.05]
        if self.chinese:
            return ",".join(f"{_WORDS[g][1]} {shares[g]:.0%}" for g in best)
        return ", ".join(f"{_WORDS[g][0]} {100 * shares[g]:.0f} %" for g in best)


def family_lifts(
    table: SignalTable, weights: Vector, rows: TestRows, chunk: slice, items: Ints
) -> NDArray[np.float64]:
    """How far each family of signals lifts chosen items (rows, k) above the row's mean item: (rows, k, families).

    A product of two signals counts half for the family of each.
    """
    lifts = np.zeros((*items.shape, len(FAMILIES)))
    kept = {}
    for place, signal in enumerate(table.signals(rows, chunk)):
        full: Floats = np.broadcast_to(signal, (len(items), table.site.n_items))
        lifts[..., _FAMILY[place]] += weights[place] * (
            np.take_along_axis(full, items, 1) - full.mean(1, keepdims=True)
        )
        if place in PAIR_OF:
            kept[place] = full
    form = np.zeros((len(PAIR_OF), len(PAIR_OF)), np.float32)
    form[FIRST, SECOND] = weights[N_SIGNALS:] * PAIR_SCALE
    stacked = bent(np.stack([kept[place] for place in PAIR_OF], axis=-1))
    for half in (stacked * (stacked @ form.T) / 2, stacked * (stacked @ form) / 2):
        for place, part in zip(PAIR_OF, np.moveaxis(half, -1, 0), strict=True):
            lifts[..., _FAMILY[place]] += np.take_along_axis(part, items, 1) - part.mean(1, keepdims=True)
    return lifts
