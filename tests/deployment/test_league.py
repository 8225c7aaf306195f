"""A whole league as separate processes: it releases the simulation's model, and keeps every secret where it belongs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load

from common.files import read_lines
from common.storage.run_folder import read_sites
from server.superlink.commands import await_model, order_run
from server.superlink.control import make_bundle
from simulations.deployment.local import LocalLeague
from tests.deployment.support.leagues import FAST, new_league, released, rounds_done, simulated, wait_until
from tests.deployment.support.secrets_of import (
    CANARY_TEXT,
    CANARY_USER,
    files_below,
    keys_of,
    league_key,
    memory_of,
    model_windows,
    plant,
    processes_below,
    told_by,
)

pytestmark = pytest.mark.slow
_LONGEST_S = 900


def _hansa(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "simulations.cli", *arguments], capture_output=True, text=True, timeout=_LONGEST_S,
        check=False,
    )  # fmt: skip


def test_one_command_releases_the_simulations_model(tmp_path: Path) -> None:
    """Without noise, bit for bit: same seeds, same cohort, separate processes under mutual TLS."""
    folder = tmp_path / "league"
    settings = [f"--set={key}={json.dumps(value)}" for key, value in FAST.items()]
    done = _hansa("league", "local", "--sites", "3", "--rounds", "3", "--folder", str(folder), "--format", "json",
                  *settings)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)
    assert told["rounds"] == 3
    assert told["protection"] == "he+masked"
    assert told["forced"] == []
    ours = (Path(told["release"]) / "model.safetensors").read_bytes()
    league = LocalLeague(folder, read_sites(folder / "league.json"))
    assert [len(line["sites"]) for line in read_lines(league.run.rounds_file)] == [3, 3, 3]
    assert ours == simulated(league, tmp_path / "simulation")
    assert all(np.isfinite(part).all() for part in load(ours).values())


def test_without_a_model_the_command_fails(tmp_path: Path) -> None:
    done = _hansa("league", "local", "--sites", "3", "--rounds", "1", "--folder", str(tmp_path / "league"),
                  "--format", "json", "--set=rounds.deadline_s=0.5")  # fmt: skip
    failure = json.loads(done.stdout)
    assert done.returncode == failure["exit_code"]
    assert failure["exit_code"] in (5, 6)  # too few answers in time, or none could even be asked
    assert failure["next_step"]
    assert not list((tmp_path / "league").rglob("model.safetensors"))


@pytest.fixture(scope="module")
def private_league(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three rounds of `he+masked` with differential privacy, looked at while they run and when they have ended."""
    folder = tmp_path_factory.mktemp("private")
    private = {"privacy.mode": "user", "privacy.epsilon": 8.0, "privacy.expected_users": 20}
    league = new_league(folder / "league", rounds=3, settings=private)
    for site in league.sites:
        plant(Path(site.folder))
    seen = SimpleNamespace(league=league, told=b"", windows={}, in_memory=[])
    try:
        league.start()
        order = order_run(league.kit)
        wait_until("the first round", lambda: rounds_done(league) >= 1, seconds=_LONGEST_S)
        kits = [league.kits / "sites" / site.name for site in league.sites]
        model = kits[0] / "private" / "out" / "private" / "model" / "round-0001.safetensors"
        seen.windows, seen.model = model_windows(model), model.read_bytes()
        assert league.coordinator is not None
        roots = [league.coordinator.process.pid, *(child.process.pid for child in league.children.values())]
        seen.told = b"".join(told_by(process) for process in processes_below(*roots))
        for process in processes_below(league.coordinator.process.pid):
            for part in memory_of(process):
                seen.in_memory += [process.name() for window in seen.windows if window in part]
                seen.in_memory += [
                    f"{process.name()}: key" for kit in kits if league_key(kit / "private" / "out") in part
                ]
        await_model(league.kit, order, lambda: None)
    finally:
        seen.forced = league.stop()
    return seen


def test_three_private_rounds_release_a_model(private_league: SimpleNamespace) -> None:
    league: LocalLeague = private_league.league
    assert private_league.forced == []
    lines = read_lines(league.run.rounds_file)
    assert [len(line["sites"]) for line in lines] == [3, 3, 3]
    assert all(np.isfinite(part).all() for part in load(released(league)).values())


def test_no_secret_in_arguments_or_environment(private_league: SimpleNamespace) -> None:
    league: LocalLeague = private_league.league
    assert b"clients.supernode.worker" in private_league.told
    assert b"server.superlink.proxy" in private_league.told
    for kit in (league.kit, *(league.kits / "sites").iterdir()):
        for name, secret in keys_of(kit / "private").items():
            assert secret not in private_league.told, (kit.name, name)


def test_the_coordinator_never_holds_the_model_before_its_release(private_league: SimpleNamespace) -> None:
    """Neither in memory in mid-run nor on its disk afterwards; the windows are of a round that wasn't released."""
    assert len(private_league.windows) >= 2
    assert private_league.in_memory == []
    assert not any(window in released(private_league.league) for window in private_league.windows)
    for path, data in files_below(private_league.league.kit):
        assert not any(window in data for window in private_league.windows), path


def test_no_secret_leaves_its_party(private_league: SimpleNamespace) -> None:
    """Keys and canaries of each site, looked for in all that others hold, in all logs, and in the bundle."""
    league: LocalLeague = private_league.league
    bundle = make_bundle({"run-dir": "x"})
    kits = {kit.name: kit for kit in (league.kits / "sites").iterdir()}
    coordinator = keys_of(league.kit / "private")
    for name, kit in kits.items():
        secrets = keys_of(kit / "private") | {"league key": league_key(kit / "private" / "out")}
        canaries = {"text": CANARY_TEXT.encode(), "user": CANARY_USER.encode()}
        others = [other for other in kits.values() if other != kit]
        league_wide = {"league key"}
        for path, data in files_below(league.kit):
            assert not [what for what, secret in (secrets | canaries).items() if secret in data], path
        for path, data in files_below(*others):
            assert not [what for what in secrets.keys() - league_wide if secrets[what] in data], path
        for path, data in files_below(kit / "logs"):
            assert not [
                what for what, secret in (secrets | canaries | coordinator).items() if secret in data
            ], path
        for path, data in files_below(kit):
            assert not [what for what, secret in coordinator.items() if secret in data], path
        assert not [what for what, secret in (secrets | coordinator).items() if secret in bundle], name
    for path, data in files_below(league.kit, but=("private/",)):
        assert not [what for what, secret in coordinator.items() if secret in data], path


def test_the_scan_finds_what_is_there(private_league: SimpleNamespace) -> None:
    """The scan isn't blind: what it looks for is found where it belongs."""
    league: LocalLeague = private_league.league
    kit = league.kits / "sites" / league.sites[0].name
    held = b"".join(data for _, data in files_below(kit / "private"))
    for what, secret in (
        keys_of(kit / "private") | {"league key": league_key(kit / "private" / "out")}
    ).items():
        if not what.endswith("raw"):
            assert secret in held, what
    assert all(window in private_league.model for window in private_league.windows)
