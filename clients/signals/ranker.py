"""The ranker: a weighted sum of signals, learned by the league and fitted at home.

The likelihood is a softmax over each row's candidates, so it's convex in the weights. Both kinds of rows share a mean
weight a signal and may differ by a contrast: returning customers are scored with mean + contrast, baskets with
mean − contrast. Invariant: weights count in logits per signal's public scale, so they mean the same at every site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.signals.names import NAMES, OF_CUSTOMER, START
from clients.signals.rows import FitRows
from common.settings.config import PrivacyConfig

Vector = NDArray[np.float64]
Weights = NDArray[np.float64]
"""(2, signals): for returning customers, and for baskets."""
CONTRAST = 0.5  # a unit of contrast moves a weight by so much: kinds differ less than sites do
PART = "ranker"


@dataclass(frozen=True)
class Form:
    """Which numbers a league learns: of which signals, and whether the kinds may differ.

    >>> Form.of(PrivacyConfig(mode="site")).size == len(NAMES), Form.of(PrivacyConfig()).size == 2 * len(NAMES)
    (True, True)
    """

    signals: NDArray[np.bool_]
    contrast: bool

    @classmethod
    def of(cls, privacy: PrivacyConfig) -> Form:
        """By the league's privacy.

        Under privacy of users only signals that read no other customer; none where the units are records, whose
        samples know no history, or where each step draws its users anew.
        """
        if privacy.mode == "off":
            return ALL
        if privacy.mode == "site":
            return cls(ALL.signals, False)
        allowed = privacy.mode in ("user", "distributed") and privacy.sample_rate == 1
        return cls(OF_CUSTOMER if allowed else np.zeros_like(OF_CUSTOMER), False)

    @property
    def size(self) -> int:
        return int(self.signals.sum()) * (2 if self.contrast else 1)

    def weights(self, vector: Vector) -> Weights:
        """The weights (2, signals) of a league's vector, whose zero is the public start."""
        k = int(self.signals.sum())
        both = np.zeros((2, len(NAMES)))
        both[:, self.signals] = vector[:k]
        if self.contrast:
            both[:, self.signals] += CONTRAST * np.array([1.0, -1.0])[:, None] * vector[k:]
        return START + both

    def back(self, gradients: NDArray[np.float64], kind: NDArray[np.int64]) -> NDArray[np.float64]:
        """Gradients by weights (n, signals), each of a row of a kind, as gradients by the vector (n, size)."""
        chosen = gradients[:, self.signals]
        if not self.contrast:
            return chosen
        sign = np.where(kind == 0, CONTRAST, -CONTRAST)[:, None]
        return np.concatenate([chosen, sign * chosen], axis=1)


ALL = Form(np.ones(len(NAMES), bool), True)


class RankerPart:
    """A `LeaguePart` over a site's rows."""

    name = PART

    def __init__(self, rows: FitRows, form: Form) -> None:
        self.rows, self.form = rows, form
        self._scale = max(len(rows), 1) ** -0.5

    def start(self) -> Vector:
        """Zeros: the public start weights."""
        return np.zeros(self.form.size)

    def loss(self, weights: Vector) -> tuple[float, Vector]:
        """Negative log likelihood times rows^-1/2, and its gradient."""
        losses, gradients = row_losses(self.rows, self.form.weights(weights))
        summed = self.form.back(gradients, self.rows.kind).sum(0)
        return float(losses.sum()) * self._scale, summed * self._scale

    def curvature(self, weights: Vector) -> NDArray[np.float64]:
        """Second derivatives (size, size) of the loss, exact."""
        total = np.zeros((self.form.size, self.form.size))
        for kind, by_weights in enumerate(curvatures(self.rows, self.form.weights(weights))):
            across = self.form.back(np.eye(len(NAMES)), np.full(len(NAMES), kind))
            total += across.T @ by_weights @ across
        return total * self._scale

    def user_gradients(self, weights: Vector) -> Vector:
        """(users, size): the gradient of each user's rows."""
        _, gradients = row_losses(self.rows, self.form.weights(weights))
        users, place = np.unique(self.rows.user, return_inverse=True)
        summed = np.zeros((len(users), self.form.size))
        np.add.at(summed, place, self.form.back(gradients, self.rows.kind))
        return summed


def row_losses(rows: FitRows, weights: Weights) -> tuple[Vector, NDArray[np.float64]]:
    """Each row's negative log likelihood (n,), and its gradient by the row's own weights (n, signals)."""
    losses, gradients = np.zeros(len(rows)), np.zeros((len(rows), weights.shape[1]))
    for kind in (0, 1):
        mine = np.flatnonzero(rows.kind == kind)
        if not len(mine):
            continue
        signals = rows.signals[mine]
        logits = signals @ weights[kind].astype(np.float32) + rows.offset[mine]
        logits -= logits.max(1, keepdims=True)
        exponentials = np.exp(logits)
        total = exponentials.sum(1, keepdims=True)
        share = rows.share[mine]
        told = np.where(share > 0, logits - np.log(total), 0.0)
        losses[mine] = -(share * told).sum(1)
        gradients[mine] = np.matmul((exponentials / total - share)[:, None, :], signals)[:, 0]
    return losses, gradients


def curvatures(rows: FitRows, weights: Weights) -> list[NDArray[np.float64]]:
    """For each kind the second derivatives (signals, signals) of its rows' summed losses."""
    found = []
    for kind in (0, 1):
        mine = np.flatnonzero(rows.kind == kind)
        signals = rows.signals[mine]
        n, candidates, width = signals.shape
        logits = signals @ weights[kind].astype(np.float32) + rows.offset[mine]
        chance = np.exp(logits - logits.max(1, keepdims=True)) if n else logits
        chance /= chance.sum(1, keepdims=True)
        mean = np.matmul(chance[:, None, :], signals)[:, 0].astype(np.float64)
        flat = signals.reshape(n * candidates, width)
        found.append((flat * chance.reshape(-1, 1)).T.astype(np.float64) @ flat - mean.T @ mean)
    return found
