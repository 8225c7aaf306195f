"""One round whose updates the coordinator can't read, told in order: train, settle, keep, hand out.

Invariant: under `he` a round whose sums lie on the disk is only handed out, never trained again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from flwr.serverapp import Grid

from common.errors import QuorumError, WireError
from common.protocol.wire import FloatVector
from common.secagg.protocol import REFUSED, Attempt, groups_of
from server.run.deadline import RoundClock
from server.run.league import League, Roster, require_quorum
from server.run.state import Outcome, RunState
from server.secagg.ask import Answers
from server.secagg.keys import KeyRing
from server.secagg.refusals import judged_before, note_refusal
from server.secagg.sum_worker import SumWorker
from server.secagg.sums import catch_up, hand_out, keep_sums, kept_sums
from server.secagg.trial import try_groups
from server.secagg.uploads import GroupedSum, SealedSum, settle

TrainCohort = Callable[[GroupedSum], Outcome]


class Session(ExitStack):
    """What lasts from round to round: the keys, the workers that sum, one a group, and who lacks a sum.

    Parameters
    ----------
    scheme : name of the encryption scheme.
    behind : sites that may not have been handed all sums so far; in a resumed run all of them.
    """

    def __init__(self, keys: KeyRing, scheme: str, behind: Iterable[str] = ()) -> None:
        super().__init__()
        self.keys, self.behind, self._scheme = keys, set(behind), scheme
        self._workers: list[SumWorker] = []

    def warm(self, groups: int) -> None:
        """Start the workers before a round's time runs."""
        for place in range(groups):
            self.worker(place).start(0)

    def worker(self, place: int) -> SumWorker:
        """The worker of a group."""
        while len(self._workers) <= place:
            self._workers.append(self.enter_context(SumWorker(self._scheme)))
        return self._workers[place]


def sealed_round(
    grid: Grid, league: League, roster: Roster, state: RunState, cohort: list[str],
    session: Session, train: TrainCohort, clock: RoundClock,
) -> tuple[Outcome, FloatVector | None]:  # fmt: skip
    """What came of the round, and the mean where the coordinator may know it.

    Raises
    ------
    QuorumError : too few sites sent, signed, revealed or hold the same model.
    """
    round_, rounds, keys = state.round + 1, league.config.rounds, session.keys
    keys.reach(keys.epoch(round_), within_s=clock.left("keys"))
    if rounds.encrypted and state.round and session.behind:
        catch_up(
            grid, league, roster, keys, session.behind, state.round, state.best_round, clock.left("keys")
        )
    kept = kept_sums(league, round_) if rounds.encrypted else None
    if kept is not None:
        outcome = Outcome(kept["metrics"], kept["quarantined"], int(kept["bytes_up"]))
    else:
        total = _fresh(league, state, cohort, session)
        outcome = train(total)
        require_quorum(league, cohort, list(outcome.metrics), f"round {round_}", outcome.quarantined)
        _settle_groups(grid, league, roster, cohort, total, outcome, clock)
        if not rounds.encrypted:
            return outcome, _opened(total, outcome)
        facts = {"metrics": outcome.metrics, "quarantined": outcome.quarantined, "bytes_up": outcome.bytes_up}
        keep_sums(league, round_, total.sums, facts)
    tried = try_groups(grid, league, roster, keys, state, clock)
    names, best = sorted(state.weights), state.best_round
    handed = hand_out(grid, league, roster, keys, names, round_, best, clock.left("apply"))
    session.behind = set(handed.apart)
    outcome.bytes_down = handed.nbytes + tried.nbytes
    outcome.quarantined.update(handed.apart)
    outcome.undone = str((kept_sums(league, round_) or {}).get("undone", ""))
    outcome.groups_refused = len(handed.refused) + len(tried.without)
    outcome.tried = tried.judged
    outcome.named = _named(league, round_, keys, tried.answers | _signed(handed.answers))
    outcome.quarantined.update(outcome.named)
    return outcome, None


def _named(league: League, round_: int, keys: KeyRing, answers: Answers) -> dict[str, str]:
    """Sites that this round's refusals name; they take part in no later round."""
    sums = str((kept_sums(league, round_) or {}).get("sums", "[]"))
    return note_refusal(league, round_, sums, answers, keys.bundles)


def _signed(answers: Answers) -> Answers:
    """Answers to an order that was undone, or was carried out before, tell of no refusal."""
    return {n: a for n, a in answers.items() if isinstance(a, dict) and "signature" in a}


def _opened(total: GroupedSum, outcome: Outcome) -> FloatVector | None:
    """The mean under masks alone; a sum that fails the checks undoes the round."""
    try:
        return total.open()
    except WireError as fault:
        outcome.undone = f"{REFUSED}: {fault.what}"
        return None


def _fresh(league: League, state: RunState, cohort: list[str], session: Session) -> GroupedSum:
    """An attempt for each group at a round, under masks that nothing was used for yet."""
    rounds, round_ = league.config.rounds, state.round + 1
    sums, keys = [], session.keys
    suspects = judged_before(league, round_).suspects
    for place, names in enumerate(groups_of(rounds, league.config.seed, round_, cohort, suspects)):
        weights = {name: state.weights[name] for name in names}
        attempt = Attempt(round_, os.urandom(16).hex(), weights, keys.epoch_of(round_))
        worker = session.worker(place)
        sums.append(SealedSum(rounds, state.layout, attempt, league.run, keys.bundles, worker))
    return GroupedSum(sums)


def _settle_groups(
    grid: Grid, league: League, roster: Roster, cohort: list[str], total: GroupedSum, outcome: Outcome,
    clock: RoundClock,
) -> None:  # fmt: skip
    """Settle each group; one of too few survivors is left out where there are others."""
    for one in total.sums:
        try:
            settle(grid, league, roster, one, clock)
        except QuorumError as fault:
            if len(total.sums) == 1:
                raise
            outcome.quarantined |= dict.fromkeys(one.survivors, f"the group is too small: {fault.what}")
            one.shares.clear()
    good = [name for one in total.sums for name in one.survivors]
    require_quorum(league, cohort, good, "settling the groups", outcome.quarantined)
