"""One reply on its own: which is taken, which is refused, and in which words."""

from __future__ import annotations

import math
from typing import Any

import pytest
from flwr.app import Error, Message, RecordDict

from common.errors import WireError
from common.flower.simulation import COORDINATOR, become
from common.protocol import wire
from common.protocol.wire import Header
from common.settings.config import RoundsConfig
from server.messages.screen import Expected, claimed_weight, contract_weight, finite_metrics, screen
from simulations.engines.base import Task, delivered

EXPECTED = Expected("amber", "run", 3, "layout", "masked")
GOOD = Header("run", 3, "amber", "layout", "masked")


def reply(content: RecordDict | Error) -> Message:
    become(COORDINATOR)
    return Message(content, reply_to=delivered(Task("m1", 0, "train", "3", 0.0, 1e12), RecordDict()))


def changed(**changes: Any) -> Header:
    return Header(**{**{name: getattr(GOOD, name) for name in GOOD.__dataclass_fields__}, **changes})


def test_what_isnt_said_of_a_reply_is_round_zero_in_clear_of_any_layout() -> None:
    assert Expected("amber", "run") == Expected("amber", "run", 0, "", "plain")


def test_a_reply_that_keeps_the_contract_is_passed_on_as_it_is() -> None:
    content = wire.pack(GOOD, metrics={"x": 1.0})
    header, records = screen(reply(content), EXPECTED)
    assert header == GOOD
    assert wire.read_metrics(records) == {"x": 1.0}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"site": "birch"}, "the reply names another site, 'birch'"),
        ({"site": "bir\x1bch" + "h" * 400}, "the reply names another site, 'bir ch" + "h" * 294 + "'"),
        ({"site": ""}, "the reply names another site, 'no reason'"),
        ({"run": "walk"}, "the reply belongs to a run with other settings"),
        ({"round": 2}, "the reply belongs to round 2"),
        ({"round": 4}, "the reply belongs to round 4"),
        ({"layout": ""}, "the reply's parameters have another layout"),
        ({"layout": "other"}, "the reply's parameters have another layout"),
        ({"protection": "plain"}, "the reply's protection is 'plain'"),
    ],
)
def test_a_reply_that_states_something_else_is_refused_in_these_words(
    changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(WireError) as caught:
        screen(reply(wire.pack(changed(**changes))), EXPECTED)
    assert (caught.value.what, caught.value.where) == (said, "site 'amber', round 3")


def test_where_no_layout_is_agreed_on_yet_any_is_taken() -> None:
    for layout in ("", "layout", "other"):
        header, _ = screen(reply(wire.pack(Header("run", 0, "amber", layout))), Expected("amber", "run"))
        assert header.layout == layout


@pytest.mark.parametrize(
    ("code", "reason", "said"),
    [
        (3, "x", "no reply before the deadline"),
        (4, "x", "its reply didn't come whole"),
        (5, "x", "the site is away: nothing has been heard of it"),
        (8, "x", "the site's process died at work"),
        (1, "x", "the site reported an error: x"),
        (1004, "no\nroom", "the site reported an error: no room"),
        (1004, "", "the site reported an error: no reason"),
        (1004, "r" * 301, "the site reported an error: " + "r" * 300),
        (1004, "r" * 300, "the site reported an error: " + "r" * 300),
    ],
)
def test_an_error_is_told_in_these_words(code: int, reason: str, said: str) -> None:
    with pytest.raises(WireError) as caught:
        screen(reply(Error(code, reason)), EXPECTED)
    assert (caught.value.what, caught.value.where) == (said, "site 'amber', round 3")


@pytest.mark.parametrize("weight", [1, 0.5, 5e-324, 2.0**20, 1 << 20])
def test_a_claim_above_zero_and_up_to_a_million_is_believed_for_what_it_is(weight: float) -> None:
    found = claimed_weight(Header("run", plan={"weight": weight}), where="here")
    assert found == weight
    assert type(found) is float


@pytest.mark.parametrize(
    "weight", [0, 0.0, -1.0, math.nan, math.inf, -math.inf, math.nextafter(2.0**20, 2e9)]
)
def test_a_claim_out_of_range_is_refused(weight: float) -> None:
    with pytest.raises(WireError) as caught:
        claimed_weight(Header("run", plan={"weight": weight}), where="here")
    assert caught.value.what == f"the weight {weight:.3g} is outside (0, 1048576]"
    assert caught.value.where == "here"


@pytest.mark.parametrize("plan", [{}, {"weight": True}, {"weight": False}, {"weight": "1"}])
def test_no_number_is_no_claim(plan: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        claimed_weight(Header("run", plan=plan), where="here")
    assert (caught.value.what, caught.value.where) == ("the reply states no weight", "here")


@pytest.mark.parametrize(("bucket", "weight"), [(0, 1.0), (1, 2**0.25), (8, 4.0), (40, 1024.0)])
def test_the_weight_follows_from_the_stated_bucket_by_the_contracts_rule(bucket: int, weight: float) -> None:
    header = Header("run", plan={"bucket": bucket})
    assert contract_weight(header, RoundsConfig(), where="here") == weight
    assert contract_weight(header, RoundsConfig(weights="users"), where="here") == pytest.approx(weight**2)
    assert contract_weight(header, RoundsConfig(weights="equal"), where="here") == 1.0


@pytest.mark.parametrize("bucket", [None, -1, 41, True, 3.0, "3"])
def test_a_bucket_that_is_none_is_refused(bucket: Any) -> None:
    plan = {} if bucket is None else {"bucket": bucket}
    with pytest.raises(WireError) as caught:
        contract_weight(Header("run", plan=plan), RoundsConfig(), where="here")
    assert (caught.value.what, caught.value.where) == ("the size bucket is outside [0, 40]", "here")


def test_figures_are_sorted_and_those_that_are_no_number_count_as_not_given() -> None:
    told = {"b": 2.0, "c\n": 3.0, "n": math.nan, "i": math.inf, "j": -math.inf, "a": -1.0}
    found = finite_metrics(wire.pack(GOOD, metrics=told), where="here")
    assert list(found.items()) == [("a", -1.0), ("b", 2.0), ("c ", 3.0)]
    assert finite_metrics(wire.pack(GOOD), where="here") == {}


def test_five_hundred_and_twelve_figures_are_the_most() -> None:
    def told(count: int) -> RecordDict:
        return wire.pack(GOOD, metrics={f"m{number}": 1.0 for number in range(count)})

    assert len(finite_metrics(told(512), where="here")) == 512
    with pytest.raises(WireError) as caught:
        finite_metrics(told(513), where="here")
    assert (caught.value.what, caught.value.where) == ("the reply holds 513 figures", "here")
