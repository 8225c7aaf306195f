"""Did joining pay? What each merchant deploys with the league, against the best it could deploy without.

A merchant alone would deploy the method of its own (`local.json`) with the best NDCG@20 on its validation window. Some
of these methods choose their weights on that same window, which flatters them where it holds few customers; so the
ranker fitted at home is a second opponent everywhere, and the stricter of both counts: a gain over a weak opponent is
none. Invariants: both sides are read on the same test rows; nothing is called paid where the interval spans zero;
merchants left out of training don't enter the headline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from clients.signals.names import COLUMNS, START
from common.files import read_json, read_lines
from common.privacy.guarantee import guarantee_of
from common.reports.shapes import number
from common.reports.story import METHODS
from common.reports.verdicts import DID_NOT_PAY, PAID
from common.reports.words import next_step_words
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.runs.paired import KINDS, Gain, gain_of, pairs_of

DEPLOYED = "final"
ALONE = "alone"
BEST_ALONE = "best_alone"
VALIDATION = "valid_ndcg@20"
WORTH_HAVING = 0.02  # a gain that can't be more than this isn't worth a league's trouble
Result = Mapping[str, Any]
ALL_KINDS = tuple(KINDS)


def chosen_alone(at_home: Mapping[str, Mapping[str, Any]]) -> str:
    """The best of a site's own methods by validation; ties and sites without such rows go to the ranker at home.

    >>> chosen_alone({"alone": {"valid_ndcg@20": 0.2}, "ease": {"valid_ndcg@20": 0.3}, "logistic": {"auc": 0.9}})
    'ease'
    """
    figures = {name: number(values.get(VALIDATION)) for name, values in at_home.items()}
    measured = {name: value for name, value in figures.items() if value is not None}
    order = [*METHODS, *sorted(measured)]
    return max(measured, key=lambda name: (measured[name], name == ALONE, order.index(name)), default=ALONE)


def over_alone(results: Sequence[Result], kinds: Sequence[str] = ALL_KINDS) -> dict[str, Gain]:
    """What is deployed over what each merchant would choose by validation, and over the ranker at home everywhere."""
    compared = [result for result in results if result["at_home"]]
    chosen = [pairs_of(result, DEPLOYED, chosen_alone(result["at_home"]), kinds) for result in compared]
    gains = {
        BEST_ALONE: gain_of(chosen),
        ALONE: gain_of([pairs_of(result, DEPLOYED, ALONE, kinds) for result in compared]),
    }
    return {name: gain for name, gain in gains.items() if gain}


def strictest(gains: Mapping[str, Gain]) -> tuple[str, Gain]:
    """The opponent over which the gain is smallest; the ranker at home where both are level."""
    name = min(gains, key=lambda name: (gains[name].gain, name != ALONE))
    return name, gains[name]


def opponent_of(result: Result) -> tuple[str, Gain | None]:
    """A merchant's strongest own method, and the gain over it; None where it has too few rows to judge by."""
    chosen, gains = chosen_alone(result["at_home"]), over_alone([result])
    if not gains:
        return chosen, None
    name, gain = strictest(gains)
    return chosen if name == BEST_ALONE else name, gain


def next_step(gain: Gain | None, own_fit: bool, newcomers_gain: bool) -> str:
    """The code of what a merchant should do next.

    no_log         nothing to judge by
    join           the gain is proven on its own customers
    stay_out       its own method is as good or better, or the most that joining can bring isn't worth having
    join_thin      unproven here; but its log is too thin to fit anything on, and merchants new to this league gain
    measure_again  the interval spans zero: keep what is deployed and measure again with more customers

    Parameters
    ----------
    own_fit : whether the merchant's own rows were worth fitting on.
    newcomers_gain : whether merchants that were left out of training gain by the league.
    """
    if gain is None:
        return "no_log"
    if gain.verdict == PAID:
        return "join"
    if gain.verdict == DID_NOT_PAY or gain.gain <= 0 or gain.high < WORTH_HAVING:
        return "stay_out"
    return "join_thin" if newcomers_gain and not own_fit else "measure_again"


