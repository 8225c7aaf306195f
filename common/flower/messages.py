"""What Flower's messages don't let one change from outside."""

from __future__ import annotations

from flwr.app import Message


def answer_as(reply: Message, message_id: str) -> Message:
    """The reply, as one to the message of that id: the first sending of a message that was sent again."""
    reply.metadata.__dict__["_reply_to_message_id"] = message_id
    return reply
