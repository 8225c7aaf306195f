"""Laws of the common footing of features: read from the catalogue alone, even, and silent about what is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from clients.data.standardise import ROW_NORM, Standard


def drawn(seed: int, n: int = 40, width: int = 12) -> NDArray[np.float32]:
    """Features with a common part, and of very different spread."""
    generator = np.random.default_rng(seed)
    spread = 10.0 ** generator.uniform(-2, 1, width)
    return (5 * spread + spread * generator.standard_normal((n, width))).astype(np.float32)


@given(st.integers(0, 1 << 30))
def test_the_catalogue_is_centred_and_of_one_length(seed: int) -> None:
    catalogue = drawn(seed)
    found = Standard.of(catalogue).scaled(catalogue).astype(np.float64)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-4)
    assert np.sqrt((found**2).sum(1).mean()) == pytest.approx(ROW_NORM, rel=1e-4)


@given(st.integers(0, 1 << 30))
def test_spread_is_evened_out_by_its_root(seed: int) -> None:
    catalogue = drawn(seed)
    before = catalogue.astype(np.float64).var(0)
    after = Standard.of(catalogue).scaled(catalogue).astype(np.float64).var(0)
    loud = before > 0.1 * before.mean()
    ratio = after[loud] / np.sqrt(before[loud])
    assert ratio.max() <= 1.01 * ratio.min() * np.sqrt(1.01)
    assert after.max() / after[after > 0].min() < before.max() / before.min()


def test_rows_that_stand_for_nothing_stay_zero() -> None:
    rows = drawn(1)
    rows[3] = 0
    found = Standard.of(rows[rows.any(1)]).scaled(rows)
    assert not found[3].any()
    assert found[[0, 1, 2, 4]].any(1).all()


def test_a_feature_that_never_varies_is_not_blown_up() -> None:
    catalogue = drawn(2)
    catalogue[:, 4] = 7.0
    factor = Standard.of(catalogue).factor
    assert factor[4] < 12 * factor.min()


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_things_say_nothing_of_spread(count: int) -> None:
    rows = drawn(3)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = Standard.of(rows[:count]).scaled(rows)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), ROW_NORM, rtol=1e-5)
