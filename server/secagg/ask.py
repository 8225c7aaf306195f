"""Ask sites one step of the protocol between rounds.

Invariant: each answer is a table, or the reason as text where there is none; nothing that a site answers ends the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import RecordDict

from common.errors import WireError
from common.protocol import wire
from server.run.run import Question, Reply, Run

_MOST_ANSWER = 1 << 24
Answers = dict[str, Any]


def ask(
    run: Run, step: str, orders: Mapping[str, Mapping[str, Any]], within_s: float | None = None
) -> Answers:
    """The answers of the named sites to one question each; without `within_s` a round's whole deadline is waited."""
    header = wire.Header(run.league.run, plan={"step": step})
    messages = {
        name: wire.pack(header, vector=_table(order))
        for name, order in orders.items()
        if name in run.roster.nodes
    }
    return dict.fromkeys(orders, "not connected") | replies(run, step, messages, within_s)


def replies(
    run: Run, step: str, messages: Mapping[str, RecordDict], within_s: float | None = None
) -> Answers:
    """The answers of present sites to messages that are packed already."""
    answers = run.ask(Question(wire.SECURE, step, within_s=within_s), messages, _answer)
    return {name: answer.what if isinstance(answer, WireError) else answer for name, answer in answers}


def faults(answers: Mapping[str, Any]) -> dict[str, str]:
    """Reasons of the sites that gave no table."""
    return {name: str(answer) for name, answer in answers.items() if not isinstance(answer, dict)}


def _answer(reply: Reply) -> dict[str, Any]:
    text = wire.decode_blob(reply.content, _MOST_ANSWER, where=reply.where)
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise WireError("the answer can't be read", where=reply.where) from None
    if not isinstance(answer, dict):
        raise WireError("the answer is no table", where=reply.where)
    return answer


def _table(order: Mapping[str, Any]) -> wire.Payload:
    return np.frombuffer(json.dumps(dict(order)).encode(), np.uint8)
