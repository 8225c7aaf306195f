"""One user changes a clipped sum by at most the clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.behaviour.logistic import LogisticPart
from clients.training.clipped import clipped_sum


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), clip=st.floats(0.01, 100), gone=st.integers(0, 8))
def test_without_a_user_the_sum_moves_by_at_most_the_clip(seed: int, clip: float, gone: int) -> None:
    generator = np.random.default_rng(seed)
    x, user = generator.normal(size=(50, 5)) * generator.choice([0.1, 1, 30]), generator.integers(0, 9, 50)
    label = generator.integers(0, 2, 50)
    stays, weights = user != gone, generator.normal(size=5)
    whole = clipped_sum(LogisticPart("t", x, label, user), weights, clip)
    rest = clipped_sum(LogisticPart("t", x[stays], label[stays], user[stays]), weights, clip)
    assert np.linalg.norm(whole - rest) <= 1.0001 * clip


def test_small_gradients_are_left_whole_and_large_ones_cut() -> None:
    x, label, user = np.array([[3.0, 4.0], [0.0, 0.2]]), np.array([0, 0]), np.array([1, 2])
    total = clipped_sum(LogisticPart("t", x, label, user), np.zeros(2), 1.0)
    assert total == pytest.approx([0.6, 0.8 + 0.1])
