"""Training samples: one user's bounded history and reviews are one sample, drawn anew in each step.

Invariant: nothing at or after the instant passed to `training_data` is ever drawn, and every draw comes from the
generator that is passed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.dataset import DAY_S, PURCHASE, SEARCH, Ints, Log, SiteDataset
from clients.training.behaviour import BehaviourRows, behaviour_rows, horizon_s, instants_back

TARGET_WEIGHTS = np.array([0.1, 0.1, 0.3, 1.0, 0.0])  # view, click, cart, purchase, search
BEHAVIOUR_INSTANTS = 8
_LONG_AGO = -(1 << 60)


def derived_seed(*parts: str | int) -> int:
    """A 63-bit seed from names and numbers, stable across machines; for simulation, never for privacy noise."""
    text = "\x1f".join(str(p) for p in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


@dataclass(frozen=True)
class TrainingData:
    """What one site trains on up to an instant: item events, target weights, behaviour rows and popularity."""

    site: SiteDataset
    log: Log
    target_rows: Ints
    cumulative_weight: NDArray[np.float64]
    target_offsets: Ints
    users: Ints
    can_rank: NDArray[np.bool_]
    behaviour: BehaviourRows
    log_popularity: torch.Tensor
    review_rows: Ints
    review_offsets: Ints

    @property
    def n_users(self) -> int:
        return len(self.users)


def training_data(site: SiteDataset, until_s: int, *, private: bool = False) -> TrainingData:
    """Everything of the site's learners before an instant, ready to sample from.

    With ``private`` no user's samples depend on another's records, neither through the date of the earliest event nor
    through whether anyone buys at all. Users who only write reviews are trained on too.
    """
    past = site.of_learners.log.before(until_s)
    log = past.where(past.kind != SEARCH)
    weights = TARGET_WEIGHTS[log.kind]
    if not private and not (log.kind == PURCHASE).any():
        weights = np.ones(len(log))
    rows = np.flatnonzero(weights > 0)
    offsets = np.searchsorted(log.user[rows], np.arange(log.n_users + 1)).astype(np.int64)
    horizon = horizon_s(site.split)
    earliest = until_s if not len(past) else _LONG_AGO if private else int(past.time.min())
    instants = instants_back(until_s, horizon, earliest, BEHAVIOUR_INSTANTS)
    by_learner = site.learners[site.reviews.user]
    reviews = np.flatnonzero(by_learner & (site.reviews.time < until_s) & (site.reviews.label >= 0))
    reviews = reviews[np.argsort(site.reviews.user[reviews], kind="stable")]
    review_offsets = np.searchsorted(site.reviews.user[reviews], np.arange(log.n_users + 1)).astype(np.int64)
    taught = offsets[1:] > offsets[:-1]
    if private:
        taught |= review_offsets[1:] > review_offsets[:-1]
    return TrainingData(
        site=site,
        log=log,
        target_rows=rows.astype(np.int64),
        cumulative_weight=np.concatenate([[0.0], np.cumsum(weights[rows])]),
        target_offsets=offsets,
        users=np.flatnonzero(taught).astype(np.int64),
        can_rank=_distinct_items(log) >= 2,
        behaviour=behaviour_rows(past, instants, horizon),
        log_popularity=log_popularity(log, site.n_items),
        review_rows=reviews,
        review_offsets=review_offsets,
    )


def _distinct_items(log: Log) -> Ints:
    pairs = np.unique(np.stack([log.user, log.item], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=log.n_users)


def log_popularity(log: Log, n_items: int) -> torch.Tensor:
    """Centred log share of each item, smoothed by one event; (items,) float32."""
    counts = np.bincount(log.item, weights=TARGET_WEIGHTS[log.kind], minlength=n_items)
    smooth = np.log(counts + 1.0)
    return torch.from_numpy((smooth - smooth.mean()).astype(np.float32))


def draw_targets(
    data: TrainingData, users: Ints, count: int, length: int, generator: np.random.Generator
) -> Ints:
    """Log rows (b, count) of targets: an anchor drawn by weight from all of a user's rows, the others from before it.

    The others come from a window before the anchor, so that one history of ``length`` events serves all targets.
    """
    first, last = data.target_offsets[users], data.target_offsets[users + 1]
    anchor = _draw_weighted(data, first, last, 1, generator)[:, 0]
    low = np.maximum(first, anchor - length // 2)
    others = _draw_weighted(data, low, anchor + 1, count - 1, generator)
    return data.target_rows[np.concatenate([anchor[:, None], others], axis=1)]


def _draw_weighted(
    data: TrainingData, first: Ints, last: Ints, count: int, generator: np.random.Generator
) -> Ints:
    low, high = data.cumulative_weight[first][:, None], data.cumulative_weight[last][:, None]
    draws = low + generator.random((len(first), count)) * (high - low)
    picked = np.searchsorted(data.cumulative_weight, draws, side="right") - 1
    return np.clip(picked, first[:, None], last[:, None] - 1)


def draw_behaviour(data: TrainingData, users: Ints, generator: np.random.Generator) -> BehaviourRows:
    """One labelled instant for each user of the batch that has any."""
    order = np.argsort(data.behaviour.user, kind="stable")
    first = np.searchsorted(data.behaviour.user, users, sorter=order)
    last = np.searchsorted(data.behaviour.user, users, side="right", sorter=order)
    spread = generator.random(len(users))
    has_rows = last > first
    picked = (first + (spread * (last - first)).astype(np.int64))[has_rows]
    return data.behaviour.take(order[picked])


def visible_events(
    items: Ints,
    times: Ints,
    valid: NDArray[np.bool_],
    at: Ints,
    target_items: Ints,
    generator: np.random.Generator,
) -> NDArray[np.bool_]:
    """Which events (b, t, h) may be used for each target: never the future, never the target item itself.

    For half of the targets only events of earlier days are used, if there are any. So the model learns both to
    recommend for tomorrow and to complete a basket; and data with dates but no hours has no order within a day.
    """
    allowed = valid[:, None, :] & (items[:, None, :] != target_items[:, :, None])
    loose = allowed & (times[:, None, :] <= at[:, :, None])
    strict = loose & (times[:, None, :] < (at // DAY_S * DAY_S)[:, :, None])
    choose_strict = (generator.random(at.shape) < 0.5) & strict.any(2)
    return np.where(choose_strict[:, :, None], strict, loose)
