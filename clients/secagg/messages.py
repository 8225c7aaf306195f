"""The protocol between rounds as messages: read a step's payload, let the site answer it, pack the answer.

Invariant: where the contract leaves the release to the sites, no step sends the model in clear.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict

from clients.secagg.site import SecaggSite
from common.errors import WireError
from common.protocol import wire

_MOST_BYTES = 1 << 29
_DIGITS = 3


def answer_step(
    site: SecaggSite, step: str, header: wire.Header, content: RecordDict, folder: Path
) -> wire.Payload:
    """Answer one step; returns the payload.

    Parameters
    ----------
    folder : where the site writes its results.

    Raises
    ------
    WireError : the coordinator asks for what the contract doesn't allow.
    """
    where, peer = f"site '{site.name}'", str(header.plan.get("peer", ""))
    if step == "release":
        return site.released(header.round)
    data = wire.decode_blob(content, _MOST_BYTES, where=where)
    if step == "pass":
        return np.frombuffer(site.pass_model(peer), np.uint8)
    if step == "apply":
        answer = site.apply_order(header.plan, data)
    elif step == "trial":
        answer = site.trial_order(header.plan, data)
    elif step == "take":
        answer = site.take_model(data, peer)
    elif step == "keep":
        answer = site.keep_release(_table(data, where), folder / "release")
    else:
        answer = site.answer(step, _table(data, where))
    return np.frombuffer(json.dumps(answer).encode(), np.uint8)


def coarse(reply: Message) -> Message:
    """Round a reply's figures to three digits.

    Figures depend on what was decrypted; three digits are too few to reveal the error of a CKKS ciphertext.
    """
    if not reply.has_error():
        for record in reply.content.metric_records.values():
            for name, value in record.items():
                record[name] = round(float(value), _DIGITS) if isinstance(value, int | float) else value
    return reply


def _table(data: bytes, where: str) -> dict[str, Any]:
    try:
        question = json.loads(data)
    except (ValueError, RecursionError):
        question = None
    if not isinstance(question, dict):
        raise WireError("the coordinator's question is no table", where=where)
    return question
