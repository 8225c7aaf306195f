"""Grant, revoke, rotate, verify, export and erase: what they change, and what they leave alone."""

from __future__ import annotations

import io
import json
from pathlib import Path

import polars as pl
import pytest

from clients.vault import RoleKey, Vault
from clients.vault.admin import export, grant, revoke, rotate, verify_vault
from clients.vault.erase import erase_user, read_receipt
from clients.vault.index import context
from common.crypto.envelope import EnvelopeError, open_sealed
from common.crypto.header import HEADER_BYTES
from common.errors import ConfigError, InputError

Keys = dict[str, RoleKey]
PERSON = "0123456789abcdef0123"


def payloads(vault: Vault, kind: str) -> dict[str, bytes]:
    files = (path for path in (vault.folder / kind).iterdir() if path.name != "index.hve")
    return {path.name: path.read_bytes()[HEADER_BYTES:] for path in files}


def test_a_grant_opens_and_touches_headers_only(vault: Vault, role_keys: Keys) -> None:
    vault.write_many("reviews", [("a", b"one"), ("b", b"two")])
    before = payloads(vault, "reviews")
    assert grant(vault, "analyst", "reviews") == 1
    assert payloads(vault, "reviews") == before
    with Vault.open(vault.folder, role_keys["analyst"]) as seen:
        assert seen.read("reviews", "b") == b"two"


def test_a_revocation_seals_anew_so_that_a_kept_data_key_is_worthless(vault: Vault, role_keys: Keys) -> None:
    vault.write("reviews", "a", b"one")
    before = payloads(vault, "reviews")
    assert revoke(vault, "trainer", "reviews") == 1
    assert not set(payloads(vault, "reviews").values()) & set(before.values())
    for path in (vault.folder / "reviews").iterdir():
        place = context(vault.facts.id, "reviews", path.name)
        with (
            pytest.raises(EnvelopeError),
            open_sealed(path, role_keys["trainer"].encryption, context=place),
        ):
            pass
    assert vault.read("reviews", "a") == b"one"


def test_rotation_shuts_out_the_old_key_and_touches_headers_only(vault: Vault, role_keys: Keys) -> None:
    vault.write("reviews", "a", b"one")
    with Vault.open(vault.folder, role_keys["trainer"]) as trainer:
        trainer.write("features", "f", b"vector")
    before = payloads(vault, "reviews")
    fresh = RoleKey.generate("trainer")
    assert rotate(vault, fresh) == 2
    assert payloads(vault, "reviews") == before
    with pytest.raises(InputError):
        Vault.open(vault.folder, role_keys["trainer"])
    with Vault.open(vault.folder, fresh) as seen:
        assert (seen.read("reviews", "a"), seen.read("features", "f")) == (b"one", b"vector")
    assert verify_vault(vault).ok
    with pytest.raises(ConfigError):
        rotate(vault, RoleKey.generate("owner"))


def test_only_the_owner_changes_rights(vault: Vault, role_keys: Keys) -> None:
    with Vault.open(vault.folder, role_keys["trainer"]) as trainer, pytest.raises(ConfigError):
        grant(trainer, "trainer", "logs")


def test_verify_names_what_is_damaged(vault: Vault) -> None:
    vault.write("reviews", "a", b"one" * 50_000)
    vault.write("events", "b", b"two")
    assert verify_vault(vault).objects == 2
    file = next(path for path in (vault.folder / "reviews").iterdir() if path.name != "index.hve")
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert verify_vault(vault).damaged == (f"reviews/{file.name}",)


def test_an_older_vault_put_back_is_noticed(vault: Vault, role_keys: Keys) -> None:
    vault.write("reviews", "a", b"one")
    kept = {path: path.read_bytes() for path in (vault.folder / "reviews").iterdir()}
    vault.write("reviews", "a", b"two")
    vault.write("reviews", "a", b"three")
    for path, data in kept.items():
        path.write_bytes(data)
    with Vault.open(vault.folder, role_keys["owner"]) as again:
        assert "older than the log says" in verify_vault(again).damaged[0]


