"""Settings that are fine alone and wrong together: how many sites one sum may hold."""

from __future__ import annotations

import numpy as np
import pytest

from common.crypto.fields import MODULUS, MOST_SUMMED
from common.crypto.shamir import MAX_SHARES, split
from common.errors import ConfigError, WireError
from common.he import bfv
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from common.settings.rules import require_cohort


def _config(**settings: str | int | float) -> LeagueConfig:
    return with_overrides(LeagueConfig(), {f"rounds.{key}": value for key, value in settings.items()})


@pytest.mark.parametrize(
    ("settings", "most"),
    [
        ({"protection": "he"}, MOST_SUMMED),
        ({"protection": "he+masked"}, MAX_SHARES),
        ({"protection": "masked"}, MAX_SHARES),
        ({"protection": "he", "fraction": 0.5}, 2 * MOST_SUMMED),
        ({"protection": "he+masked", "groups": 4}, 4 * MAX_SHARES),
    ],
)
def test_a_cohort_of_more_than_a_sum_carries_is_refused(settings: dict[str, str | float], most: int) -> None:
    config = _config(**settings)
    require_cohort(config, most)
    with pytest.raises(ConfigError, match="sites in one sum under") as caught:
        require_cohort(config, most + 2)
    assert "rounds." in caught.value.next_step


@pytest.mark.parametrize("protection", ["he", "he+masked", "masked"])
def test_the_next_step_that_is_named_helps(protection: str) -> None:
    config = _config(protection=protection)
    with pytest.raises(ConfigError) as caught:
        require_cohort(config, 10_000)
    for step in caught.value.next_step.removeprefix("set ").split(" or "):
        name, _, value = step.partition("=")
        require_cohort(with_overrides(config, {name: float(value) if "." in value else int(value)}), 10_000)


def test_plain_sums_are_of_any_size() -> None:
    require_cohort(_config(protection="plain"), 1_000_000)


def test_the_largest_sum_keeps_four_bits_of_noise_and_is_exact() -> None:
    """The gate that the limit stands for, with real ciphertexts; twice as many no more have them."""
    scheme, key, generator = bfv.scheme(), bfv.Key(bfv.scheme()), np.random.default_rng(1)
    total, expected = scheme.sum(bfv.DEGREE), np.zeros(bfv.DEGREE, dtype=np.uint64)

    def add(count: int) -> int:
        nonlocal expected
        for _ in range(count):
            words = generator.integers(0, MODULUS, bfv.DEGREE, dtype=np.uint64)
            total.add(total.parse(key.encrypt(words), where="test"))
            expected = (expected + words) % np.uint64(MODULUS)
        return key.noise_budget_bits(total.saved()[0])

    assert add(MOST_SUMMED) >= 4
    assert np.array_equal(key.decrypt(total.saved(), bfv.DEGREE, where="test"), expected)
    assert add(2 * MOST_SUMMED) < 4


def test_the_shares_of_a_larger_group_cant_be_made() -> None:
    with pytest.raises(WireError):
        split(b"seed", 2, MAX_SHARES + 1)
