"""Training under differential privacy: one unit is one sample (`train`), each round has one noisy output
(`noisy_outputs`), and model and data are checked first (`preflight`)."""

from clients.dp.noisy_outputs import NoisyOutputs
from clients.dp.train import train_private

__all__ = ["NoisyOutputs", "train_private"]
