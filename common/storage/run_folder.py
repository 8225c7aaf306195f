"""The folder of one run: its paths, and the two files that every process of the run reads first.

Invariant: `config.json` holds the settings together with their digest, so a run folder can't be continued
under other settings; every JSON file here is written whole or not at all.

    runs/NAME/  config.json  league.json  rounds.jsonl  state/  sites/SITE/  release/
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from common.errors import ConfigError, RunError
from common.files import read_json, write_json
from common.settings.config import LeagueConfig
from common.settings.load import load_config

MODEL = "model.safetensors"
"""The file of a released model, at the coordinator and at a site."""


@dataclass(frozen=True)
class SiteEntry:
    """One site of a simulated league: its name, its folder on disk, and whether training leaves it out."""

    name: str
    title: str
    folder: str
    language: str = "en"
    region: str = ""
    held_out: bool = False


@dataclass(frozen=True)
class RunFolder:
    """Paths and first files of one run."""

    root: Path

    @property
    def config_file(self) -> Path:
        return self.root / "config.json"

    @property
    def league_file(self) -> Path:
        return self.root / "league.json"

    @property
    def state(self) -> Path:
        return self.root / "state"

    @property
    def rounds_file(self) -> Path:
        return self.root / "rounds.jsonl"

    @property
    def release(self) -> Path:
        return self.root / "release"

    @property
    def model(self) -> Path:
        """The released model; whoever finds it knows that the run has come to its end."""
        return self.release / MODEL

    @property
    def card(self) -> Path:
        return self.release / "MODEL_CARD.md"

    def site_out(self, name: str) -> Path:
        """Where a site of a simulation writes its own results."""
        return self.root / "sites" / name

    def create(self, config: LeagueConfig, sites: list[SiteEntry]) -> None:
        """Write settings and sites of a new run.

        Raises
        ------
        ConfigError : two sites share a name, or no site trains.
        """
        names = [site.name for site in sites]
        if len(set(names)) != len(names):
            raise ConfigError("two sites have the same name", where=str(self.league_file))
        if all(site.held_out for site in sites):
            raise ConfigError("no site is left to train", where=str(self.league_file))
        self.root.mkdir(parents=True, exist_ok=True)
        write_json(self.config_file, {"digest": config.digest(), "settings": config.model_dump(mode="json")})
        write_json(self.league_file, [asdict(site) for site in sites])

    def config(self) -> LeagueConfig:
        """The run's settings.

        Raises
        ------
        RunError : the file is missing or damaged, or the settings don't match their digest.
        """
        return read_config(self.config_file)

    def sites(self) -> list[SiteEntry]:
        """The run's sites, in site order (by name).

        Raises
        ------
        RunError : the file is missing or damaged.
        """
        return read_sites(self.league_file)


def read_config(path: Path) -> LeagueConfig:
    """Settings from a run's `config.json`.

    Raises
    ------
    RunError : the file is missing or damaged, or the settings don't match their digest.
    """
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("settings"), dict):
        raise RunError("the run's settings are damaged", where=str(path), next_step="start the run anew")
    config = load_config(data["settings"])
    if data.get("digest") != config.digest():
        raise RunError(
            "the run's settings don't match their digest", where=str(path),
            why="they were edited, or written by another version", next_step="start a new run",
        )  # fmt: skip
    return config


def read_sites(path: Path) -> list[SiteEntry]:
    """Sites from a run's `league.json`, sorted by name.

    Raises
    ------
    RunError : the file is missing or damaged.
    """
    data = read_json(path)
    try:
        return sorted((SiteEntry(**entry) for entry in data), key=lambda entry: entry.name)
    except TypeError:
        raise RunError(
            "the list of sites is damaged", where=str(path), next_step="start the run anew"
        ) from None
