"""The coordinator's processes killed, stopped and started again: the run goes on, and its model is the simulation's."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from common.run_folder import read_lines
from server.desk import await_model, is_under_way, order_run
from server.orders import Post
from simulations.deployment.local import LocalLeague
from tests.deployment.leagues import (
    below,
    kill,
    new_league,
    released,
    rounds_done,
    simulated,
    wait_until,
)

pytestmark = pytest.mark.slow
_ROUNDS = 5


def _marks(league: LocalLeague) -> int:
    """How far a run has come: checkpoints, sums and answers on the coordinator's disk."""
    state = league.run.state
    lines = sum(len(read_lines(path)) for path in state.glob("*.jsonl"))
    return rounds_done(league) + len(list(state.glob("sum-*.json"))) + lines + (state / "keys.json").exists()


def _kill_one(league: LocalLeague, chance: random.Random) -> str:
    """kill -9 of the app, of the SuperLink, or of the first process with all that it started."""
    assert league.coordinator is not None
    victim = chance.choice(["app", "link", "all"])
    if victim == "all":
        league.coordinator.process.kill()
        league.coordinator.process.wait()
        league.start_coordinator()
    else:
        kill(below(league.coordinator).get(victim, 0) or league.coordinator.process.pid)
        if not league.coordinator.runs():
            league.start_coordinator()
    return victim


def test_a_coordinator_killed_at_ten_random_moments_releases_the_uninterrupted_model(tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=_ROUNDS)
    wanted = simulated(league, tmp_path / "simulated")
    chance, victims = random.Random(6), []
    try:
        league.start()
        order = order_run(league.kit)
        marks = 1 + 2 * _ROUNDS + 2
        for kill_number in range(10):
            wait_until(
                f"mark {kill_number * marks // 10}",
                lambda n=kill_number: _marks(league) >= n * marks // 10 or not is_under_way(Post(league.kit)),
            )
            time.sleep(chance.uniform(0.0, 3.0))
            if is_under_way(Post(league.kit)):
                victims.append(_kill_one(league, chance))
        await_model(league.kit, order, lambda: None)
    finally:
        league.stop()
    assert len(victims) >= 8
    assert len(set(victims)) == 3
    assert rounds_done(league) == _ROUNDS
    assert released(league) == wanted
