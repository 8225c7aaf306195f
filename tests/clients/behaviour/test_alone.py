"""The opponents learn what there is to learn, and are chosen on the validation window alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from clients.behaviour.alone import METHODS, fit_alone
from clients.behaviour.definitions import N_FEATURES, PLACE
from common.metrics import auc, log_loss
from tests.clients.behaviour.drawn_rows import drawn_task, strong_weights


def test_each_opponent_beats_chance_and_a_linear_world_prefers_the_logistic() -> None:
    weights = strong_weights()
    weights[PLACE["days_ever"]] = 1.0
    rows = drawn_task(weights, 0, users=150)
    alone = fit_alone(rows)
    assert set(alone.models) == set(METHODS)
    figures = {name: auc(model(rows.test.features), rows.test.label) for name, model in alone.models.items()}
    assert min(figures.values()) > 0.55
    assert alone.chosen == "logistic"
    assert np.array_equal(alone(rows.test.features), alone.models["logistic"](rows.test.features))


def test_active_days_rank_by_days_alone() -> None:
    weights = np.zeros(N_FEATURES)
    weights[PLACE["days_ever"]] = 2.0
    rows = drawn_task(weights, 1, users=100)
    alone = fit_alone(rows)
    assert alone.chosen == "active_days"
    order = np.argsort(alone(rows.test.features))
    assert (np.diff(rows.test.features[order, PLACE["days_ever"]]) >= 0).all()


def test_one_class_gives_its_smoothed_share() -> None:
    rows = drawn_task(strong_weights(), 2, users=10)
    full = replace(rows.full, label=np.zeros(len(rows.full), np.int64))
    train = replace(rows.train, label=np.zeros(len(rows.train), np.int64))
    chance = fit_alone(replace(rows, train=train, full=full))(rows.test.features)
    assert np.array_equal(chance, np.full(len(rows.test), 0.5 / (len(full) + 1)))


def test_the_test_window_decides_nothing() -> None:
    rows = drawn_task(strong_weights(), 4, users=30)
    other = replace(rows, test=rows.test.take(np.arange(5)))
    x = rows.test.features
    assert fit_alone(rows).chosen == fit_alone(other).chosen
    assert log_loss(fit_alone(rows)(x), rows.test.label) == log_loss(fit_alone(other)(x), rows.test.label)
