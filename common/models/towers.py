"""User tower: a user's vector is computed from the user's history, so there is no user table and new users work.

The history is pooled with weights learned from the kind of event (view, cart, purchase …) and the time since then; a
residual layer refines the pooled item vector. Invariant: masked events have weight exactly 0, and a user without
visible events gets the zero vector.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

N_KINDS = 5
N_GAP_BUCKETS = 12


def gap_bucket(gap_s: Tensor) -> Tensor:
    """Bucket of a time gap in seconds: 0 for under a minute, then a bucket per factor of four."""
    minutes = gap_s.clamp(min=0).to(torch.float32) / 60.0
    return (torch.log2(minutes + 1.0) / 2.0).long().clamp(max=N_GAP_BUCKETS - 1)


class HistoryWeights(nn.Module):
    """Pooling weights (users, targets, events) from event kind and time gap."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = nn.Embedding(N_KINDS, 1)
        self.gap = nn.Embedding(N_GAP_BUCKETS, 1)
        nn.init.zeros_(self.kind.weight)
        nn.init.zeros_(self.gap.weight)

    def forward(self, kinds: Tensor, gaps: Tensor, visible: Tensor) -> Tensor:
        logits = self.kind(kinds)[..., 0].unsqueeze(1) + self.gap(gap_bucket(gaps))[..., 0]
        logits = logits.masked_fill(~visible, -1e4)
        return torch.softmax(logits, dim=-1) * visible


class UserTower(nn.Module):
    """User vectors (users, targets, dim) from item vectors of the history (users, events, dim)."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.weights = HistoryWeights()
        self.refine = nn.Linear(dim, dim)
        self.drop = nn.Dropout(dropout)
        nn.init.zeros_(self.refine.weight)
        nn.init.zeros_(self.refine.bias)

    def forward(self, history: Tensor, weights: Tensor) -> Tensor:
        pooled = weights @ history
        return pooled + self.drop(self.refine(pooled))


class EvenTower(nn.Module):
    """The plain mean of the history's item vectors; it has no parameters."""

    def weights(self, kinds: Tensor, gaps: Tensor, visible: Tensor) -> Tensor:
        """(users, targets, events): equal weights of the visible events."""
        mask = visible.to(torch.float32)
        return mask / mask.sum(-1, keepdim=True).clamp(min=1)

    def forward(self, history: Tensor, weights: Tensor) -> Tensor:
        pooled: Tensor = weights @ history
        return pooled
