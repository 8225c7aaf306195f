"""The figures of each method at a site, measured once on the test window, after everything has been chosen.

    popularity, item_knn, ease, no_training   without training or league; weights chosen by validation NDCG
    alone       the ranker fitted at home around public constants: the strongest thing a merchant could deploy by itself
    league      the league's weights as they came: what a merchant without a log of its own would have
    final       the league's weights, fitted on at home: what is deployed
    local, federated, fine_tuned   the tower by itself: trained alone, together, and tuned at home

Invariant: weights, half-lives and strengths are chosen on the validation window of the site's learners, with data
from before it. The test window is only used for ranking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.behaviour.alone import fit_alone as fit_alone_intent
from clients.behaviour.choice import row_losses
from clients.behaviour.home import AtHome, fit_own
from clients.behaviour.site import BehaviourSite, part_name
from clients.behaviour.site import figures as intent_figures
from clients.behaviour.tasks import Task
from clients.data.dataset import SiteDataset
from clients.evaluation.blend import Scorer
from clients.evaluation.heads import (
    behaviour_logits,
    behaviour_metrics,
    content_metrics,
    next_event_accuracy,
    reliability_bins,
    rows_of,
)
from clients.evaluation.scorers import (
    Tuned,
    Windows,
    chosen_blends,
    deployed_scorer,
    ease_scorer,
    rank,
    ranker_scorer,
    tower_scorer,
    valid_ndcg,
)
from clients.evaluation.with_tower import Towers, tower_weight, with_tower
from clients.signals.home import ALONE, fit_alone, fit_joined
from clients.signals.learning import Learning
from clients.signals.names import START
from clients.signals.ranker import Vector, Weights
from common.files import write_json
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

KNN_START = (1.0, 0.3)
EASE_START = (10.0, 0.3)
HYBRID_START = (0.6, 0.6, 0.8)


@dataclass
class Results:
    """Figures by method, and NDCG@20 by test row for paired intervals."""

    windows: Windows
    methods: dict[str, dict[str, float]] = field(default_factory=dict)
    rows: dict[str, dict[str, NDArray[np.float64]]] = field(default_factory=dict)
    calibration: list[dict[str, float]] = field(default_factory=list)

    def rank(self, method: str, site: SiteDataset, returning: Scorer, basket: Scorer) -> None:
        """Rank both kinds of test rows; figures of baskets get the prefix ``basket_``."""
        figures = self.methods.setdefault(method, {})
        for kind, rows, scorer in zip(("", "basket_"), self.windows.test, (returning, basket), strict=True):
            ranking = rank(site, rows, scorer)
            figures.update({kind + name: value for name, value in ranking.summary().items()})
            self.rows.setdefault(method, {})[kind or "returning"] = ranking.per_row().get(
                "ndcg@20", np.zeros(0)
            )

    def add(self, method: str, figures: dict[str, float]) -> None:
        """Further figures of a method."""
        self.methods.setdefault(method, {}).update(figures)

    def figures(self) -> dict[str, float]:
        """Finite figures as ``method/metric``, with the number of test rows."""
        flat = {
            f"{m}/{name}": v
            for m, values in self.methods.items()
            for name, v in values.items()
            if math.isfinite(v)
        }
        return flat | {
            "rows/returning": float(len(self.windows.test[0])),
            "rows/basket": float(len(self.windows.test[1])),
        }

    def write(self, path: Path) -> None:
        """One JSON file, whole or not at all; NaN becomes null."""
        document = {
            "rows": {"returning": len(self.windows.test[0]), "basket": len(self.windows.test[1])},
            "methods": {
                m: {n: v if math.isfinite(v) else None for n, v in values.items()}
                for m, values in self.methods.items()
            },
            "calibration": self.calibration,
            "ndcg@20_by_row": {
                m: {kind: np.round(values, 6).tolist() for kind, values in kinds.items()}
                for m, kinds in self.rows.items()
            },
        }
        write_json(path, document)


def judge_model(
    results: Results, method: str, model: HansaModel, site: SiteDataset, config: LeagueConfig, tuned: Tuned
) -> None:
    """All figures of one trained model on the test window."""
    split = site.split
    scorer = deployed_scorer(model, site, config, split.test_from, tuned.half_life_d)
    results.rank(method, site, scorer, scorer)
    rows = rows_of(site, split.test_from, split.until)
    logits = behaviour_logits(model, site, rows, config)
    results.add(method, behaviour_metrics(1.0 / (1.0 + np.exp(-logits[:, 0])), rows))
    results.add(method, {"next_event_accuracy": next_event_accuracy(logits, rows)})
    results.add(method, content_metrics(model, site, split.test_from))


@dataclass(frozen=True)
class Intent:
    """The question who will buy within the split's horizon, as a site answers it."""

    behaviour: BehaviourSite
    task: Task


