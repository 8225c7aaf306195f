"""What each protection costs one league, and what the coordinator sees under it: the rows of ``--dry-run``.

Bytes follow from the scheme's parameters. Processor time is measured on this machine, with a part of an update and the
real steps of a site and of the coordinator, and scaled up; it varies by a fifth between measurements. Invariant: no
data, key or model of a league is used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from common.he.cipher import Values
from common.he.schemes import scheme_of
from common.protocol.wire import Layout
from common.secagg import masks
from common.secagg.pipeline import STEPS, Parcel, Terms, open_steps, open_sum, send
from common.secagg.protocol import Attempt, groups_of, values_of
from common.settings.config import LeagueConfig, RoundsConfig
from common.settings.load import with_overrides
from server.aggregation.running_sum import RunningSum

_SLICE = 1 << 17
_SITES_MEASURED = 4


@dataclass(frozen=True)
class Sight:
    """What parties learn of the updates, in plain words."""

    coordinator: str
    site: str
    together: str


SIGHTS = MappingProxyType({
    "plain": Sight("every update", "the model", "every update"),
    "masked": Sight("each sum and the model, no single update", "the model", "each sum"),
    "he": Sight("ciphertexts, and the released model", "the model and each sum", "every update"),
    "he+masked": Sight("ciphertexts, and the released model", "the model and each sum", "each sum, no single update"),
    "ckks": Sight("ciphertexts alone; it may not get the model", "the model and each sum", "every update, and the key"),
})  # fmt: skip
"""Protection → what the coordinator sees, what a site sees, and what both see together."""


@dataclass(frozen=True)
class Cost:
    """One protection of one league.

    Parameters
    ----------
    upload_bytes, download_bytes : of one site in one round, without headers, keys and shares (a few kilobytes).
    site_cpu_s : of one site in one round: protect an update, open what it gets.
    coordinator_cpu_s : of a round with all sites.
    chosen : whether the league runs under it.
    """

    protection: str
    chosen: bool
    upload_bytes: int
    download_bytes: int
    site_cpu_s: float
    coordinator_cpu_s: float
    coordinator_sees: str
    site_sees: str
    coordinator_with_a_site_sees: str

    def row(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def costs_of(config: LeagueConfig, size: int, sites: int) -> list[Cost]:
    """A row for each protection; for protections that the other settings exclude, default settings are used."""
    return [_cost(_under(config, name), name == config.rounds.protection, size, sites) for name in STEPS]


def bytes_per_site(rounds: RoundsConfig, size: int) -> tuple[int, int]:
    """A site's bytes up and down a round, without headers, keys and shares (a few kilobytes)."""
    count = values_of(rounds, size)
    if rounds.encrypted:
        scheme = scheme_of(rounds)
        number = scheme.ciphertexts(count)
        return number * scheme.fresh_bytes[1], number * scheme.sum_bytes[1]
    return (8 * count if rounds.masked else 4 * size), 4 * size


def _under(config: LeagueConfig, protection: str) -> RoundsConfig:
    if protection == config.rounds.protection:
        return config.rounds
    release = "sites" if protection == "ckks" else "coordinator"
    plain = LeagueConfig().model_copy(update={"model": config.model})
    return with_overrides(plain, {"rounds.protection": protection, "rounds.release": release}).rounds


def sums_opened(rounds: RoundsConfig, sites: int) -> int:
    """How many sums a site gets in a round: one per group, and again for the trial if there is a guard."""
    groups = len(groups_of(rounds, 0, 1, _names(sites)))
    return groups * (2 if rounds.groups > 1 and rounds.worst_fall else 1)


def _cost(rounds: RoundsConfig, chosen: bool, size: int, sites: int) -> Cost:
    sample, sight = min(size, _SLICE), SIGHTS[rounds.protection]
    out_s, back_s, coordinator_s = _measured(rounds, sample, sites)
    up, down = bytes_per_site(rounds, size)
    sums = sums_opened(rounds, sites)
    site, together = sight.site, sight.together
    if rounds.groups > 1:
        site, together = (text.replace("each sum", "each group's sum") for text in (site, together))
    return Cost(
        rounds.protection, chosen, up, down * sums, round((out_s + back_s * sums) * size / sample, 4),
        round(coordinator_s * sites * size / sample, 4), sight.coordinator, site, together,
    )  # fmt: skip


def _names(sites: int) -> list[str]:
    return [f"s{place:03d}" for place in range(max(2, sites))]


def _measured(rounds: RoundsConfig, size: int, sites: int) -> tuple[float, float, float]:
    """A site's seconds to protect an update and to open a sum, and the coordinator's per site, for `size` numbers."""
    names = _names(sites)
    layout = Layout.of({"slice": (size,)})
    update = np.random.default_rng(0).normal(0, 0.01, size).astype(np.float32)
    attempt = Attempt(1, "00", dict.fromkeys(names, 1.0))
    terms = Terms(rounds, layout, attempt, names[0])
    if rounds.protection == "plain":
        total = RunningSum(size, _SITES_MEASURED)
        folded = [_cpu_s(lambda p=p: total.add(p, update, 1.0))[0] for p in range(_SITES_MEASURED)]  # type: ignore[misc]
        return 0.0, 0.0, min(folded)
    spent, values = _cpu_s(lambda: send(open_steps(terms), Parcel(update)))
    if rounds.masked:
        seeds = {name: os.urandom(masks.SEED_BYTES) for name in names[1:]}
        more, _ = _cpu_s(lambda: masks.mask(values, names[0], seeds, os.urandom(masks.SEED_BYTES)))
        spent += more
    if not rounds.encrypted:
        coordinator, _ = _cpu_s(lambda: (values + values) % np.uint64((1 << 44) - 16383))
        return spent, 0.0, coordinator
    used, decrypted, coordinator, opened = _encrypted(rounds, values)
    back, _ = _cpu_s(lambda: open_sum(open_steps(terms), Parcel(opened, survivors=names)))
    return spent + used, decrypted + back, coordinator


def _encrypted(rounds: RoundsConfig, values: Values) -> tuple[float, float, float, Values]:
    """Seconds to encrypt, to decrypt, and to parse and add; and the decrypted values."""
    scheme = scheme_of(rounds)
    key, total = scheme.key(), scheme.sum(len(values))
    spent, upload = _cpu_s(lambda: key.encrypt(values))
    folded = [_cpu_s(lambda: total.add(total.parse(upload, where="plan")))[0] for _ in range(_SITES_MEASURED)]
    alone = scheme.sum(len(values))
    alone.add(alone.parse(upload, where="plan"))
    more, opened = _cpu_s(lambda: key.decrypt(alone.saved(), len(values), where="plan"))
    return spent, more, min(folded), opened


def _cpu_s(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = work()
    return time.process_time() - began, result
