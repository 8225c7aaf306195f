"""How a league learns a few numbers from each site's own rows: every site answers with its move.

At league weights w a site's move is argmin_δ loss(w + δ) + λ/2·|δ|²: where its own rows would take the weights, held
by a spring. The league adds the mean of the moves. Where that mean is zero, w is the mean of a normal prior with
precision λ around which each site has its own weights: the maximum a posteriori of a hierarchical model, found as by
EM (Gelman et al., Bayesian Data Analysis, ch. 5; federated as in Pillutla et al. 2022, arXiv:2205.14840). At home the
same function gives the site its weights: ``w + move(part, w, λ)``.

Invariant: a move never raises ``loss(w + δ) + λ/2·|δ|²`` above its value at δ = 0, and a part without rows stays.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

MOST_STEPS, ENOUGH = 50, 1e-8  # of the loss: what a step could still win
Vector = NDArray[np.float64]


class LeaguePart(Protocol):
    """A few numbers that a league learns from each site's own rows."""

    @property
    def name(self) -> str:
        """Name of the numbers in the league's layout, e.g. ``behaviour.purchase_7d``."""

    def start(self) -> Vector:
        """The public first weights (k,)."""

    def loss(self, weights: Vector) -> tuple[float, Vector]:
        """This site's negative log likelihood at the weights, and its gradient (k,).

        It is the sum over the site's rows times rows^-1/2, so that large sites don't drown small ones.
        """

    def curvature(self, weights: Vector) -> Vector:
        """Second derivatives (k, k) of the loss; positive semidefinite."""

    def user_gradients(self, weights: Vector) -> Vector:
        """Per user with rows, the gradient of the sum over the user's rows: (users, k), for clipping by user."""


def move(part: LeaguePart, weights: Vector, strength: float, steps: int = MOST_STEPS) -> Vector:
    """The site's move (k,) from the league's weights, by Newton steps that are halved until they help.

    Parameters
    ----------
    strength : λ > 0, how firmly the weights hold the site.
    steps : Newton steps at most; in rounds that follow each other two are enough.
    """

    def held(delta: Vector) -> tuple[float, Vector]:
        loss, gradient = part.loss(weights + delta)
        return loss + strength / 2 * float(delta @ delta), gradient + strength * delta

    delta = np.zeros_like(weights)
    value, gradient = held(delta)
    for _ in range(steps):
        curvature = part.curvature(weights + delta) + strength * np.eye(len(weights))
        step = -np.linalg.solve(curvature, gradient)
        if -float(gradient @ step) / 2 < ENOUGH * max(1.0, abs(value)):
            break
        length = 1.0
        while (nearer := held(delta + length * step))[0] > value and length > 1e-3:
            length /= 2
        if nearer[0] > value:
            break
        delta, (value, gradient) = delta + length * step, nearer
    return delta
