"""Nothing at or after an instant is ever visible: the split by time against brute force."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.dataset import DAY_S, SEARCH, Log, as_user_inputs, gather_histories, rows_before
from tests.clients.small_site import START, drawn_log, drawn_site

SEEDS = st.integers(0, 2**31)
INSTANTS = st.integers(START - DAY_S, START + 41 * DAY_S)
Row = tuple[int, int, int, int]


def rows_of(log: Log) -> list[Row]:
    return list(zip(*(a.tolist() for a in (log.user, log.time, log.item, log.kind)), strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, at=INSTANTS, until=INSTANTS)
def test_views_are_bounded_and_indexed(seed: int, at: int, until: int) -> None:
    log = drawn_log(seed)
    views = (
        (log.before(at), [r for r in rows_of(log) if r[1] < at]),
        (log.between(at, until), [r for r in rows_of(log) if at <= r[1] < until]),
    )
    for view, truth in views:
        assert rows_of(view) == truth
        assert view.n_users == log.n_users
        for user in range(log.n_users):
            mine = rows_of(view)[view.offsets[user] : view.offsets[user + 1]]
            assert mine == [r for r in truth if r[0] == user]


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_a_log_does_not_depend_on_the_order_it_came_in(seed: int) -> None:
    log = drawn_log(seed)
    order = np.random.default_rng(seed).permutation(len(log))
    again = Log.of(log.user[order], log.item[order], log.kind[order], log.time[order], log.n_users)
    assert rows_of(again) == rows_of(log)
    assert np.array_equal(again.offsets, log.offsets)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, at=INSTANTS, length=st.integers(1, 9), events=st.sampled_from([1, 20, 400]))
def test_histories_hold_the_last_events_before_the_instant(
    seed: int, at: int, length: int, events: int
) -> None:
    log = drawn_log(seed, events=events)
    users = np.arange(log.n_users)
    ends = rows_before(log, users, np.full(len(users), at))
    items, kinds, times, valid = gather_histories(log, users, ends, length)
    for user in users:
        truth = [r[1:] for r in rows_of(log) if r[0] == user and r[1] < at][-length:]
        seen = valid[user]
        assert list(zip(times[user][seen], items[user][seen], kinds[user][seen], strict=True)) == truth
        assert not seen[: length - len(truth)].any()


def test_an_empty_log_gives_empty_histories() -> None:
    none = np.zeros(0, np.int64)
    log = Log.of(none, none, none, none, 3)
    ends = rows_before(log, np.arange(3), np.full(3, START))
    _, _, _, valid = gather_histories(log, np.arange(3), ends, 4)
    assert valid.shape == (3, 4)
    assert not valid.any()


def test_user_inputs_show_only_what_is_strictly_before() -> None:
    times, at = np.array([[10, 20, 30]]), np.array([[20, 31]])
    items = np.array([[1, -1, 2]])
    inputs = as_user_inputs(items, np.zeros_like(items), times, np.array([[True, True, False]]), at)
    assert inputs.visible.tolist() == [[[True, False, False], [True, True, False]]]
    assert inputs.gaps.tolist() == [[[10, 0, -10], [21, 11, 1]]]
    assert inputs.items.min() == 0


def test_the_item_log_leaves_out_searches() -> None:
    site = drawn_site()
    assert (site.item_log.kind != SEARCH).all()
    assert (site.item_log.item >= 0).all()
    assert len(site.item_log) == int((site.log.kind != SEARCH).sum())
