"""The checks of a site's data.

Invariant: a check passes or fails by a share and a limit, which are both in the result, and lists what it suspects by
id, so that every result can be verified. The schema itself (types, ranges, keys between tables) is checked while
reading, by `clients.ingest` with polars and by pydantic for `site.toml`: a second validation library would read the
rows twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import polars as pl

from clients.ingest import SiteData
from clients.ingest.complaints import count_refused
from clients.ingest.text import words
from clients.quality import logs, pictures, reviews
from common.schema import QualitySection

_TABLES = {"products": "all", "reviews": "text", "events": "events"}


@dataclass(frozen=True)
class Check:
    """The result of one check: `share` of `of` rows are suspected, and the check fails above `limit`.

    `found` holds ids, row numbers, days or complaints; `more` is how many were found beside these.
    """

    name: str
    modality: str
    found: tuple[str, ...]
    of: int
    limit: float
    more: int = 0

    @property
    def count(self) -> int:
        """How many rows are suspected."""
        return len(self.found) + self.more

    @property
    def share(self) -> float:
        """The share of the rows that are suspected."""
        return min(1.0, self.count / self.of) if self.of else 0.0

    @property
    def passed(self) -> bool:
        """Whether the share is within the limit."""
        return self.share <= self.limit


@dataclass(frozen=True)
class Quality:
    """All checks of a site, the completeness of its columns, and figures without a limit."""

    site: str
    title: str
    checks: tuple[Check, ...]
    completeness: dict[str, dict[str, float]]
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)


def assess(
    data: SiteData, settings: QualitySection, say: Callable[[int, int], None] = lambda done, total: None,
    figures: Mapping[str, float] = MappingProxyType({}),
) -> Quality:  # fmt: skip
    """Check a site's data.

    Parameters
    ----------
    say : called with the number of pictures that were checked, and of all.
    figures : more figures to report, such as those of `embedding_spread`.
    """
    written_reviews, events, products = data.reviews, data.events, data.products
    groups = _groups(products)
    picture_faults = pictures.look(data.images, settings, groups, say)
    users, days = events["user_id"].n_unique(), _days(events)
    dup, fake, bad, log = (
        settings.max_duplicates,
        settings.max_fakes,
        settings.max_bad_pictures,
        settings.max_log_faults,
    )
    checks = (
        *(_refused(data, name, modality, settings.max_refused) for name, modality in _TABLES.items()),
        Check(
            "empty_columns",
            "all",
            tuple(_empty(data)),
            max(1, len(_completeness(data))),
            settings.max_missing,
        ),
        Check(
            "incomplete_rows",
            "all",
            tuple(_incomplete(data)),
            max(1, products.height + written_reviews.height),
            settings.max_missing,
        ),
        Check(
            "duplicate_reviews",
            "text",
            tuple(reviews.duplicates(written_reviews)),
            written_reviews.height,
            dup,
        ),
        Check(
            "templated_reviews",
            "text",
            tuple(reviews.templated(written_reviews, settings)),
            written_reviews.height,
            fake,
        ),
        Check(
            "burst_reviews",
            "text",
            tuple(reviews.bursts(written_reviews, settings)),
            written_reviews.height,
            fake,
        ),
        Check(
            "rating_text_mismatch",
            "text",
            tuple(reviews.mismatches(written_reviews)),
            written_reviews.height,
            settings.max_mismatches,
        ),
        Check(
            "suspicious_accounts",
            "text",
            tuple(reviews.accounts(written_reviews, events)),
            written_reviews["user_id"].n_unique(),
            fake,
        ),
        Check("unreadable_pictures", "image", tuple(picture_faults.unreadable), picture_faults.count, bad),
        Check("blurred_pictures", "image", tuple(picture_faults.blurred), picture_faults.count, bad),
        Check("noisy_pictures", "image", tuple(picture_faults.noisy), picture_faults.count, bad),
        Check("bad_exposure", "image", tuple(picture_faults.exposure), picture_faults.count, bad),
        Check("alike_pictures", "image", tuple(picture_faults.alike), picture_faults.count, dup),
        Check("repeated_events", "events", tuple(logs.repeats(events)), events.height, log),
        Check("bots", "events", tuple(logs.bots(events)), users, log),
        Check("impossible_order", "events", tuple(logs.impossible(events, products)), events.height, log),
        Check("days_without_events", "events", tuple(logs.gaps(events)), days, log),
    )
    site_figures = {
        "psnr_db": picture_faults.psnr_db,
        "picture_spread": picture_faults.spread,
        "word_entropy_bits": word_entropy(data),
        "category_entropy_bits": entropy(products["category"]),
    }
    return Quality(data.name, data.title, checks, _completeness(data), site_figures | dict(figures))


def entropy(values: pl.Series) -> float:
    """Shannon entropy in bits."""
    counts = values.drop_nulls().value_counts()["count"].to_list()
    total = sum(counts)
    return -sum(count / total * math.log2(count / total) for count in counts) if total else 0.0


def word_entropy(data: SiteData, sample: int = 2000) -> float:
    """Entropy of the words of the first reviews, in bits."""
    texts = data.reviews["text"].drop_nulls().head(sample)
    return entropy(
        pl.Series([word for text in texts for word in words(text, data.language)], dtype=pl.String)
    )


def _groups(products: pl.DataFrame) -> dict[str, str]:
    pictured = products.drop_nulls("image")
    return dict(zip(pictured["image"], pictured["product_code"].fill_null(pictured["item_id"]), strict=True))


def _refused(data: SiteData, table: str, modality: str, limit: float) -> Check:
    """The check of a table's rows that were skipped or had a value cleared, of all rows in its file."""
    bad = [c for c in data.complaints if c.action != "column ignored" and c.file.partition(".")[0] == table]
    sentences = tuple(complaint.sentence() for complaint in bad if complaint.row is not None)
    frame: pl.DataFrame = getattr(data, table)
    of = frame.height + count_refused(bad, "row skipped")
    return Check(f"refused_{table}", modality, sentences, of, limit, count_refused(bad) - len(sentences))


def _completeness(data: SiteData) -> dict[str, dict[str, float]]:
    tables = {"products": data.products, "reviews": data.reviews, "events": data.events}
    return {
        name: {column: 1 - frame[column].null_count() / frame.height for column in frame.columns}
        for name, frame in tables.items()
        if frame.height
    }


def _empty(data: SiteData) -> list[str]:
    key = {"products": "title", "reviews": "text", "events": "item_id"}
    return [f"{name}.{key[name]}" for name, columns in _completeness(data).items() if columns[key[name]] == 0]


def _incomplete(data: SiteData) -> list[str]:
    """Products that lack a value that most products have, and reviews with neither text nor rating."""
    lacking = [pl.col(name).is_null() for name in ("title", "category", "price", "image")
               if data.products.height and data.products[name].null_count() < data.products.height / 2]  # fmt: skip
    bare = data.products.filter(pl.any_horizontal(lacking))["item_id"].to_list() if lacking else []
    empty = data.reviews.filter(pl.col("text").is_null() & pl.col("rating").is_null())
    return [*bare, *empty["review_id"].to_list()]


def _days(events: pl.DataFrame) -> int:
    first, last = events["at"].dt.date().min(), events["at"].dt.date().max()
    return 0 if first is None or last is None else (last - first).days + 1  # type: ignore[operator, union-attr]
