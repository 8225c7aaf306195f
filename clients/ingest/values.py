"""From raw columns to typed ones, and which of their values break the contract.

Invariant: the same value means the same in every file format. Text is stripped, and blank text is absent;
numbers are finite; instants are UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import polars as pl

from common.errors import InputError
from common.schema import EARLIEST, Column

Fault = tuple[pl.Series, str]
# Text that a spreadsheet would run as a formula if it opened an export: =1+1, =A1, @SUM(…, +cmd|…, =HYPERLINK(….
FORMULA = r"""^(?:=\s*(?:[-+"$(0-9]|[A-Za-z$_.]+[$0-9(|!])|[@+-]\s*[A-Za-z_.]+[(|])"""
# Controls, zero width and bidi marks: an id with them looks like another id.
HIDDEN = r"[\x01-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]"
_DATE = r"^\d{4}-\d{2}-\d{2}$"
_INSTANT = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?[+-]\d{2}:\d{2}$"


def convert(raw: pl.Series, column: Column, where: str, before: datetime) -> tuple[pl.Series, list[Fault]]:
    """Cast one column to its canonical type.

    Parameters
    ----------
    before : the first instant that counts as the future.

    Returns
    -------
    The typed column, null if the value is absent or can't be parsed, and the faults, each a mask of rows and a
    description. A value out of range keeps its parsed form; the caller clears it.

    Raises
    ------
    InputError : the whole column has an impossible type, for example a list.
    """
    match column.kind:
        case "text":
            return _texts(raw, column, where)
        case "instant":
            return _instants(raw, column, where, before)
        case _:
            return _numbers(raw, column, where)


def _texts(raw: pl.Series, column: Column, where: str) -> tuple[pl.Series, list[Fault]]:
    if not (raw.dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null) or raw.dtype.is_integer()):
        raise _wrong_type(raw, column, where, "text")
    text = _blank_to_null(raw.cast(pl.String))
    faults = [(_true(text.str.contains(FORMULA)), "a spreadsheet would run it as a formula")]
    if column.required:
        faults.append((_true(text.str.contains(HIDDEN)), "holds letters that can't be seen"))
    if column.choices:
        faults.append((_true(~text.is_in(list(column.choices))), "not one of " + ", ".join(column.choices)))
    return text, faults


def _numbers(raw: pl.Series, column: Column, where: str) -> tuple[pl.Series, list[Fault]]:
    if not (raw.dtype in (pl.String, pl.Null) or raw.dtype.is_numeric()):
        raise _wrong_type(raw, column, where, "numbers")
    cells = _blank_to_null(raw) if raw.dtype == pl.String else raw
    number = cells.cast(pl.Float64, strict=False)
    unread = cells.is_not_null() & number.is_null()
    infinite = _true(~number.is_finite())
    faults = [(unread, "not a number"), (infinite, "not a finite number")]
    number = _clear(number, infinite)
    faults += [(mask, text) for mask, text in _range_faults(number, column)]
    if column.kind == "number":
        return number, faults
    broken = _true(number != number.round(0))
    faults.append((broken, "not a whole number"))
    safe = _clear(number, broken | _true(number.abs() > 2.0**53))
    return safe.cast(pl.Int64), faults


def _range_faults(number: pl.Series, column: Column) -> Iterator[Fault]:
    if column.minimum is not None:
        yield _true(number < column.minimum), f"below {column.minimum:g}"
    if column.maximum is not None:
        yield _true(number > column.maximum), f"above {column.maximum:g}"


def _instants(raw: pl.Series, column: Column, where: str, before: datetime) -> tuple[pl.Series, list[Fault]]:
    unread = pl.repeat(False, len(raw), eager=True)
    if raw.dtype == pl.String:
        cells = _blank_to_null(raw)
        at = _parse_instants(cells)
        unread = cells.is_not_null() & at.is_null()
    elif raw.dtype == pl.Date or isinstance(raw.dtype, pl.Datetime) or raw.dtype == pl.Null:
        at = raw.cast(pl.Datetime("us", raw.dtype.time_zone if isinstance(raw.dtype, pl.Datetime) else None))
        zone = raw.dtype.time_zone if isinstance(raw.dtype, pl.Datetime) else None
        at = at.dt.convert_time_zone("UTC") if zone else at.dt.replace_time_zone("UTC")
    else:
        raise _wrong_type(raw, column, where, "dates")
    return at, [
        (unread, "not an ISO 8601 date, such as 2024-05-31 or 2024-05-31T18:30:00Z"),
        (_true(at < EARLIEST), "before 1970"),
        (_true(at >= before), "in the future"),
    ]


def _parse_instants(text: pl.Series) -> pl.Series:
    """Parse ISO 8601 with a date, and optionally minutes, seconds, fractions and a zone."""
    whole = (
        pl.when(text.str.contains(_DATE))
        .then(text + "T00:00:00Z")
        .otherwise(text.str.replace(r"^(\d{4}-\d{2}-\d{2})[ t]", "${1}T"))
    )
    return (
        pl.select(
            whole.str.replace(r"(T\d{2}:\d{2})($|Z|[+-])", "${1}:00${2}")
            .str.replace(r"(T[\d:.]+)$", "${1}Z")
            .str.replace(r"[zZ]$", "+00:00")
            .alias("text")
        )
        .select(
            pl.when(pl.col("text").str.contains(_INSTANT))
            .then(pl.col("text"))
            .str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", time_zone="UTC", strict=False)
        )
        .to_series()
    )


def _blank_to_null(text: pl.Series) -> pl.Series:
    stripped = text.str.strip_chars()
    return stripped.set(stripped == "", None)


def _clear(series: pl.Series, mask: pl.Series) -> pl.Series:
    return series.set(mask, None)


def _true(mask: pl.Series) -> pl.Series:
    return mask.fill_null(False)


def _wrong_type(raw: pl.Series, column: Column, where: str, needed: str) -> InputError:
    return InputError(
        f"the column '{column.name}' has the type {raw.dtype}",
        where=where,
        why=f"it needs {needed}",
        next_step="convert the column before exporting",
    )
