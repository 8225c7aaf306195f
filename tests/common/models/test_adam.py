"""The server optimisers on two numbers, followed by hand; Adam against Algorithm 2 of Reddi et al. in slow doubles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import RunError
from common.models.optimisers import Adam, Average, Momentum, ServerOptimiser, optimiser_for
from common.settings.config import RoundsConfig
from common.settings.load import load_config


def _optimiser(kind: str, rate: float = 1.0, momentum: float = 0.9, size: int = 2) -> ServerOptimiser:
    return optimiser_for(
        load_config(
            {"rounds": {"optimiser": kind, "server_learning_rate": rate, "momentum": momentum}}
        ).rounds,
        size,
    )


def _vector(*values: float) -> Any:
    return np.array(values, dtype=np.float32)


def _paper(
    rate: float, beta1: float, model: list[float], updates: list[list[float]]
) -> tuple[list[float], list[float]]:
    """Algorithm 2, FedAdam, one number at a time, with β₂ = 0.99, τ = 10⁻³ and v₋₁ = τ²."""
    moved, steps = list(model), [0.0] * len(model)
    for place in range(len(model)):
        m, v = 0.0, 1e-3**2
        for update in updates:
            m = beta1 * m + (1 - beta1) * update[place]
            v = 0.99 * v + 0.01 * update[place] ** 2
            steps[place] = rate * m / (math.sqrt(v) + 1e-3)
            moved[place] += steps[place]
    return moved, steps


def test_adams_first_step_from_tau_squared_by_hand() -> None:
    """m = 0.5·Δ; v = 0.99·10⁻⁶ + 0.01·Δ². For Δ = 0.01: m = 0.005, v = 1.99·10⁻⁶, step = 0.005 / 0.00241067."""
    moved = _optimiser("adam", 1.0, 0.5).step(_vector(0.0, 1.0), _vector(0.01, 0.0))
    assert moved[0] == pytest.approx(0.005 / (math.sqrt(1.99e-6) + 0.001), rel=1e-5)
    assert moved[0] == pytest.approx(2.074118, rel=1e-5)
    assert moved[1] == 1.0


def test_adam_starts_from_tau_squared_and_no_momentum() -> None:
    state = _optimiser("adam").state()
    assert sorted(state) == ["optimiser.m", "optimiser.v"]
    assert state["optimiser.m"].tolist() == [0.0, 0.0]
    assert state["optimiser.v"] == pytest.approx([1e-6, 1e-6], rel=1e-6)
    assert state["optimiser.v"].dtype == np.float32


def test_adams_second_step_by_hand() -> None:
    """Δ = 1 then 3, β₁ = 0.5: m = 0.5 → 1.75; v = 0.99·10⁻⁶ + 0.01 → 0.99·that + 0.09."""
    optimiser = _optimiser("adam", 2.0, 0.5, size=1)
    moved = optimiser.step(_vector(0.0), _vector(1.0))
    v = 0.99e-6 + 0.01
    assert optimiser.state()["optimiser.m"] == pytest.approx([0.5])
    assert optimiser.state()["optimiser.v"] == pytest.approx([v], rel=1e-6)
    assert moved == pytest.approx([2 * 0.5 / (math.sqrt(v) + 1e-3)], rel=1e-5)
    again = optimiser.step(moved, _vector(3.0))
    w = 0.99 * v + 0.09
    assert optimiser.state()["optimiser.m"] == pytest.approx([1.75])
    assert optimiser.state()["optimiser.v"] == pytest.approx([w], rel=1e-6)
    assert again - moved == pytest.approx([2 * 1.75 / (math.sqrt(w) + 1e-3)], rel=1e-5)


@settings(deadline=None, max_examples=60)
@given(
    st.floats(0.01, 2.0),
    st.floats(0.0, 0.95),
    st.lists(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=2), min_size=1, max_size=6),
)
def test_adam_is_algorithm_two(rate: float, beta1: float, updates: list[list[float]]) -> None:
    optimiser, model = _optimiser("adam", rate, beta1), _vector(0.5, -0.25)
    for update in updates:
        model = optimiser.step(model, _vector(*update))
    truth, _ = _paper(rate, beta1, [0.5, -0.25], updates)
    assert model == pytest.approx(truth, rel=1e-3, abs=1e-4)
    assert model.dtype == np.float32


@settings(deadline=None, max_examples=30)
@given(st.floats(1e-30, 1e-5), st.floats(0.0, 0.9))
def test_a_tiny_update_moves_adam_by_a_tiny_step(update: float, beta1: float) -> None:
    """Were v to start at 0, the first step would be of the same size however small the update is."""
    moved = _optimiser("adam", 1.0, beta1, size=1).step(_vector(0.0), _vector(update))
    assert abs(float(moved[0])) <= (1 - beta1) * update / (1e-3 * (math.sqrt(0.99) + 1)) * 1.01


def test_momentum_and_average_by_hand() -> None:
    average = _optimiser("average", 0.5)
    assert average.step(_vector(1.0, 2.0), _vector(2.0, -4.0)).tolist() == [2.0, 0.0]
    assert average.state() == {}
    heavy = _optimiser("momentum", 0.5, 0.25)
    assert heavy.state()["optimiser.m"].tolist() == [0.0, 0.0]
    moved = heavy.step(_vector(1.0, 2.0), _vector(2.0, -4.0))
    assert moved.tolist() == [2.0, 0.0]
    # m = 0.25·(2, −4) + (4, 8) = (4.5, 7)
    assert heavy.step(moved, _vector(4.0, 8.0)).tolist() == [4.25, 3.5]
    assert heavy.state()["optimiser.m"].tolist() == [4.5, 7.0]
    assert list(heavy.state()) == ["optimiser.m"]


@pytest.mark.parametrize("kind", ["average", "momentum", "adam"])
def test_numbers_stay_single(kind: str) -> None:
    moved = _optimiser(kind, 0.1).step(_vector(1.0, 2.0), _vector(3.0, 4.0))
    assert moved.dtype == np.float32
    assert moved.shape == (2,)


def test_the_contract_names_the_optimiser() -> None:
    kinds = {"average": Average, "momentum": Momentum, "adam": Adam}
    assert {kind: type(_optimiser(kind)) for kind in kinds} == kinds
    assert isinstance(optimiser_for(RoundsConfig(), 3), Momentum)
    for kind in ("momentum", "adam"):
        assert all(vector.shape == (5,) for vector in _optimiser(kind, size=5).state().values())


@pytest.mark.parametrize("kind", ["momentum", "adam"])
def test_what_is_restored_is_what_the_next_step_starts_from(kind: str) -> None:
    used = _optimiser(kind)
    used.step(_vector(0.0, 0.0), _vector(1.0, -2.0))
    kept = {name: vector.copy() for name, vector in used.state().items()}
    other = _optimiser(kind)
    other.restore(kept)
    assert {name: vector.tolist() for name, vector in other.state().items()} == {
        name: vector.tolist() for name, vector in kept.items()
    }


def test_the_state_of_one_that_remembers_more_is_refused() -> None:
    for kind, other in (("average", "momentum"), ("average", "adam"), ("momentum", "adam")):
        with pytest.raises(RunError) as caught:
            _optimiser(kind).restore(_optimiser(other).state())
        assert caught.value.what == "the checkpoint holds the state of another server optimiser"
        assert caught.value.where == "checkpoint"
    _optimiser("average").restore({})
