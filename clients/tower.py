"""The fusion tower of one site: the neural model that the league trains in rounds, and the site's own versions of it.

Invariant: a site's randomness comes from (seed, site, round), so a repeated round gives the same bytes; under
differential privacy noise and samples come from the operating system.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from clients.data.dataset import SiteDataset
from clients.dp.noise.sources import Noise
from clients.dp.objective import UserLosses
from clients.dp.preflight import preflight
from clients.dp.train import seeded_chance, train_private
from clients.dp.units import unit_data
from clients.encoders import TEXT_DIM
from clients.evaluation.heads import behaviour_logits, rows_of
from clients.evaluation.scorers import Tuned, Windows, deployed_scorer, valid_ndcg
from clients.evaluation.with_tower import Towers
from clients.training.behaviour import BehaviourRows
from clients.training.epochs import train_epochs
from clients.training.samples import TrainingData, derived_seed, training_data
from common.metrics import auc
from common.models.model import HansaModel, PrivateParts, build_model, load_shared, shared_arrays
from common.privacy.guarantee import PROTECTS_UNITS, noise_multiplier
from common.settings.config import LeagueConfig

FINE_TUNE_RATE = 0.3
ENOUGH_EVENTS = 20
Arrays = Mapping[str, NDArray[np.float32]]


class Tower:
    """The neural model over one site's arrays."""

    def __init__(self, dataset: SiteDataset, config: LeagueConfig) -> None:
        self.dataset, self.config, self.name = dataset, config, dataset.name
        self._is_tried = False

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of the shared parameters."""
        return {name: tuple(p.shape) for name, p in self.fresh().shared_parameters().items()}

    def start(self) -> dict[str, NDArray[np.float32]]:
        """The first shared parameters, drawn from the contract's public seed."""
        return shared_arrays(self.fresh())

    def fresh(self) -> HansaModel:
        """A model with the first parameters."""
        model = self.config.model
        return build_model(model, TEXT_DIM, model.projection_dim, self.config.seed)

    def model_of(self, arrays: Arrays) -> HansaModel:
        """The model with the given shared parameters, in evaluation mode."""
        model = self.fresh()
        load_shared(model, arrays)
        return model.eval()

    def train(self, arrays: Arrays, round_: int) -> tuple[dict[str, NDArray[np.float32]], float]:
        """One round without privacy: the move of the shared parameters, and the loss."""
        model = self.model_of(arrays)
        loss = self._ordinary_epoch(model, round_, derived_seed(self.config.seed, self.name, "round", round_))
        return {name: after - arrays[name] for name, after in shared_arrays(model).items()}, loss

    def train_private(self, arrays: Arrays, round_: int, sigma: float, share: float) -> NDArray[np.float64]:
        """One private round: the summed steps in the parameters' order.

        Parameters
        ----------
        sigma : noise over the whole clip; 0 where it's added later.
        share : the part of a user's squared clip that is the tower's.
        """
        self.require_preflight()
        return self._private_epoch(self.model_of(arrays), sigma, round_, share)

    def local(self, tuned: Tuned, windows: Windows) -> Towers:
        """The same model trained at this site alone: the epoch with the best validation figure.

        There are as many epochs as rounds by default. In a private league it trains with the same privacy budget as
        the site's part in the league, and without privacy it's tuned on everything before the test window.
        """
        model, config = self.fresh(), self.config
        best, best_figure = copy.deepcopy(model), self.valid_ndcg(model, tuned, windows)
        for round_ in range(1, (config.training.local_epochs or config.rounds.count) + 1):
            if config.privacy.mode in PROTECTS_UNITS:
                self._private_epoch(model, noise_multiplier(config), round_, 1.0)
            else:
                self._ordinary_epoch(model, round_, derived_seed(config.seed, self.name, "local", round_))
            figure = self.valid_ndcg(model, tuned, windows)
            if not figure <= best_figure:
                best, best_figure = copy.deepcopy(model), figure
        deployed = copy.deepcopy(best)
        if config.privacy.mode == "off":
            self.fine_tune(deployed, "local")
        return Towers(best, deployed)

    def fine_tuned(self, model: HansaModel) -> HansaModel:
        """A copy with the site's private item residual, tuned on everything before the test window."""
        fine = copy.deepcopy(model)
        attach_residual(fine, self.dataset)
        self.fine_tune(fine, "fine_tune")
        return fine

    def fine_tune(self, model: HansaModel, purpose: str) -> None:
        """Epochs on everything before the test window, at a lower rate."""
        seed = derived_seed(self.config.seed, self.name, purpose)
        train_epochs(
            model, self.before_test, self.config, seed, self.config.training.fine_tune_epochs, FINE_TUNE_RATE
        )

    @functools.cached_property
    def before_validation(self) -> TrainingData:
        """The site's training data for the rounds."""
        return training_data(self.dataset, self.dataset.split.valid_from)

    @functools.cached_property
    def before_test(self) -> TrainingData:
        """The site's data for tuning, after everything has been chosen."""
        return training_data(self.dataset, self.dataset.split.test_from)

    @functools.cached_property
    def private_data(self) -> TrainingData:
        """The training data of a private site, one sample per unit."""
        return unit_data(self.dataset, self.config)

    def require_preflight(self) -> None:
        """Try the site's own model, loss and data under privacy, once.

        Raises
        ------
        PrivacyError : what breaks the promise.
        """
        if not self._is_tried:
            losses = UserLosses(self.fresh(), self.config).without_chance()
            preflight(losses, self.private_data, self.config, f"site '{self.name}'")
        self._is_tried = True

    def _ordinary_epoch(self, model: HansaModel, round_: int, seed: int) -> float:
        epochs = self.config.training.epochs_per_round
        return train_epochs(
            model, self.before_validation, self.config, seed, epochs, self.learning_rate_scale(round_)
        )

    def _private_epoch(
        self, model: HansaModel, sigma: float, round_: int, share: float
    ) -> NDArray[np.float64]:
        chance = chance_of(self.config, self.name, round_) or (None, None)
        return train_private(model, self.private_data, self.config, (sigma, share), *chance)

    def learning_rate_scale(self, round_: int) -> float:
        """Cosine decay of the learning rate over the rounds, to a tenth."""
        progress = (round_ - 1) / max(self.config.rounds.count, 1)
        return 0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * min(progress, 1.0)))

    def valid_ndcg(self, model: HansaModel, tuned: Tuned, windows: Windows) -> float:
        """NDCG@20 over all validation rows; NaN where there are none."""
        scorer = deployed_scorer(
            model, self.dataset, self.config, self.dataset.split.valid_from, tuned.half_life_d
        )
        return valid_ndcg(self.dataset, windows, (scorer, scorer))

    def valid_auc(self, model: HansaModel) -> float:
        """AUC of purchase intent over the validation window; NaN where a class is absent."""
        logits = behaviour_logits(model, self.dataset, self._valid_behaviour, self.config)
        return auc(logits[:, 0], self._valid_behaviour.intent)

    @functools.cached_property
    def _valid_behaviour(self) -> BehaviourRows:
        split = self.dataset.split
        return rows_of(self.dataset.of_learners, split.valid_from, split.test_from)


def chance_of(config: LeagueConfig, *parts: str | int) -> tuple[Noise, np.random.Generator] | None:
    """Random sources from the league's seed if the setting `seeded` is on, which promises nothing; else None."""
    return seeded_chance(config.seed, *parts) if config.privacy.seeded else None


def attach_residual(model: HansaModel, site: SiteDataset) -> None:
    """Give the model the site's private item residual, open to items with enough events before the test window."""
    events = site.learning_log.before(site.split.test_from).item
    enough = np.bincount(events, minlength=site.n_items) >= ENOUGH_EVENTS
    model.private = PrivateParts(torch.from_numpy(enough), model.config.item_dim)
