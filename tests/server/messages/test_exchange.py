"""How sites are asked: through a narrow window, with pauses that grow, and with one answer for each whatever comes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pytest
from flwr.app import Context, Message, RecordDict

from common.protocol import wire
from common.protocol.wire import Header
from server.messages.exchange import exchange
from simulations.engines.local import LocalGrid
from tests.server.tiny_league import FIRST_NODE, TestClock, own_time


class Paced(LocalGrid):
    """Sites that answer from a look on: of each place the number of that look, or never.

    Parameters
    ----------
    refused : places to which no message can be sent.
    """

    def __init__(self, turns: Sequence[int | None], refused: Iterable[int] = ()) -> None:
        super().__init__(self._answer, len(turns), {})
        self._turns, self._refused = turns, set(refused)
        self.looks: list[list[str]] = []
        self.strangers: list[Message] = []
        self.messages: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        self.messages = list(messages)
        ids = list(super().push_messages(self.messages))
        return ("" if place in self._refused else id_ for place, id_ in enumerate(ids))

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        asked = list(message_ids)
        self.looks.append(asked)
        came = [self._tasks[id_] for id_ in asked if id_ in self._tasks]
        ready = [(task, content) for task, content in came if self._is_ready(task.place)]
        for task, _ in ready:
            del self._tasks[task.id]
        strangers, self.strangers = self.strangers, []
        return strangers + [self._work(task, content) for task, content in ready]

    def _is_ready(self, place: int) -> bool:
        turn = self._turns[place]
        return turn is not None and turn <= len(self.looks)

    def _answer(self, message: Message, context: Context) -> Message:
        return Message(wire.pack(Header("r", int(context.node_config["partition-id"]))), reply_to=message)


def _requests(count: int) -> dict[str, tuple[int, RecordDict]]:
    return {f"s{place}": (FIRST_NODE + place, wire.pack(Header(f"to {place}"))) for place in range(count)}


def _ask(
    grid: LocalGrid, requests: Mapping[str, tuple[int, RecordDict]], deadline_s: float = 60.0
) -> list[tuple[str, int | None]]:
    """Each site with the place that its reply names."""
    found = exchange(grid, requests, "train", group="7", deadline_s=deadline_s)
    return [
        (site, None if reply is None else wire.read_header(reply.content, where="t").round)
        for site, reply in found
    ]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> TestClock:
    return own_time(monkeypatch)


def _sizes(grid: Paced) -> list[int]:
    return [len(look) for look in grid.looks]


def test_each_site_gets_its_own_message_and_gives_its_own_reply(clock: TestClock) -> None:
    grid = Paced([1] * 3)
    assert _ask(grid, _requests(3), deadline_s=12.5) == [("s0", 0), ("s1", 1), ("s2", 2)]
    assert (clock.slept, _sizes(grid)) == ([], [3])
    for place, message in enumerate(grid.messages):
        facts = message.metadata
        assert (facts.dst_node_id, facts.message_type) == (FIRST_NODE + place, "train")
        assert (facts.group_id, facts.ttl) == ("7", 12.5)
        assert wire.read_header(message.content, where="t").run == f"to {place}"


def test_nobody_to_ask_is_nobody_to_wait_for(clock: TestClock) -> None:
    grid = Paced([])
    assert _ask(grid, {}) == []
    assert (grid.looks, clock.slept) == ([], [])


def test_no_more_than_eight_are_looked_for_while_they_come(clock: TestClock) -> None:
    grid = Paced([1] * 20)
    assert _ask(grid, _requests(20)) == [(f"s{place}", place) for place in range(20)]
    assert (_sizes(grid), clock.slept) == ([8, 8, 4], [])
    assert grid.looks[0] == [f"m{number}" for number in range(1, 9)]


def test_the_window_doubles_and_the_pause_grows_while_nothing_comes(clock: TestClock) -> None:
    grid = Paced([6] * 8 + [4] * 28 + [None] * 4)
    found = _ask(grid, _requests(40), deadline_s=30.0)
    # Looks 1, 2 and 3 find nothing; the fourth finds 28 beyond the eight at the head, and the window is narrow again.
    assert _sizes(grid)[:7] == [8, 16, 32, 40, 8, 12, 4]
    assert clock.slept[:5] == pytest.approx([0.002, 0.003, 0.0045, 0.002, 0.002])
    assert [site for site, _ in found] == [f"s{n}" for n in [*range(8, 36), *range(8), *range(36, 40)]]
    assert found[-4:] == [(f"s{place}", None) for place in range(36, 40)]


def test_the_pause_grows_by_half_to_half_a_second(clock: TestClock) -> None:
    _ask(Paced([None]), _requests(1), deadline_s=10.0)
    for before, after in zip(clock.slept, clock.slept[1:], strict=False):
        assert after == pytest.approx(min(1.5 * before, 0.5))
    assert clock.slept[0] == 0.002
    assert clock.slept[-1] == 0.5


def test_at_the_deadline_all_that_came_is_taken_and_the_rest_given_up(clock: TestClock) -> None:
    # The last 12 answer when the coordinator has waited for 3 s, at a look that comes after the deadline.
    grid = Paced([None] * 30 + [1000] * 12)
    grid._is_ready = lambda place: place >= 30 and clock.now > 1003.0  # type: ignore[method-assign]
    found = _ask(grid, _requests(42), deadline_s=3.0)
    assert _sizes(grid)[-1] == 42
    assert clock.now - 1000.0 == pytest.approx(3.0, abs=0.5)
    assert clock.now > 1003.0
    assert found == [(f"s{n}", n) for n in range(30, 42)] + [(f"s{n}", None) for n in range(30)]


def test_a_narrow_window_hides_nobody_at_the_deadline(
    clock: TestClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = Paced([1] + [2] * 19)
    at_once = grid._answer

    def slowly(message: Message, context: Context) -> Message:
        clock.now += 5.0
        return at_once(message, context)

    monkeypatch.setattr(grid, "_app", slowly)
    assert _ask(grid, _requests(20), deadline_s=3.0) == [(f"s{place}", place) for place in range(20)]
    assert _sizes(grid) == [8, 19]


def test_at_the_very_moment_of_the_deadline_it_isnt_over_yet(clock: TestClock) -> None:
    grid = Paced([None] * 9)
    assert len(_ask(grid, _requests(9), deadline_s=0.0)) == 9
    assert (_sizes(grid), clock.slept) == ([8, 9], [0.002])


def test_a_site_that_no_message_reaches_is_given_up_at_once(clock: TestClock) -> None:
    grid = Paced([2, 1, 2], refused=[1])
    assert _ask(grid, _requests(3)) == [("s1", None), ("s0", 0), ("s2", 2)]
    assert grid.looks == [["m1", "m3"], ["m1", "m3"]]


def test_a_reply_to_something_else_or_a_second_one_is_dropped(clock: TestClock) -> None:
    grid = Paced([2, 4, 5])
    made = Paced([1, 1])
    strange = list(made.pull_messages(made.push_messages(_messages(2))))
    grid.strangers = [_reply_to(strange[0], "m99")]
    found = exchange(grid, _requests(3), "train", group="7", deadline_s=60.0)
    site, first = next(found)
    assert site == "s0"
    assert first is not None
    grid.strangers = [first]
    assert [(site, reply is not None) for site, reply in found] == [("s1", True), ("s2", True)]
    # What was dropped counts as nothing that came: the pauses go on growing.
    assert clock.slept == pytest.approx([0.002, 0.002])


def _messages(count: int) -> list[Message]:
    return [
        Message(content, dst_node_id=node, message_type="train", group_id="7")
        for node, content in _requests(count).values()
    ]


def _reply_to(reply: Message, id_: str) -> Message:
    reply.metadata.__dict__["_reply_to_message_id"] = id_
    return reply
