"""What a vault costs a site: the second ingest beside the first, and runs from the vault beside runs from the folder.

Invariant: both sides of a ratio do the same work on the same bazaar merchant, with features that were encoded before.
An ingest is timed from the open vault on, without unlocking the key, and the best of several counts. How runs are
timed, and what is divided by what, says `benchmarks.support.vault_rounds`.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clients.ingest import ingest_site
from clients.vault import ROLES, PassphraseSource, RoleKey, Vault, unlock
from common.crypto.keys import lock
from simulations.bazaar import BazaarConfig, write_league
from simulations.benchmarks.support.vault_rounds import runs


def measure(quick: bool, base: Path | None) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows of seconds, and the ratios `second_ingest_speedup` and those of `vault_rounds` (0.05: 5 % more)."""
    users, items = (200, 150) if quick else (1500, 800)
    bazaar = BazaarConfig(n_sites=1, held_out=0, users_per_site=users, items_per_site=items)
    with tempfile.TemporaryDirectory(dir=base) as folder, _own_cache(Path(folder) / "cache"):
        plain = write_league(Path(folder) / "league", bazaar)[0]
        sealed, ingests = _sealed(Path(folder), plain)
        run_rows, run_ratios = runs(Path(folder), {"folder": plain, "vault": sealed}, quick)
    rows = [{"method": f"ingest, {name} run", "seconds": seconds} for name, seconds in ingests.items()]
    return rows + run_rows, {"second_ingest_speedup": ingests["first"] / ingests["second"]} | run_ratios


def _sealed(folder: Path, raw: Path) -> tuple[Path, dict[str, float]]:
    """A site folder with a vault into which `raw` was ingested twice, and the seconds of both ingests."""
    word = folder / "word"
    word.touch(mode=0o600)
    word.write_text(secrets.token_hex(16))
    source = PassphraseSource("file", str(word))
    keys = {role: RoleKey.generate(role) for role in ROLES}
    for role in ("owner", "trainer"):
        lock(folder / f"{role}.key", keys[role], source.read(""))
    Vault.create(folder / "vault", keys["owner"], {role: key.public() for role, key in keys.items()}).close()

    with Vault.open(folder / "vault", unlock(folder / "owner.key", source)) as vault:

        def ingest() -> None:
            ingest_site(raw, vault, scratch=folder / "vault")

        first = _seconds(ingest)
        took = {"first": first, "second": min(_seconds(ingest) for _ in range(3))}
    site = folder / "sealed"
    site.mkdir()
    (site / "site.toml").write_text(
        'name = "sealed"\n[vault]\npath = "../vault"\nkey = "../trainer.key"\npassphrase = "file:../word"\n'
    )
    return site, took


def _seconds(action: Callable[[], None]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


@contextmanager
def _own_cache(folder: Path) -> Iterator[None]:
    """Use a feature cache of this benchmark's own, not the user's."""
    before = os.environ.get("HANSA_CACHE")
    os.environ["HANSA_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["HANSA_CACHE"]
        else:
            os.environ["HANSA_CACHE"] = before
