"""Site-level privacy: a site's whole update is one sample, and is refused if the noise would be far larger than it.

Noise that hides one site among 4 to 8 is far larger than what they learn. So the ratio of noise to update is measured
on the site's own update, and above `MOST` nothing is released. Invariant: what the coordinator reads of the refusal
follows from public settings alone (the update's norm is at most the clip); the measured ratio stays in the site's log.
"""

from __future__ import annotations

import math

import numpy as np

from clients.dp.noise.sources import Noise, noisy_sum
from common.errors import PrivacyError
from common.protocol.wire import FloatVector

MOST = 10.0


def site_update(
    update: FloatVector, clip: float, noise_multiplier: float, noise: Noise, where: str
) -> FloatVector:
    """The update, scaled to a norm of at most ``clip``, with its noise added.

    Raises
    ------
    PrivacyError : the noise is more than `MOST` times the update.
    """
    deviation = clip * noise_multiplier
    expected = deviation * math.sqrt(update.size)
    norm = float(np.linalg.norm(update.astype(np.float64)))
    clipped = update.astype(np.float64) * min(1.0, clip / max(norm, 1e-12))
    moved = min(norm, clip)
    if expected > MOST * max(moved, 1e-12):
        raise PrivacyError(
            f"site-level noise is at least {expected / clip:.0f} times the update of {update.size:,} numbers",
            where=where,
            why=f"hiding a whole site takes noise of norm {expected:.3g}, and this site's update has {moved:.3g} "
            f"({expected / max(moved, 1e-12):.0f} times): the sum of a few sites would be noise alone",
            next_step="set privacy.mode=user, which hides each person; site level needs hundreds of sites or a model "
            "of a few numbers",
        )
    return noisy_sum(clipped, clip, noise_multiplier, noise).astype(np.float32)
