"""A site is read through its vault where `site.toml` names one, and its features are sealed there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from clients.data.source import open_house
from clients.trainer import open_site
from clients.vault import PassphraseSource, Vault, unlock
from clients.vault.erase import erase_user
from common.errors import ConfigError, HansaError
from common.settings.load import load_config
from simulations.bazaar import BazaarConfig, write_league
from simulations.cli import main

CONFIG = load_config({"rounds": {"count": 1}, "model": {"frozen_image_size": 32}})


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bazaar's merchant whose tables lie in a vault and nowhere else."""
    root = tmp_path_factory.mktemp("house")
    raw = write_league(
        root / "raw", BazaarConfig(n_sites=1, held_out=0, users_per_site=12, items_per_site=20)
    )[0]
    (root / "word").write_text("a passphrase for a test\n")
    (root / "word").chmod(0o600)
    source = f"file:{root / 'word'}"
    assert main(["vault", "init", str(root / "vault"), "--passphrase", source]) == 0
    assert main(["ingest", str(raw), "--vault", str(root / "vault"), "--passphrase", source, "--quiet"]) == 0
    site = root / "league" / "shop"
    site.mkdir(parents=True)
    (site / "site.toml").write_text(
        'name = "shop"\n[vault]\npath = "../../vault"\nkey = "../../vault/keys/trainer.key"\n'
        'passphrase = "file:../../word"\n'
    )
    return site


def test_training_reads_the_vault_and_seals_its_features_there(
    sealed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path / "cache"))
    first = open_site(sealed, CONFIG)
    result = first.train(first.initial(), 1)
    assert np.isfinite(result.update).all()
    assert np.abs(result.update).max() > 0
    assert not list((tmp_path / "cache").rglob("*.safetensors")), "features of reviews lie in the clear"
    again = open_site(sealed, CONFIG)
    assert again.train(again.initial(), 1).update.tobytes() == result.update.tobytes()


def test_features_are_read_back_from_the_vault(sealed: Path) -> None:
    with open_house(sealed) as house:
        cache, calls = house.features("probe"), []

        def encode(at: list[int]) -> np.ndarray:
            calls.append(at)
            return np.ones((len(at), 3), np.float16)

        cache.get([b"k" * 16], encode)
    with open_house(sealed) as house:
        assert house.features("probe").get([b"k" * 16], encode).tolist() == [[1, 1, 1]]
    assert calls == [[0]]


def test_the_users_of_a_sealed_site_are_pseudonyms(sealed: Path) -> None:
    with open_house(sealed) as house:
        users = set(house.data.events["user_id"]) | set(house.data.reviews["user_id"])
    assert users
    assert not any("-u" in user for user in users)


def test_a_role_that_may_not_read_events_cannot_train(sealed: Path, tmp_path: Path) -> None:
    site = tmp_path / "shop"
    site.mkdir()
    base = sealed.parent.parent
    (site / "site.toml").write_text(
        f'name = "shop"\n[vault]\npath = "{base}/vault"\nkey = "{base}/vault/keys/analyst.key"\n'
        f'passphrase = "file:{base}/word"\n'
    )
    with pytest.raises(HansaError):
        open_house(site)


def test_a_vault_without_a_named_key_says_what_is_missing(sealed: Path, tmp_path: Path) -> None:
    shutil.copytree(sealed, tmp_path / "shop")
    (tmp_path / "shop" / "site.toml").write_text('name = "shop"\n[vault]\npath = "../vault"\n')
    with pytest.raises(ConfigError, match="key or passphrase isn't named"):
        open_house(tmp_path / "shop")


def test_an_opening_is_on_record(sealed: Path) -> None:
    base = sealed.parent.parent
    log = base / "vault" / "audit.jsonl"
    before = log.read_text().count("\n")
    open_house(sealed).close()
    assert log.read_text().count("\n") > before
    key = unlock(base / "vault" / "keys" / "owner.key", PassphraseSource.parse(f"file:{base / 'word'}"))
    Vault.open(base / "vault", key).close()


def test_an_erased_person_leaves_the_features_and_does_not_come_back(sealed: Path, tmp_path: Path) -> None:
    base = sealed.parent.parent
    with open_house(sealed) as house:
        person = str(house.data.events["user_id"][0])
        house.features("probe").get([b"e" * 16], lambda at: np.ones((len(at), 2), np.float16))
    key = unlock(base / "vault" / "keys" / "owner.key", PassphraseSource.parse(f"file:{base / 'word'}"))
    with Vault.open(base / "vault", key) as vault:
        receipt = erase_user(vault, person)
        assert person not in receipt.read_text()
        assert not vault.names("features")
    raw = next((base / "raw").glob("*/site.toml")).parent
    with (raw / "site.toml").open("a") as file:
        file.write("\n# looked at again\n")
    source = f"file:{base / 'word'}"
    assert main(["ingest", str(raw), "--vault", str(base / "vault"), "--passphrase", source, "--quiet"]) == 0
    with open_house(sealed) as house:
        assert person not in set(house.data.events["user_id"]) | set(house.data.reviews["user_id"])
        assert house.data.events.height
