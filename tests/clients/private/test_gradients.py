"""All ways to users' gradients equal the slow loop on every model that can be built; one user moves the sum by C."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from clients.private.ghost import Catalogue, ghost
from clients.private.gradients import clipped_sum, hooks, looped, norms, vectorised
from clients.private.noise import TOLERANCE
from clients.private.preflight import sensitivity
from clients.private.train import clipped_sums
from common.config import with_overrides
from tests.clients.private.units import MISSING, SCRATCH, prepared, settings

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
def test_ghost_hooks_and_vectorised_equal_the_slow_loop(case: dict[str, object]) -> None:
    config = settings({k: v for k, v in case.items() if k != "missing"})
    losses, rows, data = prepared(config, str(case["missing"]))
    batch = rows.gathered(data.site)
    truth = looped(losses, batch)
    for way in (hooks, vectorised):
        close(way(losses, batch), truth)
    for clip in (1e9, middle(truth), 0.01):
        close(ghost(losses, rows, Catalogue(data.site), clip), clipped_sum(truth, clip))


@pytest.mark.parametrize("case", SCRATCHES, ids=named)
def test_scratch_encoders_equal_the_slow_loop(case: dict[str, object]) -> None:
    config = settings({k: v for k, v in case.items() if k != "missing"})
    losses, rows, data = prepared(config, str(case["missing"]), count=3)
    batch = rows.gathered(data.site)
    truth = looped(losses, batch)
    close(vectorised(losses, batch), truth)
    clip = middle(truth)
    summed = clipped_sums(with_overrides(config, {"privacy.clip": clip}), data)
    close(summed(losses, rows), clipped_sum(truth, clip))


@pytest.mark.parametrize("case", [*FROZEN, *UNITS, *SCRATCHES[:2]], ids=named)
def test_one_unit_moves_the_sum_by_the_clip_at_most(case: dict[str, object]) -> None:
    config = settings({"rounds.protection": "masked", **{k: v for k, v in case.items() if k != "missing"}})
    scratch = config.model.encoders == "scratch"
    losses, rows, data = prepared(config, str(case.get("missing", "none")), count=3 if scratch else 6)
    # So that some are clipped and some are not.
    clip = middle(looped(losses, rows.gathered(data.site)))
    summed = clipped_sums(with_overrides(config, {"privacy.clip": clip}), data)
    moved = sensitivity(losses, rows, summed)
    assert 0.5 * clip < moved <= TOLERANCE * clip


def test_gradients_leave_the_model_as_it_was() -> None:
    losses, rows, data = prepared(settings({}))
    before = [p.clone() for p in losses.parameters()]
    hooks(losses, rows.gathered(data.site))
    ghost(losses, rows, Catalogue(data.site), 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, losses.parameters(), strict=True))
    assert all(p.grad is None and not hasattr(p, "grad_sample") for p in losses.parameters())
