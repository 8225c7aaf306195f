"""Each user's own loss, as one module that both Opacus and a slow loop can use.

Invariants: the b losses are independent of each other. Each layer is called once in a forward pass: Opacus silently
accepts a second call, but then computes wrong gradient norms. Every parameter of the model is used in every loss, if
only with weight 0.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from clients.dp.sample import UserBatch, UserRows
from common.models.losses import behaviour_loss, ranking_loss, sentiment_loss
from common.models.model import HansaModel
from common.settings.config import LeagueConfig


class Features(NamedTuple):
    """The catalogue data in users' losses: untrained vectors (b, n, r), and which modalities are present."""

    raw: Tensor
    has_text: Tensor
    has_image: Tensor


class UserLosses(nn.Module):
    """Losses (b,) of b users: ranking, behaviour and sentiment."""

    def __init__(self, model: HansaModel, config: LeagueConfig) -> None:
        super().__init__()
        self.model = model
        self.training_config = config.training
        self.length = config.model.history_length
        self.targets = config.training.targets_per_user

    def without_chance(self) -> UserLosses:
        """Switch dropout off; layers with parameters stay in training mode, which Opacus needs."""
        for module in self.modules():
            module.training = any(True for _ in module.parameters(recurse=False))
        return self

    def forward(self, *parts: Tensor) -> Tensor:
        """Losses (b,) from the parts of a `UserBatch`; each encoder is called once."""
        (contents, users), model = UserBatch.of(parts), self.model
        texts = torch.cat([contents.text, users.reviews], dim=1)
        text = model.text_adapter(_encoded(model.text_encoder, texts))
        image = model.image_adapter(_encoded(model.image_encoder, contents.image))
        features = Features(contents.raw, contents.has_text, contents.has_image)
        return self.of_adapted(text, image, features, users)

    def of_adapted(self, text: Tensor, image: Tensor, features: Features, users: UserRows) -> Tensor:
        """Losses from adapted texts (b, n + r, d), of items and then reviews, and adapted pictures (b, n, d)."""
        n = image.shape[1]
        fused = self.model.fusion(text[:, :n], image, features.has_text, features.has_image)
        return self.of_vectors(nn.functional.normalize(fused, dim=-1), text[:, n:], features.raw, users)

    def of_vectors(self, vectors: Tensor, reviews: Tensor, raw: Tensor, users: UserRows) -> Tensor:
        """Losses from items' unit vectors (b, n, d), adapted reviews (b, r, d) and untrained item vectors (b, n, v)."""
        settings, n, targets = self.training_config, vectors.shape[1], self.targets
        weights = self.model.user_tower.weights(users.kinds, users.gaps, users.visible)
        # Each of a user's items is one row, however often it occurs: the weights of its events are added up.
        row_weights = _spread(weights, users.places[:, : 2 * self.length], n)
        learned = self.model.user_tower(vectors, row_weights)
        user_vectors, behaviour_vectors = learned[:, :targets], learned[:, targets]
        untrained = row_weights.detach()[:, :targets] @ raw
        candidates = self._candidates(users.places)
        scores = self.model.scale(
            (untrained @ raw.transpose(1, 2)).gather(2, candidates),
            (user_vectors @ vectors.transpose(1, 2)).gather(2, candidates),
        )
        loss = ranking_loss(scores[..., 0], scores[..., 1:], users.barred, users.ranks)
        logits = self.model.behaviour(users.features, behaviour_vectors)
        behaviour = behaviour_loss(logits, users.intent, users.next_kind, users.has_behaviour)
        sentiment = sentiment_loss(self.model.sentiment(reviews)[..., 0], users.labels)
        unused = 0.0 * self.model.category(behaviour_vectors).sum(-1)
        return loss + settings.behaviour_weight * behaviour + settings.sentiment_weight * sentiment + unused

    def _candidates(self, places: Tensor) -> Tensor:
        """Rows (b, t, 1 + k): each target, then the user's negatives."""
        first, second = 2 * self.length, 2 * self.length + self.targets
        negatives = places[:, None, second:].expand(-1, self.targets, -1)
        return torch.cat([places[:, first:second, None], negatives], dim=2)


def _encoded(encoder: nn.Module, rows: Tensor) -> Tensor:
    """Apply an encoder of (n, …) to (b, n, …)."""
    flat: Tensor = encoder(rows.flatten(0, 1))
    return flat.unflatten(0, rows.shape[:2])


def _spread(weights: Tensor, places: Tensor, n: int) -> Tensor:
    """Turn weights (b, t, e) of events into weights (b, t, n) of their rows."""
    index = places[:, None].expand(weights.shape)
    return weights.new_zeros((*weights.shape[:2], n)).scatter_add(2, index, weights)
