"""Ask sites one step of the protocol between rounds.

Invariant: each answer is a table, or the reason as text where there is none; nothing that a site answers ends the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import RecordDict
from flwr.serverapp import Grid

from common.errors import WireError
from common.protocol import wire
from server.messages.exchange import exchange
from server.messages.screen import Expected, screen
from server.run.league import League, Roster

_MOST_ANSWER = 1 << 24
Answers = dict[str, Any]


def ask(
    grid: Grid, league: League, roster: Roster, step: str, orders: Mapping[str, Mapping[str, Any]],
    within_s: float | None = None,
) -> Answers:  # fmt: skip
    """The answers of the named sites to one question each; without `within_s` a round's whole deadline is waited."""
    header = wire.Header(league.run, plan={"step": step})
    requests = {
        name: (roster.nodes[name], wire.pack(header, vector=_table(order)))
        for name, order in orders.items()
        if name in roster.nodes
    }
    return dict.fromkeys(orders, "not connected") | replies(grid, league, requests, step, within_s)


def replies(
    grid: Grid, league: League, requests: Mapping[str, tuple[int, RecordDict]], step: str,
    within_s: float | None = None,
) -> Answers:  # fmt: skip
    """The answers to messages that are made already."""
    found: Answers = {}
    deadline_s = league.config.rounds.deadline_s if within_s is None else within_s
    for name, reply in exchange(grid, requests, wire.SECURE, group=step, deadline_s=deadline_s):
        try:
            if reply is None:
                raise WireError("no reply before the deadline", where=name)
            _, content = screen(reply, Expected(name, league.run))
            answer = json.loads(wire.decode_blob(content, _MOST_ANSWER, where=name))
            found[name] = answer if isinstance(answer, dict) else "the answer is no table"
        except WireError as fault:
            found[name] = fault.what
        except (ValueError, RecursionError):
            found[name] = "the answer can't be read"
    return found


def faults(answers: Mapping[str, Any]) -> dict[str, str]:
    """Reasons of the sites that gave no table."""
    return {name: str(answer) for name, answer in answers.items() if not isinstance(answer, dict)}


def _table(order: Mapping[str, Any]) -> wire.Payload:
    return np.frombuffer(json.dumps(dict(order)).encode(), np.uint8)
