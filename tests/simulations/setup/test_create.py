"""What a league trains with unless told otherwise: private in the bazaar, and comparable with what it gave up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from clients.dp.whole_site import require_sites
from clients.signals.ranker import Form
from clients.trainer import Site
from common.errors import ConfigError
from common.privacy.guarantee import guarantee_of, noise_multiplier
from common.protocol.wire import Layout
from common.settings.load import with_overrides
from common.storage.run_folder import RunFolder
from simulations.runs.run import simulate
from simulations.setup.create import FEWEST_FOR_SITE_LEVEL, PRIVATE_SETTINGS, create_run, fitted, plan_config
from simulations.setup.options import Setting, SimulateOptions
from simulations.yardsticks.centralised import under_budget
from simulations.yardsticks.non_private import without_privacy
from tests.clients.dp.units import settings
from tests.clients.small_site import drawn_site
from tests.conftest import TINY_BAZAAR, TINY_TRAINING

OPEN: dict[str, Setting] = {"privacy.mode": "off", "rounds.protection": "plain"}


def options(overrides: dict[str, Setting] | None = None, **changes: object) -> SimulateOptions:
    return replace(SimulateOptions(run=Path("run"), overrides=overrides or {}), **changes)  # type: ignore[arg-type]


FEW = options(data_overrides={"n_sites": FEWEST_FOR_SITE_LEVEL - 1})
"""Merchants too few to hide a whole one."""


def test_the_bazaar_protects_its_customers_unless_told_otherwise() -> None:
    whole, few = plan_config(options()), plan_config(FEW)
    assert (whole.privacy.mode, whole.rounds.protection) == ("site", "he+masked")
    assert (few.privacy.mode, few.rounds.protection) == ("distributed", "he+masked")
    assert not whole.model.tower
    assert few.model.adapter == PRIVATE_SETTINGS["model.adapter"] == "linear"
    for config, unit in ((whole, "site"), (few, "user")):
        promise = guarantee_of(config)
        assert promise is not None
        assert promise.unit == unit
        assert promise.epsilon <= 3.0
    assert plan_config(options(OPEN)).model.adapter == "mlp"
    assert plan_config(options(data="hm")).privacy.mode == "off"
    assert plan_config(options({"privacy.mode": "user"}, data="hm")).model.adapter == "linear"


def test_the_yardstick_without_privacy_is_the_league_as_it_would_have_been() -> None:
    assert without_privacy(plan_config(FEW)) == with_overrides(
        plan_config(options(OPEN)), {"privacy.epsilon": plan_config(FEW).privacy.epsilon}
    )


def test_the_yardstick_of_hidden_sites_learns_the_same_small_models_in_the_clear() -> None:
    config = without_privacy(plan_config(options()))
    assert (config.privacy.mode, config.rounds.protection, config.model.tower) == ("off", "plain", False)


def test_the_bazaars_merchants_are_enough_to_hide_a_whole_one() -> None:
    """Fewer are given another mode, before a site refuses."""
    asked = options()
    enough = fitted(plan_config(asked), asked, FEWEST_FOR_SITE_LEVEL)
    require_sites(enough, Form.of(enough.privacy).size)


def test_the_yardstick_keeps_what_a_person_chose() -> None:
    config = without_privacy(plan_config(replace(FEW, overrides={"model.item_dim": 32, "rounds.count": 5})))
    assert (config.model.item_dim, config.rounds.count, config.model.adapter) == (32, 5, "mlp")


@pytest.mark.parametrize(("members", "honest"), [(3, 2), (8, 6), (16, 13), (40, 34)])
def test_noise_counts_on_all_but_those_that_may_collude_or_drop_out(members: int, honest: int) -> None:
    asked = options()
    assert fitted(plan_config(asked), asked, members).privacy.honest_sites == honest
    chosen = options({"privacy.honest_sites": 2, "privacy.expected_users": 7})
    privacy = fitted(plan_config(chosen), chosen, members).privacy
    assert (privacy.honest_sites, privacy.expected_users) == (2, 7)


def test_too_few_sites_to_share_noise_are_told_before_anything_trains(tmp_path: Path) -> None:
    asked = options(run=tmp_path / "run", data_overrides={**TINY_BAZAAR, "n_sites": 2})
    with pytest.raises(ConfigError, match="needs 3 sites, and there are 2") as fault:
        create_run(asked, plan_config(asked))
    assert "privacy.mode=user" in fault.value.next_step
    assert not RunFolder(asked.run).config_file.exists()


def test_one_site_in_the_clear_is_told_which_mode_works() -> None:
    with pytest.raises(ConfigError) as fault:
        plan_config(options({"rounds.protection": "plain"}))
    assert "privacy.mode=user" in fault.value.next_step


def test_a_tiny_private_league_runs_by_default_and_says_what_it_promises(
    feature_cache: Path, tmp_path: Path
) -> None:
    small = {key: value for key, value in TINY_TRAINING.items() if key != "privacy.mode"}
    summary = simulate(
        SimulateOptions(
            run=tmp_path / "run", rounds=2, seed=3, quiet=True, overrides=small, data_overrides=TINY_BAZAAR
        )
    )
    folder = RunFolder(summary.run)
    assert {"local", "federated", "centralised", "non_private"} <= set(summary.metrics)
    assert folder.config().privacy.honest_sites == 2
    assert not (folder.root / "non_private").exists()
    details = json.loads((folder.root / "details.json").read_text(encoding="utf-8"))
    for row in details["verdicts"]:
        assert row["epsilon"] is None if row["held_out"] else row["epsilon"] <= 3.0
    assert "3.0" in (folder.release / "MODEL_CARD.md").read_text(encoding="utf-8")
    rounds = [json.loads(line) for line in folder.rounds_file.read_text().splitlines()]
    assert not any(key.startswith(("train/", "valid/")) for line in rounds for key in line.get("metrics", {}))


def test_centralised_training_under_the_budget_has_the_noise_of_one_curator() -> None:
    """Of sites without customers nothing is left but the noise: once in each sum, whoever draws it."""
    config = settings(
        {
            "model.adapter": "linear", "privacy.mode": "distributed", "rounds.protection": "masked",
            "rounds.count": 1, "privacy.clip": 0.5, "privacy.learning_rate": 4.0, "privacy.expected_users": 50,
        }
    )  # fmt: skip
    sites = []
    for seed in range(5):
        site = drawn_site(seed)
        nobody = replace(site.reviews, label=site.reviews.label * 0 - 1)
        sites.append(Site(replace(site, name=f"s{seed}", log=site.log.before(0), reviews=nobody), config))
    towers = [site.tower for site in sites if site.tower]
    model = under_budget(towers, config, lambda model: 0.0, lambda round_, loss: None)
    first = Layout.of(towers[0].shapes()).flatten(towers[0].start())
    moved = np.concatenate([p.detach().numpy().ravel() for p in model.shared_parameters().values()]) - first
    step = config.privacy.learning_rate / (config.privacy.expected_users * len(sites))
    expected = noise_multiplier(config) * config.privacy.clip * step
    assert np.std(moved) == pytest.approx(expected, rel=4 / math.sqrt(2 * len(first)))
