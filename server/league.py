"""The league as the coordinator sees it: settings, sites by name, and which Flower node is which site.

Invariant: sites are known by the names in the league's list and always handled in that order; a node that
gives a foreign name, or one already given, takes no part.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid

from common import wire
from common.config import LeagueConfig
from common.errors import QuorumError, RunError, WireError
from common.progress import RoundProgress
from common.run_folder import RunFolder, read_config, read_sites
from server.exchange import exchange
from server.screen import Expected, screen

_ROLL_CALL_S = 60.0


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
        """
        root = str(context.run_config.get("run-dir", ""))
        if not root:
            raise RunError(
                "no run folder is named", where="run-dir", next_step="start the run with 'hansa simulate'"
            )
        folder = RunFolder(Path(root))
        config = read_config(Path(str(context.run_config.get("config-json") or folder.config_file)))
        sites = read_sites(Path(str(context.run_config.get("league-json") or folder.league_file)))
        return cls(
            config=config,
            folder=folder,
            members=tuple(site.name for site in sites if not site.held_out),
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
    """Which node speaks for which site."""

    nodes: dict[str, int]

    def present(self, names: Iterable[str]) -> list[str]:
        """Those of the sites that answered the roll call, in the given order."""
        return [name for name in names if name in self.nodes]


def roll_call(grid: Grid, league: League, progress: RoundProgress) -> Roster:
    """Ask every connected node which site it is.

    Raises
    ------
    QuorumError : fewer members are connected than a round needs.
    """
    node_ids = _await_nodes(grid, len(league.names))
    content = wire.pack(wire.Header(run=league.run))
    requests = {str(node): (node, content) for node in node_ids}
    nodes: dict[str, int] = {}
    for key, reply in exchange(grid, requests, wire.HELLO, group="hello", deadline_s=_ROLL_CALL_S):
        try:
            if reply is None:
                raise WireError("no answer to the roll call", where=f"node {key}")
            name = "" if reply.has_error() else wire.read_header(reply.content, where=f"node {key}").site
            screen(reply, Expected(site=name, run=league.run))
            if name not in league.names or name in nodes:
                raise WireError(f"the name '{name[:80]}' is foreign or taken", where=f"node {key}")
            nodes[name] = int(key)
        except WireError as fault:
            progress.note(f"Left out: {fault.sentence()}")
    roster = Roster({name: nodes[name] for name in league.names if name in nodes})
    require_quorum(league, league.members, roster.present(league.members), "roll call", {})
    return roster


def require_quorum(
    league: League, asked: Sequence[str], good: Sequence[str], where: str, reasons: dict[str, str]
) -> None:
    """Stop where too few of the asked sites took part.

    Raises
    ------
    QuorumError : names every site that is missing, with the reason.
    """
    need = league.quorum(len(asked))
    if len(good) >= need:
        return
    absent = [f"'{name}': {reasons.get(name, 'no answer')}" for name in asked if name not in set(good)]
    raise QuorumError(
        f"{len(good)} of {len(asked)} sites took part, but the quorum is {need}", where=where,
        why="; ".join(absent), next_step="mend or remove the sites named, or lower rounds.quorum, then resume",
    )  # fmt: skip


def _await_nodes(grid: Grid, expected: int) -> list[int]:
    # Nodes of a deployment or of Ray may connect a moment after the coordinator starts.
    ends = time.monotonic() + _ROLL_CALL_S
    pause_s = 0.02
    while len(nodes := sorted(grid.get_node_ids())) < expected and time.monotonic() < ends:
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 1.0)
    return nodes
