"""One site at work: the `Trainer` that the ClientApp calls, over a site's own data.

Invariants: a site keeps no state between rounds, and its randomness comes from (seed, site, round), so a repeated round
gives the same bytes. The coordinator gets an update and figures, never rows of data.
"""

from __future__ import annotations

import copy
import functools
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.arrays import prepare_site
from clients.data.dataset import SiteDataset
from clients.data.source import open_house
from clients.dp.noise.sources import Noise, SystemNoise
from clients.dp.objective import UserLosses
from clients.dp.preflight import preflight
from clients.dp.train import seeded_chance, train_private
from clients.dp.units import unit_data
from clients.dp.whole_site import site_update
from clients.encoders import TEXT_DIM
from clients.evaluation.heads import behaviour_logits, rows_of
from clients.evaluation.methods import Deployment, Results, baselines, deploy, judge_model
from clients.evaluation.outputs import write_outputs
from clients.evaluation.scorers import Tuned, Windows, deployed_scorer, rank, tune, windows
from clients.training.behaviour import BehaviourRows
from clients.training.epochs import train_epochs
from clients.training.samples import TrainingData, derived_seed, training_data
from common.metrics import auc
from common.models.model import HansaModel, PrivateParts, build_model, load_shared, shared_arrays
from common.privacy.guarantee import PROTECTS_UNITS, noise_multiplier
from common.protocol.wire import FloatVector, Layout, TrainResult
from common.settings.config import LeagueConfig

