"""The joint loss against one worked out event by event, and what no part of it may read."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.data.dataset import as_user_inputs
from clients.training.objective import (
    Candidates,
    EncodedItems,
    _catalogue_terms,
    _encode,
    _members,
    _ranking,
    _review_loss,
    held_for_category,
    joint_loss,
)
from clients.training.samples import TrainingData, draw_behaviour, draw_targets, training_data
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from tests.clients.five_users import AS_DRAWN, CONFIG, EVENTS, N_ITEMS, Dice, day, linear_model, tiny_site
from tests.clients.slow_loss import Drawn, SlowLoss

UNTIL = day(10)
USERS = [2, 4, 0, 3, 1]  # of these 2 and 0 can rank, all but 3 have behaviour, and 2, 0 and 3 have reviews
DRAWN = Drawn(
    targets={2: [12, 10, 11], 0: [3, 1, 2]},
    earlier_days_only={2: [True, False, True], 0: [False, False, True]},
    behaviour=[14, 3, 27, 21],  # user 2 at day 6, user 4 at day 9, user 0 at day 2, user 1 at day 4
    reviews={2: [0, 0], 0: [1, 5], 3: [2, 2]},
    negatives=[4, 3, 1, 6, 4],  # user 2 knows 3 and 6 of them, user 0 knows 1 and 3
)


def thrown(
    drawn: Drawn = DRAWN,
    first: Any = ((0.95,), (0.5,)),
    rest: Any = ((0.2, 0.25), (0.0, 0.1)),
) -> Dice:
    """The dice that give what is drawn above."""
    return Dice(
        first,
        rest,
        [[0.4, 0.6, 0.1], [0.9, 0.5, 0.49]],
        [0.4375, 0.0, 0.99, 0.5, 0.9],
        [[0.0, 0.9], [0.2, 0.7], [0.5, 0.5]],
        items=drawn.negatives,
    )


def loss_of(data: TrainingData, config: LeagueConfig, dice: Any, users: list[int] | None = None) -> float:
    who = np.array(USERS if users is None else users)
    return float(joint_loss(linear_model(), data, config, who, dice).detach())


SHORT = replace(  # user 2's history is short of one event, which must not look like the log's first item, 0
    DRAWN, targets={2: [9, 7, 8], 0: [4, 2, 3]}, negatives=[0, 5, 4, 0, 6]
)


@pytest.mark.parametrize(
    ("drawn", "first", "rest"),
    [
        (DRAWN, [[0.95], [0.5]], [[0.2, 0.25], [0.0, 0.1]]),
        (SHORT, [[0.4423], [0.97]], [[0.5, 0.9], [0.1, 0.7]]),
    ],
)
def test_the_joint_loss_by_hand(drawn: Drawn, first: list[Any], rest: list[Any]) -> None:
    data, dice = training_data(tiny_site(), UNTIL), thrown(drawn, first, rest)
    truth = SlowLoss(linear_model(), data, CONFIG, drawn).total(USERS)
    assert loss_of(data, CONFIG, dice) == pytest.approx(truth, rel=1e-5)
    assert dice.all_thrown()


@pytest.mark.parametrize(
    "weight",
    ["behaviour_weight", "sentiment_weight", "category_weight", "alignment_weight", "popularity_offset"],
)
def test_each_weight_weighs_its_own_term(weight: str) -> None:
    data = training_data(tiny_site(), UNTIL)
    for value in (0.0, 0.9):
        config = with_overrides(CONFIG, {f"training.{weight}": value})
        truth = SlowLoss(linear_model(), data, config, DRAWN).total(USERS)
        assert loss_of(data, config, thrown()) == pytest.approx(truth, rel=1e-5)


@settings(max_examples=15, deadline=None, phases=AS_DRAWN)
@given(seed=st.integers(0, 2**31), until=st.integers(5, 13), length=st.integers(1, 6))
def test_the_joint_loss_of_any_draw(seed: int, until: int, length: int) -> None:
    config = with_overrides(CONFIG, {"model.history_length": length, "training.negatives": 4})
    data = training_data(tiny_site(), day(until))
    generator, users = np.random.default_rng(seed), [0, 1, 2, 3, 4]
    found = float(joint_loss(linear_model(), data, config, np.array(users), generator).detach())
    truth = SlowLoss(linear_model(), data, config, drawn_again(data, config, seed)).total(users)
    assert found == pytest.approx(truth, rel=1e-4)


def drawn_again(data: TrainingData, config: LeagueConfig, seed: int) -> Drawn:
    """What a step draws from a seed, in the order in which it draws; each kind of draw has its own test."""
    generator, users = np.random.default_rng(seed), np.arange(5)
    training = config.training
    rankers = users[data.can_rank]
    targets = draw_targets(data, rankers, training.targets_per_user, config.model.history_length, generator)
    coins = generator.random(targets.shape) < 0.5
    behaviour = draw_behaviour(replace(data, behaviour=numbered(data)), users, generator)
    negatives = generator.integers(0, N_ITEMS, training.negatives)
    counts = np.diff(data.review_offsets)
    spread = generator.random((int((counts > 0).sum()), training.reviews_per_user))
    reviews = {
        int(user): data.review_rows[data.review_offsets[user] + (share * counts[user]).astype(int)].tolist()
        for user, share in zip(np.flatnonzero(counts), spread, strict=True)
    }
    return Drawn(
        {int(u): t.tolist() for u, t in zip(rankers, targets, strict=True)},
        {int(u): c.tolist() for u, c in zip(rankers, coins, strict=True)},
        behaviour.intent.tolist(),
        reviews,
        negatives.tolist(),
    )


def numbered(data: TrainingData) -> Any:
    """The behaviour rows with their own number in place of the intent."""
    return replace(data.behaviour, intent=np.arange(len(data.behaviour)))


def test_a_batch_without_behaviour_reviews_or_rankers_has_catalogue_terms_alone() -> None:
    site = tiny_site([event for event in EVENTS if event[0] != 3])
    data = training_data(site, UNTIL)
    empty = Dice(np.zeros((0, 1)), np.zeros((0, 2)), np.zeros((0, 3)), [0.5], items=[4, 3, 1, 6, 0])
    config = with_overrides(CONFIG, {"training.reviews_per_user": 0})
    slow = SlowLoss(linear_model(), data, config, Drawn({}, {}, [], {}, [4, 3, 1, 6, 0]))
    assert loss_of(data, config, empty, [3]) == pytest.approx(slow.total([3]), rel=1e-5)
    assert empty.all_thrown()


@pytest.mark.parametrize(
    ("users", "weight", "learns"), [([0], 0.3, True), ([3], 0.3, False), ([0], 0.0, False)]
)
def test_the_behaviour_head_has_a_gradient_only_where_it_has_a_part(
    users: list[int], weight: float, learns: bool
) -> None:
    """None, not zero: with a gradient of zero an optimiser would still let the weights decay."""
    model, config = linear_model(), with_overrides(CONFIG, {"training.behaviour_weight": weight})
    data, generator = training_data(tiny_site(), UNTIL), np.random.default_rng(0)
    joint_loss(model, data, config, np.array(users), generator).backward()  # type: ignore[no-untyped-call]
    assert (model.behaviour.linear.weight.grad is not None) == learns


def only_ranking(length: int = 4, targets: int = 1) -> LeagueConfig:
    """Nothing but the ranking term."""
    zero = {f"training.{name}_weight": 0.0 for name in ("behaviour", "sentiment", "category", "alignment")}
    return with_overrides(
        CONFIG,
        {**zero, "training.reviews_per_user": 0, "training.targets_per_user": targets}
        | {"model.history_length": length},
    )


def one_target(anchor: float, negatives: list[int], user_draw: float = 0.0, coin: float = 0.9) -> Dice:
    return Dice([[anchor]], np.zeros((1, 0)), [[coin]], [user_draw], items=negatives)


def test_who_knows_all_negatives_learns_nothing_from_them() -> None:
    data = training_data(tiny_site(), UNTIL)
    assert loss_of(data, only_ranking(), one_target(0.5, [0, 1, 2, 3, 0]), [0]) == pytest.approx(0, abs=1e-6)
    assert loss_of(data, only_ranking(), one_target(0.5, [0, 1, 2, 3, 4]), [0]) > 0.01


def test_touched_negatives_count_for_nothing_but_only_for_who_touched_them() -> None:
    data = training_data(tiny_site(), UNTIL)
    config = only_ranking()
    known = loss_of(data, config, one_target(0.5, [4, 6, 0, 1, 2]), [0])
    assert loss_of(data, config, one_target(0.5, [4, 6, 3, 3, 3]), [0]) == pytest.approx(known, rel=1e-6)
    for other in (4, 5, 6):
        assert loss_of(data, config, one_target(0.5, [4, 6, other, 1, 2]), [0]) > known + 1e-4


@pytest.mark.parametrize("other", range(5))
def test_where_a_history_is_short_no_item_is_taken_for_known(other: int) -> None:
    data = training_data(tiny_site([(0, "view", 5, 1.0), (0, "purchase", 6, 2.5)]), UNTIL)
    slow = SlowLoss(linear_model(), data, CONFIG, replace(DRAWN, negatives=[other] * 5))
    found = loss_of(data, only_ranking(), one_target(0.9, [other] * 5), [0])
    assert found == pytest.approx(slow.target(1, [0, 1], False), rel=1e-5)


def test_what_comes_after_the_latest_target_is_neither_seen_nor_known() -> None:
    """User 0's cart of item 2 is the target; what it does from the next day on lies in the future."""
    early = [event for event in EVENTS if event[0] == 0 and event[3] < 2]
    late = [(0, "purchase", 3, 2.375), (0, "view", 4, 2.5), (0, "purchase", 0, 2.5), (0, "cart", 1, 3.0)]
    popular, model, losses = torch.linspace(-1, 1, N_ITEMS), linear_model(), list[float]()
    for events in (early, early + late[:1], early + late):
        data = replace(training_data(tiny_site(events), UNTIL), log_popularity=popular)
        weight = data.cumulative_weight
        anchor = (weight[2] + weight[3]) / 2 / weight[-1]
        dice: Any = one_target(anchor, [3, 4, 5, 6, 6], user_draw=0.99)
        losses.append(float(joint_loss(model, data, only_ranking(length=6), np.array([0]), dice).detach()))
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-6)
    history, others = [0, 1], [3, 4, 5, 6, 6]
    slow = SlowLoss(model, data, only_ranking(), replace(DRAWN, negatives=others))
    scores = np.array([slow.score(history, item) for item in (2, *others)])
    assert losses[0] == pytest.approx(np.log(np.exp(scores).sum()) - scores[0], rel=1e-5)


