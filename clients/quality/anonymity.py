"""The k-anonymity of a site's customers by age and postcode, before and after both are widened.

The file `customers` is optional, and only this report reads it: it isn't ingested, and no league learns from it.

Invariant: figures only; no age, postcode or id leaves this module.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from clients.anonymise import anonymity, generalise
from clients.ingest.complaints import ComplaintBook
from clients.ingest.files import find_table, table_batches
from clients.ingest.table_rules import typed
from common.schema import CUSTOMERS, SiteInfo, end_of_tomorrow

_TOLD = ["age", "postcode"]


def crowd_figures(folder: Path, info: SiteInfo) -> dict[str, float]:
    """`people`, `k_anonymity`, and after widening `k_widened` and `people_kept`; empty if there is no such file.

    Raises
    ------
    InputError : the file can't be read as a whole.
    """
    path = find_table(folder, CUSTOMERS)
    if path is None:
        return {}
    before, book = end_of_tomorrow(datetime.now(UTC).date()), ComplaintBook()
    batches = table_batches(path, CUSTOMERS, info.encoding, book)
    frames = [
        CUSTOMERS.empty(),
        *(typed(raw, CUSTOMERS, before, book).select(CUSTOMERS.names) for raw in batches),
    ]
    people = pl.concat(frames).unique("user_id").with_columns(pl.col("age").floor().cast(pl.Int64))
    if people.is_empty():
        return {}
    widened = generalise(people, info.quality.crowd)
    return {
        "people": people.height,
        "k_anonymity": anonymity(people, _TOLD),
        "k_widened": anonymity(widened, _TOLD),
        "people_kept": widened.height / people.height,
    }
