"""H&M purchases: departments of one fashion house as merchants of a league.

Reads two layouts of the public competition "H&M Personalized Fashion Recommendations":

- its own: `articles.csv`, `transactions_train.csv`, `images/0xx/0xxxxxxxxx.jpg`; the 31 M rows are scanned
  lazily;
- the compact one: `articles.parquet`, `transactions_*.parquet`, `images_*.zip` with `<article_id>.jpg`.

A site is a value of any column of the articles; `sites_by = "all"` makes one shop of everything. The file doesn't say
what was for sale, so the first sale in the window stands for it (`listed_at`). A site's products, and so its
candidates, are the articles that it sold before the test day. Those first sold on the test day are left out with their
purchases, which are counted (`left_out`): to be a candidate would tell that they are about to sell. Days have no hours,
so all purchases of a day are at midnight. If a customer bought an article several times on a day, that is one event
with a quantity and the lowest price. Prices stay on the competition's scale.

Invariant: no purchase after the test day reaches a site folder, and nothing of a product comes from the test day; only
`candidates = "all"` lets that day say which products there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

import polars as pl
from pydantic import Field

from clients.ingest import ImageStore
from common.errors import ConfigError, InputError
from common.schema import SplitDates, did_you_mean
from simulations.connectors.base import (
    ConnectorOptions,
    Options,
    SiteRef,
    SiteTables,
    derive_sites,
    parse_options,
    sample_users,
    slug,
)

ID_DIGITS = 10
DEFAULT_DAYS = 7
WHOLE = "all"


class HmOptions(ConnectorOptions):
    """Settings of the connector.

    Parameters
    ----------
    from_date, until_date : first and last day of the window, inclusive; default the file's last seven.
    test_day : the test day; default the window's last. The day before is for validation.
    min_users : sites with fewer customers are left out.
    users_per_site, seed : keep that many customers of each site, drawn by the seed; 0 keeps all.
    candidates : "on_sale": products are what was sold before the test day; "all": the test day's novelties as well.
    """

    from_date: date | None = None
    until_date: date | None = None
    test_day: date | None = None
    min_users: int = Field(default=1, ge=1)
    users_per_site: int = Field(default=0, ge=0)
    seed: int = 0
    candidates: Literal["on_sale", "all"] = "on_sale"


@dataclass(frozen=True)
class HmFiles:
    """The files of one of the two layouts."""

    articles: Path
    transactions: Path
    images: Path | None

    def read_articles(self) -> pl.DataFrame:
        """All articles, with ten-digit ids."""
        lazy = _scan(self.articles, "article_id")
        return lazy.with_columns(_article_id()).collect()

    def scan_purchases(self) -> pl.LazyFrame:
        """All purchases, with `t_dat` as a date."""
        lazy = _scan(self.transactions, "article_id")
        day = pl.col("t_dat")
        return lazy.with_columns(
            _article_id(), day.str.to_date("%Y-%m-%d") if lazy.collect_schema()["t_dat"] == pl.String else day
        )


class HmConnector:
    """Writes one site folder per department."""

    name = "hm"

    def write_sites(self, path: Path | None, out: Path, sites_by: str, options: Options) -> list[SiteRef]:
        """See `Connector`. `sites_by` is a column of the articles, by default `index_name`.

        Raises
        ------
        ConfigError : an option or `sites_by` is unknown, or the test day lies outside the window.
        InputError : the folder lacks a file, or no purchase lies in the window.
        """
        chosen = parse_options(HmOptions, options, self.name)
        column = sites_by or "index_name"
        files = _find_files(path)
        identity = {"connector": self.name, "sites_by": column, "options": chosen.model_dump(mode="json")}
        identity["images"] = str(files.images)
        sources = [p for p in (files.articles, files.transactions, files.images) if p is not None]
        return derive_sites(out, identity, sources, lambda: _sites(files, column, chosen))


def _sites(files: HmFiles, column: str, options: HmOptions) -> Iterator[SiteTables]:
    articles = files.read_articles().with_columns(pl.lit("H&M").alias(WHOLE))
    if column not in articles.columns:
        raise ConfigError(
            f"the articles have no column '{column}'",
            where="sites_by",
            next_step=did_you_mean(column, articles.columns),
        )
    purchases, split = _window(files.scan_purchases(), options)
    sold = purchases.join(
        articles.select("article_id", pl.col(column).alias("site")), on="article_id"
    ).drop_nulls("site")
    pictures = ImageStore(files.images).names() if files.images else frozenset()
    names: list[str] = []
    flat = files.images is None or files.images.suffix == ".zip"
    for title in sorted(sold["site"].cast(pl.String).unique().to_list()):
        everyone = _events(sold.filter(pl.col("site").cast(pl.String) == title))
        offered = _offered(everyone, split.test_from, options)
        of_offered = everyone.join(offered, on="item_id", how="semi")
        if of_offered["user_id"].n_unique() < options.min_users:
            continue
        names.append(slug(title, names))
        products = _products(articles, offered, pictures, flat=flat)
        drawn = sample_users(everyone, options.users_per_site, options.seed)
        events = drawn.join(offered, on="item_id", how="semi")
        yield SiteTables(
            names[-1], title, products, events,
            images=files.images, split=split, left_out=drawn.height - events.height,
        )  # fmt: skip


def _offered(events: pl.DataFrame, test_from: datetime, options: HmOptions) -> pl.DataFrame:
    """A site's candidates: item_id, listed_at (the first sale) and the median price before the test day."""
    early = pl.col("at") < test_from
    items = events.group_by("item_id").agg(
        pl.col("at").min().alias("listed_at"), pl.col("price").filter(early).median()
    )
    return items if options.candidates == "all" else items.filter(pl.col("listed_at") < test_from)


