"""The plan of a run that is not carried out: what ``--dry-run`` prints.

Invariant: nothing is written but derived site folders of a data source, which hold no result.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from clients.encoders import TEXT_DIM
from common.models.model import build_model
from common.privacy.guarantee import guarantee_of
from common.settings.config import LeagueConfig
from simulations.runs.costs import costs_of
from simulations.runs.results import RunSummary
from simulations.setup.create import derive_sites, fitted
from simulations.setup.options import SimulateOptions


def plan_of(options: SimulateOptions, config: LeagueConfig) -> RunSummary:
    """Sites, parameters and bytes of a run."""
    with tempfile.TemporaryDirectory() as folder:
        sites = derive_sites(options, config.seed, Path(folder))
    members = [site.name for site in sites if not site.held_out]
    config = fitted(config, options, len(members))
    model = build_model(config.model, TEXT_DIM, config.model.projection_dim, config.seed)
    size = sum(p.numel() for p in model.shared_parameters().values())
    costs = costs_of(config, size, len(members))
    mine = next(cost for cost in costs if cost.chosen)
    up, down = mine.upload_bytes * len(members), mine.download_bytes * len(members)
    plan = {
        "sites": ", ".join(members),
        "left out of training": ", ".join(site.name for site in sites if site.held_out) or "none",
        "rounds": config.rounds.count,
        "shared parameters": size,
        "bytes up per round": up,
        "bytes down per round": down,
        "bytes in all": (up + down) * config.rounds.count,
        "protection": mine.protection,
        "the coordinator sees": mine.coordinator_sees,
        "a site sees": mine.site_sees,
        "the coordinator and one site together see": mine.coordinator_with_a_site_sees,
        "CPU seconds of the protection per site and round": mine.site_cpu_s,
        "CPU seconds of the protection per round, coordinator": mine.coordinator_cpu_s,
        **_promise(config),
        "compares with local and centralised training": options.compare,
    }
    return RunSummary(
        run=options.run,
        sites=tuple(members),
        held_out=tuple(site.name for site in sites if site.held_out),
        config_digest=config.digest(),
        plan=plan,
        protections=tuple(cost.row() for cost in costs),
    )


def _promise(config: LeagueConfig) -> dict[str, str]:
    """Mode, unit and ε of a run, and what each round costs a site."""
    guarantee = guarantee_of(config)
    if guarantee is None:
        return {"differential privacy": "off"}
    rows = {
        "differential privacy": f"{guarantee.mode}: one {guarantee.unit}, added or removed",
        "epsilon of the run": f"{guarantee.epsilon:.3f} at delta {guarantee.delta:g} (Rényi, Opacus)",
        "noise over clip": f"{guarantee.noise_multiplier:g}",
    }
    if guarantee.epsilon_pld is not None:
        rows["epsilon by loss distributions"] = f"{guarantee.epsilon_pld:.3f} (dp-accounting)"
    if guarantee.epsilon_alone is not None:
        rows["epsilon of a site's own noise"] = f"{guarantee.epsilon_alone:.3f}, if all others collude"
    if guarantee.epsilon_user is not None:
        rows["epsilon of a whole user"] = f"{guarantee.epsilon_user:.1f}"
    if guarantee.seeded:
        rows["chance"] = "seeded: nothing is promised"
    return rows
