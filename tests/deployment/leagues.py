"""A league of real processes on this machine for the fault tests, and the simulation that it has to equal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from common.processes import Child
from common.run_folder import RunFolder, read_lines
from server.desk import run_of
from simulations.deployment.local import LocalLeague
from simulations.engine import run_league
from simulations.options import Setting
from tests.conftest import TINY_TRAINING

FAST: dict[str, Setting] = {
    **TINY_TRAINING, "rounds.colluding_sites": 0, "rounds.quorum": 0.6, "rounds.deadline_s": 90.0,
    "rounds.optimiser": "momentum",
}  # fmt: skip
"""Three sites may go on as two; training takes a blink, so most of a round is messages."""
GENEROUS_S = 420.0


def new_league(
    folder: Path, *, rounds: int, sites: int = 3, protection: str = "he+masked",
    settings: dict[str, Setting] | None = None,
) -> LocalLeague:  # fmt: skip
    """Kits and data of a league; nothing runs yet."""
    return LocalLeague.provision(
        folder,
        sites=sites,
        rounds=rounds,
        protection=protection,
        seed=4,
        settings={**FAST, **(settings or {})},
    )


def simulated(league: LocalLeague, folder: Path) -> bytes:
    """The model that the same sites give in one process, with the same settings."""
    run = RunFolder(folder)
    run.create(league.contract.config, league.sites)
    run_league(folder, "local", settings={"progress": "silent"})
    return (run.release / "model.safetensors").read_bytes()


def released(league: LocalLeague) -> bytes:
    """The model that the league released."""
    return (run_of(league.kit).release / "model.safetensors").read_bytes()


def rounds_done(league: LocalLeague) -> int:
    """Rounds that lie on the coordinator's disk."""
    return len(read_lines(league.run.rounds_file))


def wait_until(what: str, holds: Callable[[], object], *, seconds: float = GENEROUS_S) -> None:
    """Wait for something, and say what it was where it doesn't come."""
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends, f"waited {seconds:.0f} s for: {what}"
        time.sleep(0.05)


def below(child: Child) -> dict[str, int]:
    """Process ids of what a party's first process started, by a word of its command line."""
    words = {
        "server.worker": "app", "server.link": "link", "server.proxy": "proxy", "nginx": "proxy",
        "clients.node": "node", "clients.worker": "worker",
    }  # fmt: skip
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if parent == child.process.pid:
            found |= {name: int(entry.name) for word, name in words.items() if word in command}
    return found


def kill(pid: int, sign: signal.Signals = signal.SIGKILL) -> bool:
    """Send a signal to a process of ours; whether it was still there."""
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return False
    return True
