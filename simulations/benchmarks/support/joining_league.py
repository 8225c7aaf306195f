"""One league in this process, measured for `joining`: a cell holds NDCG@20 of each test row by method.

The sites' rows and signals are made once; then leagues are learned from them as rounds do it, by the sites' own moves
and the contract's optimiser, without messages. A test holds the rounds of Flower to the same numbers. Noise of private
leagues is drawn anew for each draw, on the mean, as the sum of all sites' shares.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clients.evaluation.methods import Results, compare_alone
from clients.evaluation.scorers import ranker_scorer
from clients.parts import Parts
from clients.signals.home import fit_joined
from clients.signals.names import START
from clients.signals.ranker import Weights
from clients.trainer import Site, open_site
from common.models.optimisers import optimiser_for
from common.privacy.guarantee import PROTECTS_UNITS, noise_multiplier
from common.protocol.wire import FloatVector
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from simulations.benchmarks.support.cells import Cell
from simulations.setup.create import create_run, plan_config
from simulations.setup.options import DataSource, SimulateOptions, parse_set

FOLDS = 3
Rows = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class JoiningCell:
    """One league to measure.

    Parameters
    ----------
    variant : "all", or how many customers each site learns from.
    private : the mode of the private league beside it; empty for none.
    draws : of its noise.
    """

    data: DataSource
    seed: int
    day: str = ""
    variant: str = "all"
    settings: tuple[str, ...] = ()
    path: Path | None = None
    private: str = ""
    draws: int = 3

    def key(self) -> dict[str, Any]:
        """Everything that determines the result, but for the noise and the place of the data."""
        return {
            "data": self.data, "seed": self.seed, "day": self.day, "variant": self.variant,
            "settings": sorted(self.settings), "private": self.private, "draws": self.draws,
        }  # fmt: skip


def run_cell(job: JoiningCell) -> Cell:
    """``sites`` → site → method → kind → NDCG@20 of each test row, and the members' names.

    Raises
    ------
    HansaError : the data is absent or can't be used.
    """
    settings, knobs = parse_set(job.settings)
    off = {"privacy.mode": "off", "rounds.protection": "plain", "model.tower": False}
    if job.variant != "all":
        off["training.max_users"] = int(job.variant)

    def options(root: str, overrides: dict[str, Any]) -> SimulateOptions:
        return SimulateOptions(
            run=Path(root) / "run", data=job.data, path=job.path, seed=job.seed, test_day=job.day,
            overrides={**overrides, **settings}, data_overrides=knobs, report=False, quiet=True,
        )  # fmt: skip

    with tempfile.TemporaryDirectory(prefix="hansa-bench-") as scratch:
        chosen = options(scratch, off)
        folder, config = create_run(chosen, plan_config(chosen))
        sites = {entry.name: open_site(Path(entry.folder), config) for entry in folder.sites()}
        members = [entry.name for entry in folder.sites() if not entry.held_out]
        rows: dict[str, Rows] = {name: _without_league(site) for name, site in sites.items()}
        inside = [sites[name] for name in members]
        vector = learned(inside, config)
        for name, site in sites.items():
            _add_league(rows[name], site, config, vector, "league", "final")
        _add_joiners(rows, inside, config)
        if job.private:
            private = _private_config(job.private, config, chosen, len(members))
            for draw in range(job.draws):
                noisy = learned(inside, private, np.random.default_rng())
                for name, site in sites.items():
                    _add_league(
                        rows[name], site, private, noisy, f"league_private{draw}", f"final_private{draw}"
                    )
        return {"key": job.key(), "members": members, "sites": rows}


def learned(
    sites: Sequence[Site], config: LeagueConfig, chance: np.random.Generator | None = None
) -> FloatVector:
    """The league's vector after all rounds.

    Parameters
    ----------
    chance : source of the noise of a private league.
    """
    parts = [_parts(site, config) for site in sites]
    size = sum(math.prod(shape) for shape in parts[0].shapes().values())
    vector, optimiser = np.zeros(size, np.float32), optimiser_for(config.rounds, size)
    users = np.array([max(1.0, site.prepare()["users"]) for site in sites])
    weights = np.sqrt(users) if config.privacy.mode == "off" else np.ones(len(sites))
    for _ in range(config.rounds.count):
        moves = [_move(part, config, vector) for part in parts]
        mean = np.average(moves, axis=0, weights=weights)
        if chance is not None:
            mean = mean + chance.normal(0, _deviation(config, len(sites)), size)
        vector = optimiser.step(vector, mean.astype(np.float32))
    return vector


def _move(parts: Parts, config: LeagueConfig, vector: FloatVector) -> NDArray[np.float64]:
    arrays, privacy = _arrays(parts, vector), config.privacy
    if privacy.mode in ("user", "distributed"):
        return -privacy.learning_rate / privacy.expected_users * parts.clipped_sum(arrays, privacy.clip)
    move = np.concatenate(list(parts.moves(arrays).values())).astype(np.float64)
    if privacy.mode == "site":
        move *= min(1.0, privacy.clip / max(float(np.linalg.norm(move)), 1e-12))
    return move


def _deviation(config: LeagueConfig, sites: int) -> float:
    """Of the noise on the mean: each site's share counts on the honest ones alone."""
    privacy = config.privacy
    step = 1.0 if privacy.mode == "site" else privacy.learning_rate / privacy.expected_users
    whole = noise_multiplier(config) * privacy.clip * step
    return whole * math.sqrt(sites / privacy.honest_sites) / sites


