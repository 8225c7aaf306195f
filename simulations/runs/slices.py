"""Where in a league joining should pay: returning customers, new ones, merchants new to it, behaviour.

Invariant: only what was measured has a row, and each row names its opponent. Of what is deployed that is the strongest
known; the league's weights as they came are also held against the ready-made hybrid, which asks for next to no log.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from common.reports.verdicts import DID_NOT_PAY, NO_DIFFERENCE, PAID
from simulations.runs.paired import DRAWS, KINDS, Gain, Values, gain_of, pairs_of
from simulations.runs.verdict import ALONE, DEPLOYED, Result, over_alone, strictest

HYBRID = "no_training"
AS_IT_CAME = "league"
DEPLOYED_BEHAVIOUR = (DEPLOYED, "fine_tuned", "federated")
"""What a merchant predicts behaviour with, the first that was measured."""


def slices(members: Sequence[Result], joiners: Sequence[Result]) -> list[dict[str, Any]]:
    """The rows, for details.json."""
    rows = [
        _deployed("returning", members, ["returning"]),
        _deployed("new_customers", members, ["baskets"]),
        _deployed("joiners", joiners, tuple(KINDS)),
        *(_ranking("first_day", AS_IT_CAME, against, _over(joiners, against)) for against in (ALONE, HYBRID)),
        behaviour("behaviour", members),
        behaviour("behaviour_joiners", joiners),
    ]
    return [row for row in rows if row]


def _deployed(name: str, results: Sequence[Result], kinds: Sequence[str]) -> dict[str, Any] | None:
    ratios = over_alone(results, kinds)
    return _ranking(name, DEPLOYED, *strictest(ratios)) if ratios else None


def _over(results: Sequence[Result], against: str) -> Gain | None:
    return gain_of([pairs_of(result, AS_IT_CAME, against) for result in results])


def _ranking(name: str, method: str, against: str, gain: Gain | None) -> dict[str, Any] | None:
    if gain is None:
        return None
    return {"slice": name, "method": method, "against": against, "verdict": gain.verdict, **gain.as_ratio()}


def behaviour(name: str, results: Sequence[Result]) -> dict[str, Any] | None:
    """Purchase intent: the log loss of what is deployed over that of the best method without the league.

    There are no rows to draw anew, so merchants are drawn. Lower is better, so below 1 joining pays. The opponent is
    the best over these merchants in the test itself, which favours it.
    """
    losses = {method: _losses(results, method) for method in _measured(results)}
    alone = [method for method in losses if any(method in result["at_home"] for result in results)]
    deployed = next(
        (method for method in DEPLOYED_BEHAVIOUR if method in losses and method not in alone), None
    )
    if deployed is None or not alone:
        return None
    against = min(alone, key=lambda method: (np.nanmean(losses[method]), method))
    both = np.isfinite(losses[deployed]) & np.isfinite(losses[against])
    if not both.any():
        return None
    ours, theirs = losses[deployed][both], losses[against][both]
    ratio, (low, high) = float(ours.mean() / theirs.mean()), _interval(ours, theirs)
    sure = both.sum() > 1
    return {
        "slice": name, "method": deployed, "against": against, "metric": "log_loss",
        "verdict": PAID if sure and high < 1 else DID_NOT_PAY if sure and low > 1 else NO_DIFFERENCE,
        "ratio": ratio, "low": low, "high": high, "ours": float(ours.mean()), "theirs": float(theirs.mean()),
        "merchants": int(both.sum()),
    }  # fmt: skip


def _measured(results: Sequence[Result]) -> list[str]:
    return sorted(
        {m for result in results for m, figures in result["methods"].items() if _loss(figures) is not None}
    )


def _losses(results: Sequence[Result], method: str) -> Values:
    found = [_loss(result["methods"].get(method, {})) for result in results]
    return np.array([math.nan if loss is None else loss for loss in found])


def _loss(figures: Mapping[str, Any]) -> float | None:
    value = figures.get("log_loss")
    return float(value) if value is not None and math.isfinite(value) else None


def _interval(ours: Values, theirs: Values) -> tuple[float, float]:
    """95 % of the ratio of means, with merchants drawn anew."""
    drawn = np.random.default_rng(0).integers(0, len(ours), (DRAWS, len(ours)))
    low, high = np.quantile(ours[drawn].mean(1) / theirs[drawn].mean(1), [0.025, 0.975])
    return float(low), float(high)
