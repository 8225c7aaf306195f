"""The coordinator of a league across machines, up and running: Flower's SuperLink, a guard before it, and its app.

Invariants: the SuperLink listens on this machine alone and keeps its state in memory, so no model in flight comes to
lie on the disk; sites reach the guard and nothing else; the nodes of the contract's members, and no others, are let
in, anew at every start.
"""

from __future__ import annotations

import datetime as dt
import logging
import secrets
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from flwr.app import UserConfig

from common.errors import RunError
from common.provision import kit_files
from common.provision.authority import write_private
from common.provision.contract import FILE, SIGNATURE, Contract, read_signed
from common.runtime.processes import Child, free_port, stop
from common.storage.run_folder import RunFolder
from server.superlink.control import Control
from server.superlink.front import Front, start_front

_PAPERS = (kit_files.REVOKED, kit_files.SERVER_CERTIFICATE)
_log = logging.getLogger("hansa.coordinator")


@dataclass(frozen=True)
class CoordinatorKit:
    """The coordinator's kit: contract, `ca.crt`, `revoked.crl`, `server.crt` and `private/server.key`."""

    folder: Path

    def contract(self) -> Contract:
        """The league's contract.

        Raises
        ------
        RunError : it can't be read, isn't signed, has run out, or is of other code.
        """
        contract = read_signed(self.folder)
        contract.require_code()
        contract.require_valid(dt.datetime.now(dt.UTC))
        return contract

    @property
    def authority(self) -> Path:
        return self.folder / kit_files.AUTHORITY

    def secret(self) -> Path:
        """A fresh secret that the SuperLink and the process of the app share, made at every start."""
        path = self.folder / "private" / kit_files.WORKER_SECRET
        path.unlink(missing_ok=True)
        write_private(path, secrets.token_hex(32).encode())
        return path


class Coordinator:
    """The processes of the coordinator.

    Parameters
    ----------
    port : where the SuperLink listens on this machine; 0 finds a free one. (Sites reach the guard, at the kit's port.)
    front : what stands before it.
    """

    def __init__(self, kit: CoordinatorKit, port: int = 0, front: Front = "guard") -> None:
        self.kit, self.contract, self._how = kit, kit.contract(), front
        self._taken = self._stamp_of(FILE, SIGNATURE)
        self.superlink = f"127.0.0.1:{port or free_port()}"
        self._secret, self._logs = kit.secret(), kit.folder / "logs"
        self._home = {"FLWR_HOME": str(kit.folder / "private" / "flower")}
        self._run_id: int | None = None
        self._begin()

    def _begin(self) -> None:
        self._link = self._start_link()
        self._worker = self._start_worker()
        self._front: Child | None = None
        try:
            self._link.await_port(int(self.superlink.rpartition(":")[2]))
            self._nodes: dict[str, int] = {}
            self._admit(self.contract)
            self._start_front()
        except BaseException:
            self.stop()
            raise

    def start_run(self, folder: RunFolder) -> int:
        """Start or go on with the run in a folder; returns Flower's id of it."""
        folder.create(self.contract.config, [member.entry() for member in self.contract.members])
        self.contract.write(folder.root / FILE)  # the run's app holds sites' keys against it
        if not self._worker.runs():
            self._worker = self._start_worker()
        settings: UserConfig = {
            "run-dir": str(folder.root), "compare": False, "progress": "plain", "deployed": True,
            "receipts-dir": str(self.kit.folder / "private" / "receipts"),
        }  # fmt: skip
        with Control(self.superlink, self.kit.authority) as control:
            self._run_id = control.start(settings)
        return self._run_id

    def forget_run(self) -> None:
        """Let Flower drop the run that was started last, with all its messages; the run folder stays."""
        run_id, self._run_id = self._run_id, None
        if run_id is None:
            return
        try:
            with Control(self.superlink, self.kit.authority) as control:
                control.stop(run_id)
        except RunError:
            return  # it had ended

    def link_runs(self) -> bool:
        """Whether the SuperLink is there."""
        return self._link.runs()

    def follow_kit(self) -> None:
        """Do as the kit says when its files change: let members in and out, and start the guard anew.

        A contract without a good signature, as while its files are copied, changes nothing.
        """
        stamp = self._stamp_of(FILE, SIGNATURE)
        if stamp != self._taken:
            with suppress(RunError):
                contract = self.kit.contract()
                self._admit(contract)
                self.contract, self._taken = contract, stamp
                _log.info("the contract is edition %d now", contract.edition)
        if self._front is None or (self._front.runs() and self._papers == self._stamp_of(*_PAPERS)):
            return
        stop([self._front])
        self._start_front()

    def app_runs(self) -> bool:
        """Whether the process of the app is there, at work or waiting for a run."""
        return self._worker.runs()

    def app_code(self) -> int | None:
        """How the process of the app ended."""
        return self._worker.process.returncode

    def app_tail(self) -> str:
        """The end of its log."""
        return self._worker.tail()

    def end_app(self) -> None:
        """End the process of the app."""
        stop([self._worker])

    def restart(self) -> None:
        """Start all processes anew; sites find the coordinator where it was.

        Raises
        ------
        HansaError : they don't start.
        """
        self.stop()
        self._run_id = None
        self._begin()

    def stop(self) -> list[str]:
        """End all processes; names those that had to be made to."""
        return stop([each for each in (self._front, self._worker, self._link) if each is not None])

    def _admit(self, contract: Contract) -> None:
        """Let the nodes of the contract's members into the SuperLink, and no others."""
        keys = {member.name: member.node_key for member in contract.members}
        with Control(self.superlink, self.kit.authority) as control:
            for name in self._nodes.keys() - keys.keys():
                control.unregister(self._nodes.pop(name))
            for name in keys.keys() - self._nodes.keys():
                self._nodes[name] = control.register(name, keys[name])

    def _stamp_of(self, *names: str) -> tuple[tuple[int, int], ...]:
        stats = ((self.kit.folder / name).stat() for name in names)
        return tuple((file_stat.st_mtime_ns, file_stat.st_ino) for file_stat in stats)

    def _start_front(self) -> None:
        self._papers = self._stamp_of(*_PAPERS)
        self._front = start_front(self.kit.folder, self.superlink, self._how, self._logs)

    def _start_link(self) -> Child:
        host, _, port = self.superlink.rpartition(":")
        kit = self.kit.folder
        arguments = [
            *self._link_program(), "--ssl-ca-certfile", str(self.kit.authority),
            "--ssl-certfile", str(kit / kit_files.SERVER_CERTIFICATE),
            "--ssl-keyfile", str(kit / "private" / kit_files.SERVER_KEY),
            "--enable-supernode-auth", "--host", host, "--port", port, "--isolation", "process",
            "--superexec-auth-secret-file", str(self._secret), "--disable-runtime-dependency-installation",
        ]  # fmt: skip
        return Child.start("SuperLink", arguments, self._logs / "superlink.log", self._home)

    def _link_program(self) -> list[str]:
        return ["-m", "server.superlink.link", "--kit", str(self.kit.folder)]

    def _start_worker(self) -> Child:
        arguments = [
            "-m", "server.superlink.worker", "--superlink", self.superlink, "--secret", str(self._secret),
            "--authority", str(self.kit.authority),
        ]  # fmt: skip
        return Child.start("coordinator's app", arguments, self._logs / "coordinator.log", self._home)
