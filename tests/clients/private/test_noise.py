"""The noise is normal, independent, and never the same twice; bounds stand at more than six standard errors."""

from __future__ import annotations

import numpy as np

from clients.private.noise import SystemNoise, system_generator

DRAWS = 1_000_000


def test_a_million_draws_are_standard_normal_and_independent() -> None:
    drawn = SystemNoise()(DRAWS)
    error = DRAWS**-0.5
    assert abs(drawn.mean()) < 7 * error
    assert abs(drawn.std() - 1) < 7 * error
    assert abs((drawn**4).mean() - 3) < 7 * error * 96**0.5
    for lag in (1, 2, DRAWS // 2):
        assert abs((drawn[:-lag] * drawn[lag:]).mean()) < 7 * (DRAWS - lag) ** -0.5
    inside = (np.abs(drawn) < 1.96).mean()
    assert abs(inside - 0.95) < 7 * (0.95 * 0.05 / DRAWS) ** 0.5 + 1e-4


def test_no_two_sources_agree() -> None:
    first, second = SystemNoise()(DRAWS), SystemNoise()(DRAWS)
    assert not np.any(first == second)
    assert abs((first - second).std() - 2**0.5) < 0.02
    assert abs((first * second).mean()) < 7 * DRAWS**-0.5
    assert system_generator().random() != system_generator().random()


def test_one_source_goes_on_and_gives_odd_counts() -> None:
    noise = SystemNoise()
    assert noise(3).shape == (3,)
    assert not np.array_equal(noise(3), noise(3))
    uniform = noise.uniforms(DRAWS)
    assert uniform.min() > 0
    assert uniform.max() <= 1
