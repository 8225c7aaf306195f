"""A site's weight in a round, by the contract's rule, from its size rounded down to half an octave.

Invariant: both sides compute the weight in the same way, so a site sees whether the coordinator weighs it as agreed.
This matters for privacy too: if all other weights were zero, the sum would be one site's update. Each honest site
refuses a weight that isn't its own, so an update can be exposed only if all other sites collude.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from common.errors import WireError

if TYPE_CHECKING:
    from common.settings.config import WeightRule

MAX_BUCKET = 40


def size_bucket(users: float) -> int:
    """⌊2·log2(users)⌋ within [0, 40]: the only thing that a site tells about its size."""
    return min(MAX_BUCKET, max(0, math.floor(2 * math.log2(max(users, 1.0)))))


def weight_of(rule: WeightRule, bucket: int) -> float:
    """The weight of a site whose size lies in a bucket.

    >>> weight_of("users", 20), weight_of("sqrt_users", 20), weight_of("equal", 20)
    (1024.0, 32.0, 1.0)
    """
    if rule == "users":
        return float(2 ** (bucket / 2))
    return float(2 ** (bucket / 4)) if rule == "sqrt_users" else 1.0


def require_own_weight(weight: float, rule: WeightRule, users: float, *, where: str) -> None:
    """Compare the weight that the coordinator gives a site with the site's own size.

    The weight of a neighbouring bucket is accepted, since the data may have grown or shrunk since the run began.

    Raises
    ------
    WireError : the weight is another one.
    """
    bucket = size_bucket(users)
    near = range(max(0, bucket - 1), min(MAX_BUCKET, bucket + 1) + 1)
    if not any(math.isclose(weight, weight_of(rule, near_bucket), rel_tol=1e-9) for near_bucket in near):
        raise WireError("the coordinator weighs this site otherwise than the contract does", where=where)
