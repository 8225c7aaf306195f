"""The roll call: which Flower node speaks for which site.

Invariant: a node that gives a foreign name, or one already given, or whose clock is far off, takes no part.
"""

from __future__ import annotations

import math
import time

from flwr.serverapp import Grid

from common.errors import WireError
from common.protocol import wire
from server.messages.exchange import exchange
from server.messages.screen import Expected, screen
from server.run.run import Run

_ROLL_CALL_S, _WELCOME_S = 60.0, 10.0
_SLOWEST_S = 300.0
_MOST_SKEW_S = 60.0


def roll_call(run: Run) -> None:
    """Ask every connected node which site it is, and note it in the run's roster.

    Raises
    ------
    QuorumError : fewer members are connected than a round needs.
    """
    members = run.league.members
    patience_s = min(run.rounds.deadline_s, _SLOWEST_S)
    node_ids = _await_nodes(run.grid, len(run.league.names), run.league.quorum(len(members)), patience_s)
    reasons = _meet(run, node_ids, max(_ROLL_CALL_S, patience_s))
    run.require_quorum(members, run.present(members), "roll call", reasons)


def welcome(run: Run) -> list[str]:
    """Sites that connected after the roll call, and now take part as well."""
    known = {*run.roster.nodes.values(), *run.roster.refused}
    strangers = [node for node in sorted(run.grid.get_node_ids()) if node not in known]
    before = set(run.roster.nodes)
    if strangers and len(before) < len(run.league.names):
        _meet(run, strangers, _WELCOME_S)
    newcomers = [name for name in run.roster.nodes if name not in before]
    for name in newcomers:
        run.progress.note(f"Site '{name}' has come and takes part from now on.")
    return newcomers


def _meet(run: Run, node_ids: list[int], deadline_s: float) -> dict[str, str]:
    """Ask nodes which site they are and note the good ones, in site order; why named ones were left out."""
    league, roster = run.league, run.roster
    content = wire.pack(wire.Header(run=league.run))
    requests = {str(node): (node, content) for node in node_ids}
    reasons: dict[str, str] = {}
    asked = time.time()
    for key, reply in exchange(run.grid, requests, wire.HELLO, group="hello", deadline_s=deadline_s):
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
            run.progress.note(f"Left out: {fault.sentence()}")
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
