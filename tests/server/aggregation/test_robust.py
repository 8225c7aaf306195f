"""Robust aggregators: what one liar sends, scaled, flipped or huge, doesn't move the result out of the honest span."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import QuorumError, WireError
from common.protocol import wire
from common.settings.load import load_config
from server.aggregation.robust import AGGREGATORS, krum, norm_bound, protection_for, trimmed_mean

SIZE = 70_000  # more than one block


def _honest(count: int, seed: int = 0) -> list[Any]:
    chance = np.random.default_rng(seed)
    centre = chance.normal(0, 1, SIZE)
    return [(centre + chance.normal(0, 0.1, SIZE)).astype(np.float32) for _ in range(count)]


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum"])
@pytest.mark.parametrize("factor", [-1.0, 50.0, 1e6])
def test_one_liar_of_eight_stays_within_the_honest_span(name: str, factor: float) -> None:
    rows = _honest(8)
    rows[3] = rows[3] * np.float32(factor)
    found = AGGREGATORS[name](rows, [1.0] * 8, 1)
    honest = np.stack(rows[:3] + rows[4:])
    assert np.all(found >= honest.min(axis=0) - 1e-5)
    assert np.all(found <= honest.max(axis=0) + 1e-5)


def test_a_scaled_update_weighs_no_more_than_the_median_norm() -> None:
    rows = _honest(8)
    mean = norm_bound(rows, [1.0] * 8, 1)
    rows[3] = rows[3] * np.float32(1e6)
    moved = norm_bound(rows, [1.0] * 8, 1)
    assert np.linalg.norm(moved - mean) < 0.02 * np.linalg.norm(mean)


@settings(deadline=None, max_examples=25)
@given(st.integers(3, 9), st.integers(0, 4), st.integers(0, 1000))
def test_trimmed_mean_is_what_sorting_by_hand_gives(count: int, malicious: int, seed: int) -> None:
    rows = [row[:40] for row in _honest(count, seed)]
    if count < 2 * malicious + 1:
        with pytest.raises(QuorumError, match="too few for trimmed_mean"):
            trimmed_mean(rows, [1.0] * count, malicious)
        return
    found = trimmed_mean(rows, [1.0] * count, malicious)
    for place in range(40):
        kept = sorted(float(row[place]) for row in rows)[malicious : count - malicious]
        assert found[place] == pytest.approx(sum(kept) / len(kept), rel=1e-5, abs=1e-6)


def test_krum_takes_an_update_of_the_crowd() -> None:
    rows = _honest(5)
    rows[0] = rows[0] + np.float32(3)
    assert any(krum(rows, [1.0] * 5, 1).tobytes() == row.tobytes() for row in rows[1:])
    with pytest.raises(QuorumError, match="4 updates are too few for krum, which takes 5"):
        krum(rows[:4], [1.0] * 4, 1)


def test_the_contract_chooses_the_aggregator_and_nan_never_comes_that_far() -> None:
    total = protection_for(
        load_config({"rounds": {"aggregator": "median", "protection": "plain"}}),
        wire.Layout.of({"a": (4,)}),
        {"a": 1.0, "b": 1.0, "c": 5.0},
        1,
    )
    for place, value in enumerate([1.0, 2.0, 90.0]):
        content: RecordDict = wire.pack(wire.Header("r"), vector=np.full(4, value, dtype=np.float32))
        total.fold(place, total.check(content, site="a", where="t"), 1.0)
    assert total.open().tolist() == [2.0] * 4
    bad = wire.pack(wire.Header("r"), vector=np.array([1, np.nan, 0, 0], dtype=np.float32))
    with pytest.raises(WireError, match="NaN"):
        total.check(bad, site="a", where="t")
