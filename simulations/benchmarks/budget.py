"""How much of the federated gain is left under user-level noise: the curve that `hansa budget plan` reads.

    python -m simulations.benchmarks.budget --write      # measures anew and replaces simulations/budget/curve.json

Leagues of the bazaar without pictures are trained without noise, and with several budgets and sizes of a site. The
share of the gain that is left is (private − popularity) / (off − popularity) in federated NDCG@20, the mean over sites.
Invariant: the private and the non-private league of a row differ only in their privacy settings.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from common.canonical import readable
from common.files import write_whole
from common.privacy.guarantee import noise_multiplier
from common.storage.run_folder import RunFolder
from simulations.benchmarks import BenchResult
from simulations.budget.plan import noise_beside_users
from simulations.runs.run import simulate
from simulations.setup.options import Setting, SimulateOptions

ROUNDS = 10
SIZES = (60, 200, 600)
EPSILONS = (1.0, 3.0, 8.0)
CURVE = Path(__file__).resolve().parents[1] / "budget" / "curve.json"
_LEAGUE: dict[str, Setting] = {
    "n_sites": 4, "held_out": 0, "items_per_site": 150, "sessions_per_user": 7.0, "skew": 0.3,
}  # fmt: skip
_SETTINGS: dict[str, Setting] = {
    "model.image": False, "training.min_steps_per_round": 10, "training.batch_size": 64, "training.fine_tune_epochs": 0,
    "training.learning_rate": 0.005,
}  # fmt: skip


def run(quick: bool) -> BenchResult:
    """Measure; `quick` takes one size and two budgets."""
    sizes, epsilons = ((SIZES[0],), EPSILONS[1:]) if quick else (SIZES, EPSILONS)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for users in sizes:
            off = _figures(Path(scratch) / f"off-{users}", users, {"privacy.mode": "off"})
            for epsilon in epsilons:
                rows.append(_row(Path(scratch) / f"{epsilon:g}-{users}", users, epsilon, off))
    return {
        "name": "budget",
        "rows": rows,
        "ratios": {f"retained_{_name(row)}": row["retained"] for row in rows},
    }


def _row(folder: Path, users: int, epsilon: float, off: dict[str, float]) -> dict[str, Any]:
    private: dict[str, Setting] = {
        "privacy.mode": "user", "privacy.epsilon": epsilon, "privacy.expected_users": users,
    }  # fmt: skip
    figures = _figures(folder, users, private)
    config = RunFolder(folder).config()
    sigma = noise_multiplier(config)
    steps = ROUNDS * config.privacy.steps_per_round
    gain = off["federated"] - off["popularity"]
    return {
        "users": users, "epsilon": epsilon, "sigma": sigma, "popularity": off["popularity"], "off": off["federated"],
        "private": figures["federated"], "noise": noise_beside_users(sigma, config.privacy.sample_rate, users, steps),
        "retained": (figures["federated"] - off["popularity"]) / gain,
    }  # fmt: skip


def _figures(folder: Path, users: int, settings: dict[str, Setting]) -> dict[str, float]:
    options = SimulateOptions(
        run=folder, rounds=ROUNDS, seed=11, quiet=True, compare=False, report=False, overrides=_SETTINGS | settings,
        data_overrides=_LEAGUE | {"users_per_site": users},
    )  # fmt: skip
    metrics = simulate(options).metrics
    return {name: float(metrics[name]["ndcg@20"]["macro"]) for name in ("popularity", "federated")}


def _name(row: dict[str, Any]) -> str:
    return f"{row['users']}_users_epsilon_{row['epsilon']:g}"


def curve_of(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The file that a plan reads."""
    points = [
        {
            "noise": round(row["noise"], 6), "retained": round(min(1.0, max(0.0, row["retained"])), 4),
            "setting": f"bazaar, 4 sites of {row['users']} users, {ROUNDS} rounds, epsilon {row['epsilon']:g}",
        }
        for row in rows
    ]  # fmt: skip
    return {"measured_by": "python -m simulations.benchmarks.budget --write", "points": points}


def main() -> int:
    """Measure, print, and with --write replace the curve."""
    parser = argparse.ArgumentParser(description="Measure the curve of `hansa budget plan`.")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    result = run(arguments.quick)
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    if arguments.write:
        write_whole(CURVE, (readable(curve_of(result["rows"])) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
