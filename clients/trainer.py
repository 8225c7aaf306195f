"""One site at work: the `Trainer` that the ClientApp calls, over a site's own data.

What a league shares is one vector: the tower's parameters, where the league trains one, and the few numbers of the
small models (`clients.parts`). Invariants: a site keeps no state between rounds, and its randomness comes from (seed,
site, round), so a repeated round gives the same bytes. The coordinator gets an update and figures, never rows of data.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.data.arrays import prepare_site
from clients.data.dataset import SiteDataset
from clients.data.source import open_house
from clients.dp.noise.sources import SystemNoise, noisy_sum
from clients.dp.whole_site import clipped_move, require_sites
from clients.evaluation.methods import (
    Intent,
    Results,
    compare_alone,
    compare_behaviour,
    deploy,
    deploy_intent,
    judge_model,
)
from clients.evaluation.outputs import ForUse, write_outputs
from clients.evaluation.scorers import Tuned, Windows, ranker_scorer, tune, valid_ndcg, windows
from clients.evaluation.with_tower import Towers
from clients.parts import Parts
from clients.tower import Tower, chance_of
from common.privacy.guarantee import noise_multiplier
from common.protocol.wire import FloatVector, Layout, TrainResult
from common.settings.config import LeagueConfig

Arrays = Mapping[str, NDArray[np.float32]]


def open_site(folder: Path, config: LeagueConfig) -> Site:
    """Read, check and prepare a site folder.

    Raises
    ------
    HansaError : the folder can't be used; the message names file, row and column.
    """
    with open_house(folder) as house:
        return Site(prepare_site(house.data, config, house.features), config, house.data.language)


class Site:
    """A `common.protocol.wire.Trainer` over one site's arrays."""

    def __init__(self, dataset: SiteDataset, config: LeagueConfig, language: str = "en") -> None:
        self.dataset, self.config, self.language = dataset, config, language
        self.name = dataset.name
        self.tower = Tower(dataset, config) if config.model.tower else None
        self.parts = Parts(dataset, config)

    def layout(self) -> Layout:
        """Names and shapes of the shared numbers."""
        return Layout.of({**(self.tower.shapes() if self.tower else {}), **self.parts.shapes()})

    def initial(self) -> FloatVector:
        """The first shared numbers: the tower's drawn from the contract's public seed, zeros for the parts."""
        return self.layout().flatten({**(self.tower.start() if self.tower else {}), **self.parts.start()})

    def prepare(self) -> dict[str, float]:
        """How many users the site trains on; a private site doesn't tell it, but runs its preflight checks here."""
        if not self.is_private:
            past = self.dataset.learning_log.before(self.dataset.split.valid_from)
            return {"users": float(len(np.unique(past.user)))}
        if self.config.privacy.mode == "site":
            require_sites(self.config, self.layout().size)
        elif self.tower:
            self.tower.require_preflight()
        return {}

    def train(self, vector: FloatVector, round_: int) -> TrainResult:
        """One round; the figures are of the received numbers.

        A private site tells none: losses and figures of the validation window depend on users without noise.
        """
        if self.is_private:
            return TrainResult(self._private_update(vector, round_), 1.0, {})
        arrays = self.arrays(vector)
        metrics = self.measure(vector)
        moved = self.parts.moves(arrays)
        if self.tower:
            tower, metrics["train/loss"] = self.tower.train(arrays, round_)
            moved = {**tower, **moved}
        return TrainResult(self.layout().flatten(moved), 1.0, _finite(metrics))

    def _private_update(self, vector: FloatVector, round_: int) -> FloatVector:
        """The round's update by the league's mode; where sites share the noise it's added later, to whole numbers."""
        privacy, arrays, sigma = self.config.privacy, self.arrays(vector), noise_multiplier(self.config)
        if privacy.mode == "site":
            return clipped_move(self.layout().flatten(self.parts.moves(arrays)), privacy.clip)
        if privacy.mode == "distributed":
            sigma = 0.0
        chance = chance_of(self.config, self.name, "parts", round_)
        pieces = []
        if self.tower:
            pieces.append(self.tower.train_private(arrays, round_, sigma, self.parts.tower_share))
        if self.parts.shapes():
            summed = self.parts.clipped_sum(arrays, privacy.clip * math.sqrt(1.0 - self.parts.tower_share))
            if sigma:
                summed = noisy_sum(summed, privacy.clip, sigma, chance[0] if chance else SystemNoise())
            pieces.append(-privacy.learning_rate / privacy.expected_users * summed)
        update: FloatVector = np.concatenate(pieces).astype(np.float32)
        return update

    def measure(self, vector: FloatVector) -> dict[str, float]:
        """Validation figures of the received numbers; none from a private site.

        Rounds are compared by what they move: the ranking by the league's weights, and the tower's where there is one.
        """
        if self.is_private:
            return {}
        arrays = self.arrays(vector)
        ranker = ranker_scorer(self.parts.learning.at_valid, self.parts.ranker(arrays))
        figures = {"valid/ndcg@20": valid_ndcg(self.dataset, self.windows, ranker)}
        if self.tower:
            model = self.tower.model_of(arrays)
            tower = self.tower.valid_ndcg(model, self.tuned, self.windows)
            figures |= {"valid/ndcg@20": (figures["valid/ndcg@20"] + tower) / 2, "valid/tower_ndcg@20": tower}
            figures["valid/auc"] = self.tower.valid_auc(model)
        return _finite(figures)

    def evaluate_local(self, out: Path) -> dict[str, float]:
        """Train and fit at this site alone what the league trains, and score it on the test window."""
        results = Results(self.windows)
        towers = self.tower.local(self.tuned, self.windows) if self.tower else None
        if towers:
            judge_model(results, "local", towers.deployed, self.dataset, self.config, self.tuned)
        compare_alone(results, self.dataset, self.parts.learning, self.tuned, towers)
        compare_behaviour(results, self.intent)
        results.write(out / "local.json")
        return {} if self.is_private else results.figures()

    def evaluate_final(self, vector: FloatVector, out: Path, whole: bool = True) -> dict[str, float]:
        """Score what the league learned, as it came and as deployed; write what the merchant uses.

        Parameters
        ----------
        whole : False for a league that is only a yardstick: then nothing is written for the merchant's use.
        """
        arrays, results = self.arrays(vector), Results(self.windows)
        towers = self._towers(results, arrays, tuned=whole)
        ranker, learning = self.parts.ranker(arrays), self.parts.learning
        deployed = deploy(results, self.dataset, learning, ranker, towers, private=self.is_private)
        buyers = deploy_intent(
            results, self.intent, self.parts.intent_weights(arrays), private=self.is_private
        )
        if whole:
            use = ForUse(towers.deployed if towers else None, deployed, buyers, self.intent)
            write_outputs(out, self.dataset, self.config, use, self.language)
        results.write(out / "final.json")
        return {} if self.is_private else results.figures()

    def _towers(self, results: Results, arrays: Arrays, *, tuned: bool) -> Towers | None:
        """The league's tower as it came and as tuned at home, both measured."""
        if self.tower is None:
            return None
        model = self.tower.model_of(arrays)
        judge_model(results, "federated", model, self.dataset, self.config, self.tuned)
        if not tuned:
            return Towers(model, model)
        fine = self.tower.fine_tuned(model)
        judge_model(results, "fine_tuned", fine, self.dataset, self.config, self.tuned)
        return Towers(model, fine)

    def arrays(self, vector: FloatVector) -> Arrays:
        """The shared numbers by name."""
        return self.layout().unflatten(vector)

    @functools.cached_property
    def windows(self) -> Windows:
        """Validation and test rows."""
        return windows(self.dataset, self.config)

    @functools.cached_property
    def tuned(self) -> Tuned:
        """The settings of popularity and neighbours that the site chose on its validation window."""
        return tune(self.dataset, self.windows)

    @property
    def intent(self) -> Intent:
        """The question who will buy."""
        return Intent(self.parts.behaviour, self.parts.intent)

    @property
    def is_private(self) -> bool:
        """Whether the league promises differential privacy."""
        return self.config.privacy.mode != "off"


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
