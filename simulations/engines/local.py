"""A grid that runs every site in this process, one after the other.

Invariant: a message is processed when its reply is pulled, in the order in which messages were pushed. So replies come
in site order, and at most one is in memory, however many sites there are.
"""

from __future__ import annotations

from collections.abc import Iterable

from flwr.app import Context, Message, RecordDict, UserConfig
from flwr.clientapp.typing import ClientAppCallable

from common.flower.simulation import COORDINATOR, become
from simulations.engines.base import SimulatedGrid, Task, copy_records, delivered, node_context


class LocalGrid(SimulatedGrid):
    """Runs a client app in this process.

    Parameters
    ----------
    client_app : the app to call for each message, such as `clients.app.app`.
    """

    def __init__(self, client_app: ClientAppCallable, sites: int, run_config: UserConfig) -> None:
        super().__init__(sites, run_config)
        self._app = client_app
        self._tasks: dict[str, tuple[Task, RecordDict]] = {}
        self._contexts: dict[int, Context] = {}

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Work on the first of the given messages that still waits, and return its reply."""
        for id_ in [id_ for id_, (task, _) in self._tasks.items() if task.expired]:
            del self._tasks[id_]
        ids = set(message_ids)
        first = next((id_ for id_ in self._tasks if id_ in ids), None)
        return [self._work(*self._tasks.pop(first))] if first is not None else []

    def _queue(self, task: Task, content: RecordDict) -> None:
        self._tasks[task.id] = task, content

    def _work(self, task: Task, content: RecordDict) -> Message:
        if task.place not in self._contexts:
            self._contexts[task.place] = node_context(task.place, self._sites, self._run_config)
        become(task.node)
        try:
            reply = self._app(delivered(task, copy_records(content)), self._contexts[task.place])
        finally:
            become(COORDINATOR)
        if reply.has_content():
            reply.content = copy_records(reply.content)
        return reply
