"""Hand-made log features and labels for purchase intent and next event.

At an instant *c* the features count what a user did before *c* (by kind and recency window), and the labels say what
the user did in [c, c + horizon). Invariant: features read only events before *c*. The logistic baseline uses the same
features, so that the comparison is fair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import DAY_S, KINDS, PURCHASE, Floats, Ints, Log, Split
from common.models.heads import N_LOG_FEATURES

WINDOWS_S = (DAY_S, 7 * DAY_S, 28 * DAY_S, 10**10)
CART = KINDS.index("cart")


@dataclass(frozen=True)
class BehaviourRows:
    """Labelled instants: n rows of (user, at) with ``features`` (n, N_LOG_FEATURES), intent 0/1, next kind or -1."""

    user: Ints
    at: Ints
    features: Floats
    intent: Ints
    next_kind: Ints

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints) -> BehaviourRows:
        return BehaviourRows(
            self.user[rows], self.at[rows], self.features[rows], self.intent[rows], self.next_kind[rows]
        )


def horizon_s(split: Split) -> int:
    """How far ahead intent looks: a quarter of the test window, at least a day."""
    return max(DAY_S, (split.until - split.test_from) // 4 // DAY_S * DAY_S)


def instants_back(from_s: int, horizon: int, earliest_s: int, at_most: int) -> Ints:
    """Instants after the start of the log whose whole horizon lies before ``from_s``."""
    instants = from_s - horizon * np.arange(1, at_most + 1, dtype=np.int64)
    return instants[instants > earliest_s]


def instants_ahead(from_s: int, until_s: int, horizon: int) -> Ints:
    """Instants in a window whose whole horizon lies within the window; always at least the first instant."""
    instants = np.arange(from_s, max(until_s - horizon + 1, from_s + 1), horizon, dtype=np.int64)
    return instants


def behaviour_rows(log: Log, instants: Ints, horizon: int) -> BehaviourRows:
    """Rows of all users with an event before each instant."""
    parts = [_rows_at(log, int(c), horizon) for c in instants]
    if not parts:
        empty = np.zeros(0, np.int64)
        return BehaviourRows(empty, empty, np.zeros((0, N_LOG_FEATURES), np.float32), empty, empty)
    return BehaviourRows(
        *(np.concatenate([getattr(p, f) for p in parts]) for f in BehaviourRows.__dataclass_fields__)
    )


def _rows_at(log: Log, at: int, horizon: int) -> BehaviourRows:
    past, future = log.time < at, (log.time >= at) & (log.time < at + horizon)
    has_past = np.bincount(log.user[past], minlength=log.n_users) > 0
    bought = np.bincount(log.user[future & (log.kind == PURCHASE)], minlength=log.n_users) > 0
    next_kind = np.full(log.n_users, -1, np.int64)
    upcoming = np.flatnonzero(future)[::-1]  # reversed, so that the earliest event is written last and stays
    next_kind[log.user[upcoming]] = log.kind[upcoming]
    users = np.flatnonzero(has_past)
    features = log_features(log.where(past), at)[users]
    return BehaviourRows(
        users, np.full(len(users), at, np.int64), features, bought[users].astype(np.int64), next_kind[users]
    )


def log_features(past: Log, at: int) -> Floats:
    """Features (users, N_LOG_FEATURES) of a log that holds only events before ``at``.

    Columns: log counts by kind × window (20), log days since the last event and the last purchase, whether there was
    a purchase, log tenure in days, log active days in 28 days and ever, last gap over mean gap between active days,
    whether the last event was a cart.
    """
    n = past.n_users
    age = (at - past.time).astype(np.float64)
    columns: list[NDArray[np.float64]] = []
    for kind in range(len(KINDS)):
        for window in WINDOWS_S:
            hit = (past.kind == kind) & (age <= window)
            columns.append(np.log1p(np.bincount(past.user[hit], minlength=n)))
    last, first = _extreme(past, age, n, np.minimum), _extreme(past, age, n, np.maximum)
    bought = past.where(past.kind == PURCHASE)
    last_purchase = _extreme(bought, (at - bought.time).astype(np.float64), n, np.minimum)
    has_purchase = np.isfinite(last_purchase)
    recent_days, all_days = _active_days(past.where(age <= 28 * DAY_S), n), _active_days(past, n)
    tenure = np.where(np.isfinite(first), first, 0) / DAY_S
    gap = np.where(np.isfinite(last), last, 0) / DAY_S
    last_kind = np.zeros(n)
    has_events = past.offsets[1:] > past.offsets[:-1]
    last_kind[has_events] = past.kind[past.offsets[1:][has_events] - 1] == CART
    columns += [
        np.log1p(gap),
        np.log1p(np.where(has_purchase, last_purchase, np.where(has_events, first, 0.0)) / DAY_S),
        has_purchase.astype(np.float64),
        np.log1p(tenure),
        np.log1p(recent_days),
        np.log1p(all_days),
        np.minimum(gap / np.maximum((tenure - gap) / np.maximum(all_days - 1, 1), 0.5), 5.0),
        last_kind,
    ]
    features = np.nan_to_num(np.stack(columns, axis=1), posinf=0.0).astype(np.float32)
    return features


def _extreme(log: Log, age: NDArray[np.float64], n: int, extreme: np.ufunc) -> NDArray[np.float64]:
    ages = np.full(n, np.inf if extreme is np.minimum else -np.inf)
    extreme.at(ages, log.user, age)
    return np.where(np.isfinite(ages), ages, np.inf)


def _active_days(log: Log, n: int) -> NDArray[np.float64]:
    days = log.time // DAY_S
    fresh = np.ones(len(log), bool)
    fresh[1:] = (days[1:] != days[:-1]) | (log.user[1:] != log.user[:-1])
    return np.bincount(log.user[fresh], minlength=n).astype(np.float64)
