"""Messages that sites lose come again; those that are only slow don't. The real processes are in `tests/deployment`."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from flwr.app import Error, Message
from flwr.serverapp import Grid

from common.flower.simulation import COORDINATOR, become
from common.protocol import wire
from server.messages import resend
from server.messages.exchange import exchange
from server.messages.resend import SteadyGrid


class Nodes(Grid):
    """SuperNodes as Flower's are: each takes messages in order, one at a time, and forgets what it held when killed."""

    def __init__(self) -> None:
        self.queues: dict[int, deque[tuple[str, Message]]] = {}
        self.busy: dict[int, tuple[str, Message]] = {}
        self.replies: dict[str, Message] = {}
        self.trained: list[int] = []
        self.slow: set[int] = set()
        self.gone: set[int] = set()
        self._ids = itertools.count()

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            ids.append(f"m{next(self._ids)}")
            message.metadata.__dict__["_message_id"] = ids[-1]
            self.queues.setdefault(message.metadata.dst_node_id, deque()).append((ids[-1], message))
        return ids

    def work(self) -> None:
        """Let each node take its next message, and answer it unless it's slow."""
        for node, queue in self.queues.items():
            if node not in self.busy and queue:
                self.busy[node] = queue.popleft()
            if node in self.busy and (
                node not in self.slow or self.busy[node][1].metadata.message_type != "train"
            ):
                id_, message = self.busy.pop(node)
                if message.metadata.message_type == "train":
                    self.trained.append(node)
                self.replies[id_] = Message(message.content, reply_to=message)

    def kill(self, node: int) -> None:
        """The node starts anew with nothing at hand."""
        self.busy.pop(node, None)

    def crash(self, node: int, code: int) -> None:
        """The node's app dies; the node says so."""
        id_, message = self.busy.pop(node)
        self.replies[id_] = Message(Error(code, "gone"), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.replies.pop(id_) for id_ in list(message_ids) if id_ in self.replies]

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *given: Any, **named: Any) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return [node for node in self.queues if node not in self.gone]

    def get_nodes(self) -> list[Any]:
        return []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        raise NotImplementedError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    become(COORDINATOR)
    now = [1000.0]
    monkeypatch.setattr(resend.time, "monotonic", lambda: now[0])
    return now


def _asked(nodes: Nodes) -> tuple[SteadyGrid, list[str]]:
    steady = SteadyGrid(nodes, "run")
    content = wire.pack(wire.Header("run", 1), vector=np.arange(3, dtype=np.float32))
    messages = [Message(content, dst_node_id=n, message_type="train", ttl=300, group_id="1") for n in (1, 2)]
    return steady, list(steady.push_messages(messages))


def _pull(steady: SteadyGrid, ids: list[str]) -> list[str]:
    return [reply.metadata.reply_to_message_id for reply in steady.pull_messages(ids)]


def test_replies_pass_as_they_come(clock: list[float]) -> None:
    nodes = Nodes()
    steady, ids = _asked(nodes)
    nodes.work()
    assert _pull(steady, ids) == ids
    assert nodes.trained == [1, 2]


def test_a_message_lost_with_its_node_is_sent_again_and_answered_under_its_first_id(
    clock: list[float],
) -> None:
    nodes = Nodes()
    nodes.slow = {1}
    steady, ids = _asked(nodes)
    nodes.work()
    assert _pull(steady, ids) == [ids[1]]
    nodes.kill(1)
    for _ in range(3):
        clock[0] += 11
        nodes.work()
        assert _pull(steady, [ids[0]]) == []
    nodes.slow = set()
    nodes.work()
    assert _pull(steady, [ids[0]]) == [ids[0]]
    assert nodes.trained == [2, 1]


def test_a_slow_site_is_asked_but_its_message_is_not_sent_again(clock: list[float]) -> None:
    nodes = Nodes()
    nodes.slow = {1, 2}
    steady, ids = _asked(nodes)
    for _ in range(20):
        clock[0] += 11
        nodes.work()
        assert _pull(steady, ids) == []
    nodes.slow = set()
    for _ in range(30):
        nodes.work()
    assert _pull(steady, ids) == ids
    assert nodes.trained == [1, 2]
    assert max(len(queue) for queue in nodes.queues.values()) == 0


