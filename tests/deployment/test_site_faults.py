"""Sites killed at work, hung, cut off, without room, or set back to yesterday: rounds go on, and no ε is lost."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from common.files import read_lines
from common.runtime.processes import Child
from common.storage.run_folder import SiteEntry
from server.superlink.commands import await_model, is_under_way, order_run
from server.superlink.orders import Post, RunOrder
from simulations.deployment.local import LocalLeague
from simulations.setup.options import Setting
from tests.deployment.support.leagues import (
    below,
    can_mount,
    fill,
    is_small,
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
PHASES = ("training", "encrypting", "uploading")
PRIVATE: dict[str, Setting] = {"privacy.mode": "user", "privacy.epsilon": 8.0, "privacy.expected_users": 40}


@contextmanager
def _up(league: LocalLeague, start: Callable[[SiteEntry], None] | None = None) -> Iterator[RunOrder]:
    """The league up, with its run under way."""
    try:
        league.start_coordinator()
        for site in league.sites:
            (start or league.start_site)(site)
        yield order_run(league.kit)
    finally:
        league.stop()


def _kit(league: LocalLeague, name: str) -> Path:
    return league.kits / "sites" / name


def _out(league: LocalLeague) -> list[list[tuple[str, str]]]:
    """Who was left out of each round, and why."""
    return [
        [(each["site"], each["reason"]) for each in line["quarantined"]]
        for line in read_lines(league.run.rounds_file)
    ]


def _with_kills(league: LocalLeague) -> Callable[[SiteEntry], None]:
    def start(site: SiteEntry) -> None:
        kit = _kit(league, site.name)
        arguments = ["-m", "tests.deployment.support.killing", "up", str(kit), "--site", site.folder]
        league.children[site.name] = Child.start(site.name, arguments, kit / "logs" / "site.log")

    return start


@pytest.mark.parametrize("phase", PHASES)
def test_sites_killed_ten_times_in_a_phase_lose_nothing(phase: str, tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=4, settings={"rounds.deadline_s": 300.0})
    wanted = simulated(league, tmp_path / "simulated")
    kills = [(site.name, round_) for round_ in range(1, 5) for site in league.sites][:10]
    for name, round_ in kills:
        folder = _kit(league, name) / "kills"
        folder.mkdir(exist_ok=True)
        (folder / f"round-{round_}.{phase}").touch()
    with _up(league, _with_kills(league)) as order:
        await_model(league.kit, order, lambda: None)
    done = list((league.kits / "sites").glob("*/kills/*-done"))
    assert len(done) == 10
    assert _out(league) == [[]] * 4
    assert released(league) == wanted


@pytest.mark.parametrize("phase", PHASES)
def test_a_private_site_killed_in_a_phase_pays_once_for_what_it_told(phase: str, tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=2, settings={**PRIVATE, "rounds.deadline_s": 300.0})
    victim = league.sites[0].name
    (_kit(league, victim) / "kills").mkdir()
    (_kit(league, victim) / "kills" / f"round-1.{phase}").touch()
    with _up(league, _with_kills(league)) as order:
        await_model(league.kit, order, lambda: None)
    assert (_kit(league, victim) / "kills" / f"round-1.{phase}-done").exists()
    assert _out(league) == [[], []]
    books = {site.name: _book(_kit(league, site.name)) for site in league.sites}
    assert books == {site.name: [1, 2] for site in league.sites}


def _book(kit: Path) -> list[int]:
    """Rounds of the debits in a site's ledger, in their order."""
    (path,) = kit.glob("private/out/**/ledger.jsonl")
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [entry["facts"]["asked"]["round"] for entry in entries if "asked" in entry["facts"]]


def test_a_hung_site_costs_a_round_and_comes_back(tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=4, settings={"rounds.deadline_s": 45.0})
    victim = league.sites[1].name
    with _up(league) as order:
        wait_until("the first round", lambda: rounds_done(league) >= 1)
        pids = below(league.children[victim])
        for pid in (pids["worker"], pids["node"]):
            kill(pid, signal.SIGSTOP)
        wait_until("a round without it", lambda: any(out for out in _out(league)))
        for pid in (pids["worker"], pids["node"]):
            kill(pid, signal.SIGCONT)
        await_model(league.kit, order, lambda: None)
    out = _out(league)
    assert rounds_done(league) == 4
    assert {site for each in out for site, _ in each} == {victim}
    assert all(reason for each in out for _, reason in each)
    assert not out[0]


