"""A person leaves a sealed site by the shop's own id, with the pictures that only they put up, and stays away."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from clients.anonymise import Pseudonyms
from clients.ingest.into_vault.forget import forget, pseudonym_of
from clients.ingest.into_vault.ingest import KEY, ingest_site, read_vault
from clients.ingest.into_vault.packs import ERASED_PICTURE
from clients.vault import RoleKey, Vault
from clients.vault.admin import verify_vault
from clients.vault.erase import erase_user, read_receipt, rows_eraser
from common.crypto.keys import lock
from common.errors import InputError
from simulations.cli import main

ASKED = "顾客 u/1"
PHRASE = b"correct horse battery"


@pytest.fixture(scope="module")
def owner() -> RoleKey:
    return RoleKey.generate("owner")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "images").mkdir(parents=True)
    (folder / "site.toml").write_text('name = "shop"\n')
    for number, name in enumerate(("product", "mine", "both", "theirs")):
        Image.effect_noise((40, 40), 20 * number).save(folder / "images" / f"{name}.jpg")
    pl.DataFrame({"item_id": ["i", "j"], "image": ["product.jpg", None]}).write_csv(folder / "products.csv")
    rows = [
        (ASKED, "mine.jpg"),
        (ASKED, "both.jpg"),
        ("u2", "both.jpg"),
        ("u2", "theirs.jpg"),
        (ASKED, "product.jpg"),
    ]
    pl.DataFrame(
        {
            "review_id": [f"r{n}" for n in range(len(rows))],
            "user_id": [user for user, _ in rows],
            "item_id": ["i"] * len(rows),
            "text": ["fine"] * len(rows),
            "image": [image for _, image in rows],
        }
    ).write_csv(folder / "reviews.csv")
    (folder / "events.csv").write_text(
        f"user_id,item_id,event,at\n{ASKED},i,view,2026-03-01\nu2,i,view,2026-03-01\n"
    )
    return folder


@pytest.fixture
def vault(tmp_path: Path, shop: Path, owner: RoleKey) -> Iterator[Vault]:
    with Vault.create(tmp_path / "vault", owner) as made:
        ingest_site(shop, made)
        yield made


def _pictures(vault: Vault) -> set[str]:
    """Which of the shop's pictures the vault still holds."""
    names = Pseudonyms(vault.read(*KEY))
    known = {names.of(f"{name}.jpg", "image"): name for name in ("product", "mine", "both", "theirs")}
    return {known[name] for name in read_vault(vault).images.names()}


def test_a_person_goes_with_their_own_pictures_and_stays_away(vault: Vault, shop: Path) -> None:
    assert _pictures(vault) == {"product", "mine", "both", "theirs"}
    receipt = read_receipt(forget(vault, pseudonym_of(vault, f" {ASKED}\n")), vault.key.signing.public_key())
    assert receipt.rows == {"events": 1, "images": 1, "logs": 0, "reviews": 3}
    assert _pictures(vault) == {"product", "both", "theirs"}
    assert verify_vault(vault).ok
    told = ingest_site(shop, vault)
    assert (told.rows["reviews"], told.rows["events"], told.unchanged) == (2, 1, False), (
        "it counts who is left"
    )
    assert ingest_site(shop, vault).unchanged
    (shop / "site.toml").write_text('name = "shop"\n# looked at again\n')
    Image.new("RGB", (30, 30), "teal").save(shop / "images" / "theirs.jpg")
    report = ingest_site(shop, vault)
    assert (report.rows["reviews"], report.rows["events"]) == (2, 1)
    assert _pictures(vault) == {"product", "both", "theirs"}


def test_a_killed_erasure_is_finished_by_the_next_one(vault: Vault) -> None:
    person = pseudonym_of(vault, ASKED)
    picture = Pseudonyms(vault.read(*KEY)).of("mine.jpg", "image")
    # As if it had been killed after the reviews, which tell whose picture it was.
    vault.write("logs", ERASED_PICTURE + picture, b"")
    erase_user(vault, person, {"reviews": rows_eraser()})
    forget(vault, person)
    assert "mine" not in _pictures(vault)


def test_an_empty_vault_knows_nobody(tmp_path: Path, owner: RoleKey) -> None:
    with (
        Vault.create(tmp_path / "empty", owner) as empty,
        pytest.raises(InputError, match="no key for pseudonyms"),
    ):
        pseudonym_of(empty, ASKED)


def test_the_command_takes_the_id_of_the_shop(
    vault: Vault, tmp_path: Path, owner: RoleKey, capfd: pytest.CaptureFixture[str]
) -> None:
    word, who = tmp_path / "word", tmp_path / "who"
    word.touch(mode=0o600)
    word.write_bytes(PHRASE)
    lock(vault.folder / "keys" / "owner.key", owner, PHRASE)
    who.write_text(f"{ASKED}\n", encoding="utf-8")
    command = ["vault", "erase-user", str(vault.folder), "--who", str(who), "--passphrase", f"file:{word}"]
    assert main([*command, "--format", "json"]) == 0
    said = capfd.readouterr()
    found = json.loads(said.out)
    assert (found["removed_reviews"], found["removed_events"], found["removed_images"]) == (3, 1, 1)
    assert ASKED not in said.out + said.err
    assert main([*command, "--format", "json"]) == 0
    assert "Nothing of that person" in capfd.readouterr().err
