"""The content of a report, read from a run folder. Parts that are missing or of another shape are left out.

Invariant: only `config.json` and `league.json` are needed; no other file can make a report fail, and every number in it
is finite.

Shapes read from details.json (all optional):
    headline     {"over": {opponent: {"ratio", "low", "high", "merchants"}}}: what is deployed over each opponent
    verdicts     [{"site", "held_out", "best_alone", "together": {"gain", "low", "high"}, "returning", "baskets",
                 "shared_weight", "bytes_up", "bytes_down", "epsilon", "next_step": {"code"}}]; 0.12 is 12 % better
    slices       [{"slice", "method", "against", "ratio", "low", "high", "merchants"}]
    intervals    {method: {metric: [low, high]}} of the mean over sites
    ablation     {what was left out, e.g. "text": {metric: value}}
    calibration  [{"predicted", "observed", "count"}] of the purchase intent
    macro_counts_sites_with_rows   the fewest test rows with which a site enters the mean
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import RunError
from common.files import read_json, read_lines
from common.privacy.stopped import stopped_sites
from common.reports.shapes import interval, number, table
from common.reports.verdicts import Headline, Slice, Verdict, read_headline, read_slices, read_verdicts
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder, SiteEntry

SCORE = "ndcg@20"
TRAINING_SCORE = "valid/ndcg@20"
METHODS = (
    "popularity", "item_knn", "ease", "no_training", "alone", "league", "final", "non_private",
    "local", "federated", "fine_tuned", "centralised",
)  # fmt: skip
"""What ranks, in the order of a report: without the league, with it, and the tower by itself."""


@dataclass(frozen=True)
class Round:
    """One round: loss and score of the model that the sites received, bytes sent, and the sites left out."""

    number: int
    loss: float | None
    score: float | None
    bytes_up: int
    bytes_down: int
    seconds: float
    sites: int
    quarantined: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """Everything that a report says about one run; `stopped` maps sites whose budget was spent to the first round."""

    root: Path
    config: LeagueConfig
    sites: tuple[SiteEntry, ...]
    rounds: tuple[Round, ...] = ()
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    verdicts: tuple[Verdict, ...] = ()
    headline: Headline | None = None
    slices: tuple[Slice, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    stopped: Mapping[str, int] = field(default_factory=dict)

    @property
    def trained(self) -> tuple[SiteEntry, ...]:
        return tuple(site for site in self.sites if not site.held_out)

    @property
    def held_out(self) -> tuple[SiteEntry, ...]:
        return tuple(site for site in self.sites if site.held_out)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that were measured, in the order of a report."""
        names = [*METHODS, *sorted(set(self.metrics) - set(METHODS))]
        return tuple(name for name in names if self.value(name, SCORE) is not None)

    def value(self, method: str, metric: str, of: str = "macro") -> float | None:
        """A figure of metrics.json: the mean over sites ("macro"), the worst site ("worst"), or None."""
        return number(table(table(self.metrics.get(method)).get(metric)).get(of))

    def site_value(self, method: str, metric: str, site: str) -> float | None:
        """A figure of one site, or None."""
        return number(table(table(table(self.metrics.get(method)).get(metric)).get("sites")).get(site))

    def interval(self, method: str, metric: str) -> tuple[float, float] | None:
        """The interval of a mean over sites, or None."""
        return interval(table(table(self.details.get("intervals")).get(method)).get(metric))

    def title_of(self, name: str) -> str:
        """A site's display name."""
        return next((site.title or site.name for site in self.sites if site.name == name), name)


def read_story(run_dir: Path) -> Story:
    """Read a run folder.

    Raises
    ------
    RunError : there is no run in the folder, or its settings or list of sites are damaged.
    """
    folder = RunFolder(run_dir)
    config, sites = folder.config(), tuple(folder.sites())
    details = table(_optional(run_dir / "details.json"))
    titles = {site.name: site.title or site.name for site in sites}
    lines = read_lines(folder.rounds_file)
    return Story(
        root=run_dir, config=config, sites=sites,
        rounds=tuple(_round(row) for row in lines if number(row.get("round")) is not None),
        stopped=stopped_sites(lines),
        metrics=table(_optional(run_dir / "metrics.json")),
        verdicts=read_verdicts(details.get("verdicts"), titles), headline=read_headline(details.get("headline")),
        slices=read_slices(details.get("slices")), details=details,
    )  # fmt: skip


def _optional(path: Path) -> object:
    try:
        return read_json(path)
    except RunError:
        return None


def _round(row: Mapping[str, Any]) -> Round:
    traffic = table(row.get("bytes"))
    named = row.get("quarantined")
    left_out = [entry.get("site") if isinstance(entry, Mapping) else entry for entry in named or ()]
    cohort = row.get("cohort")
    return Round(
        number=int(row["round"]),
        loss=number(row.get("loss")),
        score=number(table(row.get("metrics")).get(TRAINING_SCORE)),
        bytes_up=int(number(traffic.get("up")) or 0),
        bytes_down=int(number(traffic.get("down")) or 0),
        seconds=number(row.get("seconds")) or 0.0,
        sites=len(cohort) if isinstance(cohort, list) else 0,
        quarantined=tuple(str(name) for name in left_out if name),
    )
