"""`hansa vault`: each command from the shell's side, with one document out and no secret in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clients.vault import PassphraseSource, Vault, unlock
from simulations import cli


def call(capfd: pytest.CaptureFixture[str], code: int, *arguments: str) -> Any:
    assert cli.main(["vault", *arguments, "--format", "json"]) == code
    return json.loads(capfd.readouterr().out)


def test_the_life_of_a_vault(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_bytes(b"correct horse battery\n")
    phrase.chmod(0o600)
    folder, unlocked = str(tmp_path / "vault"), ("--passphrase", f"file:{phrase}")
    site = tmp_path / "site.toml"
    site.write_text('name = "shop"\n[vault.roles.analyst]\nread = ["reviews"]\n')
    made = call(capfd, 0, "init", folder, "--site", str(site), *unlocked)
    assert len(made["keys"]) == 4
    key = unlock(Path(made["keys"][0]), PassphraseSource("file", str(phrase)))
    with Vault.open(tmp_path / "vault", key) as vault:
        vault.write("reviews", "r", b"five stars")
    analyst = ("--key", f"{folder}/keys/analyst.key", *unlocked)
    assert call(capfd, 0, "ls", folder, *analyst) == [{"kind": "reviews", "name": "r", "bytes": 10}]
    assert call(capfd, 0, "revoke", folder, "analyst", "reviews", *unlocked)["sealed_anew"] == 1
    assert call(capfd, 8, "ls", folder, "reviews", *analyst)["error"] == "EnvelopeError"
    assert call(capfd, 0, "grant", folder, "analyst", "reviews", *unlocked)["headers"] == 1
    out = str(tmp_path / "out.txt")
    assert call(capfd, 0, "export", folder, "reviews", "r", "--to", out, *analyst)["bytes"] == 10
    new = ("--new-key", str(tmp_path / "analyst-2.key"), "--new-passphrase", f"file:{phrase}")
    assert call(capfd, 0, "rotate", folder, "analyst", *new, *unlocked)["headers"] == 1
    (tmp_path / "who").write_text("pseudonym\n")
    who = ("--who", str(tmp_path / "who"), *unlocked)
    assert "no key for pseudonyms" in call(capfd, 3, "erase-user", folder, *who)["what"]
    assert "receipts" in call(capfd, 0, "erase-user", folder, "--pseudonym", *who)["receipt"]
    assert "vault already" in call(capfd, 3, "init", folder, *unlocked)["what"]
    assert (
        "no vault"
        in call(capfd, 3, "ls", str(tmp_path), "--key", f"{folder}/keys/owner.key", *unlocked)["what"]
    )
    assert (tmp_path / "vault").stat().st_mode & 0o77 == 0
    assert call(capfd, 0, "verify", folder, *unlocked)["ok"]
    next((tmp_path / "vault" / "reviews").glob("[0-9a-f]*.hve")).write_bytes(b"gone")
    assert not call(capfd, 8, "verify", folder, *unlocked)["ok"]


def test_the_log_tells_who_did_what_and_notices_a_cut(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    phrase = tmp_path / "phrase"
    phrase.write_bytes(b"correct horse battery\n")
    phrase.chmod(0o600)
    folder, unlocked = str(tmp_path / "vault"), ("--passphrase", f"file:{phrase}")
    call(capfd, 0, "init", folder, *unlocked)
    call(capfd, 0, "grant", folder, "analyst", "reviews", *unlocked)
    assert cli.main(["vault", "log", folder, "--format", "json"]) == 0
    said = capfd.readouterr()
    assert [(each["by"], each["kind"]) for each in json.loads(said.out)] == [
        ("owner", "vault created"), ("owner", "grant"),
    ]  # fmt: skip
    head = said.err.partition("Head: ")[2].split()[0]
    assert [each["kind"] for each in call(capfd, 0, "log", folder, "--kind", "grant")] == ["grant"]
    assert call(capfd, 0, "verify", folder, "--receipt", head, *unlocked)["ok"]
    path = tmp_path / "vault" / "audit.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole.split(b"\n")[0] + b"\n")
    assert len(call(capfd, 0, "log", folder)) == 1, "a chain that was cut is still a chain"
    assert "lacks entries" in call(capfd, 9, "log", folder, "--receipt", head)["what"]
    assert "lacks entries" in call(capfd, 9, "verify", folder, "--receipt", head, *unlocked)["what"]
    path.write_bytes(whole.replace(b"analyst", b"auditor"))
    call(capfd, 9, "log", folder)
    call(capfd, 2, "log", folder, "--receipt", "12")
    call(capfd, 3, "log", str(tmp_path))


def test_a_passphrase_as_an_argument_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    failure = call(capfd, 2, "init", str(tmp_path / "vault"), "--passphrase", "hunter2-hunter2")
    assert "hunter2" not in json.dumps(failure)
