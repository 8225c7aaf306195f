"""A site's weight: the same at both ends, and refused where the coordinator gives another."""

from __future__ import annotations

import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WireError
from common.protocol.weights import MAX_BUCKET, require_own_weight, size_bucket, weight_of
from common.settings.config import WeightRule

RULES = get_args(WeightRule)


@given(st.floats(1, 2**19), st.sampled_from(RULES))
def test_the_agreed_weight_is_accepted(users: float, rule: WeightRule) -> None:
    require_own_weight(weight_of(rule, size_bucket(users)), rule, users, where="x")


@given(st.floats(1, 2**19), st.sampled_from(("users", "sqrt_users")))
def test_the_bucket_is_the_size_to_half_an_octave(users: float, rule: WeightRule) -> None:
    exact = users if rule == "users" else math.sqrt(users)
    assert exact / math.sqrt(2) * 0.999 <= weight_of(rule, size_bucket(users)) <= exact * 1.001


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("factor", [0.0, 1e-300, 0.5, 2.0, 1e6, math.inf, math.nan])
def test_any_other_weight_is_refused(rule: WeightRule, factor: float) -> None:
    given_ = weight_of(rule, size_bucket(300.0)) * factor
    with pytest.raises(WireError, match="weighs this site otherwise"):
        require_own_weight(given_, rule, 300.0, where="x")


def test_one_bucket_of_growth_is_no_reason_to_stop() -> None:
    before = weight_of("users", size_bucket(300.0))
    require_own_weight(before, "users", 400.0, where="x")
    with pytest.raises(WireError):
        require_own_weight(before, "users", 900.0, where="x")


def test_sizes_beyond_the_scale_stay_on_it() -> None:
    assert size_bucket(0.0) == 0
    assert size_bucket(1e12) == MAX_BUCKET
