"""A private round at one site: clipped gradients of Poisson-sampled units, noise from the operating system, SGD steps.

DP-SGD (Abadi et al. 2016) with one unit (a user, or a record) as one sample. Invariants: each step adds its noise, even
if no unit was sampled. Sampling rate, number of steps and the divisor are public, so only the noisy sums reveal
anything about the data. The units of a step are drawn from the same source as the noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from clients.dp.gradients.ghost import FrozenFeatures, ghost, ghost_from_scratch
from clients.dp.gradients.per_user import Gradients
from clients.dp.noise.sources import Noise, SeededNoise, SystemNoise, noisy_sum, system_generator
from clients.dp.objective import UserLosses
from clients.dp.sample import UserRows, draw_users
from clients.training.samples import TrainingData, derived_seed
from common.models.model import HansaModel
from common.settings.config import LeagueConfig

ClippedSum = Callable[[UserLosses, UserRows], Gradients]


def train_private(
    model: HansaModel, data: TrainingData, config: LeagueConfig, noise_and_share: tuple[float, float],
    noise: Noise | None = None, generator: np.random.Generator | None = None,
) -> NDArray[np.float64]:  # fmt: skip
    """Train in place for one round; random numbers come from the operating system unless a test passes its own.

    Returns the sum of the steps, in the order of the parameters and in float64. The change of the model itself differs
    by float32 rounding, which could be more than the proof for whole numbers allows.

    Parameters
    ----------
    noise_and_share : standard deviation of the noise on the sum, divided by the clip, or 0 if the noise is added
        later, to the whole numbers that leave the site; and which part of a unit's squared clip this model may use,
        where others share the clip and the noise.
    """
    privacy, (noise_multiplier, share) = config.privacy, noise_and_share
    noise, generator = noise or SystemNoise(), generator or system_generator()
    losses = UserLosses(model, config).without_chance()
    summed = clipped_sums(config, data, privacy.clip * math.sqrt(share))
    moved = np.zeros(sum(p.numel() for p in losses.parameters()))
    for _ in range(privacy.steps_per_round):
        users = data.users[noise.uniforms(data.n_users) <= privacy.sample_rate]
        total = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in losses.named_parameters()}
        for at in range(0, len(users), privacy.physical_batch):
            batch = draw_users(data, config, users[at : at + privacy.physical_batch], generator)
            for name, part in summed(losses, batch).items():
                total[name] += part
        flat = torch.cat([part.flatten() for part in total.values()]).numpy()
        if noise_multiplier:
            flat = noisy_sum(flat, privacy.clip, noise_multiplier, noise)
        step = -privacy.learning_rate / privacy.expected_users * flat
        _move(losses, step)
        moved += step
    return moved


def _move(losses: UserLosses, by: NDArray[np.float64]) -> None:
    """Add a vector to the parameters, in their order."""
    at = 0
    with torch.no_grad():
        for parameter in losses.parameters():
            part = torch.from_numpy(by[at : at + parameter.numel()])
            parameter.add_(part.reshape(parameter.shape).to(parameter.dtype))
            at += parameter.numel()


def clipped_sums(config: LeagueConfig, data: TrainingData, clip: float) -> ClippedSum:
    """The fastest function for the sum of gradients of at most ``clip`` with the model's encoders."""
    site = data.site
    if config.model.encoders == "frozen":
        catalogue = FrozenFeatures(site)
        return lambda losses, users: ghost(losses, users, catalogue, clip)
    return lambda losses, users: ghost_from_scratch(losses, users, site, clip)


def seeded_chance(*parts: str | int) -> tuple[Noise, np.random.Generator]:
    """Random sources that can be replayed, for simulations with the setting ``seeded``."""
    return SeededNoise(derived_seed("noise", *parts)), np.random.default_rng(derived_seed("samples", *parts))
