"""A private round: noise in every step, no user in another's sample, no two runs alike, told once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clients.data.dataset import DAY_S, PURCHASE, Log, SiteDataset
from clients.dp import NoisyOutputs, train_private
from clients.dp.noise.discrete import Integers
from clients.dp.noise.sources import SystemNoise
from clients.dp.sample import draw_users
from clients.dp.train import seeded_chance
from clients.trainer import Site
from clients.training.samples import TrainingData, training_data
from common.errors import PrivacyError
from common.models.model import HansaModel, build_model
from common.privacy.accounting import Mechanism, epsilon_rdp
from common.privacy.guarantee import noise_multiplier
from common.settings.load import with_overrides
from tests.clients.small_site import CONFIG, IMAGE, START, TEXT, drawn_site

PRIVATE = with_overrides(CONFIG, {"privacy.mode": "user", "privacy.steps_per_round": 3})


def fresh() -> HansaModel:
    return build_model(CONFIG.model, TEXT, IMAGE, seed=1)


def data(site_seed: int = 0) -> TrainingData:
    site = drawn_site(site_seed)
    return training_data(site, site.split.valid_from, private=True)


def flat(model: HansaModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


class Counted:
    """Noise of zeros that notes how much was asked for; who is in a step is drawn as ever."""

    def __init__(self) -> None:
        self.drawn = 0
        self.uniforms = SystemNoise().uniforms

    def whole(self, count: int, deviation: float) -> Integers:
        self.drawn += count
        return np.zeros(count, np.int64)


def test_an_empty_batch_gets_its_noise_too() -> None:
    model, noise = fresh(), Counted()
    config = with_overrides(PRIVATE, {"privacy.sample_rate": 1e-9})
    train_private(model, data(), config, (1.0, 1.0), noise, np.random.default_rng(0))
    assert noise.drawn == 3 * flat(model).numel()
    assert torch.equal(flat(model), flat(fresh()))


def test_without_noise_the_step_is_bounded_by_the_clip_and_batches_change_nothing() -> None:
    moved = []
    for physical in (256, 3):
        config = with_overrides(
            PRIVATE,
            {
                "privacy.physical_batch": physical,
                "privacy.steps_per_round": 1,
                "privacy.clip": 0.5,
                "training.targets_per_user": 1,
            },
        )
        model = fresh()
        train_private(model, data(), config, (0.0, 1.0), Counted(), np.random.default_rng(0))
        moved.append(float((flat(model) - flat(fresh())).norm()))
    bound = 0.5 * data().n_users / PRIVATE.privacy.expected_users
    assert min(moved) > 0
    assert max(moved) <= bound * 1.0001


def test_no_two_private_runs_agree() -> None:
    models = [fresh(), fresh()]
    for model in models:
        train_private(model, data(), PRIVATE, (1.0, 1.0))
    assert not torch.any((flat(models[0]) == flat(models[1])) & (flat(models[0]) != flat(fresh())))


def test_a_user_has_no_part_in_another_users_sample() -> None:
    site = drawn_site(0)
    log, other = site.log, 3
    own = log.where(log.user != other)
    early = Log.of(
        np.append(own.user, other), np.append(own.item, 0), np.append(own.kind, PURCHASE),
        np.append(own.time, START - 300 * DAY_S), log.n_users,
    )  # fmt: skip
    users = np.array([0, 1, 2, 4, 5])
    drawn = []
    for changed in (log, own, early):
        found = training_data(_with(site, changed), site.split.valid_from, private=True)
        drawn.append(draw_users(found, PRIVATE, users, np.random.default_rng(7)).contents(found.site))
    for batch in drawn[1:]:
        for name in batch._fields:
            assert torch.equal(getattr(batch, name), getattr(drawn[0], name)), name


def _with(site: SiteDataset, log: Log) -> SiteDataset:
    return replace(site, log=log)


def test_the_noise_keeps_the_whole_run_within_its_budget() -> None:
    config = with_overrides(PRIVATE, {"privacy.epsilon": 3.0, "privacy.sample_rate": 0.2, "rounds.count": 5})
    mechanism = Mechanism.gaussian(noise_multiplier(config), sample_rate=0.2, steps=15)
    assert 2.97 < epsilon_rdp([mechanism], config.privacy.delta) <= 3.0


def test_a_round_is_told_once_and_another_model_is_refused(tmp_path: Path) -> None:
    kept, received = NoisyOutputs(tmp_path / "updates"), np.arange(5, dtype=np.float32)
    first = kept.once(2, received, lambda: np.ones(5, np.float32))
    again = NoisyOutputs(tmp_path / "updates").once(2, received, lambda: np.zeros(5, np.float32))
    assert np.array_equal(first, again)
    with pytest.raises(PrivacyError, match="another model"):
        kept.once(2, received + 1, lambda: np.zeros(5, np.float32))
    (path,) = (tmp_path / "updates").glob("*.update")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PrivacyError, match="damaged"):
        kept.once(2, received, lambda: np.zeros(5, np.float32))


def test_what_moved_is_told_before_float32_rounds_it() -> None:
    model, before = fresh(), flat(fresh())
    moved = train_private(model, data(), PRIVATE, (0.0, 1.0), Counted(), np.random.default_rng(0))
    assert moved.dtype == np.float64
    lost = moved - (flat(model) - before).double().numpy()
    assert 0 < np.abs(lost).max() < 1e-6  # three float32 steps
    with torch.no_grad():
        for parameter in (far := fresh()).behaviour.parameters():
            parameter.add_(64.0)  # coarse in float32; what leaves isn't
    alone = train_private(far, replace(data(), users=data().users[:1]), PRIVATE, (0.0, 1.0), Counted())
    assert np.abs(alone[alone != 0]).min() < 1e-7


def test_a_site_that_shares_noise_tells_its_step_in_the_layouts_order() -> None:
    config = with_overrides(
        CONFIG, {"privacy.mode": "distributed", "privacy.seeded": True, "rounds.protection": "masked"}
    )
    site = Site(drawn_site(0), config)
    tower = site.tower
    assert tower is not None
    tower.fresh = fresh  # type: ignore[method-assign]
    tower.require_preflight = lambda: None  # type: ignore[method-assign]
    first = site.initial()
    update = site.train(first, 1).update
    model = fresh()
    chance, share = seeded_chance(config.seed, site.name, 1), site.parts.tower_share
    train_private(model, tower.private_data, config, (0.0, share), *chance)
    named = site.layout().unflatten(update)
    assert list(named) == [*fresh().shared_parameters(), *site.parts.shapes()]
    assert np.abs(update).max() > 1e-3
    for name, parameter in model.shared_parameters().items():
        change = parameter.detach() - fresh().shared_parameters()[name].detach()
        assert np.allclose(named[name], change.numpy(), atol=1e-6), name
    rest = config.privacy.clip * math.sqrt(1 - share)
    summed = site.parts.clipped_sum(site.arrays(first), rest)
    step = -config.privacy.learning_rate / config.privacy.expected_users * summed
    assert np.abs(step).max() > 0
    assert np.concatenate([named[name] for name in site.parts.shapes()]) == pytest.approx(step, rel=1e-5)


def test_a_part_of_the_clip_bounds_what_a_user_can_do() -> None:
    moved = []
    for share in (1.0, 0.25):
        model = fresh()
        only = replace(data(), users=data().users[:1])
        config = with_overrides(PRIVATE, {"privacy.steps_per_round": 1, "privacy.clip": 1e-3})
        moved.append(np.linalg.norm(train_private(model, only, config, (0.0, share), Counted())))
    bound = 1e-3 * PRIVATE.privacy.learning_rate / PRIVATE.privacy.expected_users
    assert moved == pytest.approx([bound, bound / 2], rel=1e-3)


def test_who_is_in_a_step_is_drawn_anew_by_chance_alone() -> None:
    config = with_overrides(PRIVATE, {"privacy.sample_rate": 0.3, "privacy.steps_per_round": 1})
    sizes = []
    for _ in range(60):
        noise = Counted()
        noise.uniforms = lambda count, own=noise.uniforms: sizes.append(own(count) <= 0.3) or np.ones(count)
        train_private(fresh(), data(), config, (0.0, 1.0), noise, np.random.default_rng(0))
    counts = np.array([drawn.sum() for drawn in sizes])
    n = data().n_users
    # A shuffled batch has one size; Poisson's varies as a binomial does.
    assert 0.3 < counts.var() / (n * 0.3 * 0.7) < 2.2
    assert abs(counts.mean() / n - 0.3) < 0.1


@pytest.mark.parametrize("users", [3, 15])
def test_the_step_is_divided_by_a_public_number_whatever_the_batch(users: int) -> None:
    moved = []
    for expected in (100, 400):
        few = replace(data(), users=data().users[:users])
        config = with_overrides(PRIVATE, {"privacy.steps_per_round": 1, "privacy.expected_users": expected})
        model = fresh()
        train_private(model, few, config, (0.0, 1.0), Counted(), np.random.default_rng(0))
        moved.append(float((flat(model) - flat(fresh())).norm()))
    assert moved[0] == pytest.approx(4 * moved[1], rel=1e-3)


def test_a_seed_replays_a_round_only_where_the_settings_say_so() -> None:
    models = [fresh(), fresh(), fresh()]
    for model, chance in zip(models, [seeded_chance(1, "a", 1), seeded_chance(1, "a", 1), ()], strict=True):
        train_private(model, data(), PRIVATE, (1.0, 1.0), *chance)
    assert torch.equal(flat(models[0]), flat(models[1]))
    assert not torch.equal(flat(models[0]), flat(models[2]))
