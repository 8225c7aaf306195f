"""The softmax head against differences and scikit-learn; what it becomes at home."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from clients.behaviour.content import (
    UNIT,
    Labelled,
    SoftmaxPart,
    accuracy,
    fit_content,
    labelled,
    log_chances,
    mean_of_moves,
    wide_move,
)

CLASSES = 3


def drawn(seed: int, rows: int = 90, turned: bool = False) -> Labelled:
    """Rows whose class follows known weights; ``turned`` sites mean the opposite."""
    generator = np.random.default_rng(seed)
    vectors = generator.normal(size=(rows, 6)).astype(np.float32)
    truth = np.random.default_rng(99).normal(size=(6, CLASSES)) * (-2 if turned else 2)
    label = (vectors @ truth + generator.gumbel(size=(rows, CLASSES))).argmax(1)
    return labelled(vectors, label, np.arange(rows))


def test_rows_are_scaled_and_unlabelled_ones_left_out() -> None:
    vectors = np.array([[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]], np.float32)
    rows = labelled(vectors, np.array([1, 0, -1]), np.array([7, 8, 9]))
    assert rows.x == pytest.approx(np.array([[0.6 * UNIT, 0.8 * UNIT, 1.0], [0.0, 0.0, 1.0]]))
    assert rows.label.tolist() == [1, 0]
    assert rows.owner.tolist() == [7, 8]


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    part = SoftmaxPart("t", drawn(0), CLASSES)
    weights = np.random.default_rng(1).normal(size=len(part.start()))
    _, gradient = part.loss(weights)
    for place in range(len(weights)):
        bump = np.eye(len(weights))[place] * 1e-5
        slope = (part.loss(weights + bump)[0] - part.loss(weights - bump)[0]) / 2e-5
        assert gradient[place] == pytest.approx(slope, abs=1e-5)


def test_a_move_from_nothing_is_a_ridge_regression() -> None:
    part, strength = SoftmaxPart("t", drawn(1), CLASSES), 0.5
    ridge = LogisticRegression(C=90**-0.5 / strength, fit_intercept=False, tol=1e-8, max_iter=2000)
    ridge.fit(part.rows.x, part.rows.label)
    found = wide_move(part, part.start(), strength).reshape(-1, CLASSES)
    assert found == pytest.approx(ridge.coef_.T, abs=1e-2)


def test_a_site_without_labels_has_the_leagues_head() -> None:
    empty = drawn(0).take(np.zeros(0, np.int64))
    league = np.arange(7.0 * CLASSES)
    part = SoftmaxPart("t", empty, CLASSES)
    weights, firmness = fit_content(part, empty, empty, league)
    assert np.array_equal(weights, league)
    assert firmness == np.inf
    assert wide_move(part, league, 1.0).tolist() == [0.0] * len(league)
    assert np.isnan(accuracy(league, empty, CLASSES))


def test_a_thin_site_gains_from_the_league_and_a_strange_one_leaves_it() -> None:
    parts = [SoftmaxPart("t", drawn(seed), CLASSES) for seed in range(6)]
    league = parts[0].start()
    for _ in range(8):
        league = league + mean_of_moves(parts, league)
    test = drawn(50, rows=2000)
    thin, valid = drawn(60, rows=12), drawn(61, rows=12)
    both = Labelled(*(np.concatenate([getattr(thin, f), getattr(valid, f)]) for f in ("x", "label", "owner")))
    own, _ = fit_content(SoftmaxPart("t", thin, CLASSES), both, valid, parts[0].start())
    shared, _ = fit_content(SoftmaxPart("t", thin, CLASSES), both, valid, league)
    assert accuracy(shared, test, CLASSES) > accuracy(own, test, CLASSES)
    strange, judged = drawn(70, rows=400, turned=True), drawn(71, rows=2000, turned=True)
    left, firmness = fit_content(
        SoftmaxPart("t", strange.take(np.arange(300)), CLASSES),
        strange,
        strange.take(np.arange(300, 400)),
        league,
    )
    assert firmness < 1
    assert accuracy(left, judged, CLASSES) > 0.6 > accuracy(league, judged, CLASSES)


def test_chances_sum_to_one() -> None:
    logs = log_chances(drawn(0).x, np.random.default_rng(2).normal(size=7 * CLASSES) * 100, CLASSES)
    assert np.exp(logs).sum(1) == pytest.approx(np.ones(90))
