"""A site's part of noise that sites share: clip → weight → quantise → + whole-number noise, once a round.

Invariants: noise is drawn once for a round and kept with the result, so that a round that is tried again gives the same
integers, and two tries can't be averaged; shares are equal, because the noise of each site is measured against the move
of one user at any site.
"""

from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path

import numpy as np

from common.config import LeagueConfig
from common.crypto.fields import Integers, quantise
from common.crypto.protocol import Attempt, bounded
from common.errors import PrivacyError
from common.privacy.guarantee import noise_multiplier
from common.privacy.shared_noise import effective_multiplier, noise_share, require_honest
from common.run_folder import write_whole
from common.wire import FloatVector


def noisy_integers(
    config: LeagueConfig, update: FloatVector, attempt: Attempt, folder: Path, site: str
) -> Integers:
    """The integers of a round, made now or in an earlier try.

    Raises
    ------
    PrivacyError : shares differ, or the round was made for another cohort.
    QuorumError : the cohort is too small to hold the noise.
    """
    where = f"site '{site}', round {attempt.round}"
    require_honest(config, len(attempt.weights), where)
    if len(set(attempt.weights.values())) > 1:
        raise PrivacyError(
            "sites of unequal weight can't share noise", where=where, next_step="give all one weight"
        )
    path = folder / f"round-{attempt.round:05d}.whole"
    cohort = hashlib.sha256("\n".join(attempt.names).encode()).digest()
    if path.exists():
        return _read(path, cohort, update.size, where)
    whole = _made(config, update, attempt, site)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.chmod(folder, 0o700)
    write_whole(path, cohort + whole.astype("<i8").tobytes())
    return whole


def _made(config: LeagueConfig, update: FloatVector, attempt: Attempt, site: str) -> Integers:
    # Late: only a site that shares noise needs OpenDP.
    from clients.private.whole import SeededWhole, WholeNoise, discrete_gaussian
    from clients.samples import derived_seed

    rounds, sigma = config.rounds, noise_multiplier(config)
    scale, sites = attempt.scale(rounds), len(attempt.weights)
    part = noise_share(config, sigma, size=update.size, sites=sites, scale=scale)
    honest = config.privacy.honest_sites
    reached = effective_multiplier(part.deviation, part.sensitivity, honest=honest, size=update.size)
    if not math.isclose(reached, sigma, rel_tol=1e-9):
        raise PrivacyError(
            f"the shared noise reaches {reached:.6g} times the clip, not {sigma:.6g}", where=site
        )
    noise: WholeNoise = discrete_gaussian
    if config.privacy.seeded:
        noise = SeededWhole(derived_seed("whole", config.seed, site, attempt.round))
    quantised = quantise(bounded(update, rounds), attempt.share([site]), part.clip_range, scale)
    return quantised + noise(update.size, part.deviation)


def _read(path: Path, cohort: bytes, size: int, where: str) -> Integers:
    data = path.read_bytes()
    if len(data) != len(cohort) + 8 * size:
        raise PrivacyError("the kept integers of a round are damaged", where=where)
    if data[: len(cohort)] != cohort:
        raise PrivacyError(
            "the round was made for another cohort", where=where,
            why="a second answer of the same users would spend privacy that the budget doesn't hold",
            next_step="resume the run from its own checkpoint, or start a new run",
        )  # fmt: skip
    return np.frombuffer(data[len(cohort) :], dtype="<i8").astype(np.int64)
