"""A site's log with running sums, so that what a customer did in any span is a difference of two rows.

The log is sorted by user and time. For each quantity (an event of a kind, the first event of a visit, …) the diary
keeps its running sum over the rows: what a user did in [from, until) is the sum at the row after the user's last event
before ``until``, less that before ``from``. Invariant: what a row holds depends only on the user's own events up to it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import DAY_S, KINDS, PURCHASE, Ints, Log, rows_before

VISIT_GAP_S = 1800
"""An event longer than this after the one before begins a new visit: half an hour, as in web analytics."""
WEEKDAYS, DAY_PARTS = 7, 8
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Diary:
    """A log of n events and the category (items,) of each item, -1 where unknown."""

    log: Log
    category: Ints

    def ends(self, users: Ints, instants: Ints) -> Ints:
        """For each (user, instant) the row after the user's last event before the instant."""
        return rows_before(self.log, users, instants)

    def count(self, name: str, start: Ints, end: Ints) -> Values:
        """The sum of a quantity of `running` over rows [start, end)."""
        sums = self.running[name]
        return sums[end] - sums[start]

    @functools.cached_property
    def day_begins(self) -> NDArray[np.bool_]:
        """(n,) whether an event is the user's first on its day (UTC)."""
        return self._changes(self.log.time // DAY_S)

    @functools.cached_property
    def visit_begins(self) -> NDArray[np.bool_]:
        """(n,) whether an event begins a visit."""
        late = np.diff(self.log.time, prepend=0) > VISIT_GAP_S
        return late | self._changes(np.zeros(len(self.log), np.int64))

    @functools.cached_property
    def purchase_row(self) -> Ints:
        """(n,) the user's latest purchase up to each row; -1 without one."""
        latest = np.maximum.accumulate(
            np.where(self.log.kind == PURCHASE, np.arange(len(self.log)), -1), dtype=np.int64
        )
        return np.where(latest >= self.log.offsets[self.log.user], latest, -1)

    @functools.cached_property
    def running(self) -> dict[str, Values]:
        """Running sums (n + 1,) by name."""
        log, days = self.log, self.log.time // DAY_S
        bought = log.kind == PURCHASE
        quantities: dict[str, NDArray[np.bool_] | Values] = {
            kind: log.kind == number for number, kind in enumerate(KINDS)
        }
        gap = np.where(self.day_begins, np.diff(days, prepend=0), 0).astype(np.float64)
        gap[log.offsets[:-1][log.offsets[1:] > log.offsets[:-1]]] = 0.0
        category = np.where(log.item >= 0, self.category[log.item], -1) if len(self.category) else log.item
        quantities |= {
            "day": self.day_begins,
            "visit": self.visit_begins,
            "buying_visit": bought & _first(np.cumsum(self.visit_begins), bought),
            "buying_day": bought & _first(log.user * (1 << 20) + days, bought),
            "gap": gap,
            "gap_square": gap**2,
            "new_item": (log.item >= 0) & _first_pair(log.user, log.item),
            "new_category": (category >= 0) & _first_pair(log.user, category),
        }
        weekday, part = (days + 3) % WEEKDAYS, log.time % DAY_S // (DAY_S // DAY_PARTS)
        quantities |= {f"weekday_{w}": self.visit_begins & (weekday == w) for w in range(WEEKDAYS)}
        quantities |= {f"part_{p}": self.visit_begins & (part == p) for p in range(DAY_PARTS)}
        return {name: np.concatenate([[0.0], np.cumsum(values)]) for name, values in quantities.items()}

    def _changes(self, values: Ints) -> NDArray[np.bool_]:
        fresh = np.ones(len(self.log), bool)
        fresh[1:] = (values[1:] != values[:-1]) | (self.log.user[1:] != self.log.user[:-1])
        return fresh


def _first(keys: Ints, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether a row is the first among the marked ones with its key."""
    first = np.zeros(len(keys), bool)
    rows = np.flatnonzero(among)
    first[rows[np.unique(keys[rows], return_index=True)[1]]] = True
    return first


def _first_pair(user: Ints, other: Ints) -> NDArray[np.bool_]:
    span = int(other.max()) + 2 if len(other) else 1
    return _first(user * span + other + 1, np.ones(len(user), bool))
