"""The rounds of training: one loop that can be read aloud.

Invariant: the state after a round depends only on the state before it and on the sites' replies, never on
their order or on the clock, and it's on the disk before the next round begins. So a killed run resumes at
its round, and its result equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid

from common.errors import WireError
from common.files import append_line
from common.he.schemes import name_of
from common.protocol import wire
from common.protocol.wire import FloatVector
from common.runtime.progress import RoundProgress
from common.secagg.suspicion import to_json
from server.aggregation.plain import Protection
from server.aggregation.robust import protection_for
from server.messages.exchange import exchange
from server.messages.screen import Expected, claimed_weight, finite_metrics, screen
from server.rounds.membership import Doorway
from server.run.deadline import RoundClock
from server.run.guard import fall, measure, note_best, verdict
from server.run.league import League, Roster, require_quorum
from server.run.receipts import Receipts, ledger_head, with_receipt
from server.run.state import METRIC, Outcome, RunState, macro, save
from server.run.stopping import stop_if_asked
from server.secagg.keys import KeyRing
from server.secagg.refusals import judged_before, refusals_before
from server.secagg.round import Session, sealed_round
from server.secagg.sums import catch_up, hand_out, undo
from server.secagg.uploads import GroupedSum

_LOSSES = ("train/loss", "loss", "valid/loss")


def run_rounds(grid: Grid, league: League, roster: Roster, state: RunState, progress: RoundProgress) -> None:
    """Run the rounds that are still to do, changing `state` in place.

    Raises
    ------
    QuorumError : a round had too few usable replies; everything up to the round before is kept.
    """
    count, rounds = league.config.rounds.count, league.config.rounds
    progress.start("round", total=count, done=state.round)
    names = sorted(state.weights)
    sealed = rounds.protection != "plain" and state.round < count
    session = Session(KeyRing(grid, league, roster, names), name_of(rounds), names) if sealed else None
    doorway = Doorway(grid, league, roster, progress)
    with session or nullcontext():
        if session is not None and rounds.encrypted:
            session.warm(rounds.groups)
        while state.round < count:
            stop_if_asked(league.folder, state.round)
            began, clock = time.monotonic(), RoundClock(rounds)
            round_ = state.round + 1
            _welcome(doorway, state, session)
            cohort = choose_cohort(league, state, round_)
            mean: FloatVector | None
            if session is None:
                outcome, mean = _plain_round(grid, league, roster, state, cohort, clock)
            else:
                train = partial(train_cohort, grid, league, roster, state, cohort, clock=clock)
                outcome, mean = sealed_round(grid, league, roster, state, cohort, session, train, clock)

            metrics = macro(outcome.metrics)
            # The figures are of the model that the sites received.
            note_best(state, state.round, outcome.metrics, rounds)
            if mean is not None:
                _step(grid, league, roster, state, outcome, mean, clock)
            elif session is not None:
                _guard_hidden(grid, league, roster, state, outcome, session, clock)
            state.round = round_
            state.history.append({"round": round_, "metrics": metrics})
            _log_round(league, state, cohort, outcome, metrics, time.monotonic() - began)
            save(league, state)
            for name, reason in outcome.quarantined.items():
                progress.note(f"Quarantined: {reason} ({wire.place(name, round_)})")
            if outcome.undone:
                progress.note(f"Undone: {outcome.undone} (round {round_})")
            progress.step(round_, loss=_loss(metrics), metric=metrics.get(METRIC))
        if session is not None and rounds.encrypted and session.behind:
            catch_up(grid, league, roster, session.keys, session.behind, state.round, state.best_round)


def _welcome(doorway: Doorway, state: RunState, session: Session | None) -> None:
    """Let in who came late and forget who left, before the round's keys are settled."""
    connected, joined = doorway.update(state)
    if session is None:
        return
    for name in session.keys.admit(joined):
        del state.weights[name]
    session.behind |= {*connected, *joined} & set(state.weights)
    session.keys.use(sorted(state.weights))


def _plain_round(
    grid: Grid, league: League, roster: Roster, state: RunState, cohort: list[str], clock: RoundClock
) -> tuple[Outcome, FloatVector]:
    weights = {name: state.weights[name] for name in cohort}
    total = protection_for(league.config, state.layout, weights, state.round + 1)
    outcome = train_cohort(grid, league, roster, state, cohort, total, clock=clock)
    require_quorum(league, cohort, list(outcome.metrics), f"round {state.round + 1}", outcome.quarantined)
    return outcome, total.open()


def _step(
    grid: Grid, league: League, roster: Roster, state: RunState, outcome: Outcome, mean: FloatVector,
    clock: RoundClock,
) -> None:  # fmt: skip
    """Move the model, unless that serves the sites much worse."""
    before = state.optimiser.state()
    moved = state.optimiser.step(state.vector, mean)
    if _fell(grid, league, roster, state, outcome, moved, clock):
        state.optimiser.restore(before)
    else:
        state.vector = moved


