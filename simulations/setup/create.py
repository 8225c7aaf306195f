"""From a person's options to a run folder: derive the sites, determine the settings, and write both.

Invariant: after `create_run` everything that decides the result lies in the run folder, so `resume` needs nothing else.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

from clients.data.source import open_house
from clients.dp.whole_site import require_sites
from clients.encoders.cache import default_cache_folder
from clients.signals.ranker import Form
from common.errors import ConfigError, RunError
from common.privacy.guarantee import PROTECTS_UNITS, noise_multiplier
from common.privacy.shared_noise import enough_noise
from common.schema import PRODUCTS, TABLES
from common.settings.config import LeagueConfig
from common.settings.load import load_config, with_overrides
from common.settings.rules import require_cohort
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.bazaar import write_league
from simulations.bazaar.config import BazaarConfig, load_bazaar_config
from simulations.connectors import connector
from simulations.setup.options import DataSource, Setting, SimulateOptions

MAX_CATEGORIES = 64
# Small pictures and small merchants: what keeps the embedded league within the demo's minute and a half. Its customers
# are protected as real ones should be.
BAZAAR_SETTINGS: dict[str, Setting] = {
    "privacy.mode": "site",
    "privacy.epsilon": 3.0,
    "model.frozen_image_size": 64,
    "training.batch_size": 64,
    "training.min_steps_per_round": 10,
    "training.learning_rate": 0.005,
    "rounds.count": 12,
}
# What a league under differential privacy trains: few numbers, since noise grows with them, in few bold steps. All
# users pull the behaviour head the same way, so at the usual weight such steps throw it far over.
PRIVATE_SETTINGS: dict[str, Setting] = {
    "rounds.count": 10,
    "model.adapter": "linear",
    "model.item_dim": 16,
    "model.dropout": 0.0,
    "training.behaviour_weight": 0.1,
    "privacy.clip": 0.3,
}
# What a league trains that hides whole sites: the small models alone, by plain steps of bounded length.
SITE_SETTINGS: dict[str, Setting] = {
    "model.tower": False, "rounds.count": 4, "rounds.optimiser": "average", "rounds.clip_range": 4.0,
    "privacy.clip": 0.3,
}  # fmt: skip
FEWEST_FOR_SITE_LEVEL = 15  # thirteen of them honest: see `clients.dp.whole_site.MOST`
_NOISE_OF_A_STEP, _LARGEST_RATE = 0.03, 16.0


def plan_config(options: SimulateOptions) -> LeagueConfig:
    """The league's settings: the source's defaults, then the file, then the options, then ``--set``.

    A file holds all settings. Without a file, a league that protects units uses `PRIVATE_SETTINGS`.
    """
    config = load_config(options.config) if options.config else LeagueConfig()
    changes: dict[str, Setting] = {}
    if options.config is None:
        changes = {**BAZAAR_SETTINGS} if options.data == "bazaar" else {}
        if options.data == "bazaar" and _bazaar_config(options).n_sites < FEWEST_FOR_SITE_LEVEL:
            changes["privacy.mode"] = "distributed"
        if {**changes, **options.overrides}.get("privacy.mode") in PROTECTS_UNITS:
            changes |= PRIVATE_SETTINGS
        elif {**changes, **options.overrides}.get("privacy.mode") == "site":
            changes |= SITE_SETTINGS
    chosen = {"rounds.count": options.rounds, "seed": options.seed, "model.encoders": options.encoders}
    changes.update({key: value for key, value in chosen.items() if value is not None})
    changes.update(options.overrides)
    return with_overrides(config, {"name": options.run.name, **changes})


def create_run(options: SimulateOptions, config: LeagueConfig) -> tuple[RunFolder, LeagueConfig]:
    """Derive the sites and write the run folder's first files.

    Raises
    ------
    RunError : the folder already holds a run.
    HansaError : the data can't be read.
    """
    folder = RunFolder(options.run.resolve())
    if folder.config_file.exists():
        raise RunError(
            "the folder already holds a run", where=str(options.run),
            next_step=f"go on with it ('hansa resume {options.run}') or choose another folder",
        )  # fmt: skip
    sites = derive_sites(options, config.seed, folder.root)
    members = sum(not site.held_out for site in sites)
    _require_enough(config, members)
    config = fitted(config, options, members)
    _require_noise(config, members)
    config = with_overrides(config, {"model.categories": list(shared_categories(sites, options.data))})
    folder.create(config, sites)
    return folder, config


def fitted(config: LeagueConfig, options: SimulateOptions, members: int) -> LeagueConfig:
    """Settings that follow from the league's size if nobody chose them: users per step, learning rate, honest sites.

    In every league a step contains the same amount of noise (in clips, on the mean of all users), so the rate grows
    with the number of users and with ε. Shared noise relies on all sites except those that may collude, and on an
    eighth fewer, since some may drop out.
    """
    if options.config is not None or config.privacy.mode == "off":
        return config
    honest = max(2, members - config.rounds.colluding_sites - members // 8)
    if config.privacy.mode == "site":
        changes: dict[str, Setting] = {"privacy.honest_sites": honest}
        return with_overrides(config, {k: v for k, v in changes.items() if k not in options.overrides})
    users = config.privacy.expected_users
    if options.data == "bazaar" and "privacy.expected_users" not in options.overrides:
        users = max(1, 2 * _bazaar_config(options).users_per_site // 3)
    sums = members if config.privacy.mode == "distributed" else math.sqrt(members)
    rate = _NOISE_OF_A_STEP * users * sums / noise_multiplier(config)
    changes = {
        "privacy.expected_users": users,
        "privacy.learning_rate": min(rate, _LARGEST_RATE),
        "privacy.honest_sites": honest,
    }
    return with_overrides(config, {k: v for k, v in changes.items() if k not in options.overrides})


def _require_enough(config: LeagueConfig, members: int) -> None:
    """Refuse fewer than two sites if updates are protected from other sites, and more than one sum can hold."""
    if config.rounds.masked and members < 2:
        raise ConfigError(
            f"{config.rounds.protection} hides a site among others, and there is no other", where="rounds.protection",
            next_step="add a site, or take --set rounds.protection=plain",
        )  # fmt: skip
    require_cohort(config, members)


def _require_noise(config: LeagueConfig, members: int) -> None:
    """Refuse shared noise with too few sites: no round would ever count, or noise would drown what a round learns."""
    if config.privacy.mode == "site":
        require_sites(config, Form.of(config.privacy).size)
    if not enough_noise(config, members):
        honest, colluding = config.privacy.honest_sites, config.rounds.colluding_sites
        raise ConfigError(
            f"noise shared by {honest} honest sites beside {colluding} that may collude needs {honest + colluding} "
            f"sites, and there are {members}", where="privacy.mode",
            next_step="add sites, or take --set privacy.mode=user, whose noise each site adds alone",
        )  # fmt: skip


def derive_sites(options: SimulateOptions, seed: int, root: Path) -> list[SiteEntry]:
    """Write or find the site folders of the data source."""
    if options.data == "bazaar":
        return _bazaar(options, seed, root / "data")
    knobs: dict[str, Setting] = dict(options.data_overrides)
    if options.test_day:
        knobs["test_day"] = options.test_day
    name = json.dumps([options.data, options.sites_by, sorted(knobs.items())], default=str)
    folder = default_cache_folder() / "sites" / f"{options.data}-{_short(name)}"
    refs = connector(options.data).write_sites(options.path, folder, options.sites_by, _flat(knobs))
    return [
        SiteEntry(r.name, r.title, str(Path(r.folder).resolve()), r.language, r.region, r.held_out)
        for r in refs
    ]


def _bazaar_config(options: SimulateOptions) -> BazaarConfig:
    return load_bazaar_config(_knobs(options, options.seed or 0))


def _knobs(options: SimulateOptions, seed: int) -> dict[str, Setting]:
    """The bazaar's settings, as asked for."""
    preset: dict[str, Setting] = {"preset": options.preset} if options.preset else {}
    return {"seed": seed, **options.data_overrides, **preset}


