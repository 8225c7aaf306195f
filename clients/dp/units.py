"""The training data of a private site, one sample per unit: users as they are, or each record as a user of its own.

A *record* is all that one user did at the site in one span of days, with the reviews written then. The recommender
learns from an item together with the events before it, so a single event would be too little. Spans are counted back
from the end of training, and only the contract's number of them is used, so no user has more records than that.

Invariant: no record's sample reads another record, of the same user or of another one. Histories don't go beyond the
span, and tasks over several spans (purchase intent over weeks) aren't trained in this mode.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clients.data.dataset import DAY_S, Log, SiteDataset
from clients.training.behaviour import BehaviourRows
from clients.training.samples import TrainingData, training_data
from common.models.heads import N_LOG_FEATURES
from common.settings.config import LeagueConfig


def unit_data(site: SiteDataset, config: LeagueConfig) -> TrainingData:
    """Everything before the validation window, by the unit of the league's mode."""
    until_s, privacy = site.split.valid_from, config.privacy
    if privacy.mode != "record":
        return training_data(site, until_s, private=True)
    span_s = privacy.record_days * DAY_S
    recent = _since(site, until_s - privacy.records_per_user * span_s)
    return _of_records(as_records(recent, until_s, span_s))


def without(data: TrainingData, unit: int, config: LeagueConfig) -> TrainingData:
    """The neighbouring dataset of `unit_data`'s result without one unit; the other units keep their numbers."""
    site, reviews = data.site, data.site.reviews
    others = np.flatnonzero(reviews.user != unit)
    less = replace(
        site, log=site.log.where(site.log.user != unit),
        reviews=replace(
            reviews, user=reviews.user[others], text=reviews.text[others], label=reviews.label[others],
            time=reviews.time[others],
        ),
    )  # fmt: skip
    if config.privacy.mode == "record":
        return _of_records(less)
    return training_data(less, less.split.valid_from, private=True)


def _of_records(site: SiteDataset) -> TrainingData:
    data = training_data(site, site.split.valid_from, private=True)
    empty = np.zeros(0, np.int64)
    behaviour = BehaviourRows(empty, empty, np.zeros((0, N_LOG_FEATURES), np.float32), empty, empty)
    return replace(data, behaviour=behaviour)


def as_records(site: SiteDataset, until_s: int, span_s: int) -> SiteDataset:
    """The same items, events and reviews, with (user, span) in place of users; a learner's spans are learners."""
    log, reviews = site.log, site.reviews
    users, times = np.concatenate([log.user, reviews.user]), np.concatenate([log.time, reviews.time])
    pairs = np.stack([users, (until_s - 1 - times) // span_s], axis=1)
    units, number = np.unique(pairs, axis=0, return_inverse=True)
    number = number.reshape(-1).astype(np.int64)
    records = Log.of(number[: len(log)], log.item, log.kind, log.time, len(units))
    names = tuple(f"{site.user_ids[user]}/{span}" for user, span in units.tolist())
    return replace(
        site, user_ids=names, log=records, reviews=replace(reviews, user=number[len(log) :]),
        learners=site.learners[units[:, 0]],
    )  # fmt: skip


def _since(site: SiteDataset, from_s: int) -> SiteDataset:
    """The site's data from an instant on."""
    log, reviews = site.log, site.reviews
    chosen = np.flatnonzero(reviews.time >= from_s)
    few = replace(
        reviews, user=reviews.user[chosen], text=reviews.text[chosen], label=reviews.label[chosen],
        time=reviews.time[chosen],
    )  # fmt: skip
    return replace(site, log=log.where(log.time >= from_s), reviews=few)
