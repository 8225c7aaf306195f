"""A writer that is killed at any moment leaves the old content or the new, and nothing of what was replaced."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clients.vault import PassphraseSource, RoleKey, Vault, unlock
from clients.vault.admin import verify_vault
from common.crypto.keys import lock
from common.files import PROJECT

WRITER = """
import sys
from pathlib import Path
from clients.vault import PassphraseSource, Vault, unlock
folder = Path(sys.argv[1])
vault = Vault.open(folder, unlock(folder / "keys" / "owner.key", PassphraseSource("file", sys.argv[2])))
print("ready", flush=True)
number = 0
while True:
    number += 1
    vault.write_many("images", [(f"{i}", bytes([number % 256]) * 4000) for i in range(200)])
"""


@pytest.mark.slow
def test_ten_kills_leave_a_whole_vault(tmp_path: Path) -> None:
    folder, phrase, draw = tmp_path / "vault", tmp_path / "phrase", random.Random(5)
    phrase.write_bytes(b"correct horse battery")
    phrase.chmod(0o600)
    owner = RoleKey.generate("owner")
    lock(folder / "keys" / "owner.key", owner, phrase.read_bytes())
    with Vault.create(folder, owner) as vault:
        vault.write_many("images", [(f"{i}", b"\0" * 4000) for i in range(200)])
    root = PROJECT
    for _ in range(10):
        command = [sys.executable, "-c", WRITER, str(folder), str(phrase)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0.0, 0.25))
            writer.kill()
        key = unlock(folder / "keys" / "owner.key", PassphraseSource("file", str(phrase)))
        with Vault.open(folder, key) as vault:
            contents = {vault.read("images", name) for name in vault.names("images")}
            assert len(vault.names("images")) == 200
            assert len(contents) == 1
            assert verify_vault(vault).ok
    with Vault.open(folder, owner) as vault:
        vault.delete("images", "0")
    assert len(list((folder / "images").iterdir())) == 2
