"""A site's part of noise that sites share: clip → weight → quantise → + whole-number noise, once a round.

Invariants: noise is drawn only once the ledger has been asked, and kept with the result, so that a round that is tried
again gives the same integers, and two tries can't be averaged; shares are equal, because the noise of each site is
measured against the move of one user at any site.
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
    """The integers of a round, made now or in an earlier try.

    Parameters
    ----------
    pay : asks the site's ledger; called before noise is drawn, and only then.

    Raises
    ------
    PrivacyError : shares differ, the round was made for another cohort, or the ledger refuses.
    QuorumError : the cohort is too small to hold the noise.
    """
    # Late: only a site that shares noise needs what trains privately.
    from clients.dp.kept import Kept

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

    return Kept(folder).whole_once(attempt.round, cohort, update.size, draw)


def nobody_pays() -> None:
    """In place of the ledger where the round's noise must have been drawn and paid.

    Raises
    ------
    PrivacyError : it wasn't.
    """
    raise PrivacyError(
        "the round's noise is gone since it was paid", where="updates",
        why="a second draw of it has a price of its own", next_step="ask for the round again",
    )  # fmt: skip


def digest_of(whole: Integers) -> str:
    """What the ledger is told of them: SHA-256 of their little-endian bytes."""
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
