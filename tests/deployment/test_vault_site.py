"""A deployed site whose data lie in a vault and nowhere else: it trains, and what it reads is on record."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from clients.vault import PassphraseSource, Vault, unlock
from clients.vault.admin import verify_vault
from common.files import read_lines
from common.storage.run_folder import SiteEntry
from server.superlink.commands import await_model, order_run
from simulations.cli import main
from tests.deployment.support.leagues import below as processes_of
from tests.deployment.support.leagues import kill, new_league, released, simulated, wait_until
from tests.deployment.support.secrets_of import CANARY_TEXT, CANARY_USER, files_below, plant

pytestmark = pytest.mark.slow


def _seal(site: SiteEntry, vault: Path) -> PassphraseSource:
    """Put a site's folder into a new vault, and leave nothing in its place but a `site.toml` that names it."""
    folder, word = Path(site.folder), vault.with_name("trainer.pass")
    word.write_text("a passphrase for a test\n")
    word.chmod(0o600)
    source = f"file:{word}"
    assert main(["vault", "init", str(vault), "--passphrase", source]) == 0
    assert main(["ingest", str(folder), "--vault", str(vault), "--passphrase", source, "--quiet"]) == 0
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "site.toml").write_text(
        f'name = "{site.name}"\n[vault]\npath = "{vault}"\nkey = "{vault}/keys/trainer.key"\n'
        f'passphrase = "{source}"\n'
    )
    return PassphraseSource.parse(source)


def _openings(vault: Path) -> int:
    lines = (vault / "audit.jsonl").read_text(encoding="utf-8").splitlines()
    return sum("trainer" in line for line in lines)


def test_a_site_with_a_vault_trains_across_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its model is the simulation's; the worker killed in mid-run opens the vault anew; nothing lies in clear."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("HANSA_CACHE", str(cache))
    league = new_league(tmp_path / "league", rounds=3)
    site, vault = league.sites[0], tmp_path / "house" / "vault"
    vault.parent.mkdir()
    plant(Path(site.folder))
    source = _seal(site, vault)
    wanted, before = simulated(league, tmp_path / "simulated"), _openings(vault)
    try:
        league.start()
        order = order_run(league.kit)
        wait_until("the first round", lambda: read_lines(league.run.rounds_file))
        assert kill(processes_of(league.children[site.name])["worker"])
        await_model(league.kit, order, lambda: None)
    finally:
        forced = league.stop()
    assert forced == []
    assert [len(line["sites"]) for line in read_lines(league.run.rounds_file)] == [3, 3, 3]
    assert released(league) == wanted
    assert _openings(vault) >= before + 2, "the vault's log doesn't tell of the trainer"
    with Vault.open(vault, unlock(vault / "keys" / "owner.key", source)) as store:
        assert verify_vault(store).ok
        assert store.names("features")
    for path, data in files_below(league.kits, vault, cache):
        assert not [word for word in (CANARY_TEXT, CANARY_USER) if word.encode() in data], path


def test_a_vault_that_cant_be_opened_leaves_the_site_out(tmp_path: Path) -> None:
    """The league goes on; the site's own log says why, and the coordinator hears no path and no passphrase."""
    league = new_league(tmp_path / "league", rounds=2, settings={"rounds.deadline_s": 60.0})
    site, vault = league.sites[0], tmp_path / "house" / "vault"
    vault.parent.mkdir()
    _seal(site, vault)
    (vault.parent / "trainer.pass").write_text("another passphrase\n")
    try:
        league.start()
        await_model(league.kit, order_run(league.kit), lambda: None)
    finally:
        league.stop()
    assert [sorted(line["sites"]) for line in read_lines(league.run.rounds_file)] == [
        sorted(each.name for each in league.sites[1:])
    ] * 2
    log = (league.kits / "sites" / site.name / "logs" / "worker.log").read_text(encoding="utf-8")
    assert "passphrase" in log
    for path, data in files_below(league.kit):
        assert str(vault).encode() not in data, path
        assert b"another passphrase" not in data, path
