"""Training against a plain loop: how many steps, at which rate, on whom, from which chance, and what is returned."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clients.training.epochs import batches, passes, step, train_epochs
from clients.training.objective import joint_loss
from clients.training.samples import TrainingData, derived_seed, training_data
from common.models.model import HansaModel, build_model, shared_arrays
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from tests.clients.five_users import AS_DRAWN, CONFIG, EVENTS, WIDTH, Event, day, linear_model, tiny_site

UNTIL = day(10)
DROPPING = with_overrides(
    CONFIG,
    {"model.adapter": "mlp", "model.dropout": 0.5, "training.learning_rate": 0.02}
    | {"training.weight_decay": 0.4},
)


def bytes_of(model: HansaModel) -> bytes:
    return b"".join(array.tobytes() for array in shared_arrays(model).values())


def dropping_model() -> HansaModel:
    return build_model(DROPPING.model, WIDTH, WIDTH, seed=4).eval()


def slow_epochs(
    model: HansaModel, data: TrainingData, config: LeagueConfig, seed: int, rounds: int, rate: float
) -> list[float]:
    """Losses of the last pass of a plain loop with the same chance."""
    decay = config.training.weight_decay
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=decay, fused=True)
    generator, losses = np.random.default_rng(seed), list[float]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed("torch", seed))
        model.train()
        for _ in range(rounds):
            losses = []
            for users in batches(data.users, config.training.batch_size, generator):
                optimiser.zero_grad(set_to_none=True)
                loss = joint_loss(model, data, config, users, generator)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("epochs", "least", "rounds"), [(1, 1, 1), (2, 3, 4), (3, 2, 3)])
def test_training_is_the_plain_loop(epochs: int, least: int, rounds: int) -> None:
    config = with_overrides(DROPPING, {"training.min_steps_per_round": least})
    data = training_data(tiny_site(), UNTIL)  # three users in batches of two: two steps a pass
    plain, model = dropping_model(), dropping_model()
    losses = slow_epochs(plain, data, config, 11, rounds, 0.02)
    assert train_epochs(model, data, config, 11, epochs) == pytest.approx(np.mean(losses), rel=1e-6)
    assert bytes_of(model) == bytes_of(plain)
    assert not model.training


def test_the_rate_is_scaled() -> None:
    data, plain, model = training_data(tiny_site(), UNTIL), dropping_model(), dropping_model()
    slow_epochs(plain, data, DROPPING, 5, 2, 0.02 * 0.25)
    train_epochs(model, data, DROPPING, 5, 2, rate_scale=0.25)
    assert bytes_of(model) == bytes_of(plain)


def test_no_epochs_change_nothing() -> None:
    model = dropping_model()
    assert math.isnan(train_epochs(model, training_data(tiny_site(), UNTIL), DROPPING, 5, 0))
    assert bytes_of(model) == bytes_of(dropping_model())
    assert not model.training


def test_without_users_there_is_no_loss() -> None:
    data = training_data(tiny_site(), day(0.25))
    assert (data.n_users, passes(data, DROPPING)) == (0, 1)
    assert math.isnan(train_epochs(dropping_model(), data, DROPPING, 5, 1))


def test_one_step_by_hand() -> None:
    """The first step of AdamW: decay by rate times weight decay, then the rate along the sign of the gradient."""
    config = with_overrides(CONFIG, {"training.learning_rate": 0.01, "training.weight_decay": 0.5})
    data, model, before = training_data(tiny_site(), UNTIL), linear_model(), linear_model()
    users = np.array([0, 2])
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    loss = joint_loss(before, data, config, users, np.random.default_rng(3))
    loss.backward()  # type: ignore[no-untyped-call]
    found = step(model, optimiser, data, config, users, np.random.default_rng(3))
    assert isinstance(found, float)
    assert found == loss.item()
    moved = 0
    for after, start in zip(model.parameters(), before.parameters(), strict=True):
        gradient = torch.zeros_like(start) if start.grad is None else start.grad
        truth = start * (1 - 0.01 * 0.5) - 0.01 * gradient / (gradient.abs() + 1e-8)
        if start.grad is not None:
            assert torch.allclose(after, truth, atol=2e-6)
            moved += 1
    assert moved > 5


def test_gradients_of_an_earlier_step_are_forgotten() -> None:
    data, model, other = training_data(tiny_site(), UNTIL), linear_model(), linear_model()
    users = np.array([0, 1, 2])
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 100.0)
    for each in (model, other):
        optimiser = torch.optim.SGD(each.parameters(), lr=0.1)
        step(each, optimiser, data, CONFIG, users, np.random.default_rng(1))
    assert bytes_of(model) == bytes_of(other)


def test_a_head_without_samples_in_a_batch_stays_where_it_is() -> None:
    """Weight decay moves only what has a gradient: user 3 has no behaviour, so that head waits."""
    site = tiny_site([event for event in EVENTS if event[0] != 3])
    data, model, before = training_data(site, UNTIL), linear_model(), linear_model()
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.5)
    step(model, optimiser, data, CONFIG, np.array([0]), np.random.default_rng(0))
    head = model.behaviour.linear.weight.detach().clone()
    assert not torch.equal(head, before.behaviour.linear.weight)
    step(model, optimiser, data, CONFIG, np.array([3]), np.random.default_rng(0))
    assert torch.equal(model.behaviour.linear.weight, head)


@pytest.mark.parametrize(
    ("users", "batch", "least", "times"),
    [
        (0, 2, 1, 1), (0, 2, 5, 5), (1, 2, 1, 1), (2, 2, 3, 3), (3, 2, 3, 2), (4, 2, 3, 2), (5, 2, 3, 1),
        (5, 2, 4, 2), (5, 2, 6, 2), (5, 2, 7, 3), (9, 3, 20, 7), (100, 3, 2, 1),
    ],
)  # fmt: skip
def test_passes_by_hand(users: int, batch: int, least: int, times: int) -> None:
    data = replace(training_data(tiny_site(), UNTIL), users=np.arange(users))
    config = with_overrides(CONFIG, {"training.batch_size": batch, "training.min_steps_per_round": least})
    assert passes(data, config) == times


@settings(max_examples=40, deadline=None, phases=AS_DRAWN)
@given(users=st.integers(0, 60), batch=st.integers(1, 20), seed=st.integers(0, 99))
def test_batches_are_even_and_hold_each_user_once(users: int, batch: int, seed: int) -> None:
    parts = batches(np.arange(users) * 3, batch, np.random.default_rng(seed))
    assert len(parts) == math.ceil(users / batch)
    assert sorted(user for part in parts for user in part.tolist()) == [3 * user for user in range(users)]
    sizes = [len(part) for part in parts]
    assert max(sizes, default=0) <= batch
    assert max(sizes, default=0) - min(sizes, default=0) <= 1


def test_batches_are_shuffled_by_the_generator_alone() -> None:
    users = np.arange(30)
    drawn = np.concatenate(batches(users, 7, np.random.default_rng(8)))
    assert drawn.tolist() == np.random.default_rng(8).permutation(30).tolist()
    assert users.tolist() == list(range(30))


def futures() -> Iterator[list[Event]]:
    """The same events before day 10, and others after it."""
    past = [event for event in EVENTS if event[3] < 10]
    yield past
    yield [*past, (0, "purchase", 6, 10.0), (1, "purchase", 2, 10.5), (3, "view", 1, 11.0)]
    yield [*past, *((user, "purchase", item, 13.0) for user in range(5) for item in range(7))]


def test_what_is_trained_before_an_instant_is_deaf_to_what_comes_after() -> None:
    trained = []
    for events in futures():
        model = linear_model()
        train_epochs(model, training_data(tiny_site(events), UNTIL), CONFIG, seed=3, epochs=3)
        trained.append(bytes_of(model))
    assert trained[0] == trained[1] == trained[2]
    assert trained[0] != bytes_of(linear_model())


@settings(max_examples=6, deadline=None, phases=AS_DRAWN)
@given(shift=st.integers(0, 10**7), seed=st.integers(0, 50))
def test_shifting_the_future_moves_no_weight(shift: int, seed: int) -> None:
    """All from day 4 on comes later; a model trained up to day 4 is the same to the byte."""
    site = tiny_site()
    late = site.log.time + np.where(site.log.time >= day(4), shift, 0)
    shifted = replace(site, log=replace(site.log, time=late))
    found = []
    for each in (site, shifted):
        model = linear_model()
        train_epochs(model, training_data(each, day(4)), CONFIG, seed, epochs=1)
        found.append(bytes_of(model))
    assert found[0] == found[1]
