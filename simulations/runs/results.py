"""The results of a run, or of a question to a finished run, for the command line.

Invariant: plain data only, so that the JSON form and the printed form say the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Metrics = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""method → metric → {"macro": x, "worst": x, "sites": {site: x}}, as in metrics.json."""


@dataclass(frozen=True)
class RunSummary:
    """What `hansa simulate` and `hansa resume` report.

    Parameters
    ----------
    run : the run folder.
    sites, held_out : names of the sites that trained, and of those that did not.
    rounds : rounds that counted.
    seconds : wall time of this call.
    config_digest : of the settings, 64 hex digits.
    metrics : as in metrics.json; empty for a dry run.
    headline, verdicts : what joining brought the league and each merchant, as in details.json.
    report : the HTML report, where one was written.
    plan : for a dry run, what would be done (rows of what → value).
    protections : for a dry run, what each protection would cost and show; see `simulations.runs.costs`.
    """

    run: Path
    sites: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    rounds: int = 0
    seconds: float = 0.0
    config_digest: str = ""
    metrics: Metrics = field(default_factory=dict)
    headline: Mapping[str, Any] | None = None
    verdicts: tuple[Mapping[str, Any], ...] = ()
    report: Path | None = None
    plan: Mapping[str, Any] = field(default_factory=dict)
    protections: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Recommendation:
    """One recommended item: its rank from 1, the model's score, and why in a few words."""

    rank: int
    item_id: str
    title: str
    score: float
    why: str = ""


@dataclass(frozen=True)
class Prediction:
    """What a user will probably do next: probabilities in 0..1."""

    user_id: str
    purchase_intent: float
    next_event: str
    next_event_probability: float
