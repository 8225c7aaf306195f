"""Cleaning of event logs: without repeats, with sessions, in a possible order.

Invariant: no event is invented, and every event that stays keeps its user, item and kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import polars as pl

GAP = timedelta(minutes=30)
SKEW = timedelta(minutes=10)


@dataclass(frozen=True)
class LogFaults:
    """How many events were repeats, or had a wrong clock that was corrected."""

    repeats: int
    clocks_mended: int


def clean_events(events: pl.DataFrame, gap: timedelta = GAP) -> tuple[pl.DataFrame, LogFaults]:
    """Clean a canonical table of events.

    Repeats are equal in user, item, event, instant and query. An event without a session joins the session of the
    user's event before it, if that is at most `gap` ago. A cart or purchase at most `SKEW` before the first view of the
    item in its session comes from a wrong clock: it gets the time of that view.
    """
    once = events.unique(["user_id", "item_id", "event", "at", "query"], keep="first", maintain_order=True)
    looked = (
        pl.col("at")
        .filter(pl.col("event").is_in(["view", "click"]))
        .min()
        .over("user_id", "session_id", "item_id")
    )
    wrong = (
        pl.col("event").is_in(["cart", "purchase"])
        & pl.col("session_id").is_not_null()
        & (looked > pl.col("at"))
        & (looked - pl.col("at") <= SKEW)
    ).fill_null(False)
    mended = once.with_columns(wrong.alias("wrong"), pl.when(wrong).then(looked).otherwise("at").alias("at"))
    clocks = int(mended["wrong"].sum())
    ordered = mended.drop("wrong").sort("user_id", "at", "item_id", nulls_last=True, maintain_order=True)
    return _with_sessions(ordered, gap), LogFaults(events.height - once.height, clocks)


def _with_sessions(events: pl.DataFrame, gap: timedelta) -> pl.DataFrame:
    begins = (pl.col("at") - pl.col("at").shift(1) > gap).fill_null(True).over("user_id")
    number = begins.cast(pl.Int64).cum_sum().over("user_id")
    made_up = pl.format("{}~{}", "user_id", number)
    return events.with_columns(pl.coalesce("session_id", made_up).alias("session_id"))
