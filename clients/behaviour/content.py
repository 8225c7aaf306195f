"""Linear heads on frozen vectors, learned by a league: what a review says of the customer, and an item's category.

A linear probe on the encoder's own vectors is hard to beat, so the head is one: a softmax regression that starts from
the league's weights and is fitted further at home. A site with few labels, or none, has the league's. At home the
candidates reach from the league as it is to nearly a probe of the site's own, and the validation rows choose.

The weights are some thousand numbers, too many for second derivatives: a move is found by L-BFGS. Invariant: as in
`clients.training.moves`, a move never raises loss + λ/2·|δ|² above its value at δ = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp

from clients.behaviour.choice import first_as_good
from clients.data.dataset import Ints
from clients.training.moves import Vector

FIRMNESS = (np.inf, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
LEAGUE_FIRMNESS, LEAGUE_ROUNDS = 1.0, 8
CERTAINTY = 2.0
"""Standard errors of the validation rows; a site leaves the league only where its own rows show it clearly."""
UNIT = 4.0
"""Vectors are scaled to this norm, so that weights of about 1 tell classes apart."""


@dataclass(frozen=True)
class Labelled:
    """Frozen vectors (n, d), a class of each, and who wrote or owns it."""

    x: Vector
    label: Ints
    owner: Ints

    def __len__(self) -> int:
        return len(self.x)

    def take(self, rows: Ints | NDArray[np.bool_]) -> Labelled:
        """Some of the rows."""
        return Labelled(self.x[rows], self.label[rows], self.owner[rows])


def labelled(vectors: NDArray[np.float32], label: Ints, owner: Ints) -> Labelled:
    """Rows with a label (not negative); vectors scaled to one norm, a constant added."""
    has_label = label >= 0
    x = vectors[has_label].astype(np.float64)
    x *= UNIT / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9)
    return Labelled(np.hstack([x, np.ones((len(x), 1))]), label[has_label], owner[has_label])


@dataclass(frozen=True)
class SoftmaxPart:
    """One site's rows of one question with several classes; its weights are (d · classes,), by row of (d, classes)."""

    name: str
    rows: Labelled
    classes: int

    def start(self) -> Vector:
        """No number of a vector counts for anything."""
        return np.zeros(self.rows.x.shape[1] * self.classes)

    def loss(self, weights: Vector) -> tuple[float, Vector]:
        """Negative log likelihood times rows^-1/2, and its gradient."""
        n = len(self.rows)
        if not n:
            return 0.0, np.zeros_like(weights)
        logs = log_chances(self.rows.x, weights, self.classes)
        slope = np.exp(logs)
        slope[np.arange(n), self.rows.label] -= 1.0
        gradient = (self.rows.x.T @ slope).ravel()
        return float(-logs[np.arange(n), self.rows.label].sum()) * n**-0.5, gradient * n**-0.5


def log_chances(x: Vector, weights: Vector, classes: int) -> Vector:
    """Log probabilities (n, classes)."""
    logits = x @ weights.reshape(-1, classes)
    return np.asarray(logits - logsumexp(logits, axis=1, keepdims=True))


def wide_move(part: SoftmaxPart, weights: Vector, strength: float) -> Vector:
    """argmin_δ loss(w + δ) + strength/2·|δ|², for many weights."""

    def held(delta: Vector) -> tuple[float, Vector]:
        loss, gradient = part.loss(weights + delta)
        return loss + strength / 2 * float(delta @ delta), gradient + strength * delta

    still = np.zeros_like(weights)
    options = {"maxiter": 500, "ftol": 1e-10, "gtol": 1e-5}
    found = minimize(held, still, jac=True, method="L-BFGS-B", options=options)
    return np.asarray(found.x) if found.fun <= held(still)[0] else still


def fit_content(part: SoftmaxPart, full: Labelled, valid: Labelled, league: Vector) -> tuple[Vector, float]:
    """The head's weights at home, and the firmness that was chosen.

    Parameters
    ----------
    part : rows before the validation rows.
    full : with them; the head is fitted on these once the firmness is chosen.
    league : the league's weights; zeros make this a ridge regression alone.
    """
    losses = [_losses(valid, _moved(part, league, firmness), part.classes) for firmness in FIRMNESS]
    firmness = FIRMNESS[first_as_good(losses, valid.owner, CERTAINTY)]
    return _moved(SoftmaxPart(part.name, full, part.classes), league, firmness), firmness


def accuracy(weights: Vector, rows: Labelled, classes: int) -> float:
    """Share of rows whose class was the likeliest; NaN without rows."""
    if not len(rows):
        return float("nan")
    return float((log_chances(rows.x, weights, classes).argmax(1) == rows.label).mean())


def _losses(rows: Labelled, weights: Vector, classes: int) -> Vector:
    return np.asarray(-log_chances(rows.x, weights, classes)[np.arange(len(rows)), rows.label])


def _moved(part: SoftmaxPart, weights: Vector, firmness: float) -> Vector:
    return weights if np.isinf(firmness) else weights + wide_move(part, weights, firmness)


def mean_of_moves(parts: Sequence[SoftmaxPart], weights: Vector) -> Vector:
    """One round of the league: the mean of the sites' moves (the server adds momentum)."""
    return np.asarray(np.mean([wide_move(part, weights, LEAGUE_FIRMNESS) for part in parts], axis=0))
