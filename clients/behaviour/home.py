"""What a site makes of the league's weights at home: fitted further where its own rows ask for it, then calibrated.

How firmly the league holds the site is chosen on the validation window, by log loss: "as the league has it" comes
first, and the site leaves it only where its rows show by `CERTAINTY` standard errors that they know better. Then the
logits of the model that is deployed are calibrated (Platt 1999), if that helps customers it wasn't fitted on.

Invariants: what is calibrated is what is deployed; calibration never raises the log loss of the validation window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.behaviour.choice import first_as_good, row_losses
from clients.behaviour.logistic import LogisticPart, chances
from clients.behaviour.tasks import Rows, TaskRows
from clients.training.moves import Vector, move

FIRMNESS = (np.inf, 100.0, 30.0, 10.0, 3.0, 1.0)
"""Candidates for λ of `move`; infinite: the league's weights as they are."""
CERTAINTY, CALIBRATION_CERTAINTY = 3.0, 2.0
"""Standard errors; chosen on earlier weeks."""
CALIBRATION_ROWS = 20.0
"""The prior around "no calibration" weighs like that many rows."""


@dataclass(frozen=True)
class AtHome:
    """A site's own model of one task: standardised features (n, k) → chances (n,)."""

    weights: Vector
    firmness: float
    slope: float = 1.0
    bias: float = 0.0

    def __call__(self, x: Vector) -> Vector:
        return chances(self.slope * (x @ self.weights) + self.bias)


def fit_at_home(name: str, rows: TaskRows, early: Vector, league: Vector) -> AtHome:
    """Choose the firmness, fit around the league's weights, calibrate.

    Parameters
    ----------
    early : league weights (k,) that know nothing of the validation window; with them the firmness is chosen.
    league : those to deploy; the same if the league learned only from earlier rows.
    """
    train, full = _part(name, rows.train), _part(name, rows.full)
    losses = [
        row_losses(chances(rows.valid.features @ _moved(train, early, firmness)), rows.valid.label)
        for firmness in FIRMNESS
    ]
    firmness = FIRMNESS[first_as_good(losses, rows.valid.user, CERTAINTY)]
    weights = _moved(full, league, firmness)
    slope, bias = calibrated(rows.valid.features @ weights, rows.valid)
    return AtHome(weights, firmness, slope, bias)


def fit_own(name: str, rows: TaskRows) -> AtHome:
    """The same without a league: around no knowledge at all, as firmly as the validation window likes best."""
    train, full = _part(name, rows.train), _part(name, rows.full)
    nothing, choices = train.start(), [firmness for firmness in FIRMNESS if np.isfinite(firmness)]
    losses = [
        row_losses(chances(rows.valid.features @ _moved(train, nothing, firmness)), rows.valid.label).sum()
        for firmness in choices
    ]
    firmness = choices[int(np.argmin(losses))]
    weights = _moved(full, nothing, firmness)
    return AtHome(weights, firmness, *calibrated(rows.valid.features @ weights, rows.valid))


def calibrated(logits: Vector, rows: Rows) -> tuple[float, float]:
    """Slope and bias for the logits of labelled rows; (1, 0) unless other customers' rows gain clearly."""
    _, owner = np.unique(rows.user, return_inverse=True)
    crossed = logits.copy()
    for half in (0, 1):
        held = owner % 2 == half
        slope, bias = _platt(logits[~held], rows.take(~held))
        crossed[held] = slope * logits[held] + bias
    losses = [row_losses(chances(z), rows.label) for z in (logits, crossed)]
    return _platt(logits, rows) if first_as_good(losses, rows.user, CALIBRATION_CERTAINTY) else (1.0, 0.0)


def _platt(logits: Vector, rows: Rows) -> tuple[float, float]:
    """The most likely slope and bias, held near the identity."""
    identity = np.array([1.0, 0.0])
    if not len(rows):
        return 1.0, 0.0
    part = LogisticPart(
        "calibration", np.stack([logits, np.ones_like(logits)], axis=1), rows.label, rows.user
    )
    slope, bias = identity + move(part, identity, 2 * CALIBRATION_ROWS * len(rows) ** -0.5)
    return float(slope), float(bias)


def _part(name: str, rows: Rows) -> LogisticPart:
    return LogisticPart(name, rows.features, rows.label, rows.user)


def _moved(part: LogisticPart, weights: Vector, firmness: float) -> Vector:
    return weights if np.isinf(firmness) else weights + move(part, weights, firmness)
