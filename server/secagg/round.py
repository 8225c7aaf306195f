"""One round whose updates the coordinator can't read, told in order: train, settle, keep, hand out.

Invariant: under `he` a round whose sums lie on the disk is only handed out, never trained again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from common.errors import QuorumError, WireError
from common.protocol.wire import FloatVector
from common.secagg.protocol import REFUSED, Attempt, groups_of
from server.run.run import Run
from server.run.state import Outcome
from server.secagg.ask import Answers
from server.secagg.keys import KeyRing
from server.secagg.refusals import judged_before, note_refusal
from server.secagg.sum_worker import SumWorker
from server.secagg.sums import catch_up, hand_out, keep_sums, kept_sums
from server.secagg.trial import try_groups
from server.secagg.uploads import GroupedSum, SecureSum, SumTerms, settle

TrainCohort = Callable[[Run, list[str], GroupedSum], Outcome]


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


def secure_round(
    run: Run, session: Session, cohort: list[str], train: TrainCohort
) -> tuple[Outcome, FloatVector | None]:
    """What came of the round, and the mean where the coordinator may know it.

    Raises
    ------
    QuorumError : too few sites sent, signed, revealed or hold the same model.
    """
    keys, encrypted = session.keys, run.rounds.encrypted
    # 1. See that the members have the key of this round's epoch, and all sums so far.
    keys.reach(keys.epoch(run.round), within_s=run.left_s("keys"))
    if encrypted and run.state.round and session.behind:
        catch_up(run, keys, session.behind, run.left_s("keys"))
    # 2. Train and settle, unless the round's sums lie on the disk.
    kept = kept_sums(run.league, run.round) if encrypted else None
    if kept is not None:
        outcome = Outcome(kept["metrics"], kept["quarantined"], int(kept["bytes_up"]))
    else:
        total = _fresh(run, session, cohort)
        outcome = train(run, cohort, total)
        run.require_quorum(cohort, list(outcome.metrics), f"round {run.round}", outcome.quarantined)
        _settle_groups(run, cohort, total, outcome)
        if not encrypted:
            return outcome, _opened(total, outcome)
        facts = {"metrics": outcome.metrics, "quarantined": outcome.quarantined, "bytes_up": outcome.bytes_up}
        keep_sums(run.league, run.round, total.sums, facts)
    # 3. Let the sites try the sums, then hand out what counts.
    tried = try_groups(run, keys)
    handed = hand_out(run, keys, run.round, run.left_s("apply"))
    session.behind = set(handed.apart)
    # 4. Note what came of it.
    outcome.bytes_down = handed.nbytes + tried.nbytes
    outcome.quarantined.update(handed.apart)
    outcome.undone = str((kept_sums(run.league, run.round) or {}).get("undone", ""))
    outcome.groups_refused = len(handed.refused) + len(tried.without)
    outcome.tried = tried.judged
    outcome.named = _named(run, keys, tried.answers | _signed(handed.answers))
    outcome.quarantined.update(outcome.named)
    return outcome, None


def _named(run: Run, keys: KeyRing, answers: Answers) -> dict[str, str]:
    """Sites that this round's refusals name; they take part in no later round."""
    sums = str((kept_sums(run.league, run.round) or {}).get("sums", "[]"))
    return note_refusal(run.league, run.round, sums, answers, keys.bundles)


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


def _fresh(run: Run, session: Session, cohort: list[str]) -> GroupedSum:
    """An attempt for each group at a round, under masks that nothing was used for yet."""
    rounds, round_, keys = run.rounds, run.round, session.keys
    suspects = judged_before(run.league, round_).suspects
    sums = []
    for place, names in enumerate(groups_of(rounds, run.config.seed, round_, cohort, suspects)):
        weights = {name: run.state.weights[name] for name in names}
        attempt = Attempt(round_, os.urandom(16).hex(), weights, keys.epoch_of(round_))
        terms = SumTerms(rounds, run.state.layout, run.league.run, keys.bundles)
        sums.append(SecureSum(terms, attempt, session.worker(place)))
    return GroupedSum(sums)


def _settle_groups(run: Run, cohort: list[str], total: GroupedSum, outcome: Outcome) -> None:
    """Settle each group; one of too few survivors is left out where there are others."""
    for group in total.sums:
        try:
            settle(run, group)
        except QuorumError as fault:
            if len(total.sums) == 1:
                raise
            outcome.quarantined |= dict.fromkeys(group.survivors, f"the group is too small: {fault.what}")
            group.shares.clear()
    good = [name for group in total.sums for name in group.survivors]
    run.require_quorum(cohort, good, "settling the groups", outcome.quarantined)
