"""The rows of a ranking, split by time: who is asked, what was known of them, and what they then bought.

There are two kinds. *Returning* users have events before the window; their wanted items are what they buy
in it. *Basket* rows are first baskets of new users with one item hidden, which is the wanted item. Only discovery
counts: items that a user has touched before, by a purchase or just a view, are neither wanted nor candidates.

Invariant: a row's history holds only events strictly before its window (returning) or the rest of the same basket
(basket).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import PURCHASE, Ints, Log, SiteDataset, as_user_inputs, gather_histories
from common.models.model import UserInputs

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class TestRows:
    """n evaluation rows: padded histories (n, h), each row's instant, wanted and barred items as (row, item) pairs."""

    user: Ints
    items: Ints
    kinds: Ints
    times: Ints
    valid: Bools
    at: Ints
    wanted: tuple[Ints, Ints]
    barred: tuple[Ints, Ints]

    def __len__(self) -> int:
        return len(self.user)

    def inputs(self, rows: slice) -> UserInputs:
        """Tensors for the user tower, one target a row."""
        valid = self.valid[rows]
        return as_user_inputs(
            self.items[rows],
            self.kinds[rows],
            self.times[rows],
            valid,
            self.at[rows][:, None],
            valid[:, None, :],
        )

    def sample(self, count: int, seed: int) -> TestRows:
        """At most ``count`` rows, drawn without replacement, in order."""
        if len(self) <= count:
            return self
        return self.take(np.sort(np.random.default_rng(seed).choice(len(self), count, replace=False)))

    def where(self, keep: Bools) -> TestRows:
        """The rows that ``keep`` marks."""
        return self.take(np.flatnonzero(keep))

    def take(self, drawn: Ints) -> TestRows:
        """The rows at the given places, in rising order."""
        return TestRows(
            self.user[drawn],
            self.items[drawn],
            self.kinds[drawn],
            self.times[drawn],
            self.valid[drawn],
            self.at[drawn],
            _reindex(self.wanted, drawn),
            _reindex(self.barred, drawn),
        )

    def mask(self, pairs: tuple[Ints, Ints], rows: slice, n_items: int) -> Bools:
        """Dense (rows, items) form of ``wanted`` or ``barred``."""
        inside = (pairs[0] >= rows.start) & (pairs[0] < rows.stop)
        dense = np.zeros((min(rows.stop, len(self)) - rows.start, n_items), bool)
        dense[pairs[0][inside] - rows.start, pairs[1][inside]] = True
        return dense


def returning_rows(site: SiteDataset, from_s: int, until_s: int, length: int) -> TestRows:
    """Users with an item event before ``from_s`` who buy something they never touched in [from, until)."""
    past, future = site.item_log.before(from_s), site.item_log.between(from_s, until_s)
    touched, bought = _pairs(past), _pairs(future.where(future.kind == PURCHASE))
    new = _pairs_without(bought, touched, site.n_items)
    has_past = past.offsets[1:] > past.offsets[:-1]
    new = (new[0][has_past[new[0]]], new[1][has_past[new[0]]])
    users = np.unique(new[0])
    items, kinds, times, valid = gather_histories(past, users, past.offsets[users + 1], length)
    at = np.full(len(users), from_s, np.int64)
    return TestRows(users, items, kinds, times, valid, at, _reindex(new, users), _reindex(touched, users))


def basket_rows(
    site: SiteDataset, from_s: int, until_s: int, length: int, chance: int | NDArray[np.float64]
) -> TestRows:
    """New users' purchases in the window with one item hidden; needs two different items.

    Parameters
    ----------
    chance : which item is hidden: a seed, or a number in [0, 1) for each of the site's users, so that nobody has a say
        in what is hidden of others.
    """
    log = site.log.where(site.log.kind == PURCHASE)
    earlier_users = np.unique(log.before(from_s).user)
    window = log.between(from_s, until_s)
    window = window.where(~np.isin(window.user, earlier_users))
    user, item = _pairs(window)
    counts = np.bincount(user, minlength=site.log.n_users)
    users = np.flatnonzero(counts >= 2).astype(np.int64)
    spread = np.random.default_rng(chance).random(len(users)) if isinstance(chance, int) else chance[users]
    hidden = item[np.searchsorted(user, users) + (spread * counts[users]).astype(np.int64)]
    hidden_of = np.full(site.log.n_users, -1, np.int64)
    hidden_of[users] = hidden
    visible = np.isin(user, users) & (item != hidden_of[user])
    count = int(visible.sum())
    baskets = Log.of(
        user[visible], item[visible], np.full(count, PURCHASE), np.full(count, from_s), site.log.n_users
    )
    items, kinds, times, valid = gather_histories(baskets, users, baskets.offsets[users + 1], length)
    at = np.full(len(users), from_s, np.int64)
    pairs = (baskets.user, baskets.item)
    return TestRows(
        users, items, kinds, times, valid, at, (np.arange(len(users)), hidden), _reindex(pairs, users)
    )


def _pairs(log: Log) -> tuple[Ints, Ints]:
    """Distinct (user, item) pairs, sorted."""
    if not len(log):
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    distinct = np.unique(np.stack([log.user, log.item], axis=1), axis=0)
    return distinct[:, 0], distinct[:, 1]


def _pairs_without(pairs: tuple[Ints, Ints], others: tuple[Ints, Ints], n_items: int) -> tuple[Ints, Ints]:
    keep = ~np.isin(pairs[0] * n_items + pairs[1], others[0] * n_items + others[1])
    return pairs[0][keep], pairs[1][keep]


def _reindex(pairs: tuple[Ints, Ints], users: Ints) -> tuple[Ints, Ints]:
    """The pairs whose first part is in the sorted ``users``; that part is replaced by its position there."""
    keep = np.isin(pairs[0], users)
    return np.searchsorted(users, pairs[0][keep]), pairs[1][keep]
