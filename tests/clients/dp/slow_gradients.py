"""Each user's own gradient, computed in two ways that agree: the truth with which the fast ways are compared.

`hooks` (Opacus `GradSampleModule`) computes the gradients of all layers at once. `looped` uses plain autograd for one
user after the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from clients.dp.gradients.per_user import Gradients, factors, hooked
from clients.dp.objective import UserLosses
from clients.dp.sample import UserBatch


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


def clipped_sum(gradients: Gradients, clip: float) -> dict[str, Tensor]:
    """The sum of users' gradients, each scaled to a norm of at most ``clip``; in float64, so order hardly matters."""
    factor = factors(norms(gradients), clip)
    return {name: torch.tensordot(factor, part.double(), dims=1) for name, part in gradients.items()}
