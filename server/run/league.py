"""The league as the coordinator sees it: settings, sites by name, and which Flower node is which site.

Invariant: sites are known by the names in the league's list and always handled in that order; a node that
gives a foreign name, or one already given, takes no part.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context

from common.errors import RunError
from common.settings.config import LeagueConfig
from common.settings.rules import require_cohort
from common.storage.run_folder import RunFolder, read_config, read_sites


@dataclass(frozen=True)
class League:
    """What the coordinator knows before it has asked anyone.

    Parameters
    ----------
    receipts : folder of the receipts of sites' ledgers; beside the run's state unless several runs share one.
    """

    config: LeagueConfig
    folder: RunFolder
    members: tuple[str, ...]
    held_out: tuple[str, ...]
    compare: bool
    receipts: Path
    run: str = field(default="")

    @classmethod
    def from_context(cls, context: Context) -> League:
        """Read the run folder named in Flower's run configuration (`run-dir`; `compare` asks for local baselines).

        Raises
        ------
        RunError : no run folder is named, or its first files are damaged.
        ConfigError : there are more sites than one sum carries.
        """
        root = str(context.run_config.get("run-dir", ""))
        if not root:
            raise RunError(
                "no run folder is named", where="run-dir", next_step="start the run with 'hansa simulate'"
            )
        folder = RunFolder(Path(root))
        config = read_config(Path(str(context.run_config.get("config-json") or folder.config_file)))
        sites = read_sites(Path(str(context.run_config.get("league-json") or folder.league_file)))
        members = tuple(site.name for site in sites if not site.held_out)
        require_cohort(config, len(members))
        return cls(
            config=config,
            folder=folder,
            members=members,
            held_out=tuple(site.name for site in sites if site.held_out),
            compare=bool(context.run_config.get("compare", False)),
            receipts=Path(str(context.run_config.get("receipts-dir") or folder.state / "receipts")),
            run=config.digest(),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All sites, in site order."""
        return tuple(sorted(self.members + self.held_out))

    def quorum(self, asked: int) -> int:
        """How many of the sites asked must give a usable reply."""
        return max(1, math.ceil(self.config.rounds.quorum * asked))


@dataclass
class Roster:
    """Which node speaks for which site, and which nodes were refused."""

    nodes: dict[str, int]
    refused: set[int] = field(default_factory=set)

    def present(self, names: Iterable[str]) -> list[str]:
        """Those of the sites that answered the roll call, in the given order."""
        return [name for name in names if name in self.nodes]
