"""Preparing pictures for storage: upright, without metadata, in a working size.

Invariant: `tidy_picture` returns no byte of the original file. Pixels are decoded within the limits of `images` and
written into a new picture without metadata, so place, camera and comments are removed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageFilter

from clients.ingest.images import decode_image

QUALITY = 92


@dataclass(frozen=True)
class PictureSettings:
    """How a picture is stored: `shorter_side` in pixels; smaller pictures aren't enlarged."""

    shorter_side: int = 256
    denoise: Literal["none", "gaussian", "median"] = "none"


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
