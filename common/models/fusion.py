"""Gated middle fusion of text and image, either of which may be missing.

Each modality has its own adapter; a gate that reads both adapters' outputs weighs them, and a learned vector replaces a
missing modality. Invariant: the input values of a missing modality never reach the output.

Source: gated multimodal units, Arevalo et al. 2017 (arXiv:1702.01992); modality dropout, Neverova et al. 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.settings.config import ModelConfig


class Adapter(nn.Module):
    """Maps one modality's features (..., in_dim) to the common space (..., out_dim).

    ``first`` is the layer that reads the features, ``rest`` are the layers after it. Under differential privacy the
    first layer runs once per item, the rest once for each user who has the item.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, dropout: float) -> None:
        super().__init__()
        self.enter = nn.Linear(in_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.drop = nn.Dropout(dropout)
        self.leave = nn.Linear(hidden_dim, out_dim)

    @property
    def first(self) -> nn.Linear:
        return self.enter

    def rest(self, entered: Tensor) -> Tensor:
        hidden: Tensor = self.drop(nn.functional.gelu(self.norm(entered)))
        leave: Tensor = self.leave(hidden)
        return leave

    def forward(self, features: Tensor) -> Tensor:
        return self.rest(self.enter(features))


class LinearAdapter(nn.Module):
    """One matrix (in_dim, out_dim): the few parameters that a model under differential privacy can afford.

    The norm of the noise grows with the square root of the number of parameters, the signal doesn't. So the modules
    used with this adapter have no parameters at all: `MeanFusion`, `EvenTower` and `FixedScale`.
    """

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.leave = nn.Linear(in_dim, out_dim, bias=False)

    @property
    def first(self) -> nn.Linear:
        return self.leave

    def rest(self, entered: Tensor) -> Tensor:
        return entered

    def forward(self, features: Tensor) -> Tensor:
        leave: Tensor = self.leave(features)
        return leave


def make_adapter(config: ModelConfig, in_dim: int) -> Adapter | LinearAdapter:
    """The adapter that the configuration names, from one encoder's output to the common space."""
    if config.adapter == "linear":
        return LinearAdapter(in_dim, config.item_dim)
    return Adapter(in_dim, config.hidden_dim, config.item_dim, config.dropout)


class Absent(nn.Module):
    """A learned vector (out_dim,) that stands in for a missing modality."""

    def __init__(self, out_dim: int) -> None:
        super().__init__()
        self.vector = nn.Parameter(torch.zeros(out_dim))

    def forward(self, adapted: Tensor, present: Tensor) -> Tensor:
        return torch.where(present[..., None], adapted, self.vector)


class GatedFusion(nn.Module):
    """Fuses (..., dim) text and image vectors into one (..., dim) vector.

    Parameters
    ----------
    dim : width of the common space.
    modality_dropout : chance that a present modality is hidden in training; never both at once.
    """

    def __init__(self, dim: int, modality_dropout: float) -> None:
        super().__init__()
        self.modality_dropout = modality_dropout
        self.absent_text, self.absent_image = Absent(dim), Absent(dim)
        self.gate = nn.Linear(2 * dim, 2)

    def forward(self, text: Tensor, image: Tensor, has_text: Tensor, has_image: Tensor) -> Tensor:
        if self.training and self.modality_dropout > 0:
            has_text, has_image = self._hide(has_text, has_image)
        text, image = self.absent_text(text, has_text), self.absent_image(image, has_image)
        weights = torch.softmax(self.gate(torch.cat([text, image], dim=-1)), dim=-1)
        return weights[..., :1] * text + weights[..., 1:] * image

    def _hide(self, has_text: Tensor, has_image: Tensor) -> tuple[Tensor, Tensor]:
        both = has_text & has_image
        draw = torch.rand(both.shape)
        hide_text = both & (draw < self.modality_dropout / 2)
        hide_image = both & (draw > 1 - self.modality_dropout / 2)
        return has_text & ~hide_text, has_image & ~hide_image


class MeanFusion(nn.Module):
    """The mean of the modalities that are present; it has no parameters."""

    def forward(self, text: Tensor, image: Tensor, has_text: Tensor, has_image: Tensor) -> Tensor:
        weights = shares(has_text, has_image)
        # Selected, not multiplied by zero: a missing modality's values may be anything, NaN too.
        text = torch.where(has_text[..., None], text, 0.0)
        image = torch.where(has_image[..., None], image, 0.0)
        return weights[..., :1] * text + weights[..., 1:] * image


def shares(has_text: Tensor, has_image: Tensor) -> Tensor:
    """(..., 2) equal shares of the modalities that are present; zeros if none is."""
    present = torch.stack([has_text, has_image], dim=-1).to(torch.float32)
    return present / present.sum(-1, keepdim=True).clamp(min=1)
