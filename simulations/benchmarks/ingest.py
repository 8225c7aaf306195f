"""One `hansa ingest` each on real data: rows and pictures a second, peak memory, the second run, and ten kills.

H&M: all purchases of its six days as one shop, with every picture of the archive. Chinese reviews: a shop with one
product per category. A review's category is real, its writer is invented, so this set measures only speed.

Invariants: the command is timed as a user types it, in a process of its own. `seconds` includes the start of Python and
the unlocking of the key; `ingest_s` is the command's own figure, from the open vault on. The killed vault gets the
pseudonym key of the other one, so that both must end with the same objects, byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import resource
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from clients.ingest.into_vault.ingest import KEY
from clients.ingest.into_vault.manifest import MANIFEST
from clients.vault import PassphraseSource, Vault, unlock
from common.errors import InputError, MachineError
from common.files import PROJECT
from simulations.benchmarks import BenchResult
from simulations.connectors import connector
from simulations.connectors.base import SiteTables, derive_sites

DATA = PROJECT.parent / "shared" / "data"
KILLS = 10
_MEMORY = Path("/dev/shm")  # noqa: S108 - a memory file system, so that no disk is measured
_KINDS = ("products", "reviews", "events", "images", "logs")


def run(quick: bool) -> BenchResult:
    """A row per set; ratios of the first to the second run, and whether the killed vaults came out the same (1 or 0).

    Raises
    ------
    InputError : the data aren't beside the project.
    """
    rows, ratios = [], {}
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as base:
        for name, site in _sites(Path(base), quick):
            row = _measure(Path(base), name, site)
            ratios[f"{name}_second_speedup"] = row["ingest_s"] / row["second_ingest_s"]
            ratios[f"{name}_second_command_speedup"] = row["seconds"] / row["second_s"]
            ratios[f"{name}_same_after_kills"] = float(row.pop("same"))
            rows.append(row)
    return {"name": "ingest", "rows": rows, "ratios": ratios}


def _sites(base: Path, quick: bool) -> Iterator[tuple[str, Path]]:
    if not DATA.is_dir():
        raise InputError(
            "the real data aren't there", where=str(DATA), next_step="put hm/ and zh_reviews/ there"
        )
    yield "zh_reviews", _chinese_shop(base / "zh")
    if not quick:
        yield "hm", connector("hm").write_sites(DATA / "hm", base / "hm", "all", {})[0].folder


def _chinese_shop(out: Path) -> Path:
    source = DATA / "zh_reviews" / "online_shopping_8_cats.csv"
    all_reviews = pl.read_csv(source).with_row_index("n")
    kinds = all_reviews["cat"].unique().sort().to_list()
    products = pl.DataFrame({"item_id": kinds, "title": kinds, "category": kinds})
    reviews = all_reviews.select(
        pl.format("r{}", "n").alias("review_id"),
        pl.format("u{}", pl.col("n") % 5000).alias("user_id"),
        pl.col("cat").alias("item_id"),
        (1 + 4 * pl.col("label")).alias("rating"),
        pl.col("review").alias("text"),
    )
    events = pl.DataFrame(schema={"user_id": pl.String, "event": pl.String, "at": pl.Datetime("us", "UTC")})
    site = SiteTables("zh", "中文评论", products, events, reviews, language="zh")
    return derive_sites(out, {"connector": "zh_reviews"}, [source], lambda: [site])[0].folder


def _measure(base: Path, name: str, site: Path) -> dict[str, Any]:
    word = base / "word"
    if not word.exists():
        word.touch(mode=0o600)
        word.write_text(secrets.token_hex(16))
    whole, killed = base / f"{name}-whole", base / f"{name}-killed"
    for vault in (whole, killed):
        _hansa("vault", "init", str(vault), word=word)
    first, second = _ingest(site, whole, word), _ingest(site, whole, word)
    if not second["unchanged"]:
        raise MachineError("a second ingest found something to do", where=name)
    with _opened(whole, word) as whole_vault, _opened(killed, word) as killed_vault:
        killed_vault.write(*KEY, whole_vault.read(*KEY))
    caught = _kill(site, killed, word, first["seconds"])
    last = _ingest(site, killed, word)
    same = last["digest"] == first["digest"] and _content(whole, word) == _content(killed, word)
    count = sum(first["rows"].values())
    return {
        "set": name, "rows": count, "pictures": first["pictures"], "masked": sum(first["masked"].values()),
        "seconds": first["seconds"], "ingest_s": first["ingest_s"], "cpu_s": first["cpu_s"],
        "rows_per_s": count / first["ingest_s"], "pictures_per_s": first["pictures"] / first["ingest_s"],
        "peak_mb": first["peak_mb"], "second_s": second["seconds"], "second_ingest_s": second["ingest_s"],
        "killed_at_work": caught, "same": same,
    }  # fmt: skip


def _command(*arguments: str, word: Path) -> list[str]:
    return [
        sys.executable, "-m", "simulations.cli", *arguments, "--passphrase", f"file:{word}", "--format", "json",
    ]  # fmt: skip


def _hansa(*arguments: str, word: Path) -> dict[str, Any]:
    """Run a command to its end; its document, seconds by the clock and of CPU, and its own peak memory."""
    began = time.perf_counter()
    with tempfile.TemporaryFile() as out:
        with subprocess.Popen(_command(*arguments, word=word), stdout=out, cwd=PROJECT) as child:  # noqa: S603
            _, status, used = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        said = out.read()
    if child.returncode:
        raise MachineError(f"hansa {arguments[0]} failed", why=said.decode(errors="replace")[:500])
    result: dict[str, Any] = json.loads(said)
    return result | _spent(used) | {"seconds": time.perf_counter() - began}


def _spent(used: resource.struct_rusage) -> dict[str, float]:
    unit = 1 if sys.platform == "darwin" else 1024
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_mb": used.ru_maxrss * unit / 1e6}


def _ingest(site: Path, vault: Path, word: Path) -> dict[str, Any]:
    return _hansa("ingest", str(site), "--vault", str(vault), "--quiet", word=word)


def _kill(site: Path, vault: Path, word: Path, span: float) -> int:
    """Start ten ingests and kill each at a random moment; returns how many were still running."""
    draw, caught = random.Random(7), 0
    for _ in range(KILLS):
        arguments = ("ingest", str(site), "--vault", str(vault), "--quiet")
        with subprocess.Popen(  # noqa: S603
            _command(*arguments, word=word), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=PROJECT
        ) as child:
            # The first second or so is Python's start; a run goes on where the one before was stopped.
            time.sleep(draw.uniform(0.5, max(2.0, span / 3)))
            caught += child.poll() is None
            child.kill()
    return caught


@contextmanager
def _opened(vault: Path, word: Path) -> Iterator[Vault]:
    with Vault.open(
        vault, unlock(vault / "keys" / "owner.key", PassphraseSource("file", str(word)))
    ) as opened:
        yield opened


def _content(vault: Path, word: Path) -> dict[str, str]:
    """A digest of all objects except the manifest, which holds the times of files."""
    with _opened(vault, word) as opened:
        return {
            f"{kind}/{name}": hashlib.sha256(opened.read(kind, name)).hexdigest()
            for kind in _KINDS
            for name in opened.names(kind)
            if (kind, name) != MANIFEST
        }
