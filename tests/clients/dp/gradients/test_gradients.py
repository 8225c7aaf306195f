"""All ways to users' gradients equal the slow loop on every model that can be built; one user moves the sum by C."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clients.dp.gradients.ghost import FrozenFeatures, ghost, ghost_from_scratch
from clients.dp.preflight import sensitivity
from clients.dp.train import clipped_sums
from common.privacy.shared_noise import TOLERANCE
from tests.clients.dp.slow_gradients import clipped_sum, hooks, looped, norms
from tests.clients.dp.units import MISSING, SCRATCH, prepared, settings

SHAPES: list[dict[str, object]] = [
    {"model.history_length": 1, "training.targets_per_user": 1, "training.reviews_per_user": 1},
    {"model.history_length": 9, "model.categories": [], "training.reviews_per_user": 0},
    {"model.item_dim": 16, "training.behaviour_weight": 0.0, "training.sentiment_weight": 0.0},
]
FROZEN = [
    {"model.adapter": adapter, "missing": missing, **shape}
    for adapter, missing, shape in [
        *itertools.product(["mlp", "linear"], MISSING, [{}]),
        *itertools.product(["mlp", "linear"], ["none"], SHAPES),
    ]
]
SCRATCHES = [
    {**SCRATCH, "model.adapter": adapter, "missing": missing, **shape}
    for adapter, missing, shape in [
        *itertools.product(["mlp", "linear"], MISSING, [{}]),
        ("mlp", "none", SHAPES[0]),
    ]
]
UNITS = [{"privacy.mode": mode} for mode in ("user", "record", "distributed")]


def named(case: dict[str, object]) -> str:
    return ",".join(f"{key.split('.')[-1]}={value}" for key, value in case.items())


def middle(gradients: dict[str, Tensor]) -> float:
    """A norm that some units are above and some below."""
    found = norms(gradients)
    return float(found[found > 0].median())


def close(found: dict[str, Tensor], truth: dict[str, Tensor]) -> None:
    assert found.keys() == truth.keys()
    for name, gradient in truth.items():
        torch.testing.assert_close(
            found[name].double(),
            gradient.double(),
            atol=1e-5,
            rtol=1e-4,
            msg=lambda text, n=name: f"{n}: {text}",
        )


@pytest.mark.parametrize("case", FROZEN, ids=named)
def test_ghost_and_hooks_equal_the_slow_loop(case: dict[str, object]) -> None:
    config = settings({k: v for k, v in case.items() if k != "missing"})
    losses, rows, data = prepared(config, str(case["missing"]))
    batch = rows.gathered(data.site)
    truth = looped(losses, batch)
    close(hooks(losses, batch), truth)
    for clip in (1e9, middle(truth), 0.01):
        close(ghost(losses, rows, FrozenFeatures(data.site), clip), clipped_sum(truth, clip))


@pytest.mark.parametrize("case", SCRATCHES, ids=named)
def test_scratch_encoders_equal_the_slow_loop(case: dict[str, object]) -> None:
    config = settings({k: v for k, v in case.items() if k != "missing"})
    losses, rows, data = prepared(config, str(case["missing"]), count=3)
    batch = rows.gathered(data.site)
    truth = looped(losses, batch)
    for clip in (1e9, middle(truth), 0.01):
        summed = clipped_sums(config, data, clip)
        close(summed(losses, rows), clipped_sum(truth, clip))


@pytest.mark.parametrize("words", [0, 1, 3])
def test_padding_at_the_end_and_within_changes_no_gradient(words: int) -> None:
    """Texts of fewer words than places, of none at all, and with gaps."""
    losses, rows, data = prepared(settings(SCRATCH), count=3)
    site = data.site
    items, reviews = site.items.text.clone(), site.reviews.text.clone()
    for tokens in (items, reviews):
        tokens[:, words:] = 0
        tokens[::3] = 0
        tokens[1::3, 0] = 0
    site = replace(site, items=replace(site.items, text=items), reviews=replace(site.reviews, text=reviews))
    truth = looped(losses, rows.gathered(site))
    for clip in (1e9, middle(truth)):
        close(ghost_from_scratch(losses, rows, site, clip), clipped_sum(truth, clip))


@pytest.mark.parametrize("case", [*FROZEN, *UNITS, *SCRATCHES[:2]], ids=named)
def test_one_unit_moves_the_sum_by_the_clip_at_most(case: dict[str, object]) -> None:
    config = settings({"rounds.protection": "masked", **{k: v for k, v in case.items() if k != "missing"}})
    scratch = config.model.encoders == "scratch"
    losses, rows, data = prepared(config, str(case.get("missing", "none")), count=3 if scratch else 6)
    # So that some are clipped and some are not.
    clip = middle(looped(losses, rows.gathered(data.site)))
    summed = clipped_sums(config, data, clip)
    moved = sensitivity(losses, rows, summed)
    assert 0.5 * clip < moved <= TOLERANCE * clip


def test_gradients_leave_the_model_as_it_was() -> None:
    losses, rows, data = prepared(settings({}))
    before = [p.clone() for p in losses.parameters()]
    hooks(losses, rows.gathered(data.site))
    ghost(losses, rows, FrozenFeatures(data.site), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, losses.parameters(), strict=True))
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in losses.parameters())
