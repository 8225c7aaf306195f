"""What a league's behaviour model is worth to a store, against the strongest model that the store would use alone.

Sites are stores of Complete Journey: two of three are members, every third is new and takes no part in the learning.
*Thin* stores learn from 20 of their households, drawn anew for each draw; *large* ones from all. Everybody in the test
window is asked. Tasks: a purchase within 7 days, and churn, which is 28 days without an event.

Methods: `active_days`, `logistic` and `boosting` as in `clients.behaviour.alone`, `alone` the one of these that the
store's validation window prefers; `one_ridge` a logistic regression alone with the one firmness that is best over all
stores' validation windows, which no store alone could know; `league` as deployed at home; `league_as_is`
without a fit at home; `league_early` learned without the validation window; `private_0`, … one draw each of the noise
of a league at ε = 3 for both tasks together. Ratios: league over alone. Invariant: nothing is chosen on a test window.

Example: `hansa bench behaviour_league --format json`
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.behaviour.alone import RIDGES, fit_alone, logistic
from clients.behaviour.choice import row_losses
from clients.behaviour.home import AtHome, fit_at_home
from clients.behaviour.logistic import (
    CLIP,
    LEAGUE_ROUNDS,
    LEAGUE_STRENGTH,
    PRIVATE_RATE,
    PRIVATE_STEPS,
    LogisticPart,
)
from clients.behaviour.site import BehaviourSite, figures
from clients.behaviour.tasks import CHURN_28D, PURCHASE_7D, Rows, Task, TaskRows
from clients.training.moves import Vector
from common.errors import HansaError
from common.privacy.accounting import sigma_for
from simulations.benchmarks import BenchResult
from simulations.benchmarks.support.cells import Cell, kept_cells
from simulations.benchmarks.support.few_numbers import NoisySteps, mean_moves, noisy_steps
from simulations.benchmarks.support.stores import drawn_learners, stores_as_arrays

TASKS = (PURCHASE_7D, CHURN_28D)
BY_NAME = {task.name: task for task in TASKS}
SITES, HOUSEHOLDS, DRAWS, NOISE_DRAWS = 36, 20, 3, 4
EPSILON, DELTA = 3.0, 1e-5
PRIVATE = tuple(f"private_{draw}" for draw in range(NOISE_DRAWS))
MEASURED = (
    "active_days",
    "logistic",
    "boosting",
    "alone",
    "one_ridge",
    "league",
    "league_as_is",
    "league_early",
)
BOOTSTRAPS = 1000
Grid = NDArray[np.float64]


def run(quick: bool) -> BenchResult:
    """36 stores, three draws of households; quick: six stores, one draw.

    Raises
    ------
    MachineError : the package with the purchases isn't installed.
    """
    return table(measure(6, 1) if quick else measure(SITES, DRAWS))


def measure(
    sites: int, draws: int, file: Path | None = None, tell: Callable[[str], None] = lambda line: None
) -> list[Cell]:
    """A cell for each size of store, task and draw of households; large stores have one draw."""
    keys = [
        {"size": size, "task": task.name, "draw": draw, "sites": sites}
        for size in ("thin", "large")
        for task in TASKS
        for draw in range(draws if size == "thin" else 1)
    ]
    with tempfile.TemporaryDirectory(prefix="hansa-bench-") as scratch:
        stores = stores_as_arrays(Path(scratch) / "sites", sites)

        def cell(key: Mapping[str, Any]) -> Cell:
            thin = key["size"] == "thin"
            drawn = [drawn_learners(store, HOUSEHOLDS, key["draw"]) if thin else store for store in stores]
            return one_league([BehaviourSite(store) for store in drawn], BY_NAME[key["task"]])

        return kept_cells(keys, cell, file, tell)


def one_league(stores: Sequence[BehaviourSite], task: Task) -> Cell:
    """Figures of all methods at all stores, members and new ones, each {metric: value}."""
    rows = [store.rows(task) for store in stores]
    members = [part for place, part in enumerate(rows) if place % 3 != 2]
    early, full = (
        mean_moves([_part(getattr(part, window)) for part in members], LEAGUE_STRENGTH, LEAGUE_ROUNDS)
        for window in ("train", "full")
    )
    private = [_private(members, draw) for draw in range(NOISE_DRAWS)]
    ridge = _one_ridge(members)
    found: Cell = {"members": [], "new": []}
    for place, part in enumerate(rows):
        alone, x = fit_alone(part), part.test.features
        chance = {name: model(x) for name, model in alone.models.items()}
        chance |= {"alone": alone(x), "one_ridge": logistic(ridge)(part.full)(x)}
        chance |= {"league_as_is": AtHome(full, np.inf)(x), "league_early": AtHome(early, np.inf)(x)}
        if place % 3 != 2:
            chance["league"] = fit_at_home(task.name, part, early, full)(x)
            chance["league_early"] = fit_at_home(task.name, part, early, early)(x)
            homes = [fit_at_home(task.name, part, weights, weights) for weights in private]
        else:
            chance["league"] = chance["league_as_is"]
            homes = [AtHome(weights, np.inf) for weights in private]
        chance |= {name: home(x) for name, home in zip(PRIVATE, homes, strict=True)}
        values = {name: figures(p, part.test) for name, p in chance.items()}
        found["members" if place % 3 != 2 else "new"].append(_finite(values))
    return found


def _private(members: Sequence[TaskRows], draw: int) -> Vector:
    """The weights of a league at ε = 3, of which each task gets a gradient of norm `CLIP`: one release of all rows."""
    users = sum(len(np.unique(part.full.user)) for part in members)
    sigma = sigma_for(EPSILON, DELTA, 1.0, PRIVATE_STEPS) * len(TASKS) ** 0.5
    how = NoisySteps(CLIP, PRIVATE_RATE, PRIVATE_STEPS, users, sigma)
    return noisy_steps([_part(part.full) for part in members], how, np.random.default_rng(draw))


def _one_ridge(members: Sequence[TaskRows]) -> float:
    """The firmness of a logistic regression alone that is best over all stores' validation windows."""
    losses = [
        np.mean(
            [
                row_losses(logistic(c)(p.train)(p.valid.features), p.valid.label).mean()
                for p in members
                if len(p.valid)
            ]
        )
        for c in RIDGES
    ]
    return RIDGES[int(np.argmin(losses))]


