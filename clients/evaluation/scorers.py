"""The scorers of one site at one instant, with which the methods are measured.

A scorer gives (rows, items) scores from data before its instant. The methods that a report compares are scorers:
popularity, item_knn, no_training, local, federated, fine_tuned, final.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clients.data.dataset import SiteDataset
from clients.data.rows import TestRows, basket_rows, returning_rows
from clients.evaluation.blend import Scorer, blend, choose_weights
from clients.evaluation.rows import Ranking, catalogue_vectors, chunks, cosine_scores, model_scores
from clients.signals.history import History
from clients.signals.neighbours import HALF_LIVES_D, SHRINKAGES, ItemNeighbours, popularity
from clients.signals.ranker import Weights
from clients.signals.table import SignalTable
from clients.training.samples import derived_seed
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

COSINE_LOGITS = 12.0


@dataclass(frozen=True)
class Windows:
    """Validation and test rows, each of both kinds: returning users, and baskets."""

    valid: tuple[TestRows, TestRows]
    test: tuple[TestRows, TestRows]
    valid_from: int
    test_from: int


def windows(site: SiteDataset, config: LeagueConfig) -> Windows:
    """Rows of returning users and of new users' baskets: of learners in the validation window, of all in the test."""
    split, length = site.split, config.model.history_length

    def rows(of: SiteDataset, from_s: int, until_s: int) -> tuple[TestRows, TestRows]:
        seed = derived_seed(config.seed, site.name, "baskets", from_s)
        return returning_rows(of, from_s, until_s, length), basket_rows(of, from_s, until_s, length, seed)

    return Windows(
        rows(site.of_learners, split.valid_from, split.test_from),
        rows(site, split.test_from, split.until),
        split.valid_from,
        split.test_from,
    )


def rank(site: SiteDataset, rows: TestRows, scorer: Scorer) -> Ranking:
    """Full ranking of all rows by a scorer."""
    ranking = Ranking(site, rows)
    for chunk in chunks(len(rows), site.n_items):
        scores = np.broadcast_to(scorer(rows, chunk), (chunk.stop - chunk.start, site.n_items))
        ranking.add(chunk, np.array(scores, dtype=np.float32))
    return ranking


def ranker_scorer(table: SignalTable, weights: Weights) -> tuple[Scorer, Scorer]:
    """The ranker for returning rows and for baskets."""

    def by(kind: int) -> Scorer:
        return lambda rows, chunk: table.scores(rows, chunk, weights[kind])

    return by(0), by(1)


def valid_ndcg(site: SiteDataset, windows: Windows, scorers: tuple[Scorer, Scorer]) -> float:
    """NDCG@20 over all validation rows; NaN where there are none."""
    values = valid_ndcg_by_row(site, windows, scorers)
    return float(values.mean()) if len(values) else float("nan")


def valid_ndcg_by_row(
    site: SiteDataset, windows: Windows, scorers: tuple[Scorer, Scorer]
) -> NDArray[np.float64]:
    """NDCG@20 of each validation row: returning customers, then baskets."""
    return np.concatenate([
        rank(site, rows, scorer).per_row().get("ndcg@20", np.zeros(0))
        for rows, scorer in zip(windows.valid, scorers, strict=True)
    ])  # fmt: skip


def cosine_scorer(site: SiteDataset) -> Scorer:
    """Untrained cosine in logits."""
    return lambda rows, chunk: np.float32(COSINE_LOGITS) * cosine_scores(site, rows, chunk)


def popularity_scorer(site: SiteDataset, at_s: int, half_life_d: float) -> Scorer:
    """The same decayed log popularity among learners for every row."""
    shares = popularity(site.learning_log, site.n_items, at_s, half_life_d)[None, :]
    return lambda rows, chunk: shares


def neighbour_scorer(site: SiteDataset, at_s: int, shrinkage: float) -> Scorer:
    """Item neighbours fitted on the learners' events before an instant."""
    neighbours = ItemNeighbours.fit(site.learning_log, site.n_items, at_s, shrinkage)
    return neighbours.scores


def ease_scorer(table: SignalTable) -> Scorer:
    """A linear autoencoder of the log, for the items that most customers touched."""
    return lambda rows, chunk: table.others.expected(
        History(rows.items[chunk], rows.kinds[chunk], rows.valid[chunk])
    )


def tower_scorer(model: HansaModel, site: SiteDataset) -> Scorer:
    """The model's own score without popularity."""
    vectors = catalogue_vectors(model, site)
    return lambda rows, chunk: model_scores(model, site, rows, chunk, vectors)


def deployed_scorer(
    model: HansaModel, site: SiteDataset, config: LeagueConfig, at_s: int, half_life_d: float
) -> Scorer:
    """The model's score plus popularity, weighted as in training, but of recent events by the site's half-life."""
    offset = np.float32(config.training.popularity_offset)
    popular = popularity_scorer(site, at_s, half_life_d)
    tower = tower_scorer(model, site)
    return lambda rows, chunk: tower(rows, chunk) + offset * popular(rows, chunk)


@dataclass(frozen=True)
class Tuned:
    """The settings that a site chose on its validation window for the methods that need no training."""

    half_life_d: float
    shrinkage: float

    def scorers(self, site: SiteDataset, at_s: int) -> tuple[Scorer, Scorer, Scorer]:
        """Popularity, neighbours and cosine scorers from data before an instant."""
        return (
            popularity_scorer(site, at_s, self.half_life_d),
            neighbour_scorer(site, at_s, self.shrinkage),
            cosine_scorer(site),
        )


def tune(site: SiteDataset, windows: Windows) -> Tuned:
    """Half-life and shrinkage with the best validation NDCG@20."""
    at = windows.valid_from

    def quality(scorer: Scorer) -> float:
        return float(np.nan_to_num(valid_ndcg(site, windows, (scorer, scorer))))

    half_life = max(HALF_LIVES_D, key=lambda d: quality(popularity_scorer(site, at, d)))
    shrinkage = max(SHRINKAGES, key=lambda s: quality(neighbour_scorer(site, at, s)))
    return Tuned(half_life, shrinkage)


def chosen_blends(
    site: SiteDataset, windows: Windows, scorers: tuple[Sequence[Scorer], Sequence[Scorer]], start: Sequence[float],
) -> tuple[tuple[Scorer, Scorer], tuple[Scorer, Scorer]]:  # fmt: skip
    """Blends for returning rows and for baskets, whose weights were chosen on the validation window.

    They come twice: over the scorers for the validation window, and over those for the test window.

    Parameters
    ----------
    scorers : the same scorers from data before the validation window, and from data before the test window.
    """
    seed = derived_seed(site.name, "blend")
    returning, basket = choose_weights(scorers[0], windows.valid, site.n_items, start, seed)
    valid, test = ((blend(parts, returning), blend(parts, basket)) for parts in scorers)
    return valid, test
