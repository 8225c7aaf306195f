"""Site-level privacy: a site's whole move is one sample, so it hides whether the site takes part. Of one customer
it promises less: see `common.privacy.guarantee`.

It's for the small models alone, and noise is shared by the sites (`clients.secagg.shared_noise`). Invariant: whether
there are enough sites follows from public settings alone.
"""

from __future__ import annotations

import math

import numpy as np

from common.errors import PrivacyError
from common.privacy.guarantee import noise_multiplier
from common.protocol.wire import FloatVector
from common.settings.config import LeagueConfig

MOST = 1.4  # times the longest mean move; measured: with 13 honest sites joining pays, with 5 it harms


def clipped_move(move: FloatVector, clip: float) -> FloatVector:
    """The move, scaled to a norm of at most ``clip``."""
    norm = float(np.linalg.norm(move.astype(np.float64)))
    return (move.astype(np.float64) * min(1.0, clip / max(norm, 1e-12))).astype(np.float32)


def require_sites(config: LeagueConfig, size: int) -> None:
    """Refuse a league whose noise would drown what its sites learn.

    Raises
    ------
    PrivacyError : the noise on the mean is more than `MOST` times the longest mean move.
    """
    honest = config.privacy.honest_sites
    ratio = noise_multiplier(config) * math.sqrt(size) / honest
    if ratio > MOST:
        need = math.ceil(ratio * honest / MOST)
        raise PrivacyError(
            f"with {honest} honest sites the noise that hides a whole site is {ratio:.1f} times what a round can learn",
            where="privacy.mode", why=f"at most {MOST:g} times still pays; that takes {need} honest sites",
            next_step="set privacy.mode=distributed, which hides each person, or bring more sites together",
        )  # fmt: skip