def _part(rows: Rows) -> LogisticPart:
    return LogisticPart("behaviour", rows.features, rows.label, rows.user)


def _finite(values: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    return {
        method: {name: round(v, 6) if np.isfinite(v) else None for name, v in metrics.items()}
        for method, metrics in values.items()
    }


def table(cells: Sequence[Cell]) -> BenchResult:
    """Macro means by size, task and method, then the gates: each ratio or difference with its interval."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size, task in dict.fromkeys((cell["key"]["size"], cell["key"]["task"]) for cell in cells):
        group = [c for c in cells if (c["key"]["size"], c["key"]["task"]) == (size, task)]
        for place in ("members", "new"):
            for method in (*MEASURED, *PRIVATE):
                means = {m: _mean(_grid(group, place, method, m)) for m in ("auc", "gauc", "log_loss")}
                rows.append(
                    {"kind": "mean", "size": size, "task": task, "stores": place, "method": method, **means}
                )
        for gate in _gates(group):
            rows.append({"kind": "gate", "size": size, "task": task, **gate})
            if gate["value"] is not None:
                ratios[f"{size}_{task}_{gate['name']}"] = gate["value"]
    return {"name": "behaviour_league", "rows": rows, "ratios": ratios}


def _gates(group: Sequence[Cell]) -> list[dict[str, Any]]:
    """What was wanted of one size of store and one task."""

    def grid(method: str, metric: str, place: str = "members") -> Grid:
        return _grid(group, place, method, metric)

    def private(metric: str) -> Grid:
        return np.concatenate([grid(name, metric) for name in PRIVATE])

    def repeated(values: Grid) -> Grid:
        return np.tile(values, (len(PRIVATE), 1))

    gates = []
    for opponent in ("alone", "logistic", "boosting", "one_ridge"):
        loss, rank = grid(opponent, "log_loss"), grid(opponent, "auc")
        gates += [
            _gate(f"log_loss_league_over_{opponent}", grid("league", "log_loss"), loss),
            _gate(f"log_loss_early_over_{opponent}", grid("league_early", "log_loss"), loss),
            _gate(f"log_loss_private_over_{opponent}", private("log_loss"), repeated(loss)),
            _gate(f"auc_league_less_{opponent}", grid("league", "auc"), rank, differ=True),
            _gate(f"auc_private_less_{opponent}", private("auc"), repeated(rank), differ=True),
        ]
    gates.append(
        _gate("auc_league_less_active_days", grid("league", "auc"), grid("active_days", "auc"), differ=True)
    )
    gates.append(
        _gate("log_loss_home_over_as_is", grid("league", "log_loss"), grid("league_as_is", "log_loss"))
    )
    new, old = (np.nanmean(_grid(group, place, "league", "auc")) for place in ("new", "members"))
    gates.append(
        {"name": "auc_new_stores_over_members", "value": _round(new / old), "low": None, "high": None}
    )
    for metric, differ in (("log_loss", False), ("auc", True)):
        name = f"{metric}_new_stores_{'less' if differ else 'over'}_alone_there"
        gates.append(_gate(name, grid("league", metric, "new"), grid("alone", metric, "new"), differ))
    return gates


def _gate(name: str, above: Grid, below: Grid, differ: bool = False) -> dict[str, Any]:
    """Ratio of means, or their difference, with a 95 % interval over stores and draws, both drawn with replacement."""
    generator = np.random.default_rng(0)
    both = np.isfinite(above) & np.isfinite(below)
    above, below = np.where(both, above, np.nan), np.where(both, below, np.nan)

    def compared(draws: NDArray[np.int64], stores: NDArray[np.int64]) -> float:
        a, b = (np.nanmean(grid[np.ix_(draws, stores)]) for grid in (above, below))
        return float(a - b if differ else a / b)

    n, m = above.shape
    draws = generator.integers(0, n, (BOOTSTRAPS, n)), generator.integers(0, m, (BOOTSTRAPS, m))
    drawn = [compared(*pair) for pair in zip(*draws, strict=True)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    value = compared(np.arange(n), np.arange(m))
    return {"name": name, "value": _round(value), "low": _round(low), "high": _round(high)}


def _grid(group: Sequence[Cell], place: str, method: str, metric: str) -> Grid:
    """(draws, stores) of one figure; NaN where it is undefined."""
    return np.array(
        [[np.nan if (v := site[method][metric]) is None else v for site in cell[place]] for cell in group]
    )


def _mean(grid: Grid) -> float | None:
    return _round(np.nanmean(grid)) if np.isfinite(grid).any() else None


def _round(value: Any) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table with other sizes; exit code as of the error, else 0."""
    parser = argparse.ArgumentParser(
        prog="behaviour_league", description="A league's behaviour model and its opponents."
    )
    parser.add_argument("--sites", type=int, default=SITES)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--cells", type=Path, default=None, help="finished cells, added to as they finish")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    chosen = parser.parse_args(argv)
    try:
        result = table(measure(chosen.sites, chosen.draws, chosen.cells))
    except HansaError as fault:
        sys.stderr.write(f"{fault}\n")
        return fault.exit_code
    if chosen.format == "json":
        sys.stdout.write(json.dumps(result) + "\n")
        return 0
    for row in result["rows"]:
        sys.stdout.write("  ".join(f"{k} {v}" for k, v in row.items()) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
