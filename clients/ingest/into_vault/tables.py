"""One table on its way into the vault: cleaned batch by batch, sealed in parts.

Products and reviews become parts in the order of their file, so that what is appended to a file changes its last part
alone. Events become parts by user: a session needs all events of its user, so batches are put aside in a sealed
`Scratch` by the user's pseudonym and taken up again bucket by bucket. Memory holds one batch or one bucket.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from clients.anonymise import Pseudonyms, mask
from clients.anonymise.identifiers import MAYBE
from clients.ingest.into_vault.manifest import TableFacts
from clients.ingest.into_vault.scratch import Scratch
from clients.ingest.into_vault.store import Store, keyed_name
from clients.ingest.logs import clean_events
from clients.ingest.parquet.read import claimed_rows
from clients.ingest.text import clean_text
from common.errors import InputError
from common.schema import EVENTS, Table

PART_ROWS = 50_000
BUCKET_ROWS = 100_000
# About what a line of a log takes, to guess how many rows a text file has.
_LINE_BYTES = 40
_TEXTS = {"products": ("title", "description", "attributes"), "reviews": ("text",), "events": ("query",)}
# Masking would eat model numbers out of titles; sellers put contacts into descriptions.
_MASKED = {"products": ("description",), "reviews": ("text",), "events": ("query",)}
_NAMED = (("user_id", "user"), ("review_id", "review"), ("image", "image"))


@dataclass(frozen=True)
class Bench:
    """What all tables of one ingest share. `gone` are pseudonyms of people who were erased, and of their pictures."""

    store: Store
    key: bytes
    names: Pseudonyms
    gone: frozenset[str]
    gone_pictures: frozenset[str]
    scratch: Path | None


def seal_table(
    table: Table, path: Path, batches: Iterable[tuple[pl.DataFrame, float]], bench: Bench, facts: TableFacts,
    say: Callable[[float], None],
) -> tuple[list[str], int]:  # fmt: skip
    """Seal the checked rows of one table; returns the names of its parts, and how many of them are new.

    Raises
    ------
    HansaError : the vault or the scratch can't be written.
    """
    cleaned = _told(batches, say, lambda frame: _clean(frame, table, bench, facts))
    there, kept, written = set(bench.store.names(table.name)), [], 0
    for bucket, part in _by_user(cleaned, path, bench, facts) if table is EVENTS else _in_order(cleaned):
        buffer = io.BytesIO()
        part.write_parquet(buffer, compression="zstd")
        name = f"{bucket:05d}-{keyed_name(bench.key, table.name, buffer.getvalue())}"
        if name not in there:
            bench.store.write(table.name, name, buffer.getvalue())
            written += 1
        kept.append(name)
        facts.rows += part.height
    return kept, written


def _told(
    batches: Iterable[tuple[pl.DataFrame, float]], say: Callable[[float], None],
    clean: Callable[[pl.DataFrame], pl.DataFrame],
) -> Iterator[pl.DataFrame]:  # fmt: skip
    for frame, share in batches:
        yield clean(frame)
        say(share)


def _in_order(frames: Iterable[pl.DataFrame]) -> Iterator[tuple[int, pl.DataFrame]]:
    """The same rows in parts of `PART_ROWS`, numbered; at least one part."""
    held: list[pl.DataFrame] = []
    number = 0
    for frame in frames:
        held.append(frame)
        while sum(each.height for each in held) >= PART_ROWS:
            whole = pl.concat(held)
            yield number, whole.head(PART_ROWS)
            number, held = number + 1, [whole.slice(PART_ROWS)]
    if held and (rest := pl.concat(held)).height:
        yield number, rest


def _by_user(
    frames: Iterable[pl.DataFrame], path: Path, bench: Bench, facts: TableFacts
) -> Iterator[tuple[int, pl.DataFrame]]:
    """All events of a user in one bucket, cleaned as logs; buckets in parts of `PART_ROWS`."""
    count = _buckets(path)
    with Scratch(bench.scratch) as scratch:
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
            sessions = bench.names.of_all(events["session_id"], "session").alias("session_id")
            for part in events.with_columns(sessions).iter_slices(PART_ROWS):
                yield bucket, part


def _buckets(path: Path) -> int:
    """A power of two, so that a log which grows a little keeps its buckets."""
    size = path.stat().st_size
    rows = claimed_rows(path) if path.suffix == ".parquet" else size // _LINE_BYTES
    return min(65_536, 1 << max(0, int(rows // BUCKET_ROWS).bit_length()))


def _clean(frame: pl.DataFrame, table: Table, bench: Bench, facts: TableFacts) -> pl.DataFrame:
    for column in _TEXTS[table.name]:
        frame = frame.with_columns(_tidy_texts(frame[column], column in _MASKED[table.name], facts))
    for column, purpose in _NAMED:
        if column in frame.columns:
            frame = frame.with_columns(bench.names.of_all(frame[column], purpose).alias(column))
    if "user_id" in frame.columns and bench.gone:
        frame = frame.filter(~pl.col("user_id").is_in(sorted(bench.gone)) | pl.col("user_id").is_null())
    return frame


def _tidy_texts(texts: pl.Series, masks: bool, facts: TableFacts) -> pl.Series:
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
        facts.count_masked(counts)
    return clean.scatter(suspects, done) if done else clean


def read_parts(
    store: Store, table: Table, parts: Iterable[str], columns: list[str] | None = None
) -> pl.DataFrame:
    """The rows of sealed parts, in their order.

    Raises
    ------
    InputError : a part isn't what ingest wrote.
    """
    wanted = columns or list(table.names)
    try:
        frames = [pl.read_parquet(io.BytesIO(store.read(table.name, name)), columns=wanted) for name in parts]
    except (pl.exceptions.PolarsError, OSError):
        raise InputError("a sealed table is damaged", next_step="run hansa ingest again") from None
    return pl.concat([table.empty().select(wanted), *(frame.select(wanted) for frame in frames)])
