"""Screening: each reply is judged on its own before any of it counts.

Invariant: nothing that a site sends can end the round for the others. A reply off the contract is
quarantined with the site's name and the reason; what it claims about itself (its name, its size, its
figures) is never believed further than the contract allows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from flwr.app import Message, RecordDict

from common.errors import WireError
from common.protocol.weights import MAX_BUCKET, weight_of
from common.protocol.wire import Header, place, read_header, read_metrics
from common.settings.config import RoundsConfig

MAX_CLAIMED_WEIGHT = float(1 << 20)
_REASON_LENGTH = 300
_MAX_METRICS = 512


@dataclass(frozen=True)
class Expected:
    """What a good reply of one site must state."""

    site: str
    run: str
    round: int = 0
    layout: str = ""
    protection: str = "plain"


_FLOWERS = {
    3: "no reply before the deadline", 4: "its reply didn't come whole",
    5: "the site is away: nothing has been heard of it", 8: "the site's process died at work",
}  # fmt: skip
"""What Flower's own codes mean; sites' codes begin at 1000."""


def screen(reply: Message, expected: Expected) -> tuple[Header, RecordDict]:
    """The header and records of a reply that keeps the contract.

    Raises
    ------
    WireError : an error reply, or a site, run, round, layout or protection other than the expected one.
    """
    where = place(expected.site, expected.round)
    if reply.has_error():
        reason = _FLOWERS.get(reply.error.code) or f"the site reported an error: {_clean(reply.error.reason)}"
        raise WireError(reason, where=where)
    header = read_header(reply.content, where=where)
    if header.site != expected.site:
        raise WireError(f"the reply names another site, '{_clean(header.site)}'", where=where)
    if header.run != expected.run:
        raise WireError("the reply belongs to a run with other settings", where=where)
    if header.round != expected.round:
        raise WireError(f"the reply belongs to round {header.round}", where=where)
    if expected.layout and header.layout != expected.layout:
        raise WireError("the reply's parameters have another layout", where=where)
    if header.protection != expected.protection:
        raise WireError(f"the reply's protection is '{_clean(header.protection)}'", where=where)
    return header, reply.content


def claimed_weight(header: Header, *, where: str) -> float:
    """A training reply's claim of how much it learned from; a sanity check only, never a weight.

    Raises
    ------
    WireError : missing, not a number, or outside (0, 2^20].
    """
    weight = header.plan.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise WireError("the reply states no weight", where=where)
    if not (math.isfinite(weight) and 0 < weight <= MAX_CLAIMED_WEIGHT):
        raise WireError(f"the weight {weight:.3g} is outside (0, {MAX_CLAIMED_WEIGHT:.0f}]", where=where)
    return float(weight)


def contract_weight(header: Header, rounds: RoundsConfig, *, where: str) -> float:
    """A site's weight by the league's rule, from the bucket it stated in `prepare`.

    The bucket is ⌊2·log2(users)⌉, so a site says its size only to half an octave and can claim no more than 2^20.

    Raises
    ------
    WireError : the bucket is missing or outside [0, 40].
    """
    bucket = header.plan.get("bucket")
    if type(bucket) is not int or not 0 <= bucket <= MAX_BUCKET:
        raise WireError(f"the size bucket is outside [0, {MAX_BUCKET}]", where=where)
    return weight_of(rounds.weights, bucket)


def finite_metrics(content: RecordDict, *, where: str) -> dict[str, float]:
    """A reply's figures; those that are NaN or infinite count as not given.

    Raises
    ------
    WireError : far more figures than any contract asks for.
    """
    metrics = read_metrics(content)
    if len(metrics) > _MAX_METRICS:
        raise WireError(f"the reply holds {len(metrics)} figures", where=where)
    return {_clean(name): value for name, value in sorted(metrics.items()) if math.isfinite(value)}


def _clean(text: str | None) -> str:
    """Words of a peer, safe to show on a terminal and bounded in length."""
    return "".join(sign if sign.isprintable() else " " for sign in (text or "no reason"))[:_REASON_LENGTH]
