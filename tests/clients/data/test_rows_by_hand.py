"""Test rows worked out by hand on five users and seven items."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.dataset import PURCHASE
from clients.data.rows import TestRows as Rows
from clients.data.rows import _pairs, basket_rows, returning_rows
from clients.evaluation.rows import Ranking
from tests.clients.five_users import AS_DRAWN, N_ITEMS, Event, day, three_rows, tiny_site

FROM, UNTIL = day(10), day(14)
RETURNING: list[Event] = [
    (0, "view", 0, 1.0),
    (0, "purchase", 1, 2.0),
    (0, "purchase", 0, 11.0),  # seen before: no discovery
    (0, "purchase", 2, 10.0),  # the first instant of the window
    (0, "purchase", 3, 14.0),  # the first instant after it
    (0, "cart", 4, 12.0),
    (1, "purchase", 5, 11.0),  # new in the window
    (2, "view", 6, 9.0),
    (2, "purchase", 6, 12.0),
    (3, "search", -1, 3.0),  # has named no item
    (3, "purchase", 1, 12.0),
    (4, "view", 2, 1.0),
    (4, "click", 3, 2.0),
    (4, "search", -1, 2.5),
    (4, "cart", 4, 3.0),
    (4, "cart", 4, 4.0),
    (4, "purchase", 6, 10.0),
    (4, "purchase", 5, 13.75),
    (4, "purchase", 5, 13.75),
]
BASKETS: list[Event] = [
    (0, "purchase", 0, 9.75),  # known before the window
    (0, "purchase", 1, 11.0),
    (0, "purchase", 2, 11.0),
    (1, "view", 6, 1.0),  # a look is no purchase
    (1, "purchase", 4, 10.0),
    (1, "purchase", 2, 11.0),
    (1, "purchase", 2, 12.0),
    (1, "purchase", 1, 13.75),
    (1, "cart", 0, 13.0),
    (2, "purchase", 3, 11.0),
    (2, "purchase", 3, 12.0),
    (3, "purchase", 5, 11.0),
    (3, "purchase", 6, 14.0),
    (4, "purchase", 6, 12.0),
    (4, "purchase", 0, 12.0),
]


def pairs(wanted: tuple[np.ndarray, np.ndarray]) -> list[tuple[int, int]]:
    return list(zip(wanted[0].tolist(), wanted[1].tolist(), strict=True))


def histories(rows: Rows) -> list[list[tuple[int, int, int]]]:
    """(item, kind, time) of each row's history, padding left out."""
    return [
        [
            (int(rows.items[r, h]), int(rows.kinds[r, h]), int(rows.times[r, h]))
            for h in range(rows.items.shape[1])
            if rows.valid[r, h]
        ]
        for r in range(len(rows))
    ]


def test_returning_rows_by_hand() -> None:
    rows = returning_rows(tiny_site(RETURNING), FROM, UNTIL, 3)
    assert rows.user.tolist() == [0, 4]
    assert rows.at.tolist() == [FROM, FROM]
    assert pairs(rows.wanted) == [(0, 2), (1, 5), (1, 6)]
    assert pairs(rows.barred) == [(0, 0), (0, 1), (1, 2), (1, 3), (1, 4)]
    assert rows.valid.tolist() == [[False, True, True], [True, True, True]]
    assert histories(rows) == [
        [(0, 0, day(1)), (1, 3, day(2))],
        [(3, 1, day(2)), (4, 2, day(3)), (4, 2, day(4))],
    ]


def test_basket_rows_by_hand() -> None:
    site, hidden = tiny_site(BASKETS), []
    for seed in range(12):
        rows = basket_rows(site, FROM, UNTIL, 2, seed)
        assert rows.user.tolist() == [1, 4]
        assert rows.at.tolist() == [FROM, FROM]
        draws = np.random.default_rng(seed).random(2)
        wanted = [[1, 2, 4][int(3 * draws[0])], [0, 6][int(2 * draws[1])]]
        assert pairs(rows.wanted) == list(enumerate(wanted))
        rest = [[i for i in (1, 2, 4) if i != wanted[0]], [i for i in (0, 6) if i != wanted[1]]]
        assert pairs(rows.barred) == [(row, item) for row in range(2) for item in rest[row]]
        assert histories(rows) == [[(item, PURCHASE, FROM) for item in items] for items in rest]
        assert rows.valid.tolist() == [[True, True], [False, True]]
        hidden.append(tuple(wanted))
    assert len(set(hidden)) == 6


