"""How much a recommender gains by federation, on real purchases (H&M) or on the bazaar.

H&M: each of three test days in turn, trained on the days before, of which the last is for validation; every method
ranks a site's whole catalogue. Bazaar: a new league per seed, with one merchant left out of training.
Invariant: methods are compared over the same cells (day, seed, site), paired, and no setting is chosen on a test day.

>>> # python -m simulations.benchmarks.recommender --seeds 0,1 --days 2020-09-21 --cells cells.jsonl
>>> # python -m simulations.benchmarks.recommender --data bazaar --seeds 0 --encoders   # from scratch, and CPU a round
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import HansaError, MachineError
from common.files import PROJECT
from simulations.benchmarks import BenchResult
from simulations.benchmarks.support.cells import Cell
from simulations.benchmarks.support.one_league import LeagueCell, interval, macro, mean, run_jobs, site_values
from simulations.setup.options import DataSource

METHODS = (
    "popularity",
    "item_knn",
    "no_training",
    "local",
    "federated",
    "fine_tuned",
    "centralised",
    "final",
)
METRICS = ("ndcg@20", "recall@20", "capped_recall@20", "basket_ndcg@20")
DAYS = ("2020-09-19", "2020-09-20", "2020-09-21")
SEEDS = (0, 1, 2, 3, 4)
HM = PROJECT.parent / "shared" / "data" / "hm"
# Departments with fewer customers leave a handful of test rows a day.
HM_SETTINGS = ("data.min_users=800",)
QUICK = {
    "hm": ("data.users_per_site=1000", "data.min_users=4000", "rounds.count=2", "model.image=false"),
    "bazaar": ("data.users_per_site=40", "rounds.count=2"),
}
FEW_USERS = "300"
# Encoders trained from scratch beside the ready-made ones, on what two cores train in minutes.
SUBSET = {
    "hm": (
        "data.users_per_site=300", "data.min_users=4000", "rounds.count=4", "training.negatives=128",
        "training.min_steps_per_round=5",
    ),
    "bazaar": (
        "data.held_out=0", "data.n_sites=6", "data.users_per_site=150", "data.items_per_site=160", "rounds.count=4",
        "training.min_steps_per_round=5",
    ),
}  # fmt: skip
ENCODERS = ("frozen", "scratch")
VARIANTS = ("all", FEW_USERS, *ENCODERS)
RATIOS = {
    "fine_tuned_over_local": ("fine_tuned", "local"),
    "fine_tuned_over_centralised": ("fine_tuned", "centralised"),
    "federated_over_local": ("federated", "local"),
    "federated_over_centralised": ("federated", "centralised"),
    "final_over_item_knn": ("final", "item_knn"),
    "final_over_no_training": ("final", "no_training"),
}


def run(quick: bool) -> BenchResult:
    """The whole H&M table: five seeds by three days, and again with 300 users a site; quick: one small cell of each.

    Raises
    ------
    MachineError : the H&M files aren't on this machine.
    """
    cells = Cells(DAYS[-1:], quick=True) if quick else Cells()
    jobs = jobs_of("hm", SEEDS[:1] if quick else SEEDS, cells)
    return table("recommender", run_jobs(jobs))


@dataclass(frozen=True)
class Cells:
    """Which cells a table has beside its seeds; ``few`` adds those in which a site trains on 300 users."""

    days: Sequence[str] = DAYS
    settings: Sequence[str] = ()
    path: Path | None = None
    quick: bool = False
    few: bool = True


def jobs_of(data: str, seeds: Sequence[int], cells: Cells) -> list[LeagueCell]:
    """The cells of a table.

    Raises
    ------
    MachineError : the H&M files aren't there.
    """
    if data == "bazaar":
        chosen = (*(QUICK["bazaar"] if cells.quick else ()), *cells.settings)
        return [LeagueCell("bazaar", seed, settings=chosen) for seed in seeds]
    folder = _hm_folder(cells.path)
    chosen = (*(QUICK["hm"] if cells.quick else HM_SETTINGS), *cells.settings)
    all_users = [LeagueCell("hm", seed, day, chosen, path=folder) for seed in seeds for day in cells.days]
    fewer = (*chosen, f"training.max_users={FEW_USERS}")
    few_users = [
        LeagueCell("hm", seed, day, fewer, FEW_USERS, folder, centralised=False)
        for seed in seeds
        for day in cells.days
    ]
    return all_users + (few_users if cells.few else [])


def encoder_jobs(
    data: DataSource, seeds: Sequence[int], day: str, settings: Sequence[str] = (), path: Path | None = None
) -> list[LeagueCell]:
    """One small league with frozen encoders and one with scratch encoders; also measures a round's CPU seconds.

    Raises
    ------
    MachineError : the H&M files aren't there.
    """
    folder = _hm_folder(path) if data == "hm" else None
    return [
        LeagueCell(
            data, seed, "" if data == "bazaar" else day,
            (*SUBSET[data], *settings, f"model.encoders={encoders}"), encoders, folder, timed=True,
        )
        for seed in seeds
        for encoders in ENCODERS
    ]  # fmt: skip


def _hm_folder(path: Path | None) -> Path:
    folder = path or HM
    if not folder.is_dir():
        raise MachineError(
            "the H&M files are not on this machine", where=str(folder),
            next_step="name their folder with --path, or take --data bazaar",
        )  # fmt: skip
    return folder


def table(name: str, cells: Sequence[Cell]) -> BenchResult:
    """Rows: a line per method and cell, then a mean per method, then each ratio with its interval."""
    rows: list[dict[str, Any]] = [_cell_row(cell, method) for cell in cells for method in _methods(cell)]
    ratios: dict[str, float] = {}
    groups = {v: [c for c in cells if c["key"]["variant"] == v] for v in VARIANTS}
    for variant, group in groups.items():
        rows += [_mean_row(group, variant, method) for method in (_methods(group[0]) if group else ())]
    for variant in ("all", FEW_USERS):
        group = groups[variant]
        pairs = RATIOS if variant == "all" else {"federated300_over_local300": RATIOS["federated_over_local"]}
        for ratio, (above, below) in pairs.items():
            for metric in ("ndcg@20", "basket_ndcg@20"):
                label = ratio if metric == "ndcg@20" else f"{ratio}_basket"
                _add_ratio(rows, ratios, label, group, (above, below, metric))
    _held_out(rows, ratios, groups["all"])
    rows += [
        {
            "kind": "cost", "name": variant,
            "round_cpu_s": _round(np.mean([c["round_cpu_s"] for c in groups[variant]])),
        }
        for variant in ENCODERS
        if groups[variant]
    ]  # fmt: skip
    return {"name": name, "rows": rows, "ratios": ratios}


def _methods(cell: Cell) -> list[str]:
    return [method for method in METHODS if np.isfinite(macro(cell, method, "ndcg@20"))]


def _cell_row(cell: Cell, method: str) -> dict[str, Any]:
    key = cell["key"]
    figures = {metric: _round(macro(cell, method, metric)) for metric in METRICS}
    return {
        "kind": "cell", "name": method, "users": key["variant"], "day": key["day"], "seed": key["seed"],
        **figures, "worst": _round(macro(cell, method, "ndcg@20", "worst")),
    }  # fmt: skip


def _mean_row(cells: Sequence[Cell], variant: str, method: str) -> dict[str, Any]:
    low, high = interval(site_values(cells, method, "ndcg@20"))
    figures = {metric: _round(mean(cells, method, metric)) for metric in METRICS}
    worst = float(np.mean([macro(cell, method, "ndcg@20", "worst") for cell in cells]))
    return {
        "kind": "mean", "name": method, "users": variant, **figures, "worst": _round(worst),
        "low": _round(low), "high": _round(high),
    }  # fmt: skip


def _add_ratio(
    rows: list[dict[str, Any]],
    ratios: dict[str, float],
    name: str,
    cells: Sequence[Cell],
    pair: tuple[str, str, str],
) -> None:
    above, below, metric = pair
    value, under = mean(cells, above, metric), mean(cells, below, metric)
    if not (np.isfinite(value) and np.isfinite(under) and under > 0):
        return
    low, high = interval(site_values(cells, above, metric), site_values(cells, below, metric))
    ratios[name] = _round(value / under)
    rows.append({
        "kind": "ratio", "name": name, "value": ratios[name], "low": _round(low), "high": _round(high),
    })  # fmt: skip


def _held_out(rows: list[dict[str, Any]], ratios: dict[str, float], cells: Sequence[Cell]) -> None:
    """A merchant that never trained, over its own popularity baseline; paired over seeds and merchants."""
    methods = [site["methods"] for cell in cells for site in cell["held_out"].values()]
    values = {
        method: np.array([np.nan if (v := m.get(method, {}).get("ndcg@20")) is None else v for m in methods])
        for method in ("popularity", "no_training", "federated", "final")
    }
    for method in ("no_training", "federated", "final") if methods else ():
        low, high = interval(values[method], values["popularity"])
        name = f"held_out_{method}_over_popularity"
        ratios[name] = _round(float(np.nanmean(values[method]) / np.nanmean(values["popularity"])))
        rows.append({
            "kind": "ratio", "name": name, "value": ratios[name], "low": _round(low), "high": _round(high),
        })  # fmt: skip


def _round(value: float) -> float:
    return round(float(value), 4)


def main(argv: Sequence[str] | None = None) -> int:
    """Run part of a table, or put finished parts together; exit code as of the error, else 0."""
    parser = argparse.ArgumentParser(prog="recommender", description="What federation is worth.")
    parser.add_argument("--data", choices=("hm", "bazaar"), default="hm")
    parser.add_argument("--path", type=Path, default=None, help="folder of the H&M files")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="comma-separated")
    parser.add_argument("--days", default=",".join(DAYS), help="test days, comma-separated; H&M only")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--no-few", action="store_true", help="leave out the runs with 300 users a site")
    parser.add_argument(
        "--encoders", action="store_true", help="ready-made encoders beside ones from scratch, instead"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cells", type=Path, default=None, help="finished cells, added to as they finish")
    parser.add_argument("--with", type=Path, nargs="*", default=[], dest="others", help="more finished cells")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    chosen = parser.parse_args(argv)
    try:
        seeds = [int(seed) for seed in chosen.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds takes whole numbers with commas between, not '{chosen.seeds}'")
    try:
        days = chosen.days.split(",")
        if chosen.encoders:
            jobs = encoder_jobs(chosen.data, seeds, days[-1], chosen.settings, chosen.path)
        else:
            cells_wanted = Cells(days, chosen.settings, chosen.path, chosen.quick, not chosen.no_few)
            jobs = jobs_of(chosen.data, seeds, cells_wanted)
        cells = run_jobs(jobs, chosen.cells, chosen.others, lambda line: _say(sys.stderr, line))
    except HansaError as fault:
        _say(sys.stderr, str(fault))
        return fault.exit_code
    result = table("recommender" if chosen.data == "hm" else "bazaar", cells)
    _say(sys.stdout, json.dumps(result) if chosen.format == "json" else _as_text(result))
    return 0


def _as_text(result: BenchResult) -> str:
    lines = []
    for row in result["rows"]:
        figures = "  ".join(f"{k} {v}" for k, v in row.items() if k not in ("kind", "name", "value"))
        lines.append(f"{row['kind']:6}{row['name']:38}{row.get('value', '')!s:8}{figures}")
    return "\n".join(lines)


def _say(stream: Any, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


if __name__ == "__main__":
    raise SystemExit(main())
