"""The rule of standard errors, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from clients.behaviour.choice import first_as_good, row_losses

USERS = np.array([0, 0, 1, 1, 2, 2])


def test_the_first_stays_unless_it_is_clearly_worse() -> None:
    first = np.array([1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    # Better by 1, 0 and −0.5 for the three users: mean 1/6, error √(Σ(s − s̄)²)/6 with s = 2, 0, −1 by user.
    second = first - np.repeat([1.0, 0.0, -0.5], 2)
    sums = np.array([2.0, 0.0, -1.0])
    ratio = sums.sum() / np.sqrt(((sums - sums.mean()) ** 2).sum())
    assert first_as_good([first, second], USERS, ratio + 0.01) == 0
    assert first_as_good([first, second], USERS, ratio - 0.01) == 1
    assert first_as_good([first, second], USERS, 0.0) == 1


def test_the_best_of_all_is_the_standard() -> None:
    losses = [np.full(6, 3.0), np.full(6, 2.0), np.full(6, 1.0), np.full(6, 4.0)]
    assert first_as_good(losses, USERS, 2.0) == 2
    assert first_as_good([np.full(6, 1.0)] * 3, USERS, 0.0) == 0


def test_without_rows_the_first_is_trusted() -> None:
    assert first_as_good([np.zeros(0), np.zeros(0)], np.zeros(0, np.int64), 1.0) == 0


def test_losses_of_rows() -> None:
    found = row_losses(np.array([0.25, 0.25, 1.0]), np.array([1, 0, 1]))
    assert found == pytest.approx([np.log(4), np.log(4 / 3), 0.0], abs=1e-6)
    assert np.isfinite(row_losses(np.array([0.0]), np.array([1]))).all()
