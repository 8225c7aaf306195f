"""A private round at one site: clipped gradients of Poisson-sampled users, noise of the operating system, small steps.

DP-SGD (Abadi et al. 2016) with one user as one sample. Invariants: each step adds its noise, also when chance drew no
user; sampling rate, number of steps and the divisor are public, so nothing of the data is told but the noisy sums.
"""

from __future__ import annotations

import functools

import numpy as np
import torch

from clients.private.gradients import clipped_sum, per_user_for
from clients.private.noise import Noise, SystemNoise, system_generator
from clients.private.objective import UserLosses
from clients.private.sample import draw_users
from clients.samples import TrainingData
from common.config import LeagueConfig
from common.models import HansaModel
from common.privacy.accounting import sigma_for


@functools.lru_cache(maxsize=16)
def noise_multiplier(config: LeagueConfig) -> float:
    """The σ with which all rounds of a run together keep to the site's budget.

    Raises
    ------
    ConfigError : no noise is enough for that many rounds.
    """
    privacy = config.privacy
    steps = config.rounds.count * privacy.steps_per_round
    return sigma_for(privacy.epsilon, privacy.delta, privacy.sample_rate, steps)


def train_private(
    model: HansaModel, data: TrainingData, config: LeagueConfig, noise_multiplier: float,
    noise: Noise | None = None, generator: np.random.Generator | None = None,
) -> None:  # fmt: skip
    """Train in place for one round; chance comes from the operating system unless a test brings its own.

    Parameters
    ----------
    noise_multiplier : standard deviation of the noise on the sum, over the clip norm.
    """
    privacy = config.privacy
    noise, generator = noise or SystemNoise(), generator or system_generator()
    losses = UserLosses(model, config).without_chance()
    for _ in range(privacy.steps_per_round):
        users = data.users[generator.random(data.n_users) < privacy.sample_rate]
        total = {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in losses.named_parameters()}
        per_user = per_user_for(config.model.encoders)
        for at in range(0, len(users), privacy.physical_batch):
            batch = draw_users(data, config, users[at : at + privacy.physical_batch], generator)
            for name, part in clipped_sum(per_user(losses, batch), privacy.clip).items():
                total[name] += part
        with torch.no_grad():
            for name, parameter in losses.named_parameters():
                drawn = torch.from_numpy(noise(parameter.numel())).reshape(parameter.shape)
                noisy = total[name] + privacy.clip * noise_multiplier * drawn
                parameter.sub_((privacy.learning_rate / privacy.expected_users * noisy).to(parameter.dtype))
