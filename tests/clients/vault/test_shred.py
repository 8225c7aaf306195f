"""Crypto-shredding: whoever still holds the file's bytes on the disk holds no wrapped key that opens them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clients.vault import RoleKey, Vault
from clients.vault.admin import revoke
from clients.vault.index import context
from clients.vault.store import shred
from common.crypto.envelope import EnvelopeError, open_sealed
from common.crypto.header import HEADER_BYTES


def _hold(vault: Vault, kind: str, aside: Path) -> dict[str, Path]:
    """Hard links to a kind's objects: what an undelete would find."""
    aside.mkdir(exist_ok=True)
    held = {}
    for path in (vault.folder / kind).glob("*.hve"):
        if path.name != "index.hve":
            held[path.name] = aside / path.name
            os.link(path, held[path.name])
    return held


def _is_shut(vault: Vault, role_keys: dict[str, RoleKey], kind: str, held: Path) -> None:
    data = held.read_bytes()
    assert data[:HEADER_BYTES] == bytes(HEADER_BYTES), "no byte of the wrapped keys is left"
    assert len(data) > HEADER_BYTES
    for key in role_keys.values():
        with (
            pytest.raises(EnvelopeError),
            open_sealed(held, key.encryption, context=context(vault.facts.id, kind, held.name)),
        ):
            pass


@pytest.mark.parametrize("size", [0, 1, 1000, 4095, 4096, 4097, 10_000])
def test_a_shredded_file_is_gone_and_its_header_zeroed_wherever_its_bytes_still_lie(
    size: int, tmp_path: Path
) -> None:
    path, held = tmp_path / "object.hve", tmp_path / "held"
    path.write_bytes(b"\xaa" * size)
    os.link(path, held)
    shred(path)
    assert not path.exists()
    assert held.read_bytes() == bytes(min(size, 4096)) + b"\xaa" * max(0, size - 4096)


def test_what_is_deleted_or_replaced_cannot_be_opened_again_by_any_role(
    vault: Vault, role_keys: dict[str, RoleKey], tmp_path: Path
) -> None:
    vault.write("reviews", "gone", b"one")
    vault.write("reviews", "replaced", b"two")
    vault.write("reviews", "kept", b"three")
    held = _hold(vault, "reviews", tmp_path / "held")
    before = set(held)
    vault.delete("reviews", "gone")
    vault.write("reviews", "replaced", b"four")
    now = {path.name for path in (vault.folder / "reviews").glob("*.hve")}
    assert len(before - now) == 2
    for name in before - now:
        _is_shut(vault, role_keys, "reviews", held[name])
    assert (vault.read("reviews", "replaced"), vault.read("reviews", "kept")) == (b"four", b"three")


def test_a_pack_that_lost_one_picture_is_shut_whole(
    vault: Vault, role_keys: dict[str, RoleKey], tmp_path: Path
) -> None:
    vault.write_many("images", [("a.jpg", b"a" * 50), ("b.jpg", b"b" * 50)])
    [held] = _hold(vault, "images", tmp_path / "held").values()
    vault.delete("images", "a.jpg")
    _is_shut(vault, role_keys, "images", held)
    assert (vault.names("images"), vault.read("images", "b.jpg")) == (["b.jpg"], b"b" * 50)


def test_a_revocation_and_a_killed_writers_rest_are_shut_too(
    vault: Vault, role_keys: dict[str, RoleKey], tmp_path: Path
) -> None:
    vault.write("reviews", "a", b"one")
    [held] = _hold(vault, "reviews", tmp_path / "held").values()
    rest = tmp_path / "rest"
    (vault.folder / "reviews" / "rest.hve").write_bytes(held.read_bytes())
    os.link(vault.folder / "reviews" / "rest.hve", rest)
    revoke(vault, "trainer", "reviews")
    _is_shut(vault, role_keys, "reviews", held)
    assert rest.read_bytes()[:HEADER_BYTES] == bytes(HEADER_BYTES)
    assert vault.read("reviews", "a") == b"one"
