"""Behaviour head: purchase intent and next event from hand-made log features and the user vector.

The log features (counts by recency window, gaps; `clients.training.behaviour`) are exactly those of the logistic
baseline that the head is compared with. A linear path carries them to the output, so the head can do at least what the
baseline does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.models.towers import N_KINDS

N_LOG_FEATURES = 28


class BehaviourHead(nn.Module):
    """Logits (n, 1 + kinds): column 0 purchase intent, the rest the next event's kind."""

    def __init__(self, user_dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(N_LOG_FEATURES, 1 + N_KINDS)
        self.enter = nn.Linear(N_LOG_FEATURES + user_dim, hidden_dim)
        self.norm = nn.LayerNorm(hidden_dim)
        self.leave = nn.Linear(hidden_dim, 1 + N_KINDS)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, features: Tensor, users: Tensor) -> Tensor:
        hidden = nn.functional.gelu(self.norm(self.enter(torch.cat([features, users], dim=1))))
        logits: Tensor = self.linear(features) + self.leave(hidden)
        return logits
