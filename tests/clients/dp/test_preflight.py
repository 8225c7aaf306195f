"""Each trap that breaks differential privacy without a word is planted and refused, with what to use in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from clients.dp.layers import layer_faults
from clients.dp.objective import UserLosses
from clients.dp.preflight import perturbed, preflight, sample_faults, sensitivity_faults
from clients.dp.sample import UserRows, draw_users
from clients.dp.train import clipped_sums
from clients.dp.units import unit_data
from clients.training.samples import TrainingData
from common.errors import PrivacyError
from common.models.model import build_model
from common.settings.config import LeagueConfig
from tests.clients.dp.units import SCRATCH, settings, site_for
from tests.clients.small_site import IMAGE, TEXT

CONFIG = settings({"training.reviews_per_user": 3})


def healthy(config: LeagueConfig = CONFIG, kind: type[UserLosses] = UserLosses) -> UserLosses:
    return kind(build_model(config.model, TEXT, IMAGE, seed=1), config).without_chance()


def try_out(losses: UserLosses, config: LeagueConfig = CONFIG) -> None:
    preflight(losses, unit_data(site_for(config), config), config, "site 'small'")


@pytest.mark.parametrize("mode", ["user", "record", "distributed"])
@pytest.mark.parametrize("adapter", ["mlp", "linear"])
def test_the_models_own_training_passes(adapter: str, mode: str) -> None:
    config = settings({"model.adapter": adapter, "privacy.mode": mode, "rounds.protection": "masked"})
    try_out(healthy(config), config)


def test_scratch_encoders_pass() -> None:
    config = settings(SCRATCH)
    try_out(healthy(config), config)


class _Padded(nn.Module):
    """A layer put before the sentiment head."""

    def __init__(self, layer: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, head

    def forward(self, vectors: Tensor) -> Tensor:
        found: Tensor = self.head(self.layer(vectors.transpose(1, 2)).transpose(1, 2))
        return found


def batch_norm(*, affine: bool, train: bool = True) -> UserLosses:
    losses = healthy()
    layer = nn.BatchNorm1d(losses.model.config.item_dim, affine=affine)
    losses.model.sentiment = _Padded(layer.train(train), losses.model.sentiment)  # type: ignore[assignment]
    for parameter in layer.parameters():
        parameter.requires_grad_(False)
    return losses


def embedding(**options: float) -> UserLosses:
    losses = healthy()
    losses.model.user_tower.weights.kind = nn.Embedding(5, 1, **options)  # type: ignore[arg-type]
    return losses


def tied() -> UserLosses:
    losses = healthy()
    losses.model.fusion.absent_image = losses.model.fusion.absent_text
    return losses


def tied_weight() -> UserLosses:
    losses = healthy()
    model = losses.model
    model.image_adapter.norm.weight = model.text_adapter.norm.weight  # type: ignore[union-attr]
    return losses


def root_parameter() -> UserLosses:
    losses = healthy()
    losses.model.shift = nn.Parameter(torch.zeros(1))
    return losses


def buffer() -> UserLosses:
    losses = healthy()
    losses.model.register_buffer("mean", torch.zeros(3))
    return losses


class _HeadUnused(UserLosses):
    """Sentiment is measured against nothing, as at a site without reviews."""

    def of_vectors(self, vectors: Tensor, reviews: Tensor, raw: Tensor, users: UserRows) -> Tensor:
        model, self.model.sentiment = self.model.sentiment, nn.Identity()  # type: ignore[assignment]
        try:
            return super().of_vectors(vectors, reviews, raw, users)
        finally:
            self.model.sentiment = model


class _TwiceUsed(UserLosses):
    """Reviews go through the head one at a time, sharing its weights."""

    def of_vectors(self, vectors: Tensor, reviews: Tensor, raw: Tensor, users: UserRows) -> Tensor:
        again: Tensor = self.model.sentiment(reviews[:, -1])
        return super().of_vectors(vectors, reviews, raw, users) + 0.1 * again[:, 0]


class _Coupled(UserLosses):
    """Adds what a batch's members say of each other."""

    @staticmethod
    def couple(own: Tensor, vectors: Tensor, users: UserRows) -> Tensor:
        raise NotImplementedError

    def of_vectors(self, vectors: Tensor, reviews: Tensor, raw: Tensor, users: UserRows) -> Tensor:
        own = super().of_vectors(vectors, reviews, raw, users)
        return self.couple(own, vectors.mean(1), users)


class _InfoNce(_Coupled):
    @staticmethod
    def couple(own: Tensor, vectors: Tensor, users: UserRows) -> Tensor:
        unit = nn.functional.normalize(vectors, dim=1)
        truth = torch.arange(len(own))
        return own + 50 * nn.functional.cross_entropy(10 * unit @ unit.T, truth, reduction="none")


class _InBatchBpr(_Coupled):
    @staticmethod
    def couple(own: Tensor, vectors: Tensor, users: UserRows) -> Tensor:
        return own - nn.functional.logsigmoid(20 * (vectors * (vectors - vectors.roll(1, 0))).sum(1))


