"""The figures of each method at a site, measured once on the test window, after everything has been chosen.

Invariant: weights, half-lives and calibration are fitted on the validation window of the site's learners, with data
from before it. The test window is only used for ranking.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import SiteDataset
from clients.evaluation.blend import Scorer, Weights
from clients.evaluation.heads import (
    Calibration,
    behaviour_logits,
    behaviour_metrics,
    content_metrics,
    logistic_metrics,
    next_event_accuracy,
    reliability_bins,
    rows_of,
)
from clients.evaluation.scorers import Tuned, Windows, deployed_scorer, fitted_blends, rank, tower_scorer
from clients.training.samples import derived_seed
from common.files import write_json
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

KNN_PRIOR = (1.0, 1.0)
HYBRID_PRIOR = (0.6, 0.6, 0.8)
FINAL_PRIOR = (0.6, 0.6, 0.4, 0.6)


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


def baselines(results: Results, site: SiteDataset, config: LeagueConfig, tuned: Tuned) -> None:
    """Popularity, item-kNN with popularity, the no-training hybrid and the logistic behaviour baseline."""
    windows = results.windows
    seed = derived_seed(config.seed, site.name, "blend")
    pop_v, knn_v, cos_v = tuned.scorers(site, windows.valid_from)
    pop_t, knn_t, cos_t = tuned.scorers(site, windows.test_from)
    results.rank("popularity", site, pop_t, pop_t)
    knn, _ = fitted_blends(site, windows, (knn_v, pop_v), (knn_t, pop_t), KNN_PRIOR, seed)
    results.rank("item_knn", site, *knn)
    hybrid, _ = fitted_blends(site, windows, (cos_v, knn_v, pop_v), (cos_t, knn_t, pop_t), HYBRID_PRIOR, seed)
    results.rank("no_training", site, *hybrid)
    results.add("logistic", logistic_metrics(site))


@dataclass(frozen=True)
class Deployment:
    """The parts of the final method: the model with which weights are fitted, the deployed model, tuned baselines."""

    fitted_with: HansaModel
    deployed: HansaModel
    tuned: Tuned


@dataclass(frozen=True)
class Deployed:
    """The fitted parts: blend weights (returning, basket) over tower, cosine, neighbours, popularity; calibration."""

    weights: tuple[Weights, Weights]
    tuned: Tuned
    calibration: Calibration


def deploy(results: Results, parts: Deployment, site: SiteDataset, config: LeagueConfig) -> Deployed:
    """Fit and measure the final method: shared model, private parts and the fitted hybrid."""
    windows, split = results.windows, site.split
    seed = derived_seed(config.seed, site.name, "final")
    pop_v, knn_v, cos_v = parts.tuned.scorers(site, windows.valid_from)
    pop_t, knn_t, cos_t = parts.tuned.scorers(site, windows.test_from)
    at_valid = (tower_scorer(parts.fitted_with, site), cos_v, knn_v, pop_v)
    at_test = (tower_scorer(parts.deployed, site), cos_t, knn_t, pop_t)
    final, weights = fitted_blends(site, windows, at_valid, at_test, FINAL_PRIOR, seed)
    results.rank("final", site, *final)
    valid_rows = rows_of(site.of_learners, split.valid_from, split.test_from)
    calibration = Calibration.fit(
        behaviour_logits(parts.fitted_with, site, valid_rows, config)[:, 0], valid_rows.intent
    )
    rows = rows_of(site, split.test_from, split.until)
    logits = behaviour_logits(parts.deployed, site, rows, config)
    chances = calibration(logits[:, 0])
    results.add("final", behaviour_metrics(chances, rows))
    results.calibration = reliability_bins(chances, rows.intent)
    results.add("final", {"next_event_accuracy": next_event_accuracy(logits, rows)})
    results.add("final", content_metrics(parts.deployed, site, split.test_from))
    return Deployed(weights, parts.tuned, calibration)
