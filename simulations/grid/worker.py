"""One worker process of the pool: `python -m simulations.grid.worker FD` answers frames until its pool goes
away.

Invariant: it works on one message at a time, in one thread, through the same client app as every other
engine; it holds no state that a restart could lose, apart from caches. It ends itself when its pool is
gone, so a killed run leaves no process behind that might write into the resumed one's folder.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from flwr.app import Context

from common.wire import VECTOR
from simulations.grid.base import Task, delivered, node_context
from simulations.grid.flower import become
from simulations.grid.frames import pack_frame, unpack_frame

_LOOK_S = 0.2


def main(descriptor: int, parent: int) -> None:
    """Serve the pool at the other end of a socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the pool decides what an interrupt means
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    pipe = Connection(descriptor)
    setup, _ = unpack_frame(pipe.recv_bytes())
    from clients.app import app

    contexts: dict[int, Context] = {}
    lent = b""
    pipe.send_bytes(pack_frame({"ready": True}, None))
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


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
