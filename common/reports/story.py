"""The content of a report, read from a run folder. Parts that are missing or of another shape are left out.

Invariant: only `config.json` and `league.json` are needed; no other file can make a report fail, and every number in it
is finite.

Shapes read from details.json (all optional):
    worth        [{"site", "gain_local", "low", "high", "verdict"}]; gains relative to local-only, 0.12 = 12 % better
    intervals    {method: {metric: [low, high]}} of the mean over sites
    zero_shot    {site: {method: {metric: value}}} of sites that were left out of training
    ablation     {what was left out, e.g. "text": {metric: value}}
    calibration  [{"predicted", "observed", "count"}] of the purchase intent
    macro_counts_sites_with_rows   the fewest test rows with which a site enters the mean
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.errors import RunError
from common.files import read_json, read_lines
from common.privacy.stopped import stopped_sites
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder, SiteEntry

SCORE = "ndcg@20"
TRAINING_SCORE = "valid/ndcg@20"
METHODS = (
    "popularity", "item_knn", "no_training", "local", "federated", "fine_tuned", "non_private", "centralised", "final",
)  # fmt: skip
PAID, NO_DIFFERENCE, DID_NOT_PAY = "paid", "no difference", "did not pay"


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
class Worth:
    """What joining the league gained one site: the relative gain over training alone, with its interval."""

    title: str
    gain: float
    low: float | None
    high: float | None
    verdict: str


@dataclass(frozen=True)
class Story:
    """Everything that a report says about one run; `stopped` maps sites whose budget was spent to the first round."""

    root: Path
    config: LeagueConfig
    sites: tuple[SiteEntry, ...]
    rounds: tuple[Round, ...] = ()
    metrics: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    worth: tuple[Worth, ...] = ()
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
        return tuple(name for name in METHODS if self.value(name, SCORE) is not None)

    @property
    def joined_method(self) -> str:
        """The method compared with training alone: the run's own choice, or the fine-tuned model if it was measured."""
        named = str(self.details.get("joined") or "fine_tuned")
        return named if self.value(named, SCORE) is not None else "federated"

    def value(self, method: str, metric: str, of: str = "macro") -> float | None:
        """A figure of metrics.json: the mean over sites ("macro"), the worst site ("worst"), or None."""
        return number(table(table(self.metrics.get(method)).get(metric)).get(of))

    def site_value(self, method: str, metric: str, site: str) -> float | None:
        """A figure of one site, or None."""
        return number(table(table(table(self.metrics.get(method)).get(metric)).get("sites")).get(site))

    def interval(self, method: str, metric: str) -> tuple[float, float] | None:
        """The interval of a mean over sites, or None."""
        return interval(table(table(self.details.get("intervals")).get(method)).get(metric))

    def ratio(self, method: str, to: str, metric: str = SCORE) -> float | None:
        """The ratio of two methods' figures, as means over sites."""
        over, under = self.value(method, metric), self.value(to, metric)
        return over / under if over is not None and under else None

    def paid(self) -> int:
        """How many sites gained by joining."""
        return self.count(PAID)

    def count(self, verdict: str) -> int:
        """How many sites have this verdict."""
        return sum(row.verdict == verdict for row in self.worth)

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
        worth=_worth(details.get("worth"), titles), details=details,
    )  # fmt: skip


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def table(value: object) -> Mapping[str, Any]:
    """A mapping, or an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def interval(value: object) -> tuple[float, float] | None:
    """``[low, high]`` or ``{"low", "high"}`` as a pair, or None."""
    if isinstance(value, Mapping):
        value = [value.get("low"), value.get("high")]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return (low, high) if low is not None and high is not None else None


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


def _worth(rows: object, titles: Mapping[str, str]) -> tuple[Worth, ...]:
    gains = []
    for row in rows if isinstance(rows, list) else ():
        gain = number(table(row).get("gain_local"))
        if gain is None:
            continue
        low, high = number(row.get("low")), number(row.get("high"))
        site = str(row.get("site", ""))
        gains.append(Worth(titles.get(site, site), gain, low, high, _verdict(row.get("verdict"), low, high)))
    return tuple(sorted(gains, key=lambda worth: (-worth.gain, worth.title)))


def _verdict(stated: object, low: float | None, high: float | None) -> str:
    text = str(stated or "").replace("_", " ").strip().lower()
    if text in (PAID, NO_DIFFERENCE, DID_NOT_PAY):
        return text
    if low is not None and low > 0:
        return PAID
    return DID_NOT_PAY if high is not None and high < 0 else NO_DIFFERENCE