def compare_behaviour(results: Results, intent: Intent) -> None:
    """Who will buy, by what a merchant could use alone; ``alone`` is whichever validation prefers."""
    rows = intent.behaviour.rows(intent.task)
    if len(rows.full) and len(rows.test):
        opponents = fit_alone_intent(rows)
        for name, model in opponents.models.items():
            results.add(name, intent_figures(model(rows.test.features), rows.test))
        results.add("alone", intent_figures(opponents(rows.test.features), rows.test))


def deploy_intent(results: Results, intent: Intent, league: Vector, *, private: bool) -> AtHome:
    """The site's own model around the league's weights, measured with those weights as they came.

    Noise may have spoilt what a private league learned: then a model fitted at home alone takes its place where the
    validation rows say so.
    """
    rows = intent.behaviour.rows(intent.task)
    tried = [intent.behaviour.at_home(intent.task, league, league)] if league.any() else []
    if private or not tried:
        tried.append(fit_own(part_name(intent.task), rows))
    losses = [row_losses(one(rows.valid.features), rows.valid.label).sum() for one in tried]
    model = tried[int(np.argmin(losses))]
    if len(rows.test):
        chances = model(rows.test.features)
        results.add("final", intent_figures(chances, rows.test))
        results.calibration = reliability_bins(chances, rows.test.label)
        if league.any():
            results.add("league", intent_figures(AtHome(league, np.inf)(rows.test.features), rows.test))
    return model


def compare_alone(
    results: Results, site: SiteDataset, learning: Learning, tuned: Tuned, towers: Towers | None = None
) -> None:
    """What a merchant could deploy without the league, each by its own best choice on the validation window."""
    windows = results.windows
    pop_v, knn_v, cos_v = tuned.scorers(site, windows.valid_from)
    pop_t, knn_t, cos_t = tuned.scorers(site, windows.test_from)
    ease_v, ease_t = ease_scorer(learning.at_valid), ease_scorer(learning.at_test)

    def measure(
        method: str, at_valid: tuple[Scorer, ...], at_test: tuple[Scorer, ...], start: tuple[float, ...]
    ) -> None:
        (valid, test) = chosen_blends(site, windows, (at_valid, at_test), start)
        results.rank(method, site, *test)
        results.add(method, {"valid_ndcg@20": valid_ndcg(site, windows, valid)})

    measure("popularity", (pop_v,), (pop_t,), (1.0,))
    measure("item_knn", (knn_v, pop_v), (knn_t, pop_t), KNN_START)
    measure("ease", (ease_v, pop_v), (ease_t, pop_t), EASE_START)
    measure("no_training", (cos_v, knn_v, pop_v), (cos_t, knn_t, pop_t), HYBRID_START)
    alone = fit_alone(learning.before, learning.valid, np.stack([START, START]), ALONE)
    before = ranker_scorer(learning.at_valid, alone.before)
    tower = tower_weight(site, windows, before, towers)
    results.rank("alone", site, *_deployed_scorers(site, learning, alone.weights, towers, tower))
    results.add("alone", {
        "valid_ndcg@20": valid_ndcg(site, windows, before), "strength": alone.strength, "tower": tower,
    })  # fmt: skip


def _deployed_scorers(
    site: SiteDataset, learning: Learning, weights: Weights, towers: Towers | None, tower: float
) -> tuple[Scorer, Scorer]:
    ranker = ranker_scorer(learning.at_test, weights)
    return with_tower(ranker, tower_scorer(towers.deployed, site), tower) if towers and tower else ranker


@dataclass(frozen=True)
class Deployed:
    """What a site deploys.

    Parameters
    ----------
    weights, league : of the ranker (2, columns), and those that came from the league.
    tower : how much the fusion tower counts beside it; 0 where it doesn't pay or there is none.
    """

    weights: Weights
    league: Weights
    tower: float = 0.0


def deploy(
    results: Results, site: SiteDataset, learning: Learning, league: Weights,
    towers: Towers | None = None, *, private: bool,
) -> Deployed:  # fmt: skip
    """Measure the league's weights as they came, fit on at home, and measure what is deployed."""
    results.rank("league", site, *ranker_scorer(learning.at_test, league))
    tower = tower_weight(site, results.windows, ranker_scorer(learning.at_valid, league), towers)
    weights = fit_joined(learning.every, league, private)
    results.rank("final", site, *_deployed_scorers(site, learning, weights, towers, tower))
    results.add("final", {"tower": tower})
    return Deployed(weights, league, tower)