def test_targets_that_see_nothing_teach_nothing() -> None:
    data = training_data(tiny_site(), UNTIL)
    assert loss_of(data, only_ranking(), one_target(0.0, [3, 4, 5, 6, 6]), [0]) == 0.0


@settings(max_examples=8, deadline=None, phases=AS_DRAWN)
@given(other=st.lists(st.integers(0, 2), min_size=N_ITEMS, max_size=N_ITEMS))
def test_the_category_head_never_learns_from_the_items_it_is_judged_on(other: list[int]) -> None:
    site = tiny_site()
    held = held_for_category(site.items.row)
    changed = torch.where(held, torch.tensor(other), site.items.category)
    twisted = replace(site, items=replace(site.items, category=changed))
    first, second = (loss_of(training_data(s, UNTIL), CONFIG, thrown()) for s in (site, twisted))
    assert first == second


def test_the_category_head_learns_from_all_others() -> None:
    site = tiny_site()
    first = loss_of(training_data(site, UNTIL), CONFIG, thrown())
    for item in (1, 3, 4, 6):
        category = site.items.category.clone()
        category[item] = (category[item] + 1) % 3
        twisted = replace(site, items=replace(site.items, category=category))
        assert loss_of(training_data(twisted, UNTIL), CONFIG, thrown()) != first


