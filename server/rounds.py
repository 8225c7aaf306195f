"""The rounds of training: one loop that can be read aloud (DESIGN §5).

Invariant: the state after a round depends only on the state before it and on the sites' replies, never on
their order or on the clock, and it's on the disk before the next round begins. So a killed run resumes at
its round, and its result equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid

from common import wire
from common.errors import WireError
from common.progress import RoundProgress
from common.run_folder import append_line
from common.wire import FloatVector
from server.exchange import exchange
from server.league import League, Roster, require_quorum
from server.protection import Protection, protection_for
from server.screen import Expected, claimed_weight, finite_metrics, screen
from server.sealed import Bundles, SealedSum, exchange_keys, hand_out, keep_sum, kept_sum, new_attempt, settle
from server.state import METRIC, RunState, macro, save
from server.sum_worker import SumWorker

_LOSSES = ("train/loss", "loss", "valid/loss")


@dataclass
class Outcome:
    """What came of asking a cohort: figures of the good sites, reasons for the others, bytes received."""

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int | None = None


def run_rounds(grid: Grid, league: League, roster: Roster, state: RunState, progress: RoundProgress) -> None:
    """Run the rounds that are still to do, changing `state` in place.

    Raises
    ------
    QuorumError : a round had too few usable replies; everything up to the round before is kept.
    """
    with SumWorker() as worker:
        _run_rounds(grid, league, roster, state, progress, worker)


def _run_rounds(
    grid: Grid, league: League, roster: Roster, state: RunState, progress: RoundProgress, worker: SumWorker
) -> None:
    count = league.config.rounds.count
    progress.start("round", total=count, done=state.round)
    sealed = league.config.rounds.protection != "plain" and state.round < count
    bundles = exchange_keys(grid, league, roster, sorted(state.weights)) if sealed else {}
    while state.round < count:
        began = time.monotonic()
        round_ = state.round + 1
        cohort = choose_cohort(league, state, round_)
        if league.config.rounds.protection == "plain":
            weights = {name: state.weights[name] for name in cohort}
            total = protection_for(league.config.rounds, state.layout.size, weights)
            outcome = train_cohort(grid, league, roster, state, cohort, total)
            require_quorum(league, cohort, list(outcome.metrics), f"round {round_}", outcome.quarantined)
            mean: FloatVector | None = total.open()
        else:
            outcome, mean = sealed_round(grid, league, roster, state, cohort, bundles, worker)

        metrics = macro(outcome.metrics)
        state.judge(state.round, metrics)  # the figures are of the model that the sites received
        if mean is not None:
            state.vector = state.optimiser.step(state.vector, mean)
        state.round = round_
        state.history.append({"round": round_, "metrics": metrics})
        _log_round(league, state, cohort, outcome, metrics, time.monotonic() - began)
        save(league, state)
        for name, reason in outcome.quarantined.items():
            progress.note(f"Quarantined: {reason} ({wire.place(name, round_)})")
        progress.step(round_, loss=_loss(metrics), metric=metrics.get(METRIC))


def sealed_round(
    grid: Grid, league: League, roster: Roster, state: RunState, cohort: list[str], bundles: Bundles,
    worker: SumWorker,
) -> tuple[Outcome, FloatVector | None]:  # fmt: skip
    """A round whose updates the coordinator can't read: what came of it, and the mean where it may be known.

    Under `he` the sum goes back to the sites; one that lies on the disk already is only handed out.
    """
    round_, hidden = state.round + 1, "he" in league.config.rounds.protection
    kept = kept_sum(league, round_) if hidden else None
    if kept is not None:
        outcome = Outcome(kept["metrics"], kept["quarantined"], int(kept["bytes_up"]))
        bytes_down = 0
    else:
        attempt = new_attempt(round_, cohort, state.weights)
        total = SealedSum(league.config.rounds, state.layout, attempt, league.run, bundles, worker)
        outcome = train_cohort(grid, league, roster, state, cohort, total, attempt=attempt.to_json())
        require_quorum(league, cohort, list(outcome.metrics), f"round {round_}", outcome.quarantined)
        settle(grid, league, roster, total)
        if not hidden:
            return outcome, total.open()
        facts = {"metrics": outcome.metrics, "quarantined": outcome.quarantined, "bytes_up": outcome.bytes_up}
        keep_sum(league, total, facts)
    best = state.best_round
    apart, bytes_down = hand_out(grid, league, roster, sorted(state.weights), round_, best)
    outcome.bytes_down = bytes_down
    outcome.quarantined.update(apart)
    return outcome, None


def choose_cohort(league: League, state: RunState, round_: int) -> list[str]:
    """The round's sites, drawn from the public seed and in site order."""
    names = sorted(state.weights)
    size = math.ceil(league.config.rounds.fraction * len(names))
    if size == len(names):
        return names
    drawn = np.random.default_rng([league.config.seed, round_]).choice(len(names), size=size, replace=False)
    return [names[place] for place in sorted(drawn.tolist())]


def train_cohort(
    grid: Grid, league: League, roster: Roster, state: RunState, cohort: list[str],
    total: Protection[Any], *, attempt: str = "",
) -> Outcome:  # fmt: skip
    """Send the model to the cohort and fold each good update into `total` as it comes."""
    round_ = state.round + 1
    outcome = Outcome()
    places = {name: place for place, name in enumerate(cohort)}
    for name in cohort:
        if name not in roster.nodes:
            total.skip(places[name])
            outcome.quarantined[name] = "not connected"
    order = _order(
        league, state, round_, attempt
    )  # one for all: a vector per site would grow with the cohort
    requests = {name: (roster.nodes[name], order) for name in roster.present(cohort)}
    for name, reply in exchange(
        grid, requests, wire.TRAIN, group=str(round_), deadline_s=league.config.rounds.deadline_s
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
            metrics = finite_metrics(content, where=where)
            payload = total.check(content, site=name, where=where)
        except WireError as fault:
            total.skip(places[name])
            outcome.quarantined[name] = fault.what
            continue
        total.fold(places[name], payload, state.weights[name])
        outcome.metrics[name] = metrics
        outcome.bytes_up += payload.nbytes
    outcome.metrics = {name: outcome.metrics[name] for name in cohort if name in outcome.metrics}
    outcome.quarantined = {name: outcome.quarantined[name] for name in cohort if name in outcome.quarantined}
    return outcome


def _order(league: League, state: RunState, round_: int, attempt: str) -> RecordDict:
    protection = league.config.rounds.protection
    plan: dict[str, str | int | float | bool] = {"attempt": attempt} if attempt else {}
    header = wire.Header(league.run, round_, layout=state.layout.digest, protection=protection, plan=plan)
    return wire.pack(header, vector=None if "he" in protection else state.vector)


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
            "seconds": round(seconds, 4),
        },
    )


def _loss(metrics: dict[str, float]) -> float | None:
    return next((metrics[name] for name in _LOSSES if name in metrics), None)
