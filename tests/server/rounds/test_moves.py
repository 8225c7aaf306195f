"""A league of the small models alone, in this process: the model is the start plus the mean of the sites' moves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from clients.trainer import Site, open_site
from common.secagg.protocol import Attempt
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder
from simulations.runs.run import simulate
from simulations.setup.options import Setting, SimulateOptions
from tests.conftest import TINY_BAZAAR

SMALL: dict[str, Setting] = {
    "privacy.mode": "off", "model.tower": False, "model.image": False, "rounds.optimiser": "average",
    "rounds.weights": "equal", "rounds.clip_range": 4.0, "rounds.colluding_sites": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def run_of(feature_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """Two rounds of three merchants, by protection."""
    folders = {}
    for protection in ("plain", "he+masked"):
        summary = simulate(
            SimulateOptions(
                run=tmp_path_factory.mktemp("moves") / "run", rounds=2, seed=3, quiet=True, compare=False,
                report=False, overrides={**SMALL, "rounds.protection": protection}, data_overrides=TINY_BAZAAR,
            )
        )  # fmt: skip
        folders[protection] = RunFolder(summary.run)
    return folders


def by_hand(folder: RunFolder, config: LeagueConfig) -> tuple[list[Site], list[np.ndarray]]:
    """The members, and the model after each round: each site's move, and their plain mean."""
    sites = [open_site(Path(entry.folder), config) for entry in folder.sites() if not entry.held_out]
    models = [sites[0].initial()]
    for round_ in (1, 2):
        moves = [site.train(models[-1], round_).update.astype(np.float64) for site in sites]
        models.append((models[-1] + np.mean(moves, axis=0)).astype(np.float32))
    return sites, models


def released(folder: RunFolder, site: Site) -> np.ndarray:
    return site.layout().flatten(load_file(folder.release / "model.safetensors"))


def test_the_model_in_the_clear_is_the_mean_of_the_moves(run_of: dict[str, RunFolder]) -> None:
    folder = run_of["plain"]
    sites, models = by_hand(folder, folder.config())
    assert len(sites) == 3
    assert set(sites[0].layout().unflatten(models[0])) == set(sites[0].parts.shapes())
    assert not models[0].any()
    found = released(folder, sites[0])
    nearest = min(models, key=lambda model: float(np.abs(found - model).max()))
    assert found == pytest.approx(nearest, abs=1e-5)
    assert np.abs(models[2] - models[1]).max() > 1e-3


def test_under_encryption_and_masks_it_is_the_same_but_for_whole_numbers(
    run_of: dict[str, RunFolder],
) -> None:
    folder = run_of["he+masked"]
    sites, models = by_hand(folder, folder.config())
    attempt = Attempt(1, "", {site.name: 1.0 for site in sites})
    coarse = 1.0 / attempt.scale(folder.config().rounds)
    found = released(folder, sites[0])
    nearest = min(models, key=lambda model: float(np.abs(found - model).max()))
    # A site's second move begins where rounding has put the first, and amplifies it no more than tenfold here.
    assert np.abs(found - nearest).max() <= 2 * len(sites) * coarse * 10
    assert np.abs(found - released(run_of["plain"], sites[0])).max() <= 4 * len(sites) * coarse * 10
