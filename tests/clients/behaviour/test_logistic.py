"""The league's logistic against differences and a slow sum by user; the move against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from clients.behaviour.logistic import LogisticPart, chances
from clients.training.moves import move


def drawn(seed: int, rows: int = 60, k: int = 4, users: int = 7) -> LogisticPart:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, k))
    label = (x[:, 0] + generator.normal(size=rows) > 0).astype(np.int64)
    return LogisticPart("behaviour.test", x, label, generator.integers(0, users, rows) * 3)


def test_loss_gradient_and_curvature_agree() -> None:
    part, weights, step = drawn(0), np.array([0.3, -0.2, 0.1, 0.5]), 1e-5
    _, gradient = part.loss(weights)
    curvature = part.curvature(weights)
    for place in range(4):
        bump = np.eye(4)[place] * step
        (above, up), (below, down) = part.loss(weights + bump), part.loss(weights - bump)
        assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=1e-6)
        assert curvature[place] == pytest.approx((up - down) / (2 * step), abs=1e-5)


def test_the_loss_by_hand() -> None:
    part = LogisticPart(
        "t", np.array([[1.0], [2.0], [0.0], [1.0]]), np.array([1, 0, 1, 0]), np.zeros(4, np.int64)
    )
    loss, gradient = part.loss(np.zeros(1))
    assert loss == pytest.approx(4 * np.log(2) / 2)
    assert gradient[0] == pytest.approx((-0.5 + 1.0 + 0.0 + 0.5) / 2)


def test_gradients_by_user_against_a_loop() -> None:
    part, weights = drawn(1), np.full(4, 0.2)
    slow = [
        sum(
            (chances(part.x[r] @ weights) - part.label[r]) * part.x[r]
            for r in np.flatnonzero(part.user == user)
        )
        for user in sorted(set(part.user.tolist()))
    ]
    assert part.user_gradients(weights) == pytest.approx(np.array(slow))
    assert part.user_gradients(weights).sum(0) * 60**-0.5 == pytest.approx(part.loss(weights)[1])


def test_a_move_from_nothing_is_a_ridge_regression() -> None:
    part, strength = drawn(2), 2.0
    ridge = LogisticRegression(C=60**-0.5 / strength, fit_intercept=False, tol=1e-8, max_iter=1000)
    assert move(part, np.zeros(4), strength) == pytest.approx(
        ridge.fit(part.x, part.label).coef_[0], abs=1e-4
    )


def test_no_rows_and_large_logits() -> None:
    empty = LogisticPart("t", np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    assert empty.loss(np.ones(3))[0] == 0.0
    assert empty.user_gradients(np.ones(3)).shape == (0, 3)
    assert move(empty, empty.start(), 1.0).tolist() == [0.0, 0.0, 0.0]
    assert chances(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