def _window(purchases: pl.LazyFrame, options: HmOptions) -> tuple[pl.DataFrame, SplitDates]:
    last = options.until_date or _last_day(purchases)
    test_day = options.test_day or last
    first = options.from_date or last - timedelta(days=DEFAULT_DAYS - 1)
    if not first + timedelta(days=2) <= test_day <= last:
        raise ConfigError(
            f"the test day {test_day} must lie in the window, at least two days after its first day",
            where=f"window {first} to {last}",
            why="training and validation need a day each before it",
            next_step="choose another test_day, from_date or until_date",
        )
    rows = (
        purchases.filter(pl.col("t_dat").is_between(first, test_day))
        .group_by("t_dat", "customer_id", "article_id")
        # The lowest price, since a mean would depend on the order in which threads add.
        .agg(pl.len().alias("quantity"), pl.col("price").cast(pl.Float64).min())
        .collect(engine="streaming")
    )
    if rows.is_empty():
        raise InputError(
            "no purchase lies in the window", where=f"{first} to {test_day}", next_step="widen the window"
        )
    midnight = datetime(test_day.year, test_day.month, test_day.day, tzinfo=UTC)
    return rows, SplitDates(midnight - timedelta(days=1), midnight, midnight + timedelta(days=1))


def _last_day(purchases: pl.LazyFrame) -> date:
    last = purchases.select(pl.col("t_dat").max()).collect(engine="streaming").item()
    if not isinstance(last, date):
        raise InputError("the transactions hold no day", where="t_dat", next_step="download the file again")
    return last


def _events(sold: pl.DataFrame) -> pl.DataFrame:
    return sold.select(
        pl.col("customer_id").alias("user_id"),
        pl.col("article_id").alias("item_id"),
        pl.lit("purchase").alias("event"),
        pl.col("t_dat").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias("at"),
        "quantity",
        "price",
    )


def _products(
    articles: pl.DataFrame, offered: pl.DataFrame, pictures: frozenset[str], *, flat: bool
) -> pl.DataFrame:
    item = pl.col("article_id")
    picture = pl.format("{}.jpg", item) if flat else pl.format("{}/{}.jpg", item.str.head(3), item)
    columns = ("product_type_name", "colour_group_name", "graphical_appearance_name", "section_name")
    return (
        articles.join(offered, left_on="article_id", right_on="item_id", how="inner")
        .select(
            item.alias("item_id"),
            pl.col("prod_name").alias("title"),
            pl.concat_str(
                [pl.concat_str(columns, separator=", ", ignore_nulls=True), "detail_desc"],
                separator=". ",
                ignore_nulls=True,
            ).alias("description"),
            pl.col("product_group_name").alias("category"),
            pl.lit("").alias("brand"),
            "price",
            pl.format("colour={}; pattern={}", "colour_group_name", "graphical_appearance_name").alias(
                "attributes"
            ),
            picture.alias("image"),
            "listed_at",
            pl.col("product_code").cast(pl.String),
        )
        .with_columns(pl.when(pl.col("image").is_in(list(pictures))).then(pl.col("image")))
    )


def _find_files(path: Path | None) -> HmFiles:
    if path is None or not path.is_dir():
        raise InputError(
            "the H&M connector needs the folder of its files",
            where=str(path or ""),
            next_step="name the folder that holds articles.csv or articles.parquet",
        )
    articles = _one(path, ("articles.parquet", "articles.csv"))
    transactions = _one(path, ("transactions_train.csv", "transactions_*.parquet"))
    archives = sorted(path.glob("images*.zip"))
    folder = path / "images"
    images = folder if folder.is_dir() else archives[0] if archives else None
    return HmFiles(articles, transactions, images.resolve() if images else None)


def _one(folder: Path, patterns: tuple[str, ...]) -> Path:
    paths = [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    if not paths:
        raise InputError(
            f"the folder has no {' and no '.join(patterns)}",
            where=str(folder),
            next_step="put the competition's files there",
        )
    return paths[0]


def _scan(path: Path, text_column: str) -> pl.LazyFrame:
    if path.suffix == ".parquet":
        return pl.scan_parquet(path)
    return pl.scan_csv(path, schema_overrides={text_column: pl.String})


def _article_id() -> pl.Expr:
    # Some copies of the data read the id as a number and so lost its leading zero.
    return pl.col("article_id").cast(pl.String).str.zfill(ID_DIGITS)
