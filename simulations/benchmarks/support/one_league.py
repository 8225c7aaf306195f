"""One league in this process, and the figures that a benchmark keeps of it: a *cell*.

A cell is one run with one seed, one test window and one list of settings, by the same code as `hansa simulate`.
Invariant: a cell's key holds everything that determines its result, so a file of finished cells can be continued and
merged with others, and no cell is counted twice.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from clients.trainer import open_site
from common.files import read_lines
from common.storage.run_folder import RunFolder
from simulations.benchmarks.support.cells import Cell, kept_cells
from simulations.engines.engine import run_league
from simulations.runs.paired import MIN_ROWS
from simulations.runs.run import simulate
from simulations.runs.summary import RANKING, macro_metrics, site_results, summarise
from simulations.setup.create import create_run, plan_config
from simulations.setup.options import DataSource, SimulateOptions, parse_set

BOOTSTRAPS = 1000


@dataclass(frozen=True)
class LeagueCell:
    """One cell to run.

    Parameters
    ----------
    settings : ``key=value`` assignments as for ``--set``.
    variant : a word that tells tables apart, e.g. "all" users or "300" of them.
    centralised : also train the centralised yardstick, which costs about as much as the league.
    timed : also count the CPU seconds of one round's training at all sites.
    """

    data: DataSource
    seed: int
    day: str = ""
    settings: tuple[str, ...] = ()
    variant: str = "all"
    path: Path | None = None
    centralised: bool = True
    timed: bool = False

    def key(self) -> dict[str, Any]:
        """The key under which the finished cell is stored; the path of the data isn't part of it."""
        return {
            "data": self.data, "seed": self.seed, "day": self.day, "variant": self.variant,
            "settings": sorted(self.settings), "centralised": self.centralised,
        }  # fmt: skip


def run_job(job: LeagueCell) -> Cell:
    """Run a league in a temporary folder and keep its figures.

    Raises
    ------
    HansaError : the data is absent or the run can't go on.
    """
    settings, knobs = parse_set(job.settings)
    with tempfile.TemporaryDirectory(prefix="hansa-bench-") as scratch:
        options = SimulateOptions(
            run=Path(scratch) / "run", data=job.data, path=job.path, seed=job.seed, test_day=job.day,
            overrides={"rounds.protection": "plain", "privacy.mode": "off", **settings}, data_overrides=knobs,
            report=False, quiet=True,
        )  # fmt: skip
        if job.centralised:
            summary = simulate(options)
            folder, seconds = RunFolder(summary.run), summary.seconds
        else:
            folder, _ = create_run(options, plan_config(options))
            run_league(folder.root, "local", 1, {"compare": True, "progress": "silent"})
            summarise(folder, {})
            seconds = 0.0
        cpu = {"round_cpu_s": _round_cpu_s(folder)} if job.timed else {}
        return {"key": job.key(), "seconds": round(seconds, 1), **_figures(folder), **cpu}


def _round_cpu_s(folder: RunFolder) -> float:
    """CPU seconds in which all members train once from the first model, their figures of it included; data are open."""
    total = 0.0
    for entry in folder.sites():
        if not entry.held_out:
            site = open_site(Path(entry.folder), folder.config())
            first = site.initial()
            site.measure(first)
            began = time.process_time()
            site.train(first, 1)
            total += time.process_time() - began
    return round(total, 2)


def _figures(folder: RunFolder) -> Cell:
    sites = folder.sites()
    results = {site.name: site_results(folder, site) for site in sites}
    parts = {name: {"rows": r["rows"], "methods": r["methods"]} for name, r in results.items()}
    lines = read_lines(folder.rounds_file)
    return {
        "sites": {site.name: parts[site.name] for site in sites if not site.held_out},
        "held_out": {site.name: parts[site.name] for site in sites if site.held_out},
        "rounds": [{"loss": line["loss"], **line["metrics"]} for line in lines],
        "round_s": float(np.mean([line["seconds"] for line in lines])) if lines else 0.0,
    }


def run_jobs(
    jobs: Sequence[LeagueCell],
    file: Path | None = None,
    others: Sequence[Path] = (),
    tell: Callable[[str], None] = lambda line: None,
) -> list[Cell]:
    """The cells of all jobs, in their order; cells that are in a file aren't run again.

    Parameters
    ----------
    file : JSON lines to which each finished cell is added at once.
    others : further files of finished cells, only read.
    """
    by_key = {json.dumps(job.key()): job for job in jobs}
    return kept_cells(
        [job.key() for job in jobs], lambda key: run_job(by_key[json.dumps(key)]), file, tell, others
    )


def macro(cell: Cell, method: str, metric: str, statistic: str = "macro") -> float:
    """Macro mean, or with ``statistic="worst"`` the worst, over the members that count; NaN without the method."""
    figures = macro_metrics(cell["sites"])
    return float(figures.get(method, {}).get(metric, {}).get(statistic, np.nan))


def mean(cells: Sequence[Cell], method: str, metric: str) -> float:
    """Mean over cells of the macro mean."""
    return float(np.mean([macro(cell, method, metric) for cell in cells])) if cells else float("nan")


def site_values(cells: Sequence[Cell], method: str, metric: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """One value per (cell, site that counts), in an order that is the same for every method."""
    return np.array([
        np.nan if (v := cell["sites"][name]["methods"].get(method, {}).get(metric)) is None else v
        for cell in cells
        for name in _counted(cell, metric)
    ])  # fmt: skip


def _counted(cell: Cell, metric: str) -> list[str]:
    names = sorted(cell["sites"])
    plain = metric.removeprefix("basket_")
    if not plain.startswith(RANKING):
        return names
    kind = "returning" if plain == metric else "basket"
    return [name for name in names if cell["sites"][name]["rows"][kind] >= MIN_ROWS] or names


def interval(
    above: np.ndarray[Any, np.dtype[np.float64]],
    below: np.ndarray[Any, np.dtype[np.float64]] | None = None,
    seed: int = 0,
) -> tuple[float, float]:
    """95 % bootstrap interval of a mean, or of the ratio of two means over the same (paired) draws."""
    keep = np.isfinite(above) & (np.isfinite(below) if below is not None else True)
    if not keep.any():
        return float("nan"), float("nan")
    above = above[keep]
    draws = np.random.default_rng(seed).integers(0, len(above), (BOOTSTRAPS, len(above)))
    values = above[draws].mean(1)
    if below is not None:
        values = values / np.maximum(below[keep][draws].mean(1), 1e-12)
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
