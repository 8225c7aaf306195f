"""One user is one sample: all that a user contributes to a step, as rows of tensors that depend on no other user.

Invariant: row *i* of a batch is a function of user *i*'s own bounded records, of the public catalogue and of random
draws. Nothing is shared between rows: negatives are drawn for each user, and figures over all users (popularity, the
earliest event), which other training uses, aren't read here. So clipping a row's gradient bounds that user's influence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.data.dataset import Ints, SiteDataset, gather_histories, rows_before
from clients.training.behaviour import BehaviourRows
from clients.training.samples import TrainingData, draw_behaviour, draw_targets, visible_events
from common.models.heads import N_LOG_FEATURES
from common.settings.config import LeagueConfig


class UserRows(NamedTuple):
    """Samples of b users as row numbers.

    Each user has t targets and one instant of behaviour, with h events before the targets and h before the instant.
    ``items`` (b, n) are the user's distinct catalogue rows. ``places`` (b, 2h + t + k) are the positions of history,
    targets and the k negatives in them. ``reviews`` (b, r) are rows of the user's own reviews. Where there is none, row
    0 is used, with weight 0 or label -1.
    """

    items: Tensor
    reviews: Tensor
    places: Tensor
    kinds: Tensor
    gaps: Tensor
    visible: Tensor
    barred: Tensor
    ranks: Tensor
    features: Tensor
    intent: Tensor
    next_kind: Tensor
    has_behaviour: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.kinds)

    def gathered(self, site: SiteDataset) -> UserBatch:
        """The same users, with the contents of the rows instead of their numbers."""
        items = site.items.take(self.items)
        return UserBatch(
            Contents(items.text, items.image, items.has_text, items.has_image, items.raw),
            UserRows(self.items, review_texts(site, self.reviews, self.labels), *self[2:]),
        )

    def contents(self, site: SiteDataset) -> UserRows:
        """The samples in a form that doesn't depend on row numbers: one item per place, and texts of reviews.

        A user's part of it depends only on the user's own records and on random draws, not on the other users.
        """
        return UserRows(
            self.items.gather(1, self.places), review_texts(site, self.reviews, self.labels), *self[2:]
        )


class Contents(NamedTuple):
    """What users' samples say of their items: ``text`` and ``image`` (b, n, …) are inputs of the encoders."""

    text: Tensor
    image: Tensor
    has_text: Tensor
    has_image: Tensor
    raw: Tensor


class UserBatch(NamedTuple):
    """Samples of b users with their contents; in ``users`` the inputs of reviews stand in place of row numbers."""

    contents: Contents
    users: UserRows

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> UserBatch:
        """The inverse of `parts`."""
        count = len(Contents._fields)
        return cls(Contents(*parts[:count]), UserRows(*parts[count:]))

    def parts(self) -> tuple[Tensor, ...]:
        """All of it, one tensor after the other: the form in which a module takes it."""
        return (*self.contents, *self.users)

    def take(self, rows: slice) -> UserBatch:
        """Some of the users."""
        return self.of([part[rows] for part in self.parts()])


