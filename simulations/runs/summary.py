"""Collects the sites' results into metrics.json and details.json.

Figures named ``basket_…`` are of new users' baskets, all other ranking figures of returning users. Invariant: the
macro mean of a ranking figure counts sites with at least MIN_ROWS test rows, because a handful of rows is noise; where
no site has that many, it counts all. Held-out sites never enter it; they stand in ``zero_shot``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.files import read_json, read_lines, write_json
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.runs.paired import MIN_ROWS
from simulations.runs.slices import slices
from simulations.runs.verdict import headline, verdicts

LOWER_IS_BETTER = {"log_loss"}
AT_HOME = "local.json"
SOURCES = ("final.json", AT_HOME, "non_private.json", "centralised.json")
RANKING = ("ndcg", "recall", "capped_recall", "hr", "mrr", "coverage", "diversity")
Figures = dict[str, dict[str, Any]]


def summarise(
    folder: RunFolder, timing: Mapping[str, float], ablation: Mapping[str, Any] | None = None
) -> Figures:
    """Write both files and return the metrics."""
    sites = folder.sites()
    results = {site.name: site_results(folder, site) for site in sites}
    members = [site for site in sites if not site.held_out and results[site.name]["methods"]]
    metrics = macro_metrics({site.name: results[site.name] for site in members})
    members_results, joiners = (
        [results[s.name] for s in members],
        [results[s.name] for s in sites if s.held_out],
    )
    details: dict[str, Any] = {
        "rows": {name: result["rows"] for name, result in results.items()},
        "macro_counts_sites_with_rows": MIN_ROWS,
        "intervals": {m: {"ndcg@20": _macro_interval(m, members, results)} for m in metrics},
        "headline": headline(members_results),
        "verdicts": verdicts(folder, results),
        "slices": slices(members_results, joiners),
        "calibration": pooled_calibration([results[site.name]["calibration"] for site in members]),
        "zero_shot": {site.name: results[site.name]["methods"] for site in sites if site.held_out},
        "timing": {k: round(v, 3) for k, v in timing.items()},
        "rounds": len(read_lines(folder.rounds_file)),
    }
    if ablation:
        details["ablation"] = ablation
    write_json(folder.root / "metrics.json", metrics)
    write_json(folder.root / "details.json", details)
    return metrics


def site_results(folder: RunFolder, site: SiteEntry) -> dict[str, Any]:
    """All figures of one site, from whichever result files are there; ``at_home`` those that need no league."""
    merged: dict[str, Any] = {
        "methods": {}, "ndcg@20_by_row": {}, "rows": {"returning": 0, "basket": 0}, "calibration": [], "at_home": {},
    }  # fmt: skip
    for name in SOURCES:
        path = folder.site_out(site.name) / name
        if path.exists():
            part = read_json(path)
            merged["methods"] |= part["methods"]
            if name == AT_HOME:
                merged["at_home"] = part["methods"]
            merged["ndcg@20_by_row"] |= part["ndcg@20_by_row"]
            merged["rows"] = part["rows"]
            merged["calibration"] = part["calibration"] or merged["calibration"]
    return merged


def pooled_calibration(sites: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Reliability bins of all sites together."""
    pooled = []
    for number in sorted({bin_["bin"] for bins in sites for bin_ in bins}):
        same = [bin_ for bins in sites for bin_ in bins if bin_["bin"] == number]
        count = sum(bin_["count"] for bin_ in same)
        mean = {key: sum(b[key] * b["count"] for b in same) / count for key in ("predicted", "observed")}
        pooled.append({**mean, "count": count})
    return pooled


def macro_metrics(results: Mapping[str, Mapping[str, Any]]) -> Figures:
    """method → metric → macro, worst and each site's figure."""
    pairs = {(m, n) for result in results.values() for m, values in result["methods"].items() for n in values}
    metrics: Figures = {}
    for method, name in sorted(pairs):
        sites = {
            site: value
            for site, result in results.items()
            if (value := result["methods"].get(method, {}).get(name)) is not None and math.isfinite(value)
        }
        counted = _counted(name, sites, results)
        if counted:
            worst = max if name in LOWER_IS_BETTER else min
            metrics.setdefault(method, {})[name] = {
                "macro": float(np.mean(list(counted.values()))),
                "worst": float(worst(counted.values())),
                "sites": sites,
            }
    return metrics


def _counted(
    name: str, sites: Mapping[str, float], results: Mapping[str, Mapping[str, Any]]
) -> dict[str, float]:
    if not name.removeprefix("basket_").startswith(RANKING):
        return dict(sites)
    kind = "basket" if name.startswith("basket_") else "returning"
    enough = {site: value for site, value in sites.items() if results[site]["rows"][kind] >= MIN_ROWS}
    return enough or dict(sites)


def _macro_interval(
    method: str, members: Sequence[SiteEntry], results: Mapping[str, Any]
) -> list[float] | None:
    """Bootstrap interval of the macro mean: rows are drawn within each counted site."""
    rows = [_rows(results[site.name], method) for site in members]
    rows = [r for r in rows if len(r) >= MIN_ROWS] or [r for r in rows if len(r)]
    if not rows:
        return None
    generator = np.random.default_rng(0)
    means = np.mean([r[generator.integers(0, len(r), (500, len(r)))].mean(1) for r in rows], axis=0)
    return [float(q) for q in np.quantile(means, [0.025, 0.975])]


def _rows(result: Mapping[str, Any], method: str, kind: str = "returning") -> NDArray[np.float64]:
    return np.asarray(result["ndcg@20_by_row"].get(method, {}).get(kind, []), np.float64)
