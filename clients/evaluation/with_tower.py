"""The fusion tower as one more signal of the ranker: taken in only where the validation window shows that it pays.

Invariant: the tower that is judged knows nothing of the validation window; it enters with the first weight that isn't
worse there than the best by more than `CERTAINTY` standard errors, and no weight at all is the first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from clients.behaviour.choice import first_as_good
from clients.data.dataset import SiteDataset
from clients.evaluation.blend import Scorer, blend
from clients.evaluation.scorers import Windows, tower_scorer, valid_ndcg_by_row
from common.models.model import HansaModel

WEIGHTS = (0.0, 0.25, 0.5, 1.0)
CERTAINTY = 2.0
Scorers = tuple[Scorer, Scorer]


@dataclass(frozen=True)
class Towers:
    """A tower as it was before the validation window, which judges it, and as it would be deployed."""

    before: HansaModel
    deployed: HansaModel


def with_tower(ranker: Scorers, tower: Scorer, weight: float) -> Scorers:
    """The ranker's scores plus the tower's."""
    if not weight:
        return ranker
    parts = np.array([1.0, weight])
    return blend((ranker[0], tower), parts), blend((ranker[1], tower), parts)


def tower_weight(site: SiteDataset, windows: Windows, ranker: Scorers, towers: Towers | None) -> float:
    """How much the tower counts beside the ranker, by NDCG@20 of the validation rows; 0 without one.

    Parameters
    ----------
    ranker : scorers from data before the validation window.
    """
    if towers is None:
        return 0.0
    tower, users = tower_scorer(towers.before, site), np.concatenate([rows.user for rows in windows.valid])
    losses = [-valid_ndcg_by_row(site, windows, with_tower(ranker, tower, weight)) for weight in WEIGHTS]
    return WEIGHTS[first_as_good(losses, users, CERTAINTY)]
