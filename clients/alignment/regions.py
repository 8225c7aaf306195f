"""Alignment by region: which part of a picture a word is about, as a map to look at.

EfficientNet's pooled feature is the mean over the last layer's regions, so the linear map of `meaning` can be applied
to each region; attention is the softmax of a text's likeness to the regions (class activation maps: Zhou et al. 2016).

Invariant: a map's weights are positive and sum to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from clients.alignment.meaning import Matrix, PictureToText
from common.reports.data_uri import picture_uri

TEMPERATURE = 0.1
SHOWN_SIDE = 200


def attention(mapped: PictureToText, regions: NDArray[np.floating], texts: NDArray[np.floating]) -> Matrix:
    """How much each text is about each region of a picture.

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
    maps: Matrix = weights / weights.sum((1, 2), keepdims=True)
    return maps


def peak(weights: Matrix) -> Matrix:
    """How sharp each map is: its largest weight, divided by that of an even map."""
    peaks: Matrix = weights.max((-2, -1)) * weights.shape[-1] * weights.shape[-2]
    return peaks


def overlay(picture: Image.Image, weights: Matrix) -> str:
    """The picture with all regions of low weight greyed out, as a data URI."""
    resized = picture.convert("RGB").resize((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BICUBIC)
    span = max(float(np.ptp(weights)), 1e-9)
    grey = Image.fromarray((255 * (weights - weights.min()) / span).astype(np.uint8))
    mask = grey.resize(resized.size, Image.Resampling.BICUBIC)
    pale = Image.blend(
        resized.convert("L").convert("RGB"), Image.new("RGB", resized.size, (238, 242, 243)), 0.72
    )
    return picture_uri(Image.composite(resized, pale, mask), quality=85)
