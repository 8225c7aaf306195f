"""Gated fusion, computed once for a whole catalogue, and its hand-written derivative for each user's own items.

The fused vector of an item, v = f/|f| with f = w₀T + w₁I and (w₀, w₁) = softmax(W(T, I) + b), is the same for all
users; only the gradients of their losses differ. So it's computed once per item, and with G = ∂L/∂v of each user

    P = (G − v(v·G)) / |f|        λ = w₀w₁(T·P − I·P)
    ∂T = w₀P + λ(W₀ − W₁)_T       ∂I = w₁P + λ(W₀ − W₁)_I       ∂W₀ = −∂W₁ = Σ λ(T, I)       ∂b₀ = −∂b₁ = Σ λ

where the sums run over a user's items. If a modality is absent, its ∂T or ∂I belongs to the learned vector that
replaces it. For a `MeanFusion`, whose weights are fixed, ∂T = w₀P and ∂I = w₁P.

Invariant: the result equals autograd through `GatedFusion`; a test compares it with the slow loop on every
configuration.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.models.fusion import MeanFusion, shares
from common.models.model import HansaModel, ItemInputs


@dataclass(frozen=True)
class Fused:
    """A catalogue of m items under one state of the model: adapted vectors (m, d), weights, lengths, fused vectors."""

    text: Tensor
    image: Tensor
    weights: Tensor
    length: Tensor
    vectors: Tensor

    @classmethod
    def of(cls, model: HansaModel, items: ItemInputs, text: Tensor, image: Tensor) -> Fused:
        """From the adapted texts and pictures of all items."""
        fusion = model.fusion
        if isinstance(fusion, MeanFusion):
            return cls._mixed(text, image, shares(items.has_text, items.has_image))
        text, image = fusion.absent_text(text, items.has_text), fusion.absent_image(image, items.has_image)
        weights = torch.softmax(fusion.gate(torch.cat([text, image], dim=-1)), dim=-1)
        return cls._mixed(text, image, weights)

    @classmethod
    def _mixed(cls, text: Tensor, image: Tensor, weights: Tensor) -> Fused:
        mixed = weights[:, :1] * text + weights[:, 1:] * image
        length = mixed.norm(dim=1).clamp(min=1e-12)
        return cls(text, image, weights, length, mixed / length[:, None])


@dataclass(frozen=True)
class FusionGradients:
    """Users' gradients (b, n, d) at the two adapters' outputs, and those of the fusion's parameters."""

    text: Tensor
    image: Tensor
    fusion: dict[nn.Parameter, Tensor]


def fusion_backward(
    model: HansaModel, items: ItemInputs, fused: Fused, rows: Tensor, gradients: Tensor
) -> FusionGradients:
    """Users' gradients, from those (b, n, d) at the fused vectors of their items, which are catalogue rows (b, n)."""
    text, image, weights = fused.text[rows], fused.image[rows], fused.weights[rows]
    vectors = fused.vectors[rows]
    across = gradients - vectors * (vectors * gradients).sum(-1, keepdim=True)
    across /= fused.length[rows][..., None]
    if isinstance(model.fusion, MeanFusion):
        return FusionGradients(weights[..., :1] * across, weights[..., 1:] * across, {})
    turned = weights.prod(-1) * ((text - image) * across).sum(-1)
    gate: nn.Parameter = model.fusion.gate.weight  # type: ignore[assignment]
    tilt = (gate[0] - gate[1]).detach()
    width = text.shape[-1]
    to_text = weights[..., :1] * across + turned[..., None] * tilt[:width]
    to_image = weights[..., 1:] * across + turned[..., None] * tilt[width:]
    mixed = torch.cat([turned[:, None] @ text, turned[:, None] @ image], dim=-1)
    bias = turned.sum(-1, keepdim=True)
    fusion: dict[nn.Parameter, Tensor] = {
        gate: torch.cat([mixed, -mixed], dim=1),
        model.fusion.gate.bias: torch.cat([bias, -bias], dim=1),
    }
    by_modality = []
    for part, has_modality, absent in (
        (to_text, items.has_text, model.fusion.absent_text),
        (to_image, items.has_image, model.fusion.absent_image),
    ):
        present = has_modality[rows][..., None].to(part.dtype)
        fusion[absent.vector] = (part * (1 - present)).sum(1)
        by_modality.append(part * present)
    return FusionGradients(by_modality[0], by_modality[1], fusion)