def draw_users(
    data: TrainingData, config: LeagueConfig, users: Ints, generator: np.random.Generator
) -> UserRows:
    """One sample of each user: targets with the history they may see, an instant of behaviour, reviews, negatives."""
    training, length = config.training, config.model.history_length
    count = training.targets_per_user
    targets, has_targets = _targets(data, users, count, length, generator)
    items, kinds, times, valid = gather_histories(data.log, users, targets.max(1) + 1, length)
    valid &= has_targets[:, None]
    at, target_items = data.log.time[targets], data.log.item[targets]
    target_visible = (
        visible_events(items, times, valid, at, target_items, generator) & data.can_rank[users][:, None, None]
    )
    rows = draw_behaviour(data, users, generator)
    place = np.searchsorted(users, rows.user)
    ends, instants = data.log.offsets[users].copy(), np.zeros(len(users), np.int64)
    ends[place], instants[place] = rows_before(data.log, rows.user, rows.at), rows.at
    before = gather_histories(data.log, users, ends, length)
    negatives = generator.integers(0, data.site.n_items, (len(users), config.privacy.negatives))

    gaps = np.zeros((len(users), count + 1, 2 * length), np.float32)
    visible = np.zeros(gaps.shape, bool)
    gaps[:, :count, :length], visible[:, :count, :length] = at[:, :, None] - times[:, None], target_visible
    gaps[:, count, length:], visible[:, count, length:] = instants[:, None] - before[2], before[3]
    gaps *= visible  # padding must be zero: otherwise it would hold data of the neighbouring user's rows
    touched = np.where(valid, items, -1)
    barred = (target_items[..., None] == negatives[:, None]) | (
        touched[:, :, None] == negatives[:, None]
    ).any(1)[:, None]
    seen_items = [np.where(valid, items, 0), np.where(before[3], before[0], 0)]
    target_items = np.where(has_targets[:, None], target_items, 0)
    reviews, labels = _reviews(data, users, training.reviews_per_user, generator)
    distinct, places = _distinct(np.concatenate([*seen_items, target_items, negatives], 1))
    return UserRows(
        _tensor(distinct), reviews, _tensor(places),
        _tensor(np.concatenate([kinds * valid, before[1] * before[3]], 1)), _tensor(gaps), _tensor(visible),
        _tensor(barred), _tensor(np.asarray(target_visible.any(2), np.float32)),
        *_behaviour(rows, place, len(users)), labels,
    )  # fmt: skip


def _distinct(items: Ints) -> tuple[Ints, Ints]:
    """Each row's distinct values, padded with the first one, and the position of each value (b, n) among them."""
    order = np.argsort(items, axis=1, kind="stable")
    ordered = np.take_along_axis(items, order, 1)
    rank = np.concatenate([np.zeros((len(items), 1), bool), ordered[:, 1:] != ordered[:, :-1]], 1).cumsum(1)
    places = np.empty_like(items)
    np.put_along_axis(places, order, rank, 1)
    distinct = np.repeat(ordered[:, :1], int(rank.max(initial=0)) + 1, axis=1)
    np.put_along_axis(distinct, rank, ordered, 1)
    return distinct, places


def review_texts(site: SiteDataset, rows: Tensor, labels: Tensor) -> Tensor:
    """The text encoder's input for reviews; zeros where a user has none."""
    texts = site.reviews.text
    if not len(texts):
        like = site.items.text
        return torch.zeros((*rows.shape, *like.shape[1:]), dtype=like.dtype)
    drawn: Tensor = texts[rows]
    return drawn * (labels >= 0).reshape(*labels.shape, *[1] * (texts.dim() - 1))


def _targets(
    data: TrainingData, users: Ints, count: int, length: int, generator: np.random.Generator
) -> tuple[Ints, NDArray[np.bool_]]:
    """Rows (b, count) of targets, and which users have any; the others, who only have reviews, get row 0."""
    has_targets = data.target_offsets[users + 1] > data.target_offsets[users]
    if not len(data.target_rows):
        return np.zeros((len(users), count), np.int64), has_targets
    targets = draw_targets(data, users, count, length, generator)
    return np.where(has_targets[:, None], targets, 0), has_targets


def _behaviour(rows: BehaviourRows, place: Ints, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, intent, next event and whether there are any, for all n users."""
    features = np.zeros((n, N_LOG_FEATURES), np.float32)
    intent, following, has_rows = np.zeros(n, np.int64), np.full(n, -1, np.int64), np.zeros(n, np.float32)
    features[place], intent[place], following[place], has_rows[place] = (
        rows.features,
        rows.intent,
        rows.next_kind,
        1.0,
    )
    return _tensor(features), _tensor(intent), _tensor(following), _tensor(has_rows)


def _reviews(
    data: TrainingData, users: Ints, count: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Rows (b, count) of reviews drawn from each user's own, and their labels; label -1 where there is none."""
    spread = generator.random((len(users), count))
    first, last = data.review_offsets[users], data.review_offsets[users + 1]
    has_reviews = (last > first) & (count > 0)
    labels, rows = np.full((len(users), count), -1, np.int64), np.zeros((len(users), count), np.int64)
    picked = first[has_reviews][:, None] + (
        spread[has_reviews] * (last - first)[has_reviews][:, None]
    ).astype(np.int64)
    rows[has_reviews] = data.review_rows[picked]
    labels[has_reviews] = data.site.reviews.label[rows[has_reviews]]
    return _tensor(rows), _tensor(labels)


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
