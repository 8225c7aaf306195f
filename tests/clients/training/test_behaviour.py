"""Behaviour features read the past only; labels and features against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.dataset import DAY_S, KINDS, PURCHASE, Log, Split
from clients.training.behaviour import (
    WINDOWS_S,
    behaviour_rows,
    horizon_s,
    instants_ahead,
    instants_back,
    log_features,
)
from common.models.heads import N_LOG_FEATURES
from tests.clients.small_site import START, drawn_log, drawn_site, with_other_future

Event = tuple[int, int]


def features_of(events: list[Event], at: int) -> list[float]:
    """One user's features from (time, kind) pairs, as the docstring says them."""
    out = [
        math.log1p(sum(k == kind and at - t <= window for t, k in events))
        for kind in range(len(KINDS))
        for window in WINDOWS_S
    ]
    bought = [t for t, k in events if k == PURCHASE]
    first, last = min(t for t, _ in events), max(t for t, _ in events)
    gap, tenure = (at - last) / DAY_S, (at - first) / DAY_S
    since_bought = (at - max(bought)) / DAY_S if bought else tenure
    days = {t // DAY_S for t, _ in events}
    recent = {t // DAY_S for t, _ in events if at - t <= 28 * DAY_S}
    mean_gap = max((tenure - gap) / max(len(days) - 1, 1), 0.5)
    return [
        *out,
        math.log1p(gap),
        math.log1p(since_bought),
        float(bool(bought)),
        math.log1p(tenure),
        math.log1p(len(recent)),
        math.log1p(len(days)),
        min(gap / mean_gap, 5.0),
    ]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), day=st.integers(1, 40))
def test_features_and_labels_against_brute_force(seed: int, day: int) -> None:
    log, at, horizon = drawn_log(seed, events=150), START + day * DAY_S + 7, 3 * DAY_S
    rows = behaviour_rows(log, np.array([at]), horizon)
    events = list(zip(log.user.tolist(), log.time.tolist(), log.kind.tolist(), strict=True))
    assert rows.user.tolist() == sorted({u for u, t, _ in events if t < at})
    for place, user in enumerate(rows.user):
        past = [(t, k) for u, t, k in events if u == user and t < at]
        coming = [(t, k) for u, t, k in events if u == user and at <= t < at + horizon]
        assert rows.features[place, :-1] == pytest.approx(features_of(past, at), abs=1e-5)
        assert rows.intent[place] == any(k == PURCHASE for _, k in coming)
        if coming:
            earliest = min(t for t, _ in coming)
            assert rows.next_kind[place] in {k for t, k in coming if t == earliest}
        else:
            assert rows.next_kind[place] == -1


@pytest.mark.parametrize("seed", range(3))
def test_another_future_leaves_the_features_alone(seed: int) -> None:
    site, at = drawn_site(seed), START + 30 * DAY_S
    other = with_other_future(site, at, seed + 100)
    first, second = (behaviour_rows(s.log, np.array([at]), 4 * DAY_S) for s in (site, other))
    assert np.array_equal(first.user, second.user)
    assert np.array_equal(first.features, second.features)
    assert not np.array_equal(first.next_kind, second.next_kind)


def test_the_last_feature_tells_a_cart_at_the_end() -> None:
    times = START + np.arange(4)
    log = Log.of(np.array([0, 0, 1, 1]), np.zeros(4, np.int64), np.array([0, 2, 2, 0]), times, 3)
    features = log_features(log, START + DAY_S)
    assert features.shape == (3, N_LOG_FEATURES)
    assert features[:, -1].tolist() == [1.0, 0.0, 0.0]
    assert np.isfinite(features).all()


def test_instants_keep_their_horizon_inside() -> None:
    split = Split(0, 8 * DAY_S, 16 * DAY_S)
    horizon = horizon_s(split)
    assert horizon == 2 * DAY_S
    back = instants_back(split.test_from, horizon, DAY_S, at_most=8)
    assert (back + horizon <= split.test_from).all()
    assert (back > DAY_S).all()
    assert back.tolist() == [6 * DAY_S, 4 * DAY_S, 2 * DAY_S]
    ahead = instants_ahead(split.test_from, split.until, horizon)
    assert (ahead + horizon <= split.until).all()
    assert ahead[0] == split.test_from
    assert instants_ahead(5, 6, horizon).tolist() == [5]


def test_no_instants_give_no_rows() -> None:
    assert len(behaviour_rows(drawn_log(0), np.zeros(0, np.int64), DAY_S)) == 0
