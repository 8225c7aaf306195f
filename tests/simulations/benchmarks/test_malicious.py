"""The table of malicious sites: whole in parts, with the right yardsticks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from common.errors import ConfigError
from simulations.benchmarks import malicious, run_parts
from simulations.benchmarks.malicious import ATTACKS, HONEST, LEAGUES, jobs_of, table
from simulations.benchmarks.support.cells import kept_cells, read_cells
from simulations.cli import app


def _cell(league: str, attack: str, seed: int, ndcg: float, named: int | None = None) -> dict[str, Any]:
    key = {"league": league, "attack": attack, "seed": seed, "rounds": 8}
    return {
        "key": key, "ndcg": ndcg, "undone": 0, "groups_refused": 3, "quarantined": 1, "named_in_round": named,
        "seconds": 1.0,
    }  # fmt: skip


def test_losses_are_against_both_yardsticks_and_each_against_its_own_seed() -> None:
    hidden = "he+masked groups"
    cells = [
        _cell(HONEST, "none", 0, 0.2), _cell(HONEST, "none", 1, 0.4),
        _cell(hidden, "none", 0, 0.25), _cell(hidden, "none", 1, 0.32),
        _cell(hidden, "scaled", 0, 0.2, 3), _cell(hidden, "scaled", 1, 0.3, 2), _cell(hidden, "nan", 0, 0.16),
    ]  # fmt: skip
    found = table(cells)
    rows = {(row["league"], row["attack"], row["seed"]): row for row in found["rows"]}
    assert rows[hidden, "scaled", 0]["loss"] == 0.0
    assert rows[hidden, "scaled", 0]["loss_to_same"] == pytest.approx(0.2)
    assert rows[hidden, "scaled", 1]["loss"] == pytest.approx(0.25)
    assert rows[hidden, "scaled", "mean of 2"]["loss"] == pytest.approx(0.125)
    assert rows[hidden, "none", "mean of 2"]["loss"] == pytest.approx((-0.25 + 0.2) / 2)
    assert found["ratios"] == {
        f"worst_loss[{hidden}]": pytest.approx(0.2), f"worst_loss_to_same[{hidden}]": pytest.approx(0.36),
    }  # fmt: skip


def test_the_table_is_chosen_by_words_and_always_has_the_yardstick() -> None:
    some = jobs_of("he+masked,scaled", [0, 2])
    assert [(job.league, job.attack, job.seed) for job in some] == [
        (HONEST, "none", 0), (HONEST, "none", 2),
        ("he+masked groups", "scaled", 0), ("he+masked groups", "scaled", 2),
    ]  # fmt: skip
    assert len(jobs_of("", [0])) == len(LEAGUES) * len(ATTACKS)
    assert {job.league for job in jobs_of("median", [0])} == {HONEST, "plain median"}
    with pytest.raises(ConfigError, match="no league or attack"):
        jobs_of("ckks", [0])


def test_a_stopped_table_goes_on_where_its_file_ends(tmp_path: Path) -> None:
    file, made = tmp_path / "cells.jsonl", list[int]()
    keys = [job.key() for job in jobs_of("he+masked,scaled", [0, 1, 2])]

    def make(key: dict[str, Any]) -> dict[str, Any]:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(key["seed"])
        return {"ndcg": 0.1}

    with pytest.raises(KeyboardInterrupt):
        kept_cells(keys, make, file)
    with file.open("a") as torn:
        torn.write('{"key": {"attack"')
    told: list[str] = []
    again = kept_cells(keys, lambda key: {"ndcg": 0.2}, file, told.append)
    assert [cell["ndcg"] for cell in again] == [0.1, 0.1, 0.2, 0.2, 0.2, 0.2]
    assert len(read_cells(file)) == len(told) == 6


def test_parts_are_asked_for_on_the_command_line() -> None:
    runner = CliRunner()
    other = runner.invoke(app, ["bench", "rounds", "--only", "x"])
    assert other.exit_code != 0
    wrong = runner.invoke(app, ["bench", "malicious", "--seeds", "0,x"])
    assert wrong.exit_code != 0
    with pytest.raises(ConfigError, match="has no parts"):
        run_parts("rounds", "x", None, None, lambda line: None)


@pytest.mark.slow
def test_a_spoiler_in_a_real_league_is_named_and_costs_little(tmp_path: Path) -> None:
    found = malicious.parts("he+masked,scaled", [100], tmp_path / "cells.jsonl", quick=True)
    [row] = [row for row in found["rows"] if row["attack"] == "scaled" and row["seed"] == 100]
    assert row["named_in_round"] == 3
    assert row["groups_refused"] >= 3
