"""Aggregators for `plain` that stand a few malicious sites: they look at all updates of a round side by side.

    median         each number's median (Yin et al. 2018)
    trimmed_mean   each number's mean without its f least and f greatest (Yin et al. 2018)
    krum           the one update nearest to its n − f − 2 neighbours (Blanchard et al. 2017)
    norm_bound     the weighted mean of updates cut to the cohort's median norm (Sun et al. 2019)

Invariant: up to f malicious sites of n, with n > 2f (krum: n ≥ 2f + 3), can't move the result out of the span of the
honest ones. Price: the coordinator holds all updates at once; but for norm_bound the contract's weights don't count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from common.errors import ConfigError, QuorumError
from common.protocol.wire import FloatVector, Layout
from common.settings.config import LeagueConfig, RoundsConfig
from server.aggregation.plain import Plain, Protection, Quantised

_BLOCK = 1 << 16
Rows = NDArray[np.float32]


def median(rows: Sequence[FloatVector], weights: Sequence[float], malicious: int) -> FloatVector:
    """Of n vectors of one length, each number's median."""
    return _by_number(rows, lambda part: np.median(part, axis=0))


def trimmed_mean(rows: Sequence[FloatVector], weights: Sequence[float], malicious: int) -> FloatVector:
    """Each number's mean without the `malicious` least and greatest.

    Raises
    ------
    QuorumError : nothing would be left.
    """
    _require(len(rows), 2 * malicious + 1, "trimmed_mean")
    middle = slice(malicious, len(rows) - malicious)
    return _by_number(rows, lambda part: np.sort(part, axis=0)[middle].mean(axis=0))


def krum(rows: Sequence[FloatVector], weights: Sequence[float], malicious: int) -> FloatVector:
    """The update whose n − f − 2 nearest others are nearest in all.

    Raises
    ------
    QuorumError : fewer than 2f + 3 updates.
    """
    _require(len(rows), 2 * malicious + 3, "krum")
    apart = np.array([[float(np.sum((a - b) ** 2, dtype=np.float64)) for b in rows] for a in rows])
    near = np.sort(apart, axis=1)[:, 1 : len(rows) - malicious - 1]  # its own distance, 0, comes first
    return rows[int(near.sum(axis=1).argmin())].copy()


def norm_bound(rows: Sequence[FloatVector], weights: Sequence[float], malicious: int) -> FloatVector:
    """The weighted mean, after each update was cut to the median of their norms."""
    norms = np.array([float(np.sqrt(np.vdot(row, row))) for row in rows])
    bound = float(np.median(norms))
    factors = np.array(weights) / np.sum(weights) * np.minimum(1.0, bound / np.maximum(norms, 1e-30))
    total = np.zeros(rows[0].size)
    for row, factor in zip(rows, factors.tolist(), strict=True):
        total += factor * row
    return total.astype(np.float32)


Aggregate = Callable[[Sequence[FloatVector], Sequence[float], int], FloatVector]
AGGREGATORS: Mapping[str, Aggregate] = MappingProxyType({
    "median": median, "trimmed_mean": trimmed_mean, "krum": krum, "norm_bound": norm_bound,
})  # fmt: skip


class Robust(Plain):
    """Updates in clear, kept until all are there; then one of the aggregators judges them together."""

    def __init__(self, rounds: RoundsConfig, size: int, places: int) -> None:
        super().__init__(size, places, rounds.max_update_norm)
        self._rounds = rounds
        self._kept: dict[int, tuple[FloatVector, float]] = {}

    def fold(self, place: int, payload: FloatVector, weight: float) -> None:
        self._kept[place] = payload.copy(), weight

    def open(self) -> FloatVector:
        if not self._kept:
            raise QuorumError("no update was usable", where="aggregation")
        rows, weights = zip(*(self._kept[place] for place in sorted(self._kept)), strict=True)
        return AGGREGATORS[self._rounds.aggregator](rows, weights, self._rounds.malicious_sites)


def protection_for(
    config: LeagueConfig, layout: Layout, weights: Mapping[str, float], round_: int
) -> Protection[FloatVector]:
    """A fresh sum in clear for one round of the sites in `weights`, which are in site order.

    Raises
    ------
    ConfigError : the protection isn't known to this coordinator.
    """
    rounds = config.rounds
    if rounds.protection != "plain":
        raise ConfigError(
            f"protection '{rounds.protection}' isn't summed in clear", where="rounds.protection"
        )
    if rounds.aggregator != "mean":
        return Robust(rounds, layout.size, len(weights))
    if rounds.quantise:
        return Quantised(rounds, layout, weights, config.seed, round_)
    return Plain(layout.size, len(weights), rounds.max_update_norm)


def _by_number(rows: Sequence[FloatVector], of: Callable[[Rows], NDArray[np.floating]]) -> FloatVector:
    out = np.empty(rows[0].size, dtype=np.float32)
    for start in range(0, out.size, _BLOCK):
        out[start : start + _BLOCK] = of(np.stack([row[start : start + _BLOCK] for row in rows]))
    return out


def _require(count: int, need: int, name: str) -> None:
    if count < need:
        raise QuorumError(
            f"{count} updates are too few for {name}, which takes {need}", where="aggregation",
            next_step="lower rounds.malicious_sites, or take another aggregator",
        )  # fmt: skip
