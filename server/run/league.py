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

from common.errors import QuorumError, RunError, WireError
from common.protocol import wire
from common.runtime.progress import RoundProgress
from common.settings.config import LeagueConfig
from common.settings.rules import require_cohort
from common.storage.run_folder import RunFolder, read_config, read_sites
from server.messages.exchange import exchange
from server.messages.screen import Expected, screen

_ROLL_CALL_S, _WELCOME_S = 60.0, 10.0
_SLOWEST_S = 300.0
_MOST_SKEW_S = 60.0


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


def roll_call(grid: Grid, league: League, progress: RoundProgress) -> Roster:
    """Ask every connected node which site it is.

    Raises
    ------
    QuorumError : fewer members are connected than a round needs.
    """
    roster = Roster({})
    patience_s = min(league.config.rounds.deadline_s, _SLOWEST_S)
    node_ids = _await_nodes(grid, len(league.names), league.quorum(len(league.members)), patience_s)
    reasons = _meet(grid, league, roster, node_ids, progress, max(_ROLL_CALL_S, patience_s))
    require_quorum(league, league.members, roster.present(league.members), "roll call", reasons)
    return roster


def welcome(grid: Grid, league: League, roster: Roster, progress: RoundProgress) -> list[str]:
    """Sites that connected after the roll call, and now take part as well."""
    known = {*roster.nodes.values(), *roster.refused}
    strangers = [node for node in sorted(grid.get_node_ids()) if node not in known]
    before = set(roster.nodes)
    if strangers and len(before) < len(league.names):
        _meet(grid, league, roster, strangers, progress, _WELCOME_S)
    came = [name for name in roster.nodes if name not in before]
    for name in came:
        progress.note(f"Site '{name}' has come and takes part from now on.")
    return came


def _meet(
    grid: Grid, league: League, roster: Roster, node_ids: list[int], progress: RoundProgress, deadline_s: float
) -> dict[str, str]:  # fmt: skip
    """Ask nodes which site they are and note the good ones, in site order; why named ones were left out."""
    content = wire.pack(wire.Header(run=league.run))
    requests = {str(node): (node, content) for node in node_ids}
    reasons: dict[str, str] = {}
    asked = time.time()
    for key, reply in exchange(grid, requests, wire.HELLO, group="hello", deadline_s=deadline_s):
        name = ""
        try:
            if reply is None:
                raise WireError("no answer to the roll call", where=f"node {key}")
            header = None if reply.has_error() else wire.read_header(reply.content, where=f"node {key}")
            name = header.site if header else ""
            screen(reply, Expected(site=name, run=league.run))
            if name not in league.names or name in roster.nodes:
                raise WireError(f"the name '{name[:80]}' is foreign or taken", where=f"node {key}")
            check_clock(
                header.plan.get("clock") if header else None, asked, time.time(), where=f"site '{name}'"
            )
            roster.nodes[name] = int(key)
        except WireError as fault:
            progress.note(f"Left out: {fault.sentence()}")
            if name in league.names:
                reasons[name] = fault.what
            if reply is not None:
                roster.refused.add(int(key))
    roster.nodes = {name: roster.nodes[name] for name in league.names if name in roster.nodes}
    return reasons


def check_clock(told: object, asked: float, heard: float, *, where: str) -> None:
    """Refuse a site whose clock, read between asking and hearing, is off by more than a minute.

    Raises
    ------
    WireError : with how far, and in which direction.
    """
    if isinstance(told, bool) or not isinstance(told, int | float) or not math.isfinite(told):
        raise WireError("the site told no time of day", where=where)
    off = told - heard if told > heard else min(0.0, told - asked)
    if abs(off) > _MOST_SKEW_S:
        raise WireError(
            f"the site's clock is {abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the coordinator's",
            where=where, why="certificates and deadlines go by the clock",
            next_step="set both clocks by a time server (timedatectl set-ntp true), then resume the run",
        )  # fmt: skip


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


def _await_nodes(grid: Grid, expected: int, quorum: int, patience_s: float) -> list[int]:
    """Wait a minute for everyone, and longer for a quorum: a deployment's sites may be starting."""
    began = time.monotonic()
    pause_s = 0.02
    while True:
        nodes = sorted(grid.get_node_ids())
        waited_s = time.monotonic() - began
        enough = expected if waited_s < _ROLL_CALL_S else quorum
        if len(nodes) >= enough or waited_s > max(_ROLL_CALL_S, patience_s):
            return nodes
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 1.0)
