"""Evaluation phases after training: ask each site once, and keep each answer the moment it comes.

Invariant: an answer that reached the disk is never asked for again, so an interrupted phase redoes only the
sites that lack one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flwr.app import Message
from flwr.serverapp import Grid

from common.errors import WireError
from common.files import append_line, read_lines
from common.protocol import wire
from common.protocol.wire import FloatVector
from common.runtime.progress import RoundProgress
from server.messages.exchange import exchange
from server.messages.screen import Expected, finite_metrics, screen
from server.run.guard import note_best
from server.run.league import League, Roster, require_quorum
from server.run.state import RunState, save


def measure_last(
    grid: Grid, league: League, roster: Roster, state: RunState, progress: RoundProgress
) -> None:
    """Give the model of the last round its figures, so that it too can be the best; done once.

    During training each model's figures come back with the next round's reply, which the last model doesn't have.
    """
    if state.measured:
        return
    header = wire.Header(run=league.run, round=state.round, layout=state.layout.digest)
    names = roster.present(sorted(state.weights))
    hidden = league.config.rounds.encrypted  # then each site holds the model itself
    content = wire.pack(header, vector=None if hidden else state.vector)
    requests = {name: (roster.nodes[name], content) for name in names}
    found: dict[str, dict[str, float]] = {}
    deadline_s = league.config.rounds.deadline_s
    for name, reply in exchange(grid, requests, wire.MEASURE, group="measure", deadline_s=deadline_s):
        try:
            found[name] = _figures(league, state, name, reply, state.round)
        except WireError as fault:
            progress.note(f"Left out: {fault.sentence()}")
    found = {name: found[name] for name in names if name in found}
    require_quorum(league, names, list(found), "measuring the last model", {})
    note_best(state, state.round, found, league.config.rounds)
    state.measured = True
    save(league, state)


def evaluate(
    grid: Grid, league: League, roster: Roster, state: RunState, progress: RoundProgress, *,
    phase: str, names: Sequence[str], vector: FloatVector | None, best: int = 0,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Run one evaluation phase at the named sites and return each site's figures, in site order.

    Parameters
    ----------
    best : the round whose model sites take that hold it themselves.

    Raises
    ------
    QuorumError : too few sites gave figures; those that did are kept for a resumed run.
    """
    path = results_file(league.folder.state, phase)
    done = {str(line["site"]): dict(line["metrics"]) for line in read_lines(path)}
    todo = [name for name in roster.present(names) if name not in done]
    header = wire.Header(league.run, state.round, layout=state.layout.digest, plan={"best": best})
    content = wire.pack(header, vector=vector)
    requests = {name: (roster.nodes[name], content) for name in todo}
    reasons: dict[str, str] = {}
    progress.start(phase, total=len(names), done=len(done))
    deadline_s = league.config.rounds.deadline_s
    for name, reply in exchange(grid, requests, phase, group=phase, deadline_s=deadline_s):
        try:
            done[name] = _figures(league, state, name, reply, state.round)
        except WireError as fault:
            reasons[name] = fault.what
            progress.note(f"Left out: {fault.sentence()}")
            continue
        append_line(path, {"site": name, "metrics": done[name]})
        progress.step(len(done), label=name)
    results = {name: done[name] for name in names if name in done}
    require_quorum(league, list(names), list(results), phase, reasons)
    return results


def results_file(state_folder: Path, phase: str) -> Path:
    """Where a phase's figures are kept: one JSON line a site."""
    return state_folder / f"{phase}.jsonl"


def _figures(
    league: League, state: RunState, name: str, reply: Message | None, round_: int
) -> dict[str, float]:
    where = wire.place(name, round_)
    if reply is None:
        raise WireError("no reply before the deadline", where=where)
    _, content = screen(reply, Expected(name, league.run, round_, state.layout.digest))
    return finite_metrics(content, where=where)
