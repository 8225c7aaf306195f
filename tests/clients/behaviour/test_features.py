"""Features against loops over events, and against another future."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.behaviour.definitions import FEATURES, MOST, N_FEATURES, PLACE
from clients.behaviour.diary import Diary
from clients.behaviour.features import features, raw_features
from clients.data.dataset import DAY_S, Log
from tests.clients.behaviour.slow_features import Event, slow_features
from tests.clients.small_site import START, drawn_log, drawn_site, with_other_future

CATEGORY = np.arange(15) % 4 - 1


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), hours=st.integers(0, 130 * 24))
def test_every_feature_is_what_a_loop_over_events_says(seed: int, hours: int) -> None:
    log = drawn_log(seed, events=200, days=120)
    at = START + hours * 3600 + 5
    users = np.arange(log.n_users)
    raw = raw_features(Diary(log, CATEGORY), users, np.full(len(users), at))
    assert set(raw) == set(PLACE)
    for user in users:
        mine = log.user == user
        events = [
            Event(int(t), int(k), int(i), int(CATEGORY[i]) if i >= 0 else -1)
            for t, k, i in zip(log.time[mine], log.kind[mine], log.item[mine], strict=True)
        ]
        slow = slow_features(events, at)
        assert set(slow) == set(raw)
        for name, value in slow.items():
            assert raw[name][user] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("seed", range(3))
def test_another_future_leaves_the_features_alone(seed: int) -> None:
    site, at = drawn_site(seed), START + 30 * DAY_S
    other = with_other_future(site, at, seed + 100)
    users = np.arange(site.log.n_users)
    first, second = (features(Diary(s.log, CATEGORY), users, np.full(len(users), at)) for s in (site, other))
    assert np.array_equal(first, second)


def test_other_customers_leave_the_features_alone() -> None:
    log = drawn_log(3)
    alone = log.where(log.user == 4)
    users, at = np.array([4, 4]), np.array([START + 20 * DAY_S, START + 35 * DAY_S])
    assert np.array_equal(
        features(Diary(log, CATEGORY), users, at), features(Diary(alone, CATEGORY), users, at)
    )


def test_standardised_by_public_constants_and_cut() -> None:
    log = drawn_log(1)
    users, at = np.arange(log.n_users), np.full(log.n_users, START + 30 * DAY_S)
    raw, standard = raw_features(Diary(log, CATEGORY), users, at), features(Diary(log, CATEGORY), users, at)
    assert standard.shape == (log.n_users, N_FEATURES)
    for place, feature in enumerate(FEATURES):
        expected = np.clip((raw[feature.name] - feature.centre) / feature.scale, -MOST, MOST)
        assert standard[:, place] == pytest.approx(expected), feature.name
    assert (standard[:, PLACE["one"]] == 1.0).all()
    assert len({feature.name for feature in FEATURES}) == N_FEATURES
    assert all(feature.unit and feature.definition and feature.scale > 0 for feature in FEATURES)


def test_an_empty_log_has_features() -> None:
    empty = np.zeros(0, np.int64)
    log = Log.of(empty, empty, empty, empty, 2)
    found = features(Diary(log, CATEGORY), np.arange(2), np.array([START, START]))
    assert np.isfinite(found).all()
    assert np.array_equal(found[0], found[1])
