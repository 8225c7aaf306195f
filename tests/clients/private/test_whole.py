"""Whole-number noise: a discrete Gaussian of the promised deviation, independent, and never the same twice."""

from __future__ import annotations

import numpy as np
import pytest

from clients.private.noise import SystemNoise
from clients.private.whole import SeededWhole, discrete_gaussian
from clients.private.whole_site import site_update
from common.errors import PrivacyError


def test_draws_have_the_promised_shape_and_two_runs_differ() -> None:
    count, deviation = 100_000, 7.5
    first, second = discrete_gaussian(count, deviation), discrete_gaussian(count, deviation)
    error = count**-0.5
    for drawn in (first, second):
        assert drawn.dtype == np.int64
        assert abs(drawn.mean() / deviation) < 7 * error
        assert abs(drawn.std() / deviation - 1) < 7 * error
        assert abs((drawn[1:] * drawn[:-1]).mean() / deviation**2) < 7 * error
    assert abs((first - second).std() / deviation - 2**0.5) < 10 * error
    near = np.mean(np.abs(first) <= 2)
    weights = np.exp(-(np.arange(-200, 201) ** 2) / (2 * deviation**2))
    exact = weights[198:203].sum() / weights.sum()
    assert abs(near - exact) < 7 * (exact * (1 - exact) / count) ** 0.5


def test_small_deviations_are_exact_too() -> None:
    drawn = discrete_gaussian(50_000, 0.5)
    weights = np.exp(-(np.arange(-20, 21) ** 2) / 0.5)
    for value in (0, 1, -1):
        exact = weights[20 + value] / weights.sum()
        assert abs(np.mean(drawn == value) - exact) < 7 * (exact * (1 - exact) / 50_000) ** 0.5


def test_a_seed_replays() -> None:
    assert np.array_equal(SeededWhole(3)(50, 9.0), SeededWhole(3)(50, 9.0))


def test_a_site_as_unit_is_refused_with_the_figure_where_noise_would_drown_it() -> None:
    update = np.full(40_000, 0.001, np.float32)
    with pytest.raises(PrivacyError, match="at least 1000 times the update of") as fault:
        site_update(update, 1.0, 5.0, SystemNoise(), "site 'a'")
    assert (
        "(5000 times)" in fault.value.why
    )  # the update's own norm is 0.2 of the clip; that figure stays in the log
    assert "mode=user" in fault.value.next_step


def test_a_site_as_unit_is_hidden_where_noise_leaves_something() -> None:
    update = np.array([3.0, 4.0], np.float32)
    told = np.stack([site_update(update, 1.0, 1.0, SystemNoise(), "a") for _ in range(4000)])
    assert np.allclose(told.mean(0), [0.6, 0.8], atol=0.1)
    assert np.allclose(told.std(0), 1.0, atol=0.1)
