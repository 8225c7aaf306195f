"""The discrete Gaussian N_Z(0, σ²), P(n) ∝ exp(−n²/2σ²), drawn from tables of its probabilities.

Probabilities are whole multiples of 2⁻¹⁹² and the table is an alias table (Walker 1977): a column by uniform bits, then
one comparison with a threshold of 192 bits less the column's. The first 32 bits decide nearly always; where they equal
the threshold's, all the others are drawn. So a draw has the table's distribution exactly, and no floating-point number
has a part in it (whose low bits would tell what they hide: Mironov 2012).

A large σ is put together of small ones, N = X₁ + k(X₂ + k(X₃ + …)), all X of one table (Micciancio & Walter 2017,
ia.cr/2017/259). By Poisson summation X + kY, of deviations s and t, has at each n the probability of N_Z(0, s² + k²t²)
times 1 ± 4.1·exp(−2π²r²), where r⁻² = t⁻² + (k/s)². Invariant: r ≥ 2.5 at each level, and what a table leaves out has
a probability below 2⁻¹⁸⁰; so a draw is within `DISTANCE` of exact in total variation. With η = draws · `DISTANCE` an
(ε, δ) promise becomes (ε, δ + (1 + e^ε)η): for a thousand million draws at ε = 8, not 10⁻³⁵ more.

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

DISTANCE = 2.0**-160
PRECISION = 192
_LEAST_R = 2.5
_TAIL = 16.5  # exp(−16.5²/2) < 2⁻¹⁹⁶
_MOST_COLUMNS = 1 << 14
_FIRST_BITS = 32
_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class Table:
    """An alias table with 2^bits columns; column c stands for c − middle.

    ``thresholds`` are whole numbers of ``PRECISION - bits`` bits; ``first`` their highest 32.
    """

    bits: int
    middle: int
    thresholds: tuple[int, ...]
    first: NDArray[np.uint32]
    alias: NDArray[np.int64]

    def draw(self, count: int, stream: Bytes) -> Integers:
        """Draws from uniform bytes: for each one a word of 64 bits, of which the lowest 32 and the highest are used."""
        words = np.frombuffer(stream(8 * count), dtype="<u8")
        column = (words >> np.uint64(64 - self.bits)).view(np.int64)
        bound, uniform = self.first[column], words.view("<u4")[::2]
        own = uniform < bound
        for place in np.flatnonzero(uniform == bound).tolist():
            own[place] = self._rest_is_less(int(column[place]), stream)
        found: Integers = np.where(own, column, self.alias[column])
        found -= self.middle
        return found

    def _rest_is_less(self, column: int, stream: Bytes) -> bool:
        rest = PRECISION - self.bits - _FIRST_BITS
        uniform = int.from_bytes(stream(PRECISION // 8), "little") >> (PRECISION - rest)
        return uniform < self.thresholds[column] & ((1 << rest) - 1)


@dataclass(frozen=True)
class DiscreteGaussian:
    """Draws of N_Z(0, deviation²): one table, and the factors with which its draws are put together."""

    table: Table
    factors: tuple[int, ...]

    @classmethod
    @functools.lru_cache(maxsize=32)
    def of(cls, deviation: float) -> DiscreteGaussian:
        """The least number of levels whose table is small enough for a core's own cache.

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
        found = np.empty(count, dtype=np.int64)
        for at in range(0, count, _AT_ONCE):  # few enough at once to stay in a core's own cache
            part = found[at : at + _AT_ONCE]
            part[:] = self.table.draw(len(part), stream)
            for factor in self.factors:
                part *= factor
                part += self.table.draw(len(part), stream)
        return found


def _split(variance: Fraction, levels: int) -> tuple[int, Fraction]:
    """The largest factor k with which so many levels keep r, and the variance s² of each one's draws."""
    if levels == 1:
        return 1, variance

    def each(k: int) -> Fraction:
        return variance / sum(k ** (2 * level) for level in range(levels))

    def keeps(k: int) -> bool:
        # The innermost level has the least r: there t = s.
        return (1 + k * k) * _LEAST_R**2 <= each(k)

    low, high = 1, 2
    while keeps(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return low, each(low)


def _reach(variance: Fraction) -> int:
    """The largest value in a table."""
    return math.ceil(_TAIL * math.sqrt(variance)) + 1


def table_of(variance: Fraction) -> Table:
    """The alias table of N_Z(0, variance)."""
    reach = _reach(variance)
    half = probabilities(variance, reach)
    masses = [*reversed(half[1:]), *half]
    masses[reach] += (1 << PRECISION) - sum(masses)  # what rounding down has left
    bits = max(1, (len(masses) - 1).bit_length())
    masses += [0] * ((1 << bits) - len(masses))
    thresholds, alias = _aliased(masses, 1 << (PRECISION - bits))
    shift = PRECISION - bits - _FIRST_BITS
    first = np.array([each >> shift for each in thresholds], dtype=np.uint32)
    return Table(bits, reach, tuple(thresholds), first, np.array(alias, dtype=np.int64))


def probabilities(variance: Fraction, reach: int) -> list[int]:
    """P(0), …, P(reach) of N_Z(0, variance) restricted to ±reach, in multiples of 2⁻¹⁹² and rounded down."""
    guard = 2 * PRECISION
    with localcontext() as context:
        context.prec = guard  # decimal digits: more than the bits that are kept
        exponent = -Decimal(variance.denominator) / (2 * Decimal(variance.numerator))
        ratio = int(exponent.exp() * (1 << guard))
    square, step, weight = ratio * ratio >> guard, ratio, 1 << guard
    weights = [weight]
    for _ in range(reach):  # exp(−(n+1)²/2v) = exp(−n²/2v) · exp(−1/2v)^(2n+1)
        weight = weight * step >> guard
        step = step * square >> guard
        weights.append(weight)
    total = 2 * sum(weights) - weights[0]
    return [(each << PRECISION) // total for each in weights]


def _aliased(masses: list[int], room: int) -> tuple[list[int], list[int]]:
    """Thresholds and aliases: of each column's room, what is below the threshold is its own (Vose 1991)."""
    left, alias = list(masses), list(range(len(masses)))
    small = [column for column, mass in enumerate(left) if mass < room]
    large = [column for column, mass in enumerate(left) if mass >= room]
    thresholds = [0] * len(masses)  # nothing of its own, and itself as alias: the same as all of its own
    while small and large:
        least, giver = small.pop(), large[-1]
        thresholds[least], alias[least] = left[least], giver
        left[giver] -= room - left[least]
        if left[giver] < room:
            small.append(large.pop())
    return thresholds, alias
