"""Before a round's group sums are applied, the sites try each one alone; a group that serves them worse is left out.

Two groups have no median, so a poison in one of them is half of the round. Each site says how the model would serve it
after each group's sum alone, on data that it held out. Invariant: the verdict is the median over the sites, so fewer
than half of them can neither save a group nor bar one; it lies on the disk before the sums are handed out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from flwr.serverapp import Grid

from server.clock import RoundClock
from server.league import League, Roster
from server.sealed.keys import KeyRing
from server.sealed.sums import kept_sums, leave_out, send_sums
from server.state import METRIC, RunState


@dataclass(frozen=True)
class Tried:
    """Places of the groups left out, and bytes sent."""

    without: Sequence[int] = ()
    nbytes: int = 0


def try_groups(
    grid: Grid, league: League, roster: Roster, keys: KeyRing, state: RunState, clock: RoundClock
) -> Tried:
    """Let the sites try a round's groups, where the contract has groups and a guard."""
    rounds, round_ = league.config.rounds, state.round + 1
    kept = kept_sums(league, round_) or {}
    if rounds.groups == 1 or not rounds.worst_fall or kept.get("undone") or kept.get("without"):
        return Tried(kept.get("without", ()))
    names = roster.present(sorted(state.weights))
    answers, nbytes = send_sums(
        grid, league, roster, keys, names, round_, state.best_round, step="trial", metric=METRIC,
        within_s=clock.left("trial"),
    )  # fmt: skip
    without = worse_groups([_figures(answer) for answer in answers.values()], rounds.worst_fall)
    if without:
        leave_out(league, round_, without)
    return Tried(without, nbytes)


def worse_groups(figures: Sequence[Sequence[float | None]], worst_fall: float) -> list[int]:
    """Places of groups whose model is worse than the best group's at the median site, by more than the part allowed.

    >>> worse_groups([[0.2, 0.1], [0.3, 0.2], [0.1, 0.4]], 0.05)
    [1]
    """
    whole = [site for site in figures if site and all(value is not None for value in site)]
    places = range(max((len(site) for site in whole), default=0))
    rows = [
        [float(value or 0.0) for value in site] for site in whole if len(site) == len(places) and any(site)
    ]
    if not rows:
        return []
    scores = [median(row[place] * len(row) / sum(row) for row in rows) for place in places]
    return [place for place in places if scores[place] < max(scores) * (1 - worst_fall)]


def _figures(answer: Any) -> Sequence[float | None]:
    found = answer.get("figures") if isinstance(answer, Mapping) else None
    good = isinstance(found, list) and all(
        value is None or (isinstance(value, int | float) and 0 <= value < 1e9) for value in found
    )
    return found if isinstance(found, list) and good else []
