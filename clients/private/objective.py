"""The loss of each user on its own, as one module of tensors: what Opacus, `torch.func` and a slow loop can read.

Invariants: the b losses are independent of each other; each layer is called once in a forward pass, because the norms
of a layer that is called twice are not the norm of its gradient (Opacus accepts it silently); and every parameter of
the model has a part in every loss, if only with weight 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clients.private.sample import UserBatch
from common.config import LeagueConfig
from common.models import HansaModel
from common.models.losses import behaviour_loss, ranking_loss, sentiment_loss


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
        users, settings = UserBatch(*parts), self.training_config
        items, reviews = self._vectors(users)
        history, wanted, negative = self._split(items)
        raw_history, raw_wanted, raw_negative = self._split(users.raw)
        weights = self.model.user_tower.weights(users.kinds, users.gaps, users.visible)
        learned = self.model.user_tower(history, weights)
        who, looks = learned[:, : self.targets], learned[:, self.targets]
        untrained = weights.detach()[:, : self.targets] @ raw_history
        scores = self.model.scale(
            _candidates(untrained, raw_wanted, raw_negative), _candidates(who, wanted, negative)
        )
        loss = ranking_loss(scores[..., 0], scores[..., 1:], users.barred, users.ranks)
        logits = self.model.behaviour(users.features, looks)
        behaviour = behaviour_loss(logits, users.intent, users.next_kind, users.has_behaviour)
        sentiment = sentiment_loss(self.model.sentiment(reviews)[..., 0], users.labels)
        unused = 0.0 * self.model.category(looks).sum(-1)
        return loss + settings.behaviour_weight * behaviour + settings.sentiment_weight * sentiment + unused

    def _vectors(self, users: UserBatch) -> tuple[Tensor, Tensor]:
        """Vectors of the items (b, n, d) and of the reviews' texts (b, r, d), each encoder called once."""
        n = users.image.shape[1]
        texts = torch.cat([users.text, users.reviews], dim=1)
        adapted = self.model.text_adapter(_each(self.model.text_encoder, texts))
        image = self.model.image_adapter(_each(self.model.image_encoder, users.image))
        fused = self.model.fusion(adapted[:, :n], image, users.has_text, users.has_image)
        return nn.functional.normalize(fused, dim=-1), adapted[:, n:]

    def _split(self, items: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """History, targets and negatives."""
        first, second = 2 * self.length, 2 * self.length + self.targets
        return items[:, :first], items[:, first:second], items[:, second:]


def _each(encoder: nn.Module, rows: Tensor) -> Tensor:
    """An encoder of (n, …) over (b, n, …)."""
    flat: Tensor = encoder(rows.flatten(0, 1))
    return flat.unflatten(0, rows.shape[:2])


def _candidates(users: Tensor, wanted: Tensor, negative: Tensor) -> Tensor:
    """Products (b, t, 1 + k) of user vectors with each target and with the negatives."""
    own = (users * wanted).sum(-1, keepdim=True)
    return torch.cat([own, users @ negative.transpose(1, 2)], dim=2)
