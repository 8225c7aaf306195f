"""Choosing among models by a few validation rows, without being led by chance.

A thin site has some dozen customers in its validation window, and the best of six settings is the best by luck as often
as not. So the candidates stand in order, the one that is trusted without evidence first, and a later one is chosen only
where it is better by so many standard errors; a customer's rows count as one observation. Breiman et al. 1984, §3.4.3,
choose trees by the same rule with one standard error.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import Ints

Losses = NDArray[np.float64]


def row_losses(chance: Losses, label: Ints) -> Losses:
    """Negative log likelihood of each row; probabilities are kept 1e-7 away from 0 and 1."""
    p = np.clip(chance, 1e-7, 1 - 1e-7)
    return np.asarray(-np.where(label == 1, np.log(p), np.log1p(-p)))


def first_as_good(losses: Sequence[Losses], users: Ints, standard_errors: float) -> int:
    """The first candidate that isn't worse than the best by more than so many standard errors.

    Parameters
    ----------
    losses : per candidate the loss of each validation row; the first candidate is trusted most.
    users : whose row each is.
    """
    if not len(users):
        return 0
    best = int(np.argmin([candidate.mean() for candidate in losses]))
    _, owner = np.unique(users, return_inverse=True)
    for place in range(best):
        worse = losses[place] - losses[best]
        by_user = np.bincount(owner, worse)
        error = np.sqrt(((by_user - by_user.mean()) ** 2).sum()) / len(worse)
        if worse.mean() <= standard_errors * error:
            return place
    return best
