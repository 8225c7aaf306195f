"""What differential privacy costs: processor time and memory mode by mode, and quality by ε.

**Cost**: CPU seconds of one site's training for the same number of users, each mode in a process of its own, and the
process's peak. Without privacy a user is seen once in a pass of shuffled batches of the settings' size; with privacy
once in a step that takes all users (rate 1), clipping and noise of all parameters included. Each mode trains the
model that such a league takes; in one more row the large model of the league without privacy is trained privately.
Not counted: reading the site, its cached features, the first step. All modes of one source and encoder are measured in
one go, as one cell.

**Quality**: leagues on the bazaar (and on H&M where its files are), for each ε and without privacy, by the same code as
`hansa simulate`; a league is one cell. `share_of_gain` is the part of what the non-private federated model gains over
popularity (NDCG@20) that is kept, of the seeds that have both.

>>> # hansa bench privacy --quick --format json
>>> # python -m simulations.benchmarks.privacy --only hm --epsilons 1 3 8 --cells privacy.jsonl
>>> # python -m simulations.benchmarks.privacy --only bazaar --seeds 0 1 --cells privacy.jsonl
>>> # python -m simulations.benchmarks.privacy --only cost --cells privacy.jsonl

With ``--cells`` finished cells are kept and not run again; the table holds all requested cells.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.errors import HansaError
from simulations.benchmarks import BenchResult
from simulations.benchmarks.recommender import HM, HM_SETTINGS
from simulations.benchmarks.support.cells import Cell, kept_cells
from simulations.benchmarks.support.one_league import LeagueCell, macro, mean, run_jobs
from simulations.benchmarks.support.privacy_cost import LARGE

MODES = ("off", "record", "user", "distributed")
EPSILONS = (1.0, 3.0, 8.0)
SEEDS = (0, 1, 2, 3, 4)
METRICS = ("ndcg@20", "auc", "sentiment_accuracy")
PARTS = ("cost", "bazaar", "hm")
_HM_DAY, _HM_LEAST = "2020-09-21", 800  # the fewest customers of a site in HM_SETTINGS


class CostGroup(NamedTuple):
    """One group of cost rows: its data, its encoders, and about how many user samples go through the model."""

    data: str
    encoders: str
    modes: tuple[str, ...]
    samples: int


COSTS = (
    CostGroup("bazaar", "frozen", (*MODES, LARGE), 4096),
    CostGroup("bazaar", "scratch", ("off", "user"), 256),
    CostGroup("hm", "frozen", (*MODES, LARGE), 4096),
)
QUICK_COSTS = (CostGroup("bazaar", "frozen", MODES, 512), CostGroup("bazaar", "scratch", ("off", "user"), 64))
Tell = Callable[[str], None]


def run(quick: bool) -> BenchResult:
    """The cost table, then the quality table; quick: fewer samples, one small league."""
    jobs = jobs_of("bazaar", SEEDS[:1] if quick else SEEDS, EPSILONS[-1:] if quick else EPSILONS, quick=quick)
    if HM.is_dir() and not quick:
        jobs += jobs_of("hm", SEEDS[:1], EPSILONS)
    return table(cost_cells(costs_of(quick)), run_jobs(jobs))


def costs_of(quick: bool) -> list[CostGroup]:
    """The groups of cost rows whose data are on this machine."""
    return [cost for cost in (QUICK_COSTS if quick else COSTS) if cost.data != "hm" or HM.is_dir()]


def table(costs: Sequence[Cell], leagues: Sequence[Cell]) -> BenchResult:
    """Rows and ratios of finished cells."""
    rows = [row for cell in costs for row in cell["rows"]]
    ratios = {
        name: row["cpu_over_off"]
        for name, encoders in (("user_cpu_over_off", "frozen"), ("scratch_cpu_over_off", "scratch"))
        for row in rows
        if (row["data"], row["encoders"], row["mode"]) == ("bazaar", encoders, "user")
    }
    ratios |= {
        f"{row['data']}_{row['mode']}_cpu_over_off": row["cpu_over_off"]
        for row in rows
        if row["encoders"] == "frozen" and row["mode"] != "off"
    }
    figures, retained = quality(leagues)
    return {"name": "privacy", "rows": [*rows, *figures], "ratios": {**ratios, **retained}}


def cost_cells(
    costs: Sequence[CostGroup], file: Path | None = None, tell: Tell = lambda line: None
) -> list[Cell]:
    """A cell for each group; cells in the file aren't measured again."""
    groups = [
        (cost, {"cost": cost.data, "encoders": cost.encoders, "samples": cost.samples}) for cost in costs
    ]

    def measured(key: dict[str, Any]) -> Cell:
        cost = next(cost for cost, its in groups if its == key)
        return {"rows": _cost_rows(cost)}

    return kept_cells([key for _, key in groups], measured, file, tell)


