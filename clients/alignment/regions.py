"""Alignment by region: which part of a picture a word speaks of, as a map that one can look at.

EfficientNet's pooled feature is the mean over the last layer's regions, so the linear map of `meaning` can be put on
each region by itself; attention is the softmax of a text's likeness to the regions (class activation maps: Zhou et
al. 2016).

Invariant: a map's weights are positive and sum to 1.
"""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clients.alignment.meaning import Matrix, PictureToText

TEMPERATURE = 0.1
SHOWN_SIDE = 200


def attention(mapped: PictureToText, regions: NDArray[np.floating], texts: NDArray[np.floating]) -> Matrix:
    """How much each region of a picture is meant by each text.

    Parameters
    ----------
    regions : features (height, width, d) of one picture.
    texts : vectors (n, e).

    Returns
    -------
    Weights (n, height, width), each map summing to 1.
    """
    likeness = np.einsum("hwk,nk->nhw", mapped.of_images(regions), mapped.of_texts(texts)) / TEMPERATURE
    weights = np.exp(likeness - likeness.max((1, 2), keepdims=True))
    made: Matrix = weights / weights.sum((1, 2), keepdims=True)
    return made


def peak(weights: Matrix) -> Matrix:
    """How pointed each map is: the largest weight in units of an even map's."""
    made: Matrix = weights.max((-2, -1)) * weights.shape[-1] * weights.shape[-2]
    return made


def overlay(picture: Image.Image, weights: Matrix) -> str:
    """The picture with what isn't meant washed out, as a data URI."""
    shown = picture.convert("RGB").resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
    span = max(float(np.ptp(weights)), 1e-9)
    grey = Image.fromarray((255 * (weights - weights.min()) / span).astype(np.uint8))
    mask = grey.resize(shown.size, Image.Resampling.BICUBIC)
    pale = Image.blend(shown.convert("L").convert("RGB"), Image.new("RGB", shown.size, (238, 242, 243)), 0.72)
    buffer = io.BytesIO()
    Image.composite(shown, pale, mask).save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
