"""Counts of users over public domains, with a bound on what one user adds.

A domain is public: the catalogue's items, categories and words, the kinds of events, stars, fixed buckets. Invariant: a
user counts in at most ``per_user`` rows, once in each. In which rows depends only on that user's own records; of a user
with more, the latest count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from clients.data.dataset import KINDS
from clients.ingest import SiteData
from clients.ingest.text import words

ACTIVITY = ("1", "2-3", "4-7", "8-15", "16-31", "32-63", "64 and more")
ITEMS_PER_USER = 10
WORDS_PER_USER = 20
MOST_WORDS = 5_000
STARS = ("1", "2", "3", "4", "5")


@dataclass(frozen=True)
class Counts:
    """Users by value of a public domain; one user is in at most ``per_user`` values."""

    values: tuple[str, ...]
    users: tuple[int, ...]
    per_user: int


def items(data: SiteData) -> Counts:
    """Users by item that they bought or put in the cart; of each user the latest items."""
    taken = data.events.filter(pl.col("event").is_in(["cart", "purchase"]) & pl.col("item_id").is_not_null())
    latest = _latest(taken.rename({"item_id": "value"}), ITEMS_PER_USER)
    return _counted(latest, data.products["item_id"].to_list(), ITEMS_PER_USER)


def kinds(data: SiteData) -> Counts:
    """Users by kind of event that they have."""
    pairs = data.events.select("user_id", pl.col("event").alias("value")).unique()
    return _counted(pairs, KINDS, len(KINDS))


def activity(data: SiteData) -> Counts:
    """Users by how many events they have."""
    sizes = data.events.drop_nulls("user_id").group_by("user_id").len()
    bucket = sizes["len"].map_elements(_bucket, return_dtype=pl.String)
    return _counted(pl.DataFrame({"user_id": sizes["user_id"], "value": bucket}), ACTIVITY, 1)


def ratings(data: SiteData) -> Counts:
    """Users by the stars of their latest review."""
    rated = data.reviews.drop_nulls(["user_id", "rating"]).with_columns(
        pl.col("rating").round().cast(pl.Int64).clip(1, 5).cast(pl.String).alias("value"),
        pl.col("created_at").alias("at"),
    )
    return _counted(_latest(rated, 1), STARS, 1)


def segments(data: SiteData) -> Counts:
    """Users by the category that they bought most: audiences for advertising."""
    domain = sorted(data.products["category"].drop_nulls().unique().to_list())
    bought = data.events.filter(pl.col("event") == "purchase").join(
        data.products.select("item_id", "category"), on="item_id", how="inner"
    )
    often = bought.drop_nulls(["user_id", "category"]).group_by("user_id", "category").len()
    first = often.sort(["user_id", "len", "category"], descending=[False, True, False]).unique(
        "user_id", keep="first", maintain_order=True
    )
    return _counted(first.select("user_id", pl.col("category").alias("value")), domain, 1)


def vocabulary(data: SiteData) -> Counts:
    """Users by word of the catalogue in their reviews; of each user the first words in alphabetical order."""
    domain = _catalogue_words(data)
    domain_words = frozenset(domain)
    pairs: list[tuple[str, str]] = []
    texts = data.reviews.drop_nulls(["user_id", "text"]).group_by("user_id").agg("text")
    for user, user_texts in texts.select("user_id", "text").iter_rows():
        own_words = {word for text in user_texts for word in words(text, data.language)} & domain_words
        pairs += [(user, word) for word in sorted(own_words)[:WORDS_PER_USER]]
    frame = pl.DataFrame(pairs, schema={"user_id": pl.String, "value": pl.String}, orient="row")
    return _counted(frame, domain, WORDS_PER_USER)


def completeness(data: SiteData) -> Counts:
    """Users by gaps in their records, as a quality report lists them."""
    reviews, events = data.reviews.drop_nulls("user_id"), data.events.drop_nulls("user_id")
    lacking = {
        "reviewed": reviews["user_id"],
        "reviewed without text": reviews.filter(pl.col("text").fill_null("").str.len_chars() == 0)["user_id"],
        "reviewed without stars": reviews.filter(pl.col("rating").is_null())["user_id"],
        "acted": events["user_id"],
        "acted without a session": events.filter(pl.col("session_id").is_null())["user_id"],
        "bought": events.filter(pl.col("event") == "purchase")["user_id"],
    }
    users = tuple(column.n_unique() for column in lacking.values())
    return Counts(tuple(lacking), users, len(lacking))


def _catalogue_words(data: SiteData) -> list[str]:
    texts = data.products.select(pl.concat_str(pl.col("title", "description").fill_null(""), separator=" "))
    counts: Counter[str] = Counter()
    for (text,) in texts.iter_rows():
        counts.update(set(words(text, data.language)))
    return sorted(sorted(counts, key=lambda word: (-counts[word], word))[:MOST_WORDS])


def _latest(frame: pl.DataFrame, most: int) -> pl.DataFrame:
    """Each user's latest different values, at most ``most``; ties by the value."""
    pairs = frame.drop_nulls("user_id").group_by("user_id", "value").agg(pl.col("at").max())
    ordered = pairs.sort(["user_id", "at", "value"], descending=[False, True, False], nulls_last=True)
    return ordered.group_by("user_id", maintain_order=True).head(most)


def _counted(pairs: pl.DataFrame, domain: Sequence[str], per_user: int) -> Counts:
    """The number of users of each value of the domain; other values are left out."""
    users = dict(pairs.unique(["user_id", "value"]).drop_nulls().group_by("value").len().iter_rows())
    return Counts(tuple(domain), tuple(int(users.get(value, 0)) for value in domain), per_user)


def _bucket(size: int) -> str:
    return ACTIVITY[min(size.bit_length() - 1, len(ACTIVITY) - 1)]
