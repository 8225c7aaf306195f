"""What joining a league is worth against the strongest thing a merchant would deploy alone.

Leagues: the bazaar with five seeds, privacy off and ε = 3; H&M's departments on three test days, with all customers and
with 300 and 100 a site. What is divided: ``final``, as deployed with the league, by

    alone       the same ranker with the same signals, fitted at home, its strength chosen on validation
    untrained   the best of popularity, item-kNN, EASE, the ready-made hybrid and the ranker at its public start: one
                method a league, the one that does best over its merchants on the test rows themselves, so the opponent
                has the luck of the choice
    before      ``final`` of an earlier version on the same rows, where its cells are at hand (--before)

and for joiners, merchants left out of the league, ``joiner`` (the league's weights as they come) by ``constants`` (the
public start). Figures are NDCG@20, means over merchants with `MIN_ROWS` test rows; intervals over leagues, draws of the
noise and customers (a bootstrap that draws each in turn). Invariant: nothing is chosen on test windows.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import HansaError
from common.files import PROJECT
from simulations.benchmarks import BenchResult
from simulations.benchmarks.support.cells import Cell, kept_cells
from simulations.benchmarks.support.joining_league import JoiningCell, run_cell
from simulations.runs.paired import MIN_ROWS

SEEDS = (0, 1, 2, 3, 4)
DAYS = ("2020-09-19", "2020-09-20", "2020-09-21")
HM = PROJECT.parent / "shared" / "data" / "hm"
HM_SETTINGS = ("data.min_users=800",)
UNTRAINED = ("popularity", "item_knn", "ease", "no_training", "constants")
KINDS = ("returning", "basket_")
BOOTSTRAPS = 400
QUICK = ("data.n_sites=4", "data.users_per_site=60", "data.items_per_site=80")
Values = list[NDArray[np.float64]]
"""NDCG@20 of the test rows of each merchant."""


def run(quick: bool) -> BenchResult:
    """The bazaar's five seeds and, where its files are, H&M; quick: one small bazaar without privacy."""
    if quick:
        return table([run_cell(JoiningCell("bazaar", 0, settings=QUICK))])
    return table([run_cell(job) for job in jobs_of(("bazaar", "hm") if HM.is_dir() else ("bazaar",))])


def parts(only: str, seeds: Sequence[int], file: Path | None, tell: Callable[[str], None]) -> BenchResult:
    """Some of the leagues: ``only`` names data sets or variants (bazaar, hm, 300, 100, all)."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    jobs = [
        job for job in jobs_of(("bazaar", "hm"), seeds) if not words or {job.data, job.variant} & set(words)
    ]
    by_key = {json.dumps(job.key()): job for job in jobs}
    keys = [job.key() for job in jobs]
    return table(kept_cells(keys, lambda key: run_cell(by_key[json.dumps(key)]), file, tell))


def jobs_of(
    data: Sequence[str], seeds: Sequence[int] = SEEDS, variants: Sequence[str] = ("300", "100", "all"),
    path: Path | None = None,
) -> list[JoiningCell]:  # fmt: skip
    """The leagues of a table.

    Parameters
    ----------
    path : folder of MovieLens 100k, for data "ml100k".
    """
    jobs = [JoiningCell("bazaar", seed, private="site") for seed in seeds] if "bazaar" in data else []
    if "hm" in data:
        jobs += [
            JoiningCell("hm", 0, day, variant, HM_SETTINGS, HM, "distributed")
            for variant in variants
            for day in DAYS
        ]
    if "ml100k" in data:
        jobs.append(JoiningCell("ml100k", 0, path=path))
    return jobs


def table(cells: Sequence[Cell], before: Sequence[Cell] = ()) -> BenchResult:
    """A line for each method and league, then the ratios with their intervals, for each group of leagues."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for group, members in _groups(cells).items():
        for method in _methods(members):
            means = [_mean(members, method, kind) for kind in KINDS]
            rows.append(
                {
                    "kind": "mean",
                    "name": method,
                    "group": group,
                    "returning": _r(means[0]),
                    "basket": _r(means[1]),
                }
            )
        for name, above, below in _pairs(members):
            for kinds in (KINDS[:1], KINDS[1:], KINDS):
                value, low, high = ratio(members, above, below, kinds)
                label = f"{group}: {name}, {'both' if len(kinds) == 2 else kinds[0].strip('_')}"
                if np.isfinite(value):
                    ratios[label] = round(value, 4)
                rows.append(
                    {
                        "kind": "ratio",
                        "name": label,
                        "value": _r(value),
                        "low": _r(low),
                        "high": _r(high),
                        "over": below,
                    }
                )
        rows += _before(group, members, [c for c in before if _group(c) == group], ratios)
    return {"name": "joining", "rows": rows, "ratios": ratios}