def verdicts(folder: RunFolder, results: Mapping[str, Result]) -> list[dict[str, Any]]:
    """A row for each merchant whose own methods were measured, those left out of training last."""
    entries = sorted(folder.sites(), key=lambda site: site.held_out)
    compared = [
        site
        for site in entries
        if results[site.name]["at_home"] and DEPLOYED in results[site.name]["methods"]
    ]
    newcomers = over_alone([results[site.name] for site in compared if site.held_out])
    newcomers_gain = bool(newcomers) and strictest(newcomers)[1].verdict == PAID
    guarantee, rounds = guarantee_of(folder.config()), read_lines(folder.rounds_file)
    rows = []
    for site in compared:
        row = verdict_of(site, results[site.name], newcomers_gain)
        row["shared_weight"] = shared_weight(folder, site.name)
        row |= traffic_of(site.name, rounds)
        row["epsilon"] = guarantee.epsilon if guarantee and not site.held_out else None
        rows.append(row)
    return rows


def verdict_of(site: SiteEntry, result: Result, newcomers_gain: bool) -> dict[str, Any]:
    """One merchant's verdict and next step, without costs."""
    opponent, gain = opponent_of(result)
    by_kind = {kind: gain_of([pairs_of(result, DEPLOYED, opponent, [kind])]) for kind in KINDS}
    code = next_step(gain, _fits_itself(result), newcomers_gain)
    words = next_step_words(code, opponent)
    return {
        "site": site.name,
        "held_out": site.held_out,
        "best_alone": opponent,
        "chosen_by_validation": chosen_alone(result["at_home"]),
        "verdict": gain.verdict if gain else None,
        "together": gain.as_gain() if gain else None,
        **{kind: part.as_gain() if part else None for kind, part in by_kind.items()},
        "next_step": {"code": code, "en": words.en, "zh": words.zh},
    }


def headline(results: Sequence[Result]) -> dict[str, Any] | None:
    """The league as a whole: ratios over its members, by opponent, and which of them is the stricter.

    Where privacy is promised, also what is deployed against the same league without privacy.
    """
    ratios = over_alone(results)
    if not ratios:
        return None
    against, main = strictest(ratios)
    non_private = gain_of([pairs_of(result, DEPLOYED, "non_private") for result in results])
    over = {**ratios, **({"non_private": non_private} if non_private else {})}
    return {
        "against": against,
        "verdict": main.verdict,
        **main.as_ratio(),
        "over": {name: gain.as_ratio() for name, gain in over.items()},
    }


def shared_weight(folder: RunFolder, site: str) -> float | None:
    """How much of what a merchant deploys came from the league, 0..1.

    From the public start s over the league's weights l to the deployed ones w: |l − s| / (|l − s| + |w − l|), the
    league's part of the way, over the weights of both kinds of rows. None where nothing has moved, or where the file is
    of other signals.
    """
    path = folder.site_out(site) / "private.json"
    choices = read_json(path) if path.exists() else {}
    if tuple(choices.get("columns", ())) != COLUMNS:
        return None
    weights, league = (np.asarray(choices[name], np.float64) for name in ("weights", "league"))
    shared, own = float(np.linalg.norm(league - START)), float(np.linalg.norm(weights - league))
    return shared / (shared + own) if shared + own else None


def traffic_of(site: str, rounds: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes that a site sent and received over all rounds that it took part in: its equal part of each."""
    shares = [(row["bytes"], len(row["cohort"])) for row in rounds if site in row["cohort"]]
    return {f"bytes_{way}": sum(round(sent[way] / sites) for sent, sites in shares) for way in ("up", "down")}


def _fits_itself(result: Result) -> bool:
    """Whether the ranker at home was fitted on the merchant's own rows at all."""
    return number(result["at_home"].get(ALONE, {}).get("strength")) is not None
