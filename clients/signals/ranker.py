"""The ranker: a weighted sum of signals, learned by the league and fitted at home.

The likelihood is a softmax over each row's candidates, so it's convex in the weights. Both kinds of rows share a mean
weight a signal and may differ by a contrast: returning customers are scored with mean + contrast, baskets with
mean − contrast. Invariant: weights count in logits per signal's public scale, so they mean the same at every site.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.signals.names import COLUMNS, N_SIGNALS, OF_CUSTOMER, START
from clients.signals.rows import FitRows
from common.settings.config import PrivacyConfig

Vector = NDArray[np.float64]
Weights = NDArray[np.float64]
"""(2, columns): for returning customers, and for baskets."""
CONTRAST = 0.5  # a unit of contrast moves a weight by so much: kinds differ less than sites do
ANCHOR, ANCHOR_CONTRAST = 1.0, 10.0  # how firmly the public start holds the league itself
PART, CURVATURE_ROWS = "ranker", 120


@dataclass(frozen=True)
class Form:
    """Which numbers a league learns: of which columns, and whether the kinds of rows may differ in the signals.

    >>> Form.of(PrivacyConfig(mode="site")).size == N_SIGNALS, Form.of(PrivacyConfig()).size == N_SIGNALS + len(COLUMNS)
    (True, True)
    """

    columns: NDArray[np.bool_]
    contrast: bool

    @classmethod
    def of(cls, privacy: PrivacyConfig) -> Form:
        """By the league's privacy, under which noise grows with the numbers: then no products and no contrast.

        Under privacy of users only signals that read no other customer; none where the units are records, whose
        samples know no history, or where each step draws its users anew.
        """
        if privacy.mode == "off":
            return ALL
        signals = np.ones(N_SIGNALS, bool)
        if privacy.mode != "site":
            allowed = privacy.mode in ("user", "distributed") and privacy.sample_rate == 1
            signals = OF_CUSTOMER if allowed else np.zeros(N_SIGNALS, bool)
        return cls(np.concatenate([signals, np.zeros(len(COLUMNS) - N_SIGNALS, bool)]), False)

    @property
    def size(self) -> int:
        return int(self.columns.sum()) + (N_SIGNALS if self.contrast else 0)

    @property
    def anchors(self) -> Vector:
        """How firmly each number is held to zero."""
        anchors = np.full(self.size, ANCHOR)
        anchors[int(self.columns.sum()) :] = ANCHOR_CONTRAST
        return anchors

    def weights(self, vector: Vector) -> Weights:
        """The weights (2, columns) of a league's vector, whose zero is the public start."""
        k = int(self.columns.sum())
        both = np.zeros((2, len(COLUMNS)))
        both[:, self.columns] = vector[:k]
        if self.contrast:
            both[:, :N_SIGNALS] += CONTRAST * np.array([1.0, -1.0])[:, None] * vector[k:]
        return START + both

    def vector(self, weights: Weights) -> Vector:
        """The inverse of `weights`, for weights that the form can express."""
        away = weights - START
        mean, apart = away.mean(0)[self.columns], (away[0] - away[1])[:N_SIGNALS] / (2 * CONTRAST)
        return np.concatenate([mean, apart]) if self.contrast else mean

    def back(self, gradients: NDArray[np.float64], kind: NDArray[np.int64]) -> NDArray[np.float64]:
        """Gradients by weights (n, columns), each of a row of a kind, as gradients by the vector (n, size)."""
        chosen = gradients[:, self.columns]
        if not self.contrast:
            return chosen
        sign = np.where(kind == 0, CONTRAST, -CONTRAST)[:, None]
        return np.concatenate([chosen, sign * gradients[:, :N_SIGNALS]], axis=1)


ALL = Form(np.ones(len(COLUMNS), bool), True)


class RankerPart:
    """A `LeaguePart` over a site's rows.

    Invariant: only columns of the form are read. Where those are a customer's own, no other customer has a say in the
    chances that a softmax gives, and so in the customer's gradient.
    """

    name = PART

    def __init__(self, rows: FitRows, form: Form, *, anchored: bool = True) -> None:
        self.rows, self.form = rows, form
        self._anchors = form.anchors if anchored else np.zeros(form.size)
        self._scale = max(len(rows), 1) ** -0.5

    def start(self) -> Vector:
        """Zeros: the public start weights."""
        return np.zeros(self.form.size)

    def loss(self, weights: Vector) -> tuple[float, Vector]:
        """Negative log likelihood times rows^-1/2 and what holds to the public start, and the gradient of both."""
        losses, gradients = row_losses(self.rows, self._of_form(weights))
        summed = self.form.back(gradients, self.rows.kind).sum(0)
        held = self._anchors * weights
        return float(losses.sum()) * self._scale + float(held @ weights) / 2, summed * self._scale + held

    def curvature(self, weights: Vector) -> NDArray[np.float64]:
        """Second derivatives (size, size) of the loss, by at most about `CURVATURE_ROWS` of the rows, evenly picked.

        They shape the steps alone; how far a step goes, and where the steps end, the whole loss decides.
        """
        total = np.zeros((self.form.size, self.form.size))
        every = max(len(self.rows) // CURVATURE_ROWS, 1)
        picked = self.rows.where(np.arange(len(self.rows)) % every == 0)
        for kind, by_weights in enumerate(curvatures(picked, self._of_form(weights))):
            across = self.form.back(np.eye(len(COLUMNS)), np.full(len(COLUMNS), kind))
            total += across.T @ by_weights @ across
        return total * self._scale * len(self.rows) / max(len(picked), 1) + np.diag(self._anchors)

    def user_gradients(self, weights: Vector) -> Vector:
        """(users, size): the gradient of each user's rows."""
        _, gradients = row_losses(self.rows, self._of_form(weights))
        users, place = np.unique(self.rows.user, return_inverse=True)
        summed = np.zeros((len(users), self.form.size))
        np.add.at(summed, place, self.form.back(gradients, self.rows.kind))
        return summed

    def _of_form(self, vector: Vector) -> Weights:
        return np.where(self.form.columns, self.form.weights(vector), 0.0)


def row_losses(rows: FitRows, weights: Weights) -> tuple[Vector, NDArray[np.float64]]:
    """Each row's negative log likelihood (n,), and its gradient by the row's own weights (n, columns)."""
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
    """For each kind the second derivatives (columns, columns) of its rows' summed losses."""
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
        found.append(((flat * chance.reshape(-1, 1)).T @ flat).astype(np.float64) - mean.T @ mean)
    return found
