"""The coordinator's order to apply a round's sums, read from a message.

Invariant: the order's bytes are cut exactly into the sums' ciphertexts before any of these is parsed.
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
class SumOrder:
    """A round's sums, and how to apply them.

    Parameters
    ----------
    best : the round whose model was best so far; its checkpoint is kept.
    epoch : which of the league's keys makes the digest in the answer.
    undo : take the round back, or skip it, instead of applying its sums.
    without : places of groups to leave out.
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
    def of(cls, plan: Mapping[str, Any], data: bytes, *, where: str) -> SumOrder:
        """An order from a message's scalars and bytes.

        Raises
        ------
        WireError : it can't be read, or the lengths don't add up.
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
            order = cls(
                int(plan["round"]), tuple(sums), None if best < 0 else best, int(plan["epoch"]),
                bool(plan.get("undo")), tuple(int(place) for place in without),
                str(plan.get("refusals", "[]")),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise WireError("the coordinator's sum can't be read", where=where) from None
        if start != len(data):
            raise WireError("the sum's lengths don't add up", where=where)
        return order
