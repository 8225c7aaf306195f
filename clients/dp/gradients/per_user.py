"""Each user's own gradient, computed in two ways that agree, and its clipping.

`hooks` (Opacus `GradSampleModule`) computes the gradients of all layers at once. `looped` uses plain autograd for one
user after the other: it's slow, and the truth with which tests compare `ghost` and `hooks`. Invariant: neither changes
the model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from opacus.grad_sample import GradSampleModule, register_grad_sampler
from torch import Tensor, nn

from clients.dp.objective import UserLosses
from clients.dp.sample import UserBatch
from common.models.fusion import Absent
from common.models.model import Scale

Gradients = dict[str, Tensor]


@register_grad_sampler(Scale)  # type: ignore[untyped-decorator]
def _of_scale(layer: Scale, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    # Opacus's own fallback reads only the first of a layer's inputs.
    untrained, trained = (10.0 * (part * backprops).flatten(1).sum(1, keepdim=True) for part in activations)
    return {layer.learned: trained, layer.raw: untrained if layer.use_raw else torch.zeros_like(untrained)}


@register_grad_sampler(Absent)  # type: ignore[untyped-decorator]
def _of_absent(layer: Absent, activations: list[Tensor], backprops: Tensor) -> dict[nn.Parameter, Tensor]:
    present = activations[1][..., None]
    return {layer.vector: backprops.masked_fill(present, 0.0).sum(1)}


@contextmanager
def hooked(losses: UserLosses) -> Iterator[GradSampleModule]:
    """The losses with Opacus's hooks on all layers; afterwards they are as they were."""
    losses.zero_grad(set_to_none=True)
    wrapped = GradSampleModule(losses, batch_first=True, loss_reduction="sum", strict=True)
    try:
        with warnings.catch_warnings():
            # The first layers read data, which need no gradient, so this warning is expected.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield wrapped
    finally:
        wrapped.to_standard_module()
        losses.zero_grad(set_to_none=True)


def hooks(losses: UserLosses, users: UserBatch) -> Gradients:
    """Per-user gradients by Opacus's hooks on each layer."""
    with hooked(losses) as wrapped:
        wrapped(*users.parts()).sum().backward()
        return {name: _sample_gradients(p) for name, p in losses.named_parameters()}


def _sample_gradients(parameter: nn.Parameter) -> Tensor:
    gradients: Tensor = parameter.grad_sample.detach()  # type: ignore[attr-defined]
    return gradients


def looped(losses: UserLosses, users: UserBatch) -> Gradients:
    """Per-user gradients by plain autograd, one user at a time: slow, but certainly right."""
    names, parameters = zip(*losses.named_parameters(), strict=True)
    rows = [
        torch.autograd.grad(losses(*users.take(slice(i, i + 1)).parts()).sum(), parameters)
        for i in range(len(users))
    ]
    return {name: torch.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def norms(gradients: Gradients) -> Tensor:
    """(b,) Euclidean norms over all parameters."""
    squares = [part.flatten(1).double().square().sum(1) for part in gradients.values()]
    return torch.stack(squares).sum(0).sqrt()


def factors(norm: Tensor, clip: float) -> Tensor:
    """The factor for each gradient that makes its norm at most ``clip``."""
    return (clip / norm.clamp(min=1e-12)).clamp(max=1.0)


def clipped_sum(gradients: Gradients, clip: float) -> dict[str, Tensor]:
    """The sum of users' gradients, each scaled to a norm of at most ``clip``; in float64, so order hardly matters."""
    factor = factors(norms(gradients), clip)
    return {name: torch.tensordot(factor, part.double(), dims=1) for name, part in gradients.items()}
