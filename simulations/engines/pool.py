"""A grid that runs sites on a pool of worker processes, one per processor core.

Invariant: the results have the same bytes as those of the in-process grid, since both run the same client app on the
same messages. Each site is assigned to one worker, so that its caches stay warm; sites are assigned by size, largest
first, and a worker with nothing left takes over a site that hasn't been opened yet. If a worker dies, the message that
it was processing gets an error reply, and the worker is started again. Only a bounded number of replies is in memory:
beyond it the workers pause until the coordinator has pulled some.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence, Set
from multiprocessing.connection import wait
from types import TracebackType
from typing import Any, Self

from flwr.app import Error, Message, RecordDict, UserConfig

from common.errors import WireError
from common.protocol.wire import HELLO, VECTOR
from simulations.engines.base import SimulatedGrid, Task, delivered
from simulations.engines.forkserver import fork_server
from simulations.engines.frames import pack_frame, unpack_frame

_PATIENCE_S = 0.05
_REPLIES_A_WORKER = 8
_SMALL_FRAME_BYTES = 16_384  # surely fits the socket's buffer, so sending it to a busy worker can't block
_CRASHED = 8  # Flower's own code for a client app whose process ended


class PoolGrid(SimulatedGrid):
    """Runs the client app in worker processes; use it as a context manager.

    Parameters
    ----------
    workers : number of processes.
    sizes : work of each site in any unit, in site order; equal where not given.
    """

    def __init__(
        self, sites: int, run_config: UserConfig, *, workers: int, sizes: Sequence[float] | None = None
    ) -> None:
        super().__init__(sites, run_config)
        self._home = share_out(sizes or [1.0] * sites, workers)
        self._setup = {"sites": sites, "run_config": dict(run_config)}
        self._workers = [_Worker(self._setup) for _ in range(workers)]
        self._opened: set[int] = set()
        self._done: dict[str, tuple[Task, Message]] = {}
        self._room = _REPLIES_A_WORKER * workers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.stop()

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Those of the requested replies that have arrived, after a short wait if there are none."""
        ids = list(message_ids)
        self._pump(0.0)
        if not any(id_ in self._done for id_ in ids):
            self._pump(_PATIENCE_S)
        return [self._done.pop(id_)[1] for id_ in ids if id_ in self._done]

    def _queue(self, task: Task, content: RecordDict) -> None:
        self._workers[self._home[task.place]].waiting.append((task, content))

    def _pump(self, patience_s: float) -> None:
        """Give idle workers their next message and take the replies that have arrived."""
        self._done = {id_: entry for id_, entry in self._done.items() if not entry[0].expired}
        self._give()
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in wait(list(pipes), patience_s):
            worker = pipes[pipe]  # type: ignore[index]
            try:
                self._take(worker)
            except (EOFError, OSError, WireError):
                self._bury(worker)
        self._give()

    def _give(self) -> None:
        for worker in self._workers:
            if worker.ready and not worker.given and not worker.waiting:
                self._relieve(worker)
            running = sum(len(each_worker.given) for each_worker in self._workers)
            if worker.ready and len(self._done) + running < self._room:
                try:
                    worker.give(self._opened)
                except OSError:
                    self._bury(worker)
            self._opened.update(task.place for task, _ in worker.given if task.message_type != HELLO)

    def _relieve(self, idle: _Worker) -> None:
        """Move a site that no worker has opened yet to an idle worker, since the assignment by size is only a guess."""
        busiest = max(self._workers, key=lambda worker: len(worker.waiting))
        places = [task.place for task, _ in busiest.waiting if task.place not in self._opened]
        if places:
            place = places[-1]
            self._home[place] = self._workers.index(idle)
            idle.waiting.extend(entry for entry in busiest.waiting if entry[0].place == place)
            busiest.waiting = deque(entry for entry in busiest.waiting if entry[0].place != place)

    def _take(self, worker: _Worker) -> None:
        facts, content = unpack_frame(worker.pipe.recv_bytes())
        if "ready" in facts:
            worker.ready, worker.pid = True, facts["pid"]
            return
        if not worker.given or facts.get("id") != worker.given[0][0].id:
            raise WireError("a worker answered a message it wasn't given", where="pool")
        task, _ = worker.given.popleft()
        question = delivered(task, RecordDict())
        if content is not None:
            self._done[task.id] = task, Message(content, reply_to=question)
        else:
            self._done[task.id] = task, Message(Error(facts["code"], facts["reason"]), reply_to=question)

    def _bury(self, worker: _Worker) -> None:
        """Answer the message of a worker that died with an error, and start another worker."""
        lost = worker.given or (worker.waiting if not worker.ready else None)
        # One that died before it could work at all fails a message too, so a broken machine can't loop forever.
        if lost:
            task, _ = lost.popleft()
            error = Error(_CRASHED, "the site's process ended before it could answer")
            self._done[task.id] = task, Message(error, reply_to=delivered(task, RecordDict()))
        worker.stop()
        fresh = _Worker(self._setup)
        fresh.waiting = deque([*worker.given, *worker.waiting])
        self._workers[self._workers.index(worker)] = fresh


class _Worker:
    """The pool's end of one worker process."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.pipe = fork_server().fork("site", setup)
        self.ready, self.pid = False, 0
        self.given: deque[tuple[Task, RecordDict]] = deque()
        self.waiting: deque[tuple[Task, RecordDict]] = deque()
        self._lent: bytes | None = None

    def give(self, opened: Set[int]) -> None:
        """Send the next message for which somebody still waits; a small one even while the worker is busy.

        So the worker isn't idle while the coordinator processes its last reply. A site that hasn't been opened yet
        waits, since another worker may become idle earlier.
        """
        while self.waiting and self.waiting[0][0].expired:
            self.waiting.popleft()
        if not self.waiting or len(self.given) > 1:
            return
        task, content = self.waiting[0]
        if self.given and task.place not in opened and task.message_type != HELLO:
            return
        data = content.array_records[VECTOR][VECTOR].data if VECTOR in content else b""
        # The same bytes object went to this worker with an earlier message of the round, and it still has them.
        lent = frozenset([VECTOR]) if data and data is self._lent else frozenset[str]()
        frame = pack_frame(task.facts(), content, lent=lent) if lent or not self.given else b""
        if self.given and not 0 < len(frame) <= _SMALL_FRAME_BYTES:
            return
        self.given.append(self.waiting.popleft())
        self._lent = data or self._lent
        self.pipe.send_bytes(frame)

    def stop(self) -> None:
        """End the process by closing its pipe; no state is lost."""
        self.pipe.close()


def share_out(sizes: Sequence[float], workers: int) -> list[int]:
    """The worker of each site: sites are assigned largest first, each to the worker with the least so far.

    >>> share_out([5, 1, 4, 2], workers=2)
    [0, 0, 1, 1]
    """
    loads = [0.0] * workers
    home = [0] * len(sizes)
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        worker = loads.index(min(loads))
        home[place] = worker
        loads[worker] += sizes[place]
    return home
