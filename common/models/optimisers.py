"""Server optimisers: how the mean update of a round moves the shared model.

Reddi et al., "Adaptive Federated Optimization" (ICLR 2021), Algorithm 2, where −Δ plays the gradient:

    average    x ← x + η·Δ
    momentum   m ← β·m + Δ                x ← x + η·m
    adam       m ← β₁·m + (1−β₁)·Δ        v ← β₂·v + (1−β₂)·Δ²      x ← x + η·m / (√v + τ)

Invariant: a step depends only on the vectors in `state()`, so a resumed run continues bit for bit.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from common.errors import RunError
from common.protocol.wire import FloatVector
from common.settings.config import RoundsConfig

_BETA2 = np.float32(0.99)
_TAU = np.float32(1e-3)


class ServerOptimiser(ABC):
    """Moves a float32 model by a float32 mean update of the same shape."""

    def __init__(self, learning_rate: float) -> None:
        self._rate = np.float32(learning_rate)

    @abstractmethod
    def step(self, model: FloatVector, update: FloatVector) -> FloatVector:
        """The next model; neither argument is changed."""

    def state(self) -> dict[str, FloatVector]:
        """Vectors that the next step needs."""
        return {}

    def restore(self, state: dict[str, FloatVector]) -> None:
        """Continue from the state of an earlier process.

        Raises
        ------
        RunError : the state belongs to another optimiser.
        """
        if set(state) - set(self.state()):
            raise RunError("the checkpoint holds the state of another server optimiser", where="checkpoint")


class Average(ServerOptimiser):
    """FedAvg with a server learning rate."""

    def step(self, model: FloatVector, update: FloatVector) -> FloatVector:
        return model + self._rate * update


class Momentum(ServerOptimiser):
    """FedAvgM: heavy-ball momentum on the mean updates."""

    def __init__(self, learning_rate: float, beta: float, size: int) -> None:
        super().__init__(learning_rate)
        self._beta = np.float32(beta)
        self._m = np.zeros(size, dtype=np.float32)

    def step(self, model: FloatVector, update: FloatVector) -> FloatVector:
        self._m = self._beta * self._m + update
        return model + self._rate * self._m

    def state(self) -> dict[str, FloatVector]:
        return {"optimiser.m": self._m}

    def restore(self, state: dict[str, FloatVector]) -> None:
        super().restore(state)
        self._m = state["optimiser.m"]


class Adam(ServerOptimiser):
    """FedAdam, with v starting at τ² as in the paper and no bias correction."""

    def __init__(self, learning_rate: float, beta1: float, size: int) -> None:
        super().__init__(learning_rate)
        self._beta1 = np.float32(beta1)
        self._m = np.zeros(size, dtype=np.float32)
        self._v = np.full(size, _TAU * _TAU, dtype=np.float32)

    def step(self, model: FloatVector, update: FloatVector) -> FloatVector:
        one = np.float32(1)
        self._m = self._beta1 * self._m + (one - self._beta1) * update
        self._v = _BETA2 * self._v + (one - _BETA2) * update * update
        return np.asarray(model + self._rate * self._m / (np.sqrt(self._v) + _TAU), dtype=np.float32)

    def state(self) -> dict[str, FloatVector]:
        return {"optimiser.m": self._m, "optimiser.v": self._v}

    def restore(self, state: dict[str, FloatVector]) -> None:
        super().restore(state)
        self._m, self._v = state["optimiser.m"], state["optimiser.v"]


def optimiser_for(rounds: RoundsConfig, size: int) -> ServerOptimiser:
    """The optimiser that the league agreed on, for a model of `size` numbers."""
    if rounds.optimiser == "momentum":
        return Momentum(rounds.server_learning_rate, rounds.momentum, size)
    if rounds.optimiser == "adam":
        return Adam(rounds.server_learning_rate, rounds.momentum, size)
    return Average(rounds.server_learning_rate)