def _guard_hidden(
    grid: Grid, league: League, roster: Roster, state: RunState, outcome: Outcome, session: Session,
    clock: RoundClock,
) -> None:  # fmt: skip
    """The same where the sites hold the model: they are told to take the round back."""
    if not outcome.undone and not outcome.tried and _fell(grid, league, roster, state, outcome, None, clock):
        undo(league, state.round + 1, outcome.undone)
        names = sorted(state.weights)
        handed = hand_out(grid, league, roster, session.keys, names, state.round + 1, state.best_round)
        session.behind = set(handed.apart)


def _fell(
    grid: Grid, league: League, roster: Roster, state: RunState, outcome: Outcome, vector: FloatVector | None,
    clock: RoundClock,
) -> bool:  # fmt: skip
    """Whether the sites are served much worse than by the best model so far: small falls add up too."""
    worst = league.config.rounds.worst_fall
    if not worst:
        return False
    found = measure(grid, league, roster, state, state.round + 1, vector, clock.left("guard"))
    lost = fall(state.best_figures, found, league.config.rounds.malicious_sites)
    if lost > worst:
        outcome.undone = verdict(lost)
    return lost > worst


def choose_cohort(league: League, state: RunState, round_: int) -> list[str]:
    """The round's sites, drawn from the public seed and in site order, without those that spoiled groups."""
    out = judged_before(league, round_).named
    names = [name for name in sorted(state.weights) if name not in out]
    size = math.ceil(league.config.rounds.fraction * len(names))
    if size == len(names):
        return names
    drawn = np.random.default_rng([league.config.seed, round_]).choice(len(names), size=size, replace=False)
    return [names[place] for place in sorted(drawn.tolist())]


def train_cohort(
    grid: Grid, league: League, roster: Roster, state: RunState, cohort: list[str],
    total: Protection[Any], *, clock: RoundClock,
) -> Outcome:  # fmt: skip
    """Send the model to the cohort and fold each good update into `total` as it comes."""
    round_ = state.round + 1
    outcome = Outcome()
    places = {name: place for place, name in enumerate(cohort)}
    for name in cohort:
        if name not in roster.nodes:
            total.skip(places[name])
            outcome.quarantined[name] = "not connected"
    told = total.attempts() if isinstance(total, GroupedSum) else {}
    # One order for all of a group: a vector per site would grow with the cohort.
    orders = {text: _order(league, state, round_, text) for text in set(told.values()) or {""}}
    receipts, heads = Receipts(league.receipts), {}
    requests = {
        name: (roster.nodes[name], with_receipt(orders[told.get(name, "")], receipts.of(name)))
        for name in roster.present(cohort)
    }
    for name, reply in exchange(
        grid, requests, wire.TRAIN, group=str(round_), deadline_s=clock.left("train")
    ):
        where = wire.place(name, round_)
        try:
            if reply is None:
                raise WireError("no reply before the deadline", where=where)
            expected = Expected(
                name, league.run, round_, state.layout.digest, league.config.rounds.protection
            )
            header, content = screen(reply, expected)
            claimed_weight(header, where=where)
            head = ledger_head(header)
            metrics = finite_metrics(content, where=where)
            payload = total.check(content, site=name, where=where)
        except WireError as fault:
            total.skip(places[name])
            outcome.quarantined[name] = fault.what
            continue
        total.fold(places[name], payload, state.weights[name])
        if head is not None:
            heads[name] = head
        outcome.metrics[name] = metrics
        outcome.bytes_up += payload.nbytes
    receipts.note(heads)
    outcome.metrics = {name: outcome.metrics[name] for name in cohort if name in outcome.metrics}
    outcome.quarantined = {name: outcome.quarantined[name] for name in cohort if name in outcome.quarantined}
    return outcome


def _order(league: League, state: RunState, round_: int, attempt: str) -> RecordDict:
    protection = league.config.rounds.protection
    plan: dict[str, str | int | float | bool] = {}
    if attempt:
        plan = {"attempt": attempt, "refusals": to_json(refusals_before(league, round_))}
    header = wire.Header(league.run, round_, layout=state.layout.digest, protection=protection, plan=plan)
    return wire.pack(header, vector=None if league.config.rounds.encrypted else state.vector)


def _log_round(
    league: League,
    state: RunState,
    cohort: list[str],
    outcome: Outcome,
    metrics: dict[str, float],
    seconds: float,
) -> None:
    append_line(
        league.folder.rounds_file,
        {
            "round": state.round,
            "loss": _loss(metrics),
            "metrics": metrics,
            "sites": outcome.metrics,
            "cohort": cohort,
            "weights": {name: state.weights[name] for name in outcome.metrics},
            "quarantined": [{"site": name, "reason": reason} for name, reason in outcome.quarantined.items()],
            "bytes": {
                "down": state.vector.nbytes * len(cohort)
                if outcome.bytes_down is None
                else outcome.bytes_down,
                "up": outcome.bytes_up,
            },
            "undone": outcome.undone,
            "groups_refused": outcome.groups_refused,
            "named": sorted(outcome.named),
            "seconds": round(seconds, 4),
        },
    )


def _loss(metrics: dict[str, float]) -> float | None:
    return next((metrics[name] for name in _LOSSES if name in metrics), None)
