"""The guard over each round: a model that serves the sites much worse than the best one so far is taken back.

Invariant: the verdict is the mean over the sites' own figures on held-out data without the greatest and least of
`rounds.malicious_sites`, so as many, lying, can neither force a round through nor take one back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, median

from common.errors import WireError
from common.protocol import wire
from common.protocol.wire import FloatVector
from common.settings.config import RoundsConfig
from server.messages.screen import finite_metrics
from server.run.run import Question, Run
from server.run.state import METRIC, RunState

Figures = Mapping[str, Mapping[str, float]]


def measure(run: Run, vector: FloatVector | None, within_s: float) -> dict[str, dict[str, float]]:
    """The sites' figures of a model that isn't accepted yet; `vector` is None where the sites hold it themselves."""
    question = Question(wire.MEASURE, "guard", run.round, run.state.layout.digest, within_s=within_s)
    header = wire.Header(run=run.league.run, round=run.round, layout=run.state.layout.digest)
    orders = dict.fromkeys(run.present(), wire.pack(header, vector=vector))
    answers = run.ask(question, orders, lambda reply: finite_metrics(reply.content, where=reply.where))
    # A site without figures has no vote.
    return {name: figures for name, figures in answers if not isinstance(figures, WireError)}


def score(figures: Figures, rounds: RoundsConfig) -> float | None:
    """What a model is chosen by: the sites' mean figure, under a guard without the greatest and the least."""
    scores = [_figure(values[METRIC]) for values in figures.values() if METRIC in values]
    if not scores:
        return None
    return (
        steady_mean(scores, rounds.malicious_sites) if rounds.worst_fall else math.fsum(scores) / len(scores)
    )


def note_best(state: RunState, round_: int, figures: Figures, rounds: RoundsConfig) -> None:
    """Note how the model after `round_` rounds scored at the sites that received it.

    Models are compared over the sites that have figures of both: where one is away, or out, the rest isn't better or
    worse for it.
    """
    metric = score(figures, rounds)
    if metric is None:
        return
    both = [n for n in figures if METRIC in figures[n] and METRIC in state.best_figures.get(n, {})]
    new = score({name: figures[name] for name in both}, rounds)
    old = score({name: state.best_figures[name] for name in both}, rounds)
    if old is None or new is None:
        old, new = state.best_metric, metric
    if old is None or new > old:
        state.best_round, state.best_metric = round_, metric
        state.best_figures = {name: dict(values) for name, values in figures.items()}


def fall(before: Figures, after: Figures, malicious: int = 1) -> float:
    """The part of the sites' figure that was lost; below zero for a gain, 0 where nothing can be compared.

    Parameters
    ----------
    malicious : sites that may lie; as many of the greatest and of the least losses don't count.

    >>> fall({"a": {"valid/ndcg@20": 0.2}}, {"a": {"valid/ndcg@20": 0.1}})
    0.5
    """
    pairs = [
        (_figure(before[name][METRIC]), _figure(after[name][METRIC]))
        for name in before
        if before[name].get(METRIC, 0.0) > 0 and METRIC in after.get(name, {})
    ]
    if not pairs:
        return 0.0
    return steady_mean([old - new for old, new in pairs], malicious) / median(old for old, _ in pairs)


def verdict(lost: float) -> str:
    """Why a round is undone."""
    return f"the sites' {METRIC} fell by {100 * lost:.0f} %"


def steady_mean(values: Sequence[float], malicious: int) -> float:
    """The mean without so many of the greatest and of the least, or the median where that leaves nothing.

    A median of few sites moves by more than a poison does; a mean of what is left moves by less.
    """
    cut = min(malicious, (len(values) - 1) // 2)
    return fmean(sorted(values)[cut : len(values) - cut])


def _figure(value: float) -> float:
    """NDCG lies in [0, 1], whatever a site says."""
    return min(1.0, max(0.0, value))
