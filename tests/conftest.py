"""One tiny league for the whole session: three merchants and one held out, two rounds, from data to report."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from simulations.runs.results import RunSummary
from simulations.setup.options import Setting, SimulateOptions

# How long an example takes tells of the machine; what has to be fast says so in a test of its own.
settings.register_profile("hansa", deadline=None)
settings.load_profile("hansa")

TINY_TRAINING: dict[str, Setting] = {
    "privacy.mode": "off",
    "training.min_steps_per_round": 3,
    "training.batch_size": 16,
    "training.negatives": 32,
    "training.fine_tune_epochs": 1,
}
TINY_BAZAAR: dict[str, Setting] = {
    "n_sites": 3,
    "held_out": 1,
    "users_per_site": 30,
    "items_per_site": 30,
    "sessions_per_user": 5.0,
    "days": 30,
}


@pytest.fixture(scope="session")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of encoded features that is this session's own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HANSA_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_league(feature_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> RunSummary:
    """A finished run with everything but the ablation; tests must leave its folder as it is."""
    from simulations.runs.run import simulate

    run = tmp_path_factory.mktemp("league") / "run"
    return simulate(
        SimulateOptions(
            run=run, rounds=2, seed=3, quiet=True, overrides=TINY_TRAINING, data_overrides=TINY_BAZAAR
        )
    )