class _ClassWeighted(_Coupled):
    @staticmethod
    def couple(own: Tensor, vectors: Tensor, users: UserRows) -> Tensor:
        happy = (users.labels > 0).any(1)
        share = happy.float().mean().clamp(0.05, 0.95)
        return own * torch.where(happy, 1 / share, 1 / (1 - share))


class _IgnoredIndex(_Coupled):
    @staticmethod
    def couple(own: Tensor, vectors: Tensor, users: UserRows) -> Tensor:
        return own / (users.has_behaviour.sum() + 1) * len(own)


class _Mean(_Coupled):
    @staticmethod
    def couple(own: Tensor, vectors: Tensor, users: UserRows) -> Tensor:
        return own.mean()


PLANTED: dict[str, tuple[Callable[[], UserLosses], str]] = {
    "batch norm in training mode": (lambda: batch_norm(affine=True), "GroupNorm"),
    "batch norm without parameters": (lambda: batch_norm(affine=False), "GroupNorm"),
    "frozen batch norm, whose means would ship": (lambda: batch_norm(affine=True, train=False), "GroupNorm"),
    "max_norm": (lambda: embedding(max_norm=1.0), "max_norm"),
    "padding_idx": (lambda: embedding(padding_idx=0), "mask the output"),
    "tied layers": (tied, "parameters of its own"),
    "tied weight": (tied_weight, "parameters of its own"),
    "parameter at the root": (root_parameter, "submodule"),
    "buffer that would ship": (buffer, "statistics out of the model"),
    "head unused at a site": (lambda: healthy(kind=_HeadUnused), "0.0 * head"),
    "layer used twice": (lambda: healthy(kind=_TwiceUsed), "call it once"),
    "contrastive loss over the batch": (lambda: healthy(kind=_InfoNce), "from the catalogue"),
    "in-batch negatives": (lambda: healthy(kind=_InBatchBpr), "from the catalogue"),
    "class weights of the batch": (lambda: healthy(kind=_ClassWeighted), "from the catalogue"),
    "mean over valid labels": (lambda: healthy(kind=_IgnoredIndex), "from the catalogue"),
    "mean over the batch": (lambda: healthy(kind=_Mean), "shape"),
}


@pytest.mark.parametrize("trap", PLANTED)
def test_a_planted_trap_is_refused_and_the_error_teaches(trap: str) -> None:
    plant, taught = PLANTED[trap]
    with pytest.raises(PrivacyError) as fault:
        try_out(plant())
    assert fault.value.why
    assert taught in fault.value.next_step
    assert fault.value.where == "site 'small'"


class _Neighbours(_Coupled):
    @staticmethod
    def couple(own: Tensor, vectors: Tensor, users: UserRows) -> Tensor:
        return 0 * own + (vectors * vectors.detach().roll(1, 0)).sum(1)


def test_the_sensitivity_tester_alone_finds_a_coupled_loss() -> None:
    losses, data = perturbed(healthy(kind=_Neighbours)), unit_data(site_for(CONFIG), CONFIG)
    rows = draw_users(data, CONFIG, data.users[:8], np.random.default_rng(3))
    (fault,) = sensitivity_faults(losses, rows, clipped_sums(CONFIG, data, 0.01), 0.01)
    assert "times the clip" in fault.what


def test_clipping_that_is_off_is_found() -> None:
    losses, data = perturbed(healthy()), unit_data(site_for(CONFIG), CONFIG)
    rows = draw_users(data, CONFIG, data.users[:8], np.random.default_rng(3))
    loose = clipped_sums(CONFIG, data, 1e9)
    assert sensitivity_faults(losses, rows, loose, 0.1)
    assert not sensitivity_faults(losses, rows, clipped_sums(CONFIG, data, 0.1), 0.1)


def test_a_sample_that_reads_other_users_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    data = unit_data(site_for(CONFIG), CONFIG)
    assert not sample_faults(data, CONFIG, data.users[:8])

    def by_popularity(
        found: TrainingData, config: LeagueConfig, users: np.ndarray, generator: np.random.Generator
    ) -> UserRows:
        rows = draw_users(found, config, users, generator)
        popular = rows.features + float(found.log_popularity.max())
        return UserRows(*(popular if part is rows.features else part for part in rows))

    monkeypatch.setattr("clients.dp.preflight.draw_users", by_popularity)
    (fault,) = sample_faults(data, CONFIG, data.users[:8])
    assert "features" in fault.what


def test_all_faults_are_named_at_once() -> None:
    losses = embedding(max_norm=1.0, padding_idx=0)
    assert [("max_norm" in f.what, "padding_idx" in f.what) for f in layer_faults(losses)] == [
        (True, False),
        (False, True),
    ]
    with pytest.raises(PrivacyError, match="also"):
        try_out(losses)


def test_a_site_without_anybody_passes() -> None:
    site = site_for(CONFIG)
    nobody = replace(
        site, log=site.log.before(0), reviews=replace(site.reviews, label=site.reviews.label * 0 - 1)
    )
    preflight(healthy(), unit_data(nobody, CONFIG), CONFIG, "here")
