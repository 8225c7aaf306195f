"""Fitting the ranker at home, around the league's weights or, for the merchant alone, around the public start.

Invariant: strengths are chosen on the validation window with weights fitted before it; the rows of that window are
added for the last fit, once everything is chosen. The test window is never read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.signals.ranker import ALL, RankerPart, Weights, row_losses
from clients.signals.rows import FitRows
from clients.training.moves import move

ALONE = (3.0, 10.0, 30.0, 100.0)
JOINED, JOINED_PRIVATE = 1000.0, 100.0
DOUBT = 1.0  # nats of validation likelihood that one step away from the usual strength has to win


@dataclass(frozen=True)
class HomeFit:
    """A merchant's own fit.

    Parameters
    ----------
    weights : what it deploys.
    before : fitted with the same strength on what was before the validation window, so that window can judge them.
    strength : the precision with which weights are held to the start; inf: not fitted at all.
    """

    weights: Weights
    before: Weights
    strength: float


def fit_joined(rows: FitRows, league: Weights, private: bool) -> Weights:
    """Weights around the league's, by all rows before the test window.

    Nothing is chosen here: the league has seen the validation rows already, so they can't say how firmly to hold to it.
    How firmly was chosen on made-up worlds: much less where noise is in the league's weights.
    """
    return _fitted(rows, league, JOINED_PRIVATE if private else JOINED)


def fit_alone(before: FitRows, valid: FitRows, around: Weights, strengths: tuple[float, ...]) -> HomeFit:
    """Weights around public ones, for a merchant alone.

    Parameters
    ----------
    before, valid : rows of the windows before the validation window, and of that window itself.
    strengths : precisions of the prior to choose from, rising; the middle one is the usual. Not fitting is among the
        choices.
    """
    tried = {strength: _fitted(before, around, strength) for strength in strengths} | {np.inf: around}
    usual = strengths[len(strengths) // 2]
    chosen = usual
    if len(before) and len(valid):
        steps = {strength: abs(place - len(strengths) // 2) for place, strength in enumerate(tried)}
        chosen = min(tried, key=lambda s: float(row_losses(valid, tried[s])[0].sum()) + DOUBT * steps[s])
    if np.isinf(chosen):
        return HomeFit(around, around, np.inf)
    return HomeFit(_fitted(FitRows.joined([before, valid]), around, chosen), tried[chosen], chosen)


def _fitted(rows: FitRows, around: Weights, strength: float) -> Weights:
    if not len(rows):
        return around
    # The part's loss is divided by the root of its rows, and holds to the public start; a home fit counts each row
    # whole and holds to where it begins.
    part, root = RankerPart(rows, ALL, anchored=False), len(rows) ** -0.5
    at = ALL.vector(around)
    return ALL.weights(at + move(part, at, strength * root))
