"""Training under user-level differential privacy: one user is one sample (`train.py`), told once (`kept.py`)."""

from clients.private.kept import KeptUpdates
from clients.private.train import noise_multiplier, train_private

__all__ = ["KeptUpdates", "noise_multiplier", "train_private"]
