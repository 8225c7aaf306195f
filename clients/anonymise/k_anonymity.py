"""k-anonymity: the size of the smallest group with the same age band and postcode, and how to make it larger.

Sweeney, "k-anonymity: a model for protecting privacy", 2002. A figure of 1 means that somebody is unique.
Invariant: generalising never splits a group, so k never falls.
"""

from __future__ import annotations

import polars as pl


def anonymity(people: pl.DataFrame, columns: list[str]) -> int:
    """The size of the smallest group of rows that are equal in `columns`; 0 if there are no rows."""
    return min(people.group_by(columns).len()["len"].to_list(), default=0)


def band_ages(ages: pl.Series, width: int) -> pl.Series:
    """Ages as bands of `width` years, e.g. 34 → "30-39"."""
    low = ages // width * width
    banded = pl.when(low.is_not_null()).then(pl.format("{}-{}", low, low + width - 1))
    return pl.select(banded.alias(ages.name)).to_series()


def cut_postcodes(codes: pl.Series, letters: int) -> pl.Series:
    """Postcodes with all after their first `letters` letters cut; null stays null."""
    return codes.str.slice(0, letters) + "*"


def generalise(people: pl.DataFrame, k: int, *, age: str = "age", postcode: str = "postcode") -> pl.DataFrame:
    """Widen age bands and cut postcodes, step by step, until every group has `k` rows; drop the rows that still don't.

    Parameters
    ----------
    people : one row per person, `age` as a number, `postcode` as text.
    """
    widest = max(people[postcode].drop_nulls().str.len_chars().to_list(), default=0)
    for width, letters in [
        (5, widest),
        *((10, letters) for letters in range(widest, -1, -1)),
        (20, 0),
        (200, 0),
    ]:
        widened = people.with_columns(
            band_ages(people[age], width).alias(age), cut_postcodes(people[postcode], letters).alias(postcode)
        )
        lonely = widened.select((pl.len() < k).over(age, postcode)).to_series()
        # If at most one row in twenty is in too small a group, dropping these is better than coarsening all.
        if people.height >= k and lonely.sum() <= 0.05 * people.height:
            return widened.filter(~lonely)
    return widened.filter(~lonely)
