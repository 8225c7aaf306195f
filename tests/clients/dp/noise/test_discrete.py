"""The tables hold the discrete Gaussian to 2⁻¹⁶⁰, draws follow them, and large deviations are put together rightly."""

from __future__ import annotations

import itertools
import math
import os
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest

from clients.dp.noise.discrete import PRECISION, AliasTable, DiscreteGaussian, table_of
from clients.dp.noise.sources import SystemNoise

ONE = 1 << PRECISION


def exact(variance: Fraction, values: range) -> dict[int, Decimal]:
    """Probabilities by the formula, with 120 digits and a sum over all that counts."""
    with localcontext() as context:
        context.prec = 120
        double = 2 * Decimal(variance.numerator) / Decimal(variance.denominator)
        reach = math.ceil(40 * math.sqrt(variance)) + 5
        weights = {n: (-Decimal(n * n) / double).exp() for n in range(-reach, reach + 1)}
        total = sum(weights.values())
        return {n: weights.get(n, Decimal(0)) / total for n in values}


def held(table: AliasTable) -> dict[int, int]:
    """What the table's columns give each value, in multiples of 2⁻¹⁹²."""
    room = 1 << (PRECISION - table.bits)
    found: dict[int, int] = {}
    for column, (bound, alias) in enumerate(zip(table.thresholds, table.alias.tolist(), strict=True)):
        assert 0 <= bound < room
        for value, mass in ((column, bound), (alias, room - bound)):
            found[value - table.middle] = found.get(value - table.middle, 0) + mass
    return found


@pytest.mark.parametrize("deviation", [0.05, 0.5, 1.0, 7.3, 45.0])
def test_a_table_holds_the_distribution_to_the_last_bit(deviation: float) -> None:
    variance = Fraction(deviation) ** 2
    table = table_of(variance)
    masses = held(table)
    assert sum(masses.values()) == ONE
    truth = exact(variance, range(min(masses), max(masses) + 1))
    with localcontext() as context:
        context.prec = 120
        distance = sum(abs(Decimal(masses[n]) / ONE - truth[n]) for n in masses) / 2
    assert distance < Decimal(2) ** -175
    shift = PRECISION - table.bits - 32
    assert [each >> shift for each in table.thresholds] == table.first.tolist()


@pytest.mark.parametrize("deviation", [30.0, 97.7])
def test_draws_put_together_have_the_distribution_at_every_value(deviation: float) -> None:
    """The exact sum of the tables' draws, against the formula: a ratio of 1 far into the tails."""
    from clients.dp.noise.discrete import _split

    for levels in (2, 3) if deviation > 90 else (2,):
        factor, variance = _split(Fraction(deviation) ** 2, levels)
        assert variance * sum(factor ** (2 * level) for level in range(levels)) == Fraction(deviation) ** 2
        each = held(table_of(variance))
        total = {0: 1}
        for _ in range(levels):
            found: dict[int, int] = {}
            for (n, p), (m, q) in itertools.product(total.items(), each.items()):
                found[m + factor * n] = found.get(m + factor * n, 0) + p * q
            total = found
        values = range(0, math.ceil(9 * deviation), 7)
        truth = exact(Fraction(deviation) ** 2, values)
        with localcontext() as context:
            context.prec = 120
            for n in values:
                ratio = Decimal(total[n]) / (Decimal(ONE) ** levels) / truth[n]
                assert abs(ratio - 1) < Decimal(2) ** -100, n  # at 9 deviations 2⁻⁵⁸ is left of 2⁻¹⁶⁰


