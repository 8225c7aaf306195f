"""k-anonymity: how large the smallest crowd is that shares the same age band and postcode, and how to widen it.

Sweeney, "k-anonymity: a model for protecting privacy", 2002. A figure of 1 means that someone stands alone.

Invariant: generalising never splits a crowd, so k never falls.
"""

from __future__ import annotations

import polars as pl


def anonymity(people: pl.DataFrame, columns: list[str]) -> int:
    """The size of the smallest group of rows alike in `columns`; 0 where there is no row."""
    return min(people.group_by(columns).len()["len"].to_list(), default=0)


def band_ages(ages: pl.Series, width: int) -> pl.Series:
    """Ages as bands of `width` years, e.g. 34 → "30-39"."""
    low = ages // width * width
    banded = pl.when(low.is_not_null()).then(pl.format("{}-{}", low, low + width - 1))
    return pl.select(banded.alias(ages.name)).to_series()


def cut_postcodes(codes: pl.Series, kept: int) -> pl.Series:
    """Postcodes with all after their first `kept` letters cut; null stays null."""
    return codes.str.slice(0, kept) + "*"


def generalise(people: pl.DataFrame, k: int, *, age: str = "age", postcode: str = "postcode") -> pl.DataFrame:
    """Widen age bands and cut postcodes, step by step, until every crowd has `k`; drop who is still too lonely.

    Parameters
    ----------
    people : one row per person, `age` as a number, `postcode` as text.
    """
    widest = max(people[postcode].drop_nulls().str.len_chars().to_list(), default=0)
    for width, kept in [(5, widest), *((10, kept) for kept in range(widest, -1, -1)), (20, 0), (200, 0)]:
        made = people.with_columns(
            band_ages(people[age], width).alias(age), cut_postcodes(people[postcode], kept).alias(postcode)
        )
        lonely = made.select((pl.len() < k).over(age, postcode)).to_series()
        # A step that leaves at most one in twenty alone is better kept than coarsened for all.
        if people.height >= k and lonely.sum() <= 0.05 * people.height:
            return made.filter(~lonely)
    return made.filter(~lonely)
