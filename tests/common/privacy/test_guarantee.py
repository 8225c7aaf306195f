"""What settings promise, mode by mode; noise shared over sites adds up to what the theorem asks for."""

from __future__ import annotations

import math

import numpy as np
import pytest

from clients.ledger.rounds import price_of_round
from common.crypto.fields import Packing
from common.errors import ConfigError, QuorumError
from common.privacy.accounting import Mechanism, epsilon_pld, epsilon_rdp
from common.privacy.guarantee import SHARES_NOISE, UNITS, guarantee_of, noise_multiplier, round_mechanism
from common.privacy.shared_noise import effective_multiplier, enough_noise, noise_share, require_honest
from common.settings.config import LeagueConfig
from common.settings.load import load_config, with_overrides


def league(mode: str, **privacy: object) -> LeagueConfig:
    return load_config(
        {
            "model": {"tower": mode != "site"},
            "privacy": {"mode": mode, "epsilon": 3.0, **privacy},
            "rounds": {"protection": "he+masked", "count": 10},
        }
    )


@pytest.mark.parametrize("mode", ["user", "record", "distributed", "site"])
def test_each_mode_keeps_to_the_budget_and_says_its_unit(mode: str) -> None:
    found = guarantee_of(league(mode))
    assert found is not None
    assert (found.mode, found.unit, found.relation) == (mode, UNITS[found.mode], "add-remove")
    assert 2.97 < found.epsilon <= 3.0
    assert found.epsilon_pld is None or found.epsilon_pld <= found.epsilon
    assert (found.epsilon_alone is None) == (mode not in SHARES_NOISE)
    assert (found.epsilon_pld is None) == (mode in SHARES_NOISE)
    assert (found.epsilon_user is None) == (mode not in ("record", "site"))


def test_off_promises_nothing() -> None:
    assert guarantee_of(league("off")) is None


def test_a_run_is_its_rounds() -> None:
    config = league("user", sample_rate=0.2, steps_per_round=4)
    assert epsilon_rdp([round_mechanism(config)] * 10, 1e-5) == pytest.approx(guarantee_of(config).epsilon)


def test_a_user_with_more_records_is_promised_less_and_facts_figure_is_near() -> None:
    few, many = (guarantee_of(league("record", records_per_user=k)).epsilon_user for k in (1, 4))
    assert few == pytest.approx(guarantee_of(league("record")).epsilon)
    assert 12 < many < 17


def test_of_one_customer_a_hidden_site_promises_what_its_ledger_takes() -> None:
    """Coming or going, a customer can turn the site's move round: two clips, ε more than twice as large."""
    config = league("site", honest_sites=14, steps_per_round=1)
    found, rounds = guarantee_of(config), config.rounds.count
    assert found is not None
    taken = [price_of_round(config, round_).for_user() for round_ in range(1, rounds + 1)]
    assert found.epsilon_user == pytest.approx(epsilon_rdp(taken, config.privacy.delta))
    assert found.epsilon_user > 2 * found.epsilon


def test_a_whole_site_is_one_sample_of_every_round() -> None:
    """Its ε is that of as many Gaussian mechanisms as there are rounds."""
    config = league("site", honest_sites=14, steps_per_round=1)
    found = guarantee_of(config)
    assert found is not None
    assert found.unit == "site"
    rounds = [Mechanism.gaussian(found.noise_multiplier)] * config.rounds.count
    assert found.epsilon == pytest.approx(epsilon_rdp(rounds, config.privacy.delta))
    assert epsilon_pld(rounds, config.privacy.delta) <= 3.0
    assert round_mechanism(config) == Mechanism.gaussian(found.noise_multiplier, steps=1)
    part = [Mechanism.gaussian(found.noise_multiplier / math.sqrt(14), steps=config.rounds.count)]
    assert found.epsilon_alone == pytest.approx(epsilon_rdp(part, config.privacy.delta))


def test_a_whole_site_changes_the_sum_by_its_clipped_move() -> None:
    """Whatever the learning rate and the number of users, which only the gradients of users are scaled by."""
    config = league("site", honest_sites=4, clip=0.3, learning_rate=7.0, expected_users=3)
    config = with_overrides(config, {"rounds.clip_range": 10.0})
    sites, size, scale = 5, 40, Packing(22, 2).scale(10.0, 5)
    part = noise_share(config, noise_multiplier(config), size=size, sites=sites, scale=scale)
    unit = scale / sites
    assert part.sensitivity == pytest.approx(1.0001 * unit * 0.3 + math.sqrt(size), rel=1e-12)
    reached = effective_multiplier(part.deviation, part.sensitivity, honest=4, size=size)
    assert reached == pytest.approx(noise_multiplier(config), rel=1e-9)
    generator = np.random.default_rng(0)
    for _ in range(20):
        others, move = generator.normal(0, 0.1, (sites - 1, size)), generator.normal(size=size)
        move *= 0.3 / np.linalg.norm(move)
        gone = np.rint(others * unit).sum(0) + np.rint(np.zeros(size))
        there = np.rint(others * unit).sum(0) + np.rint(move * unit)
        assert np.linalg.norm(there - gone) <= part.sensitivity


