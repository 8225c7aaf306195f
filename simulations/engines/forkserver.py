"""The processes of a run, forked from one that has imported the heavy libraries, so that each starts at once.

`ForkServer.fork` asks for a process that does one of `JOBS`; such a process can ask the same server too.
Invariants: a forked process lives as long as the pipe to the process that asked for it, so a killed run leaves none
behind. At the fork the server has a single thread and has drawn no random numbers, so no two processes share a lock or
a random stream.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from types import MappingProxyType
from typing import Any, Literal

from common.errors import HansaError, MachineError
from common.files import PROJECT
from common.runtime.processes import ONE_THREAD

Job = Literal["site", "yardsticks", "merchants"]
Jobs = Mapping[str, tuple[str, str]]
"""Name of a job → module and function that do it."""
JOBS: Jobs = MappingProxyType({
    "site": ("simulations.engines.worker", "serve"),
    "yardsticks": ("simulations.yardsticks.alongside", "train"),
    "merchants": ("simulations.bazaar.second", "draw"),
})  # fmt: skip
_LIGHT = "merchants"  # needs none of what follows
# Not polars nor scikit-learn: they start threads when they are imported, and a fork would lose those.
_HEAVY = ("torch", "torch._dynamo", "opacus", "flwr.app", "flwr.clientapp", "flwr.serverapp", "tenseal")
_LONGEST_REQUEST = 1 << 20


class ForkServer:
    """The way to a server that forks: its door, and its process where this one has started it."""

    def __init__(self) -> None:
        self._door: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def warm(self) -> None:
        """Start the server, so that it imports while this process does something else; nothing if it runs already."""
        if self._door is None:
            self._start().sendall(json.dumps({"job": ""}).encode())

    def fork(self, job: Job, facts: dict[str, Any]) -> Connection:
        """Start a process for a job, with these facts and this process's environment; it ends when the pipe is closed.

        Raises
        ------
        MachineError : no process can be started here.
        """
        ours, theirs = socket.socketpair()
        request = json.dumps({"job": job, "facts": facts, "environment": dict(os.environ)}).encode()
        with theirs:
            for _ in range(2):
                door = self._door or self._start()
                try:
                    socket.send_fds(door, [request], [theirs.fileno(), door.fileno(), _errors()])
                    return Connection(ours.detach())
                except ConnectionError:  # it was killed: once more, with another
                    self.stop()
                except OSError as fault:
                    raise MachineError("a process can't be started", where=job, why=str(fault)) from None
        ours.close()
        raise MachineError(
            "the process that starts others ends at once", where=job, why="its own words stand above",
            next_step="run the set-up again ('make setup'), and look whether memory is left",
        )  # fmt: skip

    def use(self, door: socket.socket) -> None:
        """Ask a server that another process has started."""
        self._door = door

    def stop(self) -> None:
        """Close the door, and end the server where this process has started it; the next request starts another."""
        if self._door is not None:
            self._door.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._door = self._process = None

    def _start(self) -> socket.socket:
        door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        paths = [str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._door = door
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 — our own module, no shell
                [sys.executable, "-m", "simulations.engines.forkserver", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=_errors(),
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)},
            )  # fmt: skip
        return door


@functools.cache
def fork_server() -> ForkServer:
    """The server of this process; it ends with the process."""
    server = ForkServer()
    atexit.register(server.stop)
    return server


def _errors() -> int:
    return sys.stderr.fileno()


def main(descriptor: int, jobs: Jobs = JOBS) -> None:
    """Fork a process for each request, until no process is left that could ask."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asked for a process decides what an interrupt means
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel buries them
    with socket.socket(fileno=descriptor) as door:
        while True:
            data, descriptors, _, _ = socket.recv_fds(door, _LONGEST_REQUEST, 3)
            if not data:
                return
            request = json.loads(data)
            if request["job"] != _LIGHT:
                _prepare()
            if descriptors and os.fork() == 0:
                door.close()
                os._exit(_work(jobs, request, *descriptors))
            for open_descriptor in descriptors:
                os.close(open_descriptor)


@functools.cache
def _prepare() -> None:
    """Do once what every process that trains would do for itself."""
    for name in _HEAVY:
        importlib.import_module(name)
    from clients.encoders.frozen import public_directions

    with contextlib.suppress(HansaError):  # each site will meet it too, and tell
        public_directions()


def _work(jobs: Jobs, request: dict[str, Any], pipe: int, door: int, errors: int) -> int:
    """A forked process, from its first moment to its exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for standard in (1, 2):
        os.dup2(errors, standard)
    os.close(errors)
    os.environ.clear()
    os.environ.update({**request["environment"], **ONE_THREAD})
    fork_server().use(socket.socket(fileno=door))
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    module, name = jobs[request["job"]]
    try:
        job: Callable[[Connection, dict[str, Any]], None] = getattr(importlib.import_module(module), name)
        job(Connection(pipe), request["facts"])
    except BaseException:  # noqa: BLE001 — the edge of a process
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


def _end_with(pipe: int) -> None:
    """End this process as soon as the other end of the pipe is closed, since nobody waits for its result any more."""
    closed = select.poll()
    closed.register(pipe, select.POLLRDHUP)
    closed.poll()
    os._exit(1)


if __name__ == "__main__":
    # By its own name, so that forked processes ask the server that they look for there.
    from simulations.engines import forkserver

    forkserver.main(int(sys.argv[1]))