def ratio(
    cells: Sequence[Cell], above: str, below: str, kinds: Sequence[str], seed: int = 0
) -> tuple[float, float, float]:
    """A ratio of means, and the interval of a bootstrap over leagues, draws and customers; paired by customer.

    Parameters
    ----------
    above : a method; ``name*`` stands for all draws ``name0``, ``name1`` … of a private league.
    """
    pairs = [
        [(_values(c, a, k), _values(c, below, k)) for a in _draws(c, above) for k in [kind]]
        for c in cells
        for kind in kinds
    ]
    value = _quotient(
        [[rows for rows, _ in draws] for draws in pairs], [[rows for _, rows in draws] for draws in pairs]
    )
    generator, drawn = np.random.default_rng(seed), []
    per_cell = len(kinds)
    for _ in range(BOOTSTRAPS):
        tops, unders = [], []
        for place in generator.integers(0, len(cells), len(cells)):
            for draws in pairs[place * per_cell : (place + 1) * per_cell]:
                top, under = draws[generator.integers(len(draws))]
                picks = [generator.integers(0, len(rows), len(rows)) for rows in top]
                tops.append([[rows[p] for rows, p in zip(top, picks, strict=True)]])
                unders.append([[rows[p] for rows, p in zip(under, picks, strict=True)]])
        drawn.append(_quotient(tops, unders))
    low, high = np.nanquantile(drawn, [0.025, 0.975]) if cells else (np.nan, np.nan)
    return value, float(low), float(high)


def _quotient(top: list[list[Values]], under: list[list[Values]]) -> float:
    def mean(parts: list[list[Values]]) -> float:
        means = [np.mean([np.mean(rows) for rows in draw]) for draws in parts for draw in draws if draw]
        return float(np.mean(means)) if means else float("nan")

    return mean(top) / mean(under) if mean(under) > 0 else float("nan")


def _values(cell: Cell, method: str, kind: str) -> Values:
    """Rows of the members that count; of a joiner, of all that were left out once."""
    sites = [cell["sites"][name] for name in cell["members"]]
    return [
        np.array(site[method][kind]) for site in sites
        if len(site["final"][kind]) >= MIN_ROWS and len(site.get(method, {}).get(kind, ())) == len(site["final"][kind])
    ]  # fmt: skip


def _draws(cell: Cell, method: str) -> list[str]:
    if not method.endswith("*"):
        return [method]
    names = cell["sites"][cell["members"][0]]
    return sorted(name for name in names if name.startswith(method[:-1]))


def _mean(cells: Sequence[Cell], method: str, kind: str) -> float:
    means = [
        np.mean([np.mean(rows) for rows in values]) for c in cells if (values := _values(c, method, kind))
    ]
    return float(np.mean(means)) if means else float("nan")


def _methods(cells: Sequence[Cell]) -> list[str]:
    names = cells[0]["sites"][cells[0]["members"][0]]
    return [name for name in names if name != "best_valid"]


