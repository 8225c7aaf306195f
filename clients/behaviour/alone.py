"""What a merchant would use alone: the opponents that a league has to beat.

`logistic`: a logistic regression on all features, the firmness of its ridge chosen on the validation window;
`boosting`: gradient boosted trees on the same features, one of few settings chosen there; `active_days`: no learning,
customers ranked by the number of days on which they were active. `alone` is whichever of the three has the lowest log
loss on the validation window. All are fitted anew with the validation window once that is chosen.

Invariant: they read the same rows of the same customers as the league's part of the site.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from clients.behaviour.choice import first_as_good, row_losses
from clients.behaviour.definitions import PLACE
from clients.behaviour.tasks import Rows, TaskRows
from clients.training.moves import Vector

METHODS = ("active_days", "logistic", "boosting")
RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""C of scikit-learn, firmest first: the later one is taken only if it is better by a standard error."""
TREES: tuple[dict[str, Any], ...] = (
    {"max_iter": 30, "learning_rate": 0.1, "max_leaf_nodes": 4, "min_samples_leaf": 10},
    {"max_iter": 60, "learning_rate": 0.05, "max_leaf_nodes": 3, "min_samples_leaf": 15, "l2_regularization": 1.0},
    {"max_iter": 100, "learning_rate": 0.05, "max_leaf_nodes": 8, "min_samples_leaf": 20, "l2_regularization": 5.0},
)  # fmt: skip
Model = Callable[[Vector], Vector]
Fit = Callable[[Rows], Model]


@dataclass(frozen=True)
class Alone:
    """Fitted opponents by name, and the name of the one that the validation window prefers."""

    models: dict[str, Model]
    chosen: str

    def __call__(self, x: Vector) -> Vector:
        return self.models[self.chosen](x)


def fit_alone(rows: TaskRows, methods: Sequence[str] = METHODS) -> Alone:
    """Fit the opponents at one site."""
    models, losses = {}, {}
    for method in methods:
        fits = _CANDIDATES[method]()
        by_fit = [row_losses(fit(rows.train)(rows.valid.features), rows.valid.label) for fit in fits]
        place = first_as_good(by_fit, rows.valid.user, 1.0)
        models[method] = fits[place](rows.full)
        losses[method] = float(by_fit[place].mean()) if len(rows.valid) else 0.0
    return Alone(models, min(losses, key=lambda method: losses[method]))


def logistic(ridge: float, columns: slice | list[int] = slice(0, -1)) -> Fit:
    """A logistic regression on some columns; the last column, the constant, is the intercept's."""

    # Imported late: it takes half a second, and a process that only trains doesn't need it.
    from sklearn.linear_model import LogisticRegression

    def fit(rows: Rows) -> Model:
        if len(np.unique(rows.label)) < 2:
            return _constant(rows)
        fitted = LogisticRegression(C=ridge, max_iter=2000).fit(rows.features[:, columns], rows.label)
        return lambda x: np.asarray(fitted.predict_proba(x[:, columns])[:, 1])

    return fit


def boosting(settings: dict[str, Any]) -> Fit:
    """Gradient boosted trees of scikit-learn."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    def fit(rows: Rows) -> Model:
        if len(np.unique(rows.label)) < 2:
            return _constant(rows)
        trees = HistGradientBoostingClassifier(early_stopping=False, random_state=0, **settings)
        fitted = trees.fit(rows.features, rows.label)
        return lambda x: np.asarray(fitted.predict_proba(x)[:, 1])

    return fit


def _constant(rows: Rows) -> Model:
    share = (rows.label.sum() + 0.5) / (len(rows) + 1.0)
    return lambda x: np.full(len(x), share)


_CANDIDATES: dict[str, Callable[[], list[Fit]]] = {
    "active_days": lambda: [logistic(1e3, [PLACE["days_ever"]])],
    "logistic": lambda: [logistic(ridge) for ridge in RIDGES],
    "boosting": lambda: [boosting(settings) for settings in TREES],
}
