"""What the in-process and the pool grid share: node numbers, message ids, deep copies.

Invariant: a message and its reply share no object that either side could change, so a site in this process is as
separate from the coordinator and other sites as one across a network. Only immutable bytes are shared.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, Metadata, RecordDict, UserConfig
from flwr.serverapp import Grid

from common.flower.simulation import COORDINATOR, RUN_ID, Run, become, new_run, received_message

_FIRST_NODE = 1000


@dataclass(frozen=True)
class Task:
    """One message on its way to a site: everything but its records, as plain facts.

    Parameters
    ----------
    place : number of the site, from 0 in site order.
    created_at, ttl : when the message was made (Unix time) and for how many seconds a reply is wanted.
    """

    id: str
    place: int
    message_type: str
    group: str
    created_at: float
    ttl: float

    @property
    def node(self) -> int:
        """The Flower node of the site."""
        return _FIRST_NODE + self.place

    @property
    def expired(self) -> bool:
        """Whether nobody waits for the reply any more."""
        return time.time() > self.created_at + self.ttl

    def facts(self) -> dict[str, Any]:
        """JSON-able form; the inverse of `from_facts`."""
        return asdict(self)

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Task:
        """The task that another process described."""
        return cls(**facts)


class SimulatedGrid(Grid):
    """A grid over `sites` nodes of this machine.

    Parameters
    ----------
    sites : number of nodes; node i gets `partition-id` i.
    run_config : Flower's run configuration, the same at every node.
    """

    def __init__(self, sites: int, run_config: UserConfig) -> None:
        become(COORDINATOR)
        self._run = new_run()
        self._sites, self._run_config = sites, run_config
        self._sent = 0

    def set_run(self, run: Run) -> None:
        """Take another run's facts; a simulation has one run only."""
        self._run = run

    @property
    def run(self) -> Run:
        """Facts of the run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message of this run."""
        return Message(
            content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl
        )

    def get_node_ids(self) -> Iterable[int]:
        """One node a site, in site order."""
        return [_FIRST_NODE + place for place in range(self._sites)]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue messages for their sites and return their ids."""
        ids = []
        for message in messages:
            self._sent += 1
            metadata = message.metadata
            place = metadata.dst_node_id - _FIRST_NODE
            if not 0 <= place < self._sites:
                raise ValueError(f"no node {metadata.dst_node_id} in this simulation")
            task = Task(
                f"m{self._sent}",
                place,
                metadata.message_type,
                metadata.group_id,
                metadata.created_at,
                metadata.ttl,
            )
            self._queue(task, message.content)
            ids.append(task.id)
        return ids

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push messages and wait for all replies, or for `timeout` seconds."""
        pending = list(self.push_messages(messages))
        ends = time.monotonic() + (timeout if timeout is not None else float("inf"))
        replies: list[Message] = []
        while pending and time.monotonic() < ends:
            for reply in self.pull_messages(pending):
                pending.remove(reply.metadata.reply_to_message_id)
                replies.append(reply)
        return replies

    @abstractmethod
    def _queue(self, task: Task, content: RecordDict) -> None:
        """Take one message for delivery; `content` may be shared with other messages and isn't changed."""


def node_context(place: int, sites: int, run_config: UserConfig) -> Context:
    """What Flower would give the node of one site."""
    node_config: UserConfig = {"partition-id": place, "num-partitions": sites}
    return Context(RUN_ID, _FIRST_NODE + place, node_config, RecordDict(), dict(run_config))


def delivered(task: Task, content: RecordDict) -> Message:
    """The message as its site receives it: with an id, and records of its own."""
    metadata = Metadata(
        run_id=RUN_ID, message_id=task.id, src_node_id=COORDINATOR, dst_node_id=task.node,
        reply_to_message_id="", group_id=task.group, created_at=task.created_at, ttl=task.ttl,
        message_type=task.message_type,
    )  # fmt: skip
    return received_message(content, metadata)


def copy_records(content: RecordDict) -> RecordDict:
    """New records with equal content. Array bytes are immutable and therefore shared."""
    copy = RecordDict()
    for name, record in content.items():
        if isinstance(record, ArrayRecord):
            arrays = {key: Array(a.dtype, tuple(a.shape), a.stype, a.data) for key, a in record.items()}
            copy[name] = ArrayRecord(arrays)
        else:
            copy[name] = deepcopy(record)
    return copy
