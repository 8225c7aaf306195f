"""An adapter, applied once to many rows of features, and its hand-written derivative for each user's own rows.

The layers after the first are a LayerNorm, a GELU and a matrix: with x̂ = (e − mean)/s, z = γx̂ + β and a = gelu(z) of a
row, and G = ∂L/∂out there,

    ∂W = Σ G aᵀ    ∂z = gelu′(z)·WᵀG    ∂γ = Σ ∂z·x̂    ∂β = Σ ∂z    ∂e = (u − mean u − x̂·mean(u·x̂))/s,  u = γ∂z

where the sums run over a user's rows. Factors that depend on the row alone are computed once for all users.

Invariant: the result equals autograd through `Adapter`; a test compares it with the slow loop on every configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.models.fusion import Adapter, LinearAdapter


@dataclass(frozen=True)
class Rows:
    """m rows of features (m, f) that went through an adapter, and the values that its derivative needs.

    Parameters
    ----------
    out : (m, d) the adapter's output.
    cached : (m, 3 h) a, gelu′(z) and x̂ side by side; empty for a linear adapter.
    spread : (m, 1) 1/s.
    """

    adapter: Adapter | LinearAdapter
    features: Tensor
    out: Tensor
    cached: Tensor
    spread: Tensor

    @classmethod
    def of(cls, adapter: Adapter | LinearAdapter, features: Tensor) -> Rows:
        """Pass rows through the adapter."""
        with torch.no_grad():
            entered = adapter.first(features)
            if isinstance(adapter, LinearAdapter):
                empty = entered.new_zeros(0)
                return cls(adapter, features, entered, empty, empty)
            if type(adapter) is not Adapter:
                raise TypeError(f"no derivative by hand of a {type(adapter).__name__}")
            norm = adapter.norm
            centred = entered - entered.mean(1, keepdim=True)
            spread = (centred.square().mean(1, keepdim=True) + norm.eps).rsqrt()
            normal = centred * spread
            z = torch.addcmul(norm.bias, normal, norm.weight)
            below = 0.5 * (1.0 + torch.erf(z / math.sqrt(2.0)))
            active = z * below
            slope = below + z * torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
            return cls(
                adapter, features, adapter.leave(active), torch.cat([active, slope, normal], 1), spread
            )

    @property
    def active(self) -> Tensor:
        """(m, h) the input of the last layer."""
        return self.cached[:, : self.cached.shape[1] // 3]


@dataclass(frozen=True)
class AdapterGradients:
    """The gradients of b users inside an adapter.

    Parameters
    ----------
    entered : (b, n, h) gradients at the first layer's outputs.
    small : gradients of the small parameters, one per user.
    squares : (b,) squared norm of the last layer's weights.
    """

    entered: Tensor
    small: dict[nn.Parameter, Tensor]
    squares: Tensor


def adapter_backward(rows: Rows, places: Tensor, gradients: Tensor) -> AdapterGradients:
    """The gradients inside an adapter, from those (b, n, d) at its outputs for rows (b, n)."""
    adapter = rows.adapter
    if isinstance(adapter, LinearAdapter):
        return AdapterGradients(gradients, {}, gradients.new_zeros(len(gradients)))
    active, slope, normal = rows.cached[places].chunk(3, dim=-1)
    weight = gradients.transpose(1, 2) @ active
    at_z = (gradients @ adapter.leave.weight.detach()).mul_(slope)
    across = at_z * normal
    small: dict[nn.Parameter, Tensor] = {
        adapter.norm.weight: across.sum(1),
        adapter.norm.bias: at_z.sum(1),
        adapter.leave.bias: gradients.sum(1),
    }
    gamma = adapter.norm.weight.detach()
    width = len(gamma)
    tilt = (across @ gamma)[..., None] / width
    level = (at_z @ gamma)[..., None] / width
    entered = at_z.mul_(gamma).sub_(level).addcmul_(normal, tilt, value=-1.0).mul_(rows.spread[places])
    return AdapterGradients(entered, small, weight.flatten(1).square().sum(1))
