"""Messages that nobody waits for any more leave the SuperLink's memory, every half minute."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from common.flower.linkstate import drop_expired

_EVERY_S = 30.0
_log = logging.getLogger("hansa.sweep")


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
