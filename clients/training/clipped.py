"""The sum of gradients that a private league adds noise to: each user's gradient is cut to one norm first.

Invariant: adding or removing one user changes the sum by at most the clip, in Euclidean norm.
"""

from __future__ import annotations

import numpy as np

from clients.training.moves import LeaguePart, Vector


def clipped_sum(part: LeaguePart, weights: Vector, clip: float) -> Vector:
    """Sum (k,) over the site's users of their gradients, each cut to a norm of at most ``clip``."""
    gradients = part.user_gradients(weights)
    norms = np.linalg.norm(gradients, axis=1, keepdims=True)
    total: Vector = (gradients * np.minimum(1.0, clip / np.maximum(norms, 1e-12))).sum(0)
    return total
