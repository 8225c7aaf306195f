"""The rows from which a site learns weights: what customers bought next, beside things that they could have bought.

A row is asked at the start of a window, of what was known before it. Windows go back from the validation window.
Candidates are what was wanted and `NEGATIVES` items drawn at random; the softmax over them stands for that over the
catalogue (importance correction, Bengio & Senécal 2008). Invariant: what is drawn for a row follows from the seed and
the customer's name, and where a league protects customers, so does whether the row is there.
"""

from __future__ import annotations

from collections.abc import Iterator
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
        parts = [part for part in parts if len(part)]
        if not parts:
            empty, width = np.zeros(0, np.int64), NEGATIVES + WANTED
            return FitRows(
                np.zeros((0, width, len(COLUMNS)), np.float32), np.zeros((0, width), np.float32),
                np.zeros((0, width), np.float32), empty, empty,
            )  # fmt: skip
        return FitRows(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(FitRows)))


@dataclass(frozen=True)
class Asking:
    """Who is asked.

    Parameters
    ----------
    length : at most so many events of a history.
    rate : None: at most `ROWS_A_WINDOW` of a kind. Else the chance with which each row is there, drawn by its
        customer's name; the windows then don't depend on the log either. So under privacy, where nobody may have a say
        in whether another's row is there.
    """

    length: int
    seed: int
    rate: float | None = None


def window_rows(site: SiteDataset, table: SignalTable, window: tuple[int, int], asking: Asking) -> FitRows:
    """The rows of one window, of both kinds."""
    parts = []
    seed = derived_seed(asking.seed, *window)
    for kind, rows in enumerate(rows_of_window(site, window, asking.length, seed)):
        if asking.rate is None:
            few = rows.sample(ROWS_A_WINDOW, seed)
        else:
            few = rows.where(_chances(site, "asked", seed)[rows.user] < asking.rate)
        if len(few):
            parts.append(_with_candidates(site, table, few, kind, seed))
    return FitRows.joined(parts)


def rows_of_window(
    site: SiteDataset, window: tuple[int, int], length: int, seed: int
) -> tuple[TestRows, TestRows]:
    """Returning customers and baskets in a window, of those who teach."""
    known = site.of_learners
    hidden = _chances(site, "hidden", seed)
    return returning_rows(known, *window, length), basket_rows(known, *window, length, hidden)


def _chances(site: SiteDataset, purpose: str, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) for each user, from the seed and the user's name."""
    return np.array([(derived_seed(purpose, seed, name) >> 10) / 2**53 for name in site.user_ids])


def earlier_windows(site: SiteDataset, as_ever: bool) -> list[tuple[int, int]]:
    """Windows before the validation window and as long as it, the latest first, while anything is known before one.

    They begin half a window apart, on whole days: what a customer will buy is asked on different days.

    Parameters
    ----------
    as_ever : as far back at every site, since where a log begins may be one customer's doing.
    """
    split = site.split
    span = split.test_from - split.valid_from
    step = max(span // 2 // DAY_S, 1) * DAY_S
    earliest = int(site.learning_log.time.min()) if len(site.learning_log) else split.valid_from
    starts = [split.valid_from - span - back * step for back in range(WINDOWS_BACK)]
    return [(start, start + span) for start in starts if as_ever or start > earliest]


def _with_candidates(site: SiteDataset, table: SignalTable, rows: TestRows, kind: int, seed: int) -> FitRows:
    n, n_items = len(rows), site.n_items
    items = np.zeros((n, WANTED + NEGATIVES), np.int64)
    share = np.zeros(items.shape, np.float32)
    offset = np.full(items.shape, -np.inf, np.float32)
    for row, wanted, barred in _by_row(rows):
        name = site.user_ids[rows.user[row]]
        generator = np.random.default_rng(derived_seed("candidates", seed, kind, name))
        items[row, WANTED:] = generator.integers(0, n_items, NEGATIVES)
        chosen = generator.permutation(wanted)[:WANTED]
        items[row, : len(chosen)] = chosen
        share[row, : len(chosen)] = 1.0 / len(chosen)
        offset[row, : len(chosen)] = 0.0
        free = ~np.isin(items[row, WANTED:], np.concatenate([wanted, barred]))
        rest = max(n_items - len(wanted) - len(barred), 1)
        offset[row, WANTED:][free] = np.log(rest / max(int(free.sum()), 1))
    return FitRows(table.columns(rows, items), share, offset, np.full(n, kind, np.int64), rows.user)


def _by_row(rows: TestRows) -> Iterator[tuple[int, Ints, Ints]]:
    for row in range(len(rows)):
        yield row, rows.wanted[1][rows.wanted[0] == row], rows.barred[1][rows.barred[0] == row]
