"""Logs that can't be right, or have gaps: repeats, bots, impossible orders, days without an event.

Each function returns what it suspects: row numbers of the canonical table, users, or days.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

BOT_EVENTS = 50
BOT_GAP_S = 1.0
BUSY_DAY = 20


def repeats(events: pl.DataFrame) -> list[str]:
    """Events that repeat an earlier event in every value."""
    twice = ~events.select(
        pl.struct("user_id", "item_id", "event", "at", "query").is_first_distinct()
    ).to_series()
    return [str(row) for row in twice.arg_true().to_list()]


def bots(events: pl.DataFrame) -> list[str]:
    """Users with many events, whose median pace is too fast for a person."""
    gaps = (pl.col("at") - pl.col("at").shift(1)).dt.total_milliseconds() / 1000
    paced = (
        events.sort("user_id", "at")
        .with_columns(gaps.over("user_id").alias("gap"))
        .group_by("user_id")
        .agg(pl.len().alias("count"), pl.col("gap").median())
    )
    return sorted(
        paced.filter((pl.col("count") >= BOT_EVENTS) & (pl.col("gap") <= BOT_GAP_S))["user_id"].to_list()
    )


def impossible(events: pl.DataFrame, products: pl.DataFrame) -> list[str]:
    """Events with an item before it was listed, and carts or purchases before the first view in the same session."""
    looked = pl.col("at").filter(pl.col("event").is_in(["view", "click"])).min()
    judged = (
        events.with_row_index("row")
        .join(products.select("item_id", "listed_at"), on="item_id", how="left", maintain_order="left")
        .with_columns(looked.over("user_id", "session_id", "item_id").alias("looked"))
    )
    before_shelf = pl.col("at").dt.date() < pl.col("listed_at").dt.date()
    before_look = (
        pl.col("event").is_in(["cart", "purchase"])
        & pl.col("session_id").is_not_null()
        & (pl.col("looked") > pl.col("at"))
    )
    wrong = judged.filter(before_shelf.fill_null(False) | before_look.fill_null(False))
    return [str(row) for row in wrong["row"].to_list()]


def gaps(events: pl.DataFrame) -> list[str]:
    """Days without any event between the first and the last one, in a log with many events on a usual day."""
    if events.is_empty():
        return []
    days = events.group_by(pl.col("at").dt.date().alias("day")).len()
    usual = days["len"].median()
    if not isinstance(usual, float) or usual < BUSY_DAY:
        return []
    busy = set(days["day"].to_list())
    first, end = min(busy), max(busy)
    return [str(day) for n in range((end - first).days) if (day := first + timedelta(days=n)) not in busy]
