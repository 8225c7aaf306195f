"""Read a whole site folder: `site.toml`, the three tables and the image store.

Invariant: what `read_site` returns keeps every rule of `common.schema`, whatever format it came in; all that
was skipped or cleared on the way stands in the complaints.

>>> read_site(Path("runs/demo/sites/alder")).products.height  # doctest: +SKIP
412
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from clients.ingest.complaints import ComplaintBook, refuse
from clients.ingest.files import find_table, read_table
from clients.ingest.images import ImageStore
from clients.ingest.rules import ROW, known_images, known_items, typed
from common.errors import ConfigError, InputError
from common.schema import (
    EVENTS,
    PRODUCTS,
    REVIEWS,
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
    item_id. All columns of the schema are there; what the site lacks is null.
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


def read_site(folder: Path, *, today: date | None = None) -> SiteData:
    """Read, check and order a site folder.

    Parameters
    ----------
    today : the day after which instants count as the future, with a day's grace for time zones; default the
        clock's.

    Raises
    ------
    InputError : the folder or a file can't be used as a whole, no product is usable, or `on_bad_rows =
        "fail"` and a row is bad.
    ConfigError : `site.toml` isn't TOML, or has an unknown key or a bad value.
    """
    info = read_site_info(folder)
    before = end_of_tomorrow(today or datetime.now(UTC).date())
    book = ComplaintBook()
    images = _open_images(folder, info)
    products = _read(folder, PRODUCTS, info, before, book)
    tables = {
        table.name: known_items(
            _read(folder, table, info, before, book), products["item_id"], _file_name(folder, table), book
        )
        for table in (REVIEWS, EVENTS)
    }
    if info.modalities.image:
        products = known_images(products, images, _file_name(folder, PRODUCTS), book)
        tables["reviews"] = known_images(tables["reviews"], images, _file_name(folder, REVIEWS), book)
    complaints = book.close()
    _judge(info, complaints, products, folder)
    return SiteData(
        name=info.name,
        title=info.title,
        language=info.language,
        region=info.region,
        products=_finish(products, PRODUCTS, info.modalities),
        reviews=_finish(tables["reviews"], REVIEWS, info.modalities),
        events=_finish(tables["events"], EVENTS, info.modalities),
        images=images,
        split=info.split.dates(),
        complaints=complaints,
    )


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
    asked = "path" in info.images.model_fields_set
    if not info.modalities.image or not (asked or root.is_dir()):
        return ImageStore.empty(root)
    return ImageStore(root)


def _read(folder: Path, table: Table, info: SiteInfo, before: datetime, book: ComplaintBook) -> pl.DataFrame:
    path = find_table(folder, table)
    if path is None:
        return table.empty().with_columns(pl.lit(None, dtype=pl.Int64).alias(ROW))
    return typed(read_table(path, table, info.encoding, book), table, before, book)


def _file_name(folder: Path, table: Table) -> str:
    path = find_table(folder, table)
    return path.name if path else table.name


def _judge(info: SiteInfo, complaints: tuple[Complaint, ...], products: pl.DataFrame, folder: Path) -> None:
    bad = tuple(c for c in complaints if c.action != "column ignored")
    if info.policy.on_bad_rows == "fail" and bad:
        raise refuse(
            bad,
            f'{len(bad)} faults, and the site\'s policy is on_bad_rows = "fail"',
            str(folder),
            "correct them",
        )
    if products.is_empty():
        step = "add products" if not bad else "correct the products"
        raise refuse(bad, "no usable product", str(folder), step)


def _finish(frame: pl.DataFrame, table: Table, modalities: ModalitiesSection) -> pl.DataFrame:
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
