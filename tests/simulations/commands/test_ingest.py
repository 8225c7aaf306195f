# ruff: noqa: E501 - a table of facts is read in one piece
"""`hansa ingest` with the real vault: sealed, read back, unchanged the second time, and no canary on the disk."""

from __future__ import annotations

import io
import json
import shutil
import struct
import tempfile
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from clients.ingest.into_vault.ingest import read_vault
from clients.trainer import open_site
from clients.vault import PassphraseSource, Vault, unlock
from common.settings.load import load_config
from simulations.cli import main

CANARIES = (
    "Canaria Vogelsang",
    "canaria.v@example.org",
    "13912345678",
    "11010519491231002X",
    "CANARYPLACE",
    "canary-user-77",
    "canary-review-8",
    "canary-session-9",
)
PLACE = (52.0, 31.0, 12.75)


def _shop(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "site.toml").write_text('name = "shop"\n')
    exif = Image.Exif()
    exif[0x010E] = CANARIES[4]
    exif.get_ifd(0x8825)[1], exif.get_ifd(0x8825)[2] = "N", PLACE
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


def _raw_place() -> bytes:
    """The degrees of the photo's place as EXIF stores them."""
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif.get_ifd(0x8825)[2] = PLACE
    Image.new("RGB", (8, 8)).save(buffer, "JPEG", exif=exif)
    seconds = Image.open(io.BytesIO(buffer.getvalue())).getexif().get_ifd(0x8825)[2][2]
    found = struct.pack(">II", seconds.numerator, seconds.denominator)
    return found if found in buffer.getvalue() else struct.pack("<II", seconds.numerator, seconds.denominator)


def _planted(folder: Path) -> Path:
    """A shop with a canary in each place where one could hide, faulty rows included."""
    shop = _shop(folder)
    name, mail, phone, card, _, user, review, session = CANARIES
    for number in range(4):
        shutil.copy(shop / "images" / "p.jpg", shop / "images" / f"p{number}.jpg")
    (shop / "images" / "broken.jpg").write_bytes((shop / "images" / "p.jpg").read_bytes()[:700])
    products = [{"item_id": f"i{n}", "title": f"Bag {n}", "description": f"call {phone}", "image": f"p{n}.jpg"}
                for n in range(4)] + [{"item_id": "b", "title": "Box", "description": "", "image": "broken.jpg"}]  # fmt: skip
    pl.DataFrame(products).write_csv(shop / "products.csv")
    text = f"My name is {name}, {mail}, 电话{phone}，身份证{card}"
    rows = [{"review_id": f"{review}{n}", "user_id": user if n % 2 else mail, "item_id": f"i{n % 4}", "rating": 1 + n % 5,
             "text": text, "created_at": f"2026-05-{n + 1:02}"} for n in range(20)]  # fmt: skip
    # Rows that ingest refuses: their values must not turn up in what it says.
    rows += [
        rows[0] | {"review_id": f"{review}x", "rating": 77},
        rows[0] | {"item_id": f"unknown {mail}", "review_id": "y"},
    ]
    pl.DataFrame(rows).write_csv(shop / "reviews.csv")
    events = [{"user_id": user if n % 3 else f"{user}-{n}", "item_id": f"i{n % 4}", "event": "view", "at": f"2026-05-{n % 28 + 1:02}T10:00:00Z",
               "session_id": f"{session}-{n // 4}", "query": f"gift for {phone}"} for n in range(60)]  # fmt: skip
    pl.DataFrame([*events, events[0] | {"event": mail, "query": phone}]).write_csv(shop / "events.csv")
    return shop


def _found(*places: Path) -> list[str]:
    hits = []
    wanted = [canary.encode() for canary in CANARIES] + [_raw_place()]
    for place in places:
        for file in place.rglob("*"):
            data = file.read_bytes() if file.is_file() else b""
            hits += [
                f"{file}: {canary!r}" for canary in wanted if canary in data or canary in str(file).encode()
            ]
    return hits


@pytest.mark.slow
def test_no_canary_is_left_by_ingest_quality_and_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, variable in (("temp", "TMPDIR"), ("cache", "HANSA_CACHE"), ("home", "HOME")):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    shop, vault, word = _planted(tmp_path / "shop"), tmp_path / "vault", tmp_path / "word"
    assert len(_found(shop)) > 20, "the canaries are planted"
    assert _raw_place() in (shop / "images" / "p.jpg").read_bytes()
    word.write_text("a long enough passphrase for a test\n")
    word.chmod(0o600)
    source = f"file:{word}"
    assert main(["vault", "init", str(vault), "--passphrase", source]) == 0
    capfd.readouterr()
    ingest = ["ingest", str(shop), "--vault", str(vault), "--passphrase", source]
    assert main([*ingest, "--format", "json"]) == 0
    report = json.loads((said := capfd.readouterr()).out)
    assert report["pictures_refused"] == 1
    assert report["complaints"] >= 3
    heard = said.out + said.err
    # A refusal of the whole site names rows and columns.
    (shop / "site.toml").write_text('name = "shop"\n[policy]\non_bad_rows = "fail"\n')
    assert main([*ingest, "--format", "json"]) == 3
    refused = capfd.readouterr()
    (shop / "site.toml").write_text('name = "shop"\n')
    sealed = tmp_path / "sealed"
    sealed.mkdir()
    (sealed / "site.toml").write_text(
        'name = "shop"\n[vault]\npath = "../vault"\nkey = "../vault/keys/trainer.key"\npassphrase = "file:../word"\n'
    )
    assert main(["quality", str(sealed), "--out", str(tmp_path / "report"), "--alignment"]) in (0, 1)
    site = open_site(sealed, load_config({"rounds": {"count": 1}, "model": {"frozen_image_size": 32}}))
    site.train(site.initial(), 1)
    assert main(["vault", "verify", str(vault), "--passphrase", source]) == 0
    key = unlock(vault / "keys" / "owner.key", PassphraseSource.parse(source))
    with Vault.open(vault, key) as opened:
        assert opened.names("features"), "training has left its features in the vault"
        for kind in ("products", "reviews", "events", "images", "features"):
            for name in opened.names(kind):
                target = tmp_path / "opened" / kind / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(opened.read(kind, name))
        data = read_vault(opened)
        tables = "".join(frame.write_csv() for frame in (data.products, data.reviews, data.events))
    heard += "".join(capfd.readouterr()) + tables
    places = ["temp", "cache", "home", "vault", "report", "sealed", "opened"]
    assert _found(*(tmp_path / place for place in places)) == []
    assert [canary for canary in CANARIES if canary in heard] == []
    assert [canary for canary in CANARIES if canary in refused.out + refused.err] == []