@pytest.mark.parametrize("code", [3, 4, 8])
def test_a_message_whose_process_died_is_sent_again_at_once(code: int, clock: list[float]) -> None:
    nodes = Nodes()
    nodes.slow = {1}
    steady, ids = _asked(nodes)
    nodes.work()
    nodes.crash(1, code)
    nodes.slow = set()
    assert _pull(steady, ids) == [ids[1]]
    nodes.work()
    assert _pull(steady, ids) == [ids[0]]


def test_a_site_that_says_goodbye_and_comes_back_is_asked_again(clock: list[float]) -> None:
    nodes = Nodes()
    nodes.slow = {1}
    steady, ids = _asked(nodes)
    nodes.work()
    nodes.crash(1, 5)
    nodes.slow, nodes.gone = set(), {1}
    assert _pull(steady, ids) == [ids[1]]
    for _ in range(5):
        clock[0] += 10
        nodes.work()
        assert _pull(steady, [ids[0]]) == []
    nodes.gone = set()
    assert _pull(steady, [ids[0]]) == []
    nodes.work()
    assert _pull(steady, [ids[0]]) == [ids[0]]
    assert nodes.trained == [2, 1]


def test_a_site_that_stays_away_is_given_up_with_flowers_reason(clock: list[float]) -> None:
    nodes = Nodes()
    nodes.slow = {1}
    steady, ids = _asked(nodes)
    nodes.work()
    nodes.crash(1, 5)
    nodes.gone = {1}
    assert _pull(steady, ids) == [ids[1]]
    clock[0] += 61
    (reply,) = steady.pull_messages([ids[0]])
    assert (reply.error.code, reply.metadata.reply_to_message_id) == (5, ids[0])
    # The next round doesn't wait for it a second time.
    content = wire.pack(wire.Header("run", 2))
    later = list(
        steady.push_messages([Message(content, dst_node_id=1, message_type="train", ttl=300, group_id="2")])
    )
    nodes.work()
    nodes.crash(1, 5)
    assert _pull(steady, later) == later


def test_an_error_of_the_sites_own_is_passed_on(clock: list[float]) -> None:
    nodes = Nodes()
    nodes.slow = {1}
    steady, ids = _asked(nodes)
    nodes.work()
    nodes.crash(1, 1010)
    (first, _) = steady.pull_messages(ids)
    assert (first.metadata.reply_to_message_id, first.has_error()) == (ids[0], True)
    assert nodes.trained == [2]


def test_a_site_that_dies_again_and_again_is_given_up(clock: list[float]) -> None:
    nodes = Nodes()
    nodes.slow = {1}
    steady, ids = _asked(nodes)
    errors = 0
    for _ in range(20):
        nodes.work()
        if 1 in nodes.busy:
            nodes.crash(1, 8)
        errors += sum(reply.has_error() for reply in steady.pull_messages(ids))
    assert errors == 1


def test_nobody_is_asked_after_the_deadline(clock: list[float]) -> None:
    nodes = Nodes()
    nodes.slow = {1, 2}
    steady, ids = _asked(nodes)
    clock[0] += 301
    assert _pull(steady, ids) == []
    assert sum(len(queue) for queue in nodes.queues.values()) == 2


def test_a_round_of_asking_ends_with_every_reply(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes()
    nodes.slow = {2}
    turns = itertools.count()

    def pause(seconds: float) -> None:
        clock[0] += 6
        nodes.work()
        if next(turns) == 2:
            nodes.kill(2)
            nodes.slow = set()

    monkeypatch.setattr("server.messages.exchange.time.sleep", pause)
    content = wire.pack(wire.Header("run", 1))
    requests = {"a": (1, content), "b": (2, content)}
    found = dict(exchange(SteadyGrid(nodes, "run"), requests, "train", group="1", deadline_s=200))
    assert sorted(found) == ["a", "b"]
    assert all(reply is not None and not reply.has_error() for reply in found.values())
