"""Memory stays flat: six times the rows need no more of it, whatever the format, and give the same site."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clients.ingest import files, read_site
from clients.ingest.into_vault import tables
from clients.ingest.into_vault.ingest import ingest_site, read_vault
from clients.ingest.into_vault.scratch import Scratch
from clients.ingest.unique_ids import SeenIds
from common.errors import InputError
from tests.clients.ingest.stores import FolderStore

START = datetime(2024, 1, 1, tzinfo=UTC)
ISO = "%Y-%m-%dT%H:%M:%SZ"
_CHILD = """
import json, resource, sys
from pathlib import Path
from clients.ingest.into_vault.ingest import ingest_site
from tests.clients.ingest.stores import FolderStore
def used():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = used()
made = ingest_site(Path(sys.argv[1]), FolderStore(Path(sys.argv[2])), scratch=Path(sys.argv[2]))
print(json.dumps({"rows": made.rows["events"], "before": before, "grown": used() - before}))
"""


def _events(rows: int, users: int, seed: int = 0) -> pl.DataFrame:
    r = np.random.default_rng(seed)
    at = pl.Series("at", r.integers(0, 300 * 86_400, rows)) * 1_000_000
    return pl.DataFrame({
        "user_id": [f"customer-{n:07d}" for n in r.integers(0, users, rows)],
        "item_id": [f"i{n}" for n in r.integers(0, 50, rows)],
        "event": r.choice(["view", "click", "purchase"], rows),
        "at": (at + int(START.timestamp() * 1e6)).cast(pl.Datetime("us", "UTC")),
        "query": [None] * rows,
    }, schema_overrides={"query": pl.String})  # fmt: skip


def _site(folder: Path, rows: int, suffix: str, users: int = 40_000) -> Path:
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text('name = "shop"\n')
    pl.DataFrame({"item_id": [f"i{n}" for n in range(50)]}).write_csv(folder / "products.csv")
    path = folder / f"events{suffix}"
    step = 250_000
    for number, start in enumerate(range(0, rows, step)):
        frame = _events(min(step, rows - start), users, seed=number)
        if suffix == ".csv":
            with path.open("ab") as file:
                frame.write_csv(file, include_header=number == 0, datetime_format=ISO)
        else:
            writer = writer if number else pq.ParquetWriter(path, frame.to_arrow().schema)  # noqa: F821
            writer.write_table(frame.to_arrow(), row_group_size=rows)
    if suffix == ".parquet":
        writer.close()
    return folder


def _ingest(site: Path, vault: Path) -> dict[str, float]:
    vault.mkdir()
    command = [sys.executable, "-c", _CHILD, str(site), str(vault)]
    environment = os.environ | {"POLARS_MAX_THREADS": "2"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_six_times_the_events_need_no_more_memory(tmp_path: Path, suffix: str) -> None:
    small = _ingest(_site(tmp_path / "small", 400_000, suffix), tmp_path / "v1")
    large = _ingest(_site(tmp_path / "large", 2_400_000, suffix, 240_000), tmp_path / "v2")
    assert large["rows"] >= 2_390_000
    assert large["grown"] < 1.4 * small["grown"] + 30, (small, large)


def test_small_batches_and_buckets_give_the_same_site(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = _site(tmp_path / "site", 3000, ".csv", users=100)
    whole = FolderStore(tmp_path / "whole")
    ingest_site(site, whole)
    pieces = FolderStore(tmp_path / "pieces")
    pieces.write("logs", "pseudonym-key", whole.read("logs", "pseudonym-key"))
    for module, name, value in (
        (files, "BATCH_ROWS", 70),
        (tables, "BUCKET_ROWS", 300),
        (tables, "PART_ROWS", 40),
    ):
        monkeypatch.setattr(module, name, value)
    report = ingest_site(site, pieces)
    assert len(pieces.names("events")) > 70
    one, other = read_vault(whole), read_vault(pieces)
    order = ["user_id", "at", "item_id", "event", "session_id"]
    assert one.events.sort(order).equals(other.events.sort(order))
    assert one.products.equals(other.products)
    assert report.rows["events"] == one.events.height


def test_repeats_are_found_across_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = _site(tmp_path / "site", 500, ".csv", users=9)
    path = site / "events.csv"
    header, *rows = path.read_text().splitlines(keepends=True)
    path.write_text(header + "".join(rows + rows))
    reviews = "".join(f"r{n % 300},u{n % 7},i1,5,2024-01-02\n" for n in range(600))
    (site / "reviews.csv").write_text("review_id,user_id,item_id,rating,created_at\n" + reviews)
    monkeypatch.setattr(files, "BATCH_ROWS", 64)
    report = ingest_site(site, FolderStore(tmp_path / "vault"))
    assert report.rows["reviews"] == 300
    assert report.repeats == 500 + 500 - report.rows["events"]
    assert read_site(site).reviews.height == 300


def test_only_what_changed_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site, store = _site(tmp_path / "site", 2000, ".csv"), FolderStore(tmp_path / "vault")
    (site / "reviews.csv").write_text("review_id,user_id,item_id,rating\nr1,u1,i1,5\n")
    assert ingest_site(site, store).reread == ["products", "reviews", "events"]
    with (site / "reviews.csv").open("a") as file:
        file.write("r2,u2,i999,1\nr3,u2,i49,1\n")
    again = ingest_site(site, store)
    assert (again.reread, again.rows["reviews"], again.complaints) == (["reviews"], 2, 1)
    with (site / "products.csv").open("a") as file:
        file.write("i999\n")
    last = ingest_site(site, store)
    assert last.reread == ["products", "reviews", "events"]
    assert last.rows == {"products": 51, "reviews": 3, "events": again.rows["events"]}
    assert read_vault(store).reviews.height == 3


def test_new_ids_are_told_from_known_ones() -> None:
    seen, r = SeenIds(), np.random.default_rng(1)
    known: set[str] = set()
    for _ in range(40):
        ids = [f"id{n}" for n in r.integers(0, 3000, 100)]
        wanted = []
        for each in ids:
            wanted.append(each not in known)
            known.add(each)
        assert seen.new(pl.Series(ids)).to_list() == wanted


def test_the_scratch_holds_no_plaintext_and_has_no_name(tmp_path: Path) -> None:
    with Scratch(tmp_path) as scratch:
        for number in range(50):
            scratch.put(number % 3, b"Mrs Canary %d" % number)
        handle = scratch._file.fileno()
        assert b"Canary" not in os.pread(handle, 1 << 20, 0)
        assert list(tmp_path.iterdir()) == []
        assert b"".join(scratch.take(1)) == b"".join(b"Mrs Canary %d" % n for n in range(1, 50, 3))


def _meant_often() -> pa.Table:
    return pa.table(
        {"item_id": pa.DictionaryArray.from_arrays(pa.array([0] * 3000, pa.int32()), pa.array(["x" * 10**6]))}
    )


def _one_cell() -> pa.Table:
    return pa.table({"item_id": pa.array(["x" * (300 << 20)])})


@pytest.mark.parametrize("make", [_meant_often, pytest.param(_one_cell, marks=pytest.mark.slow)])
def test_parquet_bombs_are_refused(tmp_path: Path, make: Callable[[], pa.Table]) -> None:
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    path = tmp_path / "products.parquet"
    pq.write_table(make(), path, compression="zstd", write_statistics=False)
    assert path.stat().st_size < 1 << 20
    began = time.process_time()
    with pytest.raises(InputError, match="far more than it is"):
        read_site(tmp_path)
    assert time.process_time() - began < 2


@pytest.mark.slow
def test_rows_without_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    schema = pa.schema([("item_id", pa.dictionary(pa.int32(), pa.string()))])
    with pq.ParquetWriter(tmp_path / "products.parquet", schema, compression="zstd") as writer:
        column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10_000_000, np.int32)), pa.array(["a"]))
        writer.write_table(pa.table([column], schema=schema))
    with pytest.raises(InputError, match="far more than it is"):
        read_site(tmp_path)


def test_a_log_a_little_out_of_order_is_put_in_order(tmp_path: Path) -> None:
    site = _site(tmp_path / "site", 10, ".csv")
    at = [START + timedelta(minutes=m) for m in (9, 3, 5)]
    log = pl.DataFrame({"user_id": ["u"] * 3, "item_id": ["i1"] * 3, "event": ["view"] * 3, "at": at})
    log.write_csv(site / "events.csv", datetime_format=ISO)
    store = FolderStore(tmp_path / "vault")
    ingest_site(site, store)
    assert read_vault(store).events["at"].to_list() == sorted(at)
