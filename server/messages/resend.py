"""Grids around a Grid: what passes through them may be noted, or sent again where a site lost it.

Invariant: whoever asks through them gets one reply to each message, under the id that it was given, whatever happened
to the message on its way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from common.flower.messages import answer_as
from common.protocol import wire

_log = logging.getLogger("hansa.coordinator")
# Flower's codes for messages and replies whose parts never came, and for a process that died at work.
_LOST = (3, 4, 8)
_AWAY = 5  # its code for a node that has said goodbye, or that nothing is heard of
_AWAY_S = 60.0
_MOST_SENDINGS = 12
_FIRST_DOUBT_S = 10.0


class PassingGrid(Grid):
    """A Grid that passes everything on."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As the grid within."""
        return self._grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As the grid within."""
        return self._grid.pull_messages(message_ids)

    def set_run(self, run: Any) -> None:
        """As the grid within."""
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        """As the grid within."""
        return self._grid.run

    def create_message(self, *given: Any, **named: Any) -> Message:
        """As the grid within."""
        return self._grid.create_message(*given, **named)

    def get_node_ids(self) -> Iterable[int]:
        """As the grid within."""
        return self._grid.get_node_ids()

    def get_nodes(self) -> Iterable[Any]:
        """As the grid within."""
        return self._grid.get_nodes()

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """As the grid within."""
        return self._grid.send_and_receive(messages, timeout=timeout)


@dataclass
class _Sent:
    """One message under way.

    Parameters
    ----------
    asked_as : the id that whoever asked knows it by; `id` is that of its last sending.
    ends : when nobody waits for it any more (monotonic).
    doubted_at : when to ask next whether it was lost; `doubts` are the ids of the questions.
    away : since when its site is away, and how Flower said so.
    """

    asked_as: str
    id: str
    node: int
    message_type: str
    group: str
    content: RecordDict
    ends: float
    doubted_at: float
    pause_s: float = _FIRST_DOUBT_S
    doubts: list[str] = field(default_factory=list)
    sendings: int = 1
    away: tuple[float, Message] | None = None


class SteadyGrid(PassingGrid):
    """A Grid over which a message that a site lost, because it was killed at work, is sent again.

    A site's SuperNode takes messages in their order and one at a time. So a site that answers a later question has
    answered, or lost, all earlier ones: after a while without a reply it's asked who it is. A site that is away has a
    minute to come back, as it does when it starts its processes again. Only for SuperNodes; an
    engine that lets one site work at two messages at once would be misread.
    """

    def __init__(self, grid: Grid, run: str) -> None:
        super().__init__(grid)
        self._question = wire.pack(wire.Header(run=run))
        self._sent: dict[str, _Sent] = {}
        self._absent: set[int] = set()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send, and remember."""
        given = list(messages)
        ids = list(self._grid.push_messages(given))
        now = time.monotonic()
        for message, id_ in zip(given, ids, strict=True):
            facts = message.metadata
            if id_:
                self._sent[id_] = _Sent(
                    id_, id_, facts.dst_node_id, facts.message_type, facts.group_id, message.content,
                    now + facts.ttl, now + _FIRST_DOUBT_S,
                )  # fmt: skip
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take replies; what was lost is sent again in their place."""
        wanted = [self._sent[id_] for id_ in message_ids if id_ in self._sent]
        past = self._past(wanted)  # asked first: a reply that is there now came before the question's
        waiting = {sent.id: sent for sent in wanted if sent.away is None}
        for reply in self._grid.pull_messages(list(waiting)):
            sent = waiting.pop(reply.metadata.reply_to_message_id, None)
            if sent is None:
                continue
            code = reply.error.code if reply.has_error() else 0
            if not code:
                self._absent.discard(sent.node)
            if code == _AWAY and sent.sendings < _MOST_SENDINGS and sent.node not in self._absent:
                sent.away = time.monotonic(), reply
            elif code not in _LOST or not self._again(sent):
                yield self._ended(sent, reply)
        for sent in waiting.values():
            if sent.asked_as in past:
                self._again(sent)
        yield from self._away([sent for sent in wanted if sent.away is not None])
        self._forget()

    def _ended(self, sent: _Sent, reply: Message) -> Message:
        del self._sent[sent.asked_as]
        return answer_as(reply, sent.asked_as)

    def _away(self, away: list[_Sent]) -> list[Message]:
        """Send again to those that have come back; give up those that stay away."""
        there = set(self._grid.get_node_ids()) if away else set()
        given_up = []
        for sent in away:
            since, reply = sent.away or (0.0, None)
            if sent.node in there and self._again(sent):
                sent.away = None
            elif reply is not None and time.monotonic() - since > _AWAY_S:
                self._absent.add(sent.node)  # nobody waits for it again before it has been heard
                given_up.append(self._ended(sent, reply))
        return given_up

    def _past(self, wanted: list[_Sent]) -> set[str]:
        """Messages whose site has answered a later question."""
        by_doubt = {doubt: sent for sent in wanted for doubt in sent.doubts}
        answered: set[str] = set()
        if by_doubt:
            for reply in self._grid.pull_messages(list(by_doubt)):
                sent = by_doubt[reply.metadata.reply_to_message_id]
                sent.doubts.remove(reply.metadata.reply_to_message_id)
                if not reply.has_error():
                    answered.add(sent.asked_as)
        now = time.monotonic()
        late = [sent for sent in wanted if sent.doubted_at < now < sent.ends and sent.away is None]
        questions = [
            Message(
                self._question, dst_node_id=sent.node, message_type=wire.HELLO, ttl=sent.ends - now, group_id="doubt"
            )
            for sent in late
        ]  # fmt: skip
        for sent, id_ in zip(late, self._grid.push_messages(questions) if late else [], strict=True):
            sent.doubts += [id_] if id_ else []
            sent.pause_s *= 2
            sent.doubted_at = now + sent.pause_s
        return answered

    def _again(self, sent: _Sent) -> bool:
        """Send once more, where somebody still waits; whether it was."""
        now = time.monotonic()
        if sent.sendings >= _MOST_SENDINGS or now >= sent.ends:
            return False
        message = Message(
            sent.content, dst_node_id=sent.node, message_type=sent.message_type, ttl=sent.ends - now,
            group_id=sent.group,
        )  # fmt: skip
        (id_,) = self._grid.push_messages([message])
        if not id_:
            return False
        _log.warning("a site lost a message of %s %s; it's sent again", sent.message_type, sent.group)
        sent.id, sent.doubts, sent.sendings = id_, [], sent.sendings + 1
        sent.pause_s, sent.doubted_at = _FIRST_DOUBT_S, now + _FIRST_DOUBT_S
        return True

    def _forget(self) -> None:
        now = time.monotonic()
        for sent in [sent for sent in self._sent.values() if now > sent.ends]:
            del self._sent[sent.asked_as]
