"""The privacy benchmark's tables follow from cells; finished cells are gone on with, of leagues and of costs alike."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from simulations.benchmarks import privacy
from simulations.benchmarks.privacy import CostGroup, cost_cells, costs_of, jobs_of, main, quality
from simulations.benchmarks.support import one_league
from simulations.benchmarks.support.cells import Cell


def _cell(job: one_league.LeagueCell, gain: float) -> Cell:
    methods = {
        "federated": {"ndcg@20": 0.1 + gain, "auc": 0.7, "sentiment_accuracy": 0.8},
        "popularity": {"ndcg@20": 0.1}, "local": {"ndcg@20": 0.12},
    }  # fmt: skip
    rows = {"returning": 50, "basket": 50}
    return {"key": job.key(), "seconds": 1.0, "sites": {"a": {"rows": rows, "methods": methods}}}


def test_shares_are_of_seeds_that_have_both() -> None:
    jobs = jobs_of("bazaar", (0, 1), (1.0, 8.0))
    gains = {"off": 0.1, "1": 0.04, "8": 0.09}
    cells = [_cell(job, gains[job.variant] * (1 + job.seed)) for job in jobs]
    rows, kept = quality(cells)
    assert kept == {"bazaar_share_of_gain_epsilon_1": 0.4, "bazaar_share_of_gain_epsilon_8": 0.9}
    assert [(row["epsilon"], row["seeds"]) for row in rows] == [("off", 2), ("1", 2), ("8", 2)]
    without = [cell for cell in cells if (cell["key"]["seed"], cell["key"]["variant"]) != (1, "off")]
    assert quality(without)[1] == kept


def test_a_table_in_parts_runs_nothing_twice_and_tells_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []

    def league_of(job: one_league.LeagueCell) -> Cell:
        ran.append(job.variant)
        return _cell(job, 0.1)

    def measured(site: object, encoders: str, mode: str, samples: int) -> dict[str, float]:
        ran.append(mode)
        return {"cpu_s_per_1000": 2.0 if mode == "user" else 1.0}

    monkeypatch.setattr(one_league, "run_job", league_of)
    monkeypatch.setattr(privacy, "_measured", measured)
    monkeypatch.setattr(privacy, "_largest_site", lambda data, scratch: (scratch, "{}"))
    file = ["--cells", str(tmp_path / "cells.jsonl")]
    assert main(["--only", "bazaar", "--seeds", "0", "--epsilons", "3", *file]) == 0
    assert main(["--only", "cost", *file]) == 0
    assert len(ran) == 2 + sum(len(cost.modes) for cost in costs_of(quick=False))
    ran.clear()
    assert main(["--only", "cost", "bazaar", "--seeds", "0", "--epsilons", "3", "8", *file]) == 0
    assert ran == ["8"]
    told = capsys.readouterr()
    assert "3/3 " in told.err.splitlines()[-1]
    result = json.loads(told.out[told.out.rindex('{\n "name"') :])
    assert result["ratios"]["user_cpu_over_off"] == result["ratios"]["scratch_cpu_over_off"] == 2.0
    assert result["ratios"]["bazaar_distributed_cpu_over_off"] == 1.0


@pytest.mark.slow
def test_the_cost_of_a_small_group_is_measured() -> None:
    (cell,) = cost_cells([CostGroup("bazaar", "frozen", ("off", "user", "distributed"), 128)])
    off, user, distributed = cell["rows"]
    assert off["cpu_over_off"] == 1.0
    assert 0.5 < user["cpu_over_off"] < 5
    assert 0.5 < distributed["cpu_over_off"] < 5
    assert all(row["peak_mb"] < 2500 for row in cell["rows"])
