"""The non-private yardstick: what the same league would deploy, trained by the same code without differential privacy.

It exists only in simulations, as a run of its own with protection `plain`, whose folder is deleted after its figures
are read. Sites, seed and apps are the league's; the model is the one with the best validation figures, as in any league
without privacy.
"""

from __future__ import annotations

import shutil

from common.files import read_json, write_json
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from common.storage.run_folder import RunFolder
from simulations.engines.engine import Engine, run_league
from simulations.setup.create import PRIVATE_SETTINGS
from simulations.setup.options import Setting

FILE = "non_private.json"


def without_privacy(config: LeagueConfig) -> LeagueConfig:
    """The league's settings without privacy and protection, and with default sizes where privacy made them small."""
    changes: dict[str, Setting] = {
        "privacy.mode": "off",
        "rounds.protection": "plain",
        "rounds.quantise": False,
        "rounds.groups": 1,
    }
    settings, defaults = config.model_dump(mode="json"), LeagueConfig().model_dump(mode="json")
    for dotted, value in PRIVATE_SETTINGS.items():
        section, name = dotted.split(".")
        if settings[section][name] == value:
            changes[dotted] = defaults[section][name]
    return with_overrides(config, changes)


def folder_beside(folder: RunFolder) -> RunFolder:
    """The folder of that league's run; it's deleted after its figures are read."""
    return RunFolder(folder.root / "non_private")


def wanted(folder: RunFolder, config: LeagueConfig) -> bool:
    """Whether the run has this yardstick, and not yet."""
    return config.privacy.mode != "off" and not all(
        (folder.site_out(entry.name) / FILE).exists() for entry in folder.sites() if not entry.held_out
    )


def non_private(folder: RunFolder, config: LeagueConfig, engine: Engine, workers: int, progress: str) -> None:
    """Train it, or resume it, and write each member's ``non_private.json``; does nothing if it isn't wanted.

    Raises
    ------
    HansaError : as `run_league`.
    """
    if not wanted(folder, config):
        return
    members = [entry for entry in folder.sites() if not entry.held_out]
    beside = folder_beside(folder)
    if not beside.config_file.exists():
        beside.create(without_privacy(config), members)
    run_league(
        beside.root,
        "local" if engine == "local" else "pool",
        workers,
        {"compare": False, "progress": progress, "yardstick": True},
    )
    for entry in members:
        results = read_json(beside.site_out(entry.name) / "final.json")
        figures = {
            "rows": results["rows"],
            "methods": {"non_private": results["methods"]["final"]},
            "ndcg@20_by_row": {"non_private": results["ndcg@20_by_row"]["final"]},
            "calibration": [],
        }
        write_json(folder.site_out(entry.name) / FILE, figures)
    shutil.rmtree(beside.root)
