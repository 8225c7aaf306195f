"""Features of a site on a common footing, by its own catalogue: centred, and even in all directions.

Frozen encoders put most of what they say into a few directions that all things share. Where a model can learn little,
as under differential privacy, these drown the rest. So the site takes its catalogue's mean away and divides each
feature by the root of its deviation there. Invariant: only the catalogue is read, never a customer's reviews or
events, so a customer's sample doesn't depend on another customer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROW_NORM = 3.0
_LEAST_SHARE = 1e-3  # of the mean variance: a feature that hardly varies tells nothing and isn't blown up

Features = NDArray[np.float32]


class Standard(NamedTuple):
    """What to subtract from features and what to multiply them by, (f,) each."""

    mean: Features
    factor: Features

    @classmethod
    def of(cls, catalogue: Features) -> Standard:
        """From the features (n, f) of the things that have any; with fewer than two, they are only scaled."""
        width = catalogue.shape[1]
        if len(catalogue) < 2:
            return cls(np.zeros(width, np.float32), np.full(width, ROW_NORM, np.float32))
        x = catalogue.astype(np.float64)
        mean, variance = x.mean(0), x.var(0)
        spread = (variance + _LEAST_SHARE * variance.mean() + 1e-12) ** -0.25
        rows = np.sqrt((((x - mean) * spread) ** 2).sum(1).mean())
        return cls(mean.astype(np.float32), (spread * (ROW_NORM / max(rows, 1e-9))).astype(np.float32))

    def scaled(self, features: Features) -> Features:
        """Rows of a root mean square length of `ROW_NORM`; rows of zeros, which stand for nothing, stay zero."""
        there = np.any(features != 0, axis=1, keepdims=True)
        scaled: Features = np.where(there, (features - self.mean) * self.factor, np.float32(0))
        return scaled
