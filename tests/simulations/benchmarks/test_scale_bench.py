"""The plan for many sites: its arithmetic, and its promise that a tree's round hardly grows."""

from __future__ import annotations

import pytest

from simulations.benchmarks.scale import Costs, Tree, measure, noise_left

COSTS = Costs(
    upload_bytes=800_000, sum_bytes=1_600_000, protect_s=0.02, protect_peer_s=0.0003, share_s=1e-6, join_s=2e-5,
    pass_s=0.004, fold_s=0.005, add_s=0.003, leftover_s=0.0003, open_s=0.015,
)  # fmt: skip


@pytest.mark.parametrize(
    ("sites", "fanout", "levels"),
    [
        (10, 100, [1]),
        (100, 100, [1]),
        (101, 100, [2, 1]),
        (10_000, 100, [100, 1]),
        (10_001, 100, [101, 2, 1]),
    ],
)
def test_levels_hold_everyone_and_end_in_one(sites: int, fanout: int, levels: list[int]) -> None:
    assert Tree(sites, fanout).levels == levels


def test_a_round_by_hand() -> None:
    tree = Tree(100, 100, cores=4, site_mbit_s=8.0, centre_mbit_s=800.0, delay_s=0.1, train_s=10.0)
    found = tree.round(COSTS)
    site = 0.02 + 99 * 0.0003 + 1e-6 * 100**2
    gather = max(0.8, 0.8, 100 * 0.009 / 4) + 4 * 0.1 + 0.03 + 2e-5 * 100**2
    down = 0.1 + max(1.6, 1.6 + 100 * 0.004 / 4)
    assert found["round_s"] == pytest.approx(10.0 + site + 0.1 + gather + down + 0.015)
    assert found["up_s"] == 0
    assert found["busiest_mb"] == pytest.approx(240.0)


def test_a_tree_hardly_grows_where_one_group_grows_by_the_square() -> None:
    small, tree, flat = (Tree(*of).round(COSTS) for of in ((100, 100), (10_000, 100), (10_000, 10_000)))
    assert tree["round_s"] < 1.2 * small["round_s"]
    assert flat["round_s"] > 20 * tree["round_s"]
    assert tree["site_mb"] == small["site_mb"] == flat["site_mb"]


def test_costs_are_measured_and_grow_with_the_vector() -> None:
    small, large = measure(20_000), measure(80_000)
    assert large.upload_bytes > 3 * small.upload_bytes
    assert 1.8 < large.sum_bytes / large.upload_bytes < 2.2
    assert large.protect_s > small.protect_s > 0
    assert large.fold_s > 0


def test_a_sum_of_many_real_ciphertexts_is_exact_with_room_left() -> None:
    assert noise_left(50) >= 4
