"""An ingest into the real vault, killed at ten random moments and run again, leaves what one run leaves."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from clients.ingest.into_vault.ingest import KEY, ingest_site, read_vault
from clients.vault import PassphraseSource, RoleKey, Vault, unlock
from clients.vault.admin import verify_vault
from common.crypto.keys import lock
from common.files import PROJECT

_CHILD = """
import sys
from pathlib import Path
from clients.ingest.into_vault.ingest import ingest_site
from clients.vault import PassphraseSource, Vault, unlock
folder = Path(sys.argv[1])
vault = Vault.open(folder, unlock(folder / "owner.key", PassphraseSource("file", sys.argv[2])))
print("ready", flush=True)
ingest_site(Path(sys.argv[3]), vault, scratch=folder)
"""


def _shop(folder: Path) -> Path:
    (folder / "images").mkdir(parents=True)
    (folder / "site.toml").write_text('name = "shop"\n')
    for number in range(700):
        Image.effect_noise((300, 280), number % 50).save(folder / "images" / f"p{number}.jpg")
    items, users = [f"i{n}" for n in range(700)], [f"u{n % 211}" for n in range(20_000)]
    pl.DataFrame({"item_id": items, "image": [f"p{n}.jpg" for n in range(700)]}).write_csv(
        folder / "products.csv"
    )
    pl.DataFrame({"review_id": [f"r{n}" for n in range(20_000)], "user_id": users, "rating": [5] * 20_000,
                  "item_id": [items[n % 700] for n in range(20_000)]}).write_csv(folder / "reviews.csv")  # fmt: skip
    at = [f"2026-05-{n % 28 + 1:02}T10:{n % 60:02}:00Z" for n in range(20_000)]
    pl.DataFrame({"user_id": users, "item_id": [items[n % 700] for n in range(20_000)], "event": ["view"] * 20_000,
                  "at": at}).write_csv(folder / "events.csv")  # fmt: skip
    return folder


def _vault(folder: Path, owner: RoleKey, phrase: Path) -> Vault:
    lock(folder / "owner.key", owner, phrase.read_bytes())
    vault = Vault.create(folder, owner)
    vault.write(*KEY, bytes(range(32)))
    return vault


def _content(vault: Vault) -> dict[str, str]:
    """Every object but the manifest, which tells the times of files."""
    kinds = ("products", "reviews", "events", "images", "logs")
    return {
        f"{kind}/{name}": hashlib.sha256(vault.read(kind, name)).hexdigest()
        for kind in kinds
        for name in vault.names(kind)
        if name != "manifest"
    }


@pytest.mark.slow
def test_ten_kills_at_random_moments_leave_what_one_run_leaves(tmp_path: Path) -> None:
    shop, draw, phrase = _shop(tmp_path / "shop"), random.Random(11), tmp_path / "phrase"
    phrase.write_bytes(b"correct horse battery")
    phrase.chmod(0o600)
    owner = RoleKey.generate("owner")
    began = time.monotonic()
    with _vault(tmp_path / "whole", owner, phrase) as whole:
        digest = ingest_site(shop, whole).digest
        wanted = _content(whole)
    span = time.monotonic() - began
    folder = tmp_path / "killed"
    _vault(folder, owner, phrase).close()
    killed = 0
    for _ in range(10):
        command = [sys.executable, "-c", _CHILD, str(folder), str(phrase), str(shop)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(draw.uniform(0, span / 10))
            killed += child.poll() is None
            child.kill()
        if (folder / "products" / "index.hve").exists():
            with Vault.open(folder, owner) as vault:
                assert verify_vault(vault).ok
    assert killed >= 5, "too few were caught at work"
    with Vault.open(folder, unlock(folder / "owner.key", PassphraseSource("file", str(phrase)))) as vault:
        again = ingest_site(shop, vault)
        assert again.digest == digest
        assert _content(vault) == wanted
        assert read_vault(vault).reviews.height == 20_000
    left = [path for path in folder.rglob("*") if path.suffix == ".tmp" or path.name.startswith(".ingest")]
    assert left == []
