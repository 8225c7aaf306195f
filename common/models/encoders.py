"""Encoders by name: ``frozen`` passes cached features through, ``scratch`` trains a CNN and an LSTM in the federation.

Scratch encoders use DP-safe layers only (GroupNorm, Opacus' DPLSTM) and no padding index: padding is token 0 and is
masked at the output, because Opacus mishandles ``padding_idx``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from opacus.layers import DPLSTM
from torch import Tensor, nn

from common.settings.config import ModelConfig

SCRATCH_DIM = 128


class TextEncoder(nn.Module):
    """Base: (n, in) → (n, out). The frozen encoder is the identity on cached features."""

    def forward(self, text: Tensor) -> Tensor:
        return text


class ImageEncoder(nn.Module):
    """Base: (n, in) → (n, out). The frozen encoder is the identity on cached features."""

    def forward(self, image: Tensor) -> Tensor:
        return image


class LstmTextEncoder(TextEncoder):
    """Hashed tokens (n, length) int64, 0 = padding → (n, SCRATCH_DIM): embedding, LSTM, masked mean."""

    def __init__(self, buckets: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(buckets, 96)
        self.lstm = DPLSTM(96, SCRATCH_DIM, batch_first=True)
        nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, text: Tensor) -> Tensor:
        mask = (text > 0).to(torch.float32)[..., None]
        states, _ = self.lstm(self.embed(text) * mask)
        mean: Tensor = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        return mean


class CnnImageEncoder(ImageEncoder):
    """Pixels (n, 3, s, s) uint8 → (n, SCRATCH_DIM): four strided convolutions with GroupNorm."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inner, outer in ((3, 32), (32, 64), (64, 128), (128, SCRATCH_DIM)):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.GroupNorm(8, outer), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.layers(image.to(torch.float32) / 127.5 - 1.0)
        return features.mean((2, 3))


class EncoderPair(NamedTuple):
    """The pair of encoders and their output widths."""

    text: TextEncoder
    image: ImageEncoder
    text_out: int
    image_out: int


def make_encoders(config: ModelConfig, text_dim: int, image_dim: int) -> EncoderPair:
    """The encoders that the configuration names."""
    if config.encoders == "frozen":
        return EncoderPair(TextEncoder(), ImageEncoder(), text_dim, image_dim)
    return EncoderPair(LstmTextEncoder(config.token_buckets), CnnImageEncoder(), SCRATCH_DIM, SCRATCH_DIM)
