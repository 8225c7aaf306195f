"""At home: the league's weights stay unless the site's rows say otherwise, and calibration never harms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients.behaviour.choice import row_losses
from clients.behaviour.home import AtHome, calibrated, fit_at_home
from clients.behaviour.logistic import chances
from common.metrics import log_loss
from tests.clients.behaviour.drawn_rows import drawn_rows, drawn_task, strong_weights


def test_a_thin_site_like_the_league_keeps_its_weights() -> None:
    weights = strong_weights()
    for seed in range(5):
        home = fit_at_home("t", drawn_task(weights, seed, users=15), weights, weights)
        assert np.isinf(home.firmness)
        assert np.array_equal(home.weights, weights)


def test_a_site_unlike_the_league_leaves_it() -> None:
    weights = strong_weights()
    rows = drawn_task(-weights, 1, users=150)
    home = fit_at_home("t", rows, weights, weights)
    assert home.firmness <= 10
    left, stayed = (log_loss(chance, rows.test.label) for chance in (
        home(rows.test.features), chances(rows.test.features @ weights)
    ))  # fmt: skip
    assert left < 0.8 * stayed


def test_the_late_weights_are_deployed_and_the_early_ones_choose() -> None:
    weights = strong_weights()
    late = weights + 0.01
    home = fit_at_home("t", drawn_task(weights, 2, users=15), weights, late)
    assert np.array_equal(home.weights, late)


@pytest.mark.parametrize(("slope", "bias"), [(1.0, 0.0), (3.0, 1.0), (0.2, -1.5), (-1.0, 0.0)])
@pytest.mark.parametrize("users", [2, 12, 200])
def test_calibration_never_raises_the_loss_of_what_it_calibrates(
    slope: float, bias: float, users: int
) -> None:
    rows = drawn_rows(strong_weights(), 5, users)
    logits = (rows.features @ strong_weights() - bias) / slope
    a, b = calibrated(logits, rows)
    before, after = (row_losses(chances(z), rows.label).mean() for z in (logits, a * logits + b))
    assert after <= before + 1e-12


def test_calibration_undoes_a_wrong_scale() -> None:
    rows = drawn_rows(strong_weights(), 6, users=4000)
    slope, bias = calibrated((rows.features @ strong_weights() - 1.0) / 2, rows)
    assert slope == pytest.approx(2.0, abs=0.25)
    assert bias == pytest.approx(1.0, abs=0.25)


def test_a_good_scale_is_mostly_left_alone_and_no_rows_calibrate_nothing() -> None:
    drawn = [drawn_rows(strong_weights(), seed, users=30) for seed in range(20)]
    left = [calibrated(rows.features @ strong_weights(), rows) == (1.0, 0.0) for rows in drawn]
    assert sum(left) >= 17
    assert calibrated(np.zeros(0), drawn[0].take(np.zeros(len(drawn[0]), bool))) == (1.0, 0.0)


def test_a_site_without_rows_takes_the_league_as_it_is() -> None:
    rows = drawn_task(strong_weights(), 3, users=3)
    none = np.zeros(0, np.int64)
    empty = replace(rows, train=rows.train.take(none), full=rows.full.take(none), valid=rows.valid.take(none))
    assert fit_at_home("t", empty, strong_weights(), strong_weights()).firmness == np.inf


def test_the_model_by_hand() -> None:
    model = AtHome(np.array([2.0, -1.0]), 1.0, slope=0.5, bias=1.0)
    assert model(np.array([[1.0, 2.0]]))[0] == pytest.approx(1 / (1 + np.exp(-1.0)))
