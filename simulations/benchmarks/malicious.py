"""One malicious site of eight: what it does to the others' model, by protection, and what the league does about it.

The figure is the honest sites' mean validation NDCG@20 of the released model. There are two losses: compared with the
plain league without attack, and with the same league without attack, which has the same groups and checks. A *cell* is
one league under one attack with one seed. Cells are independent, so the table can be made in any number of parts:
`hansa bench malicious --only he+masked --seeds 0,1,2 --cells FILE` continues where the file ends.

Invariant: data, model and training settings are fixed here, so they don't change with the defaults.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flwr.app import Context, RecordDict, UserConfig

from common.errors import ConfigError
from common.files import read_lines
from common.flower.simulation import COORDINATOR, RUN_ID, become
from common.runtime.progress import RoundProgress
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from common.storage.run_folder import RunFolder
from server.rounds.evaluate import measure_last
from server.rounds.loop import run_rounds
from server.rounds.prepare import prepare
from server.rounds.roll_call import roll_call
from server.run.league import League
from server.run.run import Run
from server.run.state import METRIC, RunState
from simulations.attacks.malicious_site import Attack, LyingApp
from simulations.benchmarks import BenchResult
from simulations.benchmarks.support.cells import kept_cells
from simulations.engines.local import LocalGrid
from simulations.setup.create import create_run, plan_config
from simulations.setup.options import Setting, SimulateOptions

SEEDS = (0, 1, 2)
ROUNDS = 8
ATTACKS: tuple[Attack, ...] = ("none", "scaled", "flipped", "nan", "promotion", "gentle")
HONEST = "plain mean"
_GUARD: dict[str, Setting] = {"rounds.worst_fall": 0.05}
# Honest updates of this world have norms of 7.4 to 7.5 in the first round, and shrink (seen on seed 100).
_BOUND: dict[str, Setting] = {"rounds.max_update_norm": 8.0}
LEAGUES: dict[str, dict[str, Setting]] = {
    HONEST: {"rounds.protection": "plain"},
    "plain trimmed mean": {"rounds.protection": "plain", "rounds.aggregator": "trimmed_mean", **_GUARD},
    "plain trimmed mean and bound": {
        "rounds.protection": "plain", "rounds.aggregator": "trimmed_mean", **_BOUND, **_GUARD,
    },
    "plain median": {"rounds.protection": "plain", "rounds.aggregator": "median", **_GUARD},
    "plain krum": {"rounds.protection": "plain", "rounds.aggregator": "krum", **_GUARD},
    "he+masked groups": {
        "rounds.protection": "he+masked", "rounds.groups": 2, **_BOUND, **_GUARD,
    },
}  # fmt: skip
WORLD: dict[str, Setting] = {
    "preset": "thin", "n_sites": 8, "held_out": 0, "users_per_site": 80, "items_per_site": 160,
    "sessions_per_user": 4.5, "days": 60, "skew": 0.3, "text_signal": 0.95, "image_signal": 0.95,
    "review_signal": 0.85, "missing_modalities": 0.0, "fake_reviews": 0.05, "languages": "mixed",
}  # fmt: skip
PINNED: dict[str, Setting] = {
    "privacy.mode": "off",
    "model.encoders": "frozen", "model.adapter": "mlp", "model.projection_dim": 192, "model.item_dim": 64,
    "model.hidden_dim": 128, "model.history_length": 20, "model.dropout": 0.2, "model.modality_dropout": 0.1,
    "model.frozen_image_size": 64,
    "training.batch_size": 64, "training.epochs_per_round": 1, "training.min_steps_per_round": 10,
    "training.learning_rate": 0.005, "training.weight_decay": 0.01, "training.negatives": 512,
    "training.targets_per_user": 4, "training.reviews_per_user": 4, "training.popularity_offset": 1.0,
    "training.behaviour_weight": 0.3, "training.sentiment_weight": 0.1, "training.category_weight": 0.1,
    "training.alignment_weight": 0.05,
    "rounds.optimiser": "momentum", "rounds.server_learning_rate": 1.0, "rounds.momentum": 0.5,
    "rounds.weights": "sqrt_users", "rounds.clip_range": 1.0, "rounds.field_bits": 22, "rounds.fields": 2,
    "rounds.malicious_sites": 1, "rounds.colluding_sites": 1,
}  # fmt: skip


@dataclass(frozen=True)
class AttackCell:
    """One cell to run."""

    league: str
    attack: Attack
    seed: int
    rounds: int = ROUNDS

    def key(self) -> dict[str, Any]:
        """The key under which the finished cell is stored."""
        return asdict(self)


def run(quick: bool) -> BenchResult:
    """Every attack under every league; in the short form one seed, three leagues, two attacks and fewer rounds."""
    return parts("and bound,he+masked" if quick else "", SEEDS[:1] if quick else SEEDS, quick=quick)


def parts(
    only: str,
    seeds: Sequence[int] = SEEDS,
    file: Path | None = None,
    tell: Callable[[str], None] = lambda line: None,
    *,
    quick: bool = False,
) -> BenchResult:
    """The table of some leagues and seeds; the plain league without malice is always among them.

    Parameters
    ----------
    only : names of attacks, and words of which a league's name has one, separated by commas; empty: all.
    file : finished cells, one per line; these aren't run again.

    Raises
    ------
    ConfigError : nothing has such a name.
    """
    torch.set_num_threads(1)
    jobs = jobs_of(only, seeds, quick=quick)
    with tempfile.TemporaryDirectory(prefix="hansa-malicious-") as root:
        worlds = _Worlds(Path(root))
        cells = kept_cells(
            [job.key() for job in jobs], lambda key: worlds.cell(AttackCell(**key)), file, tell
        )
    return table(cells)


def jobs_of(only: str, seeds: Sequence[int], *, quick: bool = False) -> list[AttackCell]:
    """The cells of a table, the yardsticks first.

    Raises
    ------
    ConfigError : nothing has such a name.
    """
    words = [word.strip() for word in only.split(",") if word.strip()]
    named = [attack for attack in ATTACKS if attack in words]
    words = [word for word in words if word not in named]
    leagues = [name for name in LEAGUES if not words or any(word in name for word in words)]
    if not leagues:
        raise ConfigError(
            f"no league or attack of the table is '{only}'", where="bench malicious",
            next_step=f"words of {list(LEAGUES)} or of {list(ATTACKS)}",
        )  # fmt: skip
    attacks = named or (("none", "scaled", "promotion") if quick else ATTACKS)
    rounds = 3 if quick else ROUNDS
    jobs = [AttackCell(HONEST, "none", seed, rounds) for seed in seeds]
    jobs += [
        AttackCell(league, attack, seed, rounds) for seed in seeds for league in leagues for attack in attacks
    ]
    return list(dict.fromkeys(jobs))


def table(cells: Sequence[dict[str, Any]]) -> BenchResult:
    """Rows: a line a cell, then a mean over seeds for each league and attack; ratios: each league's worst mean loss."""
    honest = {
        (c["key"]["league"], c["key"]["seed"]): c["ndcg"] for c in cells if c["key"]["attack"] == "none"
    }
    rows: list[dict[str, Any]] = []
    for cell in cells:
        league, seed = cell["key"]["league"], cell["key"]["seed"]
        rows.append({
            "league": league, "attack": cell["key"]["attack"], "seed": seed, "ndcg": round(cell["ndcg"], 4),
            "loss": _loss(cell["ndcg"], honest.get((HONEST, seed))),
            "loss_to_same": _loss(cell["ndcg"], honest.get((league, seed))),
            **{name: cell[name] for name in ("undone", "groups_refused", "quarantined", "named_in_round", "seconds")},
        })  # fmt: skip
    ratios: dict[str, float] = {}
    for league in dict.fromkeys(row["league"] for row in rows):
        means = [_mean(rows, league, attack) for attack in ATTACKS]
        means = [row for row in means if row["seed"]]
        rows += means
        attacked = [row for row in means if row["attack"] != "none"]
        for loss in ("loss", "loss_to_same"):
            if attacked and not np.isnan(attacked[0][loss]):
                ratios[f"worst_{loss}[{league}]"] = max(row[loss] for row in attacked)
    return {"name": "malicious", "rows": rows, "ratios": ratios}


