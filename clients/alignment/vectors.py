"""Vectors of texts and pictures from the frozen encoders, through the cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

from clients.encoders import FeatureCache, encode_images, encode_texts
from clients.encoders.cache import content_key
from clients.encoders.frozen import IMAGE_ENCODER, TEXT_ENCODER
from clients.ingest import ImageStore, decode_image
from common.errors import InputError

SIDE = 128
Features = Callable[[str], FeatureCache]
"""An encoder's name → the cache of its vectors."""


def readable(
    images: ImageStore, names: list[str], say: Callable[[int, int], None]
) -> tuple[NDArray[np.uint8], list[int]]:
    pictures, rows = [], []
    for at, name in enumerate(names):
        say(at + 1, len(names))
        try:
            pictures.append(np.asarray(decode_image(images.read(name), (SIDE, SIDE)), np.uint8))
        except InputError:
            continue
        rows.append(at)
    return np.stack(pictures) if pictures else np.zeros((0, SIDE, SIDE, 3), np.uint8), rows


def image_vectors(pixels: NDArray[np.uint8], features: Features) -> NDArray[np.float32]:
    keys = [content_key(picture.tobytes()) for picture in pixels]
    return (
        features(f"{IMAGE_ENCODER}-{SIDE}").get(keys, lambda at: encode_images(pixels[at])).astype(np.float32)
    )


def text_vectors(texts: list[str], features: Features) -> NDArray[np.float32]:
    keys = [content_key(text.encode()) for text in texts]
    vectors = features(TEXT_ENCODER).get(keys, lambda at: encode_texts([texts[i] for i in at]))
    return vectors.astype(np.float32)


def variants(products: pl.DataFrame) -> list[str]:
    """Which rows are variants of one product: its code, or else the item's own id."""
    return products["product_code"].fill_null(products["item_id"]).to_list()
