"""Steps of the protections' protocol as messages: what is read, who answers, what goes back.

Invariant: where the contract leaves the release to the sites, no step gives the model in clear.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Message, RecordDict

from clients.secagg.handler import SealedSite
from common.errors import WireError
from common.protocol import wire

_MOST_BYTES = 1 << 29
_DIGITS = 3


def answer_step(
    sealed: SealedSite, step: str, header: wire.Header, content: RecordDict, out: Path
) -> wire.Payload:
    """The payload of the answer to one step.

    Parameters
    ----------
    out : where the site writes its results.

    Raises
    ------
    WireError : the coordinator asks for what the contract doesn't allow.
    """
    where, peer = f"site '{sealed.name}'", str(header.plan.get("peer", ""))
    if step == "release":
        return sealed.released(header.round)
    data = wire.decode_blob(content, _MOST_BYTES, where=where)
    if step == "pass":
        return np.frombuffer(sealed.pass_model(peer), np.uint8)
    if step == "apply":
        answer = sealed.apply_order(header.plan, data)
    elif step == "trial":
        answer = sealed.trial_order(header.plan, data)
    elif step == "take":
        answer = sealed.take_model(data, peer)
    elif step == "keep":
        answer = sealed.keep_release(_table(data, where), out / "release")
    else:
        answer = sealed.answer(step, _table(data, where))
    return np.frombuffer(json.dumps(answer).encode(), np.uint8)


def coarse(reply: Message) -> Message:
    """A reply with figures of few digits.

    Figures depend on what was decrypted; three digits are too few to tell of a CKKS ciphertext's error.
    """
    if not reply.has_error():
        for record in reply.content.metric_records.values():
            for name, value in record.items():
                record[name] = round(float(value), _DIGITS) if isinstance(value, int | float) else value
    return reply


def _table(data: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise WireError("the coordinator's question is no table", where=where)
    return found
