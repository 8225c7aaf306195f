"""All signals of one site at one instant: scores for a ranking, and columns for a fit."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Floats, Ints, SiteDataset
from clients.data.rows import TestRows
from clients.signals.history import History, facts_in_common, likeness
from clients.signals.names import COLUMNS, FIRST, N_SIGNALS, PAIR_OF, PAIR_SCALE, SCALES, SECOND, bent
from clients.signals.others import Others

Weights = NDArray[np.float64]
BLOCK = 1_000_000
_PAIRED = frozenset(PAIR_OF.tolist())


class SignalTable:
    """The signals of a site for data before an instant. Blocks of rows hold at most `BLOCK` numbers a signal."""

    def __init__(self, site: SiteDataset, at_s: int) -> None:
        self.site = site
        self.raw = site.items.raw.numpy()
        self.others = Others.fit(site.learning_log, site.facts.category, at_s)

    def signals(self, rows: TestRows, chunk: slice) -> Iterator[Floats]:
        """Each signal (rows, items), or (1, items) where it's the same for every row, in units of its scale."""
        history = History(rows.items[chunk], rows.kinds[chunk], rows.valid[chunk])
        parts = (
            likeness(history, self.raw),
            facts_in_common(history, self.site.facts),
            self.others.signals(history),
        )
        every = (signal for part in parts for signal in part)
        for scale, signal in zip(SCALES, every, strict=True):
            yield signal / scale

    def blocks(self, n_rows: int) -> list[slice]:
        """Slices of rows small enough for any catalogue."""
        size = max(1, BLOCK // max(self.site.n_items, 1))
        return [slice(at, min(at + size, n_rows)) for at in range(0, n_rows, size)]

    def scores(self, rows: TestRows, chunk: slice, weights: Weights) -> Floats:
        """The weighted sum (rows, items) of signals and of their products."""
        shape = (min(chunk.stop, len(rows)) - chunk.start, self.site.n_items)
        total, kept = np.zeros(shape, np.float32), {}
        for place, signal in enumerate(self.signals(rows, chunk)):
            if weights[place]:
                total += np.float32(weights[place]) * signal
            if place in _PAIRED:
                kept[place] = np.broadcast_to(signal, shape)
        pairs = weights[N_SIGNALS:]
        if pairs.any():
            form = np.zeros((len(PAIR_OF), len(PAIR_OF)), np.float32)
            form[FIRST, SECOND] = pairs * PAIR_SCALE
            stacked = bent(np.stack([kept[place] for place in PAIR_OF], axis=-1))
            total += np.einsum("rip,rip->ri", stacked @ form.T, stacked)
        return total

    def columns(self, rows: TestRows, items: Ints) -> Floats:
        """The signals and products (rows, candidates, columns) of chosen items (rows, candidates)."""
        out = np.empty((*items.shape, len(COLUMNS)), np.float32)
        for chunk in self.blocks(len(rows)):
            chosen = items[chunk]
            for number, signal in enumerate(self.signals(rows, chunk)):
                full = np.broadcast_to(signal, (len(chosen), self.site.n_items))
                out[chunk, :, number] = np.take_along_axis(full, chosen, axis=1)
        paired = bent(out[..., PAIR_OF])
        out[..., N_SIGNALS:] = PAIR_SCALE * paired[..., FIRST] * paired[..., SECOND]
        return out
