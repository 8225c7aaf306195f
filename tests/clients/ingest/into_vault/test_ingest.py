# ruff: noqa: E501 - a table of facts is read in one piece
"""Ingest: what is sealed can be trained on, holds nobody's name, and is the same however often one is interrupted."""

from __future__ import annotations

import io
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from clients.ingest import read_site
from clients.ingest.into_vault.ingest import ingest_site, read_vault
from clients.ingest.into_vault.packs import pack, unpack
from common.errors import InputError
from tests.clients.ingest.stores import FolderStore

CANARIES = (
    "Canaria Vogelsang",
    "canaria.v@example.org",
    "13912345678",
    "11010519491231002X",
    "CANARYPLACE",
    "canary-user-77",
)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "images").mkdir(parents=True)
    (folder / "site.toml").write_text(
        'name = "shop"\n[split]\nvalidation_from = 2026-05-01\ntest_from = 2026-05-10\ntest_until = 2026-05-20\n'
    )
    for number in range(12):
        _picture(folder / "images" / f"p{number}.jpg", number)
    pl.DataFrame({"item_id": [f"i{n}" for n in range(12)], "title": [f"<b>Bag {n}</b>" for n in range(12)],
                  "image": [f"p{n}.jpg" for n in range(12)]}).write_csv(folder / "products.csv")  # fmt: skip
    name, mail, phone, card, _, user = CANARIES
    texts = [f"My name is {name}, write to {mail}", f"电话{phone}，身份证{card}", "plain & good"]
    pl.DataFrame({"review_id": ["r1", "r2", "r3"], "user_id": [user, user, mail], "item_id": ["i1", "i2", "i3"],
                  "rating": [5, 1, 3], "text": texts, "created_at": ["2026-05-02"] * 3}).write_csv(folder / "reviews.csv")  # fmt: skip
    pl.DataFrame({"user_id": [user] * 4, "item_id": ["i1", "i1", "i2", None], "event": ["view", "view", "cart", "search"],
                  "at": ["2026-05-01T10:00:00Z"] * 2 + ["2026-05-01T10:05:00Z"] * 2, "query": [None, None, None, f"gift for {phone}"]}
                 ).write_csv(folder / "events.csv")  # fmt: skip
    return folder


def _picture(path: Path, number: int) -> None:
    exif = Image.Exif()
    exif[0x010E] = "CANARYPLACE"
    exif.get_ifd(0x8825)[1], exif.get_ifd(0x8825)[2] = "N", (52.0, 31.0, float(number))
    Image.new("RGB", (300, 280), (number * 20, 90, 200)).save(path, "JPEG", exif=exif, comment=b"CANARYPLACE")


def test_the_sealed_site_is_the_folder_cleaned(shop: Path, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "vault")
    report = ingest_site(shop, store)
    data, raw = read_vault(store), read_site(shop)
    assert data.products["item_id"].to_list() == raw.products["item_id"].to_list()
    assert data.products["title"][0] == "Bag 0"
    assert (data.name, data.split) == (raw.name, raw.split)
    assert report.repeats == 1
    assert data.events.height == raw.events.height - 1
    assert data.reviews["user_id"].n_unique() == 2
    assert set(data.events["user_id"]) <= set(data.reviews["user_id"])
    names = data.products["image"].to_list()
    assert None not in names
    assert Image.open(io.BytesIO(data.images.read(names[0]))).size == (274, 256)
    assert data.products.schema == raw.products.schema
    assert data.events.schema == raw.events.schema


def test_no_canary_is_found_anywhere(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    temp = tmp_path / "temp"
    temp.mkdir()
    monkeypatch.setenv("TMPDIR", str(temp))
    store = FolderStore(tmp_path / "vault")
    report = ingest_site(shop, store)
    shown = "".join(capfd.readouterr()) + repr(report)
    assert report.masked == {"name": 1, "email": 1, "phone": 2, "identity_card": 1}
    data = read_vault(store)
    tables = "".join(frame.write_csv() for frame in (data.products, data.reviews, data.events))
    pictures = b"".join(data.images.read(name) for name in data.images.names())
    files = b"".join(p.read_bytes() for p in (*temp.rglob("*"), *store.root.rglob("*")) if p.is_file())
    for canary in CANARIES:
        assert canary not in shown + tables
        assert canary.encode() not in pictures + files
    assert b"GPS" not in pictures
    assert b"Exif" not in pictures


def test_a_second_ingest_does_nothing_and_a_change_only_what_it_must(shop: Path, tmp_path: Path) -> None:
    store = FolderStore(tmp_path / "vault")
    ingest_site(shop, store)
    before, writes = store.content(), store.writes
    again = ingest_site(shop, store)
    assert again.unchanged
    assert store.writes == writes
    with (shop / "reviews.csv").open("a") as file:
        file.write("r4,u9,i4,4,new one,2026-05-03\n")
    changed = ingest_site(shop, store)
    assert not changed.unchanged
    assert changed.written == 1
    assert read_vault(store).reviews.height == 4
    assert {n: d for n, d in store.content().items() if "reviews" not in n} == {
        n: d for n, d in before.items() if "reviews" not in n
    }


def test_a_refused_picture_is_counted_and_its_name_cleared(shop: Path, tmp_path: Path) -> None:
    (shop / "images" / "p3.jpg").write_bytes(b"no picture")
    store = FolderStore(tmp_path / "vault")
    assert ingest_site(shop, store).pictures_refused == 1
    assert read_vault(store).products["image"].null_count() == 1


def test_an_empty_vault_is_no_site(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no site"):
        read_vault(FolderStore(tmp_path))


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=5), st.binary(max_size=20), max_size=4))
@settings(max_examples=150)
def test_packs_are_read_back_and_damage_is_one_error(junk: bytes, pictures: dict[str, bytes]) -> None:
    assert {name: bytes(data) for name, data in unpack(pack(pictures)).items()} == pictures
    for hostile in (junk, b"HPK1" + junk, pack(pictures)[: len(junk)]):
        try:
            unpack(hostile)
        except InputError:
            continue