def _pairs(cells: Sequence[Cell]) -> list[tuple[str, str, str]]:
    best = max(UNTRAINED, key=lambda method: np.nansum([_mean(cells, method, kind) for kind in KINDS]))
    pairs = [
        ("final / alone", "final", "alone"),
        ("final / untrained", "final", best),
        ("joiner / constants", "joiner", "constants"),
        ("alone / untrained", "alone", best),
        ("final / ease", "final", "ease"),
    ]
    if any(name.startswith("final_private") for name in _methods(cells)):
        pairs += [
            ("eps 3: final / alone", "final_private*", "alone"), ("eps 3: final / untrained", "final_private*", best),
            ("eps 3: final / final off", "final_private*", "final"),
            ("eps 3: league / constants", "league_private*", "constants"),
        ]  # fmt: skip
    return pairs  # fmt: skip


def _before(
    group: str, cells: Sequence[Cell], before: Sequence[Cell], ratios: dict[str, float]
) -> list[dict[str, Any]]:
    """Against an earlier version: of the leagues that both measured; its rows aren't in the same order, so unpaired."""
    keys = [(c["key"]["seed"], c["key"]["day"]) for c in before]
    same = [c for c in cells if (c["key"]["seed"], c["key"]["day"]) in keys]
    rows = []
    for kind in KINDS if same else ():
        ours = [(c["key"]["seed"], c["key"]["day"]) for c in same]
        theirs = [c["sites"].values() for c in before if (c["key"]["seed"], c["key"]["day"]) in ours]
        means = [
            np.mean([np.mean(site["final"][kind]) for site in sites if len(site["final"][kind]) >= MIN_ROWS])
            for sites in theirs
        ]
        value = _mean(same, "final", kind) / float(np.mean(means))
        label = f"{group}: final / before, {kind.strip('_')}"
        if np.isfinite(value):
            ratios[label] = round(value, 4)
        rows.append({"kind": "ratio", "name": label, "value": _r(value), "leagues": len(same)})
    return rows


def _group(cell: Cell) -> str:
    key = cell["key"]
    return "bazaar" if key["data"] == "bazaar" else f"{key['data']} {key['variant']}"


def _groups(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_group(cell), []).append(cell)
    return groups


def _r(value: float) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the table or a part of it; exit code as of the error, else 0."""
    parser = argparse.ArgumentParser(prog="joining", description="What joining is worth.")
    parser.add_argument("--data", default="bazaar,hm", help="comma-separated: bazaar, hm, ml100k")
    parser.add_argument("--path", type=Path, default=None, help="folder of MovieLens 100k, for ml100k")
    parser.add_argument("--seeds", default=",".join(map(str, SEEDS)), help="of the bazaar")
    parser.add_argument("--variants", default="300,100,all", help="customers a site of H&M learns from")
    parser.add_argument("--cells", type=Path, default=None, help="finished cells, added to as they finish")
    parser.add_argument("--before", type=Path, default=None, help="cells of an earlier version")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    chosen = parser.parse_args(argv)
    jobs = {json.dumps(job.key()): job for job in jobs_of(
        chosen.data.split(","), [int(seed) for seed in chosen.seeds.split(",")], chosen.variants.split(","),
            chosen.path,
    )}  # fmt: skip
    try:
        cells = kept_cells(
            [job.key() for job in jobs.values()], lambda key: run_cell(jobs[json.dumps(key)]), chosen.cells,
            lambda line: _say(sys.stderr, line),
        )  # fmt: skip
        before = (
            [json.loads(line) for line in chosen.before.read_text().splitlines()] if chosen.before else []
        )
    except HansaError as fault:
        _say(sys.stderr, str(fault))
        return fault.exit_code
    result = table(cells, before)
    _say(sys.stdout, json.dumps(result) if chosen.format == "json" else _as_text(result))
    return 0


def _as_text(result: BenchResult) -> str:
    lines = []
    for row in result["rows"]:
        figures = "  ".join(f"{k} {v}" for k, v in row.items() if k not in ("kind", "name"))
        lines.append(f"{row['kind']:6}{row['name']:56}{figures}")
    return "\n".join(lines)


def _say(stream: Any, line: str) -> None:
    stream.write(line + "\n")
    stream.flush()


if __name__ == "__main__":
    raise SystemExit(main())
