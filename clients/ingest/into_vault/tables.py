"""Seal one table in the vault: it's cleaned batch by batch and sealed in parts.

Products and reviews become parts in the order of their file, so that rows appended to a file change only its last part.
Events become parts by user, since a session needs all events of its user: batches are stored in an encrypted `Scratch`
by the user's pseudonym, and read back bucket by bucket. Memory holds one batch or one bucket.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import polars as pl

from clients.anonymise import Pseudonyms, mask
from clients.anonymise.identifiers import MAYBE
from clients.ingest.into_vault.manifest import IngestReport, TableFacts
from clients.ingest.into_vault.scratch import Scratch
from clients.ingest.into_vault.store import ObjectStore, Report, keyed_name
from clients.ingest.logs import clean_events
from clients.ingest.parquet.read import claimed_rows
from clients.ingest.text import clean_text
from common.errors import InputError
from common.schema import EVENTS, Table

PART_ROWS = 50_000
BUCKET_ROWS = 100_000
# About how long a line of a log is, to estimate how many rows a text file has.
_LINE_BYTES = 40
_TEXTS = {"products": ("title", "description", "attributes"), "reviews": ("text",), "events": ("query",)}
# Titles aren't masked, since model numbers would be lost; descriptions are, since sellers write contacts in them.
_MASKED = {"products": ("description",), "reviews": ("text",), "events": ("query",)}
_NAMED = (("user_id", "user"), ("review_id", "review"), ("image", "image"))


@dataclass(frozen=True)
class IngestContext:
    """What all tables and packs of one ingest share.

    Parameters
    ----------
    erased, erased_pictures : pseudonyms of persons who were erased, and of their pictures.
    summary : what has been done so far; filled in on the way.
    say : called with a phase and the share of it that is done.
    """

    store: ObjectStore
    key: bytes
    names: Pseudonyms
    erased: frozenset[str]
    erased_pictures: frozenset[str]
    scratch: Path | None
    summary: IngestReport
    say: Report


def seal_table(
    table: Table, path: Path, batches: Iterable[tuple[pl.DataFrame, float]], context: IngestContext, facts: TableFacts
) -> list[str]:  # fmt: skip
    """Seal the checked rows of one table; returns the names of its parts.

    Raises
    ------
    HansaError : the vault or the scratch can't be written.
    """
    say = partial(context.say, table.name)
    cleaned = _told(batches, say, lambda frame: _clean(frame, table, context, facts))
    stored, parts = set(context.store.names(table.name)), []
    for bucket, part in _by_user(cleaned, path, context, facts) if table is EVENTS else _in_order(cleaned):
        buffer = io.BytesIO()
        part.write_parquet(buffer, compression="zstd")
        name = f"{bucket:05d}-{keyed_name(context.key, table.name, buffer.getvalue())}"
        if name not in stored:
            context.store.write(table.name, name, buffer.getvalue())
            context.summary.written += 1
        parts.append(name)
        facts.rows += part.height
    return parts


def _told(
    batches: Iterable[tuple[pl.DataFrame, float]], say: Callable[[float], None],
    clean: Callable[[pl.DataFrame], pl.DataFrame],
) -> Iterator[pl.DataFrame]:  # fmt: skip
    for frame, share in batches:
        yield clean(frame)
        say(share)


def _in_order(frames: Iterable[pl.DataFrame]) -> Iterator[tuple[int, pl.DataFrame]]:
    """The same rows in parts of `PART_ROWS`, numbered; at least one part."""
    pending: list[pl.DataFrame] = []
    number = 0
    for frame in frames:
        pending.append(frame)
        while sum(part.height for part in pending) >= PART_ROWS:
            whole = pl.concat(pending)
            yield number, whole.head(PART_ROWS)
            number, pending = number + 1, [whole.slice(PART_ROWS)]
    if pending and (last := pl.concat(pending)).height:
        yield number, last


def _by_user(
    frames: Iterable[pl.DataFrame], path: Path, context: IngestContext, facts: TableFacts
) -> Iterator[tuple[int, pl.DataFrame]]:
    """Events by buckets of users, cleaned as logs, in parts of `PART_ROWS`; all events of a user are in one bucket."""
    count = _buckets(path)
    with Scratch(context.scratch) as scratch:
        for frame in frames:
            digits = pl.col("user_id").str.head(8).str.to_integer(base=16)
            by = frame.with_columns((digits % count).alias("bucket"))
            for (bucket,), rows in by.partition_by("bucket", as_dict=True, include_key=False).items():
                buffer = io.BytesIO()
                rows.write_ipc(buffer, compression="lz4")
                scratch.put(int(str(bucket)), buffer.getvalue())
        for bucket in scratch.buckets():
            whole = pl.concat([pl.read_ipc(io.BytesIO(block)) for block in scratch.take(bucket)])
            events, faults = clean_events(whole)
            facts.repeats += faults.repeats
            facts.clocks_mended += faults.clocks_mended
            sessions = context.names.of_all(events["session_id"], "session").alias("session_id")
            for part in events.with_columns(sessions).iter_slices(PART_ROWS):
                yield bucket, part


def _buckets(path: Path) -> int:
    """The number of buckets: a power of two, so that it stays the same when a log grows a little."""
    size = path.stat().st_size
    rows = claimed_rows(path) if path.suffix == ".parquet" else size // _LINE_BYTES
    return min(65_536, 1 << max(0, int(rows // BUCKET_ROWS).bit_length()))


def _clean(frame: pl.DataFrame, table: Table, context: IngestContext, facts: TableFacts) -> pl.DataFrame:
    for column in _TEXTS[table.name]:
        frame = frame.with_columns(_tidy_texts(frame[column], column in _MASKED[table.name], facts))
    for column, purpose in _NAMED:
        if column in frame.columns:
            frame = frame.with_columns(context.names.of_all(frame[column], purpose).alias(column))
    if "user_id" in frame.columns and context.erased:
        frame = frame.filter(~pl.col("user_id").is_in(sorted(context.erased)) | pl.col("user_id").is_null())
    return frame


def _tidy_texts(texts: pl.Series, masks: bool, facts: TableFacts) -> pl.Series:
    clean = pl.Series(
        texts.name, [None if t is None else clean_text(t) or None for t in texts], dtype=pl.String
    )
    if not masks:
        return clean
    suspects = clean.str.contains(MAYBE).fill_null(False).arg_true()
    masked_texts = []
    for text in clean.gather(suspects):
        masked, counts = mask(text)
        masked_texts.append(masked)
        facts.count_masked(counts)
    return clean.scatter(suspects, masked_texts) if masked_texts else clean


def read_parts(
    store: ObjectStore, table: Table, parts: Iterable[str], columns: list[str] | None = None
) -> pl.DataFrame:
    """The rows of sealed parts, in their order.

    Raises
    ------
    InputError : a part isn't what ingest wrote.
    """
    names = columns or list(table.names)
    try:
        frames = [pl.read_parquet(io.BytesIO(store.read(table.name, name)), columns=names) for name in parts]
    except (pl.exceptions.PolarsError, OSError):
        raise InputError("a sealed table is damaged", next_step="run hansa ingest again") from None
    return pl.concat([table.empty().select(names), *(frame.select(names) for frame in frames)])
