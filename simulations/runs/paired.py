"""Two methods on the same customers: how much better one ranks, with an interval.

A merchant's figure is the mean of its kinds of rows (returning customers, new customers' baskets), so that neither
drowns the other; a league's is the mean over merchants. Each row is one customer, so drawing rows anew draws customers.
Invariant: customers are drawn within their merchant and kind, and both methods are read on the same draw.

>>> gain_of([(Pair(np.array([0.3] * 20), np.array([0.2] * 20)),)]).verdict
'paid'
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.reports.verdicts import DID_NOT_PAY, NO_DIFFERENCE, PAID

Values = NDArray[np.float64]
DRAWS = 1000
MIN_ROWS = 10
KINDS = {"returning": "returning", "baskets": "basket_"}
"""Kind of row → its name in a site's results."""


@dataclass(frozen=True)
class Pair:
    """NDCG@20 of the same customers by two methods."""

    ours: Values
    theirs: Values

    def __len__(self) -> int:
        return len(self.ours)


Merchant = Sequence[Pair]
"""The pairs of one merchant, one a kind of row."""


@dataclass(frozen=True)
class Gain:
    """What one method has over another.

    Parameters
    ----------
    ours, theirs : mean NDCG@20 of both.
    low, high : 95 % interval of the relative gain; 0.12 is 12 % better.
    """

    ours: float
    theirs: float
    low: float
    high: float
    rows: int
    merchants: int = 1

    @property
    def gain(self) -> float:
        """The relative gain."""
        return self.ours / self.theirs - 1.0

    @property
    def verdict(self) -> str:
        """Never "paid" or "did not pay" where the interval spans zero."""
        return PAID if self.low > 0 else DID_NOT_PAY if self.high < 0 else NO_DIFFERENCE

    def as_gain(self) -> dict[str, float | int]:
        """For a merchant: the relative gain, and what it's of."""
        return {
            "gain": self.gain, "low": self.low, "high": self.high, "ours": self.ours, "theirs": self.theirs,
            "rows": self.rows,
        }  # fmt: skip

    def as_ratio(self) -> dict[str, float | int]:
        """For a league: the ratio, and what it's of."""
        return {
            "ratio": 1.0 + self.gain, "low": 1.0 + self.low, "high": 1.0 + self.high, "ours": self.ours,
            "theirs": self.theirs, "rows": self.rows, "merchants": self.merchants,
        }  # fmt: skip


def pairs_of(
    result: Mapping[str, Any], ours: str, theirs: str, kinds: Sequence[str] = tuple(KINDS)
) -> Merchant:
    """The pairs of a site's results for those kinds that have enough rows by both methods."""
    by_row = result["ndcg@20_by_row"]
    pairs = []
    for kind in kinds:
        both = [
            np.asarray(by_row.get(method, {}).get(KINDS[kind], []), np.float64) for method in (ours, theirs)
        ]
        if len(both[0]) == len(both[1]) >= MIN_ROWS:
            pairs.append(Pair(*both))
    return tuple(pairs)


def gain_of(merchants: Sequence[Merchant], seed: int = 0) -> Gain | None:
    """The gain over merchants, each the mean of its kinds; None where nothing can be compared.

    The interval is of the difference, in shares of what the other method reaches (percentiles of the bootstrap, Efron
    1979).
    """
    merchants = [pairs for pairs in merchants if pairs]
    theirs = _mean(merchants, [[pair.theirs.mean() for pair in pairs] for pairs in merchants])
    if not theirs > 0:
        return None
    ours = _mean(merchants, [[pair.ours.mean() for pair in pairs] for pairs in merchants])
    generator = np.random.default_rng(seed)
    drawn = np.mean(
        [np.mean([_drawn(pair, generator) for pair in pairs], axis=0) for pairs in merchants], axis=0
    )
    low, high = (float(edge) / theirs for edge in np.quantile(drawn, [0.025, 0.975]))
    return Gain(
        ours, theirs, low, high, sum(len(pair) for pairs in merchants for pair in pairs), len(merchants)
    )


def _mean(merchants: Sequence[Merchant], means: Sequence[Sequence[float]]) -> float:
    return float(np.mean([np.mean(kinds) for kinds in means])) if merchants else math.nan


def _drawn(pair: Pair, generator: np.random.Generator) -> Values:
    """Mean differences of customers drawn anew, so many times."""
    difference = pair.ours - pair.theirs
    n = len(difference)
    return np.array([difference[generator.integers(0, n, n)].mean() for _ in range(DRAWS)])
