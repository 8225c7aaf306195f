"""One user is one sample: everything a user brings to a step, as rows of tensors that no other user has a part in.

Invariant: row *i* of a batch is a function of user *i*'s own bounded records, of the public catalogue and of random
draws. Nothing is shared between rows: negatives are drawn for each user, and what other training takes from all users
(popularity, the earliest event) is not read here. So clipping a row's gradient bounds the influence of that user.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.behaviour import BehaviourRows
from clients.dataset import Ints, gather_histories, rows_before
from clients.samples import TrainingData, draw_behaviour, draw_targets, visible_events
from common.config import LeagueConfig
from common.models.heads import N_LOG_FEATURES


class UserBatch(NamedTuple):
    """b users. The t targets, then the instant of behaviour, look at 2 h events: h before the targets, h before it.

    ``text`` and ``image`` (b, 2h + t + k, …) are the items of the history, of the targets and of the k negatives, as
    the encoders read them; ``reviews`` (b, r, …) texts of the user's own reviews.
    """

    text: Tensor
    image: Tensor
    has_text: Tensor
    has_image: Tensor
    raw: Tensor
    kinds: Tensor
    gaps: Tensor
    visible: Tensor
    barred: Tensor
    ranks: Tensor
    features: Tensor
    intent: Tensor
    next_kind: Tensor
    has_behaviour: Tensor
    reviews: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.kinds)

    def take(self, rows: slice) -> UserBatch:
        """Some of the users."""
        return UserBatch(*(part[rows] for part in self))


def draw_users(
    data: TrainingData, config: LeagueConfig, users: Ints, generator: np.random.Generator
) -> UserBatch:
    """One sample of each user: targets with the history they may see, an instant of behaviour, reviews, negatives."""
    training, length = config.training, config.model.history_length
    count = training.targets_per_user
    targets = draw_targets(data, users, count, length, generator)
    items, kinds, times, valid = gather_histories(data.log, users, targets.max(1) + 1, length)
    at, wanted = data.log.time[targets], data.log.item[targets]
    seen = visible_events(items, times, valid, at, wanted, generator) & data.can_rank[users][:, None, None]
    rows = draw_behaviour(data, users, generator)
    place = np.searchsorted(users, rows.user)
    ends, instants = data.log.offsets[users].copy(), np.zeros(len(users), np.int64)
    ends[place], instants[place] = rows_before(data.log, rows.user, rows.at), rows.at
    before = gather_histories(data.log, users, ends, length)
    negatives = generator.integers(0, data.site.n_items, (len(users), config.privacy.negatives))

    gaps = np.zeros((len(users), count + 1, 2 * length), np.float32)
    visible = np.zeros(gaps.shape, bool)
    gaps[:, :count, :length], visible[:, :count, :length] = at[:, :, None] - times[:, None], seen
    gaps[:, count, length:], visible[:, count, length:] = instants[:, None] - before[2], before[3]
    touched = np.where(valid, items, -1)
    barred = (wanted[..., None] == negatives[:, None]) | (touched[:, :, None] == negatives[:, None]).any(1)[
        :, None
    ]
    catalogue = data.site.items.take(
        _tensor(np.concatenate([items, before[0], wanted, negatives], 1).clip(0))
    )
    reviews, labels = _reviews(data, users, training.reviews_per_user, generator)
    return UserBatch(
        catalogue.text, catalogue.image, catalogue.has_text, catalogue.has_image, catalogue.raw,
        _tensor(np.concatenate([kinds, before[1]], 1)), _tensor(gaps), _tensor(visible), _tensor(barred),
        _tensor(np.asarray(seen.any(2), np.float32)), *_behaviour(rows, place, len(users)), reviews, labels,
    )  # fmt: skip


def _behaviour(rows: BehaviourRows, place: Ints, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features, intent, next event and whether there are any, for all n users."""
    features = np.zeros((n, N_LOG_FEATURES), np.float32)
    intent, following, has = np.zeros(n, np.int64), np.full(n, -1, np.int64), np.zeros(n, np.float32)
    features[place], intent[place], following[place], has[place] = (
        rows.features,
        rows.intent,
        rows.next_kind,
        1.0,
    )
    return _tensor(features), _tensor(intent), _tensor(following), _tensor(has)


def _reviews(
    data: TrainingData, users: Ints, count: int, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Texts (b, count, …) and labels (b, count) of reviews drawn from each user's own; label -1 where there is none."""
    texts = data.site.reviews.text
    spread = generator.random((len(users), count))
    first, last = data.review_offsets[users], data.review_offsets[users + 1]
    has = (last > first) & (count > 0)
    labels = np.full((len(users), count), -1, np.int64)
    reviews = torch.zeros((len(users), count, *texts.shape[1:]), dtype=texts.dtype)
    picked = first[has][:, None] + (spread[has] * (last - first)[has][:, None]).astype(np.int64)
    rows = data.review_rows[picked]
    labels[has] = data.site.reviews.label[rows]
    reviews[_tensor(has)] = texts[_tensor(rows)]
    return reviews, _tensor(labels)


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array))
