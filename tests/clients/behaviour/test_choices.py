"""The conditional logit against differences, and its rows against loops over events."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.behaviour.choices import (
    HORIZON_S,
    KIND_OPTIONS,
    RECENT_S,
    Asked,
    ChoicePart,
    ChoiceRows,
    choice_rows,
    instants_of,
    log_chances,
)
from clients.behaviour.diary import Diary
from clients.behaviour.tasks import STEP_S
from clients.data.dataset import DAY_S
from clients.training.moves import move
from tests.clients.small_site import START, drawn_log, drawn_site, with_other_future

CATEGORY = np.arange(15) % 4 - 1


def drawn(seed: int, rows: int = 80) -> ChoicePart:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(rows, 4, 3))
    chance = np.exp(log_chances(x, np.array([1.0, -0.5, 0.0])))
    label = np.array([generator.choice(4, p=p) for p in chance])
    return ChoicePart("t", ChoiceRows(generator.integers(0, 9, rows), x, label))


def test_loss_gradient_and_curvature_agree() -> None:
    part, weights, step = drawn(0), np.array([0.3, -0.2, 0.1]), 1e-5
    _, gradient = part.loss(weights)
    for place in range(3):
        bump = np.eye(3)[place] * step
        (above, up), (below, down) = part.loss(weights + bump), part.loss(weights - bump)
        assert gradient[place] == pytest.approx((above - below) / (2 * step), abs=1e-6)
        assert part.curvature(weights)[place] == pytest.approx((up - down) / (2 * step), abs=1e-5)
    assert part.user_gradients(weights).sum(0) * 80**-0.5 == pytest.approx(gradient)
    assert len(part.user_gradients(weights)) == len(set(part.rows.user.tolist()))


def test_no_choice_costs_the_log_of_the_options_and_a_move_finds_the_weights() -> None:
    part = drawn(1, rows=3000)
    assert part.loss(part.start())[0] == pytest.approx(3000**0.5 * math.log(4))
    assert move(part, part.start(), 0.1) == pytest.approx([1.0, -0.5, 0.0], abs=0.12)
    empty = ChoicePart("t", part.rows.take(np.zeros(0, np.int64)))
    assert move(empty, empty.start(), 1.0).tolist() == [0.0, 0.0, 0.0]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), hours=st.integers(24, 45 * 24))
@pytest.mark.parametrize("asked", ["kind", "category"])
def test_rows_are_what_loops_say(asked: Asked, seed: int, hours: int) -> None:
    log, at = drawn_log(seed, events=150), START + hours * 3600
    options = KIND_OPTIONS if asked == "kind" else 3
    learners = np.arange(log.n_users) % 2 == 0
    rows = choice_rows(Diary(log, CATEGORY), asked, options, np.array([at]), learners)
    codes = [int(k) if asked == "kind" else int(CATEGORY[i]) if i >= 0 else -1
             for k, i in zip(log.kind, log.item, strict=True)]  # fmt: skip
    events = list(zip(log.user.tolist(), log.time.tolist(), codes, strict=True))
    place = 0
    popular = [c for u, t, c in events if at - RECENT_S <= t < at and learners[u] and c >= 0]
    for user in range(log.n_users):
        past = [(t, c) for u, t, c in events if u == user and t < at]
        coming = [c for u, t, c in events if u == user and at <= t < at + HORIZON_S and c >= 0]
        if not past or not coming:
            continue
        assert rows.user[place] == user
        assert rows.label[place] == coming[0]
        coded = [(t, c) for t, c in past if c >= 0]
        recent = [c for t, c in coded if t >= at - RECENT_S]
        for option in range(options):
            expected = [
                _log_share([c for _, c in coded], option, options),
                _log_share(recent, option, options),
                float(bool(coded) and coded[-1][1] == option),
                _log_share(popular, option, options),
            ]
            assert rows.features[place, option, :4] == pytest.approx(expected)
        if asked == "kind":
            assert rows.features[place, :, 4:9] == pytest.approx(np.eye(5))
            assert rows.features[place, :, 9:].sum() == (5 if coded else 0)
            assert all(rows.features[place, o, 9 + coded[-1][1] * 5 + o] == 1 for o in range(5))
        place += 1
    assert place == len(rows)


def _log_share(codes: list[int], option: int, options: int) -> float:
    return math.log((codes.count(option) + 1 / options) / (len(codes) + 1))


def test_another_future_leaves_the_features_alone() -> None:
    site, at = drawn_site(3), START + 30 * DAY_S
    found = []
    for each in (site, with_other_future(site, at, 8)):
        rows = choice_rows(Diary(each.log, CATEGORY), "kind", 5, np.array([at]), each.learners)
        found.append(dict(zip(rows.user.tolist(), rows.features, strict=True)))
    both = set(found[0]) & set(found[1])
    assert both
    assert all(np.array_equal(found[0][user], found[1][user]) for user in both)


def test_instants_keep_their_week_inside() -> None:
    instants = instants_of(START, START + 28 * DAY_S)
    assert instants[0] == START + 21 * DAY_S
    assert (instants >= START).all()
    assert set(np.diff(instants)) == {-STEP_S}
    assert len(instants_of(START, START + 6 * DAY_S)) == 0
