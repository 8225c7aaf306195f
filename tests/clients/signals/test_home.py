"""The fit at home: around which weights, by which rows, and how its strength is chosen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from clients.signals.home import ALONE, DOUBT, JOINED, JOINED_PRIVATE, fit_alone, fit_joined
from clients.signals.learning import Learning
from clients.signals.names import COLUMNS, N_SIGNALS, START
from clients.signals.ranker import ALL, row_losses
from clients.signals.rows import FitRows
from tests.clients.signals.slow_signals import site_with_facts
from tests.clients.signals.test_ranker import drawn_rows
from tests.clients.small_site import CONFIG, with_other_future

PUBLIC = np.stack([START, START])


def told(seed: int, n: int, size: float = 1.0) -> FitRows:
    """Rows whose wanted candidate is drawn from the softmax of weights that the seed's parity doesn't change."""
    rows = drawn_rows(seed, n, 12)
    truth = np.random.default_rng(99).normal(0, size, len(COLUMNS)) + START
    noise = np.random.default_rng(seed).gumbel(size=rows.share.shape)
    wanted = (rows.signals @ truth + rows.offset + noise).argmax(1)
    return replace(rows, share=np.eye(12, dtype=np.float32)[wanted])


def held(rows: FitRows, weights: np.ndarray, around: np.ndarray, strength: float) -> float:
    """What a fit minimises: each row counts whole; mean and contrast are held."""
    away = ALL.vector(weights) - ALL.vector(around)
    return float(row_losses(rows, weights)[0].sum()) + strength / 2 * float(away @ away)


@pytest.mark.parametrize(("private", "strength"), [(False, JOINED), (True, JOINED_PRIVATE)])
def test_weights_around_the_leagues_are_the_most_likely_under_the_prior(
    private: bool, strength: float
) -> None:
    rows = told(0, 60)
    around = PUBLIC + np.random.default_rng(1).normal(0, 0.1, len(COLUMNS))
    around[:, :N_SIGNALS] += np.array([[0.2], [-0.2]])

    def slope(vector: np.ndarray) -> np.ndarray:
        _, gradients = row_losses(rows, ALL.weights(vector))
        return ALL.back(gradients, rows.kind).sum(0) + strength * (vector - ALL.vector(around))

    slow = minimize(
        lambda vector: held(rows, ALL.weights(vector), around, strength), ALL.vector(around), jac=slope,
        method="L-BFGS-B",
    )  # fmt: skip
    found = fit_joined(rows, around, private)
    assert held(rows, found, around, strength) <= slow.fun + 1e-3
    assert ALL.vector(found) == pytest.approx(slow.x, abs=2e-2)
    assert np.abs(found - around).max() > 0.01


def test_where_noise_is_in_the_leagues_weights_they_are_held_to_less_firmly() -> None:
    assert 0 < JOINED_PRIVATE < JOINED


def test_without_rows_the_leagues_weights_stay() -> None:
    league = START + np.random.default_rng(0).normal(size=len(COLUMNS)) * np.ones((2, 1))
    assert np.array_equal(fit_joined(FitRows.joined([]), league, False), league)
    found = fit_alone(FitRows.joined([]), FitRows.joined([]), PUBLIC, ALONE)
    assert np.array_equal(found.weights, PUBLIC)
    assert found.strength in ALONE


def test_the_strength_is_chosen_on_validation_by_weights_from_before_it() -> None:
    before, valid = told(1, 300), told(2, 100)
    found = fit_alone(before, valid, PUBLIC, ALONE)
    middle, cost = ALONE[len(ALONE) // 2], {}
    for place, strength in enumerate([*ALONE, np.inf]):
        weights = (
            PUBLIC
            if np.isinf(strength)
            else fit_alone(before, FitRows.joined([]), PUBLIC, (strength,)).weights
        )
        steps = abs(place - ALONE.index(middle))
        cost[strength] = float(row_losses(valid, weights)[0].sum()) + DOUBT * steps
    assert found.strength == min(cost, key=lambda s: cost[s])
    best = float(row_losses(valid, found.before)[0].sum())
    assert best <= float(row_losses(valid, PUBLIC)[0].sum())
    again = fit_alone(FitRows.joined([before, valid]), FitRows.joined([]), PUBLIC, (found.strength,))
    assert found.weights == pytest.approx(again.weights, abs=1e-6)
    assert not np.array_equal(found.before, found.weights)


def test_where_the_rows_mislead_nothing_is_fitted() -> None:
    """Validation rows that want the opposite of what was wanted before."""
    before = told(1, 300, size=2.0)
    valid = replace(before, signals=-before.signals + 2 * before.signals * (START != 0))
    found = fit_alone(before, valid, PUBLIC, ALONE)
    assert found.strength == np.inf
    assert found.weights is PUBLIC
    assert found.before is PUBLIC


def test_a_few_rows_leave_the_usual_strength() -> None:
    found = fit_alone(told(1, 2), told(2, 1), PUBLIC, ALONE)
    assert found.strength == ALONE[len(ALONE) // 2]


def test_no_fit_reads_the_test_window() -> None:
    site = site_with_facts(2, n_users=100, n_items=40, events=900)
    league = START + np.random.default_rng(0).normal(0, 0.3, size=len(COLUMNS)) * np.ones((2, 1))
    found = []
    for each in (site, with_other_future(site, site.split.test_from, 5)):
        learning = Learning(each, CONFIG)
        alone = fit_alone(learning.before, learning.valid, PUBLIC, ALONE)
        found.append((fit_joined(learning.every, league, False), alone.weights, alone.before))
    for first, second in zip(*found, strict=True):
        assert first.tobytes() == second.tobytes()
    assert not np.array_equal(found[0][0], league)
