"""Normal noise that nobody can replay: AES-CTR under a key that the operating system gave and no one keeps.

Box-Muller in float64 on 53-bit uniforms. Each value is the scaled sum of four draws, so that its low bits don't
tell the sum that it hides (Holohan & Braghin 2021, arXiv:2107.10138). Invariant: `SystemNoise` has no seed; two sources
never agree.
"""

from __future__ import annotations

import os
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_SUMMED = 4


class Noise(Protocol):
    """Gives ``count`` independent draws, float64: standard normal, or uniform in (0, 1]."""

    def __call__(self, count: int) -> NDArray[np.float64]: ...

    def uniforms(self, count: int) -> NDArray[np.float64]: ...


class SystemNoise:
    """Draws from one AES-256-CTR stream."""

    def __init__(self) -> None:
        self._stream = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()

    def __call__(self, count: int) -> NDArray[np.float64]:
        draws = self._normals(_SUMMED * count).reshape(_SUMMED, count)
        total: NDArray[np.float64] = draws.sum(0) / np.sqrt(_SUMMED)
        return total

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Uniform in (0, 1], multiples of 2⁻⁵³."""
        words = np.frombuffer(self._stream.update(bytes(8 * count)), dtype="<u8")
        return ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53

    def _normals(self, count: int) -> NDArray[np.float64]:
        half = -(-count // 2)
        radius = np.sqrt(-2.0 * np.log(self.uniforms(half)))
        angle = 2.0 * np.pi * self.uniforms(half)
        return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]


class SeededNoise:
    """Chance that can be replayed, and so hides nothing: for simulations whose settings say ``seeded``."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def __call__(self, count: int) -> NDArray[np.float64]:
        return self._generator.standard_normal(count)

    def uniforms(self, count: int) -> NDArray[np.float64]:
        """Uniform in (0, 1]."""
        return 1.0 - self._generator.random(count)


def system_generator() -> np.random.Generator:
    """A numpy generator for what a sample holds, keyed anew by the operating system each time.

    Who is in a step, and the noise, come from `SystemNoise`: the proof rests on those two alone. Which of a user's own
    records a sample shows may be known to anybody, since the clip bounds every choice.
    """
    return np.random.Generator(np.random.PCG64(int.from_bytes(os.urandom(16), "little")))
