"""The rounds of training: one loop that can be read aloud.

Invariant: the state after a round depends only on the state before it and on the sites' replies, never on
their order or on the clock, and it's on the disk before the next round begins. So a killed run resumes at
its round, and its result equals the uninterrupted one bit for bit.
"""

from __future__ import annotations

import time
from contextlib import nullcontext

from common.files import append_line
from common.he.schemes import name_of
from common.protocol import wire
from common.protocol.wire import FloatVector
from server.aggregation.robust import protection_for
from server.rounds.membership import Doorway
from server.rounds.train import choose_cohort, train_cohort
from server.run.guard import fall, measure, note_best, verdict
from server.run.run import Run
from server.run.state import METRIC, Outcome, macro, save
from server.run.stopping import stop_if_asked
from server.secagg.keys import KeyRing
from server.secagg.round import Session, secure_round
from server.secagg.sums import catch_up, hand_out, undo

_LOSSES = ("train/loss", "loss", "valid/loss")


def run_rounds(run: Run) -> None:
    """Run the rounds that are still to do, changing the run's state in place.

    Raises
    ------
    QuorumError : a round had too few usable replies; everything up to the round before is kept.
    """
    rounds = run.rounds
    run.progress.start("round", total=rounds.count, done=run.state.round)
    secure = rounds.protection != "plain" and run.state.round < rounds.count
    session = Session(KeyRing(run, run.names), name_of(rounds), run.names) if secure else None
    doorway = Doorway(run)
    with session or nullcontext():
        if session is not None and rounds.encrypted:
            session.warm(rounds.groups)
        while run.state.round < rounds.count:
            stop_if_asked(run.folder, run.state.round)
            one_round(run, doorway, session)
        if session is not None and rounds.encrypted and session.behind:
            catch_up(run, session.keys, session.behind)


def one_round(run: Run, doorway: Doorway, session: Session | None) -> None:
    """One round, in order."""
    began = time.monotonic()
    run.begin_round()
    # 1. Let in who came late, forget who left, and draw the cohort.
    _welcome(run, doorway, session)
    cohort = choose_cohort(run)
    mean: FloatVector | None
    # 2. Train at the cohort's sites, and sum the updates.
    if session is None:
        outcome, mean = _plain_round(run, cohort)
    else:
        outcome, mean = secure_round(run, session, cohort, train_cohort)
    # 3. The figures that came are of the model that the sites received.
    note_best(run.state, run.state.round, outcome.metrics, run.rounds)
    # 4. Move the model, or take the round back where the sites are served much worse.
    if mean is not None:
        _move(run, outcome, mean)
    elif session is not None:
        _guard_hidden(run, outcome, session)
    # 5. Log line first, checkpoint last: only with it the round is done.
    metrics = macro(outcome.metrics)
    run.state.round += 1
    run.state.history.append({"round": run.state.round, "metrics": metrics})
    _log_round(run, cohort, outcome, time.monotonic() - began)
    save(run.league, run.state)
    _tell(run, outcome)


def _welcome(run: Run, doorway: Doorway, session: Session | None) -> None:
    """Let in who came late and forget who left, before the round's keys are settled."""
    connected, joined = doorway.update()
    if session is None:
        return
    for name in session.keys.admit(joined):
        del run.state.weights[name]
    session.behind |= {*connected, *joined} & set(run.state.weights)
    session.keys.use(run.names)


def _plain_round(run: Run, cohort: list[str]) -> tuple[Outcome, FloatVector]:
    weights = {name: run.state.weights[name] for name in cohort}
    total = protection_for(run.config, run.state.layout, weights, run.round)
    outcome = train_cohort(run, cohort, total)
    run.require_quorum(cohort, list(outcome.metrics), f"round {run.round}", outcome.quarantined)
    return outcome, total.open()


def _move(run: Run, outcome: Outcome, mean: FloatVector) -> None:
    """Move the model, unless that serves the sites much worse."""
    before = run.state.optimiser.state()
    moved = run.state.optimiser.step(run.state.vector, mean)
    if _fell(run, outcome, moved):
        run.state.optimiser.restore(before)
    else:
        run.state.vector = moved


def _guard_hidden(run: Run, outcome: Outcome, session: Session) -> None:
    """The same where the sites hold the model: they are told to take the round back."""
    if not outcome.undone and not outcome.tried and _fell(run, outcome, None):
        undo(run.league, run.round, outcome.undone)
        session.behind = set(hand_out(run, session.keys, run.round).apart)


def _fell(run: Run, outcome: Outcome, vector: FloatVector | None) -> bool:
    """Whether the sites are served much worse than by the best model so far: small falls add up too."""
    worst = run.rounds.worst_fall
    if not worst:
        return False
    figures = measure(run, vector, run.left_s("guard"))
    lost = fall(run.state.best_figures, figures, run.rounds.malicious_sites)
    if lost > worst:
        outcome.undone = verdict(lost)
    return lost > worst


def _log_round(run: Run, cohort: list[str], outcome: Outcome, seconds: float) -> None:
    state = run.state
    metrics = state.history[-1]["metrics"]
    bytes_down = state.vector.nbytes * len(cohort) if outcome.bytes_down is None else outcome.bytes_down
    append_line(
        run.folder.rounds_file,
        {
            "round": state.round,
            "loss": _loss(metrics),
            "metrics": metrics,
            "sites": outcome.metrics,
            "cohort": cohort,
            "weights": {name: state.weights[name] for name in outcome.metrics},
            "quarantined": [{"site": name, "reason": reason} for name, reason in outcome.quarantined.items()],
            "bytes": {"down": bytes_down, "up": outcome.bytes_up},
            "undone": outcome.undone,
            "groups_refused": outcome.groups_refused,
            "named": sorted(outcome.named),
            "seconds": round(seconds, 4),
        },
    )


def _tell(run: Run, outcome: Outcome) -> None:
    """Show who watches what came of the round."""
    round_, metrics = run.state.round, run.state.history[-1]["metrics"]
    for name, reason in outcome.quarantined.items():
        run.progress.note(f"Quarantined: {reason} ({wire.place(name, round_)})")
    if outcome.undone:
        run.progress.note(f"Undone: {outcome.undone} (round {round_})")
    run.progress.step(round_, loss=_loss(metrics), metric=metrics.get(METRIC))


def _loss(metrics: dict[str, float]) -> float | None:
    return next((metrics[name] for name in _LOSSES if name in metrics), None)
