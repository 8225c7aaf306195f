"""Read a whole site folder: `site.toml`, the three tables and the image store.

Invariant: what `read_site` returns keeps every rule of `common.schema`, whatever the format of the files; everything
that was skipped or cleared is in the complaints.

>>> read_site(Path("runs/demo/sites/alder")).products.height  # doctest: +SKIP
412
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from clients.ingest.complaints import ComplaintBook, refuse
from clients.ingest.files import find_table, table_batches
from clients.ingest.images import ImageStore
from clients.ingest.table_rules import ROW, first_of_each, known_images, known_items, typed
from clients.ingest.unique_ids import SeenIds
from common.errors import ConfigError, InputError
from common.schema import (
    EVENTS,
    PRODUCTS,
    REVIEWS,
    TABLES,
    Complaint,
    ModalitiesSection,
    SiteInfo,
    SplitDates,
    Table,
    end_of_tomorrow,
    parse_site_info,
)


@dataclass(frozen=True)
class SiteData:
    """One site's data in canonical form.

    `products` is sorted by item_id, `reviews` by user_id, created_at, review_id, `events` by user_id, at,
    item_id. All columns of the schema are present; what the site lacks is null.
    """

    name: str
    title: str
    language: str
    region: str
    products: pl.DataFrame
    reviews: pl.DataFrame
    events: pl.DataFrame
    images: ImageStore
    split: SplitDates | None
    complaints: tuple[Complaint, ...]


def read_site(folder: Path, tables: Collection[Table] = TABLES, *, today: date | None = None) -> SiteData:
    """Read, check and order a site folder.

    Parameters
    ----------
    tables : the tables to read, products among them; the others come back empty.
    today : the day after which instants count as the future, plus a day for time zones; by default the clock's.

    Raises
    ------
    InputError : the folder or a file can't be used as a whole, no product is usable, or `on_bad_rows =
        "fail"` and a row is bad.
    ConfigError : `site.toml` isn't TOML, or has an unknown key or a bad value.
    """
    reader, book = SiteReader(folder, today=today), ComplaintBook()
    info = reader.info
    frames: dict[str, pl.DataFrame] = {}
    for table in TABLES:
        batches = [batch.frame for batch in reader.batches(table, book)] if table in tables else []
        frames[table.name] = finish(pl.concat([_nothing(table), *batches]), table, info.modalities)
    complaints = book.close()
    judge(info, complaints, frames["products"].height, folder)
    return SiteData(
        name=info.name,
        title=info.title,
        language=info.language,
        region=info.region,
        products=frames["products"],
        reviews=frames["reviews"],
        events=frames["events"],
        images=reader.images,
        split=info.split.dates(),
        complaints=complaints,
    )


@dataclass(frozen=True)
class Batch:
    """Checked rows of one table, each with its number in the file, and the share of the file that was read so far."""

    frame: pl.DataFrame
    share: float


class SiteReader:
    """Reads the tables of a site folder batch by batch, so that memory doesn't grow with them.

    Read the products first, since the other tables are checked against their ids. Only ids stay in memory: those of the
    products as text, and ids that must be unique as eight bytes each.

    Raises
    ------
    InputError, ConfigError : as `read_site`.
    """

    def __init__(self, folder: Path, *, today: date | None = None) -> None:
        self.folder, self.info = folder, read_site_info(folder)
        self.images = _open_images(folder, self.info)
        self.items = pl.Series("item_id", [], dtype=pl.String)
        self._before = end_of_tomorrow(today or datetime.now(UTC).date())

    def batches(self, table: Table, book: ComplaintBook) -> Iterator[Batch]:
        """The rows that keep all rules, in the order of the file; an optional table that is absent has none."""
        path = find_table(self.folder, table)
        if path is None:
            return
        unique_ids = {column.name: SeenIds() for column in table.columns if column.unique}
        item_ids = [self.items]
        for raw in table_batches(path, table, self.info.encoding, book):
            frame = typed(raw, table, self._before, book)
            for column, ids in unique_ids.items():
                frame = first_of_each(frame, column, ids, path.name, book)
            if table is PRODUCTS:
                item_ids.append(frame["item_id"])
            else:
                frame = known_items(frame, self.items, path.name, book)
            if self.info.modalities.image and "image" in frame.columns:
                frame = known_images(frame, self.images, path.name, book)
            yield Batch(frame, raw.share)
        if table is PRODUCTS:
            self.items = pl.concat(item_ids)


def read_site_info(folder: Path) -> SiteInfo:
    """Read and check `site.toml`.

    Raises
    ------
    InputError : the folder isn't one, or `site.toml` is missing or can't be read.
    ConfigError : its content can't be used.
    """
    path = folder / "site.toml"
    if not folder.is_dir():
        raise InputError("not a folder", where=str(folder), next_step="name the folder that holds site.toml")
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(
            "site.toml is missing",
            where=str(folder),
            why="it says who the site is and what it permits",
            next_step='add a site.toml with at least name = "my-shop"',
        ) from None
    except UnicodeDecodeError:
        raise InputError(
            "site.toml is not UTF-8 text", where=str(path), next_step="save it as UTF-8"
        ) from None
    except OSError as fault:
        raise InputError("site.toml can't be read", where=str(path), why=str(fault)) from None
    except (tomllib.TOMLDecodeError, RecursionError) as fault:
        raise ConfigError(
            "site.toml is not TOML", where=str(path), why=str(fault), next_step="correct it"
        ) from None
    return parse_site_info(data, where=str(path))


def _open_images(folder: Path, info: SiteInfo) -> ImageStore:
    root = folder / info.images.path
    is_set = "path" in info.images.model_fields_set
    if not info.modalities.image or not (is_set or root.is_dir()):
        return ImageStore.empty(root)
    return ImageStore(root)


def _nothing(table: Table) -> pl.DataFrame:
    return table.empty().with_columns(pl.lit(None, dtype=pl.Int64).alias(ROW))


def judge(info: SiteInfo, complaints: tuple[Complaint, ...], products: int, folder: Path) -> None:
    """Refuse the site if its policy demands it or if it has no products.

    Raises
    ------
    InputError : a row is bad under `on_bad_rows = "fail"`, or no product is usable.
    """
    bad = tuple(c for c in complaints if c.action != "column ignored")
    if info.policy.on_bad_rows == "fail" and bad:
        raise refuse(
            bad,
            f'{len(bad)} faults, and the site\'s policy is on_bad_rows = "fail"',
            str(folder),
            "correct them",
        )
    if not products:
        step = "add products" if not bad else "correct the products"
        raise refuse(bad, "no usable product", str(folder), step)


def finish(frame: pl.DataFrame, table: Table, modalities: ModalitiesSection) -> pl.DataFrame:
    """Rows in canonical order, without the modalities that the site keeps out of the league."""
    cleared: tuple[str, ...] = ()
    if not modalities.text:
        cleared += ("title", "description", "attributes", "text")
    if not modalities.image:
        cleared += ("image",)
    if (table is REVIEWS and not modalities.reviews) or (table is EVENTS and not modalities.events):
        frame = frame.clear()
    ordered = frame.sort([*table.sort_by, ROW], nulls_last=True)
    return ordered.select(
        pl.lit(None, dtype=column.dtype).alias(column.name) if column.name in cleared else pl.col(column.name)
        for column in table.columns
    )