def test_without_anyone_there_are_no_rows() -> None:
    quiet: list[Event] = [(0, "view", 1, 1.0), (1, "purchase", 2, 20.0)]
    site = tiny_site(quiet)
    for rows in (returning_rows(site, FROM, UNTIL, 3), basket_rows(site, FROM, UNTIL, 3, 0)):
        assert len(rows) == 0
        assert [part.shape for part in (*rows.wanted, *rows.barred)] == [(0,)] * 4
        assert {part.dtype for part in (rows.at, *rows.wanted, *rows.barred)} == {np.dtype(np.int64)}
        assert rows.items.shape == (0, 3)
        assert Ranking(site, rows).summary() == {}
        assert Ranking(site, rows).per_row() == {}
    searching: list[Event] = [(0, "search", -1, 1.0), (1, "purchase", 2, 11.0)]
    assert len(returning_rows(tiny_site(searching), FROM, UNTIL, 3)) == 0


def test_pairs_are_distinct_and_of_an_empty_log_none() -> None:
    log = tiny_site(RETURNING).log
    assert pairs(_pairs(log.where(log.user == 4))) == [(4, item) for item in (-1, 2, 3, 4, 5, 6)]
    none = _pairs(log.before(day(0)))
    assert [(part.shape, part.dtype) for part in none] == [((0,), np.int64)] * 2


@settings(max_examples=25, deadline=None, phases=AS_DRAWN)
@given(shift=st.integers(0, 10**7))
def test_the_future_changes_neither_histories_nor_what_is_barred(shift: int) -> None:
    """What is bought in the window comes later, and so may what is bought after it: only the wanted may change."""
    site = tiny_site(RETURNING)
    late = site.log.time + np.where(site.log.time > day(12), shift, 0)
    first, second = (
        returning_rows(s, FROM, UNTIL, 3) for s in (site, replace(site, log=replace(site.log, time=late)))
    )
    both = np.intersect1d(first.user, second.user).tolist()
    assert 0 in both
    for user in both:
        a, b = first.user.tolist().index(user), second.user.tolist().index(user)
        assert histories(first)[a] == histories(second)[b]
        assert (
            first.barred[1][first.barred[0] == a].tolist() == second.barred[1][second.barred[0] == b].tolist()
        )


def test_inputs_show_all_of_a_history_whatever_its_instants() -> None:
    found = three_rows().inputs(slice(1, 3))
    assert found.items.tolist() == [[1, 2], [0, 4]]
    assert found.kinds.tolist() == [[2, 3], [3, 0]]
    assert found.gaps.tolist() == [[[-10.0, -20.0]], [[10.0, 0.0]]]
    assert found.visible.tolist() == [[[False, True]], [[False, False]]]


def test_masks_are_dense_and_of_the_rows_asked_for() -> None:
    rows = three_rows()
    whole = rows.mask(rows.wanted, slice(0, 3), N_ITEMS)
    assert whole.shape == (3, N_ITEMS)
    assert [np.flatnonzero(row).tolist() for row in whole] == [[5], [0, 3], [6]]
    part = rows.mask(rows.wanted, slice(1, 2), N_ITEMS)
    assert [np.flatnonzero(row).tolist() for row in part] == [[0, 3]]
    beyond = rows.mask(rows.barred, slice(1, 900), N_ITEMS)
    assert [np.flatnonzero(row).tolist() for row in beyond] == [[], [4]]


def test_a_sample_keeps_whole_rows_in_order() -> None:
    rows = three_rows()
    assert rows.sample(3, 0) is rows
    assert rows.sample(4, 0) is rows
    kept_all = set()
    for seed in range(20):
        kept = sorted(np.random.default_rng(seed).choice(3, 2, replace=False).tolist())
        found = rows.sample(2, seed)
        assert len(found) == 2
        for name in ("user", "items", "kinds", "times", "valid", "at"):
            assert np.array_equal(getattr(found, name), getattr(rows, name)[kept])
        for name in ("wanted", "barred"):
            truth = [(kept.index(r), i) for r, i in pairs(getattr(rows, name)) if r in kept]
            assert pairs(getattr(found, name)) == truth
        kept_all.add(tuple(kept))
    assert kept_all == {(0, 1), (0, 2), (1, 2)}
    with pytest.raises(FrozenInstanceError):
        rows.user = rows.at  # type: ignore[misc]
