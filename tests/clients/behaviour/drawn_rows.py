"""Rows of a drawn site whose customers answer by known weights."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from clients.behaviour.definitions import N_FEATURES
from clients.behaviour.logistic import chances
from clients.behaviour.tasks import Rows, TaskRows


def drawn_rows(weights: NDArray[np.float64], seed: int, users: int, each: int = 4) -> Rows:
    """``each`` rows of every user; the last feature is the constant."""
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(users * each, N_FEATURES)) * 0.7
    x[:, -1] = 1.0
    label = (generator.random(len(x)) < chances(x @ weights)).astype(np.int64)
    user = np.repeat(np.arange(users), each)
    return Rows(user, np.tile(np.arange(each), users), x, label)


def drawn_task(weights: NDArray[np.float64], seed: int, users: int) -> TaskRows:
    """Train, full, validation and test rows of one site."""
    train, valid, test = (drawn_rows(weights, 3 * seed + place, users) for place in range(3))
    joined = Rows(
        *(np.concatenate([getattr(train, f), getattr(valid, f)]) for f in Rows.__dataclass_fields__)
    )
    return TaskRows(train, joined, valid, test)


def strong_weights() -> NDArray[np.float64]:
    """Weights on a few features, and a constant."""
    weights = np.zeros(N_FEATURES)
    weights[:4], weights[-1] = (1.5, -1.0, 0.8, 0.5), -0.5
    return weights
