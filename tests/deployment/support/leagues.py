"""A league of real processes on this machine for the fault tests, and the simulation that it has to equal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from common.files import PROJECT, read_lines
from common.runtime.processes import Child
from common.storage.run_folder import RunFolder
from simulations.deployment.local import Cast, LocalLeague
from simulations.engines.engine import run_league
from simulations.setup.options import Setting
from tests.conftest import TINY_TRAINING

FAST: dict[str, Setting] = {
    **TINY_TRAINING, "rounds.colluding_sites": 0, "rounds.quorum": 0.6, "rounds.deadline_s": 90.0,
    "rounds.optimiser": "momentum",
}  # fmt: skip
"""Three sites may go on as two; training takes a blink, so most of a round is messages."""
GENEROUS_S = 420.0
_MOST_BYTES = 64 << 20


def new_league(
    folder: Path, *, rounds: int, sites: int = 3, protection: str = "he+masked",
    settings: dict[str, Setting] | None = None,
) -> LocalLeague:  # fmt: skip
    """Kits and data of a league; nothing runs yet."""
    return LocalLeague.provision(folder, Cast(sites, rounds, protection, 4, {**FAST, **(settings or {})}))


def simulated(league: LocalLeague, folder: Path) -> bytes:
    """The model that the same sites give in one process, with the same settings."""
    run = RunFolder(folder)
    run.create(league.contract.config, league.sites)
    run_league(folder, "local", settings={"progress": "silent"})
    return (run.release / "model.safetensors").read_bytes()


def released(league: LocalLeague) -> bytes:
    """The model that the league released."""
    return (league.run.release / "model.safetensors").read_bytes()


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
        "server.superlink.worker": "app", "server.superlink.link": "link", "server.superlink.proxy": "proxy",
        "nginx": "proxy",
        "clients.supernode.node": "node", "clients.supernode.worker": "worker",
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


def little_room(folder: Path, size: str) -> list[str]:
    """The beginning of a command that runs another one with a small disk of its own at a folder."""
    mount = f'mount -t tmpfs -o size={size},mode=700 tmpfs {folder} && exec "$0" "$@"'
    return ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount]


def can_mount(tmp_path: Path) -> bool:
    """Whether this machine lets us."""
    folder = tmp_path / "probe"
    folder.mkdir()
    tried = subprocess.run([*little_room(folder, "64k"), "true"], capture_output=True, check=False)
    return tried.returncode == 0


def start_within(command: list[str], arguments: list[str], log: Path) -> Child:
    """Start one of Hansa's modules within another command, which becomes it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [*command, sys.executable, *arguments],
            stdout=sink,
            stderr=sink,
            env=environment,
            start_new_session=True,
        )
    return Child(arguments[1], process, log)


def is_small(folder: Path) -> bool:
    """Whether a folder lies on the small disk of `little_room`."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return False
    return found.f_blocks * found.f_frsize <= _MOST_BYTES


def fill(path: Path) -> None:
    """Write until there is no room on a small disk, and never on another one."""
    assert is_small(path.parent), "this isn't the small disk"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(_MOST_BYTES // 4096):
            file.write(bytes(4096))
