"""A site sealed in its vault: clean, masked, under pseudonyms; and read from there again.

What is written: `products`, `reviews` and `events` as Parquet parts, `images` as packs of JPEGs, `products/manifest`
and `logs/pseudonym-key`. A part's name ends in a keyed digest of what it was made of, so a part that is
there needn't be made again: that makes ingest incremental, idempotent, and restartable after a kill at any moment.

Invariant: the manifest is written after all that it names, and nothing is deleted before it; so a reader finds the
old site or the new one, whole. Plaintext never touches the disk, and memory doesn't grow with the tables.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from clients.anonymise import KEY_BYTES, Pseudonyms
from clients.ingest.complaints import ComplaintBook, count_refused
from clients.ingest.files import find_table
from clients.ingest.into_vault.manifest import (
    FORM,
    MANIFEST,
    IngestReport,
    TableFacts,
    digest_of,
    file_looks,
    names_digest,
    quick_looks,
    read_manifest,
)
from clients.ingest.into_vault.packs import ERASED_PICTURE, PackedImages, seal_pictures
from clients.ingest.into_vault.store import Report, Store
from clients.ingest.into_vault.tables import Bench, read_parts, seal_table
from clients.ingest.pictures import PictureSettings
from clients.ingest.site import SiteData, SiteReader, finish, judge, read_site_info
from clients.vault.erase import ERASED
from common.errors import InputError
from common.schema import PRODUCTS, TABLES, Complaint, SplitSection, Table

__all__ = ["IngestReport", "ingest_site", "read_vault"]
# Of the roles but the owner only the auditor, who sees no user, may read the key.
KEY = ("logs", "pseudonym-key")
Entry = dict[str, Any]


def ingest_site(
    folder: Path,
    store: Store,
    report: Report | None = None,
    settings: PictureSettings | None = None,
    scratch: Path | None = None,
) -> IngestReport:
    """Seal a site folder in a vault.

    Parameters
    ----------
    report : called with a phase and the share of it that is done.
    scratch : a folder on a disk with room for the events, where they are put aside under seal while they are sorted;
        the system's folder for temporary files unless given.

    Raises
    ------
    HansaError : the folder can't be used, or the vault can't be written.
    """
    read_site_info(folder)
    say, pictures = report or (lambda phase, share: None), settings or PictureSettings()
    key, old = _key(store), read_manifest(store)
    old = old if old is not None and old["form"] == FORM else None
    gone, gone_pictures = marked(store, ERASED), marked(store, ERASED_PICTURE)
    if old is not None and old["quick"] == quick_looks(
        folder, Path(old["root"]), pictures, gone | gone_pictures
    ):
        return IngestReport(**old["report"] | {"unchanged": True, "written": 0, "reread": []})
    reader = SiteReader(folder)
    bench = Bench(store, key, Pseudonyms(key), gone, gone_pictures, scratch)
    made = IngestReport()
    quick = quick_looks(folder, reader.images.root, pictures, gone | gone_pictures)
    packs = seal_pictures(reader.images, bench, pictures, (old or {}).get("packs", {}), made, say)
    tables, complaints = _seal_tables(reader, bench, (old or {}).get("tables", {}), made, say)
    judge(reader.info, complaints, made.rows[PRODUCTS.name], folder)
    keep = {name: entry["parts"] for name, entry in tables.items()}
    keep["images"] = [entry["pack"] for entry in packs.values()]
    made.digest = digest_of({kind: sorted(names) for kind, names in keep.items()})
    info = reader.info
    meta = {"name": info.name, "title": info.title, "language": info.language, "region": info.region}
    dates = info.split.dates()
    split = None if dates is None else {k: v.isoformat() for k, v in asdict(dates).items()}
    manifest = {"form": FORM, "quick": quick, "root": str(reader.images.root.resolve()), "meta": meta, "split": split,
                "tables": tables, "packs": packs, "keep": keep, "report": asdict(made)}  # fmt: skip
    store.write(*MANIFEST, json.dumps(manifest).encode())
    for kind, kept in keep.items():
        for name in sorted(set(store.names(kind)) - set(kept) - {MANIFEST[1]}):
            store.delete(kind, name)
    return made


def marked(store: Store, prefix: str) -> frozenset[str]:
    """What erasing left word of, so that a raw folder which still holds it doesn't bring it back."""
    return frozenset(name.removeprefix(prefix) for name in store.names(KEY[0]) if name.startswith(prefix))


