"""Evaluation phases after training: ask each site once, and keep each answer the moment it comes.

Invariant: an answer that reached the disk is never asked for again, so an interrupted phase redoes only the
sites that lack one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import WireError
from common.files import append_line, read_lines
from common.protocol import wire
from common.protocol.wire import FloatVector
from server.messages.screen import finite_metrics
from server.run.guard import note_best
from server.run.run import Question, Reply, Run
from server.run.state import save


@dataclass(frozen=True)
class Phase:
    """One evaluation: its message type, the sites asked, and the model.

    Parameters
    ----------
    vector : the model that is sent; None where sites hold one themselves.
    best : the round whose model such sites take.
    """

    type: str
    names: Sequence[str]
    vector: FloatVector | None = None
    best: int = 0


def measure_last(run: Run) -> None:
    """Give the model of the last round its figures, so that it too can be the best; done once.

    During training each model's figures come back with the next round's reply, which the last model doesn't have.
    """
    state = run.state
    if state.measured:
        return
    header = wire.Header(run=run.league.run, round=state.round, layout=state.layout.digest)
    names = run.present()
    hidden = run.rounds.encrypted  # then each site holds the model itself
    order = wire.pack(header, vector=None if hidden else state.vector)
    question = Question(wire.MEASURE, "measure", state.round, state.layout.digest)
    figures: dict[str, dict[str, float]] = {}
    for name, answer in run.ask(question, dict.fromkeys(names, order), _figures):
        if isinstance(answer, WireError):
            run.progress.note(f"Left out: {answer.sentence()}")
        else:
            figures[name] = answer
    figures = {name: figures[name] for name in names if name in figures}
    run.require_quorum(names, list(figures), "measuring the last model", {})
    note_best(state, state.round, figures, run.rounds)
    state.measured = True
    save(run.league, state)


def evaluate(run: Run, phase: Phase) -> dict[str, dict[str, float]]:
    """Run one evaluation phase and return each site's figures, in site order.

    Raises
    ------
    QuorumError : too few sites gave figures; those that did are kept for a resumed run.
    """
    state, names = run.state, phase.names
    path = results_file(run.folder.state, phase.type)
    done = {str(line["site"]): dict(line["metrics"]) for line in read_lines(path)}
    todo = [name for name in run.present(names) if name not in done]
    header = wire.Header(run.league.run, state.round, layout=state.layout.digest, plan={"best": phase.best})
    order = wire.pack(header, vector=phase.vector)
    reasons: dict[str, str] = {}
    run.progress.start(phase.type, total=len(names), done=len(done))
    question = Question(phase.type, phase.type, state.round, state.layout.digest)
    for name, answer in run.ask(question, dict.fromkeys(todo, order), _figures):
        if isinstance(answer, WireError):
            reasons[name] = answer.what
            run.progress.note(f"Left out: {answer.sentence()}")
            continue
        done[name] = answer
        append_line(path, {"site": name, "metrics": answer})
        run.progress.step(len(done), label=name)
    results = {name: done[name] for name in names if name in done}
    run.require_quorum(list(names), list(results), phase.type, reasons)
    return results


def results_file(state_folder: Path, phase: str) -> Path:
    """Where a phase's figures are kept: one JSON line a site."""
    return state_folder / f"{phase}.jsonl"


def _figures(reply: Reply) -> dict[str, float]:
    return finite_metrics(reply.content, where=reply.where)
