"""Sample recommendations for a report: a customer's history, what is recommended, and why, with pictures.

Invariant: pictures come in as JPEG bytes made by the caller, so nothing here decodes a shop's files; user ids stay out
of the report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from common.reports.data_uri import jpeg_uri
from common.reports.figures import Label
from common.reports.story import Story
from common.reports.words import reason

CUSTOMERS_PER_SITE = 2
ITEMS_SHOWN = 5
SITES_SHOWN = 12
MAX_PICTURE_BYTES = 64 << 10
_JPEG = b"\xff\xd8\xff"
_COLUMNS = ("user_id", "rank", "item_id", "score", "why", "history_item_id")


class PictureSource(Protocol):
    """What a report needs from the sites' own data."""

    def picture(self, site: str, item_id: str) -> bytes | None:
        """A small JPEG of a product, or None."""

    def title(self, site: str, item_id: str) -> str | None:
        """A product's title, or None."""

    def history(self, site: str, user_id: str) -> Sequence[str]:
        """Items of a user before the test, the latest first; empty where they are unknown."""


@dataclass(frozen=True)
class Product:
    """A product as it is shown: `picture` is a data URI or empty.

    Parameters
    ----------
    why : what speaks for it, in both languages.
    nearest : title of the thing in the history that the reason is about, or empty.
    """

    title: str
    picture: str
    why: Label | None = None
    nearest: str = ""


@dataclass(frozen=True)
class Customer:
    """One customer's history and recommendations."""

    history: tuple[Product, ...]
    recommended: tuple[Product, ...]


@dataclass(frozen=True)
class SiteSample:
    """Sample customers of one site."""

    title: str
    language: str
    held_out: bool
    customers: tuple[Customer, ...]


def read_samples(story: Story, source: PictureSource | None) -> tuple[SiteSample, ...]:
    """A few customers of each site that wrote recommendations: those with the longest histories."""
    samples = []
    for site in story.sites[:SITES_SHOWN]:
        rows = _read(story.root / "sites" / site.name / "recommendations.parquet")
        if rows is None or rows.is_empty():
            continue
        customers = tuple(
            _customer(site.name, user, rows, source) for user in _chosen(site.name, rows, source)
        )
        samples.append(SiteSample(site.title or site.name, site.language, site.held_out, customers))
    return tuple(samples)


def _read(path: Path) -> pl.DataFrame | None:
    try:
        rows = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError):
        return None
    if not {"user_id", "rank", "item_id"} <= set(rows.columns):
        return None
    return rows.select(name for name in _COLUMNS if name in rows.columns)


def _chosen(site: str, rows: pl.DataFrame, source: PictureSource | None) -> list[str]:
    users = rows["user_id"].cast(pl.String).unique().sort().to_list()
    lengths = {user: len(_history(site, user, rows, source)) for user in users[:200]}
    return sorted(lengths, key=lambda user: (-min(lengths[user], ITEMS_SHOWN), user))[:CUSTOMERS_PER_SITE]


def _history(site: str, user: str, rows: pl.DataFrame, source: PictureSource | None) -> list[str]:
    items = list(source.history(site, user)) if source is not None else []
    if not items and "history_item_id" in rows.columns:
        own = rows.filter(pl.col("user_id").cast(pl.String) == user).sort("rank")
        items = own["history_item_id"].drop_nulls().cast(pl.String).to_list()
    return list(dict.fromkeys(items))[:ITEMS_SHOWN]


def _customer(site: str, user: str, rows: pl.DataFrame, source: PictureSource | None) -> Customer:
    own = rows.filter(pl.col("user_id").cast(pl.String) == user).sort("rank").head(ITEMS_SHOWN)
    recommended = [_recommended(site, row, source) for row in own.iter_rows(named=True)]
    return Customer(tuple(_products(site, _history(site, user, rows, source), source)), tuple(recommended))


def _products(site: str, items: Iterable[str], source: PictureSource | None) -> list[Product]:
    return [_product(site, item, source) for item in items]


def _recommended(site: str, row: Mapping[str, Any], source: PictureSource | None) -> Product:
    product = _product(site, str(row["item_id"]), source)
    why, nearest = str(row.get("why") or ""), str(row.get("history_item_id") or "")
    return replace(
        product,
        why=reason(why) if why else None,
        nearest=_title(site, nearest, source) if why and nearest else "",
    )


def _product(site: str, item: str, source: PictureSource | None) -> Product:
    data = source.picture(site, item) if source is not None else None
    usable = data is not None and data.startswith(_JPEG) and len(data) <= MAX_PICTURE_BYTES
    return Product(_title(site, item, source), jpeg_uri(data) if usable and data is not None else "")


def _title(site: str, item: str, source: PictureSource | None) -> str:
    return (source.title(site, item) if source is not None else None) or item
