"""Whole runs behind each front that sites may meet, killed (SIGKILL) in mid-run: rounds go on, no update is lost."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.files import PROJECT, read_lines
from common.runtime.processes import Child, free_port, stop
from server.superlink.commands import await_model, order_run
from server.superlink.front import listens_on, nginx_program
from simulations.deployment.local import LocalLeague
from tests.deployment.conftest import nginx_here
from tests.deployment.support.leagues import (
    below,
    kill,
    new_league,
    released,
    rounds_done,
    simulated,
    wait_until,
)

pytestmark = pytest.mark.slow
_ROUNDS = 4


class _Kept:
    """A front that the coordinator starts again by itself: the plain guard, or nginx's master process."""

    def __init__(self, league: LocalLeague) -> None:
        self._league = league

    def pid(self) -> int:
        assert self._league.coordinator is not None
        return below(self._league.coordinator).get("proxy", 0)

    def kill(self) -> None:
        before = self.pid()
        assert kill(before)
        wait_until("another front", lambda: self.pid() not in (0, before), seconds=60)


class _Service:
    """nginx as a service of the machine's own, with the configuration that the coordinator's operator prints."""

    def __init__(self, league: LocalLeague, config: Path) -> None:
        self._kit, self._config, self._child = league.kit, config, None
        self.start()

    def start(self) -> None:
        command = [nginx_program(), "-c", str(self._config), "-p", str(self._kit)]
        self._child: Child | None = Child.start("nginx", command, self._kit / "logs" / "service.log")
        self._child.await_port(listens_on(self._kit)[1])

    def kill(self) -> None:
        """All of its processes, and nobody is there for a while; then it's started again."""
        assert self._child is not None
        os.killpg(self._child.process.pid, signal.SIGKILL)
        self._child.process.wait()
        time.sleep(4.0)
        self.start()

    def stop(self) -> None:
        if self._child is not None:
            stop([self._child])


@contextlib.contextmanager
def _front(league: LocalLeague, how: str) -> Iterator[_Kept | _Service]:
    if how != "service":
        league.front = "nginx" if how == "nginx" else "guard"
        league.start_coordinator()
        yield _Kept(league)
        return
    league.front, league.link_port = "none", free_port()
    root, config = str(PROJECT), league.folder / "hansa.conf"
    command = ["coordinator", "nginx", str(league.kit), "--port", str(league.link_port)]
    with config.open("wb") as file:
        subprocess.run(
            [sys.executable, "-m", "simulations.cli", *command], stdout=file, check=True,
            env={**os.environ, "PYTHONPATH": root},
        )  # fmt: skip
    league.start_coordinator()
    service = _Service(league, config)
    try:
        yield service
    finally:
        service.stop()


@pytest.mark.parametrize("how", ["guard", "nginx", "service"])
def test_rounds_go_on_when_the_front_is_killed_and_started_again(how: str, tmp_path: Path) -> None:
    if how != "guard" and not nginx_here:
        pytest.skip("this machine has no nginx")
    league, chance = new_league(tmp_path / "league", rounds=_ROUNDS), random.Random(how)
    wanted = simulated(league, tmp_path / "simulated")
    try:
        with _front(league, how) as front:
            for site in league.sites:
                league.start_site(site)
            order = order_run(league.kit)
            for done in range(_ROUNDS - 1):
                wait_until(f"{done} rounds", lambda n=done: rounds_done(league) >= n)
                time.sleep(chance.uniform(0.0, 1.5))
                front.kill()
            await_model(league.kit, order, lambda: None)
    finally:
        forced = league.stop()
    assert forced == []
    assert [len(line["sites"]) for line in read_lines(league.run.rounds_file)] == [3] * _ROUNDS
    assert released(league) == wanted


def test_no_update_comes_to_lie_in_a_file_of_nginx(tmp_path: Path) -> None:
    """Updates pass through nginx in memory: its folders for temporary files stay empty over a whole run."""
    if not nginx_here:
        pytest.skip("this machine has no nginx")
    league = new_league(tmp_path / "league", rounds=2, protection="plain")
    league.front, seen = "nginx", []
    places = [league.kit / "private" / name for name in ("nginx-body", "nginx-proxy", "nginx-other")]
    try:
        league.start()
        order = order_run(league.kit)
        await_model(
            league.kit,
            order,
            lambda: seen.extend(path for place in places for path in place.rglob("*") if path.is_file()),
        )
    finally:
        league.stop()
    assert places[0].is_dir()
    assert seen == []
    assert (league.run.release / "model.safetensors").exists()
