"""The rows from which a site learns weights: what customers bought next, beside things that they could have bought.

A row is asked at the start of a window, of what was known before it. Windows go back from the validation window.
Candidates are what was wanted and `NEGATIVES` items drawn at random; the softmax over them stands for that over the
catalogue (importance correction, Bengio & Senécal 2008). Invariant: what is drawn for a customer follows from the
customer's own records and public numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from clients.data.chance import own_draws, own_seeds
from clients.data.dataset import DAY_S, Floats, Ints, SiteDataset
from clients.data.rows import TestRows, basket_rows, returning_rows
from clients.signals.names import COLUMNS
from clients.signals.table import SignalTable

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


@dataclass(frozen=True)
class Choice:
    """Which rows of a window are taken.

    Parameters
    ----------
    share : None for at most `ROWS_A_WINDOW` of each kind. Under privacy of users a public share of the customers, each
        taken or not by itself, so that nobody's rows depend on who else is there.
    """

    seed: int
    share: float | None = None


def window_rows(
    site: SiteDataset, table: SignalTable, window: tuple[int, int], length: int, choice: Choice
) -> FitRows:
    """The rows of one window, of both kinds."""
    parts = []
    for kind, rows in enumerate(rows_of_window(site, window, length, choice.seed)):
        names = [site.user_ids[user] for user in rows.user]
        if choice.share is None:
            few = rows.sample(ROWS_A_WINDOW, choice.seed)
        else:
            few = rows.where(own_draws(choice.seed, names) < choice.share)
        if len(few):
            parts.append(_with_candidates(site, table, few, kind, choice.seed))
    return FitRows.joined(parts)


def rows_of_window(
    site: SiteDataset, window: tuple[int, int], length: int, seed: int
) -> tuple[TestRows, TestRows]:
    """Returning customers and baskets in a window, of those who teach."""
    known = site.of_learners
    return returning_rows(known, *window, length), basket_rows(known, *window, length, seed)


def earlier_windows(site: SiteDataset, *, public: bool = False) -> list[tuple[int, int]]:
    """Windows before the validation window and as long as it, the latest first.

    They begin half a window apart, on whole days: what a customer will buy is asked on different days.

    Parameters
    ----------
    public : all `WINDOWS_BACK` of them; else only while anything is known before one, which the log decides.
    """
    split = site.split
    span = split.test_from - split.valid_from
    step = max(span // 2 // DAY_S, 1) * DAY_S
    starts = [split.valid_from - span - back * step for back in range(WINDOWS_BACK)]
    if not public:
        earliest = int(site.learning_log.time.min()) if len(site.learning_log) else split.valid_from
        starts = [start for start in starts if start > earliest]
    return [(start, start + span) for start in starts]


def _with_candidates(site: SiteDataset, table: SignalTable, rows: TestRows, kind: int, seed: int) -> FitRows:
    n, n_items = len(rows), site.n_items
    items = np.zeros((n, WANTED + NEGATIVES), np.int64)
    share = np.zeros(items.shape, np.float32)
    offset = np.full(items.shape, -np.inf, np.float32)
    wanted_of, barred_of = _by_row(rows.wanted, n), _by_row(rows.barred, n)
    for row, own in enumerate(own_seeds(seed + kind, [site.user_ids[user] for user in rows.user])):
        generator, wanted, barred = np.random.default_rng(own), wanted_of[row], barred_of[row]
        chosen = generator.permutation(wanted)[:WANTED]
        items[row, : len(chosen)] = chosen
        share[row, : len(chosen)] = 1.0 / len(chosen)
        offset[row, : len(chosen)] = 0.0
        drawn = generator.integers(0, n_items, NEGATIVES)
        free = ~np.isin(drawn, np.concatenate([wanted, barred]))
        items[row, WANTED:] = drawn
        rest = max(n_items - len(wanted) - len(barred), 1)
        offset[row, WANTED:][free] = np.log(rest / max(int(free.sum()), 1))
    return FitRows(table.columns(rows, items), share, offset, np.full(n, kind, np.int64), rows.user)


def _by_row(pairs: tuple[Ints, Ints], n: int) -> list[Ints]:
    """The items of each row of (row, item) pairs."""
    order = np.argsort(pairs[0], kind="stable")
    return np.split(pairs[1][order], np.searchsorted(pairs[0][order], np.arange(1, n)))
