"""A site whose worker is killed (SIGKILL) in the midst of chosen phases; otherwise
`clients.supernode.supervisor` and `clients.supernode.worker`.

    python -m tests.deployment.support.killing up KIT --site FOLDER
    python -m tests.deployment.support.killing worker <arguments of clients.supernode.worker>

The kit's folder `kills/` holds a file `round-R.PHASE` for each kill that is wanted; it's gone once it was done. A kill
comes a random moment after the phase began, and at its end at the latest.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clients.supernode import supervisor, worker
from common.runtime.processes import Child

PHASES = {"training": 0.3, "encrypting": 0.03, "uploading": 0.02}
"""Seconds that each takes at most, about."""


class Killer:
    """Kills this process in phases, as the folder's files ask for."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._round = folder, 0

    def within(
        self, phase: str, function: Callable[..., Any], round_of: Callable[..., int | None]
    ) -> Callable[..., Any]:
        """The function, killed in its midst where that is wanted."""

        def killed(*given: Any, **named: Any) -> Any:
            round_ = round_of(*given, **named)
            path = self._folder / f"round-{round_}.{phase}"
            if not path.exists():
                return function(*given, **named)
            path.rename(path.with_suffix(f".{phase}-done"))
            threading.Timer(random.uniform(0, PHASES[phase]), _die).start()
            function(*given, **named)
            return _die()

        return killed


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _worker() -> None:
    arguments = sys.argv
    killer = Killer(Path(arguments[arguments.index("--kit") + 1]) / "kills")
    from clients import trainer
    from clients.secagg.site import SecaggSite
    from common.flower import clientapp

    trainer.Site.train = killer.within("training", trainer.Site.train, lambda _, vector, round_: round_)  # type: ignore[method-assign]
    SecaggSite._sent = killer.within(  # type: ignore[method-assign]
        "encrypting", SecaggSite._sent, lambda _, attempt, parcel, **named: attempt.round
    )
    clientapp.push_message = killer.within(  # type: ignore[attr-defined]
        "uploading",
        clientapp.push_message,  # type: ignore[attr-defined]
        lambda client, reply, context: _round_of(reply),
    )
    worker.main()


def _round_of(reply: Any) -> int | None:
    facts = reply.metadata
    return int(facts.group_id) if facts.message_type == "train" else None


class KilledProcesses(supervisor.SiteProcesses):
    """A site's processes with the worker above."""

    def _start_worker(self) -> Child:
        real = Child.start

        def other(name: str, arguments: list[str], *more: Any) -> Child:
            return real(name, ["-m", "tests.deployment.support.killing", "worker", *arguments[2:]], *more)

        Child.start = other  # type: ignore[assignment, method-assign]
        try:
            return super()._start_worker()
        finally:
            Child.start = real  # type: ignore[method-assign]


if __name__ == "__main__":
    which = sys.argv.pop(1)
    if which == "worker":
        _worker()
    else:
        supervisor.SiteProcesses = KilledProcesses  # type: ignore[misc]
        raise SystemExit(supervisor.main())