def test_a_whole_site_is_not_hidden_in_a_model_of_thousands_of_numbers() -> None:
    with pytest.raises(ConfigError, match="thousands of numbers") as fault:
        load_config({"privacy": {"mode": "site"}, "rounds": {"protection": "he+masked"}})
    assert "model.tower=false" in fault.value.next_step


def test_a_site_alone_promises_less_than_the_sum() -> None:
    found = guarantee_of(league("distributed", honest_sites=4))
    assert found.epsilon_alone > found.epsilon
    alone = epsilon_pld([Mechanism.gaussian(found.noise_multiplier / 2, steps=10)], 1e-5)
    assert alone <= found.epsilon_alone


@pytest.mark.parametrize(
    ("changes", "taught"),
    [
        ({"rounds": {"protection": "plain"}}, "rounds.protection"),
        ({"rounds": {"protection": "he+masked", "groups": 2}}, "rounds.groups=1"),
        ({"privacy": {"mode": "distributed", "sample_rate": 0.5}}, "sample_rate=1"),
        ({"privacy": {"mode": "distributed", "steps_per_round": 2}}, "steps_per_round=1"),
        (
            {"privacy": {"mode": "site"}, "model": {"tower": False}, "rounds": {"protection": "plain"}},
            "rounds.protection",
        ),
    ],
)
def test_shared_noise_where_its_proof_fails_is_refused(changes: dict[str, object], taught: str) -> None:
    settings = {"privacy": {"mode": "distributed"}, "rounds": {"protection": "he+masked"}, **changes}
    with pytest.raises(ConfigError) as fault:
        load_config(settings)
    assert taught in fault.value.next_step


@pytest.mark.parametrize("sites", [5, 8])
def test_the_parts_of_honest_sites_reach_sigma(sites: int) -> None:
    config = league("distributed", honest_sites=4)
    sigma, scale, size = noise_multiplier(config), Packing(22, 2).scale(1.0, sites), 50_000
    part = noise_share(config, sigma, size=size, sites=sites, scale=scale)
    reached = effective_multiplier(part.deviation, part.sensitivity, honest=4, size=size)
    assert reached == pytest.approx(sigma, rel=1e-9)
    # One user's clipped gradient, as integers and with rounding, moves the sum by the sensitivity at most.
    unit = scale / sites * config.privacy.learning_rate / config.privacy.expected_users
    assert part.sensitivity == pytest.approx(1.0001 * unit + math.sqrt(size), rel=1e-12)
    generator = np.random.default_rng(0)
    base, moved = generator.normal(size=(2, size))
    moved = base + moved / np.linalg.norm(moved)
    distance = np.linalg.norm(np.rint(base * unit) - np.rint(moved * unit))
    assert distance <= part.sensitivity
    room = config.rounds.clip_range - part.clip_range
    assert room * scale >= 12 * part.deviation * math.sqrt(sites) * 0.999


def test_fine_noise_costs_what_the_theorem_says_and_is_refused() -> None:
    assert effective_multiplier(10.0, 10.0, honest=4, size=100) == pytest.approx(2.0)
    assert effective_multiplier(0.3, 0.3, honest=4, size=100) < 1.0
    coarse = load_config(
        {"privacy": {"mode": "distributed", "expected_users": 10**7}, "rounds": {"protection": "masked"}}
    )
    with pytest.raises(ConfigError, match="too fine"):
        noise_share(coarse, 0.05, size=4, sites=5, scale=1e3)
    with pytest.raises(ConfigError, match="of the range"):
        noise_share(league("distributed", expected_users=1), 5.0, size=100, sites=5, scale=2e6)


def test_too_few_sites_are_refused() -> None:
    config = league("distributed", honest_sites=3)
    assert not enough_noise(config, 3)
    assert enough_noise(config, 4)
    assert enough_noise(league("user"), 1)
    assert not enough_noise(league("site", honest_sites=3), 3)
    assert enough_noise(league("site", honest_sites=3), 4)
    require_honest(config, 4, "round 1")
    with pytest.raises(QuorumError, match="too little noise"):
        require_honest(config, 3, "round 1")
