"""The noise is normal, independent, and never the same twice; bounds stand at more than six standard errors."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clients.dp.noise.sources import GRID, SeededNoise, SystemNoise, noisy_sum, system_generator
from common.privacy.shared_noise import TOLERANCE

DRAWS = 1_000_000


def test_a_million_draws_are_normal_and_independent() -> None:
    drawn = noisy_sum(np.zeros(DRAWS), 2.0, 0.5, SystemNoise()) / (TOLERANCE + DRAWS**0.5 / GRID)
    error = DRAWS**-0.5
    assert abs(drawn.mean()) < 7 * error
    assert abs(drawn.std() - 1) < 7 * error
    assert abs((drawn**4).mean() - 3) < 7 * error * 96**0.5
    for lag in (1, 2, DRAWS // 2):
        assert abs((drawn[:-lag] * drawn[lag:]).mean()) < 7 * (DRAWS - lag) ** -0.5
    inside = (np.abs(drawn) < 1.96).mean()
    assert abs(inside - 0.95) < 7 * (0.95 * 0.05 / DRAWS) ** 0.5 + 1e-4


def test_what_is_told_lies_on_a_grid_that_no_low_bit_can_leave() -> None:
    total = np.random.default_rng(0).normal(size=1000)
    for clip in (1.0, 0.3):
        steps = noisy_sum(total, clip, 1.0, SystemNoise()) * (GRID / clip)
        assert np.abs(steps - np.rint(steps)).max() < 1e-4
    still = noisy_sum(total, 1.0, 1e-12, SystemNoise())  # so little noise that the whole numbers get none
    assert np.abs(still - total).max() <= 0.5 / GRID


@pytest.mark.parametrize("size", [1, 4096])
def test_the_noise_is_measured_against_the_rounded_move(size: int) -> None:
    """Two neighbours differ by the clip and by rounding in each place; the deviation holds both."""
    asked: list[float] = []

    class Noted(SeededNoise):
        def whole(self, count: int, deviation: float) -> np.ndarray:
            asked.append(deviation)
            return np.zeros(count, np.int64)

    noisy_sum(np.zeros(size), 0.7, 3.0, Noted(0))
    assert asked == [pytest.approx(3.0 * (TOLERANCE * GRID + math.sqrt(size)), rel=1e-12)]


def test_no_two_sources_agree() -> None:
    first, second = (SystemNoise().whole(DRAWS, GRID) / GRID for _ in range(2))
    assert np.mean(first == second) < 1e-5
    assert abs((first - second).std() - 2**0.5) < 0.02
    assert abs((first * second).mean()) < 7 * DRAWS**-0.5
    assert system_generator().random() != system_generator().random()


def test_one_source_goes_on_and_gives_odd_counts() -> None:
    noise = SystemNoise()
    assert noise.whole(3, 5.0).shape == (3,)
    assert not np.array_equal(noise.whole(30, 1e5), noise.whole(30, 1e5))
    uniform = noise.uniforms(DRAWS)
    assert uniform.min() > 0
    assert uniform.max() <= 1


def test_only_a_seed_replays() -> None:
    assert np.array_equal(SeededNoise(3).whole(50, 9.0), SeededNoise(3).whole(50, 9.0))
    assert not np.array_equal(SeededNoise(3).whole(50, 9.0), SeededNoise(4).whole(50, 9.0))
