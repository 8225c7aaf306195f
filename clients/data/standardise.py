"""Standardised features, by a site's own catalogue: centred, and with similar variance in all directions.

Frozen encoders put most of the variance into a few directions that all items share. A model that can learn only little,
as under differential privacy, then sees hardly anything else. So the site subtracts its catalogue's mean and divides
each feature by the square root of its standard deviation. Invariant: only the catalogue is read, never a customer's
reviews or events, so a customer's sample doesn't depend on another customer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROW_NORM = 3.0
_LEAST_SHARE = 1e-3  # of the mean variance, so that a feature that hardly varies isn't scaled up

Features = NDArray[np.float32]


class Standard(NamedTuple):
    """The mean to subtract from features and the factor to multiply them by, (f,) each."""

    mean: Features
    factor: Features

    @classmethod
    def of(cls, catalogue: Features) -> Standard:
        """From the features (n, f) of a catalogue's items; with fewer than two items, features are only scaled."""
        width = catalogue.shape[1]
        if len(catalogue) < 2:
            return cls(np.zeros(width, np.float32), np.full(width, ROW_NORM, np.float32))
        x = catalogue.astype(np.float64)
        mean, variance = x.mean(0), x.var(0)
        spread = (variance + _LEAST_SHARE * variance.mean() + 1e-12) ** -0.25
        rows = np.sqrt((((x - mean) * spread) ** 2).sum(1).mean())
        return cls(mean.astype(np.float32), (spread * (ROW_NORM / max(rows, 1e-9))).astype(np.float32))

    def scaled(self, features: Features) -> Features:
        """Rows whose root mean square length is `ROW_NORM`; rows of zeros, which are absent features, stay zero."""
        present = np.any(features != 0, axis=1, keepdims=True)
        scaled: Features = np.where(present, (features - self.mean) * self.factor, np.float32(0))
        return scaled
