"""Blend weights against a plain penalised likelihood, and the fit of each kind of row near the joint one."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from clients.evaluation.blend import MAX_ROWS, PRIOR_STRENGTH, Scorer, _features, blend, fit_weights
from clients.evaluation.rows import TestRows as Rows
from clients.evaluation.scorers import Windows, fitted_blends
from tests.clients.five_users import AS_DRAWN, N_ITEMS, tiny_site

Numbers = np.ndarray


def rows_of(wanted: list[list[int]], barred: list[list[int]] | None = None) -> Rows:
    """Rows that want and bar the given items; their histories are empty."""

    def pairs(items: list[list[int]]) -> tuple[Numbers, Numbers]:
        flat = [(row, item) for row, mine in enumerate(items) for item in mine]
        return np.array([r for r, _ in flat], np.int64), np.array([i for _, i in flat], np.int64)

    n = len(wanted)
    none = np.zeros((n, 1), np.int64)
    barred = barred or [[] for _ in wanted]
    return Rows(
        np.arange(n), none, none, none, none == 1, np.zeros(n, np.int64), pairs(wanted), pairs(barred)
    )


def scorers_of(features: Numbers) -> list[Scorer]:
    """Scorers that give the columns of features (users, items, m), by the row's user."""
    found: list[Scorer] = []
    for column in range(features.shape[2]):
        found.append(lambda rows, chunk, at=column: features[rows.user[chunk], :, at])  # type: ignore[misc]
    return found


def slow_loss(weights: Numbers, features: Numbers, rows: Rows, prior: Numbers) -> float:
    """Negative log likelihood over the items that aren't barred, row by row, and the Gaussian prior."""
    total = 0.0
    for row in range(len(rows)):
        wanted = rows.wanted[1][rows.wanted[0] == row].tolist()
        barred = rows.barred[1][rows.barred[0] == row].tolist()
        items = [item for item in range(features.shape[1]) if item not in barred]
        logits = {item: float(features[rows.user[row], item] @ weights) for item in items}
        log_z = np.log(sum(np.exp(value) for value in logits.values()))
        total -= sum(logits[item] - log_z for item in wanted) / len(wanted)
    away = np.asarray(weights) - prior
    return float(total + 0.5 * sum(4.0 / max(p * p, 0.05) * a * a for p, a in zip(prior, away, strict=True)))


def slow_fit(features: Numbers, rows: Rows, prior: list[float]) -> Numbers:
    """The same minimum by another method, without gradients by hand."""
    anchor = np.array(prior)
    bounds = [(0.0, None)] * len(prior)
    found = minimize(
        slow_loss, anchor, args=(features, rows, anchor), method="L-BFGS-B", bounds=bounds,
        options={"ftol": 1e-14, "gtol": 1e-8},
    )  # fmt: skip
    return found.x


FEATURES = np.random.default_rng(5).normal(size=(4, N_ITEMS, 3)).astype(np.float32)
WANTED = [[2], [0, 5], [6], [1]]
BARRED = [[0, 1], [], [3], [0, 2, 3, 4, 5]]


@pytest.mark.parametrize("prior", [[1.0, 0.5, 2.0], [0.1, 0.02, 0.3], [0.22, 0.23, 0.0]])
def test_weights_minimise_the_penalised_likelihood(prior: list[float]) -> None:
    rows = rows_of(WANTED, BARRED)
    truth = slow_fit(FEATURES, rows, prior)
    found = fit_weights(scorers_of(FEATURES), [rows], N_ITEMS, prior, seed=0)
    assert found == pytest.approx(truth, abs=2e-4)
    assert np.abs(found - prior).max() > 1e-3


def test_one_row_and_one_scorer_by_hand() -> None:
    """Two open items, a feature of 1 for the wanted: the weight solves 4 (w - 1) = 1 / (1 + e^w)."""
    features = np.zeros((1, N_ITEMS, 1), np.float32)
    features[0, 3, 0] = 1.0
    rows = rows_of([[3]], [[0, 1, 2, 4, 5]])
    (found,) = fit_weights(scorers_of(features), [rows], N_ITEMS, [1.0], seed=0)
    assert found == pytest.approx(1.0641, abs=2e-4)
    assert PRIOR_STRENGTH * (found - 1) == pytest.approx(1 / (1 + np.exp(found)), abs=1e-3)
    small = np.sqrt(0.01)  # priors under √0.05 are held no tighter than that one
    (found,) = fit_weights(scorers_of(features), [rows], N_ITEMS, [small], seed=0)
    assert 80 * (found - small) == pytest.approx(1 / (1 + np.exp(found)), abs=1e-3)


def test_no_weight_is_negative() -> None:
    features = np.zeros((40, N_ITEMS, 2), np.float32)
    features[:, 3, 0], features[:, 3, 1] = -1.0, 1.0
    found = fit_weights(scorers_of(features), [rows_of([[3]] * 40)], N_ITEMS, [0.3, 0.3], seed=0)
    assert found[0] == 0.0
    assert found[1] > 0.9


