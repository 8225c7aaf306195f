"""Keep a coordinator up, and its run going: carry out orders, start again what has died.

    python -m server.superlink.supervisor KIT

Invariants: a run that was under way when anything was killed, this process too, goes on by itself at its round; one
that ended with an error of the league's own isn't tried again; SIGTERM ends all processes and loses no round that lies
on the disk.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import time
from dataclasses import replace
from pathlib import Path
from types import FrameType

from common.errors import HansaError, RunError
from common.files import read_json, write_json
from common.runtime import logs
from common.runtime.locks import only_one
from common.storage.run_folder import RunFolder
from server.run.stopping import ask_to_stop, is_asked_to_stop, take_back
from server.superlink.front import FRONTS, Front
from server.superlink.orders import ADDRESS, LOCK, OrderStatus, Post, RunOrder, State
from server.superlink.processes import Coordinator, CoordinatorKit

_LOOK_S = 0.25
_MOST_TRIES = 20
_MOST_FRUITLESS = 3
_PATIENCE = 5
_log = logging.getLogger("hansa.coordinator")


class Keeper:
    """One coordinator and the run that it was last ordered to do.

    Parameters
    ----------
    port : where the SuperLink listens on this machine; 0 finds a free one.
    front : what stands between it and the sites.
    """

    def __init__(self, folder: Path, port: int = 0, front: Front = "guard") -> None:
        self._post = Post(folder.resolve())
        self._hold = only_one(self._post.private / LOCK, "a coordinator of this kit")
        (self._post.private / ADDRESS).unlink(missing_ok=True)
        self._up = Coordinator(CoordinatorKit(folder.resolve()), port, front)
        self._running: RunOrder | None = None
        self._fruitless, self._progress = 0, -1
        write_json(self._post.private / ADDRESS, {"pid": os.getpid(), "superlink": self._up.superlink})

    def look(self) -> None:
        """One turn: see what died, what is wanted, and how the run goes."""
        order = self._post.order()
        if not self._up.link_runs():
            _log.warning("the SuperLink has ended and is started again")
            self._up.restart()
            if self._running:
                self._again(self._running)
        self._up.follow_kit()
        if self._running and not self._up.app_runs():
            self._ended(self._running)
        if order is None:
            return
        if order.wanted and self._running is None and not self._is_done(order):
            self._start(order)
        elif not order.wanted and self._running is not None:
            self._stop(order)

    def stop(self) -> list[str]:
        """End all processes; names those that had to be made to."""
        (self._post.private / ADDRESS).unlink(missing_ok=True)
        forced = self._up.stop()
        self._hold.close()
        return forced

    def _is_done(self, order: RunOrder) -> bool:
        outcome = self._post.outcome()
        return outcome is not None and outcome.number == order.number and outcome.state != "running"

    def _start(self, order: RunOrder) -> None:
        folder = RunFolder(Path(order.run))
        take_back(folder)
        (folder.state / "failure.json").unlink(missing_ok=True)
        outcome = self._post.outcome()
        tries = outcome.tries + 1 if outcome and outcome.number == order.number else 1
        self._post.tell(OrderStatus(order.number, "running", tries))
        self._running = None  # should the SuperLink die at this moment, the next turn tries anew
        self._up.start_run(folder)
        self._running = order
        _log.info("the run has been started, for the %d. time", tries)

    def _again(self, order: RunOrder) -> None:
        """Start a run that was cut off, unless that leads nowhere."""
        outcome = self._post.outcome() or OrderStatus(order.number, "running")
        progress = self._marks(order)
        self._fruitless = self._fruitless + 1 if progress == self._progress else 0
        self._progress = progress
        if self._fruitless >= _MOST_FRUITLESS or outcome.tries >= _MOST_TRIES:
            fault = RunError(
                f"the coordinator's app ended {outcome.tries} times without an error of its own",
                where=Path(order.run).name, why=self._up.app_tail(),
                next_step="its log names the cause; mend it, then resume the run",
            )  # fmt: skip
            self._finish(order, replace(outcome, state="failed", fault=fault.as_dict()))
            return
        self._start(order)

    def _ended(self, order: RunOrder) -> None:
        folder = RunFolder(Path(order.run))
        outcome = self._post.outcome() or OrderStatus(order.number, "running")
        failure = folder.state / "failure.json"
        if failure.exists():
            state: State = "stopped" if is_asked_to_stop(folder) else "failed"
            self._finish(order, replace(outcome, state=state, fault=read_json(failure)))
        elif self._up.app_code() == 0 and folder.model.exists():
            self._finish(order, replace(outcome, state="released"))
        else:
            _log.warning("the run's process ended with %s", self._up.app_code())
            self._up.forget_run()
            self._again(order)

    def _stop(self, order: RunOrder) -> None:
        folder = RunFolder(Path(order.run))
        if not is_asked_to_stop(folder):
            ask_to_stop(folder)
        if order.now and self._running is not None:
            self._up.forget_run()
            self._up.end_app()
            outcome = self._post.outcome() or OrderStatus(order.number, "running")
            fault = RunError("the run was stopped at once, as asked", next_step="resume the run")
            self._finish(self._running, replace(outcome, state="stopped", fault=fault.as_dict()))

    def _finish(self, order: RunOrder, outcome: OrderStatus) -> None:
        self._running = None
        self._post.tell(outcome)
        _log.info("the run is %s", outcome.state)

    def _marks(self, order: RunOrder) -> int:
        """How far the run has come, by what lies on the disk."""
        state = RunFolder(Path(order.run)).state
        lines = sum(path.read_bytes().count(b"\n") for path in state.glob("*.jsonl"))
        rounds = [int(path.stem.rpartition("-")[2]) for path in state.glob("round-*.json")]
        sums = len(list(state.glob("sum-*.json")))
        return lines + max(rounds, default=-1) + sums


def keep_up(folder: Path, port: int = 0, front: Front = "guard") -> None:
    """Keep a coordinator up until SIGTERM or SIGINT.

    Raises
    ------
    HansaError : the kit can't be used, or a coordinator of it runs already.
    """
    asked: list[int] = []

    def note_signal(sign: int, frame: FrameType | None) -> None:
        asked.append(sign)

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, note_signal)
    keeper = Keeper(folder, port, front)
    _log.info("the coordinator is up")
    try:
        patience = _PATIENCE
        while not asked:
            patience = _PATIENCE if _went_well(keeper) else patience - 1
            if not patience:
                keeper.look()  # once more, and then its error is ours
            time.sleep(_LOOK_S if patience == _PATIENCE else 1.0)
    finally:
        forced = keeper.stop()
        _log.info("the coordinator has ended%s", f"; made to: {', '.join(forced)}" if forced else "")


def _went_well(keeper: Keeper) -> bool:
    try:
        keeper.look()
    except HansaError as fault:
        _log.warning("%s", fault.sentence())
        return False
    return True


def main() -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Keep the coordinator of a league up.")
    parser.add_argument("kit", type=Path)
    parser.add_argument("--port", type=int, default=0, help="where the SuperLink listens on this machine")
    parser.add_argument(
        "--front", choices=FRONTS, default="guard", help="what stands between it and the sites"
    )
    given = parser.parse_args()
    logs.configure("coordinator")
    try:
        keep_up(given.kit, given.port, FRONTS[given.front])
    except HansaError as fault:
        _log.error("%s", fault.sentence())
        return fault.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
