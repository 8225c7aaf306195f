"""What Opacus's hooks give for each user, and the factor that clips a gradient; the model is left as it was."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from opacus.grad_sample import GradSampleModule, register_grad_sampler
from torch import Tensor, nn

from clients.dp.objective import UserLosses
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


def factors(norm: Tensor, clip: float) -> Tensor:
    """The factor for each gradient that makes its norm at most ``clip``."""
    return (clip / norm.clamp(min=1e-12)).clamp(max=1.0)
