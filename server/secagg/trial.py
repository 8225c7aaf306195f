"""Before a round's group sums are applied, the sites try them: all together, and with each group left out.

Two groups have no median, so a poison in one of them is half of the round. Each site says how the model would serve it
on data that it held out. What serves best counts, be it without one group; where even that falls behind the best model
so far by more than the contract allows, the round counts for nothing. Invariant: verdicts are means without the
greatest and least of `rounds.malicious_sites`, so as many can neither save a group nor bar one; they lie on the disk
before the sums are handed out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median
from typing import Any

from common.settings.config import RoundsConfig
from server.run.guard import fall, steady_mean, verdict
from server.run.run import Run
from server.run.state import METRIC
from server.secagg.ask import Answers
from server.secagg.keys import KeyRing
from server.secagg.sums import SumsOrder, kept_sums, leave_out, send_sums, undo

_MARGIN = 0.2
"""Part of `worst_fall` by which a round without a group has to be better than the whole one."""
Figures = Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class Tried:
    """What came of a trial: bytes sent, groups left out, whether there was one at all, and the sites' answers."""

    nbytes: int = 0
    without: Sequence[int] = field(default=())
    judged: bool = False
    answers: Answers = field(default_factory=dict)


def try_groups(run: Run, keys: KeyRing) -> Tried:
    """Let the sites try a round's groups, where the contract has groups and a guard, and write the verdict down."""
    rounds, league = run.rounds, run.league
    kept = kept_sums(league, run.round) or {}
    if rounds.groups == 1 or not rounds.worst_fall:
        return Tried()
    if kept.get("undone") or kept.get("without"):
        return Tried(without=kept["without"], judged=True)
    order = SumsOrder(run.round, run.left_s("trial"), step="trial", metric=METRIC)
    answers, nbytes = send_sums(run, keys, run.present(), order)
    figures = {name: values for name, answer in answers.items() if (values := _figures(answer))}
    place = best_choice(figures, rounds)
    if place is None:
        return Tried(nbytes, answers=answers)
    without = [place - 1] if place else []
    if without:
        leave_out(league, run.round, without)
    after = {name: {METRIC: value} for name, f in figures.items() if (value := f[place]) is not None}
    lost = fall(run.state.best_figures, after, rounds.malicious_sites)
    if lost > rounds.worst_fall:
        undo(league, run.round, verdict(lost))
    return Tried(nbytes, without, judged=True, answers=answers)


def best_choice(figures: Figures, rounds: RoundsConfig) -> int | None:
    """Place of the choice that serves the sites best; the first, of all groups, where no other is better by a margin.

    Parameters
    ----------
    figures : by site: of all groups together, then without each group; None where nothing is left.

    >>> best_choice({"a": [0.2, 0.1, 0.3], "b": [0.2, 0.2, 0.3], "c": [0.1, 0.9, 0.2]}, RoundsConfig(worst_fall=0.05))
    2
    """
    rounds_ = [site for site in figures.values() if site and site[0] is not None]
    number = int(median(map(len, rounds_))) if rounds_ else 0
    whole = [site for site in rounds_ if len(site) == number]
    # What the checks refuse is refused at every site, so a choice without a figure at most sites is none.
    places = [place for place in range(number) if 2 * sum(site[place] is None for site in whole) < len(whole)]
    rows = [
        {p: float(site[p] or 0.0) for p in places}
        for site in whole
        if all(site[p] is not None for p in places)
    ]
    level = median(fmean(row.values()) for row in rows) if rows and 0 in places else 0.0
    if not level:
        return None
    gains = {
        place: steady_mean([row[place] - row[0] for row in rows], rounds.malicious_sites) / level
        for place in places
    }
    best = max(gains, key=lambda place: gains[place])
    return best if gains[best] > _MARGIN * rounds.worst_fall else 0


def _figures(answer: Any) -> Sequence[float | None]:
    figures = answer.get("figures") if isinstance(answer, Mapping) else None
    good = isinstance(figures, list) and all(
        value is None or (isinstance(value, int | float) and 0 <= value <= 1) for value in figures
    )
    return figures if isinstance(figures, list) and good else []
