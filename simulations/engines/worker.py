"""One worker process of the pool: it answers frames until the pool closes the pipe.

Invariant: it works on one message at a time, in one thread, through the same client app as every other
engine; it holds no state that a restart could lose, apart from caches.
"""

from __future__ import annotations

import os
from multiprocessing.connection import Connection
from typing import Any

from flwr.app import Context

from clients.app import app
from common.flower.simulation import become
from common.protocol.wire import VECTOR
from simulations.engines.base import Task, delivered, node_context
from simulations.engines.frames import pack_frame, unpack_frame


def serve(pipe: Connection, setup: dict[str, Any]) -> None:
    """Serve the pool at the other end of a pipe.

    Parameters
    ----------
    setup : ``sites``, the number of the league's sites, and Flower's ``run_config``.
    """
    contexts: dict[int, Context] = {}
    lent = b""
    pipe.send_bytes(pack_frame({"ready": True, "pid": os.getpid()}, None))
    while True:
        try:
            facts, content = unpack_frame(pipe.recv_bytes(), lent=lent)
        except (EOFError, ConnectionError):
            return
        if content is None:
            continue
        if VECTOR in content:
            lent = content.array_records[VECTOR][VECTOR].data
        task = Task.from_facts(facts)
        if task.place not in contexts:
            contexts[task.place] = node_context(task.place, setup["sites"], setup["run_config"])
        become(task.node)
        reply = app(delivered(task, content), contexts[task.place])
        if reply.has_content():
            pipe.send_bytes(pack_frame({"id": task.id}, reply.content))
        else:
            error = {"id": task.id, "code": reply.error.code, "reason": reply.error.reason}
            pipe.send_bytes(pack_frame(error, None))
