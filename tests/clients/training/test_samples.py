"""What is drawn for training, worked out by hand on five users and seven items."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.dataset import DAY_S, Log, SiteDataset
from clients.training.behaviour import BehaviourRows
from clients.training.samples import (
    BEHAVIOUR_INSTANTS,
    TARGET_WEIGHTS,
    TrainingData,
    derived_seed,
    draw_behaviour,
    draw_targets,
    log_popularity,
    training_data,
    visible_events,
)
from tests.clients.five_users import AS_DRAWN, EVENTS, N_ITEMS, START, Dice, day, log_of, tiny_site

UNTIL = day(10)
LOG_OFFSETS = [0, 5, 7, 13, 13, 13]


def test_seeds_are_the_first_63_bits_of_a_hash() -> None:
    assert derived_seed() == 0xE3B0C44298FC1C14 >> 1  # SHA-256 of nothing
    assert derived_seed("a", 1) == 4742018630964328543  # of "a", one separator, "1"


def test_events_weigh_as_much_as_they_say_of_a_taste() -> None:
    assert TARGET_WEIGHTS.tolist() == [0.1, 0.1, 0.3, 1.0, 0.0]
    assert BEHAVIOUR_INSTANTS == 8


def test_training_data_by_hand() -> None:
    site = tiny_site()
    data = training_data(site, UNTIL)
    assert data.site is site
    assert data.log.item.tolist() == [0, 1, 2, 3, 4, 5, 5, 1, 2, 3, 6, 6, 0]
    assert data.log.offsets.tolist() == LOG_OFFSETS
    assert data.target_rows.tolist() == list(range(13))
    cumulative = [0, 0.1, 0.2, 0.5, 1.5, 1.6, 2.6, 2.7, 3.7, 3.8, 3.9, 4.2, 4.3, 5.3]
    assert data.cumulative_weight == pytest.approx(cumulative)
    assert data.target_offsets.tolist() == LOG_OFFSETS
    assert (data.users.tolist(), data.n_users) == ([0, 1, 2], 3)
    assert data.can_rank.tolist() == [True, False, True, False, False]
    assert data.review_rows.tolist() == [1, 5, 0, 2]
    assert data.review_offsets.tolist() == [0, 2, 2, 3, 4, 4]
    counts = np.array([1.1, 1.1, 0.4, 1.1, 0.1, 1.1, 0.4])
    truth = np.log(counts + 1) - np.log(counts + 1).mean()
    assert data.log_popularity.numpy() == pytest.approx(truth, abs=1e-6)
    assert str(data.log_popularity.dtype) == "torch.float32"


def test_two_different_items_can_be_ranked_and_one_met_twice_can_not() -> None:
    twice, both = [(0, "view", 3, 1.0), (0, "view", 3, 2.0)], [(1, "view", 3, 1.0), (1, "view", 4, 2.0)]
    assert training_data(tiny_site(twice + both), UNTIL).can_rank.tolist() == [False, True] + [False] * 3


def test_integers_stay_of_64_bits() -> None:
    data = training_data(tiny_site(), UNTIL)
    for name in ("target_rows", "target_offsets", "users", "review_rows", "review_offsets"):
        assert getattr(data, name).dtype == np.int64


def test_nothing_in_training_data_can_be_replaced() -> None:
    data = training_data(tiny_site(), UNTIL)
    with pytest.raises(FrozenInstanceError):
        data.users = data.target_rows  # type: ignore[misc]


def test_behaviour_is_asked_at_eight_instants_a_day_apart_and_searches_count() -> None:
    rows = training_data(tiny_site(), UNTIL).behaviour
    asked = [(user, (at - START) // DAY_S) for user, at in zip(rows.user, rows.at, strict=True)]
    early = [(user, number) for number in (3, 2) for user in (0, 2, 4)]
    assert asked == [(user, number) for number in (9, 8, 7, 6, 5, 4) for user in (0, 1, 2, 4)] + early
    bought = [pair for pair, intent in zip(asked, rows.intent, strict=True) if intent]
    assert bought == [(2, 6), (0, 2)]
    kinds = {pair: kind for pair, kind in zip(asked, rows.next_kind, strict=True) if kind >= 0}
    assert kinds == {(2, 6): 3, (2, 5): 0, (1, 4): 0, (2, 4): 2, (0, 2): 4, (2, 2): 0}


def test_the_earliest_event_bounds_the_instants_and_privacy_sees_no_difference() -> None:
    open_rows, private = (training_data(tiny_site(), day(4), private=p).behaviour for p in (False, True))
    assert sorted(set(open_rows.at.tolist())) == [day(1), day(2), day(3)]
    assert np.array_equal(open_rows.at, private.at)
    assert np.array_equal(open_rows.features, private.features)


def test_under_privacy_those_who_only_review_are_taught_too() -> None:
    assert training_data(tiny_site(), UNTIL, private=True).users.tolist() == [0, 1, 2, 3]
    assert training_data(tiny_site(), day(5), private=True).users.tolist() == [0, 1, 2]
    assert training_data(tiny_site(), UNTIL, private=False).users.tolist() == [0, 1, 2]


def test_a_site_where_nobody_buys_weighs_all_alike_unless_it_is_private() -> None:
    calm = tiny_site([event for event in EVENTS if event[1] != "purchase" or event[3] >= 10])
    open_data, private = (training_data(calm, UNTIL, private=p) for p in (False, True))
    assert open_data.cumulative_weight.tolist() == list(range(10))
    assert private.cumulative_weight == pytest.approx([0, 0.1, 0.2, 0.5, 0.6, 0.7, 0.8, 0.9, 1.2, 1.3])


def first(n_users: int) -> SiteDataset:
    """The tiny site of which only the first so many users are learned from."""
    return replace(tiny_site(), learners=np.arange(5) < n_users)


def test_only_learners_are_kept() -> None:
    few = training_data(first(2), UNTIL)
    assert few.users.tolist() == [0, 1]
    assert few.log.user.tolist() == [0] * 5 + [1] * 2
    assert set(few.behaviour.user.tolist()) == {0, 1}
    assert few.review_rows.tolist() == [1, 5]
    assert few.review_offsets.tolist() == [0, 2, 2, 2, 2, 2]
    assert few.log_popularity[6] == few.log_popularity.min()
    assert training_data(first(1), UNTIL).users.tolist() == [0]
    assert training_data(first(5), UNTIL).users.tolist() == [0, 1, 2]
    assert training_data(first(0), UNTIL).users.tolist() == []


def test_before_the_first_event_there_is_nothing_to_learn() -> None:
    for private in (False, True):
        data = training_data(tiny_site(), day(0.375) - DAY_S, private=private)
        assert (len(data.log), data.n_users, len(data.behaviour), len(data.review_rows)) == (0, 0, 0, 0)
        assert data.cumulative_weight.tolist() == [0.0]
        assert data.log_popularity.tolist() == [0.0] * N_ITEMS


def test_reviews_of_one_user_stay_in_their_order() -> None:
    site = tiny_site()
    author = np.tile([2, 0, 1], 40)
    reviews = replace(
        site.reviews, user=author, label=np.ones(120, np.int64), time=np.full(120, START, np.int64)
    )
    data = training_data(replace(site, reviews=reviews), UNTIL)
    assert data.review_rows.tolist() == [*range(1, 120, 3), *range(2, 120, 3), *range(0, 120, 3)]


def test_popularity_counts_every_item_of_the_catalogue() -> None:
    log = log_of([(0, "purchase", 1, 1.0), (1, "cart", 1, 2.0), (1, "view", 0, 2.0)])
    found = log_popularity(log, 4).numpy()
    logs = np.log([1.1, 2.3, 1.0, 1.0])
    assert found == pytest.approx(logs - logs.mean(), abs=1e-6)


def comparable(data: TrainingData) -> dict[str, Any]:
    """All that is learned from, as lists; the site itself, which holds the future too, left out."""
    found: dict[str, Any] = {}
    for field in fields(data):
        value = getattr(data, field.name)
        if isinstance(value, Log | BehaviourRows):
            found |= {f"{field.name}.{f.name}": getattr(value, f.name).tolist() for f in fields(value)}
        elif field.name != "site":
            found[field.name] = value.tolist()
    return found


@settings(max_examples=25, deadline=None, phases=AS_DRAWN)
@given(
    eighth=st.integers(0, 100),
    later=st.integers(0, 10**6),
    turn=st.integers(0, 6),
    private=st.booleans(),
    n_learners=st.integers(0, 5),
)
def test_another_future_changes_nothing_that_is_learned(
    eighth: int, later: int, turn: int, private: bool, n_learners: int
) -> None:
    """All from an instant on comes later and names other items; reviews change their label."""
    site, instant = first(n_learners), day(eighth / 8)
    log, reviews = site.log, site.reviews
    future, late = log.time >= instant, reviews.time >= instant
    changed = Log.of(
        log.user,
        np.where(future & (log.item >= 0), (log.item + turn) % N_ITEMS, log.item),
        log.kind,
        log.time + np.where(future, later, 0),
        log.n_users,
    )
    other = replace(
        site, log=changed, reviews=replace(reviews, label=np.where(late, 1 - reviews.label, reviews.label))
    )
    before, after = (training_data(s, instant, private=private) for s in (site, other))
    assert comparable(before) == comparable(after)


@pytest.mark.parametrize(
    ("user", "anchor", "rest", "rows"),
    [
        (0, 0.50, [0.00, 0.05, 0.10, 0.99], [3, 1, 1, 2, 3]),  # 0.8 of 1.6; then 0.1 to 1.5 from row 1 on
        (0, 0.05, [0.00, 0.50, 0.99, 0.20], [0, 0, 0, 0, 0]),  # the first event has nothing before it
        (0, 0.97, [0.00, 0.29, 0.95, 0.70], [4, 2, 3, 4, 3]),  # 1.552; then 0.2 to 1.6 from row 2 on
        (1, 0.00, [0.99, 0.00, 0.50, 0.20], [5, 5, 5, 5, 5]),
        (1, 0.99, [0.00, 0.90, 0.92, 0.99], [6, 5, 5, 6, 6]),  # not before the user's own first row
        (2, 0.999, [0.20, 0.25, 0.90, 0.00], [12, 10, 11, 12, 10]),
        (2, 0.40, [0.00, 0.85, 0.95, 0.99], [8, 7, 7, 8, 8]),  # 3.74 of 2.7 to 5.3
    ],
)
def test_targets_by_hand(user: int, anchor: float, rest: list[float], rows: list[int]) -> None:
    """Weights are added up in `test_training_data_by_hand`: to 1.6 for user 0, to 1.1 for 1, to 2.6 for 2."""
    data = training_data(tiny_site(), UNTIL)
    dice: Any = Dice([[anchor]], [rest])
    found = draw_targets(data, np.array([user]), 5, 4, dice)
    assert found.tolist() == [rows]
    assert dice.all_thrown()


def test_each_user_is_drawn_from_its_own_rows_and_rows_are_those_of_the_log() -> None:
    data = training_data(tiny_site(), UNTIL)
    data = replace(data, target_rows=100 + data.target_rows)
    dice: Any = Dice([[0.999], [0.5], [0.0]], [[0.0], [0.99], [0.5]])
    found = draw_targets(data, np.array([2, 0, 1]), 2, 4, dice)
    assert found.tolist() == [[112, 110], [103, 103], [105, 105]]


def test_a_draw_on_the_border_is_of_the_later_event_and_never_of_another_user() -> None:
    calm = tiny_site([(user, "view", item, 1.0 + item) for user in (0, 1) for item in range(4)])
    data = training_data(calm, UNTIL)
    dice: Any = Dice([[0.25], [1.0]], [[0.0, 1.0], [0.0, 1.0]])
    assert draw_targets(data, np.array([0, 0]), 3, 7, dice).tolist() == [[1, 0, 1], [3, 0, 3]]
    dice = Dice([[0.75]], [[0.0]])
    assert draw_targets(data, np.array([1]), 2, 5, dice).tolist() == [[7, 5]]


@settings(max_examples=15, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**31), length=st.integers(1, 9), count=st.integers(1, 5))
def test_the_first_target_is_the_latest_and_all_are_within_its_reach(
    seed: int, length: int, count: int
) -> None:
    data = training_data(tiny_site(), UNTIL)
    users = np.array([0, 1, 2, 2, 0])
    rows = draw_targets(data, users, count, length, np.random.default_rng(seed))
    assert rows.shape == (5, count)
    assert (data.log.user[rows] == users[:, None]).all()
    assert (rows <= rows[:, :1]).all()
    assert (rows >= rows[:, :1] - length // 2).all()


def test_targets_are_drawn_as_often_as_they_weigh() -> None:
    data = training_data(tiny_site(), UNTIL)
    rows = draw_targets(data, np.zeros(20_000, np.int64), 1, 4, np.random.default_rng(0))[:, 0]
    share = np.bincount(rows, minlength=5) / len(rows)
    assert share == pytest.approx(np.array([0.1, 0.1, 0.3, 1.0, 0.1]) / 1.6, abs=0.01)


def drawn_instants() -> TrainingData:
    """Seven labelled instants of users 3, 1, 3, 0, 1, 3, 0 in that order, numbered by their time."""
    user, number = np.array([3, 1, 3, 0, 1, 3, 0]), np.arange(7)
    features = np.repeat(number[:, None], 28, axis=1).astype(np.float32)
    rows = BehaviourRows(user, number, features, number % 2, number % 5)
    return replace(training_data(tiny_site(), UNTIL), behaviour=rows)


def test_one_instant_for_each_user_who_has_any() -> None:
    dice: Any = Dice([0.99, 0.5, 0.34, 0.0])
    found = draw_behaviour(drawn_instants(), np.array([3, 2, 0, 1]), dice)
    assert found.user.tolist() == [3, 0, 1]
    assert found.at.tolist() == [5, 3, 1]
    assert found.features[:, 0].tolist() == [5, 3, 1]
    assert (found.intent.tolist(), found.next_kind.tolist()) == ([1, 1, 1], [0, 3, 1])
    for spread, at in ((0.0, 0), (0.33, 0), (0.34, 2), (0.66, 2), (0.67, 5)):
        dice = Dice([spread])
        assert draw_behaviour(drawn_instants(), np.array([3]), dice).at.tolist() == [at]


def test_instants_of_one_user_stay_in_their_order() -> None:
    data, number = drawn_instants(), np.arange(90)
    features = np.zeros((90, 28), np.float32)
    data = replace(data, behaviour=BehaviourRows(number % 3, number, features, number, number))
    for user in range(3):
        for place in (0, 7, 29):
            dice: Any = Dice([(place + 0.5) / 30])
            assert draw_behaviour(data, np.array([user]), dice).at.tolist() == [3 * place + user]


def test_visible_events_by_hand() -> None:
    items = np.array([[4, 1, 2, 2, 3, 9]])
    times = np.array([[day(0), day(1), day(2.25), day(3.0), day(3.25), day(3.5)]])
    valid = np.array([[False, True, True, True, True, True]])
    at = np.array([[day(3.25), day(3.25), day(3.0), day(1), day(4)]])
    wanted = np.array([[3, 2, 3, 1, 0]])
    loose: Any = Dice([[0.5, 0.5, 0.5, 0.5, 0.5]])
    assert visible_events(items, times, valid, at, wanted, loose)[0].astype(int).tolist() == [
        [0, 1, 1, 1, 0, 0],  # up to its own instant, never itself
        [0, 1, 0, 0, 1, 0],  # never the wanted item at any time; what came at the same instant
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 0],  # its first event sees nothing
        [0, 1, 1, 1, 1, 1],
    ]
    strict: Any = Dice([[0.499, 0.499, 0.499, 0.499, 0.499]])
    assert visible_events(items, times, valid, at, wanted, strict)[0].astype(int).tolist() == [
        [0, 1, 1, 0, 0, 0],  # the days before its own; midnight is of the day itself
        [0, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 1, 1],
    ]


def test_who_has_no_earlier_day_sees_its_own_day() -> None:
    items, valid = np.array([[5, 6]]), np.ones((1, 2), bool)
    times, at = np.array([[day(2.25), day(2.5)]]), np.array([[day(2.5)]])
    dice: Any = Dice([[0.0]])
    assert visible_events(items, times, valid, at, np.array([[6]]), dice).tolist() == [[[True, False]]]


@settings(max_examples=25, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**31))
def test_no_target_sees_its_future_or_itself(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    items, wanted = drawn.integers(0, 4, (5, 6)), drawn.integers(0, 4, (5, 3))
    times, at = (START + drawn.integers(0, 16, shape) * (DAY_S // 4) for shape in ((5, 6), (5, 3)))
    valid = drawn.random((5, 6)) < 0.8
    coins = drawn.random((5, 3))
    dice: Any = Dice(coins)
    found = visible_events(items, times, valid, at, wanted, dice)
    for user in range(5):
        for target in range(3):
            open_to = [
                valid[user, event]
                and items[user, event] != wanted[user, target]
                and times[user, event] <= at[user, target]
                for event in range(6)
            ]
            earlier = [
                seen and times[user, event] // DAY_S < at[user, target] // DAY_S
                for event, seen in enumerate(open_to)
            ]
            truth = earlier if coins[user, target] < 0.5 and any(earlier) else open_to
            assert found[user, target].tolist() == truth