def _bazaar(options: SimulateOptions, seed: int, out: Path) -> list[SiteEntry]:
    if options.test_day or options.sites_by:
        raise ConfigError("the bazaar has merchants and dates of its own", where="--test-day, --sites-by")
    write_league(out, load_bazaar_config(_knobs(options, seed)))
    described = json.loads((out / "league.json").read_text(encoding="utf-8"))
    return [SiteEntry(**{**entry, "folder": str((out / entry["folder"]).resolve())}) for entry in described]


def shared_categories(sites: list[SiteEntry], source: DataSource = "folders") -> tuple[str, ...]:
    """The catalogue categories of at least two sites' items or the most frequent ones, at most MAX_CATEGORIES.

    Names of categories are catalogue data and public; they become part of the contract. Folders that somebody else
    wrote are read whole here, so that whoever starts a run hears of their faults before anything trains.
    """
    tables = TABLES if source == "folders" else (PRODUCTS,)
    counts: dict[str, int] = {}
    for site in sites:
        if not site.held_out:
            with open_house(Path(site.folder), tables) as house:
                column = house.data.products["category"].drop_nulls()
            for name, count in column.value_counts().iter_rows():
                counts[name] = counts.get(name, 0) + count
    most = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_CATEGORIES]
    return tuple(sorted(most))


def _flat(knobs: Mapping[str, Setting]) -> dict[str, str | int | float | bool]:
    for key, value in knobs.items():
        if isinstance(value, list):
            raise ConfigError(f"'{key}' takes one value", where="--set data.*")
    return {key: value for key, value in knobs.items() if not isinstance(value, list)}


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
