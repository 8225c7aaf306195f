"""The small models of a site: how they are laid out, where rows take them, and what one customer can change."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clients.behaviour.definitions import N_FEATURES
from clients.behaviour.logistic import CLIP
from clients.behaviour.site import BehaviourSite
from clients.behaviour.tasks import intent
from clients.parts import CLIPS, STEPS, Parts
from clients.signals.names import START
from clients.signals.ranker import RankerPart
from clients.training.moves import move
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from tests.clients.signals.slow_signals import site_with_facts, with_other_events_of, without_events_of
from tests.clients.small_site import CONFIG

PRIVATE = with_overrides(CONFIG, {"privacy.mode": "user"})
SITE = site_with_facts(1, n_users=60, n_items=40, events=900)
C = 0.7


def arrays(parts: Parts, seed: int) -> dict[str, np.ndarray]:
    drawn = np.random.default_rng(seed)
    return {n: drawn.normal(0, 0.3, shape).astype(np.float32) for n, shape in parts.shapes().items()}


def with_mode(mode: str, **changes: object) -> LeagueConfig:
    sure = {"rounds.protection": "masked", "model.tower": mode != "site"}
    return with_overrides(CONFIG, {"privacy.mode": mode, **sure, **changes})  # type: ignore[dict-item]


@pytest.mark.parametrize("mode", ["off", "user", "distributed", "site"])
def test_names_and_shapes_follow_from_the_settings(mode: str) -> None:
    parts = Parts(SITE, with_mode(mode))
    buyers = {} if mode == "site" else {f"behaviour.{intent(SITE.split).name}": (N_FEATURES,)}
    assert parts.shapes() == {"ranker": (parts.form.size,), **buyers}
    start = parts.start()
    assert {name: (value.shape, value.any()) for name, value in start.items()} == {
        name: (shape, False) for name, shape in parts.shapes().items()
    }
    assert "parts" not in vars(parts), "no rows were needed"
    assert parts.ranker(start).tolist() == [START.tolist()] * 2
    assert parts.intent_weights(start).tolist() == [0.0] * N_FEATURES


def test_where_no_signal_may_be_learned_there_is_no_part() -> None:
    for config in (with_mode("record"), with_overrides(PRIVATE, {"privacy.sample_rate": 0.5})):
        parts = Parts(SITE, config)
        assert parts.shapes() == {} == parts.start()
        assert parts.tower_share == 1.0
        assert parts.ranker({}).tolist() == [START.tolist()] * 2
        assert parts.moves({}) == {}


def test_the_tower_has_the_rest_of_the_clip() -> None:
    assert Parts(SITE, with_overrides(PRIVATE, {"ranker.share": 0.2})).tower_share == pytest.approx(0.8)
    assert Parts(SITE, with_overrides(PRIVATE, {"model.tower": False})).tower_share == 0.0


@pytest.mark.parametrize("strength", [0.2, 3.0])
def test_a_move_is_where_the_sites_rows_take_each_part(strength: float) -> None:
    parts = Parts(SITE, with_overrides(CONFIG, {"ranker.strength": strength}))
    at = arrays(parts, 3)
    found = parts.moves(at)
    assert list(found) == list(parts.shapes())
    ranker = RankerPart(parts.learning.every, parts.form)
    buyers = BehaviourSite(SITE).part(intent(SITE.split), SITE.split.valid_from)
    for part in (ranker, buyers):
        truth = move(part, at[part.name].astype(np.float64), strength, STEPS)
        assert found[part.name].dtype == np.float32
        assert found[part.name] == pytest.approx(truth, abs=1e-5)
        assert np.abs(truth).max() > 0.01


def test_a_clipped_sum_counts_each_customer_by_the_clip_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLIPS, "ranker", 8.0)
    parts = Parts(SITE, PRIVATE)
    at, slow = arrays(parts, 3), []
    for part, most in zip(parts.parts, (8.0, CLIP), strict=True):
        gradients = part.user_gradients(at[part.name].astype(np.float64))
        norms = np.linalg.norm(gradients, axis=1)
        share = C / math.sqrt(2) / most
        slow.append(share * sum(g * min(1.0, most / n) for g, n in zip(gradients, norms, strict=True)))
        if part.name == "ranker":
            assert norms.min() < most < norms.max()
    assert parts.clipped_sum(at, C) == pytest.approx(np.concatenate(slow))


@pytest.mark.parametrize("user", [0, 17, 30, 35, 59])
def test_one_customer_changes_a_clipped_sum_by_the_clip_at_most(user: int) -> None:
    """Add-remove of one user: the sensitivity that the guarantee's noise is for."""
    parts = Parts(SITE, PRIVATE)
    at = arrays(parts, 4)
    whole = parts.clipped_sum(at, C)
    gone = Parts(without_events_of(SITE, user), PRIVATE).clipped_sum(at, C)
    assert np.linalg.norm(whole - gone) <= 1.0001 * C
    other = Parts(with_other_events_of(SITE, user, 8), PRIVATE).clipped_sum(at, C)
    assert np.linalg.norm(whole - other) <= 2 * 1.0001 * C


def test_some_customers_do_change_a_clipped_sum() -> None:
    parts = Parts(SITE, PRIVATE)
    at = arrays(parts, 4)
    changes = [
        np.linalg.norm(
            parts.clipped_sum(at, C) - Parts(without_events_of(SITE, user), PRIVATE).clipped_sum(at, C)
        )
        for user in (7, 30)
    ]
    assert max(changes) > 0.5 * C
