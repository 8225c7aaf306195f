"""What a site learns of is its learners: the others' past is read for their own rows and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from clients.data.arrays import first_learners
from clients.data.dataset import PURCHASE, Log, SiteDataset
from clients.evaluation.methods import Deployed, Results, compare_alone, deploy, judge_model
from clients.evaluation.scorers import tune, windows
from clients.signals.learning import Learning
from clients.signals.names import START
from common.models.model import build_model
from tests.clients.small_site import CONFIG, IMAGE, TEXT, drawn_site

N_LEARNERS = 50


@pytest.fixture(scope="module")
def site() -> SiteDataset:
    """A hundred and twenty users of whom fifty are learned from; of six, one first buys in validation, one in test."""
    drawn = drawn_site(1, n_users=120, n_items=30, events=600)
    log, split = drawn.log, drawn.split
    turn, is_item = log.user % 6, log.item >= 0
    kind = np.where((turn < 2) & is_item, PURCHASE, log.kind)
    time = np.where(turn == 0, split.valid_from + log.time % (split.test_from - split.valid_from), log.time)
    time = np.where(turn == 1, split.test_from + log.time % (split.until - split.test_from), time)
    log = Log.of(log.user, log.item, kind, time, log.n_users)
    return replace(drawn, log=log, learners=first_learners(log, split.test_from, N_LEARNERS))


def with_other_past_of_the_rest(site: SiteDataset, seed: int) -> SiteDataset:
    """All that users who aren't learners did before the test window is done with other items at other instants."""
    log, drawn = site.log, np.random.default_rng(seed)
    other = ~site.learners[log.user] & (log.time < site.split.test_from)
    item = np.where(other & (log.item >= 0), drawn.integers(0, site.n_items, len(log)), log.item)
    time = np.where(other, drawn.integers(log.time.min(), site.split.test_from, len(log)), log.time)
    return replace(site, log=Log.of(log.user, item, log.kind, time, log.n_users))


def measured(site: SiteDataset) -> tuple[Results, Deployed]:
    """All methods of a site, with a drawn model in place of a trained one."""
    seen = windows(site, CONFIG)
    results, tuned = Results(seen), tune(site, seen)
    learning = Learning(site, CONFIG)
    compare_alone(results, site, learning, tuned)
    judge_model(results, "federated", build_model(CONFIG.model, TEXT, IMAGE, seed=3), site, CONFIG, tuned)
    return results, deploy(results, site, learning, np.stack([START, START]), private=False)


def by_user(results: Results, users: np.ndarray) -> dict[tuple[str, str, int], float]:
    """NDCG@20 of the rows of some users: (method, kind, user) → figure."""
    return {
        (method, kind, int(user)): float(value)
        for method, kinds in results.rows.items()
        for (kind, values), rows in zip(kinds.items(), results.windows.test, strict=True)
        for user, value in zip(rows.user, values, strict=True)
        if user in users
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_past_of_others_changes_no_other_row(site: SiteDataset, seed: int) -> None:
    changed = with_other_past_of_the_rest(site, seed)
    (results, found), (after, found_after) = measured(site), measured(changed)
    past = site.log.before(site.split.test_from)
    without_past = past.offsets[1:] == past.offsets[:-1]
    unchanged = np.flatnonzero(site.learners | without_past)
    figures = by_user(results, unchanged)
    assert by_user(after, unchanged) == figures
    assert {kind for _, kind, _ in figures} == {"returning", "basket_"}
    assert by_user(after, np.arange(120)) != by_user(results, np.arange(120)), "their own rows do change"
    assert np.array_equal(found.weights, found_after.weights)
    assert not np.array_equal(found.weights, found.league), "something was learned"
    for method, chosen in results.methods.items():
        assert after.methods[method].get("valid_ndcg@20") == chosen.get("valid_ndcg@20"), method
        assert after.methods[method].get("strength") == chosen.get("strength"), method


def test_only_learners_validate_and_everybody_is_asked_about(site: SiteDataset) -> None:
    seen = windows(site, CONFIG)
    for rows in seen.valid:
        assert len(rows)
        assert site.learners[rows.user].all()
    returning, basket = seen.test
    assert 0 < site.learners[returning.user].sum() < len(returning)
    assert len(basket) > 10


def test_a_site_where_all_are_learners_is_measured_as_it_is() -> None:
    whole = drawn_site(1, n_users=120, n_items=30, events=600)
    assert whole.of_learners is whole
    assert whole.learning_log is whole.item_log


def test_without_learners_nothing_is_learned_and_all_is_still_measured(site: SiteDataset) -> None:
    nobody = replace(site, learners=np.zeros(120, bool))
    results, found = measured(nobody)
    assert results.methods["final"]["ndcg@20"] > 0
    assert np.array_equal(found.weights, found.league)
