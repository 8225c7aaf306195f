"""Training under differential privacy: one unit is one sample (`train`), told once (`kept`), tried before
(`preflight`)."""

from clients.private.kept import Kept
from clients.private.train import train_private

__all__ = ["Kept", "train_private"]
