"""Keeps a deployed site running: its SuperNode, and the worker process that trains.

    python -m clients.supernode.supervisor KIT --site FOLDER

Invariants: everything is decided by the kit's folder and the site's own data, nothing by the coordinator. A worker that
dies is started again. SIGTERM ends all processes of the site.
"""

from __future__ import annotations

import argparse
import logging
import signal
import time
from pathlib import Path
from types import FrameType

from clients.supernode.checks import require_fit
from clients.supernode.heartbeat import FILE as ALIVE
from clients.supernode.heartbeat import is_hung
from clients.supernode.kit import Kit
from common.errors import HansaError, RunError
from common.files import read_json
from common.provision import kit_files
from common.provision.door import Refusal
from common.runtime import logs
from common.runtime.locks import only_one
from common.runtime.processes import Child, free_port, stop

_LOOK_S = 0.5
_SHORT_S, _MOST_SHORT, _LONGEST_PAUSE_S = 20.0, 8, 15.0
_LEASE_S = 60.0  # longer than the coordinator reserves the place of a silent process
_log = logging.getLogger("hansa.site")


class SiteProcesses:
    """The processes of one site."""

    def __init__(self, kit: Kit, site: Path) -> None:
        self._kit, self._site, self._port = kit, site, free_port()
        self._refusal = kit.private / "refusal.json"
        self._secret, self._began = kit.secret(), time.monotonic()
        self._node_from, self._node_ends = time.monotonic(), 0
        self._node = self._start_node()
        self._worker = self._start_worker()

    def look(self) -> None:
        """Restart processes that have died; a SuperNode ends whenever the coordinator was restarted.

        Raises
        ------
        Refusal : the coordinator refuses the site.
        RunError : the SuperNode ends at once, again and again, so something is wrong with the machine.
        """
        if not self._node.runs() and time.monotonic() > self._node_from:
            self._node_ends = self._node_ends + 1 if time.monotonic() - self._node_from < _SHORT_S else 0
            if not self._node_ends:
                self._began = (
                    time.monotonic()
                )  # the coordinator may still reserve this site's place for a while
            self._require_welcome()
            if self._node_ends >= _MOST_SHORT:
                raise RunError(
                    "the site's SuperNode ends whenever it is started", where=self._kit.name, why=self._node.tail(),
                    next_step="its log names the cause; mend it and start the site again",
                )  # fmt: skip
            _log.warning("the SuperNode has ended and is started again")
            self._node = self._start_node()
            self._node_from = time.monotonic() + min(_LONGEST_PAUSE_S, self._node_ends**2)
        alive = self._kit.private / ALIVE
        if self._worker.runs() and is_hung(alive, since=self._worker_from):
            _log.warning("the worker shows no life and is ended")
            stop([self._worker], polite_s=0.0)
        if not self._worker.runs():
            code = self._worker.process.returncode
            if code == HansaError.exit_code:
                raise RunError(
                    "the site's worker refuses to run", where=self._kit.name, why=self._worker.tail()
                )
            _log.warning("the worker ended with %s and is started again", code)
            stop([self._node])  # it might wait for ever for the rest of a message from the worker
            self._worker = self._start_worker()

    def _require_welcome(self) -> None:
        """Stop if the coordinator has refused the site, unless a restart can help.

        The place of an earlier process may become free in a moment; and a contract that was accepted while the site was
        running is used from now on.
        """
        if self._refusal.exists():
            refusal = read_json(self._refusal)
            if refusal["code"] == "old_contract" and self._kit.contract().edition > self._edition:
                _log.info("the contract that was accepted meanwhile is taken")
                stop([self._worker])
                self._worker = self._start_worker()
            elif refusal["code"] != "duplicate" or time.monotonic() - self._began > _LEASE_S:
                raise Refusal(str(refusal["code"]), str(refusal["detail"]))

    def stop(self) -> list[str]:
        """End all processes; returns the names of those that had to be forced."""
        return stop([self._worker, self._node])

    def _start_node(self) -> Child:
        kit = self._kit.folder
        self._kit.out.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._refusal.unlink(missing_ok=True)
        self._edition = self._kit.contract().edition
        arguments = [
            "-m", "clients.supernode.node", "--kit", str(kit), "--refusal", str(self._refusal),
            "--root-certificates", str(kit / kit_files.AUTHORITY), "--superlink", self._kit.coordinator,
            "--auth-supernode-private-key", str(self._kit.private / kit_files.NODE_KEY), "--port", str(self._port),
            "--isolation", "process", "--superexec-auth-secret-file", str(self._secret), "--node-config",
            self._kit.node_config(self._site),
        ]  # fmt: skip
        home = {"FLWR_HOME": str(kit / "private" / "flower")}
        return Child.start("SuperNode", arguments, self._kit.logs / "node.log", home)

    def _start_worker(self) -> Child:
        arguments = [
            "-m", "clients.supernode.worker", "--node", f"127.0.0.1:{self._port}", "--secret", str(self._secret),
            "--kit", str(self._kit.folder),
        ]  # fmt: skip
        home = {"FLWR_HOME": str(self._kit.folder / "private" / "flower")}
        self._worker_from = time.time()
        return Child.start("worker", arguments, self._kit.logs / "worker.log", home)


def run(folder: Path, site: Path) -> None:
    """Keep a site running until SIGTERM or SIGINT.

    Raises
    ------
    HansaError : the kit can't be used, or the site can't go on.
    """
    kit = Kit.read(folder)
    lock = only_one(kit.lock, f"site '{kit.name}'")
    require_fit(kit)
    signals: list[int] = []

    def note_signal(sign: int, frame: FrameType | None) -> None:
        signals.append(sign)

    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, note_signal)
    processes = SiteProcesses(kit, site)
    _log.info("the site is up, and works for %s", kit.coordinator)
    try:
        while not signals:
            processes.look()
            time.sleep(_LOOK_S)
    finally:
        forced = processes.stop()
        lock.close()
        _log.info("the site has ended%s", f"; made to: {', '.join(forced)}" if forced else "")


def main() -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Keep one site of a league up.")
    parser.add_argument("kit", type=Path)
    parser.add_argument("--site", type=Path, required=True, help="the site's own folder")
    arguments = parser.parse_args()
    logs.configure(arguments.kit.name)
    try:
        run(arguments.kit, arguments.site)
    except HansaError as fault:
        _log.error("%s", fault.sentence())
        return fault.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