FINE_TUNE_RATE = 0.3
ENOUGH_EVENTS = 20


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
        self._is_tried = False

    def layout(self) -> Layout:
        """Names and shapes of the shared parameters."""
        return Layout.of({name: tuple(p.shape) for name, p in self._fresh().shared_parameters().items()})

    def initial(self) -> FloatVector:
        """The first shared parameters, drawn from the contract's public seed."""
        return self.layout().flatten(shared_arrays(self._fresh()))

    def prepare(self) -> dict[str, float]:
        """How many users the site trains on; a private site doesn't tell it, but runs its preflight checks here."""
        if self.is_private:
            self._require_preflight()
            return {}
        return {"users": float(self.before_validation.n_users)}

    def train(self, vector: FloatVector, round_: int) -> TrainResult:
        """One round on everything before the validation window; the figures are of the received model."""
        model = self.model_of(vector)
        if self.is_private:
            # Losses and figures of the validation window depend on users without noise, so they stay at the site.
            return TrainResult(self._private_update(model, vector, round_), 1.0, {})
        metrics = self.measure(vector)
        seed = derived_seed(self.config.seed, self.name, "round", round_)
        loss = self._epoch(model, round_, seed)
        metrics["train/loss"] = loss
        return TrainResult(self._update(model, vector), 1.0, _finite(metrics))

    def _private_update(self, model: HansaModel, vector: FloatVector, round_: int) -> FloatVector:
        """The round's update by the league's mode. Under `distributed` the noise is added later, to whole numbers."""
        self._require_preflight()
        mode, sigma = self.config.privacy.mode, noise_multiplier(self.config)
        if mode == "site":
            seed = derived_seed(self.config.seed, self.name, "round", round_)
            self._ordinary_epoch(model, round_, seed)
            update, clip = self._update(model, vector), self.config.privacy.clip
            chance = self._chance(round_)
            noise = chance[0] if chance else SystemNoise()
            return site_update(update, clip, sigma, noise, f"site '{self.name}'")
        if mode == "distributed":
            return self._private_epoch(model, 0.0, round_).astype(np.float32)
        self._private_epoch(model, sigma, round_)
        return self._update(model, vector)

    def _update(self, model: HansaModel, vector: FloatVector) -> FloatVector:
        return (self.layout().flatten(shared_arrays(model)) - vector).astype(np.float32)

    def measure(self, vector: FloatVector) -> dict[str, float]:
        """Validation figures of a received model; none from a private site."""
        if self.is_private:
            return {}
        return _finite(self.validate(self.model_of(vector)))

    def evaluate_local(self, out: Path) -> dict[str, float]:
        """Train the same model on this site alone, with the same effort as the league, and score it on the test window.

        In a private league it trains with the same privacy budget as the site's part in the league.
        """
        model = self._best_local()
        if not self.is_private:
            self._fine_tune(model, "local")
        results = Results(self.windows)
        judge_model(results, "local", model, self.dataset, self.config, self.tuned)
        results.write(out / "local.json")
        return {} if self.is_private else results.figures()

    def evaluate_final(self, vector: FloatVector, out: Path, whole: bool = True) -> dict[str, float]:
        """Score the shared model as received, fine-tuned and as deployed; write what the merchant uses.

        Parameters
        ----------
        whole : False for a league that is only a yardstick: then only the received model is scored.
        """
        model = self.model_of(vector)
        results = Results(self.windows)
        if whole:
            baselines(results, self.dataset, self.config, self.tuned)
        judge_model(results, "federated", model, self.dataset, self.config, self.tuned)
        if whole:
            self._take_home(results, model, out)
        results.write(out / "final.json")
        return {} if self.is_private else results.figures()

    def _take_home(self, results: Results, model: HansaModel, out: Path) -> None:
        fine = copy.deepcopy(model)
        attach_residual(fine, self.dataset)
        self._fine_tune(fine, "fine_tune")
        judge_model(results, "fine_tuned", fine, self.dataset, self.config, self.tuned)
        deployment = deploy(results, Deployment(model, fine, self.tuned), self.dataset, self.config)
        write_outputs(out, self.dataset, self.config, fine, deployment, self.language)

    def model_of(self, vector: FloatVector) -> HansaModel:
        """The model with the given shared parameters, in evaluation mode."""
        model = self._fresh()
        load_shared(model, self.layout().unflatten(vector))
        return model.eval()

    @functools.cached_property
    def windows(self) -> Windows:
        """Validation and test rows."""
        return windows(self.dataset, self.config)

    @functools.cached_property
    def tuned(self) -> Tuned:
        """The settings of popularity and neighbours that the site chose on its validation window."""
        return tune(self.dataset, self.windows)

    @functools.cached_property
    def before_validation(self) -> TrainingData:
        """The site's training data for the rounds."""
        return training_data(self.dataset, self.dataset.split.valid_from)

    @functools.cached_property
    def before_test(self) -> TrainingData:
        """The site's data for fine-tuning, after everything has been chosen."""
        return training_data(self.dataset, self.dataset.split.test_from)

    def _fresh(self) -> HansaModel:
        model = self.config.model
        return build_model(model, TEXT_DIM, model.projection_dim, self.config.seed)

    @property
    def is_private(self) -> bool:
        """Whether the league promises differential privacy."""
        return self.config.privacy.mode != "off"

    @functools.cached_property
    def private_data(self) -> TrainingData:
        """The training data of a private site, one sample per unit."""
        return unit_data(self.dataset, self.config)

    def _require_preflight(self) -> None:
        if not self._is_tried and self.config.privacy.mode != "site":
            losses = UserLosses(self._fresh(), self.config).without_chance()
            preflight(losses, self.private_data, self.config, f"site '{self.name}'")
        self._is_tried = True

    def _epoch(self, model: HansaModel, round_: int, seed: int) -> float:
        """One round's training of a model that stays at the site: with the same privacy, by the site's noise alone."""
        if self.config.privacy.mode in PROTECTS_UNITS:
            self._private_epoch(model, noise_multiplier(self.config), round_)
            return math.nan
        return self._ordinary_epoch(model, round_, seed)

    def _private_epoch(self, model: HansaModel, sigma: float, round_: int) -> NDArray[np.float64]:
        return train_private(model, self.private_data, self.config, sigma, *(self._chance(round_) or ()))

    def _ordinary_epoch(self, model: HansaModel, round_: int, seed: int) -> float:
        epochs = self.config.training.epochs_per_round
        return train_epochs(
            model, self.before_validation, self.config, seed, epochs, self.learning_rate_scale(round_)
        )

    def _chance(self, round_: int) -> tuple[Noise, np.random.Generator] | None:
        """Random sources from the league's seed if the setting `seeded` is on, which promises nothing; else None."""
        if not self.config.privacy.seeded:
            return None
        return seeded_chance(self.config.seed, self.name, round_)

    def learning_rate_scale(self, round_: int) -> float:
        """Cosine decay of the learning rate over the rounds, to a tenth."""
        progress = (round_ - 1) / max(self.config.rounds.count, 1)
        return 0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

    def validate(self, model: HansaModel) -> dict[str, float]:
        """NDCG@20 over all validation rows and AUC of purchase intent; NaN where there are none."""
        rows = self._valid_behaviour
        logits = behaviour_logits(model, self.dataset, rows, self.config)
        return {"valid/ndcg@20": self.valid_ndcg(model), "valid/auc": auc(logits[:, 0], rows.intent)}

    def valid_ndcg(self, model: HansaModel) -> float:
        """NDCG@20 over all validation rows; NaN where there are none."""
        at, half_life_d = self.dataset.split.valid_from, self.tuned.half_life_d
        scorer = deployed_scorer(model, self.dataset, self.config, at, half_life_d)
        rankings = [rank(self.dataset, rows, scorer) for rows in self.windows.valid]
        values = np.concatenate([ranking.per_row().get("ndcg@20", np.zeros(0)) for ranking in rankings])
        return float(values.mean()) if len(values) else float("nan")

    @functools.cached_property
    def _valid_behaviour(self) -> BehaviourRows:
        split = self.dataset.split
        return rows_of(self.dataset.of_learners, split.valid_from, split.test_from)

    def _best_local(self) -> HansaModel:
        """The model of the epoch with the best validation figure; there are as many epochs as rounds by default."""
        model = self._fresh()
        best, best_figure = copy.deepcopy(model), -1.0
        for round_ in range(1, (self.config.training.local_epochs or self.config.rounds.count) + 1):
            self._epoch(model, round_, derived_seed(self.config.seed, self.name, "local", round_))
            figure = self.valid_ndcg(model)
            if not figure <= best_figure:
                best, best_figure = copy.deepcopy(model), figure
        return best

    def _fine_tune(self, model: HansaModel, purpose: str) -> None:
        """Epochs on everything before the test window, at a lower rate."""
        seed = derived_seed(self.config.seed, self.name, purpose)
        epochs = self.config.training.fine_tune_epochs
        train_epochs(model, self.before_test, self.config, seed, epochs, FINE_TUNE_RATE)


def attach_residual(model: HansaModel, site: SiteDataset) -> None:
    """Give the model the site's private item residual, open to items with enough events before the test window."""
    events = site.learning_log.before(site.split.test_from).item
    enough = np.bincount(events, minlength=site.n_items) >= ENOUGH_EVENTS
    model.private = PrivateParts(torch.from_numpy(enough), model.config.item_dim)


def _finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}