def test_an_item_is_held_by_its_place_in_the_catalogue_not_in_the_step() -> None:
    """Of items 4, 5 and 6, met in this order, only 5 is held; it's no matter which comes first."""
    data, model = training_data(tiny_site(), UNTIL), linear_model()
    training = only_ranking().training.model_copy(update={"category_weight": 1.0})
    slow = SlowLoss(model, data, CONFIG, replace(DRAWN, targets={}, behaviour=[], negatives=[4, 5, 6]))
    catalogue = _encode(model, data, (np.array([4, 5, 6]),))
    found = float(_catalogue_terms(model, catalogue, training).detach())
    assert found == pytest.approx(slow.category(), rel=1e-5)


def test_every_fifth_item_is_held_for_the_category() -> None:
    assert held_for_category(torch.arange(12)).tolist() == [True, *[False] * 4] * 2 + [True, False]


@settings(max_examples=30, deadline=None, phases=AS_DRAWN)
@given(st.lists(st.lists(st.integers(-1, 6), min_size=4, max_size=4), min_size=1, max_size=5))
def test_members_are_what_was_touched(touched: list[list[int]]) -> None:
    found = _members(np.array(touched), N_ITEMS)
    assert found.shape == (len(touched), N_ITEMS)
    for row, items in zip(found, touched, strict=True):
        assert set(np.flatnonzero(row).tolist()) == set(items) - {-1}


