"""The guard over each round: a model that serves the sites much worse than the best one so far is taken back.

Invariant: the verdict is the median over the sites' own figures on held-out data, so fewer than half of them, lying or
not, can neither force a round through nor take one back.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median

from flwr.serverapp import Grid

from common import wire
from common.errors import WireError
from common.wire import FloatVector
from server.exchange import exchange
from server.league import League, Roster
from server.screen import Expected, finite_metrics, screen
from server.state import METRIC, RunState

Figures = Mapping[str, Mapping[str, float]]


def measure(
    grid: Grid, league: League, roster: Roster, state: RunState, round_: int, vector: FloatVector | None,
    within_s: float,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """The sites' figures of a model that isn't accepted yet; None for one that they hold themselves."""
    header = wire.Header(run=league.run, round=round_, layout=state.layout.digest)
    content = wire.pack(header, vector=vector)
    requests = {name: (roster.nodes[name], content) for name in roster.present(sorted(state.weights))}
    found: dict[str, dict[str, float]] = {}
    for name, reply in exchange(grid, requests, wire.MEASURE, group="guard", deadline_s=within_s):
        try:
            if reply is not None:
                _, records = screen(reply, Expected(name, league.run, round_, state.layout.digest))
                found[name] = finite_metrics(records, where=wire.place(name, round_))
        except WireError:
            continue  # a site without figures has no vote
    return found


def fall(before: Figures, after: Figures) -> float:
    """The part of its figure that the median site lost; below zero for a gain, 0 where nothing can be compared.

    >>> fall({"a": {"valid/ndcg@20": 0.2}}, {"a": {"valid/ndcg@20": 0.1}})
    0.5
    """
    lost = [
        1 - after[name][METRIC] / before[name][METRIC]
        for name in before
        if before[name].get(METRIC, 0.0) > 0 and METRIC in after.get(name, {})
    ]
    return median(lost) if lost else 0.0
