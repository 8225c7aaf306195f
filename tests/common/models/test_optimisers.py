"""Laws of the server optimisers (Reddi et al. 2021)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import RunError
from common.models.optimisers import optimiser_for
from common.settings.config import RoundsConfig
from common.settings.load import load_config

KINDS: list[Literal["average", "momentum", "adam"]] = ["average", "momentum", "adam"]
SEEDS = st.integers(0, 2**32 - 1)


def _rounds(kind: str, rate: float = 1.0, momentum: float = 0.9) -> RoundsConfig:
    return load_config(
        {"rounds": {"optimiser": kind, "server_learning_rate": rate, "momentum": momentum}}
    ).rounds


def _vectors(seed: int, count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(count, 17)).astype(np.float32))


@given(SEEDS)
def test_average_at_rate_one_adds_the_update(seed: int) -> None:
    model, update = _vectors(seed, 2)
    assert np.array_equal(optimiser_for(_rounds("average"), 17).step(model, update), model + update)


@given(SEEDS)
def test_momentum_without_memory_is_the_average(seed: int) -> None:
    model, *updates = _vectors(seed, 4)
    plain, heavy = (
        optimiser_for(_rounds("average", 0.5), 17),
        optimiser_for(_rounds("momentum", 0.5, 0.0), 17),
    )
    left = right = model
    for update in updates:
        left, right = plain.step(left, update), heavy.step(right, update)
    assert np.array_equal(left, right)


@given(SEEDS)
def test_momentum_matches_the_closed_form(seed: int) -> None:
    model, *updates = _vectors(seed, 4)
    optimiser = optimiser_for(_rounds("momentum", 0.1, 0.9), 17)
    moved = model
    for update in updates:
        moved = optimiser.step(moved, update)
    d1, d2, d3 = (update.astype(np.float64) for update in updates)
    truth = model + 0.1 * (d1 + (0.9 * d1 + d2) + (0.81 * d1 + 0.9 * d2 + d3))
    np.testing.assert_allclose(moved, truth, rtol=1e-4, atol=1e-5)


@given(SEEDS)
def test_adam_moves_with_the_update_and_by_a_bounded_step(seed: int) -> None:
    model, update = _vectors(seed, 2)
    moved = optimiser_for(_rounds("adam", 0.01), 17).step(model, update) - model
    assert np.all(np.abs(moved) <= 0.01 * 1.01)
    big = np.abs(update) > 1e-2
    assert np.array_equal(np.sign(moved)[big], np.sign(update)[big])


@settings(deadline=None, max_examples=50)
@given(
    st.floats(0.01, 2.0),
    st.floats(0.0, 0.95),
    st.lists(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=2), min_size=1, max_size=6),
)
def test_adam_is_algorithm_two_with_v_from_tau_squared(
    rate: float, beta1: float, updates: list[list[float]]
) -> None:
    optimiser, model = optimiser_for(_rounds("adam", rate, beta1), 2), np.array([0.5, -0.25], np.float32)
    for update in updates:
        model = optimiser.step(model, np.array(update, np.float32))
    truth = [0.5, -0.25]
    for place in range(2):
        m, v = 0.0, 1e-3**2
        for update in updates:
            m = beta1 * m + (1 - beta1) * update[place]
            v = 0.99 * v + 0.01 * update[place] ** 2
            truth[place] += rate * m / (math.sqrt(v) + 1e-3)
    assert model == pytest.approx(truth, rel=1e-3, abs=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.floats(1e-30, 1e-5), st.floats(0.0, 0.9))
def test_a_tiny_update_moves_adam_by_a_tiny_step(update: float, beta1: float) -> None:
    """Were v to start at 0, the first step would be of one size however small the update is."""
    optimiser = optimiser_for(_rounds("adam", 1.0, beta1), 1)
    moved = float(optimiser.step(np.zeros(1, np.float32), np.array([update], np.float32))[0])
    assert 0 <= moved <= 1.01 * (1 - beta1) * update / (1e-3 * (math.sqrt(0.99) + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_a_restored_optimiser_continues_bit_for_bit(kind: str) -> None:
    model, *updates = _vectors(1, 6)
    whole, first = optimiser_for(_rounds(kind), 17), optimiser_for(_rounds(kind), 17)
    left = right = model
    for update in updates[:3]:
        left, right = whole.step(left, update), first.step(right, update)
    second = optimiser_for(_rounds(kind), 17)
    second.restore({name: tensor.copy() for name, tensor in first.state().items()})
    for update in updates[3:]:
        left, right = whole.step(left, update), second.step(right, update)
    assert left.tobytes() == right.tobytes()


def test_state_of_another_optimiser_is_refused() -> None:
    state = optimiser_for(_rounds("adam"), 17).state()
    with pytest.raises(RunError, match="another server optimiser"):
        optimiser_for(_rounds("momentum"), 17).restore(state)


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_stay_as_they_were(kind: str) -> None:
    model, update = _vectors(2, 2)
    before = model.copy(), update.copy()
    optimiser = optimiser_for(_rounds(kind), 17)
    optimiser.step(optimiser.step(model, update), update)
    assert np.array_equal(model, before[0])
    assert np.array_equal(update, before[1])
