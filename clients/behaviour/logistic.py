"""A logistic regression that a league learns from each site's rows, and that each site fits further at home.

Invariant: the loss is the sum over the site's rows times rows^-1/2. The gradient per user is the plain sum over that
user's rows, so that adding or removing a user changes the sum over all users by that user's gradient alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Ints
from clients.training.moves import Vector

LEAGUE_STRENGTH, LEAGUE_ROUNDS = 10.0, 12
"""λ of a site's move, and after how many rounds with momentum 0.5 a league of some dozen sites has settled."""
CLIP, PRIVATE_RATE, PRIVATE_STEPS = 16.0, 0.5, 8
"""Under differential privacy: each user's gradient is cut at `CLIP`; a step moves the weights by −`PRIVATE_RATE` times
the noisy sum over (`CLIP` · users), with momentum 0.5. Chosen on earlier weeks; 6 to 16 steps give much the same."""


@dataclass(frozen=True)
class LogisticPart:
    """One site's rows of one yes-or-no question: a `clients.training.moves.LeaguePart`.

    Parameters
    ----------
    x : (rows, k) standardised features, the constant among them.
    label : (rows,) 0 or 1.
    user : (rows,) whose row it is.
    """

    name: str
    x: NDArray[np.float64]
    label: Ints
    user: Ints

    def start(self) -> Vector:
        """No feature counts for anything."""
        return np.zeros(self.x.shape[1])

    def loss(self, weights: Vector) -> tuple[float, Vector]:
        """Negative log likelihood times rows^-1/2, and its gradient."""
        if not len(self.x):
            return 0.0, np.zeros_like(weights)
        logits, scale = self.x @ weights, len(self.x) ** -0.5
        likelihood = np.logaddexp(0.0, logits) - self.label * logits
        return float(likelihood.sum()) * scale, self.x.T @ (chances(logits) - self.label) * scale

    def curvature(self, weights: Vector) -> Vector:
        """Second derivatives (k, k) of the loss."""
        if not len(self.x):
            return np.zeros((len(weights), len(weights)))
        chance = chances(self.x @ weights)
        return (self.x * (chance * (1.0 - chance))[:, None]).T @ self.x * len(self.x) ** -0.5

    def user_gradients(self, weights: Vector) -> Vector:
        """(users with rows, k), in the order of the users' numbers."""
        users, place = np.unique(self.user, return_inverse=True)
        sums = np.zeros((len(users), self.x.shape[1]))
        np.add.at(sums, place, (chances(self.x @ weights) - self.label)[:, None] * self.x)
        return sums


def chances(logits: Vector) -> Vector:
    """The logistic function, without overflow."""
    return 0.5 * (1.0 + np.tanh(logits / 2.0))
