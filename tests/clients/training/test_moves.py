"""A site's move against slow truths: a derivative-free search, a closed form, and the hierarchical fixed point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from clients.training.moves import Vector, move


@dataclass(frozen=True)
class Logistic:
    """Rows of one site; labels 0 or 1."""

    x: Vector
    y: Vector
    name: str = "test.logistic"

    def start(self) -> Vector:
        return np.zeros(self.x.shape[1])

    def loss(self, weights: Vector) -> tuple[float, Vector]:
        z, scale = self.x @ weights, max(len(self.x), 1) ** -0.5
        slope = 1 / (1 + np.exp(-z)) - self.y
        return float((np.logaddexp(0, z) - self.y * z).sum()) * scale, self.x.T @ slope * scale

    def curvature(self, weights: Vector) -> Vector:
        p = 1 / (1 + np.exp(-self.x @ weights))
        return (self.x * (p * (1 - p))[:, None]).T @ self.x * max(len(self.x), 1) ** -0.5

    def user_gradients(self, weights: Vector) -> Vector:
        return (1 / (1 + np.exp(-self.x @ weights)) - self.y)[:, None] * self.x


@dataclass(frozen=True)
class Square:
    """loss = precision/2·|w − centre|²: the move has a closed form."""

    centre: Vector
    precision: float
    name: str = "test.square"

    def start(self) -> Vector:
        return np.zeros_like(self.centre)

    def loss(self, weights: Vector) -> tuple[float, Vector]:
        gap = weights - self.centre
        return self.precision / 2 * float(gap @ gap), self.precision * gap

    def curvature(self, weights: Vector) -> Vector:
        return self.precision * np.eye(len(weights))

    def user_gradients(self, weights: Vector) -> Vector:
        return self.loss(weights)[1][None]


def drawn(seed: int, rows: int = 40, k: int = 3) -> Logistic:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, k))
    return Logistic(x, (x[:, 0] + generator.normal(size=rows) > 0.3).astype(np.float64))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31), strength=st.floats(0.05, 50))
def test_a_move_is_the_minimum_that_a_search_without_gradients_finds(seed: int, strength: float) -> None:
    part, weights = drawn(seed), np.random.default_rng(seed + 1).normal(size=3)

    def held(delta: Vector) -> float:
        return part.loss(weights + delta)[0] + strength / 2 * float(delta @ delta)

    slow = minimize(
        held, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 4000}
    )
    fast = move(part, weights, strength)
    assert held(fast) <= slow.fun + 1e-7
    assert fast == pytest.approx(slow.x, abs=1e-3)


def test_the_closed_form_of_a_square_loss() -> None:
    found = move(Square(np.array([3.0, -1.0]), precision=2.0), np.array([1.0, 0.0]), strength=6.0)
    assert found == pytest.approx([2.0 * 2 / 8, -1.0 * 2 / 8], abs=1e-7)


def test_a_firm_league_holds_the_site_and_a_site_without_rows_stays() -> None:
    weights = np.ones(3)
    assert np.abs(move(drawn(0), weights, 1e6)).max() < 1e-4
    empty = Logistic(np.zeros((0, 3)), np.zeros(0))
    assert move(empty, weights, 1.0).tolist() == [0.0, 0.0, 0.0]


def test_adding_mean_moves_leads_to_the_hierarchical_posterior() -> None:
    """Sites of square loss: the league's fixed point weighs each centre by pλ/(p + λ)."""
    strength = 2.0
    sites = [Square(np.array([1.0]), 1.0), Square(np.array([4.0]), 6.0), Square(np.array([-2.0]), 0.5)]
    weights, momentum = np.zeros(1), np.zeros(1)
    for _ in range(60):
        momentum = 0.5 * momentum + np.mean([move(site, weights, strength) for site in sites], axis=0)
        weights = weights + momentum
    firmness = [site.precision * strength / (site.precision + strength) for site in sites]
    truth = np.average([site.centre[0] for site in sites], weights=firmness)
    assert weights[0] == pytest.approx(truth, abs=1e-6)
