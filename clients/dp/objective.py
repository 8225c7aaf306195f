"""The loss of each user on its own, as one module of tensors: what Opacus and a slow loop can read.

Invariants: the b losses are independent of each other; each layer is called once in a forward pass, because the norms
of a layer that is called twice are not the norm of its gradient (Opacus accepts it silently); and every parameter of
the model has a part in every loss, if only with weight 0.
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
    """What users' losses read of the catalogue: the untrained vectors (b, n, r), and which modalities are there."""

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
        """Dropout of features and modalities off; layers with parameters in training mode, where Opacus sees them."""
        for module in self.modules():
            module.training = any(True for _ in module.parameters(recurse=False))
        return self

    def forward(self, *parts: Tensor) -> Tensor:
        """From the parts of a `UserBatch`, each encoder called once."""
        users, model = UserBatch(*parts), self.model
        texts = torch.cat([users.text, users.reviews], dim=1)
        text = model.text_adapter(_each(model.text_encoder, texts))
        image = model.image_adapter(_each(model.image_encoder, users.image))
        return self.of_adapted(text, image, Features(users.raw, users.has_text, users.has_image), users)

    def of_adapted(
        self, text: Tensor, image: Tensor, features: Features, users: UserBatch | UserRows
    ) -> Tensor:
        """From adapted texts (b, n + r, d), of items and then of reviews, and adapted pictures (b, n, d)."""
        n = image.shape[1]
        fused = self.model.fusion(text[:, :n], image, features.has_text, features.has_image)
        return self.of_vectors(nn.functional.normalize(fused, dim=-1), text[:, n:], features.raw, users)

    def of_vectors(
        self, vectors: Tensor, reviews: Tensor, raw: Tensor, users: UserBatch | UserRows
    ) -> Tensor:
        """From unit vectors (b, n, d) of items, adapted reviews (b, r, d) and untrained vectors (b, n, v) of items."""
        settings, n, targets = self.training_config, vectors.shape[1], self.targets
        weights = self.model.user_tower.weights(users.kinds, users.gaps, users.visible)
        # Each item of a user stands once among the rows, however often it was met: weights of its events add up.
        met = _spread(weights, users.places[:, : 2 * self.length], n)
        learned = self.model.user_tower(vectors, met)
        who, looks = learned[:, :targets], learned[:, targets]
        untrained = met.detach()[:, :targets] @ raw
        found = self._candidates(users.places)
        scores = self.model.scale(
            (untrained @ raw.transpose(1, 2)).gather(2, found),
            (who @ vectors.transpose(1, 2)).gather(2, found),
        )
        loss = ranking_loss(scores[..., 0], scores[..., 1:], users.barred, users.ranks)
        logits = self.model.behaviour(users.features, looks)
        behaviour = behaviour_loss(logits, users.intent, users.next_kind, users.has_behaviour)
        sentiment = sentiment_loss(self.model.sentiment(reviews)[..., 0], users.labels)
        unused = 0.0 * self.model.category(looks).sum(-1)
        return loss + settings.behaviour_weight * behaviour + settings.sentiment_weight * sentiment + unused

    def _candidates(self, places: Tensor) -> Tensor:
        """Rows (b, t, 1 + k) of each target and the user's negatives."""
        first, second = 2 * self.length, 2 * self.length + self.targets
        negatives = places[:, None, second:].expand(-1, self.targets, -1)
        return torch.cat([places[:, first:second, None], negatives], dim=2)


def _each(encoder: nn.Module, rows: Tensor) -> Tensor:
    """An encoder of (n, …) over (b, n, …)."""
    flat: Tensor = encoder(rows.flatten(0, 1))
    return flat.unflatten(0, rows.shape[:2])


def _spread(weights: Tensor, places: Tensor, n: int) -> Tensor:
    """Weights (b, t, e) of events as weights (b, t, n) of the rows that they stand at."""
    where = places[:, None].expand(weights.shape)
    return weights.new_zeros((*weights.shape[:2], n)).scatter_add(2, where, weights)
