"""The coordinator's two small files: what is written comes back, and what is damaged is told as such by all who ask."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from common.errors import RunError
from common.runtime.locks import only_one
from server.superlink.commands import await_model, await_stop, is_under_way, order_stop
from server.superlink.orders import ADDRESS, LOCK, OrderStatus, Post, RunOrder

ORDER: dict[str, Any] = {"run": "/runs/x", "wanted": True, "now": False, "number": "12ab"}
OUTCOME: dict[str, Any] = {"number": "12ab", "state": "running", "tries": 2, "fault": {}}

DAMAGED_ORDERS: dict[str, Any] = {
    "no table": [1, 2],
    "nothing": None,
    "a word": "go",
    "a number": 7,
    "empty": {},
    "without its number": {name: value for name, value in ORDER.items() if name != "number"},
    "without its wish": {name: value for name, value in ORDER.items() if name != "wanted"},
    "without its haste": {name: value for name, value in ORDER.items() if name != "now"},
    "without its run": {name: value for name, value in ORDER.items() if name != "run"},
    "with a stranger": {**ORDER, "colour": "red"},
    "run 5": {**ORDER, "run": 5},
    "no run": {**ORDER, "run": None},
    "wanted 1": {**ORDER, "wanted": 1},
    "now 'no'": {**ORDER, "now": "no"},
    "number 12": {**ORDER, "number": 12},
}
DAMAGED_OUTCOMES: dict[str, Any] = {
    "no table": [1, 2],
    "empty": {},
    "without its tries": {name: value for name, value in OUTCOME.items() if name != "tries"},
    "without its fault": {name: value for name, value in OUTCOME.items() if name != "fault"},
    "with a stranger": {**OUTCOME, "colour": "red"},
    "number 12": {**OUTCOME, "number": 12},
    "state unheard of": {**OUTCOME, "state": "asleep"},
    "no state": {**OUTCOME, "state": None},
    "state of many": {**OUTCOME, "state": ["running"]},
    "tries 'many'": {**OUTCOME, "tries": "many"},
    "tries 1.5": {**OUTCOME, "tries": 1.5},
    "tries true": {**OUTCOME, "tries": True},
    "fault as text": {**OUTCOME, "fault": "no disk"},
    "no fault": {**OUTCOME, "fault": None},
}


@pytest.fixture
def post(tmp_path: Path) -> Post:
    (tmp_path / "private").mkdir()
    return Post(tmp_path)


def _write(post: Post, name: str, told: Any) -> None:
    (post.private / name).write_text(told if isinstance(told, str) else json.dumps(told))


def test_what_is_written_comes_back(post: Post) -> None:
    assert (post.order(), post.outcome()) == (None, None)
    order, outcome = RunOrder("/runs/x"), OrderStatus("12ab", "failed", 3, {"what": "no disk"})
    assert (order.wanted, order.now) == (True, False)
    assert order.number != RunOrder("/runs/x").number
    post.give(order)
    post.tell(outcome)
    assert (post.order(), post.outcome()) == (order, outcome)
    assert OrderStatus("12ab", "running") == OrderStatus("12ab", "running", 1, {})
    _write(post, "order.json", ORDER)
    _write(post, "outcome.json", OUTCOME)
    assert post.order() == RunOrder("/runs/x", True, False, "12ab")
    assert post.outcome() == OrderStatus("12ab", "running", 2)


@pytest.mark.parametrize("damage", DAMAGED_ORDERS)
def test_a_damaged_order_is_told_as_such_and_nothing_is_made_of_it(damage: str, post: Post) -> None:
    _write(post, "order.json", json.dumps(DAMAGED_ORDERS[damage]))
    for ask in (post.order, lambda: is_under_way(post)):
        _is_refused(ask, post.private / "order.json")


@pytest.mark.parametrize("damage", DAMAGED_OUTCOMES)
def test_a_damaged_outcome_is_told_as_such_and_nothing_is_made_of_it(damage: str, post: Post) -> None:
    _write(post, "order.json", ORDER)
    _write(post, "outcome.json", json.dumps(DAMAGED_OUTCOMES[damage]))
    asking: list[Callable[[], Any]] = [
        post.outcome,
        lambda: is_under_way(post),
        lambda: await_model(post.kit, RunOrder(**ORDER), lambda: None),
        lambda: await_stop(post.kit, seconds=5.0),
    ]
    for ask in asking:
        _is_refused(ask, post.private / "outcome.json")


def _is_refused(ask: Callable[[], Any], path: Path) -> None:
    with pytest.raises(RunError) as caught:
        ask()
    fault = caught.value
    assert (fault.what, fault.where, fault.next_step) == (
        "a file of the coordinator is damaged", str(path), "delete it",
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "\x00", '{"run": '])
def test_a_file_that_isnt_whole_is_told_as_such(text: str, post: Post) -> None:
    _write(post, "order.json", text)
    with pytest.raises(RunError, match=r"damaged .*order\.json"):
        post.order()


def test_a_command_on_a_damaged_order_says_so_where_a_coordinator_is_up(post: Post) -> None:
    with only_one(post.private / LOCK, "a coordinator"):
        (post.private / ADDRESS).write_text("{}")
        _write(post, "order.json", {**ORDER, "run": 5})
        _is_refused(lambda: order_stop(post.kit, now=True), post.private / "order.json")


def test_a_coordinator_is_up_where_it_holds_the_lock_and_says_where_it_listens(post: Post) -> None:
    def is_refused() -> bool:
        with pytest.raises(RunError, match=r"isn't up.*hansa coordinator up"):
            post.require_up()
        return not post.is_up()

    address = post.private / ADDRESS
    assert is_refused()
    address.write_text("{}")
    assert is_refused(), "the one that wrote it is gone"
    with only_one(post.private / LOCK, "a coordinator"):
        assert post.is_up()
        post.require_up()
        address.unlink()
        assert is_refused(), "it is still starting"
