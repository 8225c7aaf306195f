"""The plan for many sites: its arithmetic, and its promise that a tree's round grows little."""

from __future__ import annotations

import pytest

from common.crypto.fields import MOST_SUMMED
from common.he import bfv
from simulations.benchmarks.scale import WiderScheme, measure, noise_left
from simulations.benchmarks.support.tree import Costs, Tree

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


def test_no_sum_of_the_plan_is_larger_than_the_noise_allows() -> None:
    tree = Tree(10_000, 100)
    assert [tree.sums(level) for level in range(2)] == [1, 10]
    assert Tree(1_000, 100).sums(1) == 1
    assert [Tree(1_000_000, 100).sums(level) for level in range(3)] == [1, 10, 1000]
    assert Tree(10_000, 100, most_summed=10_000).sums(1) == 1
    for sites, level in ((10_000, 1), (9_999, 1), (1_000_000, 2)):
        assert sites / Tree(sites, 100).sums(level) <= MOST_SUMMED


def test_a_round_by_hand() -> None:
    tree = Tree(100, 100, cores=4, site_mbit_s=8.0, centre_mbit_s=800.0, delay_s=0.1, train_s=10.0)
    found = tree.round(COSTS)
    site = 0.02 + 99 * 0.0003 + 1e-6 * 100**2
    gather = max(0.8, 0.8, 100 * 0.009 / 4) + 4 * 0.1 + 0.03 + 2e-5 * 100**2
    down = 0.1 + max(1.6, 1.6 + 100 * 0.004 / 4)
    assert found["round_s"] == pytest.approx(10.0 + site + 0.1 + gather + down + 0.015)
    assert found["up_s"] == 0
    assert found["busiest_mb"] == pytest.approx(240.0)


def test_a_tree_grows_little_where_one_group_grows_by_the_square() -> None:
    small, tree, flat = (Tree(*of).round(COSTS) for of in ((100, 100), (10_000, 100), (10_000, 10_000)))
    assert tree["round_s"] < 2 * small["round_s"]
    assert flat["round_s"] > 20 * tree["round_s"]
    assert (small["sums_handed_down"], tree["sums_handed_down"]) == (1, 10)
    assert tree["site_mb"] == flat["site_mb"] == pytest.approx(small["site_mb"] + 9 * 1.6)


def test_costs_are_measured_and_grow_with_the_vector() -> None:
    small, large = measure(20_000), measure(80_000)
    assert large.upload_bytes > 3 * small.upload_bytes
    assert 1.8 < large.sum_bytes / large.upload_bytes < 2.2
    assert large.protect_s > small.protect_s > 0
    assert large.fold_s > 0


def test_a_sum_of_many_real_ciphertexts_is_exact_with_room_left() -> None:
    assert noise_left(50, bfv.Scheme()) >= 4
    assert noise_left(50, WiderScheme()) == noise_left(50, bfv.Scheme()) + 2
