"""Alignment by time: each review with its writer's last event with the item, and the picture that was shown then.

Invariant: nothing is guessed: a review without an earlier event of its writer with the item stays alone, and is listed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

# Events in which the item's picture is shown; before a purchase it was shown too.
_SHOWN = ("view", "click", "cart", "purchase")


@dataclass(frozen=True)
class TimeFigures:
    """Shares of the dated reviews, the median time from event to review, and the reviews without an event."""

    dated: int
    with_event: float
    after_purchase: float
    with_picture: float
    median_hours: float
    alone: tuple[str, ...]


def align_by_time(events: pl.DataFrame, reviews: pl.DataFrame, products: pl.DataFrame) -> pl.DataFrame:
    """Each dated review with its writer's last event with the item before the review.

    Returns
    -------
    review_id, item_id, event, at, `shown` (the picture of the item that the event showed), `image` (the review's
    own), and `after`: the time between event and review; null if there was no event.
    """
    dated = reviews.drop_nulls("created_at").sort("created_at")
    item_events = events.drop_nulls("item_id").select("user_id", "item_id", "event", "at").sort("at")
    pictures = products.select("item_id", pl.col("image").alias("shown"))
    joined = dated.join_asof(
        item_events, left_on="created_at", right_on="at", by=["user_id", "item_id"], check_sortedness=False
    ).join(pictures, on="item_id", how="left", maintain_order="left")
    shown_picture = pl.when(pl.col("event").is_in(_SHOWN)).then("shown").alias("shown")
    return joined.select(
        "review_id",
        "item_id",
        "event",
        "at",
        shown_picture,
        "image",
        (pl.col("created_at") - pl.col("at")).alias("after"),
    )


def time_figures(aligned: pl.DataFrame) -> TimeFigures:
    """The shares of reviews with an earlier event, purchase and picture."""
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
