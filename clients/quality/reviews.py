"""Reviews that aren't genuine: duplicates, templates, bursts, texts that contradict their rating.

Each function returns the ids it suspects. Invariant: short texts ("很好", "great") never count as suspicious.
"""

from __future__ import annotations

import re

import polars as pl

from common.schema import QualitySection

LONG_ENOUGH = 12
ACCOUNT_REVIEWS = 5
_GOOD = re.compile(
    r"\b(?:excellent|perfect|love|loved|great|wonderful|superb|amazing|fantastic|best|delighted|recommend)\b"
    r"|很好|非常好|不错|喜欢|满意|完美|推荐|赞|漂亮|值得|超值", re.IGNORECASE,
)  # fmt: skip
_BAD = re.compile(
    r"\b(?:terrible|awful|broken|broke|worst|horrible|useless|waste|refund|rubbish|poor|disappointed|disappointing|defective)\b"
    r"|很差|太差|差评|垃圾|失望|退货|坏了|后悔|质量差|骗人|难用|上当|糟糕", re.IGNORECASE,
)  # fmt: skip
_NEGATION = re.compile(
    r"(?:\b(?:not|no|never|isn't|wasn't|don't|didn't|hardly|without)\b[\w' ]{0,12}|[不没别][^，。,.]{0,2})$",
    re.I,
)


def _normal(texts: pl.Expr) -> pl.Expr:
    return texts.str.to_lowercase().str.replace_all(r"[\s\p{P}\p{S}]+", "").str.replace_all(r"\d+", "0")


def duplicates(reviews: pl.DataFrame) -> list[str]:
    """Reviews whose text the same user has written before."""
    long = _long(reviews).sort("created_at", nulls_last=True, maintain_order=True)
    return long.filter(~pl.struct("user_id", "normal").is_first_distinct())["review_id"].to_list()


def templated(reviews: pl.DataFrame, settings: QualitySection) -> list[str]:
    """Reviews whose text, apart from digits and punctuation, several users have written."""
    users = pl.col("user_id").n_unique().over("normal")
    return _long(reviews).filter(users >= settings.template_users)["review_id"].to_list()


def bursts(reviews: pl.DataFrame, settings: QualitySection) -> list[str]:
    """Reviews of one item with one rating, many in a short time and far more than is usual for the item."""
    dated = reviews.drop_nulls(["created_at", "rating"]).sort("item_id", "rating", "created_at")
    if dated.is_empty():
        return []
    wide = f"{settings.burst_hours}h"
    counted = dated.with_columns(
        pl.col("review_id").count().over("item_id").alias("all"),
        ((pl.col("created_at").max() - pl.col("created_at").min()).dt.total_hours() / settings.burst_hours)
        .clip(1.0)
        .over("item_id")
        .alias("spans"),
    )
    windows = counted.rolling("created_at", period=wide, group_by=["item_id", "rating"], closed="both").agg(
        pl.col("review_id").alias("members"), pl.col("all").last(), pl.col("spans").last()
    )
    size = pl.col("members").list.len()
    thick = windows.filter((size >= settings.burst_reviews) & (size > 4 * pl.col("all") / pl.col("spans")) | (
        (size >= settings.burst_reviews) & (size == pl.col("all"))
    ))  # fmt: skip
    return thick["members"].explode().unique().drop_nulls().to_list()


def mismatches(reviews: pl.DataFrame) -> list[str]:
    """Reviews that praise with one or two stars, or complain with four or five; mixed texts are left alone."""
    suspects = []
    rated = reviews.drop_nulls(["rating", "text"]).select("review_id", "rating", "text")
    for identity, rating, text in rated.iter_rows():
        good, bad = _leaning(text)
        if (rating >= 4 and bad >= 2 and good == 0) or (rating <= 2 and good >= 2 and bad == 0):
            suspects.append(identity)
    return suspects


def _leaning(text: str) -> tuple[int, int]:
    counts = [0, 0]
    for place, pattern in enumerate((_GOOD, _BAD)):
        for hit in pattern.finditer(text):
            turned = _NEGATION.search(text[max(0, hit.start() - 16) : hit.start()]) is not None
            counts[1 - place if turned else place] += 1
    return counts[0], counts[1]


def accounts(reviews: pl.DataFrame, events: pl.DataFrame) -> list[str]:
    """Users with many reviews, all with the same rating, which came within a day or without any event in the log."""
    people = reviews.group_by("user_id").agg(
        pl.len().alias("count"),
        pl.col("rating").n_unique().alias("ratings"),
        (pl.col("created_at").max() - pl.col("created_at").min()).dt.total_hours().alias("hours"),
    )
    many = people.filter((pl.col("count") >= ACCOUNT_REVIEWS) & (pl.col("ratings") == 1))
    unseen = (
        ~pl.col("user_id").is_in(events["user_id"].unique().implode()) if events.height else pl.lit(False)
    )
    return sorted(many.filter((pl.col("hours") <= 24) | unseen)["user_id"].to_list())


def _long(reviews: pl.DataFrame) -> pl.DataFrame:
    normal = reviews.drop_nulls("text").with_columns(_normal(pl.col("text")).alias("normal"))
    return normal.filter(pl.col("normal").str.len_chars() >= LONG_ENOUGH)
