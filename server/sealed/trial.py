"""Before a round's group sums are applied, the sites try each one alone; a group that serves them worse is left out.

Two groups have no median, so a poison in one of them is half of the round. Each site says how the model would serve it
after each group's sum alone, on data that it held out. Invariant: the verdict is a mean without the greatest and
least of `rounds.malicious_sites`, so as many can neither save a group nor bar one; it lies on the disk before the sums
are handed out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from flwr.serverapp import Grid

from common.config import RoundsConfig
from server.clock import RoundClock
from server.guard import steady_mean
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
    without = worse_groups([_figures(answer) for answer in answers.values()], rounds)
    if without:
        leave_out(league, round_, without)
    return Tried(without, nbytes)


def worse_groups(figures: Sequence[Sequence[float | None]], rounds: RoundsConfig) -> list[int]:
    """Places of groups whose model serves the sites worse than the best group's, by more than the part allowed.

    >>> worse_groups([[0.2, 0.1], [0.3, 0.2], [0.1, 0.4]], RoundsConfig(worst_fall=0.05))
    [1]
    """
    groups = Counter(map(len, figures)).most_common(1)[0][0] if figures else 0
    whole = [site for site in figures if len(site) == groups]
    # A group that the checks refuse has no figure anywhere: it's left out by each site itself.
    places = [place for place in range(groups) if 2 * sum(site[place] is None for site in whole) < len(whole)]
    rows = [
        {p: float(site[p] or 0.0) for p in places}
        for site in whole
        if all(site[p] is not None for p in places)
    ]
    level = median(fmean(row.values()) for row in rows) if rows and places else 0.0
    if not level:
        return []
    scores = {
        place: steady_mean([row[place] - fmean(row.values()) for row in rows], rounds.malicious_sites) / level
        for place in places
    }
    return [place for place in places if scores[place] < max(scores.values()) - rounds.worst_fall]


def _figures(answer: Any) -> Sequence[float | None]:
    found = answer.get("figures") if isinstance(answer, Mapping) else None
    good = isinstance(found, list) and all(
        value is None or (isinstance(value, int | float) and 0 <= value <= 1) for value in found
    )
    return found if isinstance(found, list) and good else []
