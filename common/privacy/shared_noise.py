"""Noise that sites share: each adds a part in whole numbers before encryption, and the sum holds all of it.

Distributed discrete Gaussian mechanism (Kairouz, Liu & Steinke 2021, arXiv:2102.06387). A site's sum of clipped
gradients becomes whole numbers. One user changes them by at most Δ = 1.0001 γC + √d in Euclidean norm: γ whole numbers
per unit, clip C, a factor of 1.0001 for float32, and √d for rounding d numbers. Each of h honest sites adds draws of
the discrete Gaussian with variance s² = σ²Δ²/h. By Theorem 1 (third bound) the sum is as private, at all Rényi orders,
as a Gaussian mechanism with noise multiplier

    z = 1 / (Δ/(√h·s) + τ√d),    τ = 10·Σ_{k=1}^{h−1} exp(−2π²s²k/(k+1)).

Invariant: a site never adds less noise than z needs, and the noise of further sites only adds to it.

>>> round(effective_multiplier(1000.0, 500.0, honest=4, size=100), 6)
4.0
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from common.errors import ConfigError, QuorumError
from common.settings.config import LeagueConfig

TOLERANCE = 1.0001  # one unit may change a clipped sum by this many clips, because of float32 rounding
_HEADROOM = 12.0
_LEAST_DEVIATION = 4.0


@dataclass(frozen=True)
class NoiseShare:
    """One site's part of the noise, computed from public settings alone.

    Parameters
    ----------
    deviation : standard deviation of the site's own discrete Gaussian, in whole numbers.
    clip_range : the part of the contract's range that remains for the update beside the noise.
    sensitivity : Δ, in whole numbers.
    """

    deviation: float
    clip_range: float
    sensitivity: float


def noise_share(config: LeagueConfig, sigma: float, *, size: int, sites: int, scale: float) -> NoiseShare:
    """The part of each of ``sites`` sites with equal shares.

    Parameters
    ----------
    sigma : the noise multiplier that the sum shall have.
    size : how many numbers the update has.
    scale : whole numbers per 1.0 of the mean.

    Raises
    ------
    ConfigError : the noise doesn't fit the fields, or is too fine for the theorem to hold without loss.
    """
    privacy, rounds = config.privacy, config.rounds
    # Of a user it's a gradient that is clipped, before the step; of a whole site the step itself.
    step = 1.0 if privacy.mode == "site" else privacy.learning_rate / privacy.expected_users
    unit = scale / sites * step
    sensitivity = TOLERANCE * unit * privacy.clip + math.sqrt(size)
    deviation = sigma * sensitivity / math.sqrt(privacy.honest_sites)
    room = _HEADROOM * deviation * math.sqrt(sites) / scale
    if deviation < _LEAST_DEVIATION:
        raise ConfigError(
            f"shared noise of {deviation:.2g} whole numbers is too fine", where="rounds.field_bits",
            next_step="take wider fields, or a smaller rounds.clip_range",
        )  # fmt: skip
    if room > rounds.clip_range / 2:
        raise ConfigError(
            f"the noise of {sites} sites takes {room / rounds.clip_range:.0%} of the range of an update",
            where="rounds.clip_range", why="what runs over a field's end destroys the sum",
            next_step="raise rounds.clip_range or privacy.expected_users, or lower privacy.learning_rate",
        )  # fmt: skip
    return NoiseShare(deviation, rounds.clip_range - room, sensitivity)


def effective_multiplier(deviation: float, sensitivity: float, *, honest: int, size: int) -> float:
    """The noise multiplier z of the formula above."""
    tau = 10 * math.fsum(math.exp(-2 * (math.pi * deviation) ** 2 * k / (k + 1)) for k in range(1, honest))
    return 1.0 / (sensitivity / (math.sqrt(honest) * deviation) + tau * math.sqrt(size))


def enough_noise(config: LeagueConfig, survivors: int) -> bool:
    """Whether the sum of so many sites holds the promised noise, even if some of the sites collude."""
    needed = config.privacy.honest_sites + config.rounds.colluding_sites
    return config.privacy.mode not in ("distributed", "site") or survivors >= needed


def require_honest(config: LeagueConfig, survivors: int, where: str) -> None:
    """Refuse a sum that holds too little noise.

    Raises
    ------
    QuorumError : fewer sites than the honest ones that the guarantee needs plus those that may collude.
    """
    need = config.privacy.honest_sites + config.rounds.colluding_sites
    if not enough_noise(config, survivors):
        raise QuorumError(
            f"the sum of {survivors} sites holds too little noise, {need} are needed", where=where,
            why=f"the guarantee counts on {config.privacy.honest_sites} honest sites beside "
            f"{config.rounds.colluding_sites} that may collude",
            next_step="resume when more sites are there",
        )  # fmt: skip
