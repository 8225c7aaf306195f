"""Each user's gradient: Opacus's hooks and the vectorised one equal the slow loop, and one user moves the sum by C."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from clients.dataset import SiteDataset
from clients.private.gradients import clipped_sum, hooks, looped, norms, vectorised
from clients.private.objective import UserLosses
from clients.private.sample import UserBatch, draw_users
from clients.samples import training_data
from common.config import LeagueConfig, with_overrides
from common.models import build_model
from tests.clients.small_site import CONFIG, IMAGE, TEXT, drawn_site

MISSING = ("none", "text", "image", "reviews")


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


def without(site: SiteDataset, modality: str) -> SiteDataset:
    none = torch.zeros(site.n_items, dtype=torch.bool)
    if modality == "reviews":
        return replace(site, reviews=replace(site.reviews, label=np.full(len(site.reviews.label), -1)))
    if modality == "none":
        return site
    return replace(site, items=replace(site.items, **{f"has_{modality}": none}))


def prepared(site: SiteDataset, config: LeagueConfig) -> tuple[UserLosses, UserBatch]:
    model = build_model(config.model, TEXT, IMAGE, seed=1)
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            generator = torch.Generator().manual_seed(number)
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    data = training_data(site, site.split.valid_from, private=True)
    batch = draw_users(data, config, data.users[:6], np.random.default_rng(3))
    return UserLosses(model, config).without_chance(), batch


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("adapter", ["mlp", "linear"])
def test_hooks_and_vectorised_equal_the_slow_loop(adapter: str, missing: str) -> None:
    config = with_overrides(CONFIG, {"model.adapter": adapter})
    losses, batch = prepared(without(drawn_site(0), missing), config)
    truth = looped(losses, batch)
    for way in (hooks, vectorised):
        found = way(losses, batch)
        assert found.keys() == truth.keys()
        for name, gradient in truth.items():
            torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("missing", MISSING)
def test_scratch_encoders_equal_the_slow_loop(missing: str) -> None:
    config = with_overrides(
        CONFIG, {"model.encoders": "scratch", "model.image_size": 16, "model.token_buckets": 256}
    )
    losses, batch = prepared(without(scratch_site(), missing), config)
    truth, found = looped(losses, batch), vectorised(losses, batch)
    for name, gradient in truth.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-5, rtol=1e-4, msg=name)


@pytest.mark.parametrize("adapter", ["mlp", "linear"])
def test_one_user_moves_the_sum_by_the_clip_at_most(adapter: str) -> None:
    losses, batch = prepared(drawn_site(0), with_overrides(CONFIG, {"model.adapter": adapter}))
    clip = float(norms(hooks(losses, batch)).median())  # so that some are clipped and some are not
    whole = clipped_sum(hooks(losses, batch), clip)
    for left_out in range(len(batch)):
        rest = UserBatch(*(torch.cat([part[:left_out], part[left_out + 1 :]]) for part in batch))
        moved = clipped_sum(hooks(losses, rest), clip)
        distance = torch.stack([(whole[n] - moved[n]).square().sum() for n in whole]).sum().sqrt()
        assert float(distance) <= 1.0001 * clip


def test_gradients_leave_the_model_as_it_was() -> None:
    losses, batch = prepared(drawn_site(0), CONFIG)
    before = [p.clone() for p in losses.parameters()]
    hooks(losses, batch)
    assert all(torch.equal(a, b) for a, b in zip(before, losses.parameters(), strict=True))
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in losses.parameters())
