"""Training at one site: one user's bounded history and reviews are one sample.

Invariants: a step's loss is a mean of per-user losses (plus catalogue terms that read no user data). All randomness
comes from one seed, so the same call gives the same bytes. PyTorch's global generator isn't changed.
"""

from __future__ import annotations

import numpy as np
import torch

from clients.data.dataset import Ints
from clients.training.objective import joint_loss
from clients.training.samples import TrainingData, derived_seed
from common.models.model import HansaModel
from common.settings.config import LeagueConfig


def train_epochs(
    model: HansaModel,
    data: TrainingData,
    config: LeagueConfig,
    seed: int,
    epochs: int,
    rate_scale: float = 1.0,
) -> float:
    """Train in place with AdamW; returns the mean loss of the last epoch (NaN without users)."""
    training = config.training
    optimiser = torch.optim.AdamW(
        model.parameters(),
        lr=training.learning_rate * rate_scale,
        weight_decay=training.weight_decay,
        fused=True,
    )
    generator = np.random.default_rng(seed)
    mean = float("nan")
    rounds = epochs * passes(data, config)
    model.train()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed("torch", seed))
        for _ in range(rounds):
            losses = [
                step(model, optimiser, data, config, users, generator)
                for users in batches(data.users, training.batch_size, generator)
            ]
            mean = float(np.mean(losses)) if losses else float("nan")
    model.eval()
    return mean


def passes(data: TrainingData, config: LeagueConfig) -> int:
    """How often a site goes through its users in one epoch: a small site repeats until it has the league's least steps.

    Otherwise a small site's update would be too short to matter, and the average of all sites would move slowly.
    """
    steps = max(1, -(-data.n_users // config.training.batch_size))
    return max(1, -(-config.training.min_steps_per_round // steps))


def batches(users: Ints, size: int, generator: np.random.Generator) -> list[Ints]:
    """A shuffled epoch in even batches of at most ``size`` users."""
    if not len(users):
        return []
    shuffled = generator.permutation(users)
    return np.array_split(shuffled, -(-len(shuffled) // size))


def step(
    model: HansaModel,
    optimiser: torch.optim.Optimizer,
    data: TrainingData,
    config: LeagueConfig,
    users: Ints,
    generator: np.random.Generator,
) -> float:
    """One optimiser step on a batch of users; returns its loss."""
    optimiser.zero_grad(set_to_none=True)
    loss = joint_loss(model, data, config, users, generator)
    loss.backward()
    optimiser.step()
    return float(loss.detach())
