"""The behaviour predictor on real purchases: who will buy next week, at each store of Complete Journey.

A site is a store. The baseline is a logistic regression on the hand-made recency and frequency features, trained at
the store. Invariant: figures are of the test window; settings were chosen by ``valid/auc`` of the rounds alone.

A grouped AUC below one half isn't an error of sign: a user has about four test instants, a week apart. Of these, the
ones without a purchase tend to come just after those with one, when the features predict a purchase most strongly.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import HansaError
from simulations.benchmarks import BenchResult
from simulations.benchmarks.support.cells import Cell
from simulations.benchmarks.support.one_league import LeagueCell, interval, macro, mean, run_jobs, site_values

METHODS = ("logistic", "local", "federated", "fine_tuned", "final")
METRICS = ("auc", "gauc", "log_loss")
# Stores have no pictures. Small batches, since a store has some hundred households.
SETTINGS = ("model.image=false", "rounds.count=8", "training.batch_size=64")
QUICK = ("data.max_sites=4", "rounds.count=2")


def run(quick: bool) -> BenchResult:
    """24 stores and one seed; quick: four stores and two rounds.

    Raises
    ------
    MachineError : the package with the purchases isn't installed.
    """
    return table(run_jobs(jobs_of([0], QUICK if quick else ())))


def jobs_of(seeds: Sequence[int], settings: Sequence[str] = ()) -> list[LeagueCell]:
    """One league a seed; later settings win over the benchmark's own."""
    merged = {line.partition("=")[0]: line for line in (*SETTINGS, *settings)}
    chosen = tuple(merged.values())
    return [LeagueCell("completejourney", seed, settings=chosen, centralised=False) for seed in seeds]


def table(cells: Sequence[Cell]) -> BenchResult:
    """Rows: a line per store and method, then the macro means; ratios with paired intervals over stores and seeds."""
    rows: list[dict[str, Any]] = [
        {"kind": "store", "name": site, "method": method, "seed": cell["key"]["seed"],
         **{metric: _figure(result["methods"].get(method, {}).get(metric)) for metric in METRICS}}
        for cell in cells
        for site, result in sorted(cell["sites"].items())
        for method in METHODS
    ]  # fmt: skip
    for method in METHODS:
        low, high = interval(site_values(cells, method, "auc"))
        rows.append({
            "kind": "mean", "name": "macro", "method": method,
            **{metric: _figure(mean(cells, method, metric)) for metric in METRICS},
            "worst_auc": _figure(np.mean([macro(cell, method, "auc", "worst") for cell in cells])),
            "low": _figure(low), "high": _figure(high),
        })  # fmt: skip
    ratios: dict[str, float] = {}
    for above in METHODS[2:]:
        for below in ("local", "logistic"):
            for metric in ("auc", "log_loss"):
                name = f"{above}_over_{below}_{metric}"
                ratios[name] = round(mean(cells, above, metric) / mean(cells, below, metric), 4)
                low, high = interval(site_values(cells, above, metric), site_values(cells, below, metric))
                rows.append({
                    "kind": "ratio", "name": name, "value": ratios[name],
                    "low": _figure(low), "high": _figure(high),
                })  # fmt: skip
    return {"name": "behaviour", "rows": rows, "ratios": ratios}


def _figure(value: Any) -> float | None:
    return round(float(value), 4) if value is not None and np.isfinite(value) else None


def validation(cells: Sequence[Cell]) -> str:
    """``valid/auc`` by round, macro over stores: the figure by which settings may be chosen."""
    return "\n".join(
        f"seed {cell['key']['seed']} valid/auc "
        + " ".join(f"{line.get('valid/auc', float('nan')):.4f}" for line in cell["rounds"])
        + f"  seconds a round {cell['round_s']:.1f}"
        for cell in cells
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table with other seeds or settings; exit code as of the error, else 0."""
    parser = argparse.ArgumentParser(
        prog="behaviour", description="The behaviour predictor on real purchases."
    )
    parser.add_argument("--seeds", default="0", help="comma-separated")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="settings")
    parser.add_argument("--cells", type=Path, default=None, help="finished cells, added to as they finish")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    chosen = parser.parse_args(argv)
    try:
        seeds = [int(seed) for seed in chosen.seeds.split(",")]
    except ValueError:
        parser.error(f"--seeds takes whole numbers with commas between, not '{chosen.seeds}'")
    try:
        cells = run_jobs(jobs_of(seeds, chosen.settings), chosen.cells)
    except HansaError as fault:
        sys.stderr.write(f"{fault}\n")
        return fault.exit_code
    result = table(cells)
    if chosen.format == "json":
        sys.stdout.write(json.dumps(result) + "\n")
        return 0
    sys.stdout.write(validation(cells) + "\n")
    for row in result["rows"]:
        if row["kind"] != "store":
            sys.stdout.write("  ".join(f"{k} {v}" for k, v in row.items()) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
