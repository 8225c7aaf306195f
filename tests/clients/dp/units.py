"""Losses and batches of a small site, for every configuration that can be built."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from clients.data.dataset import SiteDataset
from clients.dp.objective import UserLosses
from clients.dp.preflight import perturbed
from clients.dp.sample import UserRows, draw_users
from clients.dp.units import unit_data
from clients.training.samples import TrainingData
from common.models.model import build_model
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from tests.clients.small_site import CONFIG, IMAGE, TEXT, drawn_site

MISSING = ("none", "text", "image", "reviews", "no review at all")
SCRATCH = {"model.encoders": "scratch", "model.image_size": 16, "model.token_buckets": 256}


def settings(changes: dict[str, object]) -> LeagueConfig:
    return with_overrides(CONFIG, {"privacy.mode": "user", "privacy.negatives": 8, **changes})


def scratch_site() -> SiteDataset:
    """The drawn site with tokens and pixels in place of features."""
    site, generator = drawn_site(0), torch.Generator().manual_seed(2)
    tokens = torch.randint(0, 256, (site.n_items, 4), generator=generator)
    pixels = torch.randint(0, 256, (site.n_items, 3, 16, 16), generator=generator, dtype=torch.uint8)
    texts = torch.randint(0, 256, (len(site.reviews.user), 4), generator=generator)
    return replace(
        site,
        items=replace(site.items, text=tokens, image=pixels),
        reviews=replace(site.reviews, text=texts),
    )


def lacking(site: SiteDataset, modality: str) -> SiteDataset:
    reviews, none = site.reviews, torch.zeros(site.n_items, dtype=torch.bool)
    if modality == "none":
        return site
    if modality == "reviews":
        return replace(site, reviews=replace(reviews, label=np.full(len(reviews.label), -1)))
    if modality == "no review at all":
        nobody = np.zeros(0, np.int64)
        return replace(
            site, reviews=replace(reviews, user=nobody, text=reviews.text[:0], label=nobody, time=nobody)
        )
    return replace(site, items=replace(site.items, **{f"has_{modality}": none}))


def site_for(config: LeagueConfig, missing: str = "none") -> SiteDataset:
    return lacking(drawn_site(0) if config.model.encoders == "frozen" else scratch_site(), missing)


def losses_of(config: LeagueConfig) -> UserLosses:
    return perturbed(UserLosses(build_model(config.model, TEXT, IMAGE, seed=1), config).without_chance())


def prepared(
    config: LeagueConfig, missing: str = "none", count: int = 6
) -> tuple[UserLosses, UserRows, TrainingData]:
    data = unit_data(site_for(config, missing), config)
    rows = draw_users(data, config, data.users[:count], np.random.default_rng(3))
    return losses_of(config), rows, data
