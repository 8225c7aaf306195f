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


def test_a_passphrase_as_an_argument_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    failure = call(capfd, 2, "init", str(tmp_path / "vault"), "--passphrase", "hunter2-hunter2")
    assert "hunter2" not in json.dumps(failure)
