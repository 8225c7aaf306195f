"""What a customer will do next, by kind of event: a softmax on the hand-made log features, fitted at home.

It's the merchant's own: no league teaches it. Kinds that were never next aren't guessed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import PURCHASE, Ints, SiteDataset
from clients.training.behaviour import behaviour_rows, horizon_s, instants_back, log_features
from clients.training.samples import BEHAVIOUR_INSTANTS

RIDGE = 0.1


def next_events(site: SiteDataset, users: Ints, at_s: int) -> tuple[Ints, NDArray[np.float64]]:
    """The likeliest kind of each user's next event after an instant, and its probability."""
    log, horizon = site.of_learners.log.before(at_s), horizon_s(site.split)
    earliest = int(log.time.min()) if len(log) else at_s
    rows = behaviour_rows(log, instants_back(at_s, horizon, earliest, BEHAVIOUR_INSTANTS), horizon)
    followed = rows.next_kind >= 0
    kinds = np.unique(rows.next_kind[followed])
    if len(kinds) < 2:
        only = int(kinds[0]) if len(kinds) else PURCHASE
        return np.full(len(users), only, np.int64), np.ones(len(users))
    # Imported late: it takes half a second, and a process that only trains doesn't need it.
    from sklearn.linear_model import LogisticRegression

    features = rows.features[followed].astype(np.float64)
    mean, deviation = features.mean(0), features.std(0) + 1e-6
    fitted = LogisticRegression(C=RIDGE, max_iter=500).fit(
        (features - mean) / deviation, rows.next_kind[followed]
    )
    now = log_features(site.log.before(at_s), at_s)[users].astype(np.float64)
    chances = fitted.predict_proba((now - mean) / deviation)
    best = chances.argmax(1)
    return fitted.classes_[best].astype(np.int64), chances[np.arange(len(best)), best]
