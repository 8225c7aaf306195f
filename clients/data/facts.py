"""What a catalogue says of its items beside texts and pictures: price, category, attributes, title and product code.

Invariant: every array has one entry an item, in the order of `SiteDataset.item_ids`; what isn't known is NaN or -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import scipy.sparse as sp
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class ItemFacts:
    """The facts of n items.

    Parameters
    ----------
    log_price : (n,) natural log of the price; NaN where there is none.
    category, brand, title, product_code : (n,) numbers of equal texts at this site; -1 for none.
    attributes : (n, attributes) sparse, each row sums to 1 or is empty.
    """

    log_price: NDArray[np.float32]
    category: Ints
    brand: Ints
    title: Ints
    product_code: Ints
    attributes: sp.csr_matrix

    @classmethod
    def unknown(cls, count: int) -> ItemFacts:
        """Of a catalogue that says nothing."""
        none = np.full(count, -1, np.int64)
        return cls(
            np.full(count, np.nan, np.float32),
            none,
            none,
            none,
            none,
            sp.csr_matrix((count, 1), dtype=np.float32),
        )


def item_facts(products: pl.DataFrame) -> ItemFacts:
    """The facts of a product table, in its order."""
    price = products["price"].cast(pl.Float64).to_numpy().astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_price = np.where(price > 0, np.log(price), np.nan)
    return ItemFacts(
        log_price.astype(np.float32),
        _codes(products["category"]),
        _codes(products["brand"]),
        _codes(products["title"]),
        _codes(products["product_code"]),
        _attributes(products["attributes"]),
    )


def _codes(column: pl.Series) -> Ints:
    """Numbers of equal texts, whatever their case; -1 for empty ones."""
    clean = column.cast(pl.String).fill_null("").str.strip_chars().str.to_lowercase()
    codes = clean.rank("dense").to_numpy().astype(np.int64) - 1
    return np.where((clean == "").to_numpy(), -1, codes)


def _attributes(column: pl.Series) -> sp.csr_matrix:
    parts = column.cast(pl.String).fill_null("").str.to_lowercase().str.split(";")
    table = (
        pl.DataFrame({"row": np.arange(len(column)), "part": parts})
        .explode("part")
        .with_columns(pl.col("part").str.strip_chars())
        .filter(pl.col("part").fill_null("") != "")
        .unique(maintain_order=True)
    )
    codes = (
        table["part"].rank("dense").to_numpy().astype(np.int64) - 1 if len(table) else np.zeros(0, np.int64)
    )
    rows = table["row"].to_numpy().astype(np.int64)
    counts = np.bincount(rows, minlength=len(column)).astype(np.float32)
    weights = 1.0 / counts[rows] if len(rows) else np.zeros(0, np.float32)
    width = int(codes.max()) + 1 if len(codes) else 1
    return sp.csr_matrix((weights.astype(np.float32), (rows, codes)), shape=(len(column), width))
