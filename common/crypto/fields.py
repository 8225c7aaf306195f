"""Updates as whole numbers, packed into words modulo t, which are masked, encrypted and summed without any error.

A site's weighted update becomes integers of `bits` bits, and `fields` of them share one word modulo
t = 2^44 − 16383. Invariant: if the sites' shares add up to at most 1, no sum of a cohort's integers exceeds `limit` in
size. So no field overflows into its neighbour, and unpack(Σ pack(qᵢ) mod t) = Σ qᵢ exactly. The headroom is one unit
per site, which is more than rounding can add.

>>> layout = Packing(bits=22, fields=2)
>>> words = (layout.pack(np.array([5, -7, 1])) + layout.pack(np.array([-6, 2, 1]))) % MODULUS
>>> layout.unpack(words, 3).tolist()
[-1, -5, 2]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, WireError

MODULUS = (1 << 44) - 16383
"""A prime that is 1 modulo 8192, so that BFV of degree 4096 has 4096 slots."""

MOST_SUMMED = 1000
"""The most ciphertexts in one sum: a fresh one has 9 bits of noise budget, a sum of 1,000 has 4, of 10,000 has 2."""

_BLOCK = 1 << 14
Words = NDArray[np.uint64]
Integers = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Packing:
    """How many signed integers share a word.

    Raises
    ------
    ConfigError : the fields don't fit a word.
    """

    bits: int = 22
    fields: int = 2

    def __post_init__(self) -> None:
        largest = self.limit * sum(1 << (self.bits * place) for place in range(self.fields))
        if self.bits < 4 or self.fields < 1 or largest > (MODULUS - 1) // 2:
            raise ConfigError(
                f"{self.fields} fields of {self.bits} bits don't fit a word of 44 bits", where="rounds.fields",
                next_step="take 2 fields of 22 bits or 3 of 14",
            )  # fmt: skip

    @property
    def limit(self) -> int:
        """The largest absolute value of a sum in one field."""
        return (1 << (self.bits - 1)) - 1

    def words(self, size: int) -> int:
        """How many words `size` integers need."""
        return -(-size // self.fields)

    def scale(self, clip_range: float, sites: int) -> float:
        """Whole numbers per 1.0 of the weighted mean.

        Raises
        ------
        ConfigError : the cohort is so large that no precision is left.
        """
        if sites * 2 > self.limit:
            raise ConfigError(
                f"{sites} sites don't fit fields of {self.bits} bits", where="rounds.field_bits"
            )
        return (self.limit - sites) / clip_range

    def pack(self, values: Integers) -> Words:
        """Integers of shape (n,) as ⌈n / fields⌉ words modulo t."""
        padded = np.zeros(self.words(len(values)) * self.fields, dtype=np.int64)
        padded[: len(values)] = values
        word = padded[:: self.fields].copy()
        for place in range(1, self.fields):
            word += padded[place :: self.fields] << (self.bits * place)
        word[word < 0] += MODULUS
        return word.astype(np.uint64)

    def unpack(self, words: Words, size: int) -> Integers:
        """The inverse of `pack`, for words below t.

        Raises
        ------
        WireError : the number of words differs.
        """
        if words.shape != (self.words(size),):
            raise WireError(f"{words.size} words can't hold {size} numbers", where="fields")
        remaining = words.astype(np.int64)
        remaining[remaining > MODULUS // 2] -= MODULUS
        values = np.empty((len(words), self.fields), dtype=np.int64)
        half, mask = 1 << (self.bits - 1), (1 << self.bits) - 1
        for place in range(self.fields):
            values[:, place] = ((remaining + half) & mask) - half
            remaining = (remaining - values[:, place]) >> self.bits
        if remaining.any():
            raise WireError("a word of the sum is out of range", where="fields")
        return values.reshape(-1)[:size]


def quantise(
    update: Floats, share: float, clip_range: float, scale: float, chance: np.random.Generator | None = None
) -> Integers:
    """A site's share of the mean as integers: round(clip(Δ, ±clip_range) · share · scale).

    Parameters
    ----------
    share : the site's weight divided by the whole cohort's, in (0, 1].
    chance : for stochastic rounding (unbiased); None rounds to the nearest.

    Raises
    ------
    WireError : a value is NaN or infinite, or the share is out of range.
    """
    if not 0 < share <= 1:
        raise WireError(f"a share of {share:.3g} is outside (0, 1]", where="quantise")
    if not np.isfinite(update).all():
        raise WireError("the update holds NaN or infinite values", where="quantise")
    whole = np.empty(len(update), dtype=np.int64)
    for start in range(0, len(update), _BLOCK):  # blocks that fit the cache are three times as fast
        scaled = np.clip(update[start : start + _BLOCK].astype(np.float64), -clip_range, clip_range)
        scaled *= share * scale
        if chance is not None:
            scaled += chance.random(len(scaled)) - 0.5
        whole[start : start + _BLOCK] = np.rint(scaled, out=scaled)
    return whole


def dequantise(total: Integers, share: float, scale: float) -> Floats:
    """The survivors' mean from their exact sum; `share` is the sum of their shares."""
    return (total / (scale * share)).astype(np.float32)
