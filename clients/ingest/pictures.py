"""Pictures made ready: upright, without metadata, of a size to work with; and turned about while training.

Invariant: no byte of the original file survives in what `tidy_picture` returns: pixels are decoded within the limits
of `images` and written anew into a picture that never had metadata, so place, camera and comments are gone.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image, ImageFilter
from torchvision.transforms import v2

from clients.ingest.images import decode_image

QUALITY = 92


@dataclass(frozen=True)
class PictureSettings:
    """How a picture is stored. `shorter_side` in pixels; smaller pictures are not blown up."""

    shorter_side: int = 256
    denoise: Literal["none", "gaussian", "median"] = "none"


@dataclass(frozen=True)
class AugmentSettings:
    """How a picture is varied. `rotation` in degrees to either side; `scale` the smallest share of the area kept."""

    crop: int = 224
    rotation: float = 30.0
    flip: float = 0.5
    scale: float = 0.7


def tidy_picture(data: bytes, settings: PictureSettings, *, where: str = "") -> bytes:
    """One picture as a JPEG without metadata.

    Raises
    ------
    InputError : the picture can't be decoded within the limits.
    """
    picture = decode_image(data, where=where)
    if settings.denoise != "none":
        blur = ImageFilter.GaussianBlur(1) if settings.denoise == "gaussian" else ImageFilter.MedianFilter(3)
        picture = picture.filter(blur)
    ratio = settings.shorter_side / min(picture.size)
    if ratio < 1:
        size = (max(1, round(picture.width * ratio)), max(1, round(picture.height * ratio)))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    # A new picture: Pillow would carry the old one's comment and profile into the file.
    bare = Image.frombytes("RGB", picture.size, picture.tobytes())
    buffer = io.BytesIO()
    bare.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def resize_crop(picture: Image.Image, resize: int = 256, crop: int = 224) -> Image.Image:
    """The shorter side made `resize` pixels, and the middle square of `crop` pixels cut out."""
    made: Image.Image = v2.Compose([v2.Resize(resize), v2.CenterCrop(crop)])(picture)
    return made


def augment(config: AugmentSettings) -> Callable[[torch.Tensor], torch.Tensor]:
    """The training-time transform of uint8 or float pictures of shape (..., 3, height, width)."""
    return v2.Compose(
        [
            v2.RandomRotation((-config.rotation, config.rotation), v2.InterpolationMode.BILINEAR),
            v2.RandomHorizontalFlip(config.flip),
            v2.RandomResizedCrop(config.crop, scale=(config.scale, 1.0), ratio=(0.9, 1.1), antialias=True),
        ]
    )
