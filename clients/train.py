"""Training at one site: one user's bounded history and reviews are one sample.

Invariants: a step's loss is a mean of per-user losses (plus catalogue terms that read no user data); all randomness
comes from one seed, so the same call gives the same bytes; PyTorch's global generator is left as it was found.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from clients.behaviour import BehaviourRows, behaviour_rows, horizon_s, instants_back
from clients.dataset import (
    DAY_S,
    PURCHASE,
    SEARCH,
    Ints,
    Log,
    SiteDataset,
    as_user_inputs,
    gather_histories,
    rows_before,
)
from common.config import LeagueConfig
from common.models import HansaModel
from common.models.losses import alignment_loss, behaviour_loss, category_loss, ranking_loss, sentiment_loss

TARGET_WEIGHTS = np.array([0.1, 0.1, 0.3, 1.0, 0.0])  # view, click, cart, purchase, search
BEHAVIOUR_INSTANTS = 8


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


def training_data(site: SiteDataset, until_s: int, max_users: int = 0) -> TrainingData:
    """Everything before an instant, ready to sample from; ``max_users`` > 0 keeps that many users (thin-data runs)."""
    past = site.log.before(until_s)
    if max_users:
        past = past.where(past.user < max_users)
    log = past.where(past.kind != SEARCH)
    weights = TARGET_WEIGHTS[log.kind]
    if not len(log) or not (log.kind == PURCHASE).any():
        weights = np.ones(len(log))
    rows = np.flatnonzero(weights > 0)
    offsets = np.searchsorted(log.user[rows], np.arange(log.n_users + 1)).astype(np.int64)
    horizon = horizon_s(site.split)
    earliest = int(past.time.min()) if len(past) else until_s
    instants = instants_back(until_s, horizon, earliest, BEHAVIOUR_INSTANTS)
    reviews = np.flatnonzero((site.reviews.time < until_s) & (site.reviews.label >= 0))
    if max_users:
        reviews = reviews[site.reviews.user[reviews] < max_users]
    reviews = reviews[np.argsort(site.reviews.user[reviews], kind="stable")]
    return TrainingData(
        site=site,
        log=log,
        target_rows=rows.astype(np.int64),
        cumulative_weight=np.concatenate([[0.0], np.cumsum(weights[rows])]),
        target_offsets=offsets,
        users=np.flatnonzero(offsets[1:] > offsets[:-1]).astype(np.int64),
        can_rank=_distinct_items(log) >= 2,
        behaviour=behaviour_rows(past, instants, horizon),
        log_popularity=log_popularity(log, site.n_items),
        review_rows=reviews,
        review_offsets=np.searchsorted(site.reviews.user[reviews], np.arange(log.n_users + 1)).astype(
            np.int64
        ),
    )


def _distinct_items(log: Log) -> Ints:
    pairs = np.unique(np.stack([log.user, log.item], axis=1), axis=0)
    return np.bincount(pairs[:, 0], minlength=log.n_users)


def log_popularity(log: Log, n_items: int) -> torch.Tensor:
    """Centred log share of each item, smoothed by one event; (items,) float32."""
    counts = np.bincount(log.item, weights=TARGET_WEIGHTS[log.kind], minlength=n_items)
    smooth = np.log(counts + 1.0)
    return torch.from_numpy((smooth - smooth.mean()).astype(np.float32))


def train_epochs(
    model: HansaModel,
    data: TrainingData,
    config: LeagueConfig,
    seed: int,
    epochs: int,
    rate_scale: float = 1.0,
) -> float:
    """Train in place with AdamW; returns the mean loss of the last epoch (NaN without users)."""
    training = config.training
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=training.learning_rate * rate_scale, weight_decay=training.weight_decay
    )
    generator = np.random.default_rng(seed)
    mean = float("nan")
    rounds = epochs * passes(data, config)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("torch", seed))
        for _ in range(rounds):
            losses = [
                step(model, optimiser, data, config, users, generator)
                for users in batches(data.users, training.batch_size, generator)
            ]
            mean = float(np.mean(losses)) if losses else float("nan")
    model.eval()
    return mean


def passes(data: TrainingData, config: LeagueConfig) -> int:
    """How often a site goes through its users in one epoch: small sites repeat, up to the league's least steps.

    Without it a small site's update is too short to count, and the average of all moves slowly.
    """
    steps = max(1, -(-data.n_users // config.training.batch_size))
    return max(1, -(-config.training.min_steps_per_round // steps))


def batches(users: Ints, size: int, generator: np.random.Generator) -> list[Ints]:
    """A shuffled epoch in even batches of at most ``size`` users."""
    if not len(users):
        return []
    shuffled = generator.permutation(users)
    return np.array_split(shuffled, -(-len(shuffled) // size))


def step(
    model: HansaModel,
    optimiser: torch.optim.Optimizer,
    data: TrainingData,
    config: LeagueConfig,
    users: Ints,
    generator: np.random.Generator,
) -> float:
    """One optimiser step on a batch of users; returns its loss."""
    optimiser.zero_grad(set_to_none=True)
    loss = joint_loss(model, data, config, users, generator)
    loss.backward()
    optimiser.step()
    return float(loss.detach())


def joint_loss(
    model: HansaModel, data: TrainingData, config: LeagueConfig, users: Ints, generator: np.random.Generator
) -> torch.Tensor:
    """Mean per-user loss of a batch plus the catalogue terms."""
    training, site = config.training, data.site
    length = config.model.history_length
    # The window ends just after the latest drawn target, so that each target can see what came before it.
    rankers = users[data.can_rank[users]]
    targets = _draw_targets(data, rankers, training.targets_per_user, length, generator)
    items, kinds, times, valid = gather_histories(data.log, rankers, targets.max(1) + 1, length)
    at, wanted = data.log.time[targets], data.log.item[targets]
    visible = _visible(items, times, valid, at, wanted, generator)
    behaviour = _draw_behaviour(data, users, generator)
    b_ends = rows_before(data.log, behaviour.user, behaviour.at)
    b_items, b_kinds, b_times, b_valid = gather_histories(data.log, behaviour.user, b_ends, length)

    negatives = generator.integers(0, site.n_items, training.negatives)
    needed, place = np.unique(
        np.concatenate([x.ravel() for x in (items, b_items, wanted, negatives)]), return_inverse=True
    )
    catalogue = site.items.take(torch.from_numpy(needed))
    vectors, text, image = model.item_vectors(catalogue)
    spots = np.split(place, np.cumsum([items.size, b_items.size, wanted.size]))

    inputs = as_user_inputs(spots[0].reshape(items.shape), kinds, times, valid, at, visible)
    learned, untrained = model.user_vectors(inputs, vectors, catalogue.raw)
    offset = training.popularity_offset * data.log_popularity
    target_spot, negative_spot = torch.from_numpy(spots[2].reshape(wanted.shape)), torch.from_numpy(spots[3])
    positive = (
        model.scale(
            (untrained * catalogue.raw[target_spot]).sum(-1), (learned * vectors[target_spot]).sum(-1)
        )
        + offset[torch.from_numpy(wanted)]
    )
    negative = model.scores(learned, untrained, vectors[negative_spot], catalogue.raw[negative_spot])
    negative = negative + offset[torch.from_numpy(negatives)]
    # What the user has touched is never a candidate, so it must not teach that likeness to the history is bad.
    touched = (torch.from_numpy(np.where(valid, items, -1))[..., None] == torch.from_numpy(negatives)).any(1)
    same = (target_spot[..., None] == negative_spot) | touched[:, None, :]
    has_history = torch.from_numpy(visible.any(2)).to(torch.float32)
    loss = ranking_loss(positive, negative, same, has_history).sum() / len(users)

    if len(behaviour) and training.behaviour_weight > 0:
        b_inputs = as_user_inputs(
            spots[1].reshape(b_items.shape), b_kinds, b_times, b_valid, behaviour.at[:, None]
        )
        b_users, _ = model.user_vectors(b_inputs, vectors, catalogue.raw)
        logits = model.behaviour(torch.from_numpy(behaviour.features), b_users[:, 0])
        per_user = behaviour_loss(
            logits,
            torch.from_numpy(behaviour.intent),
            torch.from_numpy(behaviour.next_kind),
            torch.ones(len(behaviour)),
        )
        loss = loss + training.behaviour_weight * per_user.sum() / len(users)
    loss = loss + training.sentiment_weight * _review_loss(
        model, data, users, training.reviews_per_user, generator
    )
    # A fifth of the catalogue is kept from the category head, so that its accuracy is measured on items it never saw.
    taught = torch.where(held_for_category(catalogue.row), -1, catalogue.category)
    loss = loss + training.category_weight * category_loss(model.category(vectors), taught)
    both = catalogue.has_text & catalogue.has_image
    return loss + training.alignment_weight * alignment_loss(text, image, both)


def held_for_category(row: torch.Tensor) -> torch.Tensor:
    """Which items the category head is judged on and never trained on."""
    return row % 5 == 0


def _visible(
    items: Ints, times: Ints, valid: NDArray[np.bool_], at: Ints, wanted: Ints, generator: np.random.Generator
) -> NDArray[np.bool_]:
    """Which events (b, t, h) each target may see: never the future, never the wanted item itself.

    Half of the targets see only the days before their own, where there are any: recommending for tomorrow and
    completing a basket are both wanted, and data with dates but no hours can't tell order within a day.
    """
    other = valid[:, None, :] & (items[:, None, :] != wanted[:, :, None])
    loose = other & (times[:, None, :] <= at[:, :, None])
    strict = loose & (times[:, None, :] < (at // DAY_S * DAY_S)[:, :, None])
    choose_strict = (generator.random(at.shape) < 0.5) & strict.any(2)
    return np.where(choose_strict[:, :, None], strict, loose)


def _draw_targets(
    data: TrainingData, users: Ints, count: int, length: int, generator: np.random.Generator
) -> Ints:
    """Log rows (b, count) of targets: an anchor drawn by weight from all the user's, the rest from a window before it.

    The window keeps the targets within reach of one bounded history of ``length`` events.
    """
    first, last = data.target_offsets[users], data.target_offsets[users + 1]
    anchor = _draw_weighted(data, first, last, 1, generator)[:, 0]
    low = np.maximum(first, anchor - length // 2)
    rest = _draw_weighted(data, low, anchor + 1, count - 1, generator)
    return data.target_rows[np.concatenate([anchor[:, None], rest], axis=1)]


def _draw_weighted(
    data: TrainingData, first: Ints, last: Ints, count: int, generator: np.random.Generator
) -> Ints:
    low, high = data.cumulative_weight[first][:, None], data.cumulative_weight[last][:, None]
    draws = low + generator.random((len(first), count)) * (high - low)
    picked = np.searchsorted(data.cumulative_weight, draws, side="right") - 1
    return np.clip(picked, first[:, None], last[:, None] - 1)


def _draw_behaviour(data: TrainingData, users: Ints, generator: np.random.Generator) -> BehaviourRows:
    """One labelled instant for each user of the batch that has any."""
    order = np.argsort(data.behaviour.user, kind="stable")
    first = np.searchsorted(data.behaviour.user, users, sorter=order)
    last = np.searchsorted(data.behaviour.user, users, side="right", sorter=order)
    spread = generator.random(len(users))
    has = last > first
    picked = (first + (spread * (last - first)).astype(np.int64))[has]
    return data.behaviour.take(order[picked])


def _review_loss(
    model: HansaModel, data: TrainingData, users: Ints, count: int, generator: np.random.Generator
) -> torch.Tensor:
    """Mean sentiment loss of up to ``count`` reviews of each user; 0 where there are none."""
    first, last = data.review_offsets[users], data.review_offsets[users + 1]
    has = last > first
    anchor = model.sentiment.bias.sum() * 0.0
    if not count or not has.any():
        return anchor
    spread = generator.random((int(has.sum()), count))
    picked = first[has][:, None] + (spread * (last - first)[has][:, None]).astype(np.int64)
    rows = data.review_rows[picked]
    reviews = data.site.reviews
    vectors = model.text_vectors(reviews.text[torch.from_numpy(rows.ravel())])
    logits = model.sentiment(vectors).reshape(rows.shape)
    return anchor + sentiment_loss(logits, torch.from_numpy(reviews.label[rows])).sum() / len(users)
