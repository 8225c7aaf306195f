"""A simulation on a Ray cluster that is up already: two nodes of this machine, which outlive the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from common.errors import ConfigError, MachineError
from common.runtime.processes import free_port
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.commands.simulate import _check
from simulations.engines.engine import run_league
from simulations.engines.ray import require_cluster
from simulations.setup.options import SimulateOptions

RAY = str(Path(sys.executable).parent / "ray")


def test_an_address_where_nobody_listens_is_named_at_once() -> None:
    port = free_port()
    with pytest.raises(MachineError, match=rf"no Ray cluster.*127.0.0.1:{port}.*ray start --head"):
        require_cluster(f"127.0.0.1:{port}")
    with pytest.raises(MachineError, match="no Ray cluster"):
        require_cluster("nonsense")


def test_an_address_is_for_ray_alone() -> None:
    with pytest.raises(ConfigError, match="no meaning with --engine local"):
        _check(SimulateOptions(run=Path("x"), address="127.0.0.1:6379"))


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a cluster of two nodes on the loopback address."""
    port, room = free_port(), Path(f"/tmp/hansa-ray-{os.getpid()}")  # noqa: S108 — sockets' paths must be short
    address = f"127.0.0.1:{port}"
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}
    head = [
        RAY, "start", "--head", "--block", "--node-ip-address", "127.0.0.1", "--port", str(port), "--num-cpus", "1",
        "--include-dashboard", "false", "--temp-dir", str(room), "--disable-usage-stats",
    ]  # fmt: skip
    second = [
        RAY, "start", "--block", "--address", address, "--node-ip-address", "127.0.0.1", "--num-cpus", "1",
        "--disable-usage-stats",
    ]  # fmt: skip
    started: list[subprocess.Popen[bytes]] = []
    with (tmp_path / "ray.log").open("wb") as log:
        try:
            for command in (head, second):
                started.append(
                    subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
                )
                _await(address)
                time.sleep(3)
            yield address, room
        finally:
            _end(started)


def _await(address: str) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        try:
            require_cluster(address)
            return
        except MachineError:
            time.sleep(0.2)
    raise AssertionError("Ray didn't start")


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    """End what was started here and what that started, each by its id."""
    ours = [psutil.Process(process.pid) for process in started if process.poll() is None]
    everyone = [child for process in ours for child in [process, *process.children(recursive=True)]]
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for process in everyone:
            if process.is_running():
                process.send_signal(sign)
        _, everyone = psutil.wait_procs(everyone, timeout=15)
    for one in started:
        one.wait()


def _league(root: Path, address: str) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    folder = RunFolder(root)
    folder.create(
        load_config({"rounds": {"count": 3}}), [SiteEntry(f"s{i}", f"S{i}", "nowhere") for i in range(4)]
    )
    settings: dict[str, str | int | float | bool] = {"job": "noop", "noop-size": 2000, "progress": "silent"}
    run_league(root, "ray" if address else "local", 2, settings, address)
    return load_file(folder.release / "model.safetensors")


@pytest.mark.slow
def test_a_cluster_that_is_up_does_the_sites_work_and_outlives_the_run(
    cluster: tuple[str, Path], tmp_path: Path
) -> None:
    address, room = cluster
    before = set((room / "session_latest" / "logs").glob("worker-*.out"))
    there, here = _league(tmp_path / "there", address), _league(tmp_path / "here", "")
    assert there.keys() == here.keys()
    for name in there:
        np.testing.assert_allclose(there[name], here[name], rtol=0, atol=1e-6)
    used = set((room / "session_latest" / "logs").glob("worker-*.out")) - before
    assert used, "no worker of the cluster was used"
    require_cluster(address)