def _loss(figure: float, honest: float | None) -> float:
    return float("nan") if honest is None else round(1 - figure / honest, 4)


def _mean(rows: Sequence[dict[str, Any]], league: str, attack: Attack) -> dict[str, Any]:
    matching = [row for row in rows if row["league"] == league and row["attack"] == attack]
    means = {
        name: round(float(np.mean([row[name] for row in matching])), 4)
        for name in ("ndcg", "loss", "loss_to_same", "undone", "groups_refused", "quarantined", "seconds")
        if matching
    }
    return {
        "league": league,
        "attack": attack,
        "seed": f"mean of {len(matching)}" if matching else "",
        **means,
    }


class _Worlds:
    """Leagues by seed, derived when a cell first needs one."""

    def __init__(self, root: Path) -> None:
        self._root, self._made = root, dict[int, tuple[RunFolder, LeagueConfig]]()

    def cell(self, job: AttackCell) -> dict[str, Any]:
        """Run one cell."""
        if job.seed not in self._made:
            options = SimulateOptions(
                run=self._root / f"league-{job.seed}", rounds=job.rounds, seed=job.seed,
                overrides=PINNED, data_overrides=WORLD,
            )  # fmt: skip
            self._made[job.seed] = create_run(options, plan_config(options))
        league, config = self._made[job.seed]
        changed = with_overrides(config, {**LEAGUES[job.league], "rounds.count": job.rounds})
        figure, lines = _figure(league, changed, job.attack)
        named = [line["round"] for line in lines if line["named"]]
        return {
            "ndcg": figure,
            "undone": sum(bool(line["undone"]) for line in lines),
            "groups_refused": sum(line["groups_refused"] for line in lines),
            "quarantined": sum(len(line["quarantined"]) for line in lines),
            "named_in_round": named[0] if named else None,
            "valid": [round(line["metrics"][METRIC], 4) for line in lines],
        }


def _figure(league: RunFolder, config: LeagueConfig, attack: Attack) -> tuple[float, list[dict[str, Any]]]:
    """The honest sites' figure of the released model, and the log of rounds."""
    with tempfile.TemporaryDirectory(prefix="hansa-malicious-") as root:
        folder, sites = RunFolder(Path(root)), league.sites()
        folder.create(config, sites)
        run_config: UserConfig = {"run-dir": root, "progress": "silent"}
        app = LyingApp(folder, config, len(sites) - 1, attack)
        grid = LocalGrid(app.answer, len(sites), run_config)
        become(COORDINATOR)
        context = Context(RUN_ID, COORDINATOR, {}, RecordDict(), run_config)
        state = _rounds_only(grid, League.from_context(context))
        # The released model is the best one that the league measured, each site by its own figures.
        honest = [state.best_figures[site.name][METRIC] for site in sites[:-1]]
        return float(np.mean(honest)), read_lines(folder.rounds_file)


def _rounds_only(grid: LocalGrid, league: League) -> RunState:
    with RoundProgress("silent") as progress:
        run = Run(grid, league, progress)
        roll_call(run)
        run.state = prepare(run)
        run_rounds(run)
        measure_last(run)
        return run.state
