"""Training under differential privacy: one unit is one sample (`train`), told once (`kept`), tried before
(`preflight`)."""

from clients.private.kept import KeptUpdates
from clients.private.train import train_private

__all__ = ["KeptUpdates", "train_private"]
