"""A site's share of distributed noise: clip → weigh → quantise → add whole-number noise, once per round.

Invariants: noise is drawn only after the ledger was charged. The result is kept, so a repeated round gives the same
integers and nobody can average the noise of two attempts. All sites have equal weights, because each site's noise must
hide the effect of one user at any site.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from pathlib import Path

from common.crypto.fields import Integers, quantise
from common.errors import PrivacyError
from common.privacy.guarantee import noise_multiplier
from common.privacy.shared_noise import effective_multiplier, noise_share, require_honest
from common.protocol.wire import FloatVector
from common.secagg.protocol import Attempt, bounded
from common.settings.config import LeagueConfig


def noisy_integers(
    config: LeagueConfig, update: FloatVector, attempt: Attempt, folder: Path, site: str, pay: Callable[[], object]
) -> Integers:  # fmt: skip
    """The whole numbers of a round with this site's noise, made now or in an earlier attempt.

    Parameters
    ----------
    pay : charges the site's ledger; called only if noise must be drawn, and before that.

    Raises
    ------
    PrivacyError : the sites' weights differ, the numbers were made for another cohort, or the ledger refuses.
    QuorumError : the cohort is too small for enough noise.
    """
    # Late: only a site that shares noise needs what trains privately.
    from clients.dp.noisy_outputs import NoisyOutputs

    where = f"site '{site}', round {attempt.round}"
    require_honest(config, len(attempt.weights), where)
    if len(set(attempt.weights.values())) > 1:
        raise PrivacyError(
            "sites of unequal weight can't share noise", where=where, next_step="give all one weight"
        )
    cohort = hashlib.sha256("\n".join(attempt.names).encode()).digest()

    def draw() -> Integers:
        pay()
        return _made(config, update, attempt, site)

    return NoisyOutputs(folder).whole_once(attempt.round, cohort, update.size, draw)


def nobody_pays() -> None:
    """The `pay` of a caller for whom the round's noise must have been drawn and paid for already.

    Raises
    ------
    PrivacyError : always; the noise wasn't there.
    """
    raise PrivacyError(
        "the round's noise is gone since it was paid", where="updates",
        why="a second draw of it has a price of its own", next_step="ask for the round again",
    )  # fmt: skip


def digest_of(whole: Integers) -> str:
    """SHA-256 of the integers' little-endian bytes, which the ledger notes."""
    return hashlib.sha256(whole.astype("<i8").tobytes()).hexdigest()


def _made(config: LeagueConfig, update: FloatVector, attempt: Attempt, site: str) -> Integers:
    from clients.dp.noise.sources import Noise, SeededNoise, SystemNoise
    from clients.training.samples import derived_seed

    rounds, sigma = config.rounds, noise_multiplier(config)
    scale, sites = attempt.scale(rounds), len(attempt.weights)
    part = noise_share(config, sigma, size=update.size, sites=sites, scale=scale)
    honest = config.privacy.honest_sites
    reached = effective_multiplier(part.deviation, part.sensitivity, honest=honest, size=update.size)
    if not math.isclose(reached, sigma, rel_tol=1e-9):
        raise PrivacyError(
            f"the shared noise reaches {reached:.6g} times the clip, not {sigma:.6g}", where=site
        )
    noise: Noise = SystemNoise()
    if config.privacy.seeded:
        noise = SeededNoise(derived_seed("whole", config.seed, site, attempt.round))
    quantised = quantise(bounded(update, rounds), attempt.share([site]), part.clip_range, scale)
    return quantised + noise.whole(update.size, part.deviation)
