"""The plan of a run that is not carried out: what ``--dry-run`` prints.

Invariant: nothing is written but derived site folders of a data source, which hold no result.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from clients.encoders import TEXT_DIM
from common.config import LeagueConfig
from common.models import build_model
from simulations.league import derive_sites
from simulations.options import SimulateOptions
from simulations.results import RunSummary


def plan_of(options: SimulateOptions, config: LeagueConfig) -> RunSummary:
    """Sites, parameters and bytes of a run."""
    with tempfile.TemporaryDirectory() as folder:
        sites = derive_sites(options, config.seed, Path(folder))
    model = build_model(config.model, TEXT_DIM, config.model.projection_dim, config.seed)
    size = sum(p.numel() for p in model.shared_parameters().values())
    members = [site.name for site in sites if not site.held_out]
    per_round = 4 * size * len(members)
    plan = {
        "sites": ", ".join(members),
        "left out of training": ", ".join(site.name for site in sites if site.held_out) or "none",
        "rounds": config.rounds.count,
        "shared parameters": size,
        "bytes up per round": per_round,
        "bytes down per round": per_round,
        "bytes in all": 2 * per_round * config.rounds.count,
        "protection": f"{config.rounds.protection}: the coordinator sees every update",
        "differential privacy": "off",
        "compares with local and centralised training": options.compare,
    }
    return RunSummary(
        run=options.run,
        sites=tuple(members),
        held_out=tuple(site.name for site in sites if site.held_out),
        config_digest=config.digest(),
        plan=plan,
    )
