"""What differential privacy costs: processor time and memory mode by mode, and quality by ε.

Cost: one site's training in a process of its own for each mode, for the same number of user samples through the model,
with cached features and from scratch; CPU seconds of the training alone, and the peak of the process. Quality: leagues
on the bazaar (and on H&M where its files are), for each ε and without privacy, by the same code as `hansa simulate`.
`share_of_gain` is the part of what the non-private federated model gains over popularity (NDCG@20) that is kept.

>>> # hansa bench privacy --quick --format json
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simulations.benchmarks import BenchResult
from simulations.benchmarks.cells import Cell
from simulations.benchmarks.league import Job, macro, mean, run_job
from simulations.benchmarks.recommender import HM, HM_SETTINGS

MODES = ("off", "record", "user", "distributed")
EPSILONS = (1.0, 3.0, 8.0)
SEEDS = (0, 1, 2, 3, 4)
METRICS = ("ndcg@20", "auc", "sentiment_accuracy")
_SAMPLES, _QUICK_SAMPLES = 4096, 512
_SCRATCH_SAMPLES, _QUICK_SCRATCH = 256, 64


def run(quick: bool) -> BenchResult:
    """The cost table, then the quality table; quick: fewer samples, one small league."""
    rows = cost_rows(quick)
    ratios = {}
    for name, encoders in (("user_cpu_over_off", "frozen"), ("scratch_cpu_over_off", "scratch")):
        chosen = [row for row in rows if row["data"] == "bazaar" and row["encoders"] == encoders]
        ratios[name] = next(row["cpu_over_off"] for row in chosen if row["mode"] == "user")
    found, kept = quality(quick)
    return {"name": "privacy", "rows": [*rows, *found], "ratios": {**ratios, **kept}}


def cost_rows(quick: bool) -> list[dict[str, Any]]:
    """A row per data source, encoders and mode; each measured in a fresh process."""
    rows: list[dict[str, Any]] = []
    cells = [("bazaar", "frozen", MODES), ("bazaar", "scratch", ("off", "user"))]
    if HM.is_dir() and not quick:
        cells.append(("hm", "frozen", MODES))
    with tempfile.TemporaryDirectory(prefix="hansa-bench-") as scratch:
        sites = {
            data: _largest_site(data, Path(scratch) / data) for data in dict.fromkeys(c[0] for c in cells)
        }
        for data, encoders, modes in cells:
            site = sites[data]
            frozen = encoders == "frozen"
            full, short = (_SAMPLES, _QUICK_SAMPLES) if frozen else (_SCRATCH_SAMPLES, _QUICK_SCRATCH)
            measured = {mode: _measured(site, encoders, mode, short if quick else full) for mode in modes}
            off = measured["off"]["cpu_s_per_1000"]
            rows += [
                {
                    "kind": "cost", "data": data, "encoders": encoders, "mode": mode, **found,
                    "cpu_over_off": round(found["cpu_s_per_1000"] / off, 3),
                }
                for mode, found in measured.items()
            ]  # fmt: skip
    return rows


def quality(quick: bool) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row per data source and ε, means over seeds; and the shares of the non-private gain."""
    rows: list[dict[str, Any]] = []
    kept: dict[str, float] = {}
    sources: list[tuple[str, Sequence[int]]] = [("bazaar", SEEDS[:1] if quick else SEEDS)]
    if HM.is_dir() and not quick:
        sources.append(("hm", SEEDS[:1]))
    for data, seeds in sources:
        plain = [run_job(_job(data, seed, None, quick)) for seed in seeds]
        rows.append(_quality_row(data, "off", plain, "federated", 1.0))
        for epsilon in EPSILONS[-1:] if quick else EPSILONS:
            cells = [run_job(_job(data, seed, epsilon, quick)) for seed in seeds]
            share = _share(cells, plain)
            rows.append(_quality_row(data, f"{epsilon:g}", cells, "federated", share))
            kept[f"{data}_share_of_gain_epsilon_{epsilon:g}"] = share
    return rows, kept


def _quality_row(data: str, epsilon: str, cells: Sequence[Cell], method: str, share: float) -> dict[str, Any]:
    figures = {metric: _rounded(mean(cells, method, metric)) for metric in METRICS}
    return {
        "kind": "quality", "data": data, "epsilon": epsilon, "seeds": len(cells), **figures,
        "local_ndcg@20": _rounded(mean(cells, "local", "ndcg@20")),
        "popularity_ndcg@20": _rounded(mean(cells, "popularity", "ndcg@20")), "share_of_gain": share,
    }  # fmt: skip


def _share(cells: Sequence[Cell], plain: Sequence[Cell]) -> float:
    """Gain over popularity with privacy, over the gain without; means over seeds before the ratio."""

    def gain(group: Sequence[Cell]) -> float:
        return float(
            np.mean([macro(c, "federated", "ndcg@20") - macro(c, "popularity", "ndcg@20") for c in group])
        )

    return _rounded(gain(cells) / gain(plain))


def _job(data: str, seed: int, epsilon: float | None, quick: bool) -> Job:
    settings: list[str] = list(HM_SETTINGS) if data == "hm" else []
    if quick:
        settings += ["data.users_per_site=60", "rounds.count=3"]
    settings.append("privacy.mode=off" if epsilon is None else "privacy.mode=user")
    if epsilon is not None:
        settings.append(f"privacy.epsilon={epsilon}")
    day, path = ("2020-09-21", HM) if data == "hm" else ("", None)
    return Job("hm" if data == "hm" else "bazaar", seed, day, tuple(settings), path=path, centralised=False)


def _largest_site(data: str, scratch: Path) -> tuple[Path, str]:
    """The site with the most users of a source, and the run's settings as JSON."""
    from clients.ingest import read_site
    from simulations.league import create_run, plan_config
    from simulations.options import SimulateOptions, parse_set

    hm = data == "hm"
    settings, knobs = parse_set(HM_SETTINGS if hm else ())
    options = SimulateOptions(
        run=scratch, data="hm" if hm else "bazaar", path=HM if hm else None, overrides=settings, data_overrides=knobs,
        test_day="2020-09-21" if hm else "", report=False, quiet=True,
    )  # fmt: skip
    folder, config = create_run(options, plan_config(options))
    members = [Path(site.folder) for site in folder.sites() if not site.held_out]
    largest = max(members, key=lambda path: read_site(path).events["user_id"].n_unique())
    return largest, json.dumps(config.model_dump(mode="json"))


def _measured(site: tuple[Path, str], encoders: str, mode: str, samples: int) -> dict[str, float]:
    """CPU seconds for 1,000 user samples and the peak of the process, from a process that does nothing else."""
    command = [
        sys.executable,
        "-m",
        "simulations.benchmarks.privacy_cost",
        str(site[0]),
        encoders,
        mode,
        str(samples),
    ]
    done = subprocess.run(command, input=site[1], capture_output=True, text=True, check=True)  # noqa: S603
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _rounded(value: float) -> float:
    return round(float(value), 4)
