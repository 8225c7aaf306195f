"""Training under differential privacy: one unit is one sample (`train`), told once (`kept`), tried before
(`preflight`)."""

from clients.dp.kept import Kept
from clients.dp.train import train_private

__all__ = ["Kept", "train_private"]
