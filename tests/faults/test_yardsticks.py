"""kill -9 of a private run while its yardsticks train beside it: nothing of it lives on, and a resumed run has them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO

from common.files import PROJECT
from simulations.runs.run import resume
from tests.conftest import TINY_BAZAAR, TINY_TRAINING

_PATIENCE_S = 400.0


def _start(run: Path, told: IO[str]) -> subprocess.Popen[bytes]:
    settings = {**TINY_TRAINING, **{f"data.{key}": value for key, value in TINY_BAZAAR.items()}}
    settings |= {"privacy.mode": "distributed"}
    assignments = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "simulations.cli", "simulate", "--engine", "pool", "--run", str(run)]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "FLWR_TELEMETRY_ENABLED": "0"}
    return subprocess.Popen(
        [*command, "--rounds", "3", *assignments], env=environment, stdout=subprocess.DEVNULL,
        stderr=told, start_new_session=True,
    )  # fmt: skip


def _alive(session: int) -> list[str]:
    """Processes of a session that haven't ended."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            told = (entry / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if entry.name.isdigit() and int(told[3]) == session and told[0] != "Z":
            found.append(entry.name)
    return found


def test_a_killed_private_run_leaves_no_process_and_resumes_with_its_yardsticks(
    feature_cache: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with (tmp_path / "told").open("w") as told:
        process = _start(run, told)
    until = time.monotonic() + _PATIENCE_S
    while process.poll() is None and not (run / "non_private" / "config.json").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    until = time.monotonic() + 20
    while _alive(process.pid):
        assert time.monotonic() < until, "something of the run lives on"
        time.sleep(0.1)
    assert (run / "non_private").exists()
    assert [line.partition("  ")[0] for line in (tmp_path / "told").read_text().splitlines()][:4] == [
        "prepare 1/3", "prepare 2/3", "prepare 3/3", "round 1/3",
    ]  # fmt: skip
    summary = resume(run)
    assert {"local", "federated", "centralised", "non_private"} <= set(summary.metrics)
    assert summary.rounds == 3
    assert not (run / "non_private").exists()
