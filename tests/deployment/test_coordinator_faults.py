"""The coordinator's processes killed, stopped and started again: the run goes on, and its model is the simulation's."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from common.errors import MachineError
from common.files import PROJECT, read_lines
from common.storage.run_folder import RunFolder
from server.superlink.commands import await_model, is_under_way, order_run, run_of
from server.superlink.orders import Post
from simulations.deployment.local import LocalLeague
from tests.deployment.support.leagues import (
    GENEROUS_S,
    below,
    can_mount,
    fill,
    kill,
    little_room,
    new_league,
    released,
    rounds_done,
    simulated,
    start_within,
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
    """kill -9 of the app, of the SuperLink, of the guard, or of the first process with all that it started."""
    assert league.coordinator is not None
    victim = chance.choice(["app", "link", "proxy", "all"])
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
    assert len(set(victims)) >= 3
    assert rounds_done(league) == _ROUNDS
    assert released(league) == wanted


def test_a_coordinator_asked_to_end_does_so_and_goes_on_when_it_comes_up_again(tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=3)
    wanted = simulated(league, tmp_path / "simulated")
    try:
        league.start()
        assert league.coordinator is not None
        order = order_run(league.kit)
        wait_until("the first round", lambda: rounds_done(league) >= 1)
        children = below(league.coordinator)
        league.coordinator.process.send_signal(signal.SIGTERM)
        assert league.coordinator.process.wait(timeout=60) == 0
        assert not [pid for pid in children.values() if Path(f"/proc/{pid}").exists()]
        assert not Post(league.kit).is_up()
        assert is_under_way(Post(league.kit))
        kept = rounds_done(league)
        assert kept >= 1
        league.start_coordinator()
        await_model(league.kit, order, lambda: None)
    finally:
        forced = league.stop()
    assert forced == []
    assert rounds_done(league) == 3
    assert released(league) == wanted


def _hansa(*arguments: str) -> subprocess.Popen[str]:
    root = str(PROJECT)
    return subprocess.Popen(
        [sys.executable, "-m", "simulations.cli", "coordinator", *arguments, "--format", "json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip


def _done(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any]]:
    out, _ = process.communicate(timeout=GENEROUS_S)
    return process.returncode, json.loads(out)


def test_the_commands_run_stop_status_and_resume_end_as_they_should(tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=4)
    wanted = simulated(league, tmp_path / "simulated")
    kit = str(league.kit)
    code, told = _done(_hansa("run", kit))
    assert (code, told["what"]) == (6, "the coordinator isn't up")
    try:
        league.start()
        code, told = _done(_hansa("resume", kit))
        assert (code, told["what"]) == (6, "there is no run to resume")
        running = _hansa("run", kit)
        wait_until("the first round", lambda: rounds_done(league) >= 1)
        code, told = _done(_hansa("run", kit))
        assert (code, told["what"]) == (6, "the run is under way already")
        code, told = _done(_hansa("stop", kit))
        assert (code, told["state"]) == (0, "stopped")
        code, told = _done(running)
        assert code == 6
        assert re.fullmatch(r"the run was stopped after round [1-4], as asked", told["what"])
        code, told = _done(_hansa("status", kit))
        assert (code, told["coordinator"], told["run"]) == (0, "up", "stopped")
        assert told["next_step"] == f"hansa coordinator resume {kit}"
        code, told = _done(_hansa("resume", kit))
        assert (code, told["state"]) == (0, "released")
    finally:
        league.stop()
    assert rounds_done(league) == 4
    assert released(league) == wanted


def test_a_full_disk_is_named_and_the_run_resumed_when_there_is_room(tmp_path: Path) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this machine lets nobody mount a disk of their own")
    league = new_league(tmp_path / "league", rounds=4)
    wanted = simulated(league, tmp_path / "simulated")
    run = run_of(league.kit).root
    run.mkdir()
    try:
        league.coordinator = start_within(
            little_room(run, "40m"),
            ["-m", "server.superlink.supervisor", str(league.kit)],
            league.kit / "logs" / "up.log",
        )
        wait_until("the coordinator", lambda: Post(league.kit).is_up(), seconds=120)
        league.run = RunFolder(Path(f"/proc/{league.coordinator.process.pid}/root") / run.relative_to("/"))
        for site in league.sites:
            league.start_site(site)
        order = order_run(league.kit)
        wait_until("the first round", lambda: rounds_done(league) >= 1)
        filler = league.run.root / "filler"
        fill(filler)
        with pytest.raises(MachineError, match=r"the disk of the coordinator is full.*make room"):
            await_model(league.kit, order, lambda: None)
        filler.unlink()
        await_model(league.kit, order_run(league.kit, resume=True), lambda: None)
        model = released(league)
        assert rounds_done(league) == 4
    finally:
        league.stop()
    assert model == wanted
