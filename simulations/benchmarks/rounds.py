"""What a round costs beyond the training itself, and beside Flower's own FedAvg on Ray.

Three questions, one ratio each:

    ray_over_ours        a round of Flower's FedAvg on Ray ÷ ours in process, no-op job; the smallest of the rows
    overhead_over_local  (in-process round − plain loop over the sites' training) ÷ plain loop, 10 sites that train
    pool_speedup         in-process round ÷ pool round with 2 workers, at 10 sites that train

Start-up is left out on both sides. If other work shares the processors, the fastest of several rounds is nearest to the
truth, and `pool_speedup` is too low. Run it with `hansa bench rounds`.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from clients.training.noop import NoopSite
from common.files import read_lines
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.benchmarks.support.flower_baseline import fedavg_round_s
from simulations.engines.engine import Engine, run_league

_WORKERS = 2
_ROUNDS = 3
_SMALL, _LARGE = 200_000, 5_000_000
_TRAINED_SITES = 10


def run(quick: bool) -> dict[str, Any]:
    """Measure everything; quick takes one no-op setting of the four and trains for less time."""
    settings = (
        [(100, _SMALL)] if quick else [(sites, size) for size in (_SMALL, _LARGE) for sites in (10, 100)]
    )
    rows = [_noop_row(sites, size) for sites, size in settings]
    trained = _trained_row(steps=150 if quick else 600, rounds=4 if quick else 8)
    local, pool, loop = trained["local_s"], trained["pool_s"], trained["plain_loop_s"]
    return {
        "name": "rounds",
        "rows": [*rows, trained],
        "ratios": {
            "ray_over_ours": round(min(row["ray_fedavg_s"] / row["local_s"] for row in rows), 2),
            "overhead_over_local": round((local - loop) / loop, 4),
            "pool_speedup": round(local / pool, 2),
        },
    }


def _noop_row(sites: int, size: int) -> dict[str, Any]:
    local = _league_rounds("local", sites, size, rounds=_ROUNDS)
    pool = _league_rounds("pool", sites, size, rounds=_ROUNDS)
    return {
        "job": "noop",
        "sites": sites,
        "parameters": size,
        "local_s": _mean(local),
        "pool_s": _mean(pool),
        "ray_fedavg_s": round(fedavg_round_s(sites, size, _ROUNDS, _WORKERS), 4),
        "mb_a_round": round(sum(local[0]["bytes"].values()) / 1e6, 1),
    }


def _trained_row(steps: int, rounds: int) -> dict[str, Any]:
    # Half of the plain loops before and half after, so that other work on the machine can't favour one side.
    loops = [_plain_loop_s(steps, round_) for round_ in range(rounds // 2)]
    local = _league_rounds("local", _TRAINED_SITES, _SMALL, rounds, steps)
    loops += [_plain_loop_s(steps, round_) for round_ in range(rounds // 2, rounds)]
    pool = _league_rounds("pool", _TRAINED_SITES, _SMALL, rounds, steps)
    return {
        "job": f"{steps} steps",
        "sites": _TRAINED_SITES,
        "parameters": _SMALL,
        "local_s": min(line["seconds"] for line in local),
        "pool_s": min(line["seconds"] for line in pool),
        "plain_loop_s": round(min(loops), 4),
        "mb_a_round": round(sum(local[0]["bytes"].values()) / 1e6, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _league_rounds(
    engine: Engine, sites: int, size: int, rounds: int, steps: int = 0
) -> list[dict[str, Any]]:
    """Run a league through the real apps and return its log of rounds."""
    with tempfile.TemporaryDirectory(prefix="hansa-rounds-") as root:
        folder = RunFolder(Path(root))
        entries = [SiteEntry(f"site-{place:03d}", f"Site {place}", "none") for place in range(sites)]
        folder.create(load_config({"rounds": {"count": rounds, "protection": "plain"}}), entries)
        settings: dict[str, int | float | bool | str] = {
            "job": "noop",
            "noop-size": size,
            "noop-steps": steps,
            "progress": "silent",
        }
        run_league(folder.root, engine, _WORKERS, settings)
        return read_lines(folder.rounds_file)


def _plain_loop_s(steps: int, round_: int) -> float:
    """Seconds of the same training without a league, on one thread as at a site."""
    torch.set_num_threads(1)
    sites = [NoopSite(f"site-{place:03d}", 0, _SMALL, steps) for place in range(_TRAINED_SITES)]
    vector = sites[0].initial()
    began = time.perf_counter()
    for site in sites:
        site.train(vector, round_)
    return time.perf_counter() - began


def _mean(lines: list[dict[str, Any]]) -> float:
    return round(sum(line["seconds"] for line in lines) / len(lines), 4)
