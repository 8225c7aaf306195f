"""A blend's weights against a plain search, and which rows and scorers it is given."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.rows import TestRows as Rows
from clients.evaluation.blend import (
    ENOUGH_ROWS,
    FACTORS,
    MAX_NUMBERS,
    MAX_ROWS,
    PASSES,
    Scorer,
    _scored,
    blend,
    choose_weights,
)
from clients.evaluation.scorers import Windows, chosen_blends
from clients.training.samples import derived_seed
from tests.clients.evaluation.test_blend import slow_ndcg
from tests.clients.five_users import AS_DRAWN, N_ITEMS, tiny_site

Numbers = np.ndarray
FEATURES = np.random.default_rng(5).normal(size=(4, N_ITEMS, 3)).astype(np.float32)
WANTED = [[2], [0, 5], [6], [1]]
BARRED = [[0, 1], [], [3], [0, 2, 3, 4, 5]]


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


def slow_search(scorers: list[Scorer], kinds: list[Rows], start: Numbers) -> Numbers:
    """Each weight in turn, times each factor; what ranks better is taken, and kept if a standard error backs it."""

    def quality(weights: Numbers) -> Numbers:
        single = [rows.take(np.array([row])) for rows in kinds for row in range(len(rows))]
        return np.array([slow_ndcg(row, tuple(scorers), weights) for row in single])

    weights, first = np.array(start, np.float64), quality(np.array(start))
    best = first
    for _ in range(PASSES):
        for place in range(len(weights)):
            for factor in FACTORS:
                tried = weights.copy()
                tried[place] *= factor
                if quality(tried).mean() > best.mean() + 1e-12:
                    best, weights = quality(tried), tried
    error = np.sqrt(((best - first - (best - first).mean()) ** 2).mean() / len(first))
    return weights if (best - first).mean() > error else np.array(start, np.float64)


@settings(max_examples=8, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**31), n=st.integers(1, 6))
def test_the_search_is_the_plain_one_for_both_kinds_together(seed: int, n: int) -> None:
    drawn = np.random.default_rng(seed)
    features = drawn.normal(size=(2 * n, N_ITEMS, 2)).astype(np.float32)
    wanted = [drawn.choice(N_ITEMS, drawn.integers(1, 4), replace=False).tolist() for _ in range(2 * n)]
    first, second = rows_of(wanted[:n]), rows_of(wanted[n:])
    second = replace(second, user=second.user + n)
    start = drawn.uniform(0.1, 1.5, 2)
    found = choose_weights(scorers_of(features), [first, second], N_ITEMS, start.tolist(), seed=0)
    truth = slow_search(scorers_of(features), [first, second], start)
    for weights in found:
        assert weights == pytest.approx(truth)


def test_a_kind_with_enough_rows_is_searched_on_from_the_joint_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.modules[choose_weights.__module__], "ENOUGH_ROWS", 20)
    kinds, scorers = two_kinds()
    found = choose_weights(scorers, kinds, N_ITEMS, [0.5, 0.5], seed=2)
    joint = slow_search(scorers, kinds, np.array([0.5, 0.5]))
    for rows, weights in zip(kinds, found, strict=True):
        assert weights == pytest.approx(slow_search(scorers, [rows], joint))
    assert found[0][0] / found[0][1] > found[1][0] / max(found[1][1], 1e-9)


def test_few_rows_of_a_kind_take_what_is_best_for_all() -> None:
    assert ENOUGH_ROWS == 100
    kinds, scorers = two_kinds()
    found = choose_weights(scorers, kinds, N_ITEMS, [0.5, 0.5], seed=2)
    joint = slow_search(scorers, kinds, np.array([0.5, 0.5]))
    assert [weights.tolist() for weights in found] == [joint.tolist()] * 2
    (alone, none) = choose_weights(scorers, [kinds[0], rows_of([])], N_ITEMS, [0.5, 0.5], seed=2)
    assert none.tolist() == alone.tolist()


def test_without_rows_the_constants_come_back_as_numbers() -> None:
    (found,) = choose_weights(scorers_of(FEATURES), [rows_of([])], N_ITEMS, [1, 0, 2], seed=0)
    assert (found.tolist(), found.dtype) == ([1.0, 0.0, 2.0], np.float64)


def test_at_most_so_many_rows_are_read_and_the_seed_says_which() -> None:
    assert MAX_ROWS == 300
    features = np.random.default_rng(1).normal(size=(400, N_ITEMS, 1)).astype(np.float32)
    rows = rows_of([[row % N_ITEMS] for row in range(400)])
    picked = rows.sample(300, 4)
    stacked, wanted = _scored(scorers_of(features), rows, N_ITEMS, 4)
    assert np.array_equal(stacked[0], features[picked.user, :, 0])
    assert (stacked.shape, stacked.dtype) == ((1, 300, N_ITEMS), np.float32)
    assert np.array_equal(wanted.argmax(1), picked.user % N_ITEMS)


def test_scores_and_wanted_items_by_hand() -> None:
    flat: Scorer = lambda rows, chunk: np.arange(N_ITEMS, dtype=np.float64)[None, :]  # noqa: E731
    rows = rows_of(WANTED, BARRED)
    stacked, wanted = _scored([flat, *scorers_of(FEATURES)], rows, N_ITEMS, 0)
    assert stacked.shape == (4, 4, N_ITEMS)
    assert stacked.dtype == np.float32
    assert [np.flatnonzero(row).tolist() for row in wanted] == WANTED
    for row, barred in enumerate(BARRED):
        free = [item for item in range(N_ITEMS) if item not in barred]
        assert stacked[0, row, free].tolist() == free
        assert np.array_equal(stacked[1:, row][:, free].T, FEATURES[row, free])
        assert (stacked[:, row][:, barred] < -1e5).all()
        assert np.isfinite(stacked).all()


@pytest.mark.parametrize(
    ("n_items", "scorers", "rows"),
    [(12_000_000, 1, 2), (12_000_001, 1, 1), (6_000_000, 2, 2), (3_000_000, 3, 2), (7, 2, 300), (0, 1, 300),
     (1, 0, 300), (40_000, 1, 300), (41_000, 1, 293)],
)  # fmt: skip
def test_large_catalogues_are_searched_on_fewer_rows(n_items: int, scorers: int, rows: int) -> None:
    """So many rows that rows times items times scorers stays near twelve million numbers."""
    assert MAX_NUMBERS == 12_000_000

    class Asked(Exception):
        pass

    class Counting:
        def sample(self, count: int, seed: int) -> Rows:
            raise Asked(count, seed)

    counting: Any = Counting()
    with pytest.raises(Asked) as asked:
        _scored(scorers_of(np.zeros((1, 1, scorers), np.float32)), counting, n_items, 3)
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
    assert blend(scorers, np.array([0.0, 2.0]))(rows, slice(0, 2)).tolist() == [[20.0, 40.0]] * 2
    assert blend([], np.zeros(0))(rows, slice(3, 7)).tolist() == [[0.0]] * 4
    with pytest.raises(ValueError, match="zip"):
        blend(scorers, np.array([0.5]))(rows, slice(0, 2))


def two_kinds() -> tuple[list[Rows], list[Scorer]]:
    """Returning rows that follow the first feature, baskets that follow the second."""
    features = np.random.default_rng(3).normal(size=(60, N_ITEMS, 2)).astype(np.float32)
    wanted = [[row % N_ITEMS] for row in range(60)]
    for row, (item,) in enumerate(wanted):
        features[row, item, int(row >= 40)] += 2.0
        features[row, (item + 3) % N_ITEMS, int(row < 40)] += 2.0
    returning, basket = rows_of(wanted[:40]), rows_of(wanted[40:])
    return [returning, replace(basket, user=basket.user + 40)], scorers_of(features)


def test_blends_use_the_scorers_of_their_own_window_in_their_order() -> None:
    kinds, at_valid = two_kinds()
    columns = np.arange(N_ITEMS * 2, dtype=np.float32).reshape(N_ITEMS, 2)
    at_test = scorers_of(columns[None])
    seen = Windows((kinds[0], kinds[1]), (rows_of([[0]]), rows_of([[1]])), 0, 1)
    site = tiny_site()
    valid, test = chosen_blends(site, seen, (at_valid, at_test), [0.05, 2.0])
    chosen = choose_weights(at_valid, kinds, N_ITEMS, [0.05, 2.0], derived_seed(site.name, "blend"))
    assert not np.array_equal(chosen[0], [0.05, 2.0])
    for of_valid, of_test, weights, rows in zip(valid, test, chosen, kinds, strict=True):
        assert of_test(seen.test[0], slice(0, 1))[0] == pytest.approx(columns @ weights, rel=1e-5)
        whole = slice(0, len(rows))
        truth = sum(w * s(rows, whole) for w, s in zip(weights, at_valid, strict=True))
        assert of_valid(rows, whole) == pytest.approx(truth, abs=1e-5)