def _key(store: Store) -> bytes:
    if KEY[1] in set(store.names(KEY[0])):
        return store.read(*KEY)
    key = secrets.token_bytes(KEY_BYTES)
    store.write(*KEY, key)
    return key


def _seal_tables(
    reader: SiteReader, bench: Bench, old: dict[str, Entry], made: IngestReport, say: Report
) -> tuple[dict[str, Entry], tuple[Complaint, ...]]:
    """Every table's entry of the manifest; one that looks as it did is taken over unread."""
    entries: dict[str, Entry] = {}
    complaints: tuple[Complaint, ...] = ()
    pictures = names_digest(reader.images.names())
    for table in TABLES:
        path = find_table(reader.folder, table)
        items = "" if table is PRODUCTS else names_digest(reader.items)
        gone = [] if table is PRODUCTS else sorted(bench.gone)
        looks = digest_of([file_looks(path, reader.folder / "site.toml"), items, pictures, gone])
        entry = old.get(table.name)
        held = set(bench.store.names(table.name))
        if entry is None or entry["looks"] != looks or not set(entry["parts"]) <= held:
            book = ComplaintBook()
            entry = _seal_table(reader, table, path, bench, book, made, say) | {"looks": looks}
            complaints = (*complaints, *book.close())
        elif table is PRODUCTS:
            reader.items = read_parts(bench.store, table, entry["parts"], ["item_id"])["item_id"]
        entries[table.name] = entry
        made.add(table.name, TableFacts(**entry["facts"]))
    return entries, complaints


def _seal_table(
    reader: SiteReader, table: Table, path: Path | None, bench: Bench, book: ComplaintBook, made: IngestReport,
    say: Report,
) -> Entry:  # fmt: skip
    facts, parts = TableFacts(), list[str]()
    if path is not None:
        rows = _finished(reader, table, book)
        parts, written = seal_table(table, path, rows, bench, facts, partial(say, table.name))
        made.written += written
    facts.complaints = count_refused(book.close())
    made.reread.append(table.name)
    return {"parts": parts, "facts": asdict(facts)}


def _finished(reader: SiteReader, table: Table, book: ComplaintBook) -> Iterator[tuple[pl.DataFrame, float]]:
    for batch in reader.batches(table, book):
        yield finish(batch.frame, table, reader.info.modalities), batch.share


def read_vault(store: Store, tables: Collection[Table] = TABLES) -> SiteData:
    """The sealed site as `read_site` would give it, its pictures read pack by pack out of the vault.

    Parameters
    ----------
    tables : those that are read; the others come back empty.

    Raises
    ------
    InputError : nothing was ingested into the vault.
    """
    manifest = read_manifest(store)
    if manifest is None:
        raise InputError("the vault holds no site", next_step="run hansa ingest SITE_FOLDER --vault DIR")
    frames = {}
    for table in TABLES:
        parts = manifest["keep"][table.name] if table in tables else []
        whole = read_parts(store, table, parts)
        frames[table.name] = whole.sort(table.sort_by, nulls_last=True, maintain_order=True)
    split = SplitSection.model_validate(manifest["split"]).dates() if manifest["split"] else None
    images = PackedImages(store, manifest["keep"]["images"])
    known = pl.Series(sorted(images.names()), dtype=pl.String)
    for name in ("products", "reviews"):
        known_only = pl.when(pl.col("image").is_in(known.implode())).then("image").alias("image")
        frames[name] = frames[name].with_columns(known_only)
    meta = manifest["meta"]
    return SiteData(
        name=meta["name"],
        title=meta["title"],
        language=meta["language"],
        region=meta["region"],
        products=frames["products"],
        reviews=frames["reviews"],
        events=frames["events"],
        images=images,
        split=split,
        complaints=tuple(_complaints(manifest["tables"])),
    )


def _complaints(tables: dict[str, Entry]) -> Iterator[Complaint]:
    """What ingest refused, as far as it is known here: how much of each table."""
    for name, entry in tables.items():
        if count := entry["facts"]["complaints"]:
            yield Complaint(
                name, None, "", f"{count} refused by ingest, which named them", "row skipped", count
            )
