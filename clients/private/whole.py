"""Noise in whole numbers: the discrete Gaussian, drawn exactly (Canonne, Kamath & Steinke 2020) by OpenDP.

It goes onto quantised updates before they are packed, masked and encrypted, so that it adds up exactly in the sum.
Invariant: draws come from OpenDP's sampler on the operating system's randomness; the seeded one is for simulations that
say so.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


class WholeNoise(Protocol):
    """Gives ``count`` independent whole numbers of standard deviation ``deviation``."""

    def __call__(self, count: int, deviation: float) -> Integers: ...


def discrete_gaussian(count: int, deviation: float) -> Integers:
    """Draws of the discrete Gaussian N_Z(0, deviation²)."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    space = dp.vector_domain(dp.atom_domain(T="i64"), size=count), dp.l2_distance(T="f64")
    return np.asarray(dp.m.make_gaussian(*space, deviation)([0] * count), dtype=np.int64)


class SeededWhole:
    """Rounded normal draws that can be replayed; no guarantee rests on them."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def __call__(self, count: int, deviation: float) -> Integers:
        return np.rint(self._generator.normal(0.0, deviation, count)).astype(np.int64)