def _cost_rows(cost: CostGroup) -> list[dict[str, Any]]:
    """A row for each mode, each measured in a fresh process."""
    with tempfile.TemporaryDirectory(prefix="hansa-bench-") as scratch:
        site = _largest_site(cost.data, Path(scratch))
        measured = {mode: _measured(site, cost.encoders, mode, cost.samples) for mode in cost.modes}
    off = measured["off"]["cpu_s_per_1000"]
    return [
        {
            "kind": "cost", "data": cost.data, "encoders": cost.encoders, "mode": mode, **figures,
            "cpu_over_off": round(figures["cpu_s_per_1000"] / off, 3),
        }
        for mode, figures in measured.items()
    ]  # fmt: skip


def jobs_of(
    data: str, seeds: Sequence[int], epsilons: Sequence[float], *, quick: bool = False
) -> list[LeagueCell]:
    """Leagues without privacy and with each ε, seed by seed."""
    return [_job(data, seed, epsilon, quick) for seed in seeds for epsilon in (None, *epsilons)]


def quality(cells: Sequence[Cell]) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """A row per data source and ε, means over seeds; and the shares of the non-private gain."""
    rows: list[dict[str, Any]] = []
    retained: dict[str, float] = {}
    for data in dict.fromkeys(cell["key"]["data"] for cell in cells):
        own = [cell for cell in cells if cell["key"]["data"] == data]
        plain = {cell["key"]["seed"]: cell for cell in own if _variant(cell) == "off"}
        for variant in dict.fromkeys(_variant(cell) for cell in own):
            chosen = [cell for cell in own if _variant(cell) == variant]
            beside = [cell for cell in chosen if cell["key"]["seed"] in plain]
            share = _share(beside, [plain[cell["key"]["seed"]] for cell in beside])
            rows.append(_quality_row(data, variant, chosen, share))
            if variant != "off":
                retained[f"{data}_share_of_gain_epsilon_{variant}"] = share
    return rows, retained


def _variant(cell: Cell) -> str:
    return str(cell["key"]["variant"])


def _quality_row(data: str, epsilon: str, cells: Sequence[Cell], share: float) -> dict[str, Any]:
    figures = {metric: _rounded(mean(cells, "federated", metric)) for metric in METRICS}
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

    return _rounded(gain(cells) / gain(plain)) if cells else float("nan")


def _job(data: str, seed: int, epsilon: float | None, quick: bool) -> LeagueCell:
    hm = data == "hm"
    settings: list[str] = list(HM_SETTINGS) if hm else []
    if quick:
        settings += ["data.n_sites=8", "data.users_per_site=60", "rounds.count=3"]
    if epsilon is not None:
        # Whole numbers under masks: what they sum to is what ciphertexts would, for less time.
        settings += ["privacy.mode=distributed", f"privacy.epsilon={epsilon:g}", "rounds.protection=masked"]
        settings += [f"privacy.expected_users={_HM_LEAST}"] if hm else []
    return LeagueCell(
        "hm" if hm else "bazaar", seed, _HM_DAY if hm else "", tuple(settings),
        "off" if epsilon is None else f"{epsilon:g}", HM if hm else None, centralised=False,
    )  # fmt: skip


def _largest_site(data: str, scratch: Path) -> tuple[Path, str]:
    """The site with the most users of a source, and the run's settings as JSON."""
    from clients.ingest import read_site
    from simulations.setup.create import create_run, plan_config
    from simulations.setup.options import SimulateOptions, parse_set

    hm = data == "hm"
    settings, knobs = parse_set((*(HM_SETTINGS if hm else ()), "privacy.mode=off"))
    options = SimulateOptions(
        run=scratch, data="hm" if hm else "bazaar", path=HM if hm else None, overrides=settings, data_overrides=knobs,
        test_day=_HM_DAY if hm else "", report=False, quiet=True,
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
        "simulations.benchmarks.support.privacy_cost",
        str(site[0]),
        encoders,
        mode,
        str(samples),
    ]
    completed = subprocess.run(command, input=site[1], capture_output=True, text=True, check=True)  # noqa: S603
    return dict(json.loads(completed.stdout.splitlines()[-1]))


def _rounded(value: float) -> float:
    return round(float(value), 4)


def main(argv: Sequence[str] | None = None) -> int:
    """Run parts of the table, or combine finished parts; returns the error's exit code, else 0."""
    parser = argparse.ArgumentParser(prog="privacy", description="What differential privacy costs.")
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS), help="parts; all of them")
    parser.add_argument(
        "--seeds", nargs="*", type=int, default=None, help="five in the bazaar, the first on H&M"
    )
    parser.add_argument("--epsilons", nargs="*", type=float, default=list(EPSILONS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cells", type=Path, default=None, help="finished cells, added to as they finish")
    chosen = parser.parse_args(argv)

    def tell(line: str) -> None:
        sys.stderr.write(line + "\n")

    try:
        costs: list[Cell] = []
        if "cost" in chosen.only:
            costs = cost_cells(costs_of(chosen.quick), chosen.cells, tell)
        jobs = [
            job
            for data in chosen.only
            if data != "cost"
            for job in jobs_of(
                data, chosen.seeds or (SEEDS if data == "bazaar" else SEEDS[:1]), chosen.epsilons, quick=chosen.quick
            )
        ]  # fmt: skip
        result = table(costs, run_jobs(jobs, chosen.cells, (), tell))
    except HansaError as fault:
        tell(str(fault))
        return fault.exit_code
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
