"""The plan of a run that is not carried out: what ``--dry-run`` prints.

Invariant: nothing is written but derived site folders of a data source, which hold no result.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import MappingProxyType

from clients.encoders import TEXT_DIM
from common.config import LeagueConfig, RoundsConfig
from common.crypto.protocol import values_of
from common.crypto.schemes import scheme_of
from common.models import build_model
from common.privacy.guarantee import guarantee_of
from simulations.league import derive_sites
from simulations.options import SimulateOptions
from simulations.results import RunSummary

_SEES = MappingProxyType({
    "plain": "the coordinator sees every update",
    "masked": "the coordinator sees the sum of the updates and the model, no single update",
    "he": "the coordinator sees neither updates nor their sum, unless it colludes with a site; it gets the last model",
    "he+masked": "the coordinator sees neither updates nor their sum, and with a colluding site only the sum",
})  # fmt: skip


def what_is_seen(protection: str) -> str:
    """What a protection shows to the coordinator."""
    return _SEES[protection]


def bytes_per_site(rounds: RoundsConfig, size: int) -> tuple[int, int]:
    """A site's bytes up and down a round, without headers, keys and shares (a few kilobytes)."""
    count = values_of(rounds, size)
    if rounds.encrypted:
        scheme = scheme_of(rounds)
        number = scheme.ciphertexts(count)
        return number * scheme.fresh_bytes[1], number * scheme.sum_bytes[1]
    return (8 * count if rounds.masked else 4 * size), 4 * size


def plan_of(options: SimulateOptions, config: LeagueConfig) -> RunSummary:
    """Sites, parameters and bytes of a run."""
    with tempfile.TemporaryDirectory() as folder:
        sites = derive_sites(options, config.seed, Path(folder))
    model = build_model(config.model, TEXT_DIM, config.model.projection_dim, config.seed)
    size = sum(p.numel() for p in model.shared_parameters().values())
    members = [site.name for site in sites if not site.held_out]
    up, down = (each * len(members) for each in bytes_per_site(config.rounds, size))
    plan = {
        "sites": ", ".join(members),
        "left out of training": ", ".join(site.name for site in sites if site.held_out) or "none",
        "rounds": config.rounds.count,
        "shared parameters": size,
        "bytes up per round": up,
        "bytes down per round": down,
        "bytes in all": (up + down) * config.rounds.count,
        "protection": f"{config.rounds.protection}: {what_is_seen(config.rounds.protection)}",
        **_promise(config),
        "compares with local and centralised training": options.compare,
    }
    return RunSummary(
        run=options.run,
        sites=tuple(members),
        held_out=tuple(site.name for site in sites if site.held_out),
        config_digest=config.digest(),
        plan=plan,
    )


def _promise(config: LeagueConfig) -> dict[str, str]:
    """Mode, unit and ε of a run, and what each round costs a site."""
    found = guarantee_of(config)
    if found is None:
        return {"differential privacy": "off"}
    rows = {
        "differential privacy": f"{found.mode}: one {found.unit}, added or removed",
        "epsilon of the run": f"{found.epsilon:.3f} at delta {found.delta:g} (Rényi, Opacus)",
        "noise over clip": f"{found.noise_multiplier:g}",
    }
    if found.epsilon_pld is not None:
        rows["epsilon by loss distributions"] = f"{found.epsilon_pld:.3f} (dp-accounting)"
    if found.epsilon_alone is not None:
        rows["epsilon of a site's own noise"] = f"{found.epsilon_alone:.3f}, if all others collude"
    if found.epsilon_user is not None:
        rows["epsilon of a whole user"] = f"{found.epsilon_user:.1f}"
    if found.seeded:
        rows["chance"] = "seeded: nothing is promised"
    return rows
