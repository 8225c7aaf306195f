"""The centralised yardstick: the same model, trained on all sites' data in one place, which privacy forbids.

It exists only in simulations. Each step reads a batch of one site with that site's own negatives; batches of all sites
are shuffled together. Like the league, it trains for as many epochs as there are rounds, keeps the epoch with the best
macro validation figure, and is then fine-tuned on everything before the test window.

In a league with differential privacy it trains with the same budget: the same steps, with the noise that a curator
trusted by all would add once to each sum. As in such a league, no epoch is chosen and nothing is fine-tuned.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from clients.dp.train import train_private
from clients.evaluation.methods import Results, judge_model
from clients.tower import FINE_TUNE_RATE, Tower
from clients.trainer import Site
from clients.training.epochs import batches, passes, step
from clients.training.samples import TrainingData, derived_seed
from common.models.model import HansaModel
from common.models.optimisers import optimiser_for
from common.privacy.guarantee import PROTECTS_UNITS, noise_multiplier
from common.protocol.wire import Layout
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides

Figure = Callable[[HansaModel], float]
"""The macro validation figure of a model."""


def centralised(
    sites: Sequence[Site],
    config: LeagueConfig,
    out: Callable[[str], Path],
    tick: Callable[[int, float], None],
) -> None:
    """Train on all sites and write each site's ``centralised.json``; does nothing if all of these exist.

    Without a tower there is nothing to train: of the ranker's rows a league's sums are all that a curator would use.

    Parameters
    ----------
    out : a site's results folder.
    tick : called with the epoch and its loss.
    """
    towers = [site.tower for site in sites if site.tower]
    if not towers or all((out(site.name) / "centralised.json").exists() for site in sites):
        return
    train = under_budget if config.privacy.mode in PROTECTS_UNITS else ordinary
    model = train(towers, config, lambda model: _macro(model, sites), tick)
    for site in sites:
        results = Results(site.windows)
        judge_model(results, "centralised", model, site.dataset, config, site.tuned)
        results.write(out(site.name) / "centralised.json")


def under_budget(
    towers: Sequence[Tower], config: LeagueConfig, figure: Figure, tick: Callable[[int, float], None]
) -> HansaModel:
    one_step = with_overrides(config, {"privacy.steps_per_round": 1})
    # Each site draws its part of the noise, so that the sum holds it once.
    part = noise_multiplier(config) / math.sqrt(len(towers))
    layout = Layout.of(towers[0].shapes())
    vector = layout.flatten(towers[0].start())
    optimiser = optimiser_for(config.rounds, vector.size)
    for round_ in range(1, config.rounds.count + 1):
        for _ in range(config.privacy.steps_per_round):
            arrays = layout.unflatten(vector)
            moves = [
                train_private(tower.model_of(arrays), tower.private_data, one_step, (part, 1.0))
                for tower in towers
            ]
            vector = optimiser.step(vector, np.mean(moves, axis=0).astype(np.float32))
        tick(round_, float("nan"))
    return towers[0].model_of(layout.unflatten(vector))


def ordinary(
    towers: Sequence[Tower], config: LeagueConfig, figure: Figure, tick: Callable[[int, float], None]
) -> HansaModel:
    model = towers[0].fresh().eval()
    best, best_figure = copy.deepcopy(model), -1.0
    for epoch in range(1, config.rounds.count + 1):
        rate = config.training.learning_rate * towers[0].learning_rate_scale(epoch)
        loss = _epoch(
            model, [tower.before_validation for tower in towers], config, "centralised", epoch, rate
        )
        tick(epoch, loss)
        reached = figure(model)
        if not reached <= best_figure:
            best, best_figure = copy.deepcopy(model), reached
    for epoch in range(1, config.training.fine_tune_epochs + 1):
        rate = config.training.learning_rate * FINE_TUNE_RATE
        _epoch(best, [tower.before_test for tower in towers], config, "centralised-fine", epoch, rate)
    return best


def _epoch(
    model: HansaModel,
    data: Sequence[TrainingData],
    config: LeagueConfig,
    purpose: str,
    epoch: int,
    rate: float,
) -> float:
    seed = derived_seed(config.seed, purpose, epoch)
    generator = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=rate, weight_decay=config.training.weight_decay, fused=True
    )
    work = [
        (part, users)
        for part in data
        for _ in range(passes(part, config))
        for users in batches(part.users, config.training.batch_size, generator)
    ]
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed("torch", seed))
        losses = [
            step(model, optimiser, work[i][0], config, work[i][1], generator)
            for i in generator.permutation(len(work))
        ]
    model.eval()
    return float(np.mean(losses)) if losses else float("nan")


def _macro(model: HansaModel, sites: Sequence[Site]) -> float:
    figures = [site.tower.valid_ndcg(model, site.tuned, site.windows) for site in sites if site.tower]
    finite = [f for f in figures if np.isfinite(f)]
    return float(np.mean(finite)) if finite else float("nan")
