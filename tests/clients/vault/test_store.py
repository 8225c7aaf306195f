"""What the vault promises: content comes back, nothing is readable on disk, and each forbidden cell fails by keys."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from clients.vault import DEFAULT_RIGHTS, KINDS, ROLES, RoleKey, Vault
from clients.vault.admin import export, grant, revoke, rotate
from clients.vault.erase import erase_user
from clients.vault.index import context
from clients.vault.roles import readers, rights_of, writers
from common.audit import AuditError, verify
from common.crypto.envelope import EnvelopeError, open_sealed, seal
from common.errors import ConfigError, InputError

CANARY = b"Mrs Canary of 7 Birdcage Walk"


def test_content_comes_back_under_its_name(vault: Vault) -> None:
    vault.write("reviews", "one", b"first")
    vault.write("reviews", "two", [b"sec", b"", b"ond"])
    vault.write("reviews", "one", b"replaced")
    assert vault.names("reviews") == ["one", "two"]
    assert vault.read("reviews", "one") == b"replaced"
    assert b"".join(vault.open_stream("reviews", "two")) == b"second"
    assert len(list((vault.folder / "reviews").iterdir())) == 3


def test_many_small_objects_share_packs_and_leave_no_rest_when_deleted(vault: Vault) -> None:
    items = {f"{number}.jpg": os.urandom(number % 977) for number in range(2000)}
    assert vault.write_many("images", items.items()) == 2000
    assert len(list((vault.folder / "images").iterdir())) == 2
    before = {path.name for path in (vault.folder / "images").iterdir()}
    vault.delete("images", "5.jpg", "1999.jpg")
    assert {path.name for path in (vault.folder / "images").iterdir()} & before == {"index.hve"}
    del items["5.jpg"], items["1999.jpg"]
    assert {name: vault.read("images", name) for name in vault.names("images")} == items
    with pytest.raises(InputError):
        vault.delete("images", "5.jpg")


def test_neither_names_nor_content_can_be_seen_on_disk(vault: Vault) -> None:
    vault.write("reviews", CANARY.decode(), CANARY)
    vault.read("reviews", CANARY.decode())
    for path in (path for path in vault.folder.rglob("*") if path.is_file()):
        assert CANARY not in path.read_bytes()
        assert CANARY.decode() not in str(path)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("role", ROLES)
def test_each_cell_of_the_matrix_holds_by_keys_alone(
    vault: Vault, role_keys: dict[str, RoleKey], role: str, kind: str
) -> None:
    vault.write(kind, "x", b"content")
    allowed = role == "owner" or kind in DEFAULT_RIGHTS[role]
    opened = 0
    # Only files and the role's private key: neither the vault's code nor its matrix is asked.
    for path in (vault.folder / kind).iterdir():
        try:
            with open_sealed(
                path, role_keys[role].encryption, context=context(vault.facts.id, kind, path.name)
            ) as sealed:
                assert b"content" in sealed.read() or path.name == "index.hve"
                opened += 1
        except EnvelopeError:
            pass
    assert opened == (2 if allowed else 0)


def test_an_index_signed_by_a_role_that_may_not_write_is_refused(
    vault: Vault, role_keys: dict[str, RoleKey]
) -> None:
    from clients.vault.index import Index, write_index

    vault.write("reviews", "x", b"content")
    write_index(vault.folder, vault.facts, "reviews", role_keys["trainer"], Index(9))
    with Vault.open(vault.folder, role_keys["owner"]) as again, pytest.raises(EnvelopeError):
        again.names("reviews")


def test_an_object_sealed_by_a_stranger_under_the_same_name_is_refused(vault: Vault) -> None:
    vault.write("reviews", "x", b"content")
    file = next(path for path in (vault.folder / "reviews").iterdir() if path.name != "index.hve")
    seal(
        file, b"CONTENT", recipients=vault.facts.recipients("reviews"),
        context=context(vault.facts.id, "reviews", file.name),
    )  # fmt: skip
    with pytest.raises(EnvelopeError):
        vault.read("reviews", "x")


def test_refusals_and_openings_stand_in_the_log(vault: Vault, role_keys: dict[str, RoleKey]) -> None:
    vault.write("reviews", "x", b"content")
    with Vault.open(vault.folder, role_keys["analyst"]) as seen, pytest.raises(EnvelopeError):
        seen.names("reviews")
    with Vault.open(vault.folder, role_keys["trainer"]) as seen, pytest.raises(EnvelopeError):
        seen.write("reviews", "y", b"forged")
    entries = verify(vault.folder / "audit.jsonl", vault.facts.log_signers())
    assert [(e.kind, e.facts["role"]) for e in entries if e.kind == "refused"] == [
        ("refused", "analyst"),
        ("refused", "trainer"),
    ]


def test_where_the_log_cannot_be_written_nothing_is_opened(
    vault: Vault, role_keys: dict[str, RoleKey]
) -> None:
    vault.write("reviews", "x", b"content")
    with Vault.open(vault.folder, role_keys["owner"]) as again:
        log = vault.folder / "audit.jsonl"
        log.rename(vault.folder / "moved")
        log.mkdir()
        with pytest.raises(AuditError):
            again.read("reviews", "x")


def test_each_object_is_on_record_before_it_is_opened(vault: Vault, role_keys: dict[str, RoleKey]) -> None:
    vault.write("reviews", "x", b"one")
    vault.write("reviews", "y", b"two")
    log = vault.folder / "audit.jsonl"
    with Vault.open(vault.folder, role_keys["trainer"]) as again:
        assert again.read("reviews", "x") == b"one"
        opened = [entry.facts for entry in verify(log, vault.facts.log_signers()) if entry.kind == "open"]
        assert opened[-1]["role"] == "trainer"
        assert (vault.folder / "reviews" / str(opened[-1]["object"])).exists()
        log.rename(vault.folder / "moved")
        log.mkdir()
        with pytest.raises(AuditError):
            again.read("reviews", "y")
    assert not again._open


@pytest.mark.parametrize("wish", ["read", "write", "delete", "grant", "revoke", "rotate", "export", "erase"])
def test_without_a_log_nothing_happens(
    vault: Vault, role_keys: dict[str, RoleKey], tmp_path: Path, wish: str
) -> None:
    vault.write("reviews", "x", b"content")
    before = {path: path.read_bytes() for path in vault.folder.rglob("*.hve")} | {
        vault.folder / "vault.json": (vault.folder / "vault.json").read_bytes()
    }
    wishes: dict[str, Callable[[Vault], object]] = {
        "read": lambda open_: open_.read("reviews", "x"),
        "write": lambda open_: open_.write("reviews", "x", b"new"),
        "delete": lambda open_: open_.delete("reviews", "x"),
        "grant": lambda open_: grant(open_, "analyst", "reviews"),
        "revoke": lambda open_: revoke(open_, "trainer", "reviews"),
        "rotate": lambda open_: rotate(open_, role_keys["trainer"].public()),
        "export": lambda open_: export(open_, "reviews", "x", tmp_path / "out"),
        "erase": lambda open_: erase_user(open_, "someone"),
    }
    with Vault.open(vault.folder, role_keys["owner"]) as again:
        (vault.folder / "audit.jsonl").rename(vault.folder / "moved")
        (vault.folder / "audit.jsonl").mkdir()
        with pytest.raises(AuditError):
            wishes[wish](again)
    assert {path: path.read_bytes() for path in before} == before
    assert not (tmp_path / "out").exists()


def test_a_foreign_key_of_the_same_role_is_refused(vault: Vault) -> None:
    with pytest.raises(InputError):
        Vault.open(vault.folder, RoleKey.generate("trainer"))


def test_edited_facts_are_refused(vault: Vault, role_keys: dict[str, RoleKey]) -> None:
    path: Path = vault.folder / "vault.json"
    path.write_text(path.read_text().replace('"r"', '"rw"', 1))
    with pytest.raises(InputError):
        Vault.open(vault.folder, role_keys["owner"])


def test_the_matrix_comes_from_the_settings() -> None:
    rights = rights_of({"analyst": {"read": ["events"], "write": ["logs"]}})
    assert readers(rights, "events") == ("owner", "analyst", "trainer")
    assert writers(rights, "logs") == ("owner", "analyst")
    wrongs: tuple[dict[str, dict[str, list[str]]], ...] = (
        {"boss": {}},
        {"owner": {}},
        {"analyst": {"own": []}},
        {"analyst": {"read": ["revews"]}},
    )
    for wrong in wrongs:
        with pytest.raises(ConfigError):
            rights_of(wrong)
