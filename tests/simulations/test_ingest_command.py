"""`hansa ingest` with the real vault: sealed, read back, unchanged the second time, and no canary on the disk."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from clients.ingest.sealed import read_vault
from clients.vault import PassphraseSource, Vault, unlock
from simulations.cli import main

CANARIES = (
    "Canaria Vogelsang",
    "canaria.v@example.org",
    "13912345678",
    "11010519491231002X",
    "CANARYPLACE",
    "canary-user-77",
)


def _shop(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "site.toml").write_text('name = "shop"\n')
    exif = Image.Exif()
    exif[0x010E] = CANARIES[4]
    Image.new("RGB", (300, 280), "teal").save(folder / "images" / "p.jpg", exif=exif)
    pl.DataFrame({"item_id": ["i"], "title": ["Bag"], "image": ["p.jpg"]}).write_csv(folder / "products.csv")
    text = f"My name is {CANARIES[0]}, {CANARIES[1]}, 电话{CANARIES[2]}，身份证{CANARIES[3]}"
    pl.DataFrame(
        {"review_id": ["r"], "user_id": [CANARIES[5]], "item_id": ["i"], "rating": [5], "text": [text]}
    ).write_csv(folder / "reviews.csv")
    return folder


def test_a_shop_goes_into_the_vault_and_leaves_no_trace(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temp"))
    shop, vault, word = _shop(tmp_path / "shop"), tmp_path / "vault", tmp_path / "word"
    word.write_text("a long enough passphrase for a test\n")
    word.chmod(0o600)
    source = f"file:{word}"
    assert main(["vault", "init", str(vault), "--passphrase", source]) == 0
    command = [
        "ingest",
        str(shop),
        "--vault",
        str(vault),
        "--passphrase",
        source,
        "--quiet",
        "--format",
        "json",
    ]
    capfd.readouterr()
    assert main(command) == 0
    first = json.loads((said := capfd.readouterr()).out)
    assert first["masked"] == {"name": 1, "email": 1, "phone": 1, "identity_card": 1}
    assert main(command) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["unchanged"]
    assert again["digest"] == first["digest"]
    for file in (*vault.rglob("*"), *(tmp_path / "temp").rglob("*")):
        if file.is_file():
            assert not any(canary.encode() in file.read_bytes() for canary in CANARIES), file.name
    assert not any(canary in said.out + said.err for canary in CANARIES)
    with Vault.open(vault, unlock(vault / "keys" / "trainer.key", PassphraseSource.parse(source))) as opened:
        data = read_vault(opened)
        assert data.reviews["text"][0] == "My name is [name], [email], 电话[phone],身份证[identity_card]"
        assert data.images.read(data.products["image"][0])[:2] == b"\xff\xd8"
