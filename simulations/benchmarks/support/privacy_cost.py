"""Measures one site's training in one mode: `privacy` starts this as a process for each row of its cost table.

The same number of user samples goes through the model in each mode. Only training is measured, after the site was read,
its features were cached, and one step has run. In `distributed` the drawing of whole-number noise is included.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from clients.data.dataset import SiteDataset
from clients.dp.noise.sources import SystemNoise
from clients.dp.train import train_private
from clients.dp.units import unit_data
from clients.tower import Tower
from clients.trainer import open_site
from clients.training.epochs import batches, step
from clients.training.samples import training_data
from common.models.model import HansaModel
from common.privacy.guarantee import noise_multiplier
from common.settings.config import LeagueConfig
from common.settings.load import load_config, with_overrides
from simulations.setup.create import PRIVATE_SETTINGS

_REPEATS = 5
LARGE = "user, large model"
"""User-level privacy of the model that a league without privacy trains."""


def main(arguments: list[str]) -> int:
    """`site encoders mode samples`, settings as JSON on the standard input; one JSON line on the standard output."""
    folder, encoders, mode, samples = arguments
    torch.set_num_threads(1)
    changes: dict[str, object] = {"model.encoders": encoders, "privacy.mode": mode}
    if mode == LARGE:
        changes["privacy.mode"] = "user"
    elif mode != "off":
        changes |= PRIVATE_SETTINGS
    if mode == "distributed":
        changes |= {"rounds.protection": "he+masked", "rounds.groups": 1, "privacy.sample_rate": 1.0}
        changes |= {"privacy.steps_per_round": 1}
    config = with_overrides(load_config(json.loads(sys.stdin.read())), changes)
    before_mb = _peak_mb()
    work, count = _work(Path(folder), config, int(samples))
    work()
    spent = []
    for _ in range(_REPEATS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    result = {
        "samples": count, "cpu_s_per_1000": round(1000 * min(spent) / count, 4), "peak_mb": round(_peak_mb()),
        "start_mb": round(before_mb),
    }  # fmt: skip
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


def _work(folder: Path, config: LeagueConfig, samples: int) -> tuple[Callable[[], None], int]:
    """Training on at least so many user samples, and how many they are."""
    site = open_site(folder, config)
    model = Tower(site.dataset, config).fresh()
    if config.privacy.mode == "off":
        return _ordinary(model, site.dataset, config, samples)
    data = unit_data(site.dataset, config)
    steps = max(1, round(samples / len(data.users)))
    per_step = with_overrides(config, {"privacy.steps_per_round": 1, "privacy.sample_rate": 1.0})
    chance = SystemNoise()
    sigma, size = noise_multiplier(per_step), sum(p.numel() for p in model.parameters())

    def work() -> None:
        for _ in range(steps):
            shared = config.privacy.mode == "distributed"
            train_private(model, data, per_step, (0.0 if shared else sigma, 1.0))
            if shared:
                chance.whole(size, 1000.0)

    return work, steps * len(data.users)


def _ordinary(
    model: HansaModel, dataset: SiteDataset, config: LeagueConfig, samples: int
) -> tuple[Callable[[], None], int]:
    data = training_data(dataset, dataset.split.valid_from)
    passes = max(1, round(samples / data.n_users))
    generator = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    def work() -> None:
        model.train()
        for _ in range(passes):
            for users in batches(data.users, config.training.batch_size, generator):
                step(model, optimiser, data, config, users, generator)

    return work, passes * data.n_users


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