def test_a_catalogue_holds_each_item_once_and_finds_it_again() -> None:
    data, model = training_data(tiny_site(), UNTIL), linear_model()
    found = _encode(model, data, (np.array([[5, 2], [2, 6]]), np.array([0, 5])))
    assert found.needed.tolist() == [0, 2, 5, 6]
    assert found.items.row.tolist() == [0, 2, 5, 6]
    assert found.place(np.array([[6, 0], [2, 5]])).tolist() == [[3, 0], [1, 2]]
    for given_vectors, truth in zip(
        (found.vectors, found.text, found.image), model.item_vectors(data.site.items), strict=True
    ):
        assert torch.allclose(given_vectors, truth[[0, 2, 5, 6]], atol=1e-6)
    with pytest.raises(FrozenInstanceError):
        found.needed = found.needed  # type: ignore[misc]


def test_the_wanted_item_is_no_negative_even_where_the_history_lacks_it() -> None:
    data, model = training_data(tiny_site(), UNTIL), linear_model()
    catalogue: EncodedItems = _encode(model, data, (np.arange(N_ITEMS),))
    seen = as_user_inputs(np.array([[0]]), np.zeros((1, 1), int), np.zeros((1, 1), int), np.ones((1, 1), bool),
                          np.array([[9]]))  # fmt: skip
    losses = [
        float(_ranking(model, data, CONFIG.training, catalogue, seen, candidates).detach())
        for candidates in (
            Candidates(np.array([[3]]), np.array(negatives), np.array([[-1]]))
            for negatives in ([3, 3], [3, 5], [5, 5])
        )
    ]
    assert losses[0] == pytest.approx(0.0, abs=1e-6)
    assert 0 < losses[1] < losses[2]


def test_reviews_are_read_by_those_who_have_any() -> None:
    data, model = training_data(tiny_site(), UNTIL), linear_model()
    slow = SlowLoss(model, data, CONFIG, DRAWN)
    dice: Any = Dice([[0.0, 0.49, 0.5], [0.0, 0.99, 0.5]])
    found = float(_review_loss(model, data, np.array([1, 0, 4, 2]), 3, dice).detach())
    assert found == pytest.approx((slow.reviews([1, 1, 5]) + slow.reviews([0])) / 4, rel=1e-5)
    assert dice.all_thrown()


def test_without_reviews_nothing_is_drawn_and_the_loss_is_zero_with_a_gradient() -> None:
    data, model, unused = training_data(tiny_site(), UNTIL), linear_model(), Dice([[0.5]])
    dice: Any = unused
    for users, count in (([1, 4], 2), ([0, 2], 0)):
        found = _review_loss(model, data, np.array(users), count, dice)
        assert float(found.detach()) == 0.0
        assert found.requires_grad
    assert not unused.all_thrown()
