"""Whole-number noise that nobody can replay: the discrete Gaussian, drawn from an AES-CTR stream whose key comes from
the operating system and isn't kept.

A noisy sum is the sum rounded to a grid of step C/2²⁴ (C is the clip), plus draws of N_Z(0, s²) with s = σΔ. One unit
changes the sum by at most Δ = 1.0001·2²⁴ + √d steps of the grid: the tolerance of `preflight`, and the rounding of d
numbers. At all whole orders, the moments of the privacy loss are exactly those of a Gaussian mechanism with noise
multiplier σ: for a change of a (whole numbers) Σ P(n)^(1−k) P(n−a)^k = exp((k² − k)|a|²/2s²). The reflection n → a − n
extends this to Poisson sampling (Canonne, Kamath & Steinke 2020, arXiv:2004.00010; Mironov, Talwar & Zhang 2019,
arXiv:1908.10530, theorems 4 and 5).
Invariant: `SystemNoise` has no seed; two sources never agree.
"""

from __future__ import annotations

import math
import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from clients.dp.noise.discrete import DiscreteGaussian, Integers
from common.privacy.shared_noise import TOLERANCE

GRID = 1 << 24


class Noise(Protocol):
    """A source of random numbers."""

    def whole(self, count: int, deviation: float) -> Integers:
        """Independent draws of the discrete Gaussian N_Z(0, deviation²)."""

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Independent uniform draws in (0, 1]."""


class SystemNoise:
    """Random numbers from one AES-256-CTR stream."""

    def __init__(self) -> None:
        self._stream = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()

    def whole(self, count: int, deviation: float) -> Integers:
        """Draws of N_Z(0, deviation²), within 2⁻¹⁶⁰ of exact."""
        return DiscreteGaussian.of(deviation)(count, self._bytes)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Uniform in (0, 1], multiples of 2⁻⁵³."""
        words = np.frombuffer(self._bytes(8 * count), dtype="<u8")
        return ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53

    def _bytes(self, count: int) -> bytes:
        return self._stream.update(bytes(count))


class SeededNoise:
    """Random numbers that can be replayed, and so hide nothing: for simulations with the setting ``seeded``."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def whole(self, count: int, deviation: float) -> Integers:
        """Rounded normal draws."""
        return np.rint(self._generator.normal(0.0, deviation, count)).astype(np.int64)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Uniform in (0, 1]."""
        return 1.0 - self._generator.random(count)


def noisy_sum(
    total: NDArray[np.float64], clip: float, noise_multiplier: float, noise: Noise
) -> NDArray[np.float64]:
    """Round a sum of contributions, each of norm at most ``clip``, to the grid and add the noise.

    Parameters
    ----------
    noise_multiplier : standard deviation of the noise on the sum, divided by the clip.
    """
    deviation = noise_multiplier * (TOLERANCE * GRID + math.sqrt(total.size))
    whole = np.rint(total * (GRID / clip)).astype(np.int64) + noise.whole(total.size, deviation)
    return np.asarray(whole * (clip / GRID), dtype=np.float64)


def system_generator() -> np.random.Generator:
    """A numpy generator for the contents of samples, with a new seed from the operating system each time.

    The proof needs only that the choice of the units in a step, and the noise, are secret; these come from
    `SystemNoise`. Which of a user's own records are in a sample may be known to anybody, since the clip bounds every
    choice.
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(os.urandom(16), "little")))
