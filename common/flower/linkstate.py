"""What a SuperLink keeps in memory, and how what nobody waits for leaves it.

Flower keeps a message that was never answered, and an answer that came too late, until their run ends: in a long run
with a site that is away, all that was meant for it.

Invariant: only messages whose time to live has run out are dropped, with their answers and objects, so nothing that the
coordinator's app could still ask for.
"""

from __future__ import annotations

from typing import Any

_GRACE_S = 60.0  # the app's last pull may be under way


def drop_expired(state: Any, now: float) -> int:
    """Drop what has run out from an in-memory state; returns how many messages."""
    with state.lock:
        expired = {
            name: state.message_ins_id_to_message_res_id.get(name)
            for name, message in state.message_ins_store.items()
            if message.metadata.created_at + message.metadata.ttl + _GRACE_S < now
        }
        state.delete_messages(set(expired))
    for asked, reply in expired.items():
        for name in (asked, reply):
            if name:
                state.object_store.delete(name)
    return len(expired)
