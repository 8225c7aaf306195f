"""The running sum: equal bytes in any order of arrival, equal to the slow truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import QuorumError
from server.aggregation.running_sum import RunningSum


@given(st.data(), st.integers(1, 8), st.integers(1, 70_000))
def test_the_order_of_arrival_changes_no_bit(data: st.DataObject, places: int, size: int) -> None:
    rng = np.random.default_rng(places * size)
    updates = rng.normal(size=(places, size)).astype(np.float32)
    weights = rng.uniform(0.1, 30, size=places)
    skipped = data.draw(st.sets(st.integers(0, places - 1), max_size=places - 1))
    means = []
    for order in (list(range(places)), data.draw(st.permutations(range(places)))):
        total = RunningSum(size, places)
        for place in order:
            total.skip(place) if place in skipped else total.add(place, updates[place], float(weights[place]))
        assert total.waiting == 0
        means.append(total.mean())
    kept = [place for place in range(places) if place not in skipped]
    truth = np.average(updates[kept].astype(np.float64), axis=0, weights=weights[kept])
    assert means[0].tobytes() == means[1].tobytes()
    np.testing.assert_allclose(means[0], truth, rtol=1e-6, atol=1e-7)


def test_only_replies_that_overtook_another_wait() -> None:
    total = RunningSum(2, 4)
    one = np.ones(2, dtype=np.float32)
    total.add(2, one, 1.0)
    total.skip(3)
    assert total.waiting == 1
    total.add(0, one, 1.0)
    assert total.waiting == 1
    total.skip(1)
    assert total.waiting == 0


def test_misuse_and_emptiness_are_refused() -> None:
    total = RunningSum(1, 2)
    total.skip(0)
    with pytest.raises(ValueError, match="taken or out of range"):
        total.skip(0)
    with pytest.raises(ValueError, match="taken or out of range"):
        total.skip(2)
    with pytest.raises(ValueError, match="still open"):
        total.mean()
    total.skip(1)
    with pytest.raises(QuorumError, match="no update was usable"):
        total.mean()
