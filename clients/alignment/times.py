"""Alignment by time: each review with what its writer did with the item before, and the picture that was shown then.

Invariant: nothing is guessed: a review whose writer left no event with the item before it stands alone, and is listed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

# A picture of an item is shown where the item is looked at; a purchase repeats what was seen.
_SHOWN = ("view", "click", "cart", "purchase")


@dataclass(frozen=True)
class TimeFigures:
    """Shares of the dated reviews, the usual time from the event to the review, and the reviews that stand alone."""

    dated: int
    with_event: float
    after_purchase: float
    with_picture: float
    median_hours: float
    alone: tuple[str, ...]


def align_by_time(events: pl.DataFrame, reviews: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """Each dated review with the last thing its writer did with the item before writing.

    Returns
    -------
    review_id, item_id, event, at, `shown` (the picture of the item that the event showed), `image` (the review's own),
    and `after`: the time between event and review; null where there was no event.
    """
    left = reviews.drop_nulls("created_at").sort("created_at")
    right = events.drop_nulls("item_id").select("user_id", "item_id", "event", "at").sort("at")
    pictures = products.select("item_id", pl.col("image").alias("shown"))
    met = left.join_asof(
        right, left_on="created_at", right_on="at", by=["user_id", "item_id"], check_sortedness=False
    ).join(pictures, on="item_id", how="left", maintain_order="left")
    shown = pl.when(pl.col("event").is_in(_SHOWN)).then("shown").alias("shown")
    return met.select(
        "review_id",
        "item_id",
        "event",
        "at",
        shown,
        "image",
        (pl.col("created_at") - pl.col("at")).alias("after"),
    )


def time_figures(aligned: pl.DataFrame) -> TimeFigures:
    """What share of the reviews has an event, a purchase and a picture before it."""
    count = max(1, aligned.height)
    seconds = aligned["after"].dt.total_seconds().drop_nulls().to_numpy()
    return TimeFigures(
        aligned.height,
        aligned["event"].count() / count,
        int((aligned["event"] == "purchase").sum()) / count,
        aligned["shown"].count() / count,
        float(np.median(seconds)) / 3600 if len(seconds) else float("nan"),
        tuple(aligned.filter(pl.col("event").is_null())["review_id"].to_list()),
    )
