"""An adapter on many rows of features once, and its derivative for each user's own rows by hand.

The layers after the first are a LayerNorm, a GELU and a matrix: with x̂ = (e − mean)/s, z = γx̂ + β and a = gelu(z) of a
row, and G = ∂L/∂out there,

    ∂W = Σ G aᵀ    ∂z = gelu′(z)·WᵀG    ∂γ = Σ ∂z·x̂    ∂β = Σ ∂z    ∂e = (u − mean u − x̂·mean(u·x̂))/s,  u = γ∂z

where the sums run over a user's rows. What depends on the row alone is computed once for all users that meet it.
Invariant: equals autograd through `Adapter`; a test holds it against the slow loop on every configuration.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from common.models.fusion import Adapter, LinearAdapter


@dataclass(frozen=True)
class Rows:
    """m rows of features (m, f) behind an adapter: the first layer's input, and what its derivative reads.

    Parameters
    ----------
    out : (m, d) what the adapter gives.
    known : (m, 3 h) a, gelu′(z) and x̂ side by side; nothing for a linear adapter.
    spread : (m, 1) 1/s.
    """

    adapter: Adapter | LinearAdapter
    features: Tensor
    out: Tensor
    known: Tensor
    spread: Tensor

    @classmethod
    def of(cls, adapter: Adapter | LinearAdapter, features: Tensor) -> Rows:
        """Pass rows through the adapter."""
        with torch.no_grad():
            entered = adapter.first(features)
            if isinstance(adapter, LinearAdapter):
                none = entered.new_zeros(0)
                return cls(adapter, features, entered, none, none)
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
        """(m, h) what the last layer reads."""
        return self.known[:, : self.known.shape[1] // 3]


@dataclass(frozen=True)
class Grown:
    """Users' gradients behind an adapter.

    Parameters
    ----------
    entered : (b, n, h) at the first layer's outputs.
    small : gradients of the small parameters, one a user.
    squares : (b,) squared norm of the last layer's weights.
    """

    entered: Tensor
    small: dict[nn.Parameter, Tensor]
    squares: Tensor


def back(rows: Rows, places: Tensor, grown: Tensor) -> Grown:
    """From gradients (b, n, d) at the adapter's outputs, of rows (b, n)."""
    adapter = rows.adapter
    if isinstance(adapter, LinearAdapter):
        return Grown(grown, {}, grown.new_zeros(len(grown)))
    active, slope, normal = rows.known[places].chunk(3, dim=-1)
    weight = grown.transpose(1, 2) @ active
    at_z = (grown @ adapter.leave.weight.detach()).mul_(slope)
    across = at_z * normal
    small: dict[nn.Parameter, Tensor] = {
        adapter.norm.weight: across.sum(1),
        adapter.norm.bias: at_z.sum(1),
        adapter.leave.bias: grown.sum(1),
    }
    gamma = adapter.norm.weight.detach()
    width = len(gamma)
    tilt = (across @ gamma)[..., None] / width
    level = (at_z @ gamma)[..., None] / width
    entered = at_z.mul_(gamma).sub_(level).addcmul_(normal, tilt, value=-1.0).mul_(rows.spread[places])
    return Grown(entered, small, weight.flatten(1).square().sum(1))
