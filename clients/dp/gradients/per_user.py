"""Each user's own gradient in two ways that agree, and what is done with its norm.

`hooks` (Opacus `GradSampleModule`) takes the gradients of all layers; `looped` is one user after the other in plain
autograd: slow, and the truth that tests hold `ghost` and `hooks` against. Invariant: neither changes the model.
"""

from __future__ import annotations

import warnings

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


def hooks(losses: UserLosses, users: UserBatch) -> Gradients:
    """By Opacus's hooks on each layer."""
    losses.zero_grad(set_to_none=True)
    wrapped = GradSampleModule(losses, batch_first=True, loss_reduction="sum", strict=True)
    try:
        with warnings.catch_warnings():
            # The first layers read data, which need no gradient: that is as it should be.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            wrapped(*users).sum().backward()
        return {name: _found(p) for name, p in losses.named_parameters()}
    finally:
        wrapped.to_standard_module()
        losses.zero_grad(set_to_none=True)


def _found(parameter: nn.Parameter) -> Tensor:
    found: Tensor = parameter.grad_sample.detach()  # type: ignore[attr-defined]
    return found


def looped(losses: UserLosses, users: UserBatch) -> Gradients:
    """By plain autograd, one user at a time: slow, and right."""
    names, parameters = zip(*losses.named_parameters(), strict=True)
    rows = [
        torch.autograd.grad(losses(*users.take(slice(i, i + 1))).sum(), parameters) for i in range(len(users))
    ]
    return {name: torch.stack([row[i] for row in rows]) for i, name in enumerate(names)}


def norms(gradients: Gradients) -> Tensor:
    """(b,) Euclidean norms over all parameters."""
    squares = [part.flatten(1).double().square().sum(1) for part in gradients.values()]
    return torch.stack(squares).sum(0).sqrt()


def factors(norm: Tensor, clip: float) -> Tensor:
    """What each gradient is multiplied with, so that its norm is ``clip`` at most."""
    return (clip / norm.clamp(min=1e-12)).clamp(max=1.0)


def clipped_sum(gradients: Gradients, clip: float) -> dict[str, Tensor]:
    """Sum over users, each scaled to a norm of ``clip`` at most; float64, so that the order hardly matters."""
    factor = factors(norms(gradients), clip)
    return {name: torch.tensordot(factor, part.double(), dims=1) for name, part in gradients.items()}
