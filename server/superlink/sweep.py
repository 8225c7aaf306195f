"""Messages that nobody waits for any more leave the SuperLink's memory.

Flower keeps a message that was never answered, and an answer that came too late, until their run ends: in a long run
with a site that is away, all that was meant for it. The names of Flower 1.41 that this touches aren't public, so they
are looked up here alone; a test fails when they go.

Invariant: only messages whose time to live has run out are dropped, with their answers and objects, so nothing that the
coordinator's app could still ask for.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

_EVERY_S = 30.0
_GRACE_S = 60.0  # the app's last pull may be under way
_log = logging.getLogger("hansa.sweep")


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


def keep_swept(state: Any) -> threading.Thread:
    """Sweep from now on, in a thread of its own."""

    def go_on() -> None:
        while True:
            time.sleep(_EVERY_S)
            dropped = drop_expired(state, time.time())
            if dropped:
                _log.info("%d messages that nobody waits for were dropped", dropped)

    thread = threading.Thread(target=go_on, daemon=True, name="sweep")
    thread.start()
    return thread
