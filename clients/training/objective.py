"""The joint loss of a batch of users: ranking, behaviour and sentiment of each user, and the catalogue's own terms.

Invariant: user terms are sums of per-user losses divided by the batch's size; the catalogue terms (category, alignment)
read only items. Negatives come from the site's own catalogue; items that a user has touched are never among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from clients.data.dataset import Ints, as_user_inputs, gather_histories, rows_before
from clients.training.behaviour import BehaviourRows
from clients.training.samples import TrainingData, draw_behaviour, draw_targets, visible_events
from common.models.losses import alignment_loss, behaviour_loss, category_loss, ranking_loss, sentiment_loss
from common.models.model import HansaModel, ItemInputs, UserInputs
from common.settings.config import LeagueConfig, TrainingConfig


@dataclass(frozen=True)
class EncodedItems:
    """The items that a step needs, encoded once: ``place`` maps the site's item rows to rows of ``vectors``."""

    items: ItemInputs
    needed: Ints
    vectors: Tensor
    text: Tensor
    image: Tensor

    def place(self, rows: Ints) -> Ints:
        """Rows of ``vectors`` for the site's item rows; padding (-1) must have been replaced."""
        return np.searchsorted(self.needed, rows)


@dataclass(frozen=True)
class Candidates:
    """Rows of items that are ranked: targets (b, t), negatives (k,), and what users have touched (b, h), or -1."""

    targets: Ints
    negatives: Ints
    touched: Ints


def joint_loss(
    model: HansaModel, data: TrainingData, config: LeagueConfig, users: Ints, generator: np.random.Generator
) -> Tensor:
    """Mean per-user loss of a batch plus the catalogue terms."""
    training, length = config.training, config.model.history_length
    rankers = users[data.can_rank[users]]
    # The window ends just after the latest drawn target, so that each target can use the events before it.
    targets = draw_targets(data, rankers, training.targets_per_user, length, generator)
    history = gather_histories(data.log, rankers, targets.max(1) + 1, length)
    at, target_items = data.log.time[targets], data.log.item[targets]
    items, kinds, times, valid = history
    visible = visible_events(items, times, valid, at, target_items, generator)
    behaviour = draw_behaviour(data, users, generator)
    before = gather_histories(
        data.log, behaviour.user, rows_before(data.log, behaviour.user, behaviour.at), length
    )
    negatives = generator.integers(0, data.site.n_items, training.negatives)
    catalogue = _encode(model, data, (items, before[0], target_items, negatives))

    ranking_inputs = as_user_inputs(catalogue.place(items), kinds, times, valid, at, visible)
    candidates = Candidates(target_items, negatives, np.where(valid, items, -1))
    loss = _ranking(model, data, training, catalogue, ranking_inputs, candidates).sum() / len(users)
    if len(behaviour) and training.behaviour_weight > 0:
        behaviour_inputs = as_user_inputs(catalogue.place(before[0]), *before[1:], behaviour.at[:, None])
        loss = loss + training.behaviour_weight * _behaviour(
            model, catalogue, behaviour_inputs, behaviour
        ).sum() / len(users)
    reviews = _review_loss(model, data, users, training.reviews_per_user, generator)
    return loss + training.sentiment_weight * reviews + _catalogue_terms(model, catalogue, training)


def _encode(model: HansaModel, data: TrainingData, rows: tuple[Ints, ...]) -> EncodedItems:
    needed = np.unique(np.concatenate([part.ravel() for part in rows]))
    items = data.site.items.take(torch.from_numpy(needed))
    return EncodedItems(items, needed, *model.item_vectors(items))


def _ranking(
    model: HansaModel, data: TrainingData, training: TrainingConfig, catalogue: EncodedItems,
    inputs: UserInputs, candidates: Candidates,
) -> Tensor:  # fmt: skip
    """(b,) sampled-softmax losses, with the popularity offset that stays at the site."""
    targets, negatives = candidates.targets, candidates.negatives
    raw, vectors = catalogue.items.raw, catalogue.vectors
    learned, untrained = model.user_vectors(inputs, vectors, raw)
    offset = training.popularity_offset * data.log_popularity
    right, wrong = (
        torch.from_numpy(catalogue.place(targets)),
        torch.from_numpy(catalogue.place(negatives)),
    )
    own = model.scale((untrained * raw[right]).sum(-1), (learned * vectors[right]).sum(-1))
    positive = own + offset[torch.from_numpy(targets)]
    negative = (
        model.scores(learned, untrained, vectors[wrong], raw[wrong]) + offset[torch.from_numpy(negatives)]
    )
    # What the user has touched is never a candidate, so it must not teach that likeness to the history is bad.
    touched_negatives = torch.from_numpy(_members(candidates.touched, data.site.n_items)[:, negatives])
    barred = (right[..., None] == wrong) | touched_negatives[:, None, :]
    return ranking_loss(positive, negative, barred, inputs.visible.any(2).to(torch.float32))


def _members(touched: Ints, n_items: int) -> NDArray[np.bool_]:
    """(b, items) whether an item is among a user's (b, h) touched ones, of which -1 is none."""
    table = np.zeros((len(touched), n_items + 1), bool)
    np.put_along_axis(table, touched, True, axis=1)
    return table[:, :n_items]


def _behaviour(model: HansaModel, catalogue: EncodedItems, inputs: UserInputs, rows: BehaviourRows) -> Tensor:
    """(n,) losses of intent and next event."""
    users, _ = model.pooled(inputs, catalogue.vectors)
    logits = model.behaviour(torch.from_numpy(rows.features), users[:, 0])
    return behaviour_loss(
        logits, torch.from_numpy(rows.intent), torch.from_numpy(rows.next_kind), torch.ones(len(rows))
    )


def _catalogue_terms(model: HansaModel, catalogue: EncodedItems, training: TrainingConfig) -> Tensor:
    """Category and alignment losses of the step's items."""
    items = catalogue.items
    # A fifth of the catalogue is kept from the category head, so that its accuracy is measured on items it never saw.
    taught = torch.where(held_for_category(items.row), -1, items.category)
    category = category_loss(model.category(catalogue.vectors), taught)
    alignment = alignment_loss(catalogue.text, catalogue.image, items.has_text & items.has_image)
    return training.category_weight * category + training.alignment_weight * alignment


def held_for_category(row: torch.Tensor) -> torch.Tensor:
    """Which items the category head is judged on and never trained on."""
    return row % 5 == 0


def _review_loss(
    model: HansaModel, data: TrainingData, users: Ints, count: int, generator: np.random.Generator
) -> torch.Tensor:
    """Mean sentiment loss of up to ``count`` reviews of each user; 0 where there are none."""
    first, last = data.review_offsets[users], data.review_offsets[users + 1]
    has_reviews = last > first
    anchor = model.sentiment.bias.sum() * 0.0
    if not count or not has_reviews.any():
        return anchor
    spread = generator.random((int(has_reviews.sum()), count))
    picked = first[has_reviews][:, None] + (spread * (last - first)[has_reviews][:, None]).astype(np.int64)
    rows = data.review_rows[picked]
    reviews = data.site.reviews
    vectors = model.text_vectors(reviews.text[torch.from_numpy(rows.ravel())])
    logits = model.sentiment(vectors).reshape(rows.shape)
    return anchor + sentiment_loss(logits, torch.from_numpy(reviews.label[rows])).sum() / len(users)
