"""Server optimisers by hand (Reddi et al. 2021, Algorithm 2), on models of two numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from common.errors import RunError
from common.models.optimisers import Adam, Average, Momentum, ServerOptimiser, optimiser_for
from common.settings.config import RoundsConfig
from common.settings.load import load_config


def rounds(kind: str) -> RoundsConfig:
    return load_config({"rounds": {"optimiser": kind, "server_learning_rate": 0.5, "momentum": 0.75}}).rounds


def numbers(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_average_by_hand() -> None:
    optimiser = optimiser_for(rounds("average"), 2)
    assert type(optimiser) is Average
    moved = optimiser.step(numbers(1, 2), numbers(4, -8))
    assert moved.tolist() == [3.0, -2.0]
    assert moved.dtype == np.float32
    assert optimiser.state() == {}


def test_momentum_by_hand() -> None:
    optimiser = optimiser_for(rounds("momentum"), 2)
    assert type(optimiser) is Momentum
    assert optimiser.state()["optimiser.m"].tolist() == [0.0, 0.0]
    first = optimiser.step(numbers(1, 2), numbers(4, -8))
    assert first.tolist() == [3.0, -2.0]
    second = optimiser.step(first, numbers(1, 0))
    assert optimiser.state()["optimiser.m"].tolist() == [4.0, -6.0]
    assert second.tolist() == [5.0, -5.0]
    assert second.dtype == optimiser.state()["optimiser.m"].dtype == np.float32


def test_adam_by_hand() -> None:
    optimiser = optimiser_for(rounds("adam"), 2)
    assert type(optimiser) is Adam
    state = optimiser.state()
    assert list(state) == ["optimiser.m", "optimiser.v"]
    assert state["optimiser.m"].tolist() == [0.0, 0.0]
    assert state["optimiser.v"] == pytest.approx([1e-6, 1e-6], rel=1e-5)
    model, m, v = numbers(1, 2), [0.0, 0.0], [1e-6, 1e-6]
    truth = [1.0, 2.0]
    for update in ([4.0, -0.008], [1.0, 0.001], [-0.5, 0.0]):
        model = optimiser.step(model, numbers(*update))
        for at, number in enumerate(update):
            m[at] = 0.75 * m[at] + 0.25 * number
            v[at] = 0.99 * v[at] + 0.01 * number**2
            truth[at] += 0.5 * m[at] / (math.sqrt(v[at]) + 1e-3)
        assert model == pytest.approx(truth, rel=1e-4)
        assert optimiser.state()["optimiser.m"] == pytest.approx(m, rel=1e-4)
        assert optimiser.state()["optimiser.v"] == pytest.approx(v, rel=1e-4)
    assert model.dtype == np.float32
    assert {vector.dtype for vector in optimiser.state().values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("kind", ["average", "momentum", "adam"])
def test_a_size_and_a_rate_come_from_the_league(kind: str) -> None:
    optimiser = optimiser_for(rounds(kind), 3)
    assert [vector.shape for vector in optimiser.state().values()] == [(3,)] * len(optimiser.state())
    assert optimiser_for(rounds(kind), 3).step(numbers(0, 0, 0), numbers(0, 0, 0)).tolist() == [0.0] * 3


def test_a_state_is_taken_up_as_it_is() -> None:
    momentum = optimiser_for(rounds("momentum"), 2)
    momentum.restore({"optimiser.m": numbers(8, 4)})
    assert momentum.step(numbers(0, 0), numbers(0, 0)).tolist() == [3.0, 1.5]
    adam = optimiser_for(rounds("adam"), 1)
    adam.restore({"optimiser.m": numbers(4), "optimiser.v": numbers(100)})
    assert adam.step(numbers(0), numbers(0)) == pytest.approx([0.5 * 3 / (math.sqrt(99) + 1e-3)], rel=1e-5)


def test_the_state_of_another_optimiser_is_refused_and_nothing_is_taken_up() -> None:
    foreign = {"optimiser.m": numbers(1, 1), "optimiser.v": numbers(1, 1)}
    for kind in ("average", "momentum"):
        optimiser: ServerOptimiser = optimiser_for(rounds(kind), 2)
        with pytest.raises(RunError) as refused:
            optimiser.restore(foreign)
        assert refused.value.what == "the checkpoint holds the state of another server optimiser"
        assert refused.value.where == "checkpoint"
        assert optimiser.step(numbers(1, 2), numbers(4, -8)).tolist() == [3.0, -2.0]
    optimiser_for(rounds("average"), 2).restore({})
    with pytest.raises(RunError):
        optimiser_for(rounds("adam"), 2).restore({**foreign, "optimiser.u": numbers(1, 1)})


def test_the_base_cannot_be_used_alone() -> None:
    with pytest.raises(TypeError, match="abstract"):
        ServerOptimiser(1.0)  # type: ignore[abstract]
