"""Settings that are valid alone but wrong together: refused with the reason before anything runs.

Invariant: a setting that a protection can't honour is an error; it's never silently ignored.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from common.crypto.fields import MOST_SUMMED, Packing
from common.crypto.shamir import MAX_SHARES
from common.errors import ConfigError
from common.settings.config import LeagueConfig, RoundsConfig


def require_consistent(config: LeagueConfig) -> None:
    """Raises
    ------
    ConfigError : two settings contradict each other; names the first such pair.
    """
    rounds = config.rounds
    for fault in [*_ckks(rounds), *_weights(rounds), *_protection(rounds), *_shared_noise(config)]:
        raise fault
    Packing(rounds.field_bits, rounds.fields)
    if rounds.worst_fall and config.privacy.mode != "off":
        raise ConfigError(
            "there is no guard over the rounds under differential privacy", where="rounds.worst_fall",
            why="figures of the validation window would tell of users without noise, so sites tell none; the checks "
            "of the sum and the groups' median remain",
            next_step="set rounds.worst_fall=0",
        )  # fmt: skip


def require_cohort(config: LeagueConfig, members: int) -> None:
    """Refuse a league whose sums would hold more sites than the protection allows.

    Parameters
    ----------
    members : sites that train.

    Raises
    ------
    ConfigError : names the limit and how to stay below it.
    """
    rounds = config.rounds
    cohort = math.ceil(rounds.fraction * members)
    largest = math.ceil(cohort / max(1, min(rounds.groups, cohort // 3)))  # groups are of three sites or more
    limits = []
    if rounds.protection in ("he", "he+masked"):
        limits.append((MOST_SUMMED, "a larger sum of ciphertexts leaves less than 4 bits of noise budget"))
    if rounds.masked:
        limits.append((MAX_SHARES, "a masked group shares each site's seed by one byte's places"))
    for most, why in sorted(limits):
        if largest > most:
            groups = f"rounds.groups={math.ceil(cohort / most)}"
            fewer = f"rounds.fraction={math.floor(1000 * most / members) / 1000:g}"
            raise ConfigError(
                f"{largest} sites in one sum under {rounds.protection}, and {most} are the most",
                where="rounds", why=why,
                next_step=f"set {groups} or {fewer}" if rounds.protection == "he+masked" else f"set {fewer}",
            )  # fmt: skip


def _ckks(rounds: RoundsConfig) -> Iterator[ConfigError]:
    if rounds.protection != "ckks":
        if rounds.release == "sites" and not rounds.encrypted:
            yield ConfigError(
                f"under {rounds.protection} the coordinator holds the model anyway", where="rounds.release",
                next_step="take rounds.protection=he+masked, or leave rounds.release out",
            )  # fmt: skip
        return
    if rounds.release != "sites":
        yield ConfigError(
            "under ckks the coordinator may not get the model", where="rounds.release",
            why="it holds the sums' ciphertexts, and whoever holds a CKKS ciphertext and its decryption can compute "
            "the key (Li and Micciancio 2021)",
            next_step="set rounds.release=sites, or take rounds.protection=he+masked, which has no such leak",
        )  # fmt: skip
    if rounds.quantise or rounds.weights == "count" or rounds.rounding != "nearest":
        yield ConfigError(
            "ckks sums floats", where="rounds",
            next_step="leave out rounds.quantise, rounds.rounding and weights = count",
        )  # fmt: skip


def _weights(rounds: RoundsConfig) -> Iterator[ConfigError]:
    if rounds.weights != "count":
        return
    if rounds.protection in ("plain", "ckks"):
        yield ConfigError(
            f"under {rounds.protection} a count can't be protected", where="rounds.weights",
            next_step="take masked, he or he+masked, or weights = sqrt_users",
        )  # fmt: skip
    if 2 * rounds.count_bound >= 1 << (rounds.field_bits - 1):
        yield ConfigError(
            f"two counts of {rounds.count_bound} don't fit fields of {rounds.field_bits} bits",
            where="rounds.count_bound",
        )  # fmt: skip


def _protection(rounds: RoundsConfig) -> Iterator[ConfigError]:
    if rounds.groups > 1 and rounds.protection != "he+masked":
        yield ConfigError("groups are of he+masked only", where="rounds.groups")
    if rounds.aggregator != "mean" and rounds.protection != "plain":
        yield ConfigError(
            f"'{rounds.aggregator}' looks at each update, which {rounds.protection} hides",
            where="rounds.aggregator", next_step="take rounds.groups under he+masked, or protection = plain",
        )  # fmt: skip


def _shared_noise(config: LeagueConfig) -> Iterator[ConfigError]:
    """The conditions of the proof for noise that sites share."""
    privacy, rounds = config.privacy, config.rounds
    if privacy.mode == "site" and config.model.tower:
        yield ConfigError(
            "a whole site can't be hidden in a model of thousands of numbers", where="privacy.mode",
            why="the noise would drown the update", next_step="set model.tower=false, or privacy.mode=distributed",
        )  # fmt: skip
    learns_no_signals = privacy.mode == "record" or (privacy.mode == "user" and privacy.sample_rate < 1)
    if learns_no_signals and not config.model.tower:
        yield ConfigError(
            "without the tower there is nothing to learn", where="model.tower",
            why="the small models learn of users with all their history, each of whom counts in each round",
            next_step="set model.tower=true, or privacy.mode=user with privacy.sample_rate=1",
        )  # fmt: skip
    if privacy.mode not in ("distributed", "site"):
        return
    for wrong, what, why, next_step in (
        (rounds.protection in ("plain", "ckks"), f"shared noise under protection {rounds.protection}",
         "the coordinator would see each site's update with a part of the noise only, or floats can't hold it",
         "set rounds.protection to masked, he or he+masked; or privacy.mode=user: each site adds all of its noise"),
        (rounds.groups > 1, "shared noise in groups of sites",
         "each group's sum is seen by itself", "set rounds.groups=1"),
        (rounds.weights == "count", "shared noise under counts",
         "noise is measured against the move of one user, which a count would scale", "set rounds.weights=equal"),
        (privacy.sample_rate < 1, "shared noise on a sample of the users",
         "no reviewed theorem gives sums of discrete Gaussians the gain of sampling", "set privacy.sample_rate=1"),
        (privacy.steps_per_round > 1, "shared noise over several steps of one round",
         "noise is complete in the sum alone, so each step needs a round", "set privacy.steps_per_round=1"),
    ):  # fmt: skip
        if wrong:
            yield ConfigError(what, where="privacy.mode", why=why, next_step=next_step)
