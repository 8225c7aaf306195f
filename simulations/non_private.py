"""The yardstick that privacy gives up: the same league, trained by the same rounds without differential privacy.

It exists in simulations only, and holds updates in clear in one process. Sites, model, seed and number of rounds are
the league's; a site's training is the ordinary one, its weight by the contract's rule, and the model is the one with
the best validation figures, as in a league without privacy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from clients.site import Site, open_site
from clients.worth import Results, judge_model
from common.config import LeagueConfig, with_overrides
from common.models import HansaModel
from common.optimisers import optimiser_for
from common.run_folder import RunFolder

FILE = "non_private.json"


def without_privacy(config: LeagueConfig) -> LeagueConfig:
    """The league's settings with differential privacy off, in plain."""
    changes = {
        "privacy.mode": "off",
        "rounds.protection": "plain",
        "rounds.quantise": False,
        "rounds.groups": 1,
    }
    return with_overrides(config, dict(changes))


def wanted(folder: RunFolder, config: LeagueConfig) -> bool:
    """Whether the run has this yardstick, and not yet."""
    return config.privacy.mode != "off" and not all(path.exists() for path in _files(folder))


def non_private(folder: RunFolder, config: LeagueConfig, tick: Callable[[int, float], None]) -> None:
    """Train it and write each member's ``non_private.json``; nothing is done where it isn't wanted.

    Parameters
    ----------
    tick : told the round and its loss.
    """
    if not wanted(folder, config):
        return
    open_config = without_privacy(config)
    members = [entry for entry in folder.sites() if not entry.held_out]
    sites = [open_site(Path(entry.folder), open_config) for entry in members]
    model = _train(sites, open_config, tick)
    for site in sites:
        results = Results(site.windows)
        judge_model(results, "non_private", model, site.dataset, open_config, site.tuned)
        results.write(folder.site_out(site.name) / FILE)


def _train(sites: Sequence[Site], config: LeagueConfig, tick: Callable[[int, float], None]) -> HansaModel:
    vector = best = sites[0].initial()
    optimiser, best_figure = optimiser_for(config.rounds, vector.size), -1.0
    weights = _weights(sites, config)
    for round_ in range(1, config.rounds.count + 1):
        told = [site.train(vector, round_) for site in sites]
        mean = np.average([result.update for result in told], axis=0, weights=weights).astype(np.float32)
        vector = optimiser.step(vector, mean)
        figures = [f for site in sites if (f := site.measure(vector).get("valid/ndcg@20")) is not None]
        figure = float(np.mean(figures)) if figures else 0.0
        if figure > best_figure:
            best, best_figure = vector, figure
        losses = [result.metrics.get("train/loss", float("nan")) for result in told]
        tick(round_, float(np.mean(losses)))
    return sites[0].model_of(best)


def _weights(sites: Sequence[Site], config: LeagueConfig) -> list[float]:
    power = {"users": 1.0, "sqrt_users": 0.5, "equal": 0.0}[config.rounds.weights]
    return [site.prepare()["users"] ** power for site in sites]


def _files(folder: RunFolder) -> list[Path]:
    return [folder.site_out(entry.name) / FILE for entry in folder.sites() if not entry.held_out]
