"""The best model: compared over the same sites, whoever is away."""

from __future__ import annotations

import numpy as np

from common.models.optimisers import optimiser_for
from common.protocol.wire import Layout
from common.settings.config import RoundsConfig
from server.run.guard import note_best
from server.run.state import METRIC, RunState


def _state() -> RunState:
    rounds = RoundsConfig()
    return RunState(Layout.of({"a": (1,)}), np.zeros(1, np.float32), {}, optimiser_for(rounds, 1))


def _figures(**values: float) -> dict[str, dict[str, float]]:
    return {name: {METRIC: value} for name, value in values.items()}


def test_a_site_that_is_out_makes_no_model_worse_or_better() -> None:
    state, rounds = _state(), RoundsConfig()
    note_best(state, 0, _figures(a=0.1, b=0.1, rich=0.9), rounds)
    note_best(state, 1, _figures(a=0.2, b=0.2), rounds)  # of a lower mean, since the rich one is out
    assert (state.best_round, state.best_metric) == (1, 0.2)
    note_best(state, 2, _figures(a=0.15, b=0.15, rich=0.9), rounds)
    assert state.best_round == 1
    note_best(state, 3, _figures(a=0.25, b=0.2, rich=0.1), rounds)
    assert state.best_round == 3
    assert set(state.best_figures) == {"a", "b", "rich"}


def test_without_figures_nothing_is_best_and_strangers_are_compared_by_their_means() -> None:
    state, rounds = _state(), RoundsConfig()
    note_best(state, 0, {"a": {"train/loss": 1.0}}, rounds)
    assert state.best_round is None
    note_best(state, 1, _figures(a=0.2), rounds)
    note_best(state, 2, _figures(b=0.1), rounds)
    assert state.best_round == 1
    note_best(state, 3, _figures(b=0.3), rounds)
    assert state.best_round == 3
