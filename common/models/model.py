"""The whole model, and the one place that separates shared from private parameters.

Shared parameters travel to the coordinator; everything under ``private`` stays at the site. The score of item *i*
for a user is the untrained score, the cosine of frozen features, plus a *learned residual*, the product of the trained
towers. So an untrained model already is the content-based recommender, which training then refines.

Invariant: `shared_parameters` alone says what is aggregated; there are no buffers.

The joint loss is the sum of the task losses plus λ·align (`common.models.losses`). The alignment is contrastive: a
published formula, which minimises the mean cosine over all pairs, would push matching pairs apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.models.encoders import ImageEncoder, TextEncoder, make_encoders
from common.models.fusion import GatedFusion, MeanFusion, make_adapter
from common.models.heads import BehaviourHead
from common.models.towers import EvenTower, UserTower
from common.settings.config import ModelConfig


@dataclass(frozen=True)
class ItemInputs:
    """A catalogue as the model reads it; n items.

    ``text`` is (n, features) float for frozen encoders or (n, tokens) int64 for scratch ones; ``image`` is
    (n, features) float or (n, 3, size, size) uint8. ``raw`` (n, r) holds unit vectors of the untrained cosine;
    ``row`` is each item's own number in the catalogue.
    """

    text: Tensor
    image: Tensor
    has_text: Tensor
    has_image: Tensor
    raw: Tensor
    category: Tensor
    row: Tensor

    def take(self, rows: Tensor) -> ItemInputs:
        """The items at the given row numbers."""
        return ItemInputs(*(getattr(self, f)[rows] for f in self.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.has_text)


@dataclass(frozen=True)
class UserInputs:
    """Histories of b users with up to h events, seen from t targets each.

    ``items`` (b, h) are rows of the item vectors that are passed along with this object; ``gaps`` (b, t, h) are the
    seconds from event to target; ``visible`` (b, t, h) says which events may be used for a target.
    """

    items: Tensor
    kinds: Tensor
    gaps: Tensor
    visible: Tensor


class PrivateParts(nn.Module):
    """The parameters that never leave a site: a residual for each item with enough events, with weight decay."""

    def __init__(self, enough: Tensor, dim: int) -> None:
        super().__init__()
        self.enough = enough.to(torch.float32)[:, None]
        self.residual = nn.Parameter(torch.zeros(len(enough), dim))

    def forward(self, row: Tensor) -> Tensor:
        return self.residual[row] * self.enough[row]


class HansaModel(nn.Module):
    """Item tower, user tower and heads; see the module's docstring."""

    def __init__(self, config: ModelConfig, text_dim: int, image_dim: int) -> None:
        super().__init__()
        self.config = config
        encoders = make_encoders(config, text_dim, image_dim)
        self.text_encoder: TextEncoder = encoders.text
        self.image_encoder: ImageEncoder = encoders.image
        self.text_adapter = make_adapter(config, encoders.text_out)
        self.image_adapter = make_adapter(config, encoders.image_out)
        use_raw = config.encoders == "frozen"
        self.fusion: GatedFusion | MeanFusion
        self.user_tower: UserTower | EvenTower
        self.scale: Scale | FixedScale
        if config.adapter == "linear":
            self.fusion, self.user_tower, self.scale = MeanFusion(), EvenTower(), FixedScale(use_raw)
        else:
            self.fusion = GatedFusion(config.item_dim, config.modality_dropout)
            self.user_tower = UserTower(config.item_dim, config.dropout)
            self.scale = Scale(use_raw)
        self.behaviour = BehaviourHead(config.item_dim, config.hidden_dim)
        self.sentiment = nn.Linear(config.item_dim, 1)
        self.category = nn.Linear(config.item_dim, max(1, len(config.categories)))
        self.private: PrivateParts | None = None

    def text_vectors(self, text: Tensor) -> Tensor:
        """Adapted text (..., item_dim), of items or of reviews."""
        vectors: Tensor = self.text_adapter(self.text_encoder(text))
        return vectors

    def item_vectors(self, items: ItemInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Fused unit vectors (..., item_dim), and the adapted text and image vectors that went in."""
        text = self.text_vectors(items.text)
        image = self.image_adapter(self.image_encoder(items.image))
        fused = self.fusion(text, image, items.has_text, items.has_image)
        vectors = nn.functional.normalize(fused, dim=-1)
        if self.private is not None:
            vectors = vectors + self.private(items.row)
        return vectors, text, image

    def user_vectors(self, users: UserInputs, vectors: Tensor, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Trained (b, t, item_dim) and untrained (b, t, r) user vectors from the history's item vectors."""
        learned, weights = self.pooled(users, vectors)
        # No gradient from the untrained score to the pooling weights: it is the fixed part that training refines.
        return learned, weights.detach() @ raw[users.items]

    def pooled(self, users: UserInputs, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Trained user vectors (b, t, item_dim), and the weights (b, t, h) of the events pooled in them."""
        weights = self.user_tower.weights(users.kinds, users.gaps, users.visible)
        return self.user_tower(vectors[users.items], weights), weights

    def scores(self, learned: Tensor, untrained: Tensor, vectors: Tensor, raw: Tensor) -> Tensor:
        """Scores (b, t, n) of n items, in logits."""
        scores: Tensor = self.scale(untrained @ raw.T, learned @ vectors.T)
        return scores

    def shared_parameters(self) -> dict[str, nn.Parameter]:
        """Name → parameter of everything that is aggregated, in a fixed order."""
        return {name: p for name, p in self.named_parameters() if not name.startswith("private.")}


RAW_SCALE, LEARNED_SCALE = 0.6, 0.4


class Scale(nn.Module):
    """Learned temperatures of the untrained and the trained score; with scratch encoders only of the trained one.

    The parameters hold a tenth of the temperatures, so that they can share one learning rate with the weights.
    """

    def __init__(self, use_raw: bool) -> None:
        super().__init__()
        self.use_raw = use_raw
        self.raw = nn.Parameter(torch.tensor([RAW_SCALE if use_raw else 0.0]))
        self.learned = nn.Parameter(torch.tensor([LEARNED_SCALE]))

    def forward(self, untrained: Tensor, trained: Tensor) -> Tensor:
        score = 10.0 * self.learned * trained
        return score + 10.0 * self.raw * untrained if self.use_raw else score + self.raw * 0.0


class FixedScale(nn.Module):
    """The starting temperatures, never changed.

    Under differential privacy a site's popularity isn't part of the loss. Learned temperatures then grow to replace it,
    and ranking with popularity got worse with each round.
    """

    def __init__(self, use_raw: bool) -> None:
        super().__init__()
        self.use_raw = use_raw

    def forward(self, untrained: Tensor, trained: Tensor) -> Tensor:
        score = 10.0 * LEARNED_SCALE * trained
        return score + 10.0 * RAW_SCALE * untrained if self.use_raw else score


def build_model(config: ModelConfig, text_dim: int, image_dim: int, seed: int) -> HansaModel:
    """A model with first parameters drawn from the contract's public seed, so they are equal at every site."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return HansaModel(config, text_dim, image_dim)


def shared_arrays(model: HansaModel) -> dict[str, NDArray[np.float32]]:
    """Copies of the shared parameters as float32 arrays."""
    return {n: p.detach().numpy().astype(np.float32, copy=True) for n, p in model.shared_parameters().items()}


def load_shared(model: HansaModel, arrays: Mapping[str, NDArray[np.float32]]) -> None:
    """Overwrite the shared parameters in place."""
    with torch.no_grad():
        for name, parameter in model.shared_parameters().items():
            parameter.copy_(torch.from_numpy(np.ascontiguousarray(arrays[name])))
