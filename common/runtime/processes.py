"""The processes of one party: started with a log of their own, watched, and reliably stopped.

Invariants: no secret is in arguments or environment. A process is ended by its id: first asked (SIGTERM), then forced
(SIGKILL). The process that started it waits for it; if that one is killed, the kernel ends its children, so none is
left behind.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import MachineError
from common.files import PROJECT

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""For processes that share the machine's cores with others; read when a library makes its pool of threads."""
# Flower shall not send telemetry, look for updates or install packages.
OFFLINE = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "OMP_NUM_THREADS": "1",
}
_POLITE_S = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Child:
    """One running process of this party."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls, name: str, arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> Child:
        """Run a program of this Python environment; its output goes to the end of `log`.

        Parameters
        ----------
        arguments : ``-m`` and a module, or the name of a program of this Python environment; then its arguments.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        beside = Path(sys.executable).parent
        first = [sys.executable] if arguments[0] == "-m" else [str(beside / arguments[0])]
        command = first + list(arguments if arguments[0] == "-m" else arguments[1:])
        settings = {**os.environ, **OFFLINE, **(environment or {})}
        settings["PATH"] = os.pathsep.join([str(beside), settings.get("PATH", "")])
        # In whatever folder the party was started, its processes shall run the same installed Hansa.
        settings["PYTHONPATH"] = str(PROJECT)
        with log.open("ab") as sink:
            process = subprocess.Popen(  # noqa: S603 — fixed programs of this environment, no shell
                command, env=settings, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True,
                preexec_fn=_end_with(os.getpid()),
            )  # fmt: skip
        return cls(name, process, log)

    def runs(self) -> bool:
        """Whether the process still runs."""
        return self.process.poll() is None

    def tail(self, characters: int = 600) -> str:
        """The last characters of its log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-characters:]

    def await_port(self, port: int, *, host: str = "127.0.0.1", seconds: float = 60.0) -> None:
        """Wait until it listens on a port of this machine.

        Raises
        ------
        MachineError : it ended, or took too long.
        """
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and self.runs():
            with socket.socket() as probe:
                if probe.connect_ex((host, port)) == 0:
                    return
            time.sleep(0.1)
        raise MachineError(
            f"the {self.name} didn't start", where=f"port {port}", why=self.tail(),
            next_step=f"its log is {self.log}",
        )  # fmt: skip


def stop(children: Sequence[Child], *, polite_s: float = _POLITE_S) -> list[str]:
    """End processes together: ask them, wait, then force them; returns the names of those that were forced."""
    for child in children:
        _signal(child, signal.SIGTERM)
    ends = time.monotonic() + polite_s
    for child in children:
        try:
            child.process.wait(timeout=max(0.0, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            continue
    forced = [child for child in children if child.runs()]
    for child in children:
        _signal(child, signal.SIGKILL)  # its group too: what it started itself ends with it
        child.process.wait()
    return [child.name for child in forced]


def free_port() -> int:
    """A port of this machine on which nobody listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with(parent: int) -> Callable[[], None]:
    """The first act of a new process: have the kernel end it as soon as its parent is gone."""

    def ask() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it was gone before we asked
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


def _signal(child: Child, sign: signal.Signals) -> None:
    try:
        if sign is signal.SIGTERM:
            child.process.send_signal(sign)
        else:
            os.killpg(child.process.pid, sign)
    except ProcessLookupError:
        return
