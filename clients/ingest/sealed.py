"""A site sealed in its vault: clean, masked, under pseudonyms; and read from there again.

What is written: `products`, `reviews` and `events` as Parquet parts, `images` as packs of JPEGs, `products/manifest`
and `logs/pseudonym-key`. A part's name ends in a keyed digest of what it was made of, so a part that is
there needn't be made again: that makes ingest incremental, idempotent, and restartable after a kill at any moment.

Invariant: the manifest is written after all that it names, and nothing is deleted before it; so a reader finds the
old site or the new one, whole. Plaintext never touches the disk.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from clients.anonymise import KEY_BYTES, Pseudonyms, mask
from clients.anonymise.identifiers import MAYBE
from clients.ingest.files import find_table
from clients.ingest.images import ImageStore
from clients.ingest.logs import clean_events
from clients.ingest.packs import PackedImages, pack
from clients.ingest.pictures import PictureSettings, tidy_picture
from clients.ingest.site import SiteData, read_site
from clients.ingest.text import clean_text
from clients.vault.erase import ERASED
from common.errors import InputError
from common.schema import TABLES, SplitSection

# Raise it when the same folder shall give other content than before.
FORM = 1
PART_ROWS = 50_000
PACK_PICTURES = 256
# Whoever may train needs the manifest; of the roles but the owner only the auditor, who sees no user, may read the key.
MANIFEST = ("products", "manifest")
KEY = ("logs", "pseudonym-key")
_TEXTS = {"products": ("title", "description", "attributes"), "reviews": ("text",), "events": ("query",)}
# Masking would eat model numbers out of titles; sellers put contacts into descriptions.
_MASKED = {"products": ("description",), "reviews": ("text",), "events": ("query",)}
Report = Callable[[str, int, int], None]


class Store(Protocol):
    """What ingest needs of a vault; `write` is atomic."""

    def write(self, kind: str, name: str, data: bytes) -> object: ...
    def read(self, kind: str, name: str) -> bytes: ...
    def names(self, kind: str) -> Iterable[str]: ...
    def delete(self, kind: str, name: str) -> object: ...


@dataclass
class IngestReport:
    """What an ingest did: counts only, never a value."""

    rows: dict[str, int] = field(default_factory=dict)
    pictures: int = 0
    pictures_refused: int = 0
    masked: dict[str, int] = field(default_factory=dict)
    repeats: int = 0
    clocks_mended: int = 0
    complaints: int = 0
    written: int = 0
    unchanged: bool = False
    digest: str = ""


def ingest_site(
    folder: Path, store: Store, report: Report | None = None, settings: PictureSettings | None = None
) -> IngestReport:
    """Seal a site folder in a vault.

    Parameters
    ----------
    report : called with a phase, the steps done and the steps in all.

    Raises
    ------
    HansaError : the folder can't be used, or the vault can't be written.
    """
    say, pictures = report or (lambda phase, done, total: None), settings or PictureSettings()
    key = _key(store)
    tables = _stats(
        [path for table in TABLES if (path := find_table(folder, table))] + [folder / "site.toml"]
    )
    old = _manifest(store)
    looks = json.loads(json.dumps({"form": FORM, "files": tables, "pictures": asdict(pictures)}))
    if old is not None and old["looks"] == looks and old["images"] == _image_looks(Path(old["root"])):
        return IngestReport(**old["report"] | {"unchanged": True, "written": 0})
    made = IngestReport()
    data = read_site(folder)
    made.complaints = len(data.complaints)
    names = Pseudonyms(key)
    gone = {name.removeprefix(ERASED) for name in store.names(KEY[0]) if name.startswith(ERASED)}
    keep: dict[str, list[str]] = {
        "images": _seal_pictures(data.images, store, names, key, pictures, made, say)
    }
    for table in TABLES:
        frame = _clean(getattr(data, table.name), table.name, names, made)
        if "user_id" in frame.columns:
            frame = frame.filter(~pl.col("user_id").is_in(sorted(gone)) | pl.col("user_id").is_null())
            made.rows[table.name] = frame.height
        keep[table.name] = _seal_table(frame, table.name, store, key, made, say)
    made.digest = content_digest(keep)
    meta = {"name": data.name, "title": data.title, "language": data.language, "region": data.region}
    split = None if data.split is None else {k: v.isoformat() for k, v in asdict(data.split).items()}
    manifest = {"looks": looks, "images": _image_looks(data.images.root), "root": str(data.images.root.resolve()),
                "meta": meta, "split": split, "keep": keep, "report": asdict(made)}  # fmt: skip
    store.write(*MANIFEST, json.dumps(manifest).encode())
    for kind, kept in keep.items():
        for name in sorted(set(store.names(kind)) - set(kept) - {MANIFEST[1]}):
            store.delete(kind, name)
    return made


def content_digest(keep: dict[str, list[str]]) -> str:
    """One digest of all that a vault holds of a site: equal digests mean equal content."""
    return hashlib.sha256(
        json.dumps({k: sorted(v) for k, v in keep.items()}, sort_keys=True).encode()
    ).hexdigest()


def _key(store: Store) -> bytes:
    if KEY[1] in set(store.names(KEY[0])):
        return store.read(*KEY)
    key = secrets.token_bytes(KEY_BYTES)
    store.write(*KEY, key)
    return key


def _manifest(store: Store) -> dict[str, Any] | None:
    if MANIFEST[1] not in set(store.names(MANIFEST[0])):
        return None
    found: dict[str, Any] = json.loads(store.read(*MANIFEST))
    return found


def _stats(paths: list[Path]) -> list[list[Any]]:
    return [[path.name, (stat := path.stat()).st_size, stat.st_mtime_ns] for path in paths]


def _image_looks(root: Path) -> str:
    """A digest of names, sizes and times of all pictures, or of their archive."""
    files = sorted(path for path in root.rglob("*") if path.is_file()) if root.is_dir() else [root]
    return hashlib.sha256(json.dumps(_stats([path for path in files if path.exists()])).encode()).hexdigest()


def _named(key: bytes, kind: str, *parts: bytes) -> str:
    mac = hmac.new(key, kind.encode(), hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part)
    return mac.hexdigest()[:32]


def _clean(frame: pl.DataFrame, table: str, names: Pseudonyms, made: IngestReport) -> pl.DataFrame:
    if table == "events":
        frame, faults = clean_events(frame)
        made.repeats, made.clocks_mended = faults.repeats, faults.clocks_mended
    for column in _TEXTS[table]:
        frame = frame.with_columns(_tidy_texts(frame[column], column in _MASKED[table], made))
    for column, purpose in (
        ("user_id", "user"),
        ("session_id", "session"),
        ("review_id", "review"),
        ("image", "image"),
    ):
        if column in frame.columns:
            frame = frame.with_columns(names.of_all(frame[column], purpose).alias(column))
    made.rows[table] = frame.height
    return frame


def _tidy_texts(texts: pl.Series, masks: bool, made: IngestReport) -> pl.Series:
    clean = pl.Series(
        texts.name, [None if t is None else clean_text(t) or None for t in texts], dtype=pl.String
    )
    if not masks:
        return clean
    suspects = clean.str.contains(MAYBE).fill_null(False).arg_true()
    done = []
    for text in clean.gather(suspects):
        masked, counts = mask(text)
        done.append(masked)
        for kind, count in counts.items():
            made.masked[kind] = made.masked.get(kind, 0) + count
    return clean.scatter(suspects, done) if done else clean


def _seal_table(
    frame: pl.DataFrame, table: str, store: Store, key: bytes, made: IngestReport, say: Report
) -> list[str]:
    there, kept = set(store.names(table)), []
    for number, part in enumerate(frame.iter_slices(PART_ROWS)):
        buffer = io.BytesIO()
        part.write_parquet(buffer, compression="zstd")
        name = f"{number:05d}-{_named(key, table, buffer.getvalue())}"
        if name not in there:
            store.write(table, name, buffer.getvalue())
            made.written += 1
        kept.append(name)
        say(table, min((number + 1) * PART_ROWS, frame.height), frame.height)
    return kept


def _seal_pictures(
    images: ImageStore, store: Store, names: Pseudonyms, key: bytes, settings: PictureSettings, made: IngestReport,
    say: Report,
) -> list[str]:  # fmt: skip
    buckets: dict[int, list[str]] = {}
    count = max(1, 1 << max(0, (len(images.names()) // PACK_PICTURES).bit_length()))
    for name in sorted(images.names()):
        buckets.setdefault(int(names.of(name, "bucket"), 16) % count, []).append(name)
    there, kept, done = set(store.names("images")), [], 0
    form = json.dumps([FORM, asdict(settings)]).encode()
    with ThreadPoolExecutor(2) as pool:
        for number, members in sorted(buckets.items()):
            raw = [_read(images, name) for name in members]
            digests = b"".join(
                hashlib.sha256(name.encode() + b"\0" + data).digest()
                for name, data in zip(members, raw, strict=True)
            )
            packed = f"{number:05d}-{_named(key, 'images', form, digests)}"
            if packed not in there:
                tidy = list(pool.map(lambda data: _tidy(data, settings), raw))
                store.write(
                    "images",
                    packed,
                    pack({names.of(n, "image"): t for n, t in zip(members, tidy, strict=True) if t}),
                )
                made.written += 1
                made.pictures_refused += sum(not t for t in tidy)
            kept.append(packed)
            done += len(members)
            say("images", done, len(images.names()))
    made.pictures = done
    return kept


def _read(images: ImageStore, name: str) -> bytes:
    try:
        return images.read(name)
    except InputError:
        return b""


def _tidy(data: bytes, settings: PictureSettings) -> bytes:
    try:
        return tidy_picture(data, settings) if data else b""
    except InputError:
        return b""


def read_vault(store: Store) -> SiteData:
    """The sealed site as `read_site` would give it, its pictures read pack by pack out of the vault.

    Raises
    ------
    InputError : nothing was ingested into the vault.
    """
    manifest = _manifest(store)
    if manifest is None:
        raise InputError("the vault holds no site", next_step="run hansa ingest SITE_FOLDER --vault DIR")
    frames = {}
    for table in TABLES:
        parts = [
            pl.read_parquet(io.BytesIO(store.read(table.name, name))) for name in manifest["keep"][table.name]
        ]
        whole = pl.concat([table.empty(), *(part.select(table.names) for part in parts)])
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
        complaints=(),
    )
