"""The discrete Gaussian N_Z(0, σ²), P(n) ∝ exp(−n²/2σ²), drawn from tables of its probabilities.

Probabilities are whole multiples of 2⁻¹⁹². The table is an alias table (Walker 1977): uniform bits choose a column,
then one comparison of uniform bits with the column's threshold chooses the column or its alias. Nearly always the first
32 bits decide; if they equal those of the threshold, the other bits are drawn too. So a draw has exactly the table's
distribution, and no floating-point number is used, whose low bits could reveal the hidden value (Mironov 2012).

A large σ is composed of small ones, N = X₁ + k(X₂ + k(X₃ + …)), with all X from one table (Micciancio & Walter 2017,
ia.cr/2017/259). By Poisson summation X + kY, with deviations s and t, has at each n the probability of
N_Z(0, s² + k²t²) times 1 ± 4.1·exp(−2π²r²), where r⁻² = t⁻² + (k/s)².

Invariant: r ≥ 2.5 at each level, and values outside the table have a probability below 2⁻¹⁸⁰. So a draw is within
2⁻¹⁶⁰ of exact in total variation. With η = draws · 2⁻¹⁶⁰, an (ε, δ) promise becomes (ε, δ + (1 + e^ε)η): for
a thousand million draws at ε = 8, δ grows by less than 10⁻³⁵.

>>> DiscreteGaussian.of(1000.0).factors
(19,)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Bytes = Callable[[int], bytes]

PRECISION = 192
_LEAST_R = 2.5
_TAIL = 16.5  # exp(−16.5²/2) < 2⁻¹⁹⁶
_MOST_COLUMNS = 1 << 14
_FIRST_BITS = 32
_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class AliasTable:
    """An alias table with 2^bits columns; column c stands for c − middle.

    ``thresholds`` are whole numbers of ``PRECISION - bits`` bits; ``first`` their highest 32.
    """

    bits: int
    middle: int
    thresholds: tuple[int, ...]
    first: NDArray[np.uint32]
    alias: NDArray[np.int64]

    def draw(self, count: int, stream: Bytes) -> Integers:
        """Draws from uniform bytes: the high bits of a 64-bit word choose the column, its low 32 bits are compared."""
        words = np.frombuffer(stream(8 * count), dtype="<u8")
        column = (words >> np.uint64(64 - self.bits)).view(np.int64)
        bound, uniform = self.first[column], words.view("<u4")[::2]
        own = uniform < bound
        for place in np.flatnonzero(uniform == bound).tolist():
            own[place] = self._rest_is_less(int(column[place]), stream)
        draws: Integers = np.where(own, column, self.alias[column])
        draws -= self.middle
        return draws

    def _rest_is_less(self, column: int, stream: Bytes) -> bool:
        low_bits = PRECISION - self.bits - _FIRST_BITS
        uniform = int.from_bytes(stream(PRECISION // 8), "little") >> (PRECISION - low_bits)
        return uniform < self.thresholds[column] & ((1 << low_bits) - 1)


@dataclass(frozen=True)
class DiscreteGaussian:
    """A sampler of N_Z(0, deviation²): one table, and the factors that combine its draws."""

    table: AliasTable
    factors: tuple[int, ...]

    @classmethod
    @functools.lru_cache(maxsize=32)
    def of(cls, deviation: float) -> DiscreteGaussian:
        """The sampler with the fewest levels whose table fits a core's own cache.

        Raises
        ------
        ValueError : the deviation isn't positive and finite.
        """
        if not (math.isfinite(deviation) and deviation > 0):
            raise ValueError(f"a discrete Gaussian of deviation {deviation}")
        levels = 1
        while True:
            factor, variance = _split(Fraction(deviation) ** 2, levels)
            if 2 * _reach(variance) + 1 <= _MOST_COLUMNS:
                return cls(table_of(variance), (factor,) * (levels - 1))
            levels += 1

    def __call__(self, count: int, stream: Bytes) -> Integers:
        """Independent draws from uniform bytes."""
        draws = np.empty(count, dtype=np.int64)
        for at in range(0, count, _AT_ONCE):  # small enough parts to stay in a core's own cache
            part = draws[at : at + _AT_ONCE]
            part[:] = self.table.draw(len(part), stream)
            for factor in self.factors:
                part *= factor
                part += self.table.draw(len(part), stream)
        return draws


def _split(variance: Fraction, levels: int) -> tuple[int, Fraction]:
    """The largest factor k for which so many levels keep r ≥ 2.5, and the variance s² of each level's draws."""
    if levels == 1:
        return 1, variance

    def level_variance(k: int) -> Fraction:
        return variance / sum(k ** (2 * level) for level in range(levels))

    def keeps(k: int) -> bool:
        # The innermost level has the least r: there t = s.
        return (1 + k * k) * _LEAST_R**2 <= level_variance(k)

    low, high = 1, 2
    while keeps(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low, level_variance(low)


def _reach(variance: Fraction) -> int:
    """The largest value that a table holds."""
    return math.ceil(_TAIL * math.sqrt(variance)) + 1


def table_of(variance: Fraction) -> AliasTable:
    """The alias table of N_Z(0, variance)."""
    reach = _reach(variance)
    half = probabilities(variance, reach)
    masses = [*reversed(half[1:]), *half]
    masses[reach] += (1 << PRECISION) - sum(masses)  # the remainder from rounding down
    bits = max(1, (len(masses) - 1).bit_length())
    masses += [0] * ((1 << bits) - len(masses))
    thresholds, alias = _aliased(masses, 1 << (PRECISION - bits))
    shift = PRECISION - bits - _FIRST_BITS
    first = np.array([threshold >> shift for threshold in thresholds], dtype=np.uint32)
    return AliasTable(bits, reach, tuple(thresholds), first, np.array(alias, dtype=np.int64))


def probabilities(variance: Fraction, reach: int) -> list[int]:
    """P(0), …, P(reach) of N_Z(0, variance) restricted to ±reach, in multiples of 2⁻¹⁹² and rounded down."""
    guard = 2 * PRECISION
    with localcontext() as context:
        context.prec = guard  # decimal digits, so more precise than the bits that are kept
        exponent = -Decimal(variance.denominator) / (2 * Decimal(variance.numerator))
        ratio = int(exponent.exp() * (1 << guard))
    square, step, weight = ratio * ratio >> guard, ratio, 1 << guard
    weights = [weight]
    for _ in range(reach):  # exp(−(n+1)²/2v) = exp(−n²/2v) · exp(−1/2v)^(2n+1)
        weight = weight * step >> guard
        step = step * square >> guard
        weights.append(weight)
    total = 2 * sum(weights) - weights[0]
    return [(value << PRECISION) // total for value in weights]


def _aliased(masses: list[int], room: int) -> tuple[list[int], list[int]]:
    """Thresholds and aliases: below its threshold a column stands for itself, above for its alias (Vose 1991)."""
    remaining, alias = list(masses), list(range(len(masses)))
    small = [column for column, mass in enumerate(remaining) if mass < room]
    large = [column for column, mass in enumerate(remaining) if mass >= room]
    thresholds = [0] * len(masses)  # threshold 0 with itself as alias: the column always stands for itself
    while small and large:
        least, giver = small.pop(), large[-1]
        thresholds[least], alias[least] = remaining[least], giver
        remaining[giver] -= room - remaining[least]
        if remaining[giver] < room:
            small.append(large.pop())
    return thresholds, alias
