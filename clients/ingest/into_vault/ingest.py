"""Seal a site in its vault, clean, masked and under pseudonyms, and read it back.

Written are `products`, `reviews` and `events` as Parquet parts, `images` as packs of JPEGs, `products/manifest` and
`logs/pseudonym-key`. A part's name ends in a keyed digest of its content, so an existing part isn't written again. So
ingest is incremental, can be repeated, and can be restarted after a kill at any moment.

Invariants: the manifest is written after everything that it names, and nothing is deleted before that; so a reader
finds either the old or the new site, complete. Plaintext is never written to the disk, and memory doesn't grow with the
tables.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator
from dataclasses import asdict
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
from clients.ingest.into_vault.store import ObjectStore, Report
from clients.ingest.into_vault.tables import IngestContext, read_parts, seal_table
from clients.ingest.pictures import PictureSettings
from clients.ingest.site import SiteData, SiteReader, finish, judge, read_site_info
from clients.vault.erase import ERASED
from common.errors import InputError
from common.schema import PRODUCTS, TABLES, Complaint, SplitSection, Table

__all__ = ["IngestReport", "ingest_site", "read_vault"]
# Beside the owner only the auditor may read the key, who can't read any user's data.
KEY = ("logs", "pseudonym-key")
Entry = dict[str, Any]


def ingest_site(
    folder: Path,
    store: ObjectStore,
    report: Report | None = None,
    settings: PictureSettings | None = None,
    scratch: Path | None = None,
) -> IngestReport:
    """Seal a site folder in a vault.

    Parameters
    ----------
    report : called with a phase and the share of it that is done.
    scratch : a folder on a disk with room for the events, which are stored there encrypted while they are sorted; by
        default the system's folder for temporary files.

    Raises
    ------
    HansaError : the folder can't be used, or the vault can't be written.
    """
    read_site_info(folder)
    say, pictures = report or (lambda phase, share: None), settings or PictureSettings()
    key, old = _key(store), read_manifest(store)
    old = old if old is not None and old["form"] == FORM else None
    erased, erased_pictures = marked(store, ERASED), marked(store, ERASED_PICTURE)
    if old is not None and old["quick"] == quick_looks(
        folder, Path(old["root"]), pictures, erased | erased_pictures
    ):
        return IngestReport(**old["report"] | {"unchanged": True, "written": 0, "reread": []})
    reader = SiteReader(folder)
    summary = IngestReport()
    context = IngestContext(store, key, Pseudonyms(key), erased, erased_pictures, scratch, summary, say)
    quick = quick_looks(folder, reader.images.root, pictures, erased | erased_pictures)
    packs = seal_pictures(reader.images, context, pictures, (old or {}).get("packs", {}))
    tables, complaints = _seal_tables(reader, context, (old or {}).get("tables", {}))
    judge(reader.info, complaints, summary.rows[PRODUCTS.name], folder)
    keep = {name: entry["parts"] for name, entry in tables.items()}
    keep["images"] = [entry["pack"] for entry in packs.values()]
    summary.digest = digest_of({kind: sorted(names) for kind, names in keep.items()})
    info = reader.info
    meta = {"name": info.name, "title": info.title, "language": info.language, "region": info.region}
    dates = info.split.dates()
    split = None if dates is None else {k: v.isoformat() for k, v in asdict(dates).items()}
    manifest = {"form": FORM, "quick": quick, "root": str(reader.images.root.resolve()), "meta": meta, "split": split,
                "tables": tables, "packs": packs, "keep": keep, "report": asdict(summary)}  # fmt: skip
    store.write(*MANIFEST, json.dumps(manifest).encode())
    for kind, parts in keep.items():
        for name in sorted(set(store.names(kind)) - set(parts) - {MANIFEST[1]}):
            store.delete(kind, name)
    return summary


def marked(store: ObjectStore, prefix: str) -> frozenset[str]:
    """The erased names of a kind, so that a raw folder which still holds them doesn't bring them back."""
    return frozenset(name.removeprefix(prefix) for name in store.names(KEY[0]) if name.startswith(prefix))


def _key(store: ObjectStore) -> bytes:
    if KEY[1] in set(store.names(KEY[0])):
        return store.read(*KEY)
    key = secrets.token_bytes(KEY_BYTES)
    store.write(*KEY, key)
    return key


def _seal_tables(
    reader: SiteReader, context: IngestContext, old: dict[str, Entry]
) -> tuple[dict[str, Entry], tuple[Complaint, ...]]:
    """Every table's entry of the manifest; a table that hasn't changed keeps its entry and isn't read."""
    entries: dict[str, Entry] = {}
    complaints: tuple[Complaint, ...] = ()
    pictures = names_digest(reader.images.names())
    for table in TABLES:
        path = find_table(reader.folder, table)
        items = "" if table is PRODUCTS else names_digest(reader.items)
        erased = [] if table is PRODUCTS else sorted(context.erased)
        looks = digest_of([file_looks(path, reader.folder / "site.toml"), items, pictures, erased])
        entry = old.get(table.name)
        stored = set(context.store.names(table.name))
        if entry is None or entry["looks"] != looks or not set(entry["parts"]) <= stored:
            book = ComplaintBook()
            entry = _seal_table(reader, table, path, context, book) | {"looks": looks}
            complaints = (*complaints, *book.close())
        elif table is PRODUCTS:
            reader.items = read_parts(context.store, table, entry["parts"], ["item_id"])["item_id"]
        entries[table.name] = entry
        context.summary.add(table.name, TableFacts(**entry["facts"]))
    return entries, complaints


def _seal_table(
    reader: SiteReader, table: Table, path: Path | None, context: IngestContext, book: ComplaintBook
) -> Entry:
    facts, parts = TableFacts(), list[str]()
    if path is not None:
        rows = _finished(reader, table, book)
        parts = seal_table(table, path, rows, context, facts)
    facts.complaints = count_refused(book.close())
    context.summary.reread.append(table.name)
    return {"parts": parts, "facts": asdict(facts)}


def _finished(reader: SiteReader, table: Table, book: ComplaintBook) -> Iterator[tuple[pl.DataFrame, float]]:
    for batch in reader.batches(table, book):
        yield finish(batch.frame, table, reader.info.modalities), batch.share


def read_vault(store: ObjectStore, tables: Collection[Table] = TABLES) -> SiteData:
    """The sealed site as `read_site` would return it; pictures are read pack by pack from the vault.

    Parameters
    ----------
    tables : the tables to read; the others come back empty.

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
    known_names = pl.Series(sorted(images.names()), dtype=pl.String)
    for name in ("products", "reviews"):
        known_only = pl.when(pl.col("image").is_in(known_names.implode())).then("image").alias("image")
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
    """How many rows of each table ingest refused; the single complaints aren't stored."""
    for name, entry in tables.items():
        if count := entry["facts"]["complaints"]:
            yield Complaint(
                name, None, "", f"{count} refused by ingest, which named them", "row skipped", count
            )