def test_rows_of_all_kinds_count_together_and_empty_ones_not_at_all() -> None:
    first, second = rows_of(WANTED[:2], BARRED[:2]), rows_of(WANTED[2:], BARRED[2:])
    second = replace(second, user=second.user + 2)
    scorers, prior = scorers_of(FEATURES), [1.0, 0.5, 2.0]
    together = fit_weights(scorers, [first, rows_of([]), second], N_ITEMS, prior, seed=0)
    assert together == pytest.approx(slow_fit(FEATURES, rows_of(WANTED, BARRED), prior), abs=2e-4)
    alone = fit_weights(scorers, [first], N_ITEMS, prior, seed=0)
    assert np.abs(together - alone).max() > 0.01


def test_without_rows_the_prior_comes_back_as_numbers() -> None:
    found = fit_weights(scorers_of(FEATURES), [rows_of([])], N_ITEMS, [1, 0, 2], seed=0)
    assert (found.tolist(), found.dtype) == ([1.0, 0.0, 2.0], np.float64)


def test_large_logits_stay_finite() -> None:
    features = 300 * FEATURES[..., :1]
    found = fit_weights(scorers_of(features), [rows_of(WANTED)], N_ITEMS, [1.0], seed=0)
    assert np.isfinite(found).all()
    assert found[0] < 1.0


@settings(max_examples=20, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 4))
def test_the_fit_is_where_the_slow_loss_is_least(seed: int, n: int) -> None:
    drawn = np.random.default_rng(seed)
    features = drawn.normal(size=(n, N_ITEMS, 2)).astype(np.float32)
    rows = rows_of([drawn.choice(N_ITEMS, drawn.integers(1, 4), replace=False).tolist() for _ in range(n)])
    prior = drawn.uniform(0.02, 1.5, 2)
    found = fit_weights(scorers_of(features), [rows], N_ITEMS, prior.tolist(), seed=0)
    least = slow_loss(found, features, rows, prior)
    for step in (0.01, -0.01):
        for column in range(2):
            moved = found.copy()
            moved[column] = max(0.0, moved[column] + step)
            assert slow_loss(moved, features, rows, prior) >= least - 1e-5


def test_at_most_so_many_rows_are_read_and_the_seed_says_which() -> None:
    assert MAX_ROWS == 768
    features = np.random.default_rng(1).normal(size=(900, N_ITEMS, 1)).astype(np.float32)
    rows = rows_of([[row % N_ITEMS] for row in range(900)])
    features[np.arange(900), np.arange(900) % N_ITEMS] += 1.0
    scorers = scorers_of(features)
    picked = rows.sample(768, 4)
    stacked, wanted, barred = _features(scorers, rows, N_ITEMS, 4)
    assert np.array_equal(stacked, features[picked.user])
    assert (stacked.shape, stacked.dtype) == ((768, N_ITEMS, 1), np.float32)
    assert np.array_equal(wanted.argmax(1), picked.user % N_ITEMS)
    assert not barred.any()
    whole = fit_weights(scorers, [rows], N_ITEMS, [1.0], seed=4)
    assert whole == fit_weights(scorers, [picked], N_ITEMS, [1.0], seed=9)
    assert whole != fit_weights(scorers, [rows], N_ITEMS, [1.0], seed=5)


def test_features_and_wanted_shares_by_hand() -> None:
    flat: Scorer = lambda rows, chunk: np.arange(N_ITEMS, dtype=np.float64)[None, :]  # noqa: E731
    rows = rows_of(WANTED, BARRED)
    stacked, wanted, barred = _features([flat, *scorers_of(FEATURES)], rows, N_ITEMS, 0)
    assert stacked.shape == (4, N_ITEMS, 4)
    assert np.array_equal(stacked[..., 0], np.tile(np.arange(N_ITEMS), (4, 1)))
    assert np.array_equal(stacked[..., 1:], FEATURES)
    assert [np.flatnonzero(row).tolist() for row in wanted] == WANTED
    assert wanted.sum(1).tolist() == [1.0] * 4
    assert wanted[1, 0] == 0.5
    assert stacked.dtype == wanted.dtype == np.float32
    assert [np.flatnonzero(row).tolist() for row in barred] == BARRED


@pytest.mark.parametrize(
    ("n_items", "scorers", "rows"),
    [
        (12_000_000, 1, 2), (12_000_001, 1, 1), (6_000_000, 2, 2), (4_000_000, 1, 4), (3_000_000, 3, 2),
        (7, 2, 768), (0, 1, 768), (1, 0, 768), (15_600, 1, 768), (15_700, 1, 765),
    ],
)  # fmt: skip
def test_large_catalogues_are_fitted_on_fewer_rows(n_items: int, scorers: int, rows: int) -> None:
    """So many rows that rows times items times scorers stays near twelve million numbers."""

    class Asked(Exception):
        pass

    class Counting:
        def sample(self, count: int, seed: int) -> Rows:
            raise Asked(count, seed)

    counting: Any = Counting()
    with pytest.raises(Asked) as asked:
        _features(scorers_of(np.zeros((1, 1, scorers), np.float32)), counting, n_items, 3)
    assert asked.value.args == (rows, 3)