def test_export_writes_whole_files_that_only_the_user_can_read(vault: Vault, tmp_path: Path) -> None:
    vault.write("reviews", "a", b"one")
    assert export(vault, "reviews", "a", tmp_path / "a.txt") == 3
    assert (tmp_path / "a.txt").read_bytes() == b"one"
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o600
    with pytest.raises(InputError):
        export(vault, "reviews", "a", tmp_path / "a.txt")


def test_keys_that_are_or_were_in_use_are_refused(vault: Vault, role_keys: Keys) -> None:
    """A role that got another's keys would open what only that one may."""
    analyst, trainer = role_keys["analyst"], role_keys["trainer"]
    mixed = RoleKey("trainer", RoleKey.generate("trainer").encryption, analyst.signing)
    for taken in (RoleKey("trainer", analyst.encryption, analyst.signing), mixed):
        with pytest.raises(InputError, match="in use already"):
            rotate(vault, taken)
    assert rotate(vault, trainer) == 0, "run again, it finishes what was killed"
    assert vault.facts.past_signers == ()
    rotate(vault, RoleKey.generate("trainer"))
    with pytest.raises(InputError, match="in use before"):
        rotate(vault, trainer)


def table(users: list[str]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame({"user_id": users, "n": range(len(users))}).write_parquet(out)
    return out.getvalue()


def test_one_person_is_erased_everywhere_and_the_receipt_says_so(vault: Vault, role_keys: Keys) -> None:
    vault.write("reviews", "r", table(["u1", "u2", "u1"]))
    vault.write("events", "e", table(["u2", "u1"]))
    vault.write("events", "other", table(["u3"]))
    untouched = len(payloads(vault, "events"))
    path = erase_user(vault, "u1")
    users = [
        pl.read_parquet(io.BytesIO(vault.read(kind, name)))["user_id"].to_list()
        for kind, name in (("reviews", "r"), ("events", "e"), ("events", "other"))
    ]
    assert users == [["u2"], ["u2"], ["u3"]]
    assert len(payloads(vault, "events")) == untouched
    receipt = read_receipt(path, role_keys["owner"].signing.public_key())
    assert receipt.rows == {"events": 1, "reviews": 2}
    assert any("model" in line for line in receipt.remains)
    assert "u1" not in json.dumps(path.read_text().split('"subject"')[0])
    path.write_text(path.read_text().replace('"reviews": 2', '"reviews": 9'))
    with pytest.raises(InputError):
        read_receipt(path, role_keys["owner"].signing.public_key())
    assert read_receipt(erase_user(vault, "u1"), role_keys["owner"].signing.public_key()).rows == {
        "events": 0,
        "logs": 0,  # the list of the erased themselves
        "reviews": 0,
    }


def test_an_erased_person_is_in_no_table_feature_or_index_and_old_blocks_are_shut(
    vault: Vault, role_keys: Keys
) -> None:
    vault.write_many("events", [("e1", table([PERSON, "u2"])), ("e2", table(["u3"]))])
    vault.write("features", "use/1.safetensors", b"vectors of u1 and u2")
    vault.write("features", "use/table", table([PERSON, "u2"]))
    kept = {kind: {path.name: path.read_bytes() for path in (vault.folder / kind).glob("*.hve")}
            for kind in ("events", "features")}  # fmt: skip
    erase_user(vault, PERSON)
    assert vault.names("features") == ["use/table"]
    for kind in ("events", "features"):
        for name in vault.names(kind):
            assert PERSON not in pl.read_parquet(io.BytesIO(vault.read(kind, name)))["user_id"].to_list()
        now = {path.name for path in (vault.folder / kind).glob("*.hve")} - {"index.hve"}
        assert not now & set(kept[kind]), "what held the person is sealed anew under another key, or gone"
    # Only the list of the erased, which keeps ingest from bringing them back, still has the pseudonym: sealed.
    assert vault.names("logs") == [f"erased/{PERSON}"]
    for path in (path for path in vault.folder.rglob("*") if path.is_file()):
        assert PERSON.encode() not in path.read_bytes() or path.suffix == ".hve"
        assert PERSON not in path.name
    assert verify_vault(vault).ok
