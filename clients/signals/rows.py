"""The rows from which a site learns weights: what customers bought next, beside things that they could have bought.

A row is asked at the start of a window, of what was known before it. Windows go back from the validation window. Candidates are what was wanted and `NEGATIVES` items drawn at random; the softmax over them stands for
that over the catalogue (importance correction, Bengio & Senécal 2008).
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import DAY_S, Floats, Ints, SiteDataset
from clients.data.rows import TestRows, basket_rows, returning_rows
from clients.signals.names import COLUMNS
from clients.signals.table import SignalTable
from clients.training.samples import derived_seed

NEGATIVES, WANTED = 100, 5
ROWS_A_WINDOW = 150
WINDOWS_BACK = 9


@dataclass(frozen=True)
class FitRows:
    """n rows of c candidates.

    Parameters
    ----------
    signals : (n, c, columns) signals in units of their scales, and their products.
    share : (n, c) what part of the row's wanted items a candidate is; sums to 1.
    offset : (n, c) the importance correction; −inf for places without a candidate.
    kind : (n,) 0 for a returning customer, 1 for a basket.
    user : (n,) whose row it is.
    """

    signals: Floats
    share: Floats
    offset: Floats
    kind: Ints
    user: Ints

    def __len__(self) -> int:
        return len(self.kind)

    def where(self, keep: NDArray[np.bool_]) -> FitRows:
        return FitRows(*(getattr(self, f.name)[keep] for f in fields(self)))

    @staticmethod
    def joined(parts: list[FitRows]) -> FitRows:
        """All rows of the parts, in order."""
        if not parts:
            empty, width = np.zeros(0, np.int64), NEGATIVES + WANTED
            return FitRows(
                np.zeros((0, width, len(COLUMNS)), np.float32), np.zeros((0, width), np.float32),
                np.zeros((0, width), np.float32), empty, empty,
            )  # fmt: skip
        return FitRows(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(FitRows)))


def window_rows(
    site: SiteDataset, table: SignalTable, window: tuple[int, int], length: int, seed: int
) -> FitRows:
    """The rows of one window, of both kinds; at most `ROWS_A_WINDOW` of each."""
    parts = []
    for kind, rows in enumerate(rows_of_window(site, window, length, seed)):
        few = rows.sample(ROWS_A_WINDOW, seed)
        if len(few):
            parts.append(_with_candidates(site, table, few, kind, seed))
    return FitRows.joined(parts)


def rows_of_window(
    site: SiteDataset, window: tuple[int, int], length: int, seed: int
) -> tuple[TestRows, TestRows]:
    """Returning customers and baskets in a window, of those who teach."""
    known = site.of_learners
    return returning_rows(known, *window, length), basket_rows(known, *window, length, seed)


def earlier_windows(site: SiteDataset) -> list[tuple[int, int]]:
    """Windows before the validation window and as long as it, the latest first, while anything is known before one.

    They begin half a window apart, on whole days: what a customer will buy is asked on different days.
    """
    split = site.split
    span = split.test_from - split.valid_from
    step = max(span // 2 // DAY_S, 1) * DAY_S
    earliest = int(site.learning_log.time.min()) if len(site.learning_log) else split.valid_from
    starts = [split.valid_from - span - back * step for back in range(WINDOWS_BACK)]
    return [(start, start + span) for start in starts if start > earliest]


def _with_candidates(site: SiteDataset, table: SignalTable, rows: TestRows, kind: int, seed: int) -> FitRows:
    generator = np.random.default_rng(derived_seed("candidates", seed, kind))
    n, n_items = len(rows), site.n_items
    items = np.concatenate(
        [np.zeros((n, WANTED), np.int64), generator.integers(0, n_items, (n, NEGATIVES))], axis=1
    )
    share = np.zeros(items.shape, np.float32)
    offset = np.full(items.shape, -np.inf, np.float32)
    for row, wanted, barred in _by_row(rows):
        chosen = generator.permutation(wanted)[:WANTED]
        items[row, : len(chosen)] = chosen
        share[row, : len(chosen)] = 1.0 / len(chosen)
        offset[row, : len(chosen)] = 0.0
        free = ~np.isin(items[row, WANTED:], np.concatenate([wanted, barred]))
        rest = max(n_items - len(wanted) - len(barred), 1)
        offset[row, WANTED:][free] = np.log(rest / max(int(free.sum()), 1))
    return FitRows(table.columns(rows, items), share, offset, np.full(n, kind, np.int64), rows.user)


def _by_row(rows: TestRows):  # type: ignore[no-untyped-def]
    for row in range(len(rows)):
        yield row, rows.wanted[1][rows.wanted[0] == row], rows.barred[1][rows.barred[0] == row]
