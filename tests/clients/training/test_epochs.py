"""Training: same seed, same bytes; no trace outside the model; the loss falls; users stay uncoupled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.data.dataset import DAY_S, PURCHASE, Log
from clients.training.epochs import batches, passes, train_epochs
from clients.training.objective import joint_loss
from clients.training.samples import TARGET_WEIGHTS, derived_seed, log_popularity, training_data
from common.models.model import HansaModel, build_model, shared_arrays
from common.settings.load import with_overrides
from tests.clients.small_site import CONFIG, IMAGE, START, TEXT, drawn_site, with_other_future

UNTIL = START + 24 * DAY_S


def fresh() -> HansaModel:
    return build_model(CONFIG.model, TEXT, IMAGE, seed=1)


def trained_bytes(seed: int) -> bytes:
    model = fresh()
    train_epochs(model, training_data(drawn_site(0), UNTIL), CONFIG, seed, epochs=2)
    return b"".join(array.tobytes() for array in shared_arrays(model).values())


def test_same_seed_same_bytes_and_another_seed_others() -> None:
    torch.random.manual_seed(1)
    first = trained_bytes(5)
    torch.random.manual_seed(2)
    assert trained_bytes(5) == first
    assert trained_bytes(6) != first


def test_global_generators_are_left_as_they_were() -> None:
    before, numpy_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    trained_bytes(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002


def test_the_loss_falls() -> None:
    model, data = fresh(), training_data(drawn_site(0), UNTIL)
    first = train_epochs(model, data, CONFIG, seed=1, epochs=1)
    last = train_epochs(model, data, CONFIG, seed=2, epochs=25)
    assert last < 0.9 * first
    assert not model.training


def test_training_data_is_of_the_past_only() -> None:
    site = drawn_site(3)
    first, second = (training_data(s, UNTIL) for s in (site, with_other_future(site, UNTIL, 60)))
    for name in ("target_rows", "cumulative_weight", "users", "can_rank", "review_rows"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
    assert torch.equal(first.log_popularity, second.log_popularity)
    assert np.array_equal(first.behaviour.features, second.behaviour.features)
    assert np.array_equal(first.behaviour.next_kind, second.behaviour.next_kind)
    assert (first.behaviour.at < UNTIL).all()
    assert (site.reviews.time[first.review_rows] < UNTIL).all()


def test_only_learners_are_trained_on() -> None:
    learners = np.arange(20) % 3 == 1
    data = training_data(replace(drawn_site(0), learners=learners), UNTIL)
    assert 0 < data.n_users <= 7
    for users in (data.users, data.log.user, data.behaviour.user, data.site.reviews.user[data.review_rows]):
        assert len(users)
        assert learners[users].all()


def test_popularity_is_the_centred_log_of_the_weights() -> None:
    site = drawn_site(0)
    total = np.zeros(site.n_items)
    for item, kind in zip(site.item_log.item, site.item_log.kind, strict=True):
        total[item] += TARGET_WEIGHTS[kind]
    truth = np.log(total + 1)
    assert log_popularity(site.item_log, site.n_items).numpy() == pytest.approx(
        truth - truth.mean(), abs=1e-5
    )


def test_batches_hold_every_user_once() -> None:
    generator = np.random.default_rng(0)
    parts = batches(np.arange(3, 40), 8, generator)
    assert sorted(np.concatenate(parts).tolist()) == list(range(3, 40))
    assert max(map(len, parts)) <= 8
    assert batches(np.zeros(0, np.int64), 8, generator) == []


def test_small_sites_repeat_up_to_the_least_steps() -> None:
    data = training_data(drawn_site(0), UNTIL)
    config = with_overrides(CONFIG, {"training.min_steps_per_round": 10, "training.batch_size": 8})
    steps = passes(data, config) * -(-data.n_users // 8)
    assert 10 <= steps < 10 + -(-data.n_users // 8)


def test_a_site_without_users_trains_nothing() -> None:
    site = drawn_site(0)
    model, before = fresh(), shared_arrays(fresh())
    none = training_data(site, START + 1000 * DAY_S)
    empty = replace(none, users=np.zeros(0, np.int64))
    assert np.isnan(train_epochs(model, empty, CONFIG, seed=1, epochs=1))
    assert all(np.array_equal(before[n], a) for n, a in shared_arrays(model).items())


def test_a_user_of_one_item_teaches_no_ranking_and_no_nan() -> None:
    site = drawn_site(0)
    single = Log.of(
        np.array([0, 0, 1, 1]),
        np.array([3, 3, 2, 4]),
        np.full(4, PURCHASE),
        START + np.arange(4) * DAY_S,
        len(site.user_ids),
    )
    data = training_data(replace(site, log=single), UNTIL)
    assert data.can_rank[:2].tolist() == [False, True]
    loss = joint_loss(fresh(), data, CONFIG, np.array([0, 1]), np.random.default_rng(0))
    assert torch.isfinite(loss)


def test_derived_seeds_are_stable_and_told_apart() -> None:
    assert derived_seed("a", 1) == derived_seed("a", 1) < 1 << 63
    assert (
        len({derived_seed("a", 1), derived_seed("a1"), derived_seed("a", "1", ""), derived_seed("b", 1)}) == 4
    )
