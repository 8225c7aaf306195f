"""Run the league's apps on Flower's own simulation engine (Ray) through `flwr run`.

It's meant for simulations larger than one machine's process pool. All files of Flower are in one temporary folder: its
settings and logs, and those of a SuperLink that is started on a free port. The app is staged as a bundle of code only
(`common`, `clients`, `server`), so no data beside the code can be sent. With the address of a running Ray cluster, the
sites' work is done on its machines. They read the sites' data and the staged code by path, so run folder, data and
`TMPDIR` must be on a file system that all of them share.

Invariants: `flwr run` exits with 0 even for failed runs, so the run's status is read from `flwr ls --format json`.
Nothing is fetched from a network. No process that is started here outlives the call.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flwr.app import UserConfig

from common import errors
from common.errors import HansaError, MachineError, RunError
from common.files import PROJECT, read_json
from common.flower.project import HANSA, project_file
from common.runtime.processes import OFFLINE, free_port
from common.storage.run_folder import RunFolder

_OFFLINE = {**OFFLINE, "RAY_USAGE_STATS_ENABLED": "0"}
_CODE = ("common", "clients", "server")
_START_S = 60.0
_POLL_S = 0.5


def run_with_ray(
    folder: RunFolder, run_config: UserConfig, *, sites: int, workers: int, address: str = ""
) -> None:
    """Run or resume a league on Ray.

    Parameters
    ----------
    address : host:port of a Ray cluster that is up; empty starts one here.

    Raises
    ------
    MachineError : there is no cluster at the address.
    HansaError : the league's own error, or RunError if Flower only says that the run failed.
    """
    if address:
        require_cluster(address)
    with tempfile.TemporaryDirectory(prefix="hansa-flower-", ignore_cleanup_errors=True) as home:
        app = stage_app(Path(home) / "app", {**run_config, "progress": "plain"})
        status, log = flower_run(app, Path(home) / "flower", nodes=sites, workers=workers, address=address)
    if status != "finished:completed":
        raise _reason(folder, status, log)


def stage_app(app: Path, run_config: UserConfig) -> Path:
    """A Flower app folder with a copy of the league's code and its run configuration."""
    for room in _CODE:
        shutil.copytree(PROJECT / room, app / room, ignore=shutil.ignore_patterns("__pycache__"))
    (app / "pyproject.toml").write_text(project_file(HANSA, run_config), encoding="utf-8")
    return app


def require_cluster(address: str) -> None:
    """Check that a cluster listens at an address; Ray itself would wait for minutes.

    Raises
    ------
    MachineError : the address can't be read, or nothing listens there.
    """
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=10):
            return
    except (OSError, ValueError) as fault:
        raise MachineError(
            "there is no Ray cluster", where=f"--address {address}", why=str(fault),
            next_step="start one with 'ray start --head', and give the address that it names",
        ) from None  # fmt: skip


def flower_run(app: Path, home: Path, *, nodes: int, workers: int, address: str = "") -> tuple[str, str]:
    """Run a Flower app to its end on a SuperLink of our own; return its status and the end of Flower's log."""
    home.mkdir(parents=True)
    environment = {**os.environ, **_OFFLINE, "FLWR_HOME": str(home), "PYTHONPATH": ""}
    if address:
        environment["RAY_ADDRESS"] = address
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    port = free_port()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "league"\n\n[superlink.league]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    log = home / "superlink.log"
    with _superlink(port, environment, log):
        # A cluster knows its own cores; there each site's work takes one.
        share = 1 if address else max(1, (os.cpu_count() or 1) // workers)
        simulation = f"num-supernodes={nodes} client-resources-num-cpus={share} init-args-log-to-driver=true"
        if not address:
            simulation += f" init-args-num-cpus={share * workers}"
        started = _flwr(["run", str(app), "--federation-config", simulation, "--format", "json"], environment)
        run_id = str(json.loads(started)["run-id"])
        status = _await_end(run_id, environment)
    return status, log.read_text(encoding="utf-8", errors="replace")[-2000:]


@contextmanager
def _superlink(port: int, environment: dict[str, str], log: Path) -> Iterator[None]:
    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None:
        raise MachineError(
            "Flower's server isn't installed", where=command[0], next_step="install flwr[simulation]"
        )
    with log.open("wb") as sink:
        # A session of its own, so that the end of the run ends Ray's processes with it.
        process = subprocess.Popen(  # noqa: S603 — a fixed program of this environment, no shell
            [program, *command[1:]], env=environment, stdout=sink, stderr=sink, start_new_session=True
        )
        try:
            _await_port(port, process, log)
            yield
        finally:
            _end_session(process)


def _await_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise MachineError(
        "Flower's server didn't start", where=f"port {port}", why=log.read_text(errors="replace")[-500:]
    )


def _end_session(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
            process.wait(timeout=10)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue


def _await_end(run_id: str, environment: dict[str, str]) -> str:
    while True:
        runs = json.loads(_flwr(["ls", "--run-id", run_id, "--format", "json"], environment))
        status = str(_find_status(runs))
        if status.startswith("finished"):
            return status
        time.sleep(_POLL_S)


def _find_status(answer: dict[str, Any]) -> str:
    runs = answer.get("runs") or []
    return str(runs[0].get("status", "")) if runs else ""


def _flwr(arguments: list[str], environment: dict[str, str]) -> str:
    program = shutil.which("flwr", path=environment["PATH"]) or "flwr"
    completed = subprocess.run(  # noqa: S603 — a fixed program of this environment, no shell
        [program, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    start = completed.stdout.find("{")
    if completed.returncode != 0 or start < 0:
        why = (completed.stderr or completed.stdout)[-500:]
        raise RunError(f"'flwr {arguments[0]}' failed", where="Ray engine", why=why)
    return completed.stdout[start:]


def _reason(folder: RunFolder, status: str, log: str) -> HansaError:
    """The league's own error if the coordinator wrote one, else what Flower says."""
    failure = folder.state / "failure.json"
    if failure.exists():
        fault = read_json(failure)
        kinds = {kind.__name__: kind for kind in HansaError.__subclasses__()}
        kind = kinds.get(str(fault.get("error")), errors.RunError)
        return kind(fault["what"], where=fault["where"], why=fault["why"], next_step=fault["next_step"])
    return RunError(f"Flower ended the run as '{status}'", where=str(folder.root), why=log)
