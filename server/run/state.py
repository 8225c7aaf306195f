"""The coordinator's state between rounds, and its way to the disk and back.

Invariant: after `save` has returned, a killed run resumes after this round; the state holds everything that
the next round depends on and nothing that differs between an interrupted and an uninterrupted run.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

from common.canonical import line
from common.errors import RunError
from common.files import read_lines, write_whole
from common.models.optimisers import ServerOptimiser, optimiser_for
from common.protocol.wire import FloatVector, Layout
from common.runtime.progress import RoundProgress
from common.storage import checkpoint
from server.run.league import League

METRIC = "valid/ndcg@20"


@dataclass
class RunState:
    """Where a run stands.

    Parameters
    ----------
    round : rounds done.
    vector : the shared model after them, float32 of shape (layout.size,).
    weights : each member's weight by the contract's rule.
    best_round, best_metric : the round after which the model scored best so far; None while no figure came.
    best_figures : each site's own figures of that model.
    history : macro figures of each round.
    """

    layout: Layout
    vector: FloatVector
    weights: dict[str, float]
    optimiser: ServerOptimiser
    round: int = 0
    best_round: int | None = None
    best_metric: float | None = None
    best_figures: dict[str, dict[str, float]] = field(default_factory=dict)
    measured: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Outcome:
    """Figures of the good sites, reasons for the others, bytes received, and whether the round counts.

    Parameters
    ----------
    undone : why the round was taken back; empty where it counts.
    groups_refused : group sums that failed the sites' checks, or served the sites worse.
    tried : whether the sites judged the sums before they were applied.
    named : sites that are out from the next round on, and why.
    """

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int | None = None
    undone: str = ""
    groups_refused: int = 0
    tried: bool = False
    named: dict[str, str] = field(default_factory=dict)


def save(league: League, state: RunState) -> None:
    """Write the state as the checkpoint of its round."""
    loop = {
        "layout": json.loads(state.layout.to_json()),
        "weights": state.weights,
        "best_round": state.best_round,
        "best_metric": state.best_metric,
        "best_figures": state.best_figures,
        "measured": state.measured,
        "history": state.history,
    }
    tensors = {"vector": state.vector, **state.optimiser.state()}
    snapshot = checkpoint.Checkpoint(state.round, league.run, state.layout.digest, tensors, loop)
    checkpoint.save(league.folder.state, snapshot, best_round=state.best_round)


def restore(league: League, progress: RoundProgress) -> RunState | None:
    """The state of an interrupted run, or None for a fresh one.

    Raises
    ------
    RunError : checkpoints exist but can't be used, or the log of rounds doesn't fit them.
    """
    snapshot, notes = checkpoint.load_latest(league.folder.state, config=league.run)
    for note in notes:
        progress.note(f"Passed over a damaged checkpoint: {note}")
    if snapshot is None:
        return None
    where = str(league.folder.state)
    layout = Layout.from_json(json.dumps(snapshot.loop.get("layout")), where=where)
    vector = snapshot.tensors.get("vector")
    if layout.digest != snapshot.layout or vector is None or vector.shape != (layout.size,):
        raise RunError("the checkpoint's vector doesn't fit its layout", where=where)
    optimiser = optimiser_for(league.config.rounds, layout.size)
    optimiser.restore({name: tensor for name, tensor in snapshot.tensors.items() if name != "vector"})
    _cut_log(league, snapshot.round)
    return RunState(
        layout=layout, vector=vector, weights=snapshot.loop["weights"], optimiser=optimiser, round=snapshot.round,
        best_round=snapshot.loop["best_round"], best_metric=snapshot.loop["best_metric"],
        best_figures=snapshot.loop["best_figures"],
        measured=snapshot.loop["measured"], history=snapshot.loop["history"],
    )  # fmt: skip


def best_vector(league: League, state: RunState) -> tuple[int, FloatVector]:
    """The model to release and the round after which it stood: the best measured one, else the last.

    Raises
    ------
    RunError : the best model's checkpoint is damaged.
    """
    if state.best_round is None or state.best_round == state.round:
        return state.round, state.vector
    return state.best_round, checkpoint.load(
        league.folder.state, state.best_round, config=league.run
    ).tensors["vector"]


def macro(per_site: dict[str, dict[str, float]]) -> dict[str, float]:
    """The unweighted mean of each figure over the sites that gave it."""
    names = sorted({name for metrics in per_site.values() for name in metrics})
    means = {}
    for name in names:
        values = [metrics[name] for metrics in per_site.values() if name in metrics]
        means[name] = math.fsum(values) / len(values)
    return means


def _cut_log(league: League, done: int) -> None:
    """Drop log lines of rounds whose checkpoint didn't reach the disk; they will be run and logged again."""
    path = league.folder.rounds_file
    kept = [record for record in read_lines(path) if int(record.get("round", 0)) <= done]
    if [record["round"] for record in kept] != list(range(1, done + 1)):
        raise RunError(
            "the log of rounds doesn't fit the checkpoint", where=str(path), next_step="start the run anew"
        )
    if done or path.exists():
        write_whole(path, "".join(map(line, kept)).encode())
