"""What a simulation tells Flower in place of its servers: who this process is, which run it is, what it received.

Flower's public `Grid` names the class `Run`, and its public `Message` reads the process's `TaskIdentity`, but neither
class is exported.
"""

from __future__ import annotations

from typing import cast

from flwr.app import Message, Metadata, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

__all__ = ["COORDINATOR", "RUN_ID", "Run", "become", "new_run", "received_message", "take_apart"]

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


def take_apart(message: Message) -> list[bytes]:
    """A message's parts in the form in which Flower's transport sends them."""
    get_object_tree(message)
    return [part.deflate() for part in get_all_nested_objects(message).values()]
