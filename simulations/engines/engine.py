"""Run a league on this machine: the same two apps on one of three engines.

Invariant: the engine changes time and memory, never the result. `local` and `pool` give the same bytes;
Flower's own engine on Ray agrees to float rounding.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from flwr.app import Context, RecordDict, UserConfig

from common.errors import ConfigError
from common.flower.simulation import COORDINATOR, RUN_ID
from common.storage.run_folder import RunFolder

Engine = Literal["local", "pool", "ray"]


def run_league(
    run_dir: Path, engine: Engine = "local", workers: int = 0, settings: UserConfig | None = None,
    address: str = "",
) -> None:  # fmt: skip
    """Run or resume the league of a run folder that `RunFolder.create` has made.

    Parameters
    ----------
    engine : "local" (this process), "pool" (worker processes) or "ray" (`flwr run` and Ray).
    workers : processes of the pool or of Ray; 0 takes one a processor core.
    address : of a Ray cluster that is up, host:port; empty starts Ray here.
    settings : further entries of Flower's run configuration, such as `compare`, `progress` or `job`.

    Raises
    ------
    HansaError : the run can't go on; everything up to its last checkpoint is kept.
    """
    folder = RunFolder(run_dir.resolve())
    folder.config()
    sites = folder.sites()
    run_config: UserConfig = {"run-dir": str(folder.root), **(settings or {})}
    count = min(len(sites), workers or os.cpu_count() or 1)
    if engine == "local":
        from clients.app import app as client_app
        from simulations.engines.local import LocalGrid

        _serve(LocalGrid(client_app, len(sites), run_config), run_config)
    elif engine == "pool":
        from simulations.engines.pool import PoolGrid

        sizes = [folder_bytes(Path(site.folder)) for site in sites]
        with PoolGrid(len(sites), run_config, workers=count, sizes=sizes) as grid:
            _serve(grid, run_config)
    elif engine == "ray":
        from simulations.engines.ray import run_with_ray

        run_with_ray(folder, run_config, sites=len(sites), workers=count, address=address)
    else:
        raise ConfigError(
            f"engine '{engine}' is unknown", where="engine", next_step="take local, pool or ray"
        )


def folder_bytes(folder: Path) -> int:
    """Bytes of a site's files, by which the pool shares sites out to workers."""
    if not folder.is_dir():
        return 1
    return 1 + sum(entry.stat().st_size for entry in folder.iterdir() if entry.is_file())


def _serve(grid: object, run_config: UserConfig) -> None:
    from server.app import app as server_app

    server_app(grid, Context(RUN_ID, COORDINATOR, {}, RecordDict(), run_config))  # type: ignore[arg-type]
