"""The diversity of a site's texts and pictures, by the encoders' vectors.

Spread is 1 − ‖mean of unit vectors‖² (the circular variance of Mardia and Jupp 2000, in many dimensions): 0 if all are
the same, near 1 if they have no common direction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from clients.data.arrays import item_texts
from clients.encoders import FeatureCache, encode_images, encode_texts
from clients.encoders.cache import content_key
from clients.encoders.frozen import IMAGE_ENCODER, TEXT_ENCODER
from clients.ingest import SiteData, decode_array
from common.errors import InputError

SAMPLE = 256
SIDE = 128


def embedding_spread(
    data: SiteData, features: Callable[[str], FeatureCache], seed: int = 0
) -> dict[str, float]:
    """`text_spread` and `image_spread` of at most `SAMPLE` products; NaN if there are none."""
    products = data.products.sample(min(SAMPLE, data.products.height), seed=seed)
    texts = [text for text in item_texts(products) if text]
    pixels = []
    for name in products["image"].drop_nulls().to_list():
        try:
            pixels.append(decode_array(data.images.read(name), (SIDE, SIDE), where=name))
        except InputError:
            continue
    keys = [content_key(text.encode()) for text in texts]
    text_vectors = features(TEXT_ENCODER).get(keys, lambda at: encode_texts([texts[i] for i in at]))
    keys = [content_key(picture.tobytes()) for picture in pixels]
    image_vectors = features(f"{IMAGE_ENCODER}-{SIDE}").get(
        keys, lambda at: encode_images(np.stack([pixels[i] for i in at]))
    )
    return {"text_spread": spread(text_vectors), "image_spread": spread(image_vectors)}


def spread(vectors: NDArray[np.floating]) -> float:
    """1 − ‖mean of the rows as unit vectors‖².

    >>> spread(np.eye(4)), spread(np.ones((4, 3)))
    (0.75, 0.0)
    """
    if not len(vectors):
        return float("nan")
    rows = vectors.astype(np.float64)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return round(1 - float(np.sum(rows.mean(0) ** 2)), 12)
