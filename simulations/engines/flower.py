"""The one file that touches parts of Flower that aren't public, pinned to Flower 1.41.

Flower's public `Grid` names the class `Run`, and its public `Message` reads the process's `TaskIdentity`,
but neither class is exported. Everything else in Hansa uses `flwr.app`, `flwr.serverapp` and
`flwr.clientapp` only.
"""

from __future__ import annotations

from typing import cast

from flwr.app import Message, Metadata, RecordDict
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["COORDINATOR", "RUN_ID", "Run", "become", "new_run", "received_message"]

RUN_ID = 1
COORDINATOR = 1


def become(node_id: int) -> None:
    """Let messages made in this process name their run and sender."""
    TaskIdentity.run_id = RUN_ID
    TaskIdentity.node_id = node_id
    TaskIdentity.task_id = node_id


def new_run() -> Run:
    """Facts of a run that no Flower server knows of."""
    return Run.create_empty(RUN_ID)


def received_message(content: RecordDict, metadata: Metadata) -> Message:
    """A message as the receiving node gets it, which only Flower's own transport may build otherwise."""
    return cast(Message, Message(content=content, metadata=metadata))  # type: ignore[call-overload]
