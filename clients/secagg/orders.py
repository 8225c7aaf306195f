"""What the coordinator orders a site to apply, read from a message.

Invariant: the order's bytes are cut exactly into its sums' ciphertexts, before any of them is parsed.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.errors import WireError
from common.secagg.protocol import Attempt, GroupSum


@dataclass(frozen=True)
class Order:
    """A round's sums.

    Parameters
    ----------
    best : the round whose model was best so far, to be kept.
    epoch : of the key that the answer's digest is made with.
    undo : take the round back, or pass over it, in place of applying its sums.
    without : places of groups that don't count.
    refusals : signed refusals of earlier rounds, as `common.secagg.suspicion` reads them.
    """

    round: int
    sums: tuple[GroupSum, ...] = ()
    best: int | None = None
    epoch: int = 1
    undo: bool = False
    without: tuple[int, ...] = ()
    refusals: str = "[]"

    @classmethod
    def of(cls, plan: Mapping[str, Any], data: bytes, *, where: str) -> Order:
        """An order from a message's scalars and bytes.

        Raises
        ------
        WireError : it can't be read, or lengths don't add up.
        """
        try:
            sums, start = [], 0
            for entry in json.loads(str(plan["sums"])):
                ends = np.cumsum([start, *(int(n) for n in entry["lengths"])]).tolist()
                if any(a > b for a, b in itertools.pairwise(ends)):
                    raise ValueError
                parts = [data[a:b] for a, b in itertools.pairwise(ends)]
                survivors = [str(name) for name in entry["survivors"]]
                sums.append(GroupSum(Attempt.of(entry["attempt"]), survivors, parts))
                start = ends[-1]
            best, without = int(plan["best"]), json.loads(str(plan.get("without", "[]")))
            found = cls(
                int(plan["round"]), tuple(sums), None if best < 0 else best, int(plan["epoch"]),
                bool(plan.get("undo")), tuple(int(place) for place in without),
                str(plan.get("refusals", "[]")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise WireError("the coordinator's sum can't be read", where=where) from None
        if start != len(data):
            raise WireError("the sum's lengths don't add up", where=where)
        return found
