"""A league that learns a few numbers, in one process: the rounds of mean moves, and noisy steps of clipped gradients.

It does what the coordinator and the sites do together, without messages, so that a benchmark can try many leagues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from clients.training.clipped import clipped_sum
from clients.training.moves import LeaguePart, Vector, move

MOMENTUM = 0.5


@dataclass(frozen=True)
class NoisySteps:
    """How a private league learns: full-batch steps, each with noise once in the sum over all sites.

    Parameters
    ----------
    clip, rate, steps : a step is −rate · (sum of clipped gradients + noise) / (clip · users).
    users : a public number of users by which the sum is divided.
    noise_multiplier : standard deviation of the noise over the clip.
    """

    clip: float
    rate: float
    steps: int
    users: int
    noise_multiplier: float


def mean_moves(parts: Sequence[LeaguePart], strength: float, rounds: int) -> Vector:
    """The league's weights after some rounds of mean moves with momentum."""
    weights = parts[0].start()
    speed = np.zeros_like(weights)
    for _ in range(rounds):
        speed = MOMENTUM * speed + np.mean([move(part, weights, strength) for part in parts], axis=0)
        weights = weights + speed
    return weights


def noisy_steps(parts: Sequence[LeaguePart], how: NoisySteps, generator: np.random.Generator) -> Vector:
    """The weights of a private league; the generator stands for noise that nobody knows."""
    weights = parts[0].start()
    speed = np.zeros_like(weights)
    for _ in range(how.steps):
        total = sum((clipped_sum(part, weights, how.clip) for part in parts), np.zeros_like(weights))
        noise = generator.normal(0.0, how.noise_multiplier * how.clip, len(weights))
        speed = MOMENTUM * speed - how.rate * (total + noise) / (how.clip * how.users)
        weights = weights + speed
    return weights
