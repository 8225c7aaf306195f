"""Whose pictures go with a person: those that nobody else shows, and a reviewer without a name is somebody too."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
import pytest

from clients.ingest.into_vault.forget import forget
from clients.ingest.into_vault.packs import ERASED_PICTURE, pack, unpack
from clients.vault import RoleKey, Vault
from clients.vault.erase import read_receipt

ME, OTHER = "0123456789abcdef0123", "fedcba98765432100123"
PICTURES = ("mine", "anonymous", "shared", "theirs", "product", "nobodys")


@pytest.fixture(scope="module")
def owner() -> RoleKey:
    return RoleKey.generate("owner")


@pytest.fixture
def vault(tmp_path: Path, owner: RoleKey) -> Iterator[Vault]:
    with Vault.create(tmp_path / "vault", owner) as made:
        yield made


def _reviews(rows: Sequence[tuple[str | None, str | None]]) -> bytes:
    out = io.BytesIO()
    schema = {"user_id": pl.String, "image": pl.String}
    frame = pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        pl.int_range(pl.len()).cast(pl.String).alias("review_id"), pl.lit("i").alias("item_id")
    )
    frame.write_parquet(out)
    return out.getvalue()


def _products(images: Sequence[str | None]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(
        {"item_id": [str(n) for n in range(len(images))], "image": images},
        schema={"item_id": pl.String, "image": pl.String},
    ).write_parquet(out)
    return out.getvalue()


def _fill(vault: Vault, *parts: Sequence[tuple[str | None, str | None]]) -> None:
    for number, rows in enumerate(parts):
        vault.write("reviews", f"part-{number}", _reviews(rows))
    vault.write("reviews", "notes", b"no table at all")
    vault.write("products", "part-0", _products(["product", None]))
    vault.write("images", "pack-0", pack({name: name.encode() for name in PICTURES[:3]}))
    vault.write("images", "pack-1", pack({name: name.encode() for name in PICTURES[3:]}))


def _left(vault: Vault) -> dict[str, bytes]:
    return {
        picture: bytes(data)
        for name in vault.names("images")
        for picture, data in unpack(vault.read("images", name)).items()
    }


ROWS = [
    (ME, "mine"), (ME, "mine"), (ME, None), (ME, "anonymous"), (None, "anonymous"), (ME, "shared"), (OTHER, "shared"),
    (OTHER, "theirs"), (ME, "product"), (None, None),
]  # fmt: skip


@pytest.mark.parametrize("cut", [len(ROWS), 4])
def test_only_pictures_that_nobody_else_shows_go(cut: int, vault: Vault, owner: RoleKey) -> None:
    """The picture of an anonymous review stays, also where that review stands in another part of the table."""
    _fill(vault, ROWS[:cut], ROWS[cut:])
    receipt = read_receipt(forget(vault, ME), owner.signing.public_key())
    assert _left(vault) == {name: name.encode() for name in PICTURES if name != "mine"}
    assert receipt.rows == {"images": 1, "logs": 0, "reviews": 6}
    assert (receipt.objects_rewritten["images"], receipt.objects_deleted["images"]) == (1, 0)
    reviews = pl.concat(
        pl.read_parquet(io.BytesIO(vault.read("reviews", f"part-{number}"))) for number in (0, 1)
    )
    assert sorted(reviews.select("user_id", "image").rows(), key=str) == sorted(
        [(None, "anonymous"), (OTHER, "shared"), (OTHER, "theirs"), (None, None)], key=str
    )
    assert vault.read("reviews", "notes") == b"no table at all"
    assert [name for name in vault.names("logs") if name.startswith(ERASED_PICTURE)] == [
        ERASED_PICTURE + "mine"
    ]


def test_a_person_without_pictures_takes_none_along(vault: Vault, owner: RoleKey) -> None:
    _fill(vault, [(ME, None), (OTHER, "theirs"), (None, "anonymous")])
    receipt = read_receipt(forget(vault, ME), owner.signing.public_key())
    assert sorted(_left(vault)) == sorted(PICTURES)
    assert receipt.rows == {"images": 0, "reviews": 1}


def test_anonymous_reviewers_take_nothing_from_each_other(vault: Vault, owner: RoleKey) -> None:
    _fill(vault, [(None, "anonymous"), (None, "nobodys"), (OTHER, "anonymous")])
    forget(vault, OTHER)
    assert sorted(_left(vault)) == sorted(PICTURES)