def test_a_blend_by_hand() -> None:
    scorers: list[Scorer] = [
        lambda rows, chunk: np.array([[1, 2], [3, 4]], np.float32)[chunk],
        lambda rows, chunk: np.array([[10, 20]], np.float32),
    ]
    rows: Any = None
    found = blend(scorers, np.array([0.5, 2.0]))(rows, slice(0, 2))
    assert found.tolist() == [[20.5, 41.0], [21.5, 42.0]]
    assert found.dtype == np.float32
    assert blend(scorers, np.array([0.5, 2.0]))(rows, slice(1, 2)).tolist() == [[21.5, 42.0]]
    assert blend([], np.zeros(0))(rows, slice(3, 7)).tolist() == [[0.0]] * 4
    with pytest.raises(ValueError, match="zip"):
        blend(scorers, np.array([0.5]))(rows, slice(0, 2))


def two_kinds() -> tuple[Windows, list[Scorer], list[Scorer]]:
    """Returning rows that follow the first feature, baskets that follow the second; scorers of either window."""
    features = np.zeros((60, N_ITEMS, 2), np.float32)
    wanted = [[row % N_ITEMS] for row in range(60)]
    for row, (item,) in enumerate(wanted):
        features[row, item, int(row >= 40)] = 2.0
        features[row, (item + 3) % N_ITEMS, int(row < 40)] = 2.0
    returning, basket = rows_of(wanted[:40]), rows_of(wanted[40:])
    basket = replace(basket, user=basket.user + 40)
    at_test = scorers_of(np.arange(N_ITEMS * 2, dtype=np.float32).reshape(1, N_ITEMS, 2))
    return Windows((returning, basket), (rows_of([[0]]), rows_of([[1]])), 0, 1), scorers_of(features), at_test


def test_each_kind_of_row_is_fitted_near_the_joint_fit() -> None:
    seen, at_valid, at_test = two_kinds()
    site, prior = tiny_site(), [0.5, 0.5]
    _, (returning, basket) = fitted_blends(site, seen, at_valid, at_test, prior, seed=2)
    joint = fit_weights(at_valid, seen.valid, N_ITEMS, prior, seed=2)
    assert np.abs(joint - prior).max() > 0.2
    for rows, found in zip(seen.valid, (returning, basket), strict=True):
        near = fit_weights(at_valid, [rows], N_ITEMS, np.maximum(joint, 0.02).tolist(), seed=2)
        far = fit_weights(at_valid, [rows], N_ITEMS, prior, seed=2)
        assert found == pytest.approx(near, abs=1e-9)
        assert np.abs(found - far).max() > 0.05


def test_a_kind_without_rows_takes_the_joint_fit_itself() -> None:
    seen, at_valid, at_test = two_kinds()
    seen = replace(seen, valid=(seen.valid[0], rows_of([])))
    _, (returning, basket) = fitted_blends(tiny_site(), seen, at_valid, at_test, [0.5, 0.5], seed=2)
    joint = fit_weights(at_valid, seen.valid, N_ITEMS, [0.5, 0.5], seed=2)
    assert basket.tolist() == np.maximum(joint, 0.02).tolist()
    assert joint[0] > 0.5
    assert returning[0] > joint[0]


def test_a_joint_weight_of_zero_leaves_room_to_grow() -> None:
    features = np.zeros((40, N_ITEMS, 1), np.float32)
    features[:30, 3, 0], features[30:, 4, 0] = -1.0, 5.0
    rows, few = rows_of([[3]] * 30), rows_of([[4]] * 10)
    few = replace(few, user=few.user + 30)
    seen = Windows((rows, rows_of([])), (few, few), 0, 1)
    _, (_, basket) = fitted_blends(tiny_site(), seen, scorers_of(features), scorers_of(features), [0.3], 0)
    assert basket.tolist() == [0.02]


def test_blends_use_the_scorers_of_the_test_window_in_their_order() -> None:
    seen, at_valid, at_test = two_kinds()
    (returning, basket), weights = fitted_blends(tiny_site(), seen, at_valid, at_test, [0.5, 0.5], seed=2)
    for scorer, own, rows in zip((returning, basket), weights, seen.test, strict=True):
        columns = np.arange(N_ITEMS * 2).reshape(N_ITEMS, 2)
        assert scorer(rows, slice(0, 1))[0] == pytest.approx(columns @ own, rel=1e-5)
    assert weights[0][0] > weights[1][0]


def test_the_rows_of_a_kind_are_drawn_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[fit_weights.__module__], "MAX_ROWS", 9)
    seen, at_valid, at_test = two_kinds()
    found = [fitted_blends(tiny_site(), seen, at_valid, at_test, [0.5, 0.5], seed)[1] for seed in (2, 2, 3)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
