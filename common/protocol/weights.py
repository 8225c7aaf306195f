"""How much a site counts in a round: by the contract's rule, from its size to half an octave.

Invariant: both sides compute it alike, so a site sees whether the coordinator weighs it as agreed. It matters beyond
fairness: a coordinator that made all other sites weightless would make a sum one site's update. Each honest site
refuses a weight that isn't its own, so nobody's update can be laid bare but by sites that help in it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from common.errors import WireError

if TYPE_CHECKING:
    from common.settings.config import WeightRule

MAX_BUCKET = 40


def size_bucket(users: float) -> int:
    """⌊2·log2(users)⌋ within [0, 40]: all that a site tells of its size."""
    return min(MAX_BUCKET, max(0, math.floor(2 * math.log2(max(users, 1.0)))))


def weight_of(rule: WeightRule, bucket: int) -> float:
    """The weight of a site whose size lies in a bucket.

    >>> weight_of("users", 20), weight_of("sqrt_users", 20), weight_of("equal", 20)
    (1024.0, 32.0, 1.0)
    """
    if rule == "users":
        return float(2 ** (bucket / 2))
    return float(2 ** (bucket / 4)) if rule == "sqrt_users" else 1.0


def require_own_weight(given: float, rule: WeightRule, users: float, *, where: str) -> None:
    """Hold the weight that the coordinator gives a site against the site's own size.

    Data that grew or shrank since the run began may have moved it by one bucket.

    Raises
    ------
    WireError : it's another.
    """
    bucket = size_bucket(users)
    near = range(max(0, bucket - 1), min(MAX_BUCKET, bucket + 1) + 1)
    if not any(math.isclose(given, weight_of(rule, each), rel_tol=1e-9) for each in near):
        raise WireError("the coordinator weighs this site otherwise than the contract does", where=where)