def test_a_site_that_is_killed_whole_and_started_again_catches_up(tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=5, settings={"rounds.deadline_s": 45.0})
    site = league.sites[2]
    with _up(league) as order:
        wait_until("the first round", lambda: rounds_done(league) >= 1)
        league.children[site.name].process.kill()
        league.children[site.name].process.wait()
        wait_until("its processes to end with it", lambda: not below(league.children[site.name]), seconds=20)
        wait_until("a round without it", lambda: any(out for out in _out(league)))
        league.start_site(site)
        await_model(league.kit, order, lambda: None)
    out = _out(league)
    assert rounds_done(league) == 5
    assert {name for each in out for name, _ in each} == {site.name}
    assert out[-1] == []


def test_a_site_set_back_to_yesterday_is_given_what_it_missed(tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=4)
    wanted = simulated(league, tmp_path / "simulated")
    site = league.sites[0]
    with _up(league) as order:
        _set_back(league, site, tmp_path / "backup")
        await_model(league.kit, order, lambda: None)
    out = _out(league)
    # The round under way may have asked the site before it was back: then it misses that one, and no other.
    assert out[0] == out[1] == out[3] == []
    assert {name for name, _ in out[2]} <= {site.name}
    assert out[2] or released(league) == wanted


def test_a_private_site_set_back_to_yesterday_refuses_to_forget_what_it_told(tmp_path: Path) -> None:
    league = new_league(tmp_path / "league", rounds=4, settings={**PRIVATE, "rounds.deadline_s": 60.0})
    site = league.sites[0]
    with _up(league) as order:
        _set_back(league, site, tmp_path / "backup")
        await_model(league.kit, order, lambda: None)
    out = _out(league)
    assert out[0] == out[1] == []
    reasons = {reason for each in out[2:] for _, reason in each}
    assert {name for each in out[2:] for name, _ in each} == {site.name}
    assert any("ledger" in reason for reason in reasons), reasons
    log = (_kit(league, site.name) / "logs" / "worker.log").read_text(encoding="utf-8")
    assert "Next:" in next(line for line in log.splitlines() if "PrivacyError" in line or "ledger" in line)


def _set_back(league: LocalLeague, site: SiteEntry, backup: Path) -> None:
    """Copy a site's private folder after the first round, and put the copy back after the second."""
    private = _kit(league, site.name) / "private" / "out"
    wait_until("the first round", lambda: rounds_done(league) >= 1)
    shutil.copytree(private, backup)
    wait_until("the second round", lambda: rounds_done(league) >= 2)
    league.children[site.name].process.send_signal(signal.SIGTERM)
    assert league.children[site.name].process.wait(timeout=60) == 0
    shutil.rmtree(private)
    shutil.copytree(backup, private)
    assert is_under_way(Post(league.kit))
    league.start_site(site)


def test_a_site_without_room_is_left_out_with_the_reason_and_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_mount(tmp_path):
        pytest.skip("this machine lets nobody mount a disk of their own")
    league = new_league(tmp_path / "league", rounds=4)
    victim = league.sites[1]

    def start(site: SiteEntry) -> None:
        league.start_site(site)

    with _up(league, start) as order:
        wait_until("the first round", lambda: rounds_done(league) >= 1)
        league.children[victim.name].process.send_signal(signal.SIGTERM)
        league.children[victim.name].process.wait(timeout=60)
        private = _kit(league, victim.name) / "private" / "out"
        kept = tmp_path / "kept"
        shutil.copytree(private, kept)
        command = [*little_room(private, "6m"), "sh", "-c", f'cp -a {kept}/. {private}/ && exec "$0" "$@"']
        kit = _kit(league, victim.name)
        arguments = ["-m", "clients.supernode.supervisor", str(kit), "--site", victim.folder]
        league.children[victim.name] = start_within(command, arguments, kit / "logs" / "site.log")
        root = Path(f"/proc/{league.children[victim.name].process.pid}/root")
        there = root / private.relative_to("/")
        wait_until("its disk", lambda: is_small(there) and (there / "private").exists(), seconds=60)
        filler = there / "filler"
        fill(filler)
        wait_until("a round without it", lambda: any(out for out in _out(league)))
        filler.unlink()
        await_model(league.kit, order, lambda: None)
    reasons = {reason for out in _out(league) for _, reason in out}
    assert {name for out in _out(league) for name, _ in out} == {victim.name}
    assert any("the disk of the site is full" in reason for reason in reasons), reasons
    assert rounds_done(league) == 4
