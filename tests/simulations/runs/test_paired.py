"""Gains by hand, and the law that nothing is called paid where the interval spans zero."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulations.runs.paired import MIN_ROWS, Gain, Pair, gain_of, pairs_of
from tests.simulations.runs.results import result

VALUES = st.lists(st.floats(0, 1, width=32), min_size=MIN_ROWS, max_size=25)


def pair(ours: list[float], theirs: list[float]) -> Pair:
    return Pair(np.array(ours), np.array(theirs))


def test_a_merchants_figure_is_the_mean_of_its_kinds_and_not_of_its_rows() -> None:
    merchant = (pair([0.4] * 90, [0.2] * 90), pair([0.1] * 10, [0.2] * 10))
    gain = gain_of([merchant])
    assert gain is not None
    assert (gain.ours, gain.theirs, gain.rows) == (pytest.approx(0.25), pytest.approx(0.2), 100)
    assert gain.gain == pytest.approx(0.25)
    assert (gain.low, gain.high) == (pytest.approx(0.25), pytest.approx(0.25))  # all customers are alike


def test_a_leagues_figure_is_the_mean_over_merchants() -> None:
    gain = gain_of([(pair([0.4] * 90, [0.2] * 90),), (pair([0.2] * 10, [0.2] * 10),)])
    assert gain is not None
    assert (gain.ours, gain.theirs, gain.merchants) == (pytest.approx(0.3), pytest.approx(0.2), 2)
    assert gain.as_ratio()["ratio"] == pytest.approx(1.5)


def test_the_interval_is_that_of_the_difference_and_not_of_each_method() -> None:
    """Customers differ a lot and the methods by little: only a paired draw can tell."""
    spread = list(np.linspace(0.0, 1.0, 40))
    gain = gain_of([(pair([v + 0.01 for v in spread], spread),)])
    assert gain is not None
    assert gain.low == pytest.approx(gain.high) == pytest.approx(0.02)
    assert gain.verdict == "paid"


def test_the_interval_matches_the_normal_one_where_rows_are_many() -> None:
    generator = np.random.default_rng(1)
    theirs = generator.random(4000)
    ours = theirs + generator.normal(0.02, 0.3, 4000)
    gain = gain_of([(pair(list(ours), list(theirs)),)])
    assert gain is not None
    half = 1.96 * (ours - theirs).std() / np.sqrt(4000) / theirs.mean()
    assert (gain.high - gain.low) / 2 == pytest.approx(half, rel=0.08)


@settings(max_examples=60)
@given(VALUES, st.data())
def test_nothing_is_called_paid_where_the_interval_spans_zero(
    theirs: list[float], data: st.DataObject
) -> None:
    ours = data.draw(st.lists(st.floats(0, 1, width=32), min_size=len(theirs), max_size=len(theirs)))
    gain = gain_of([(pair(ours, theirs),)])
    if gain is None:
        assert sum(theirs) == 0
        return
    assert (gain.verdict == "paid") == (gain.low > 0)
    assert (gain.verdict == "did not pay") == (gain.high < 0)
    turned = gain_of([(pair(theirs, ours),)])
    if turned:  # who pays by one order can't pay by the other
        assert {gain.verdict, turned.verdict} != {"paid"}


def test_methods_that_are_level_make_no_difference() -> None:
    gain = gain_of([(pair([0.1, 0.3] * 20, [0.1, 0.3] * 20),)])
    assert gain is not None
    assert (gain.gain, gain.low, gain.high, gain.verdict) == (0, 0, 0, "no difference")


def test_kinds_with_too_few_rows_are_left_out_and_rows_of_other_customers_are_refused() -> None:
    few = {"returning": [0.1] * (MIN_ROWS - 1), "basket_": [0.1] * MIN_ROWS}
    assert [len(p) for p in pairs_of(result({"final": few, "alone": few}), "final", "alone")] == [MIN_ROWS]
    longer = few | {"basket_": [0.1] * (MIN_ROWS + 1)}
    assert pairs_of(result({"final": few, "alone": longer}), "final", "alone") == ()
    assert pairs_of(result({"final": few}), "final", "alone") == ()


def test_without_rows_or_with_an_opponent_that_finds_nothing_there_is_no_gain() -> None:
    assert gain_of([]) is None
    assert gain_of([()]) is None
    assert gain_of([(pair([0.1] * 20, [0.0] * 20),)]) is None


def test_the_words_of_a_gain_are_of_its_own_figures() -> None:
    assert Gain(0.22, 0.2, 0.05, 0.15, 40).as_gain() == {
        "gain": pytest.approx(0.1), "low": 0.05, "high": 0.15, "ours": 0.22, "theirs": 0.2, "rows": 40,
    }  # fmt: skip
