"""The recommender's table: cells are run once, compared in pairs, and tell where data is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from common.errors import ConfigError, MachineError
from simulations.benchmarks.recommender import DAYS, HM, Cells, encoder_jobs, jobs_of, main, table
from simulations.benchmarks.support.cells import Cell, read_cells
from simulations.benchmarks.support.one_league import LeagueCell, interval, run_jobs, site_values

SMALL = (
    "data.n_sites=2",
    "data.users_per_site=40",
    "data.items_per_site=40",
    "rounds.count=1",
    "model.image=false",
)


def _cell(seed: int, figures: dict[str, dict[str, float]], rows: int = 50, variant: str = "all") -> Cell:
    """A finished cell; `figures` is site → method → NDCG@20, and basket figures are half of it."""
    sites: dict[str, Any] = {
        site: {
            "rows": {"returning": rows, "basket": rows},
            "methods": {m: {"ndcg@20": v, "basket_ndcg@20": v / 2} for m, v in methods.items()},
        }
        for site, methods in figures.items()
    }
    key = LeagueCell("hm", seed, "2020-09-21", variant=variant).key()
    return {"key": key, "sites": sites, "held_out": {}, "rounds": [], "round_s": 0.0}


def test_ratios_are_of_means_over_cells_and_sites() -> None:
    cells = [
        _cell(0, {"a": {"local": 0.1, "fine_tuned": 0.2}, "b": {"local": 0.3, "fine_tuned": 0.3}}),
        _cell(1, {"a": {"local": 0.1, "fine_tuned": 0.1}, "b": {"local": 0.1, "fine_tuned": 0.2}}),
    ]
    result = table("recommender", cells)
    assert result["ratios"]["fine_tuned_over_local"] == pytest.approx(0.8 / 0.6, abs=1e-4)
    assert result["ratios"]["fine_tuned_over_local_basket"] == pytest.approx(0.8 / 0.6, abs=1e-4)
    assert "final_over_item_knn" not in result["ratios"], "no ratio of methods that weren't run"
    means = {row["name"]: row for row in result["rows"] if row["kind"] == "mean"}
    assert means["local"]["ndcg@20"] == pytest.approx(0.15)
    assert means["local"]["worst"] == pytest.approx(0.1)


def test_few_users_have_a_ratio_of_their_own() -> None:
    full = _cell(0, {"a": {"local": 0.2, "federated": 0.1}})
    few = _cell(0, {"a": {"local": 0.1, "federated": 0.3}}, variant="300")
    ratios = table("recommender", [full, few])["ratios"]
    assert ratios["federated_over_local"] == pytest.approx(0.5)
    assert ratios["federated300_over_local300"] == pytest.approx(3.0)


def test_encoders_stand_beside_each_other_with_their_cost() -> None:
    jobs = encoder_jobs("bazaar", [0], DAYS[-1])
    assert [job.variant for job in jobs] == ["frozen", "scratch"]
    assert [job.settings[-1] for job in jobs] == ["model.encoders=frozen", "model.encoders=scratch"]
    cells = [
        {**_cell(0, {"a": {"federated": figure}}, variant=job.variant), "round_cpu_s": cost}
        for job, figure, cost in zip(jobs, (0.2, 0.1), (1.0, 20.0), strict=True)
    ]
    result = table("bazaar", cells)
    rows = {(row["kind"], row.get("users", row["name"])): row for row in result["rows"]}
    assert rows["mean", "scratch"]["ndcg@20"] == pytest.approx(0.1)
    assert rows["cost", "frozen"]["round_cpu_s"] == 1.0
    assert rows["cost", "scratch"]["round_cpu_s"] == 20.0
    assert "federated_over_local" not in result["ratios"], "the small league counts for no gate"


def test_a_handful_of_rows_is_not_counted() -> None:
    cell = _cell(0, {"a": {"local": 0.1}, "b": {"local": 0.9}})
    cell["sites"]["b"]["rows"] = {"returning": 3, "basket": 50}
    assert site_values([cell], "local", "ndcg@20").tolist() == [0.1]
    assert site_values([cell], "local", "basket_ndcg@20").tolist() == [0.05, 0.45]


def test_intervals_are_paired() -> None:
    below = np.random.default_rng(1).uniform(0.1, 0.9, 40)
    low, high = interval(1.2 * below, below)
    assert low == pytest.approx(1.2)
    assert high == pytest.approx(1.2), "a constant ratio has no spread, however much the sites differ"


def test_a_finished_cell_is_not_run_again(tmp_path: Path) -> None:
    file = tmp_path / "cells.jsonl"
    jobs = [LeagueCell("bazaar", 3, settings=SMALL, timed=True)]
    first = run_jobs(jobs, file)
    assert first[0]["round_cpu_s"] > 0
    methods = first[0]["sites"][next(iter(first[0]["sites"]))]["methods"]
    assert {"popularity", "item_knn", "no_training", "local", "federated", "centralised", "final"} <= set(
        methods
    )
    assert first[0]["held_out"], "the bazaar leaves a merchant out"
    ratios = table("bazaar", first)["ratios"]
    assert {"fine_tuned_over_local", "federated_over_centralised", "held_out_final_over_popularity"} <= set(
        ratios
    )
    marked = {**first[0], "seconds": -1.0}
    file.write_text(json.dumps(marked) + '\n{"torn', encoding="utf-8")
    assert run_jobs(jobs, file)[0]["seconds"] == -1.0
    assert len(read_cells(file)) == 1


def test_a_cell_of_other_settings_is_another_cell(tmp_path: Path) -> None:
    job = LeagueCell("bazaar", 3, settings=("rounds.count=1",))
    assert job.key() != LeagueCell("bazaar", 3, settings=("rounds.count=2",)).key()
    assert job.key() != LeagueCell("bazaar", 4, settings=("rounds.count=1",)).key()
    with pytest.raises(ConfigError, match="unknown setting"):
        run_jobs([LeagueCell("bazaar", 3, settings=("rounds.cuont=1",))], tmp_path / "cells.jsonl")
    assert not (tmp_path / "cells.jsonl").exists()


def test_missing_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(MachineError, match="H&M files"):
        jobs_of("hm", [0], Cells(path=tmp_path / "absent"))
    with pytest.raises(MachineError, match="H&M files"):
        encoder_jobs("hm", [0], DAYS[-1], path=tmp_path / "absent")
    assert main(["--path", str(tmp_path / "absent")]) == MachineError.exit_code
    assert "--data bazaar" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not HM.is_dir(), reason="the H&M files are not beside the project")
def test_quick_table_on_real_purchases() -> None:
    from simulations.benchmarks.recommender import run

    result = run(quick=True)
    assert result["name"] == "recommender"
    assert {"fine_tuned_over_local", "final_over_item_knn", "federated300_over_local300"} <= set(
        result["ratios"]
    )
    assert all(value > 0 for value in result["ratios"].values())