@pytest.mark.parametrize("deviation", [0.5, 3.0, 495.0, 1000.0, 2.0**20])
def test_draws_follow_the_distribution(deviation: float) -> None:
    """Chi-square over cells of equal probability, far tails in cells of their own; moments; no two draws alike."""
    count = 400_000
    drawn = SystemNoise().whole(count, deviation)
    assert drawn.dtype == np.int64
    if deviation > 2:  # below, the discrete variance is less than σ²
        assert abs(drawn.std() / deviation - 1) < 7 / math.sqrt(2 * count)
    assert abs(drawn.mean() / deviation) < 7 / math.sqrt(count)
    assert abs((drawn[1:] * drawn[:-1]).mean() / deviation**2) < 7 / math.sqrt(count)
    edges = sorted({round(deviation * z) for z in (-4.5, *np.linspace(-3, 3, 25), 4.5)})
    share = _cells(deviation, edges)
    seen = np.bincount(np.searchsorted(edges, drawn, side="left"), minlength=len(edges) + 1)
    likely = share * count > 1
    chi_square = ((seen - share * count)[likely] ** 2 / (share * count)[likely]).sum()
    freedom = likely.sum() - 1
    assert chi_square < freedom + 7 * math.sqrt(2 * freedom) + 20
    assert seen[~likely].sum() < 30


def _cells(deviation: float, edges: list[int]) -> np.ndarray:
    """Probabilities of (−∞, e₀], (e₀, e₁], …"""
    step = max(1, int(deviation) // 4000)
    reach = int(12 * deviation) + 20
    values = np.arange(-reach, reach + 1, step)
    weights = np.exp(-((values / deviation) ** 2) / 2)
    below = np.concatenate([[0.0], np.cumsum(weights)]) / weights.sum()
    at = below[np.searchsorted(values, edges, side="right")]
    return np.diff(np.concatenate([[0.0], at, [1.0]]))


def test_opendps_sampler_draws_the_same() -> None:
    """Two samples, one of each, in cells: as alike as two of one kind."""
    import opendp.prelude as dp

    dp.enable_features("contrib")
    count, deviation = 60_000, 12.5
    space = dp.vector_domain(dp.atom_domain(T="i64"), size=count), dp.l2_distance(T="f64")
    theirs = np.asarray(dp.m.make_gaussian(*space, deviation)([0] * count))
    ours = SystemNoise().whole(count, deviation)
    edges = np.arange(-31, 32, 2)
    one, two = (np.bincount(np.searchsorted(edges, each), minlength=33) for each in (theirs, ours))
    chi_square = ((one - two) ** 2 / (one + two)).sum()
    assert chi_square < 32 + 7 * 8


def test_where_the_first_bits_are_equal_the_others_decide() -> None:
    table = table_of(Fraction(9, 1))
    column = table.middle + 1
    bound = table.thresholds[column]
    rest = PRECISION - table.bits - 32
    low = bound & ((1 << rest) - 1)
    word = (column << (64 - table.bits)) | int(table.first[column])
    for uniform, own in ((low - 1, True), (low, False), (low + 1, False)):
        chunks = iter([word.to_bytes(8, "little"), (uniform << (PRECISION - rest)).to_bytes(24, "little")])
        drawn = table.draw(1, lambda count, chunks=chunks: next(chunks))
        assert drawn[0] == (1 if own else table.alias[column] - table.middle)


def test_no_two_sources_agree_and_what_makes_no_sense_is_refused() -> None:
    first, second = (SystemNoise().whole(100_000, 1e6) for _ in range(2))
    assert np.mean(first == second) < 1e-3
    assert abs((first - second).std() / 1e6 - 2**0.5) < 0.02
    assert SystemNoise().whole(0, 3.0).shape == (0,)
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="deviation"):
            DiscreteGaussian.of(wrong)


def test_few_bytes_and_few_levels_are_enough() -> None:
    """What a draw costs: a word of the stream for each level, and tables of a core's own cache."""
    asked: list[int] = []

    def stream(count: int) -> bytes:
        asked.append(count)
        return os.urandom(count)

    for deviation, levels in ((200.0, 1), (1000.0, 2), (5 * 2.0**24, 4)):
        asked.clear()
        source = DiscreteGaussian.of(deviation)
        source(50_000, stream)
        assert len(source.factors) + 1 == levels
        assert sum(asked) < 50_000 * 8 * levels + 1000
        assert source.table.first.nbytes + source.table.alias.nbytes <= 200_000
