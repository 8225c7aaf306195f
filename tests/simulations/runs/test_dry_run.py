"""The plan says what each protection costs and shows, and its bytes are those that a protected run moves."""

from __future__ import annotations

import numpy as np
import pytest

from common.crypto.fields import Packing
from common.he.schemes import scheme_of
from common.settings.config import LeagueConfig
from common.settings.load import load_config
from simulations.runs.costs import SIGHTS, Cost, bytes_per_site, costs_of


def test_each_protection_has_a_row_with_what_each_party_sees() -> None:
    costs = {cost.protection: cost for cost in costs_of(load_config({}), 50_000, 5)}
    assert list(costs) == list(SIGHTS)
    assert [name for name, cost in costs.items() if cost.chosen] == ["he+masked"]
    assert [name for name, cost in costs.items() if cost.coordinator_sees == "every update"] == ["plain"]
    told = {name for name, cost in costs.items() if "every update" in cost.coordinator_with_a_site_sees}
    assert told == {"plain", "he", "ckks"}
    ours, theirs = costs["he+masked"], costs["ckks"]
    assert ours.upload_bytes < theirs.upload_bytes / 6
    assert ours.site_cpu_s > 0
    assert 0 < ours.coordinator_cpu_s < theirs.coordinator_cpu_s
    assert costs["plain"].site_cpu_s == 0


def test_groups_cost_a_sum_each_and_show_each_groups_sum() -> None:
    def ours(**rounds: float) -> Cost:
        return next(cost for cost in costs_of(load_config({"rounds": rounds}), 5000, 8) if cost.chosen)

    whole, groups, tried = ours(), ours(groups=2), ours(groups=2, worst_fall=0.05)
    assert groups.download_bytes == 2 * whole.download_bytes
    assert tried.download_bytes == 4 * whole.download_bytes
    assert groups.upload_bytes == whole.upload_bytes
    assert whole.site_sees == "the model and each sum"
    assert tried.site_sees == "the model and each group's sum"
    assert tried.coordinator_with_a_site_sees == "each group's sum, no single update"
    assert ours(groups=9).download_bytes == groups.download_bytes  # no group is smaller than three


def test_settings_of_one_protection_do_not_spoil_the_rows_of_others() -> None:
    config = load_config({"rounds": {"protection": "plain", "aggregator": "median"}})
    assert len(costs_of(config, 5000, 3)) == len(SIGHTS)
    assert LeagueConfig().rounds.protection == "he+masked"


@pytest.mark.parametrize("protection", ["he+masked", "ckks"])
def test_bytes_of_ciphertexts_are_those_of_real_ones(protection: str) -> None:
    release = "sites" if protection == "ckks" else "coordinator"
    rounds = load_config({"rounds": {"protection": protection, "release": release}}).rounds
    size, scheme = 20_000, scheme_of(rounds)
    count = Packing().words(size) if scheme.exact else size
    parts = scheme.key().encrypt(np.zeros(count, dtype=np.uint64 if scheme.exact else np.float64))
    total = scheme.sum(count)
    total.add(total.parse(parts, where="t"))
    up, down = bytes_per_site(rounds, size)
    assert up == pytest.approx(sum(map(len, parts)), rel=0.2)
    assert down == pytest.approx(sum(map(len, total.saved())), rel=0.2)
