"""What a league's settings promise, and to whom: one mode, one unit, one σ, and ε by two libraries.

    user         one user with all bounded history and reviews at a site; noise at each site
    record       what one user did in one span of days at a site, with the reviews written then; noise at each site
    distributed  one user; each site adds a part of the noise, the sum holds all of it (`shared_noise`); beside this,
                 what a site's own part promises by itself
    site         all of one site's data; noise is shared as in mode distributed
    off          nothing

Neighbouring datasets are ``add-remove``. Invariants: everything here follows from the public settings, never from data;
ε by Rényi accounting is at most the budget in the settings.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal

from common.privacy.accounting import Mechanism, epsilon_pld, epsilon_rdp, sigma_for
from common.settings.config import LeagueConfig, PrivacyMode

Unit = Literal["user", "record", "site"]
UNITS: dict[PrivacyMode, Unit] = {
    "user": "user", "record": "record", "distributed": "user", "site": "site",
}  # fmt: skip
PROTECTS_UNITS: tuple[PrivacyMode, ...] = ("user", "record", "distributed")
"""Modes that clip the gradient of each unit, so that training itself is private."""
SHARES_NOISE: tuple[PrivacyMode, ...] = ("distributed", "site")
"""Modes in which each site adds a part of the noise, and only the sum holds all of it."""


@dataclass(frozen=True)
class Guarantee:
    """The promise of one run to each unit at one site.

    Parameters
    ----------
    epsilon : by Rényi accounting (Opacus); the gate.
    epsilon_pld : by privacy-loss distributions (dp-accounting); None if no theorem covers the mechanism.
    epsilon_alone : for modes distributed and site: what a site's own noise promises if all other sites collude.
    epsilon_user : the promise to one user by group privacy. For mode record: with at most ``records_per_user`` records.
        For mode site: coming or going, a user can turn the site's move round, which is two clips.
    """

    mode: PrivacyMode
    unit: Unit
    delta: float
    noise_multiplier: float
    epsilon: float
    epsilon_pld: float | None
    epsilon_alone: float | None = None
    epsilon_user: float | None = None
    seeded: bool = False
    relation: str = "add-remove"


@functools.lru_cache(maxsize=16)
def noise_multiplier(config: LeagueConfig) -> float:
    """The σ with which all rounds of a run together stay within the site's budget.

    Raises
    ------
    ConfigError : no noise is enough for that many rounds.
    """
    privacy = config.privacy
    return sigma_for(privacy.epsilon, privacy.delta, *_samples(config))


def round_mechanism(config: LeagueConfig) -> Mechanism:
    """What one round costs a site."""
    rate, steps = _samples(config)
    steps //= config.rounds.count
    return Mechanism.gaussian(noise_multiplier(config), sample_rate=rate, steps=steps)


@functools.lru_cache(maxsize=16)
def guarantee_of(config: LeagueConfig) -> Guarantee | None:
    """The promise of a league's settings, or None if privacy is off."""
    privacy = config.privacy
    if privacy.mode == "off":
        return None
    sigma, (rate, steps) = noise_multiplier(config), _samples(config)
    run = [Mechanism.gaussian(sigma, sample_rate=rate, steps=steps)]
    alone = user = pld = None
    if privacy.mode in SHARES_NOISE:
        part = Mechanism.gaussian(sigma / math.sqrt(privacy.honest_sites), steps=steps)
        alone = epsilon_rdp([part], privacy.delta)
    else:
        pld = epsilon_pld(run, privacy.delta)
    group = {"record": privacy.records_per_user, "site": 2}.get(privacy.mode)
    if group:
        user = epsilon_rdp([run[0].for_group(group)], privacy.delta)
    return Guarantee(
        privacy.mode, UNITS[privacy.mode], privacy.delta, sigma, epsilon_rdp(run, privacy.delta), pld, alone, user,
        privacy.seeded,
    )  # fmt: skip


def _samples(config: LeagueConfig) -> tuple[float, int]:
    """Sampling rate and number of steps of a whole run; in mode site, every round is one step with all data."""
    privacy, rounds = config.privacy, config.rounds.count
    if privacy.mode == "site":
        return 1.0, rounds
    return privacy.sample_rate, rounds * privacy.steps_per_round
