"""A site from its log to figures and predictions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients.behaviour.definitions import N_FEATURES
from clients.behaviour.home import AtHome
from clients.behaviour.site import BehaviourSite
from clients.behaviour.tasks import PURCHASE_7D, Task
from clients.data.dataset import DAY_S
from tests.clients.small_site import START, drawn_site, with_other_future

SOON = Task("soon", "purchase", 3 * DAY_S)


def test_from_rows_to_figures() -> None:
    site = drawn_site(1)
    behaviour = BehaviourSite(site)
    part = behaviour.part(SOON, site.split.valid_from)
    assert part.name == "behaviour.soon"
    assert part.x.shape == (len(behaviour.rows(SOON).train), N_FEATURES)
    model = behaviour.at_home(SOON, part.start(), part.start())
    measured = behaviour.measure(SOON, model)
    assert set(measured) == {"league", "alone", "logistic", "boosting", "active_days"}
    assert all(0 <= figures["auc"] <= 1 and figures["log_loss"] > 0 for figures in measured.values())


def test_what_the_league_learns_from_knows_nothing_after_the_instant() -> None:
    site = drawn_site(2)
    at = site.split.valid_from
    first, second = (BehaviourSite(s).part(SOON, at) for s in (site, with_other_future(site, at, 9)))
    assert np.array_equal(first.x, second.x)
    assert np.array_equal(first.label, second.label)


def test_predictions_for_now() -> None:
    site = drawn_site(3)
    model = AtHome(np.eye(N_FEATURES)[-1] * 0.7, np.inf)
    users, chance = BehaviourSite(site).predict(PURCHASE_7D, model, START + 10 * DAY_S)
    assert users.tolist() == sorted(set(site.log.before(START + 10 * DAY_S).user.tolist()))
    assert chance == pytest.approx(1 / (1 + np.exp(-0.7)))


def test_choices_of_a_site() -> None:
    site = drawn_site(4)
    at = site.split.test_from
    first, second = (
        BehaviourSite(s).choice_part("category", 2, at).rows for s in (site, with_other_future(site, at, 5))
    )
    assert len(first)
    assert np.array_equal(first.features, second.features)
    assert np.array_equal(first.label, second.label)
    thin = replace(site, learners=np.arange(20) < 6)
    assert set(BehaviourSite(thin).choice_part("kind", 5, at).rows.user) <= set(range(6))
    test = BehaviourSite(thin).choice_test("kind", 5)
    assert set(test.user) - set(range(6))