def _parts(site: Site, config: LeagueConfig) -> Parts:
    parts = Parts(site.dataset, config)
    if config.privacy.mode not in PROTECTS_UNITS:
        parts.learning = (
            site.parts.learning
        )  # where customers are protected by themselves, rows are drawn otherwise
    return parts


def _arrays(parts: Parts, vector: FloatVector) -> dict[str, FloatVector]:
    arrays, at = {}, 0
    for name, shape in parts.shapes().items():
        arrays[name] = vector[at : at + math.prod(shape)].reshape(shape)
        at += math.prod(shape)
    return arrays


def _private_config(mode: str, config: LeagueConfig, options: SimulateOptions, members: int) -> LeagueConfig:
    from simulations.setup.create import PRIVATE_SETTINGS, SITE_SETTINGS, fitted

    base = dict(SITE_SETTINGS if mode == "site" else PRIVATE_SETTINGS)
    changes = {
        **base,
        "privacy.mode": mode,
        "privacy.epsilon": 3.0,
        "model.tower": False,
        "rounds.protection": "masked",
    }
    return fitted(with_overrides(config, changes), options, members)


def _without_league(site: Site) -> Rows:
    results = Results(site.windows)
    compare_alone(results, site.dataset, site.parts.learning, site.tuned)
    constants = np.stack([START, START])
    results.rank("constants", site.dataset, *ranker_scorer(site.parts.learning.at_test, constants))
    rows = {
        method: {kind: _short(values) for kind, values in kinds.items()}
        for method, kinds in results.rows.items()
    }
    rows["best_valid"] = {m: [f["valid_ndcg@20"]] for m, f in results.methods.items() if "valid_ndcg@20" in f}
    return rows


def _add_league(
    rows: Rows, site: Site, config: LeagueConfig, vector: FloatVector, came: str, deployed: str
) -> None:  # fmt: skip
    parts = _parts(site, config)
    league = parts.ranker(_arrays(parts, vector))
    rows[came] = _ranked(site, league)
    rows[deployed] = _ranked(site, fit_joined(parts.learning.every, league, config.privacy.mode != "off"))


def _add_joiners(rows: dict[str, Rows], sites: Sequence[Site], config: LeagueConfig) -> None:
    """What a league without a site would give it, in `FOLDS` leagues that each leave some sites out."""
    for fold in range(min(FOLDS, len(sites))):
        left_out = sites[fold::FOLDS]
        others = [site for site in sites if site not in left_out]
        if not others:
            continue
        vector = learned(others, config)
        for site in left_out:
            parts = _parts(site, config)
            rows[site.name]["joiner"] = _ranked(site, parts.ranker(_arrays(parts, vector)))


def _ranked(site: Site, weights: Weights) -> dict[str, list[float]]:
    results = Results(site.windows)
    results.rank("ranker", site.dataset, *ranker_scorer(site.parts.learning.at_test, weights))
    return {kind: _short(values) for kind, values in results.rows["ranker"].items()}


def _short(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 5) for value in values]
