"""Random variations of pictures in training, so that a model learns the object and not the camera's view of it.

This module is separate from `pictures`, so that ingest runs without torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from PIL import Image
from torchvision.transforms import v2


@dataclass(frozen=True)
class AugmentSettings:
    """How a picture is varied: `rotation` in degrees to either side, `scale` the least share of the area kept."""

    crop: int = 224
    rotation: float = 30.0
    flip: float = 0.5
    scale: float = 0.7


def resize_crop(picture: Image.Image, resize: int = 256, crop: int = 224) -> Image.Image:
    """Resize the shorter side to `resize` pixels, and cut out the middle square of `crop` pixels."""
    cropped: Image.Image = v2.Compose([v2.Resize(resize), v2.CenterCrop(crop)])(picture)
    return cropped


def augment(config: AugmentSettings) -> Callable[[torch.Tensor], torch.Tensor]:
    """The training-time transform of uint8 or float pictures of shape (..., 3, height, width)."""
    return v2.Compose(
        [
            v2.RandomRotation((-config.rotation, config.rotation), v2.InterpolationMode.BILINEAR),
            v2.RandomHorizontalFlip(config.flip),
            v2.RandomResizedCrop(config.crop, scale=(config.scale, 1.0), ratio=(0.9, 1.1), antialias=True),
        ]
    )
